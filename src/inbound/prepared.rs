//! What runs for the policies in force: keys of issuers, and buckets of tokens.
//!
//! Policies are values and know of nothing that runs. What they need at hand is made when the first
//! request is judged by them and kept for as long as somebody holds them, with all of it that is equal
//! in others: an edit of something else fetches no key again and fills no bucket. Several policies are in
//! force at once where a control plane has others for each route.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::model::Inbound;

/// How long something is kept that was made for policies which are not in force any more: an edit
/// replaces all policies of a listener at once, and each takes over what is equal when its first request
/// comes.
const LINGER: Duration = Duration::from_secs(60);

/// What was made for policies, by their address.
pub(super) struct Kept<T> {
    made: ArcSwap<HashMap<usize, Arc<Entry<T>>>>,
}

/// What was made for one.
pub(super) struct Entry<T> {
    /// Held, so that no other policies have their address.
    pub(super) policies: Arc<Inbound>,
    pub(super) made: T,
    /// Since when nobody else is known to hold the policies.
    unused: OnceLock<Instant>,
}

impl<T> Kept<T> {
    pub(super) fn new() -> Self {
        Self {
            made: ArcSwap::default(),
        }
    }

    /// What was made for these policies, or is made of what there is for others.
    ///
    /// Without a lock. Of several that make something at once one is first; the others make theirs
    /// again, of what that one has left, or take it if it was made for the same policies. So nothing that
    /// somebody has taken a token of is lost.
    pub(super) fn of(
        &self,
        policies: &Arc<Inbound>,
        mut make: impl FnMut(&mut dyn Iterator<Item = &Entry<T>>) -> T,
    ) -> Arc<Entry<T>> {
        let address = Arc::as_ptr(policies).addr();
        let mut current = self.made.load();
        loop {
            if let Some(entry) = current.get(&address) {
                return entry.clone();
            }
            let entry = Arc::new(Entry {
                policies: policies.clone(),
                made: make(&mut current.values().map(|entry| &**entry)),
                unused: OnceLock::new(),
            });
            let next = Arc::new(Self::with(&current, address, &entry));
            let seen = self.made.compare_and_swap(&current, next);
            if Arc::ptr_eq(&current, &seen) {
                return entry;
            }
            current = seen;
        }
    }

    /// All that is still of use, and one more.
    fn with(
        current: &HashMap<usize, Arc<Entry<T>>>,
        address: usize,
        entry: &Arc<Entry<T>>,
    ) -> HashMap<usize, Arc<Entry<T>>> {
        let now = Instant::now();
        // Those that nobody else holds are not in force any more.
        let used = |entry: &Arc<Entry<T>>| {
            Arc::strong_count(&entry.policies) > 1
                || now.duration_since(*entry.unused.get_or_init(|| now)) < LINGER
        };
        let held = current.iter().filter(|(_, entry)| used(entry));
        let mut next: HashMap<usize, Arc<Entry<T>>> = held
            .map(|(address, entry)| (*address, entry.clone()))
            .collect();
        next.insert(address, entry.clone());
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_made_meanwhile_is_kept_and_taken_over() {
        let kept = Kept::new();
        let (one, other) = (Arc::new(Inbound::default()), Arc::new(Inbound::closed()));
        // Somebody else is first for other policies while this one is made, and then for the same.
        let mut seen = Vec::new();
        let entry = kept.of(&one, |others| {
            let before: Vec<&str> = others.map(|entry| entry.made).collect();
            seen.push(before.len());
            match before.as_slice() {
                [] => {
                    kept.of(&other, |_| "other");
                }
                _ => {
                    kept.of(&one, |_| "first");
                }
            }
            "late"
        });
        assert_eq!((entry.made, seen), ("first", vec![0, 1]));
        let known = |policies: &Arc<Inbound>| kept.of(policies, |_| panic!("it is there")).made;
        assert_eq!((known(&one), known(&other)), ("first", "other"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_made_is_kept_while_its_policies_are_and_a_minute_longer() {
        let kept = Kept::new();
        let (one, two) = (Arc::new(Inbound::default()), Arc::new(Inbound::closed()));
        let first = kept.of(&one, |others| {
            assert_eq!(others.count(), 0);
            1
        });
        let second = kept.of(&two, |others| {
            others.map(|entry| entry.made).sum::<i32>() + 1
        });
        assert_eq!((first.made, second.made), (1, 2));
        assert_eq!(kept.of(&one, |_| panic!("it is there")).made, 1);
        // Its policies are gone, but for what is kept; others may still take over what it has.
        drop((one, first));
        let more: Vec<Arc<Inbound>> = (0..4).map(|_| Arc::default()).collect();
        let others = |policies: &Arc<Inbound>| {
            let mut found = 0;
            kept.of(policies, |others| {
                found = others.count();
                0
            });
            found
        };
        assert_eq!((others(&more[0]), others(&more[1])), (2, 3));
        tokio::time::advance(LINGER).await;
        assert_eq!(others(&more[2]), 4, "it is dropped behind this one");
        assert_eq!(others(&more[3]), 4);
    }
}
