//! One request under an adaptive limit.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Concurrency, Permit, Sample};
use crate::layer::classify::{Local, Outcome};

/// One request in flight; its end is a sample.
///
/// Dropped without [`finish`](Self::finish) it counts as given up: the time that it lasted is a
/// lower bound of its response time, and is used only if that is already too long. Otherwise a
/// timeout around the layer would hide from it the slowness that it is there to notice.
pub struct Flight {
    /// `None` once it is over.
    under_way: Option<(Arc<Concurrency>, Permit)>,
    started: Instant,
}

impl Flight {
    pub(super) fn new(concurrency: Arc<Concurrency>, permit: Permit) -> Self {
        Self {
            under_way: Some((concurrency, permit)),
            started: Instant::now(),
        }
    }

    /// The response headers are there, or the failure. The permit counts the request as in flight
    /// until it is dropped: keep it until the response body has ended.
    ///
    /// What no endpoint did (`None`) and errors that say nothing about load (500, 501, ...) are no
    /// sample. See [`Sample::of`].
    #[must_use = "dropping the permit ends the request"]
    pub fn finish(mut self, outcome: Option<Outcome>) -> Permit {
        let (concurrency, permit) = self
            .under_way
            .take()
            .expect("only this and drop take it, and both end the flight");
        if let Some(sample) = outcome.and_then(|outcome| Sample::of(outcome, self.lasted())) {
            concurrency.record(sample);
        }
        permit
    }

    fn lasted(&self) -> std::time::Duration {
        Instant::now().saturating_duration_since(self.started)
    }
}

impl Sample {
    /// What an answer (or its absence) after this time says about load; `None` if nothing.
    ///
    /// 429, 502, 503, 504 and no answer at all are how an overloaded service fails. Other server
    /// errors have nothing to do with load, and are often faster than any success.
    #[must_use]
    pub fn of(outcome: Outcome, lasted: std::time::Duration) -> Option<Self> {
        match outcome {
            Outcome::Failure(429 | 502..=504)
            | Outcome::Local(Local::Connect | Local::Reset | Local::Timeout) => Some(Self::Dropped),
            Outcome::Failure(500..) => None,
            Outcome::Success | Outcome::Failure(_) => Some(Self::Answered(lasted)),
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some((concurrency, permit)) = self.under_way.take() {
            concurrency.record(Sample::GivenUp(self.lasted()));
            drop(permit);
        }
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight")
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}
