//! Limits how many requests pass in a time, in this process.
//!
//! A [`RateLimit`] is one bucket of tokens for all requests, buckets for keys (the value of a
//! header, or whatever a function makes of a request), or both. Each bucket has a [`Rate`] in
//! Envoy's words: it holds `max_tokens`, and gets `tokens_per_fill` each `fill_interval`. A request
//! takes one token of each bucket that it belongs to, or is refused at once: nobody waits.
//!
//! The same limit serves both sides. A client puts a [`RateLimitLayer`] around a service and gets an
//! error that [is rate limited](crate::Error::is_rate_limited). A server puts an
//! [`InboundRateLimitLayer`] around its handlers, and callers get Envoy's answer: 429 with the body
//! `local_rate_limited`, or for gRPC the status 14 UNAVAILABLE with that message.
//!
//! # The arithmetic
//!
//! The buckets are those of `governor`: GCRA, the "virtual scheduling" form of a token bucket. It
//! keeps one number for each bucket (when it will be full again) and needs no timer. Tokens trickle
//! in one by one, `fill_interval / tokens_per_fill` apart, not all at once when an interval ends;
//! the long-term rate and the burst are the same, and callers cannot all come back in the same
//! instant. Time is tokio's, so that a paused clock pauses the buckets.
//!
//! # Keys and memory
//!
//! A keyed limit without a bound is a hole: a caller who sends a new key with each request fills
//! the memory. Each keyed rule here has a fixed number of buckets, about 60 bytes each whatever the
//! keys look like: what is kept is a hash of the key, seeded for each rule so that nobody can
//! choose keys that share a bucket. When they are all taken, a new key gets the bucket that was
//! unused for longest, *if that is full again*, for then forgetting it changes nothing. If even
//! that one is still in use, the new key takes its token from a bucket that all such keys share.
//!
//! Plain eviction of the least recently used key was rejected: whoever goes round more keys than there
//! are buckets would always meet a full one, and the limit would be gone. With the shared bucket the
//! sum of what passes never exceeds one rate for each bucket and one more, and the price is
//! that newcomers are served badly while more keys are active than the bound was made for.
//!
//! # State and edits
//!
//! A [`RateLimit`] is immutable: its buckets begin full. Who edits a policy keeps the old limit if the
//! [`Rate`]s are equal (they are `Eq`), so that an unrelated edit gives nobody a new burst.
//!
//! ```
//! use std::num::NonZeroU32;
//! use std::time::Duration;
//!
//! use http::{HeaderName, Request};
//! use meshwork::layer::rate_limit::{Head, Rate, RateLimit};
//!
//! let tenant = HeaderName::from_static("x-tenant");
//! let limit = RateLimit::new()
//!     .total(Rate::new(1_000, 1_000, Duration::from_secs(1))?)
//!     .per_header(tenant, Rate::new(1, 1, Duration::from_secs(1))?, NonZeroU32::new(10_000).unwrap());
//!
//! let request = Request::get("/").header("x-tenant", "a").body(())?;
//! assert!(limit.check(Head::of(&request)).is_ok());
//! assert!(limit.check(Head::of(&request)).is_err());
//! let other = Request::get("/").header("x-tenant", "b").body(())?;
//! assert!(limit.check(Head::of(&other)).is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod clock;
mod future;
mod inbound;
mod key;
mod layer;
#[cfg(feature = "outbound")]
mod local;
mod rate;
mod service;
mod store;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, RateLimiter};
use http::HeaderName;
use thiserror::Error;

use crate::error::{Error, Kind};
use clock::TokioClock;
use key::Source;
use store::BoundedStore;

pub use future::ResponseFuture;
pub use inbound::{AnswerBody, Answering, InboundRateLimitLayer, InboundResponseFuture};
pub use key::Head;
pub use layer::RateLimitLayer;
#[cfg(feature = "outbound")]
pub(crate) use local::Local;
pub use rate::{InvalidRate, Rate};
pub use service::RateLimited;

/// Buckets of tokens; shared by `Arc`.
///
/// Without any rule nothing is limited. The module documentation has an example.
#[derive(Debug, Default)]
pub struct RateLimit {
    clock: TokioClock,
    total: Option<RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Nanos>>>,
    keyed: Vec<Keyed>,
    refused: AtomicU64,
}

/// One bucket for each key.
#[derive(Debug)]
struct Keyed {
    source: Source,
    limiter: RateLimiter<u64, BoundedStore, TokioClock, NoOpMiddleware<Nanos>>,
}

/// A bucket has no token left.
///
/// Becomes a [`meshwork::Error`](crate::Error) that [`is_rate_limited`](Error::is_rate_limited), with
/// Envoy's flag `RL`.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("rate limited: the next token is there in {wait:?}")]
pub struct Exhausted {
    wait: Duration,
}

impl RateLimit {
    /// No limit yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits all requests together. A second call replaces the first.
    #[must_use]
    pub fn total(mut self, rate: Rate) -> Self {
        let clock = self.clock.clone();
        self.total = Some(RateLimiter::direct_with_clock(rate.quota(), clock));
        self
    }

    /// Limits the requests with the same value of a header, for at most `keys` values at a time (see
    /// the [module](self) for those beyond). May be called for several headers.
    ///
    /// Several values of the header are one key together, so a repeated header is no way around. A
    /// request without it is not limited by this rule.
    #[must_use]
    pub fn per_header(self, name: HeaderName, rate: Rate, keys: NonZeroU32) -> Self {
        self.keyed(Source::header(name), rate, keys)
    }

    /// Limits the requests for which `key` returns the same bytes, for at most `keys` of them at a
    /// time (see the [module](self) for those beyond). `None` is not limited by this rule.
    ///
    /// `key` is called for each request and should not allocate.
    ///
    /// ```
    /// # use std::{borrow::Cow, num::NonZeroU32, time::Duration};
    /// use meshwork::layer::rate_limit::{Rate, RateLimit};
    ///
    /// let rate = Rate::new(10, 10, Duration::from_secs(1))?;
    /// let by_path = RateLimit::new().per_key(
    ///     |head| Some(Cow::Borrowed(head.uri.path().as_bytes())),
    ///     rate,
    ///     NonZeroU32::new(1_000).unwrap(),
    /// );
    /// # Ok::<(), meshwork::layer::rate_limit::InvalidRate>(())
    /// ```
    #[must_use]
    pub fn per_key<F>(self, key: F, rate: Rate, keys: NonZeroU32) -> Self
    where
        F: for<'a> Fn(Head<'a>) -> Option<Cow<'a, [u8]>> + Send + Sync + 'static,
    {
        self.keyed(Source::function(key), rate, keys)
    }

    fn keyed(mut self, source: Source, rate: Rate, keys: NonZeroU32) -> Self {
        let store = BoundedStore::new(keys, rate.period());
        let limiter = RateLimiter::new(rate.quota(), store, self.clock.clone());
        self.keyed.push(Keyed { source, limiter });
        self
    }

    /// Takes a token of each bucket that the request belongs to: keys first, in the order in which
    /// they were added, then the total.
    ///
    /// The total needs no lock; each keyed rule takes a short one.
    ///
    /// # Errors
    /// If a bucket is empty. Tokens of those before it are spent; the other way round a caller who
    /// is over its own limit would use up the total of the others.
    pub fn check(&self, head: Head<'_>) -> Result<(), Exhausted> {
        for Keyed { source, limiter } in &self.keyed {
            if let Some(key) = source.fingerprint(head) {
                limiter.check_key(&key).map_err(|not| self.refuse(&not))?;
            }
        }
        match &self.total {
            Some(limiter) => limiter.check().map_err(|not| self.refuse(&not)),
            None => Ok(()),
        }
    }

    /// How many requests were refused so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many keys have buckets of their own now, over all keyed rules.
    #[must_use]
    pub fn keys(&self) -> usize {
        let held = |keyed: &Keyed| keyed.limiter.len();
        self.keyed.iter().map(held).sum()
    }

    fn refuse(&self, not: &NotUntil<Nanos>) -> Exhausted {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Exhausted {
            wait: not.wait_time_from(self.clock.now()),
        }
    }
}

impl Exhausted {
    /// When the bucket has its next token, from the refusal on. Others may be faster.
    #[must_use]
    pub fn wait(self) -> Duration {
        self.wait
    }
}

impl From<Exhausted> for Error {
    fn from(exhausted: Exhausted) -> Self {
        Self::new(Kind::RateLimited {
            wait: exhausted.wait,
            refusal: None,
        })
    }
}
