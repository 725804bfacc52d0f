//! The buckets of keys, of a bounded number.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;

/// A governor state store that never holds more than its bound.
///
/// governor's own keyed stores grow with every key until somebody calls `retain_recent`.
#[derive(Debug)]
pub(super) struct BoundedStore {
    /// The time between two tokens, in nanoseconds.
    period: u64,
    /// A lock, because a look-up reorders the list. It is held for a look-up in a hash map; a
    /// keyed limit is asked once for each request, before its endpoint is picked.
    buckets: Mutex<Buckets>,
}

/// Buckets in the order of their last use.
#[derive(Debug)]
struct Buckets {
    bound: usize,
    places: HashMap<u64, u32>,
    /// A doubly linked list through a vector; grows up to the bound, then places are reused.
    entries: Vec<Bucket>,
    /// Meaningless while there are no entries.
    newest: u32,
    oldest: u32,
    /// What keys without a bucket of their own share.
    shared: Option<u64>,
}

/// One key's bucket.
#[derive(Debug)]
struct Bucket {
    key: u64,
    /// When it is full again, in nanoseconds since the limiter was made (GCRA's "theoretical
    /// arrival time").
    full_at: u64,
    newer: u32,
    older: u32,
}

impl BoundedStore {
    pub(super) fn new(keys: NonZeroU32, period: Duration) -> Self {
        let bound = usize::try_from(keys.get()).unwrap_or(usize::MAX);
        Self {
            period: u64::try_from(period.as_nanos()).unwrap_or(u64::MAX),
            buckets: Mutex::new(Buckets {
                bound,
                places: HashMap::new(),
                entries: Vec::new(),
                newest: 0,
                oldest: 0,
                shared: None,
            }),
        }
    }

    /// No code of ours can panic between two changes of the list, so poison is ignored.
    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for BoundedStore {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut buckets = self.buckets();
        if let Some(bucket) = buckets.touch(*key) {
            let (value, full_at) = decide(Some(Nanos::new(bucket.full_at)))?;
            bucket.full_at = full_at.as_u64();
            return Ok(value);
        }
        // What a bucket that nobody has used would say: full again one token from now.
        let (value, fresh) = decide(None)?;
        let fresh = fresh.as_u64();
        if buckets.entries.len() < buckets.bound {
            buckets.push(*key, fresh);
            return Ok(value);
        }
        let now = fresh.saturating_sub(self.period);
        if buckets.oldest_full_at() <= now {
            buckets.replace_oldest(*key, fresh);
            return Ok(value);
        }
        let (value, full_at) = decide(buckets.shared.map(Nanos::new))?;
        buckets.shared = Some(full_at.as_u64());
        Ok(value)
    }
}

impl ShrinkableKeyedStateStore<u64> for BoundedStore {
    /// Nothing to do: the bound holds without help.
    fn retain_recent(&self, _drop_below: Nanos) {}

    fn len(&self) -> usize {
        self.buckets().entries.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Buckets {
    /// The bucket of a key, which is the most recently used one from now on.
    fn touch(&mut self, key: u64) -> Option<&mut Bucket> {
        let place = *self.places.get(&key)?;
        if place != self.newest {
            self.unlink(place);
            self.link_newest(place);
        }
        Some(&mut self.entries[place as usize])
    }

    /// Adds a bucket; there are fewer than `bound`, which is a `u32`.
    fn push(&mut self, key: u64, full_at: u64) {
        let place = self.entries.len() as u32;
        self.entries.push(Bucket {
            key,
            full_at,
            newer: place,
            older: place,
        });
        self.places.insert(key, place);
        if place == 0 {
            (self.newest, self.oldest) = (0, 0);
        } else {
            self.link_newest(place);
        }
    }

    /// When the least recently used bucket is full again. The bound is reached, so there is one.
    fn oldest_full_at(&self) -> u64 {
        self.entries[self.oldest as usize].full_at
    }

    /// Gives the least recently used bucket to another key.
    fn replace_oldest(&mut self, key: u64, full_at: u64) {
        let place = self.oldest;
        self.places.remove(&self.entries[place as usize].key);
        self.places.insert(key, place);
        if place != self.newest {
            self.unlink(place);
            self.link_newest(place);
        }
        let bucket = &mut self.entries[place as usize];
        bucket.key = key;
        bucket.full_at = full_at;
    }

    /// Takes out a place that is not the newest.
    fn unlink(&mut self, place: u32) {
        let Bucket { newer, older, .. } = self.entries[place as usize];
        if place == self.oldest {
            self.oldest = newer;
        } else {
            self.entries[older as usize].newer = newer;
            self.entries[newer as usize].older = older;
        }
    }

    /// Puts a place that is not in the list before all others.
    fn link_newest(&mut self, place: u32) {
        self.entries[self.newest as usize].newer = place;
        self.entries[place as usize].older = self.newest;
        self.newest = place;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Buckets {
        /// Keys from the least to the most recently used.
        fn order(&self) -> Vec<u64> {
            let mut keys = Vec::new();
            let mut place = self.oldest;
            for _ in 0..self.entries.len() {
                let bucket = &self.entries[place as usize];
                keys.push(bucket.key);
                place = bucket.newer;
            }
            keys
        }
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        /// The list against a plain vector: with a period of zero every bucket is full at once, so
        /// every key gets the oldest bucket.
        #[test]
        fn buckets_are_kept_in_the_order_of_use_and_never_more_than_the_bound(
            bound in 1_u32..8,
            keys in prop::collection::vec(0_u64..12, 0..200),
        ) {
            let store = BoundedStore::new(NonZeroU32::new(bound).unwrap(), Duration::ZERO);
            let mut reference: Vec<u64> = Vec::new();
            for key in keys {
                let known = store.measure_and_replace(&key, |full_at| {
                    Ok::<_, ()>((full_at.is_some(), Nanos::new(0)))
                });
                prop_assert_eq!(known, Ok(reference.contains(&key)));
                reference.retain(|other| *other != key);
                reference.push(key);
                if reference.len() > bound as usize {
                    reference.remove(0);
                }
                let buckets = store.buckets();
                prop_assert_eq!(buckets.order(), reference.clone());
                prop_assert_eq!(buckets.places.len(), reference.len());
            }
        }
    }
}
