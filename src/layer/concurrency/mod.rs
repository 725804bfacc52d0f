//! Finds out how many requests a service can take at once.
//!
//! A fixed limit ([`limit`](super::limit)) is a guess that is wrong as soon as the service is
//! scaled, its database slows down or a neighbour takes its processor. This layer measures
//! instead. The time to the response headers tells how much a service queues: while it does not
//! rise, more requests in flight mean more throughput; when it rises, more requests only wait
//! longer. [`Gradient`] raises the limit while response times stay near their long average and
//! lowers it when they leave it. What is above the limit is shed at once, with an error that
//! [is overloaded](crate::Error::is_overloaded), while an answer elsewhere is still of use.
//!
//! # The rule
//!
//! Samples are gathered in windows (100 ms, and at least [`WINDOW_SAMPLES`] of them). For each
//! window, with `short` its mean response time and `long` the exponential average of some
//! 600 windows:
//!
//! ```text
//! gradient = clamp(tolerance * long / short, 0.5, 1.0)
//! queue    = 4 + max(0, sqrt(limit) - 4) * (2 * gradient - 1)
//! target   = limit * gradient + queue
//! limit    = clamp(limit + smoothing * (target - limit), min, max)
//! ```
//!
//! It is the Gradient2 of Netflix's `concurrency-limits`, with three differences that are
//! deliberate:
//!
//! - *Room for a queue* is Netflix's constant 4 when the limit falls and goes up to Envoy's
//!   `sqrt(limit)` when it may grow: with the constant alone a limit that has fallen from 200 to 20
//!   needs 18 s to recover, with the root alone it does not fall that far in 3 s.
//! - *Time windows* instead of single samples: the averages then mean the same at ten requests per
//!   second and at ten thousand.
//! - *Failures count.* A request that the service rejects or does not answer pulls the gradient
//!   towards 0.5 by its share of the window. Their times are not used: a rejection is fast, and
//!   would make an overloaded service look idle.
//!
//! Kept from Gradient2: while less than half of the limit is in use the limit does not move
//! (idleness proves nothing), and a long average of more than twice the short one shrinks by 5 %
//! for each window, so that what was learnt in a bad time is soon forgotten.
//!
//! Envoy's own controller was rejected. It measures the unloaded response time by lowering the
//! limit to 3 for a while, again and again, and those who call in that time get 503s for nothing.
//!
//! # What it costs
//!
//! Admission is one compare-and-swap. Each answer takes a lock for some twenty instructions. A
//! latency that stays bad for minutes becomes the new normal: the limit recovers although the
//! service does not. That is the price of not knowing the unloaded time, and why `max` exists.
//!
//! ```
//! use std::sync::Arc;
//!
//! use meshwork::layer::classify::Outcome;
//! use meshwork::layer::concurrency::{Concurrency, Settings};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let concurrency = Arc::new(Concurrency::new(Settings { initial: 1, min: 1, ..Settings::default() })?);
//! let flight = concurrency.start()?;
//! let error = meshwork::Error::from(concurrency.start().unwrap_err());
//! assert!(error.is_overloaded());
//! drop(flight.finish(Some(Outcome::Success)));
//! assert_eq!(concurrency.in_flight(), 0);
//! # Ok(()) }
//! ```

mod flight;
mod future;
mod gradient;
mod layer;
mod service;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use crate::error::{Error, Kind, Limit};
use crate::layer::limit::{Limits, Permit};
use crate::model;

pub use flight::Flight;
pub use future::ResponseFuture;
pub use gradient::{Gradient, Sample, WINDOW_SAMPLES};
pub use layer::ConcurrencyLayer;
pub use service::Adaptive;

/// How a limit adapts.
///
/// A plain value; [`Gradient::new`] and [`Concurrency::new`] check it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The limit is never below; 1 or more. Default 20.
    pub min: u32,
    /// The limit is never above; `min` to 1,000,000. Default 200.
    pub max: u32,
    /// Where the limit begins; `min` to `max`. Default 20.
    pub initial: u32,
    /// How much of the way to the target each window goes; above 0, at most 1. Default 0.2.
    ///
    /// A float, like `tolerance`, because both are factors of a float computation.
    pub smoothing: f64,
    /// By what factor response times may exceed their long average before the limit falls; 1 to
    /// 100. Default 1.5.
    pub tolerance: f64,
    /// Over how many windows the long average goes; 1 or more. Default 600.
    pub long_windows: u32,
    /// How long samples are gathered at least; 1 ms to 1 minute. Default 100 ms.
    pub window: Duration,
}

/// What is wrong with [`Settings`].
#[derive(Clone, Copy, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidSettings {
    /// The three limits are not in order.
    #[error(
        "the limits are min {min}, initial {initial}, max {max}: \
         1 <= min <= initial <= max <= 1000000 is allowed"
    )]
    Order {
        /// The lowest limit.
        min: u32,
        /// The first limit.
        initial: u32,
        /// The highest limit.
        max: u32,
    },
    /// The smoothing is no share.
    #[error("the smoothing is {0}: above 0, up to 1 is allowed")]
    Smoothing(f64),
    /// The tolerance is below one, too high, or no number.
    #[error("the tolerance is {0}: 1 to 100 is allowed")]
    Tolerance(f64),
    /// An average over nothing.
    #[error("the long average is over 0 windows: 1 or more is allowed")]
    LongWindows,
    /// The window is too short or too long.
    #[error("the window is {0:?}: 1ms to 60s is allowed")]
    Window(Duration),
}

/// The adaptive limit is reached: the request is refused at once.
///
/// Becomes a [`meshwork::Error`](crate::Error) that [`is_overloaded`](Error::is_overloaded), with itself
/// as the cause.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the adaptive limit is {limit} requests in flight at present")]
pub struct Overloaded {
    limit: u32,
}

/// An adaptive limit and what is in flight under it; shared by `Arc`.
///
/// The module documentation has an example.
#[derive(Debug)]
pub struct Concurrency {
    /// Counts and caps; only `requests` is used.
    limits: Arc<Limits>,
    /// A lock, because a window's fields change together. It is held for a few arithmetic
    /// instructions after an answer, never on the way to an endpoint and never across an await.
    gradient: Mutex<Gradient>,
}

impl Settings {
    pub(super) fn check(self) -> Result<Self, InvalidSettings> {
        let Self {
            min,
            max,
            initial,
            smoothing,
            tolerance,
            long_windows,
            window,
        } = self;
        if min == 0 || min > initial || initial > max || max > 1_000_000 {
            return Err(InvalidSettings::Order { min, initial, max });
        }
        if !(smoothing > 0.0 && smoothing <= 1.0) {
            return Err(InvalidSettings::Smoothing(smoothing));
        }
        if !(1.0..=100.0).contains(&tolerance) {
            return Err(InvalidSettings::Tolerance(tolerance));
        }
        if long_windows == 0 {
            return Err(InvalidSettings::LongWindows);
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(60)).contains(&window) {
            return Err(InvalidSettings::Window(window));
        }
        Ok(self)
    }
}

impl Default for Settings {
    /// The defaults of Netflix's Gradient2.
    fn default() -> Self {
        Self {
            min: 20,
            max: 200,
            initial: 20,
            smoothing: 0.2,
            tolerance: 1.5,
            long_windows: 600,
            window: Duration::from_millis(100),
        }
    }
}

impl Concurrency {
    /// A limit with nothing in flight.
    ///
    /// # Errors
    /// If a setting is out of its bounds.
    pub fn new(settings: Settings) -> Result<Self, InvalidSettings> {
        let gradient = Gradient::new(settings)?;
        let limits = Arc::new(Limits::new(&caps(gradient.limit())));
        Ok(Self {
            limits,
            gradient: Mutex::new(gradient),
        })
    }

    /// Begins a request.
    ///
    /// # Errors
    /// If as many as the present limit are in flight.
    pub fn start(self: &Arc<Self>) -> Result<Flight, Overloaded> {
        match self.limits.request() {
            Ok(permit) => Ok(Flight::new(self.clone(), permit)),
            Err(_) => Err(Overloaded {
                limit: self.limit(),
            }),
        }
    }

    /// The present limit.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.gradient().limit()
    }

    /// Requests in flight now. More than the limit for a while after it has fallen.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.limits.active_requests()
    }

    /// How many requests were refused so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.limits.refused(Limit::Requests)
    }

    /// Takes a sample of a request that is still counted as in flight.
    fn record(&self, sample: Sample) {
        let in_flight = self.in_flight();
        let mut gradient = self.gradient();
        let before = gradient.limit();
        let limit = gradient.sample(sample, in_flight, Instant::now());
        if limit != before {
            // Still under the lock, so that an older limit never overwrites a newer one.
            self.limits.set(&caps(limit));
        }
    }

    /// A panic while it was held cannot leave it half-changed in a way that matters: its limit is
    /// clamped on every change. So poison is ignored.
    fn gradient(&self) -> std::sync::MutexGuard<'_, Gradient> {
        self.gradient.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn caps(requests: u32) -> model::limit::Limits {
    model::limit::Limits {
        requests,
        ..Default::default()
    }
}

impl Overloaded {
    /// The limit when the request was refused.
    #[must_use]
    pub fn limit(self) -> u32 {
        self.limit
    }
}

impl From<Overloaded> for Error {
    fn from(overloaded: Overloaded) -> Self {
        Self::new(Kind::Overflow {
            limit: Limit::Requests,
        })
        .caused_by(overloaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_bounds_are_refused_and_named() {
        let good = Settings::default();
        assert!(Concurrency::new(good).is_ok());
        for (settings, text) in [
            (
                Settings { min: 0, ..good },
                "the limits are min 0, initial 20, max 200: \
                 1 <= min <= initial <= max <= 1000000 is allowed",
            ),
            (
                Settings {
                    initial: 201,
                    ..good
                },
                "the limits are min 20, initial 201, max 200: \
                 1 <= min <= initial <= max <= 1000000 is allowed",
            ),
            (
                Settings {
                    max: 1_000_001,
                    ..good
                },
                "the limits are min 20, initial 20, max 1000001: \
                 1 <= min <= initial <= max <= 1000000 is allowed",
            ),
            (
                Settings {
                    smoothing: 0.0,
                    ..good
                },
                "the smoothing is 0: above 0, up to 1 is allowed",
            ),
            (
                Settings {
                    tolerance: f64::NAN,
                    ..good
                },
                "the tolerance is NaN: 1 to 100 is allowed",
            ),
            (
                Settings {
                    long_windows: 0,
                    ..good
                },
                "the long average is over 0 windows: 1 or more is allowed",
            ),
            (
                Settings {
                    window: Duration::ZERO,
                    ..good
                },
                "the window is 0ns: 1ms to 60s is allowed",
            ),
        ] {
            assert_eq!(Concurrency::new(settings).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn a_refusal_tells_the_present_limit_and_names_no_field_of_a_policy() {
        let settings = Settings {
            min: 1,
            initial: 2,
            ..Settings::default()
        };
        let concurrency = Arc::new(Concurrency::new(settings).unwrap());
        let _held = [concurrency.start().unwrap(), concurrency.start().unwrap()];
        let error = Error::from(concurrency.start().unwrap_err());
        assert_eq!(
            error.to_string(),
            "overflow: the limit of requests is reached"
        );
        assert_eq!(
            std::error::Error::source(&error).unwrap().to_string(),
            "the adaptive limit is 2 requests in flight at present"
        );
        assert_eq!(error.limit(), Some(Limit::Requests));
        assert_eq!(concurrency.refused(), 1);
    }
}
