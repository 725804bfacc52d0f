//! A number with a cap.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// How many are under way, and how many may be.
///
/// On a cache line of its own: the gauges of a cluster are written by every request.
///
/// All orderings are relaxed. The number protects no other memory; a single atomic is totally
/// ordered for all threads, which is all that "never above the cap" needs.
#[derive(Debug)]
#[repr(align(64))]
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
