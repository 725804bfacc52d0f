//! What is under way, and the end of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::error::{Error, Kind};

/// Counts the work of a mesh and lets its end be awaited.
///
/// A piece of work is one try of an outbound request, from the pick to the end of the response
/// body, or one inbound request.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    active: AtomicUsize,
    draining: AtomicBool,
    idle: Notify,
}

impl Drain {
    /// Refuses new work once draining has begun.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_draining() {
            return Err(Error::new(Kind::Draining));
        }
        Ok(())
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Counts a piece of work until it is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Work {
        self.active.fetch_add(1, Ordering::AcqRel);
        Work {
            drain: self.clone(),
        }
    }

    /// How much is under way.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::Acquire)
    }

    /// Refuses new work from now on.
    pub(crate) fn begin(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Waits until nothing is under way. Cancel-safe.
    pub(crate) async fn finished(&self) {
        loop {
            let idle = self.idle.notified();
            if self.active() == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// A piece of work that is under way.
#[derive(Debug)]
pub(crate) struct Work {
    drain: Arc<Drain>,
}

impl Drop for Work {
    fn drop(&mut self) {
        // Only the last one wakes anybody, and only if somebody may wait.
        if self.drain.active.fetch_sub(1, Ordering::AcqRel) == 1 && self.drain.is_draining() {
            self.drain.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn finished_waits_for_the_last_piece_of_work() {
        let drain = Arc::new(Drain::default());
        let (one, other) = (drain.enter(), drain.enter());
        drain.begin();
        assert!(drain.check().unwrap_err().is_draining());
        let mut finished = tokio_test::task::spawn(drain.finished());
        assert!(finished.poll().is_pending());
        drop(one);
        assert!(finished.poll().is_pending());
        drop(other);
        assert!(finished.is_woken());
        assert!(finished.poll().is_ready());
    }
}
