//! Injects delays and aborts.
//!
//! Faults on purpose, to see how a caller takes them. They sit before everything else: the first
//! try has not been made, no endpoint picked, and neither the route's timeout nor its retries cover
//! them, as in Envoy. A delay comes first, then the abort; whether each happens is rolled
//! independently, in exact parts per million.
//!
//! A caller can ask for a fault with headers (`x-envoy-fault-*`, gRFC A33) only where the policy
//! says [`Amount::Header`]. Istio never does, so there a peer
//! cannot trigger anything. The `-percentage` headers are whole percents, and can lower the policy's
//! share but not raise it; what is no number is as if it were not there.
//!
//! Header values that name no fault (a status below 200 or above 599, text) mean no fault: a
//! misspelt experiment must not become an outage.
//!
//! A request that gets no fault costs one or two draws and no allocation.
//!
//! ```
//! use http::{HeaderMap, StatusCode};
//! use meshwork::Random;
//! use meshwork::layer::fault::Injector;
//! use meshwork::model::Fraction;
//! use meshwork::model::fault::{Abort, AbortStatus, Amount, Fault};
//!
//! let injector = Injector::new(Fault {
//!     delay: None,
//!     abort: Some(Abort {
//!         status: Amount::Fixed(AbortStatus::Http(StatusCode::IM_A_TEAPOT)),
//!         share: Fraction::ONE,
//!     }),
//!     max_active: None,
//! });
//! let decision = injector.decide(&HeaderMap::new(), &Random::seeded(1));
//! assert_eq!(decision.abort, Some(AbortStatus::Http(StatusCode::IM_A_TEAPOT)));
//! assert!(decision.delay.is_none());
//! ```

mod future;
mod header;
mod layer;
mod service;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::error::{Error, Kind};
use crate::model::Fraction;
use crate::model::fault::{Abort, AbortStatus, Amount, Delay, Fault};
use crate::random::Random;

pub use future::ResponseFuture;
pub use layer::FaultLayer;
pub use service::Faulty;

/// Decides about the faults of one policy.
///
/// The module documentation has an example.
#[derive(Clone, Debug)]
pub struct Injector {
    fault: Fault,
    active: ActiveFaults,
}

/// How many requests are held back now; clones count together.
///
/// What `max_active` limits. gRPC counts in the whole process, so a mesh shares one among all of
/// its policies; it then survives their edits too.
#[derive(Clone, Debug, Default)]
pub struct ActiveFaults(Arc<AtomicU32>);

/// What happens to one request: first the delay, then the abort, otherwise nothing.
#[derive(Debug, Default)]
pub struct Decision {
    /// Hold it back.
    pub delay: Option<Hold>,
    /// Answer it with this instead of sending it; see [`Decision::error`].
    pub abort: Option<AbortStatus>,
}

/// What may happen to a request, each with the share of the requests that it happens to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Foresight {
    /// How long it is held back.
    pub delay: Option<(Duration, Fraction)>,
    /// With what it is answered instead of being sent.
    pub abort: Option<(AbortStatus, Fraction)>,
}

/// A request that is to be held back.
#[derive(Debug)]
pub struct Hold {
    /// For how long.
    pub duration: Duration,
    /// To be kept until the time is over or the request is given up.
    pub permit: ActivePermit,
}

/// One request that is held back; counts in [`ActiveFaults`] until it is dropped.
#[derive(Debug)]
pub struct ActivePermit(ActiveFaults);

impl Injector {
    /// An injector that counts its active faults by itself.
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self::counting(fault, ActiveFaults::default())
    }

    /// An injector that counts its active faults together with others.
    #[must_use]
    pub fn counting(fault: Fault, active: ActiveFaults) -> Self {
        Self { fault, active }
    }

    /// Rolls the dice for one request.
    ///
    /// When `max_active` requests are held back already, nothing happens to this one: neither a
    /// delay nor an abort.
    #[must_use]
    pub fn decide(&self, headers: &HeaderMap, random: &Random) -> Decision {
        let Fault {
            delay,
            abort,
            max_active,
        } = &self.fault;
        if max_active.is_some_and(|max| self.active.count() >= max.get()) {
            return Decision::default();
        }
        let max_active = max_active.map_or(u32::MAX, Into::into);
        let hold = |duration| {
            let permit = self.active.begin(max_active)?;
            Some(Hold { duration, permit })
        };
        Decision {
            delay: delay
                .as_ref()
                .and_then(|delay| delay_of(delay, headers))
                .filter(|(_, share)| hit(*share, random))
                .and_then(|(duration, _)| hold(duration)),
            abort: abort
                .as_ref()
                .and_then(|abort| abort_of(abort, headers))
                .filter(|(_, share)| hit(*share, random))
                .map(|(status, _)| status),
        }
    }

    /// What may happen to a request with these headers, without rolling any dice. How many are held
    /// back at this moment is not looked at.
    #[must_use]
    pub fn foresee(&self, headers: &HeaderMap) -> Foresight {
        let Fault { delay, abort, .. } = &self.fault;
        Foresight {
            delay: delay.as_ref().and_then(|delay| delay_of(delay, headers)),
            abort: abort.as_ref().and_then(|abort| abort_of(abort, headers)),
        }
    }
}

impl Decision {
    /// The error of the abort, if there is one: it [`is_fault`](Error::is_fault).
    ///
    /// gRPC's status 0 is an error here as well; whoever answers for a gRPC server makes an empty
    /// successful response of it (gRFC A33).
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        self.abort.map(error)
    }
}

impl Foresight {
    /// The error of the abort, if there may be one, and the share of the requests that get it.
    #[must_use]
    pub fn error(&self) -> Option<(Error, Fraction)> {
        self.abort.map(|(status, share)| (error(status), share))
    }
}

fn error(abort: AbortStatus) -> Error {
    Error::new(match abort {
        AbortStatus::Http(status) => Kind::Fault { status, grpc: None },
        // gRPC failures travel in HTTP's success.
        AbortStatus::Grpc(code) => Kind::Fault {
            status: StatusCode::OK,
            grpc: Some(code),
        },
    })
}

impl ActiveFaults {
    /// How many requests are held back now.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, unless there are `max` already.
    fn begin(&self, max: u32) -> Option<ActivePermit> {
        let more = |count| (count < max).then(|| count + 1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(ActivePermit(self.clone()))
    }
}

impl Drop for ActivePermit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn delay_of(delay: &Delay, headers: &HeaderMap) -> Option<(Duration, Fraction)> {
    let (duration, share) = match delay.duration {
        Amount::Fixed(duration) => (duration, delay.share),
        Amount::Header => (
            header::delay(headers)?,
            header::share(headers, header::DELAY_PERCENTAGE, delay.share),
        ),
    };
    // A delay of nothing is none: it would count as an active fault, and yield, for nothing.
    (!duration.is_zero()).then_some((duration, share))
}

fn abort_of(abort: &Abort, headers: &HeaderMap) -> Option<(AbortStatus, Fraction)> {
    Some(match abort.status {
        Amount::Fixed(status) => (status, abort.share),
        Amount::Header => (
            header::abort(headers)?,
            header::share(headers, header::ABORT_PERCENTAGE, abort.share),
        ),
    })
}

fn hit(share: Fraction, random: &Random) -> bool {
    share.includes(random.below(Fraction::ONE.parts_per_million()))
}
