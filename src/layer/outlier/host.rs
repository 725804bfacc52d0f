//! What is known of one endpoint.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// The health record of one endpoint; starts admitted and with nothing held against it.
///
/// Lives as long as the endpoint does, through edits of the policy and of the endpoint list.
/// Whoever picks endpoints asks [`Host::admitted`]. The module documentation has an example.
#[derive(Debug, Default)]
// What a pick reads comes first, so that it can stand beside what else a pick reads.
#[repr(C)]
pub struct Host {
    ejected: AtomicBool,
    /// Errors in a row.
    pub(super) in_a_row: InARow,
    /// Answers since the last sweep.
    pub(super) volume: Volume,
    /// What only ejections and sweeps touch. A lock, because the fields change together; it is
    /// taken once per ejection attempt and once per sweep, never to pick.
    standing: Mutex<Standing>,
}

/// Runs of errors, by kind.
#[derive(Debug, Default)]
pub(super) struct InARow {
    pub(super) errors: Run,
    pub(super) gateway: Run,
    pub(super) local: Run,
}

/// Errors in a row.
#[derive(Debug, Default)]
pub(super) struct Run(AtomicU32);

/// Answers of one interval.
#[derive(Debug, Default)]
pub(super) struct Volume {
    successes: AtomicU64,
    failures: AtomicU64,
}

/// Membership and ejection.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Whether it counts among the cluster's hosts; one that has left is not ejected any more.
    pub(super) member: bool,
    /// Since when it is out.
    pub(super) ejected_at: Option<Instant>,
    /// How often `base_ejection_time` the next ejection lasts, minus one.
    pub(super) multiplier: u32,
}

impl Host {
    /// A host that nothing is known of.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether requests may be sent to it: one relaxed load.
    #[must_use]
    pub fn admitted(&self) -> bool {
        !self.ejected.load(Ordering::Relaxed)
    }

    /// How often `base_ejection_time` its last ejection lasted, lowered by one for each healthy
    /// interval since.
    #[must_use]
    pub fn multiplier(&self) -> u32 {
        self.standing().multiplier
    }

    /// Locks the cold half. A panic while it was held cannot leave it half-changed in a way that
    /// matters, so poison is ignored.
    pub(super) fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it out. The caller holds its standing.
    pub(super) fn eject(&self, standing: &mut Standing, now: Instant) {
        standing.ejected_at = Some(now);
        self.ejected.store(true, Ordering::Relaxed);
    }

    /// Lets it in with a clean slate, lest one more error take it out again. The caller holds its
    /// standing.
    pub(super) fn readmit(&self, standing: &mut Standing) {
        standing.ejected_at = None;
        self.in_a_row.errors.end();
        self.in_a_row.gateway.end();
        self.in_a_row.local.end();
        self.ejected.store(false, Ordering::Relaxed);
    }
}

impl Run {
    /// One more error; the length of the run with it.
    pub(super) fn extend(&self) -> u32 {
        // Wraps after 4 billion errors in a row, which costs one ejection.
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// The run is over. Writes only if there is one: successes are the rule, and a store would
    /// take the cache line from the other cores each time.
    pub(super) fn end(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }
}

impl Volume {
    pub(super) fn success(&self) {
        self.successes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The successes and failures since the last time.
    pub(super) fn take(&self) -> (u64, u64) {
        (
            self.successes.swap(0, Ordering::Relaxed),
            self.failures.swap(0, Ordering::Relaxed),
        )
    }
}
