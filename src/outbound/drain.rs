//! What is under way, and the end of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::error::{Error, Kind};

/// Counts the work of a mesh and lets its end be awaited.
///
/// A piece of work is an outbound call until it has its answer (its pauses between tries and
/// injected delays included), the body of a response, or an inbound request.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    active: AtomicUsize,
    draining: AtomicBool,
    idle: Notify,
    begun: Notify,
}

impl Drain {
    /// Counts a piece of work until it is dropped; refuses it once draining has begun.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Work, Error> {
        // Counted before looking, as `begin` comes before counting: either this sees that the end
        // has begun, or the one who ends sees this.
        let mut work = Work::uncounted(self);
        work.count();
        if self.draining.load(Ordering::SeqCst) {
            return Err(Error::new(Kind::Draining));
        }
        Ok(work)
    }

    /// How much is under way.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    /// Whether new work is refused.
    #[cfg(feature = "inbound")]
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Refuses new work from now on.
    pub(crate) fn begin(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.begun.notify_waiters();
    }

    /// Waits until new work is refused. Cancel-safe.
    #[cfg(all(feature = "inbound", feature = "tls-core"))]
    pub(crate) async fn begun(&self) {
        loop {
            let begun = self.begun.notified();
            if self.is_draining() {
                return;
            }
            begun.await;
        }
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

/// A piece of work that is under way, or soon will be.
#[derive(Debug)]
pub(crate) struct Work {
    drain: Arc<Drain>,
    counted: bool,
}

impl Work {
    /// Work that somebody else counts for now.
    pub(crate) fn uncounted(drain: &Arc<Drain>) -> Self {
        Self {
            drain: drain.clone(),
            counted: false,
        }
    }

    /// Counts it from now on.
    pub(crate) fn count(&mut self) {
        if !self.counted {
            self.counted = true;
            self.drain.active.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Only the last one wakes anybody, and only if somebody may wait.
        if self.counted
            && self.drain.active.fetch_sub(1, Ordering::SeqCst) == 1
            && self.drain.draining.load(Ordering::SeqCst)
        {
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
        let (one, other) = (drain.admit().unwrap(), drain.admit().unwrap());
        drain.begin();
        assert!(drain.admit().unwrap_err().is_draining());
        assert_eq!(drain.active(), 2);
        let mut finished = tokio_test::task::spawn(drain.finished());
        assert!(finished.poll().is_pending());
        drop(one);
        assert!(finished.poll().is_pending());
        drop(other);
        assert!(finished.is_woken());
        assert!(finished.poll().is_ready());
    }
}
