//! One admitted request.

use std::sync::Arc;

use super::Throttle;
use super::window::Counts;
use crate::layer::classify::Outcome;

/// Leave to send one request; its end is counted.
///
/// Dropped without [`finish`](Self::finish) it counts as a request that the server did not accept.
#[derive(Debug)]
pub struct Ticket {
    /// `None` once it is counted.
    throttle: Option<Arc<Throttle>>,
}

impl Ticket {
    pub(super) fn new(throttle: Arc<Throttle>) -> Self {
        Self {
            throttle: Some(throttle),
        }
    }

    /// The request has ended so; `None` if it never got to the server, and then it is not counted.
    pub fn finish(mut self, outcome: Option<Outcome>) {
        let throttle = self.throttle.take();
        if let (Some(throttle), Some(outcome)) = (throttle, outcome) {
            throttle.count(counts(outcome));
        }
    }
}

fn counts(outcome: Outcome) -> Counts {
    match outcome {
        Outcome::Failure(429 | 500..) | Outcome::Local(_) => Counts::REFUSED,
        Outcome::Success | Outcome::Failure(_) => Counts::ACCEPTED,
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(throttle) = self.throttle.take() {
            throttle.count(Counts::REFUSED);
        }
    }
}
