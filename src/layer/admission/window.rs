//! Counts over a sliding window, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Into how many parts the window is divided.
pub const SLOTS: u32 = 24;

/// Requests and those that were accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) accepts: u64,
}

/// The counts of the last [`SLOTS`] slots, the present one included.
#[derive(Debug)]
pub(super) struct Window {
    started: Instant,
    /// Nanoseconds; not zero.
    slot: u64,
    slots: [Slot; SLOTS as usize],
}

/// One slot: round (16 bits), requests (24 bits), accepts (24 bits) in one number, so that they
/// change together. The round is how often the ring had gone round, so a slot that nobody has
/// touched since the last round is known to be old. It wraps after 65,536 windows; a slot would
/// have to rest untouched for exactly that long to be mistaken.
#[derive(Debug)]
struct Slot(AtomicU64);

const BITS: u32 = 24;
/// More requests than that in one slot are not counted any more.
const FULL: u64 = (1 << BITS) - 1;

impl Counts {
    pub(super) const ACCEPTED: Self = Self {
        requests: 1,
        accepts: 1,
    };
    pub(super) const REFUSED: Self = Self {
        requests: 1,
        accepts: 0,
    };
}

impl Window {
    pub(super) fn new(window: Duration, started: Instant) -> Self {
        let slot = u64::try_from((window / SLOTS).as_nanos()).unwrap_or(u64::MAX);
        Self {
            started,
            slot: slot.max(1),
            slots: std::array::from_fn(|_| Slot(AtomicU64::new(0))),
        }
    }

    /// Adds to the present slot.
    pub(super) fn add(&self, counts: Counts, now: Instant) {
        let number = self.number(now);
        let slot = &self.slots[index(number)];
        let round = round(number);
        // Fails only when the slot is full, and then there is nothing to do.
        let _ = slot
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |packed| {
                let old = unpack(packed, round);
                if old.requests >= FULL {
                    return None;
                }
                let requests = old.requests + counts.requests;
                let accepts = old.accepts + counts.accepts;
                Some((round << (2 * BITS)) | (requests << BITS) | accepts)
            });
    }

    /// The counts of the window that ends now.
    pub(super) fn sum(&self, now: Instant) -> Counts {
        let last = self.number(now);
        let first = (last + 1).saturating_sub(u64::from(SLOTS));
        let mut sum = Counts {
            requests: 0,
            accepts: 0,
        };
        for number in first..=last {
            let packed = self.slots[index(number)].0.load(Ordering::Relaxed);
            let counts = unpack(packed, round(number));
            sum.requests += counts.requests;
            sum.accepts += counts.accepts;
        }
        sum
    }

    /// The present slot, counted from the start.
    fn number(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.started).as_nanos();
        u64::try_from(elapsed).unwrap_or(u64::MAX) / self.slot
    }
}

fn index(number: u64) -> usize {
    (number % u64::from(SLOTS)) as usize
}

fn round(number: u64) -> u64 {
    (number / u64::from(SLOTS)) & 0xffff
}

/// The counts of a slot, if they are of this round.
fn unpack(packed: u64, round: u64) -> Counts {
    let current = packed >> (2 * BITS) == round;
    let part = |shift: u32| if current { (packed >> shift) & FULL } else { 0 };
    Counts {
        requests: part(BITS),
        accepts: part(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn counts_are_forgotten_slot_by_slot() {
        let start = Instant::now();
        let window = Window::new(SLOTS * SECOND, start);
        for second in 0..SLOTS {
            window.add(Counts::ACCEPTED, start + second * SECOND);
        }
        let requests = |after: u32| window.sum(start + after * SECOND).requests;
        assert_eq!(requests(SLOTS - 1), 24);
        assert_eq!(requests(SLOTS), 23);
        assert_eq!(requests(2 * SLOTS - 2), 1);
        assert_eq!(requests(2 * SLOTS - 1), 0);
        assert_eq!(requests(100 * SLOTS), 0);
    }

    #[test]
    fn a_full_slot_stays_full_and_spills_nowhere() {
        let start = Instant::now();
        let window = Window::new(SLOTS * SECOND, start);
        window.slots[0]
            .0
            .store((FULL - 1) << BITS, Ordering::Relaxed);
        for _ in 0..3 {
            window.add(Counts::ACCEPTED, start);
        }
        let sum = window.sum(start);
        assert_eq!((sum.requests, sum.accepts), (FULL, 1));
    }

    #[test]
    fn threads_lose_no_count() {
        let start = Instant::now();
        let window = Window::new(SLOTS * SECOND, start);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let window = &window;
                scope.spawn(move || {
                    for count in 0..10_000_u32 {
                        let now = start + (count % SLOTS) * SECOND;
                        let accepted = thread % 2 == 0;
                        let counts = if accepted {
                            Counts::ACCEPTED
                        } else {
                            Counts::REFUSED
                        };
                        window.add(counts, now);
                    }
                });
            }
        });
        let sum = window.sum(start + (SLOTS - 1) * SECOND);
        assert_eq!((sum.requests, sum.accepts), (40_000, 20_000));
    }
}
