//! Sweeps without a task, for stacks that have no mesh.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use super::{Detector, Host};
use crate::model::outlier::Outlier;
use crate::random::Random;

/// A detector that is swept when somebody looks and an interval is over.
///
/// A layer has nobody who could own a task, so time passes for it with the calls that it gets.
#[derive(Debug)]
pub(in crate::layer) struct Sweeper {
    pub(in crate::layer) detector: Detector,
    random: Random,
    started: Instant,
    /// When it was last swept, in nanoseconds since `started`.
    swept: AtomicU64,
}

impl Sweeper {
    pub(in crate::layer) fn new(policy: Outlier, random: Random) -> Self {
        Self {
            detector: Detector::new(Some(Arc::new(policy))),
            random,
            started: Instant::now(),
            swept: AtomicU64::new(0),
        }
    }

    /// Does what a timer would have done since the last look, also before the interval is over if
    /// it is `urgent`; says whether anything happened to a host.
    pub(in crate::layer) fn look<'a>(
        &self,
        hosts: impl Iterator<Item = &'a Host> + Clone,
        urgent: bool,
        now: Instant,
    ) -> bool {
        let Some(interval) = self.detector.interval() else {
            return false;
        };
        let elapsed = now.saturating_duration_since(self.started);
        let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        let swept = self.swept.load(Ordering::Relaxed);
        let missed = elapsed.saturating_sub(swept) / interval.max(1);
        if missed == 0 && !urgent {
            return false;
        }
        // Only one of the callers that come at once sweeps.
        let won = self
            .swept
            .compare_exchange(swept, elapsed, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if !won {
            return false;
        }
        let mut changed = false;
        for _ in 0..self.sweeps(hosts.clone(), missed) {
            changed |= !self
                .detector
                .sweep(hosts.clone(), now, &self.random)
                .is_empty();
        }
        changed
    }

    /// How many sweeps make up for the missed intervals. Each lowers the multipliers by one; once
    /// they are zero, more change nothing. Nothing decays while an ejection lasts, and how much of
    /// the time that was is not known any more, so then nothing is made up for.
    fn sweeps<'a>(&self, hosts: impl Iterator<Item = &'a Host>, missed: u64) -> u64 {
        if missed <= 1 || self.detector.ejected() > 0 {
            return 1;
        }
        let highest = hosts.map(Host::multiplier).max().unwrap_or(0);
        missed.min(u64::from(highest) + 1)
    }
}
