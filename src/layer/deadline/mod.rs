//! Carries the time that is left from caller to callee.
//!
//! A timeout bounds one hop; a deadline is a moment that all hops of a call share. The caller
//! says how long it will wait, each hop passes on what is left of it, and work that nobody waits
//! for ends everywhere at about the same time. Three parts do that:
//!
//! - [`Deadline`] is the moment, and remembers whose it is, so that the error can say. A call's
//!   deadline is the [`min`](Deadline::min) of the caller's and the route's.
//! - [`Asked`] reads what a message's headers ask for; [`Deadline::announce`] writes what is left
//!   for the callee. Durations travel, not moments, because clocks of two machines differ.
//! - [`Context`] holds the deadline of the inbound request that the current task serves, so that
//!   an outbound call made under it inherits what is left without anybody passing it along.
//!
//! [`DeadlineLayer`] puts them together for a client without a mesh. What is left is rounded down
//! on the wire: the callee must not believe that it has more time than there is.
//!
//! ```
//! use std::time::Duration;
//! use meshwork::layer::deadline::{Context, Deadline};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let inbound = Deadline::after(Duration::from_secs(2));
//! let own = Deadline::after(Duration::from_secs(60));
//! let effective = Context::scope(inbound, async { own.min(Context::current()) }).await;
//! assert_eq!(effective, inbound);
//! # }
//! ```

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Kind, Whose};

mod context;
mod future;
mod layer;
mod service;
mod wire;

pub use context::Context;
pub use future::ResponseFuture;
pub use layer::DeadlineLayer;
pub use service::WithDeadline;
pub(crate) use wire::Announcement;
pub use wire::{Asked, Malformed, Override, parse_grpc_timeout};

/// The moment after which nobody waits any more, or none.
///
/// Measured by tokio's clock, so that tests can pause it. The module has an example.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Deadline {
    limit: Option<Limit>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Limit {
    at: Instant,
    /// How long it was when it began: what the error tells.
    after: Duration,
    whose: Whose,
}

impl Deadline {
    /// No deadline.
    pub const NONE: Self = Self { limit: None };

    /// A caller's deadline, `after` from now. A moment that the clock cannot express is
    /// [`NONE`](Self::NONE).
    #[must_use]
    pub fn after(after: Duration) -> Self {
        Self::caller(Instant::now(), after)
    }

    /// What a caller who began at `start` allows.
    pub(crate) fn caller(start: Instant, after: Duration) -> Self {
        Self::new(start, after, Whose::Caller)
    }

    /// What a route allows for a call that began at `start`.
    pub(crate) fn route(start: Instant, after: Duration) -> Self {
        Self::new(start, after, Whose::Route)
    }

    fn new(start: Instant, after: Duration, whose: Whose) -> Self {
        Self {
            limit: start
                .checked_add(after)
                .map(|at| Limit { at, after, whose }),
        }
    }

    /// The earlier of two; `self` if they are equal.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        match (self.limit, other.limit) {
            (Some(own), Some(others)) if others.at < own.at => other,
            (None, Some(_)) => other,
            (Some(_) | None, _) => self,
        }
    }

    /// The moment itself.
    #[must_use]
    pub fn at(&self) -> Option<Instant> {
        self.limit.map(|limit| limit.at)
    }

    /// How much time is left: zero when it is over, `None` without a deadline.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.limit
            .map(|limit| limit.at.saturating_duration_since(Instant::now()))
    }

    /// What is left at `now`.
    pub(crate) fn remaining_at(&self, now: Instant) -> Option<Duration> {
        self.limit
            .map(|limit| limit.at.saturating_duration_since(now))
    }

    /// The error of a call that did not make it.
    pub(crate) fn error(&self) -> Error {
        let (after, whose) = match self.limit {
            Some(limit) => (limit.after, limit.whose),
            None => (Duration::MAX, Whose::Caller),
        };
        Error::new(Kind::Timeout { after, whose })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_earlier_deadline_wins_and_says_whose_it_is() {
        let start = Instant::now();
        let route = Deadline::route(start, Duration::from_secs(5));
        let caller = Deadline::caller(start, Duration::from_secs(2));
        for both in [route.min(caller), caller.min(route)] {
            assert_eq!(both, caller);
            assert_eq!(
                both.error().to_string(),
                "no response within the caller's deadline of 2s"
            );
        }
        assert_eq!(route.min(Deadline::NONE), route);
        assert_eq!(Deadline::NONE.min(route), route);
        assert_eq!(
            route.error().to_string(),
            "no response within the route's timeout of 5s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_shrinks_to_zero_and_not_below() {
        let deadline = Deadline::after(Duration::from_secs(1));
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(deadline.remaining(), Some(Duration::from_millis(600)));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(deadline.remaining(), Some(Duration::ZERO));
        assert_eq!(Deadline::NONE.remaining(), None);
        assert_eq!(Deadline::after(Duration::MAX), Deadline::NONE);
    }
}
