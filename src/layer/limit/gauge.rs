//! A number with a cap.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// How many are under way, and how many may be.
///
/// All orderings are relaxed. The number protects no other memory; a single atomic is totally
/// ordered for all threads, which is all that "never above the cap" needs.
#[derive(Debug)]
pub(super) struct Gauge {
    /// A permit takes more than a byte of memory, so a `usize` cannot overflow.
    active: AtomicUsize,
    cap: AtomicU32,
    refused: AtomicU64,
}

impl Gauge {
    pub(super) fn new(cap: u32) -> Self {
        Self {
            active: AtomicUsize::new(0),
            cap: AtomicU32::new(cap),
            refused: AtomicU64::new(0),
        }
    }

    pub(super) fn set(&self, cap: u32) {
        self.cap.store(cap, Ordering::Relaxed);
    }

    /// Counts one more unless that would exceed the cap.
    pub(super) fn acquire(&self) -> bool {
        let cap = self.cap.load(Ordering::Relaxed);
        if cap == u32::MAX {
            self.force();
            return true;
        }
        let cap = cap as usize;
        self.active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |active| {
                (active < cap).then_some(active + 1)
            })
            .is_ok()
    }

    /// Counts one more whatever the cap is.
    pub(super) fn force(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn release(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn active(&self) -> u32 {
        u32::try_from(self.active.load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every order in which threads of so many steps each can run; a step is one atomic operation,
    /// and since all of them are on one atomic there are no other executions.
    fn interleavings(
        steps: &mut [usize],
        order: &mut Vec<usize>,
        visit: &mut impl FnMut(&[usize]),
    ) {
        if steps.iter().all(|left| *left == 0) {
            visit(order);
        }
        for thread in 0..steps.len() {
            if steps[thread] > 0 {
                steps[thread] -= 1;
                order.push(thread);
                interleavings(steps, order, visit);
                order.pop();
                steps[thread] += 1;
            }
        }
    }

    #[test]
    fn g14_in_every_order_no_permit_is_given_above_the_cap_and_each_comes_back_once() {
        for cap in [0, 1, 2] {
            // Three callers that acquire and release, and an edit that lowers the cap by one.
            interleavings(&mut [2, 2, 2, 1], &mut Vec::new(), &mut |order| {
                let gauge = Gauge::new(cap);
                let (mut held, mut begun) = ([false; 3], [false; 3]);
                for &thread in order {
                    match thread {
                        3 => gauge.set(cap.saturating_sub(1)),
                        caller if !begun[caller] => {
                            begun[caller] = true;
                            held[caller] = gauge.acquire();
                        }
                        caller => {
                            if std::mem::take(&mut held[caller]) {
                                gauge.release();
                            }
                        }
                    }
                    let count = held.iter().filter(|held| **held).count();
                    assert!(count <= cap as usize, "{order:?}");
                    assert_eq!(gauge.active() as usize, count, "{order:?}");
                }
                assert_eq!(gauge.active(), 0, "{order:?}");
            });
        }
    }

    #[test]
    fn g14_on_real_threads_the_count_is_exact_and_never_above_the_cap() {
        use std::sync::atomic::AtomicUsize;
        let (gauge, inside) = (Gauge::new(3), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if gauge.acquire() {
                            let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                            assert!(now <= 3);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            gauge.release();
                        }
                    }
                });
            }
        });
        assert_eq!(gauge.active(), 0);
    }
}
