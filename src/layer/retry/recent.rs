//! How many requests began within the last while.
//!
//! Envoy's `budget_interval` takes retries as a share of these instead of those in flight, so that fast
//! requests, of which hardly any is in flight at a time, allow retries too. The time is cut into
//! sixteenths (Envoy: tenths): a request counts until the part in which it began is as old as the whole,
//! so for fifteen parts of it at least and for all of it at most.
//!
//! A count is on the path of each request of a cluster that asks for it: one atomic addition. The memory
//! is the same whatever the number of requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Into how many parts the time is cut; a power of two, so that their numbers may wrap around.
const SLOTS: u32 = 16;

/// Counts what begins; see the [module](self).
#[derive(Debug)]
pub(super) struct Recent {
    interval: Duration,
    /// One part of it, in nanoseconds.
    part: u64,
    start: Instant,
    /// The part's number in the upper half, how many began in it in the lower.
    slots: [AtomicU64; SLOTS as usize],
}

impl Recent {
    /// Counts over `interval`; less than a millisecond is one, more than a century is a century.
    pub(super) fn new(interval: Duration) -> Self {
        let longest = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        let counted = interval.clamp(Duration::from_millis(1), longest);
        Self {
            interval,
            // A century of nanoseconds fits.
            part: counted.as_nanos() as u64 / u64::from(SLOTS),
            start: Instant::now(),
            slots: [const { AtomicU64::new(0) }; SLOTS as usize],
        }
    }

    /// The time that it was made with.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Something begins.
    pub(super) fn begin(&self, now: Instant) {
        let number = self.number(now);
        let slot = &self.slots[(number % SLOTS) as usize];
        // The count of another part ends where this one begins. A thread that was asleep for longer
        // than the whole time would end a later one's: it leaves that as it is.
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |found| {
            let (owner, count) = unpack(found);
            if owner == number {
                return Some(pack(number, count.saturating_add(1)));
            }
            (number.wrapping_sub(owner) < u32::MAX / 2).then(|| pack(number, 1))
        });
    }

    /// How many began within the time; 0 to `u32::MAX`.
    pub(super) fn count(&self, now: Instant) -> u32 {
        let number = self.number(now);
        let counts = self.slots.iter().map(|slot| {
            let (owner, count) = unpack(slot.load(Ordering::Relaxed));
            if number.wrapping_sub(owner) < SLOTS {
                count
            } else {
                0
            }
        });
        counts.fold(0, u32::saturating_add)
    }

    /// Numbers wrap around; those that are compared lie close together. They begin at sixteen, so that a
    /// part that nobody has written, whose number is zero, is an old one.
    fn number(&self, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(self.start).as_nanos() as u64;
        ((passed / self.part) as u32).wrapping_add(SLOTS)
    }
}

fn unpack(slot: u64) -> (u32, u32) {
    ((slot >> 32) as u32, slot as u32)
}

fn pack(number: u32, count: u32) -> u64 {
    u64::from(number) << 32 | u64::from(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(crate::random::properties(64))]

        /// The definition: who began less than nine tenths of the time ago counts, who began more than
        /// the time ago does not.
        #[test]
        fn a_request_counts_for_the_interval_to_a_tenth(
            interval in 10_u64..10_000,
            pauses in proptest::collection::vec(0_u64..3_000, 1..60),
        ) {
            let recent = Recent::new(Duration::from_millis(interval));
            let mut now = recent.start;
            let mut begun: Vec<Instant> = Vec::new();
            for pause in pauses {
                now += Duration::from_millis(pause);
                recent.begin(now);
                begun.push(now);
                let younger = |age: Duration| {
                    begun.iter().filter(|one| now.duration_since(**one) < age).count() as u32
                };
                let counted = recent.count(now);
                prop_assert!(counted >= younger(Duration::from_millis(interval) * 9 / 10));
                prop_assert!(counted <= younger(Duration::from_millis(interval)));
            }
        }
    }

    #[test]
    fn threads_lose_no_count() {
        let recent = Recent::new(Duration::from_secs(3_600));
        let now = recent.start;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| recent.begin(now)));
            }
        });
        assert_eq!(recent.count(now), 40_000);
    }

    #[test]
    fn any_interval_is_counted_over() {
        for interval in [Duration::from_nanos(1), Duration::MAX] {
            let recent = Recent::new(interval);
            recent.begin(recent.start);
            assert_eq!(recent.count(recent.start), 1, "{interval:?}");
        }
    }
}
