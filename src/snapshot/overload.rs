//! The share of requests that a control plane wants dropped (`drop_overloads` of EDS).
//!
//! Each request draws for each category, in their order, until one drops it. It is drawn for each
//! try that finds somebody to send to, as gRPC does: what nobody could answer is no overload. A
//! dropped request is not tried again. Most clusters drop nothing, and find that out by one load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use crate::error::{Error, Kind};
use crate::model::endpoint::Overload;
use crate::random::Random;

/// What is dropped of a cluster's requests, by the endpoints in force.
#[derive(Debug, Default)]
pub(crate) struct Overloads {
    any: AtomicBool,
    /// Nothing for most clusters.
    all: ArcSwapOption<Vec<(Overload, Arc<AtomicU64>)>>,
}

impl Overloads {
    /// What these categories drop. Those that were there go on counting.
    pub(super) fn set(&self, overloads: &[Overload]) {
        if !self.any() && overloads.is_empty() {
            return;
        }
        let before = self.all.load();
        let count = |overload: &Overload| {
            let known = before
                .iter()
                .flat_map(|all| all.iter())
                .find(|(one, _)| one.category == overload.category);
            let count = known.map(|(_, count)| count.clone()).unwrap_or_default();
            (overload.clone(), count)
        };
        let all: Vec<_> = overloads.iter().map(count).collect();
        self.any.store(!all.is_empty(), Ordering::Relaxed);
        self.all.store(Some(Arc::new(all)));
    }

    /// Goes on from what was in force before.
    pub(super) fn succeeding(before: &Self) -> Self {
        Self {
            any: AtomicBool::new(before.any.load(Ordering::Relaxed)),
            all: ArcSwapOption::new(before.all.load_full()),
        }
    }

    /// Whether anything is dropped at all.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Draws whether a request is dropped.
    pub(crate) fn draw(&self, random: &Random) -> Result<(), Error> {
        for (overload, count) in self.all.load().iter().flat_map(|all| all.iter()) {
            if random.below(1_000_000) < overload.share.parts_per_million() {
                count.fetch_add(1, Ordering::Relaxed);
                let category = overload.category.clone();
                return Err(Error::new(Kind::Dropped { category }));
            }
        }
        Ok(())
    }

    /// How many requests each category has dropped, in their order.
    pub(crate) fn counts(&self) -> Vec<(Arc<str>, u64)> {
        let all = self.all.load();
        let count = |(overload, count): &(Overload, Arc<AtomicU64>)| {
            (overload.category.clone(), count.load(Ordering::Relaxed))
        };
        all.iter().flat_map(|all| all.iter()).map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Fraction;

    fn overload(category: &str, percent: u32) -> Overload {
        Overload {
            category: category.into(),
            share: Fraction::from_parts_per_million(percent * 10_000).unwrap(),
        }
    }

    #[test]
    fn categories_are_drawn_in_order_and_go_on_counting() {
        let (overloads, random) = (Overloads::default(), Random::seeded(3));
        assert!(overloads.draw(&random).is_ok());
        overloads.set(&[overload("half", 50), overload("rest", 100)]);
        for _ in 0..1_000 {
            assert!(overloads.draw(&random).is_err());
        }
        let counts = overloads.counts();
        assert_eq!(counts[0].1 + counts[1].1, 1_000);
        assert!((400..600).contains(&counts[0].1), "{counts:?}");
        overloads.set(&[overload("half", 0)]);
        assert!(overloads.draw(&random).is_ok());
        assert_eq!(overloads.counts(), [counts[0].clone()]);
        overloads.set(&[]);
        assert!(overloads.counts().is_empty());
    }
}
