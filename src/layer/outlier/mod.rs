//! Ejects endpoints that fail.
//!
//! Passive health: nothing is probed, the answers of real requests decide. The algorithms are
//! Envoy's, because that is what the policies that users write (`outlierDetection`) mean; where
//! gRPC A50 differs for a reason that matters, the policy says which (`always_eject_one`).
//!
//! Two halves with different costs:
//!
//! - **Inline**: [`Detector::record`] counts failures in a row on atomics of the endpoint's
//!   [`Host`] and ejects *exactly at the n-th*, in the request that failed. Waiting for a timer
//!   (A50) would send another interval's worth of requests into a broken endpoint.
//! - **Swept**: [`Detector::sweep`] runs once each `interval`. It lets endpoints back in, lowers
//!   the multiplier of those that stayed well, and compares success rates.
//!
//! The whole is sans-IO: `(hosts, input, now) -> events`. It has no timer and no task, draws from
//! an injected [`Random`], and is tested against a slow reference.
//!
//! # The rules
//!
//! | what | counts as |
//! | --- | --- |
//! | status 500 to 599, or exactly `error_statuses` if there are any | a 5xx error |
//! | such an error that is 502, 503 or 504 | a gateway error as well |
//! | no answer (connect, reset, timeout) | a gateway and a 5xx error; if split, a local error and nothing else |
//! | any other status | a success: it ends every run of errors |
//!
//! With failures of this side split off, an answer of any status ends the run of local errors, and
//! the rates are made of answers only.
//!
//! An endpoint is ejected for `base_ejection_time` times its multiplier, at most
//! `max_ejection_time`. Each ejection raises the multiplier, each interval without one lowers it.
//! Not more than `max_ejection` of the hosts are out at once (see [`Outlier::always_eject_one`] for
//! the floor). A run of errors that may not eject because of that cap starts again at zero, so a
//! cap that is reached costs one lock per n failures, not one per failure.
//!
//! # What belongs to whom
//!
//! The [`Host`] lives in the endpoint's record and survives edits of the endpoint list; the
//! [`Detector`] lives as long as the cluster and survives edits of the policy. `admitted` is one
//! relaxed load. Who balances over the hosts calls
//! [`Balancer::refresh`](super::balance::Balancer::refresh) after each [`Event`] that changed one.
//!
//! ```
//! use meshwork::Random;
//! use meshwork::layer::classify::Outcome;
//! use meshwork::layer::outlier::{Cause, Detector, Event, Host};
//! use meshwork::model::outlier::Outlier;
//! use tokio::time::Instant;
//!
//! let detector = Detector::new(Some(Outlier::default().into()));
//! let hosts = [Host::new(), Host::new()];
//! hosts.iter().for_each(|host| detector.join(host));
//! let now = Instant::now();
//! for _ in 0..4 {
//!     assert_eq!(detector.record(&hosts[0], Outcome::Failure(503), now), None);
//! }
//! let event = detector.record(&hosts[0], Outcome::Failure(503), now);
//! assert!(matches!(event, Some(Event::Ejected { cause: Cause::Consecutive5xx, .. })));
//! assert!(!hosts[0].admitted());
//!
//! let later = now + std::time::Duration::from_secs(30);
//! let swept = detector.sweep(&hosts, later, &Random::seeded(1));
//! assert_eq!((swept[0].index, swept[0].event), (0, Event::Readmitted));
//! ```
//!
//! [`Outlier::always_eject_one`]: crate::model::outlier::Outlier::always_eject_one
//! [`Random`]: crate::Random

mod detector;
mod future;
mod host;
mod layer;
mod rates;
mod rules;
mod service;
mod sweeper;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use detector::Detector;
pub use future::ResponseFuture;
pub use host::Host;
pub use layer::OutlierLayer;
pub use service::Ejecting;
pub(in crate::layer) use sweeper::Sweeper;

/// What happened to a host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// It is out.
    Ejected {
        /// Why.
        cause: Cause,
        /// For how long, if the policy stays as it is; the first sweep after that lets it in.
        time: Duration,
    },
    /// It is in again.
    Readmitted,
    /// It would be out but for the policy: nothing changed.
    Spared {
        /// Why it would be out.
        cause: Cause,
        /// Why it is not.
        reason: Reason,
    },
}

/// What ejects a host.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// `consecutive5xxErrors`.
    Consecutive5xx,
    /// `consecutiveGatewayErrors`.
    ConsecutiveGateway,
    /// `consecutiveLocalOriginFailures`.
    ConsecutiveLocal,
    /// Envoy's and gRPC's failure percentage.
    FailurePercentage,
    /// Envoy's and gRPC's success rate.
    SuccessRate,
}

/// What keeps a failing host in.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// The share of detections that eject (`enforcing`).
    Enforcement,
    /// So many hosts are out already (`maxEjectionPercent`).
    Overflow,
}

/// One result of a sweep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Swept {
    /// Which of the swept hosts, in the order in which they were given.
    pub index: usize,
    /// What happened to it.
    pub event: Event,
}
