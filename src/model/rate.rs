//! How many requests a server takes, or a client sends, in a time, counted by each process alone.
//!
//! The buckets are Envoy's (`local_ratelimit`): one of all requests, one of each caller by its identity,
//! and others for callers that are named. A request takes a token of each that it belongs to, or is
//! refused at once; nobody waits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::{Fraction, Origin};

// What is refused is an error, which knows how it is answered; so it is defined there.
pub use crate::error::Refusal;

/// One limit: what it counts, and what it answers.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct LocalLimit {
    /// What it is the limit of. Limits that are equal in everything share their buckets, also over edits
    /// of the configuration, so that an edit of something else gives nobody a new burst.
    pub scope: Arc<str>,
    /// Only of requests at this port of the process; `None`: at all.
    pub port: Option<u16>,
    /// Of all requests together.
    pub total: Option<Bucket>,
    /// Of each caller that has none of the buckets below; those without an identity are one. On a route of a
    /// client, whose only caller is the process itself, it is of all requests.
    pub per_caller: Option<Bucket>,
    /// Of callers that are named, all of an entry together. On a route of a client nobody is.
    pub callers: Vec<CallersBucket>,
    /// The share of requests that take tokens at all.
    pub enabled: Fraction,
    /// The share of requests without a token that are refused; the others are told of only.
    pub enforced: Fraction,
    /// What a request that is refused is answered.
    pub refusal: Refusal,
    /// Where it was written.
    pub origin: Origin,
}

/// A bucket of tokens (Envoy's `token_bucket`).
///
/// ```
/// use std::time::Duration;
/// use meshwork::model::rate::Bucket;
///
/// assert!(Bucket::new(100, 50, Duration::from_secs(1)).is_ok());
/// let empty = Bucket::new(0, 50, Duration::from_secs(1)).unwrap_err();
/// assert_eq!(empty.to_string(), "max_tokens is 0: 1 or more is allowed");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Bucket {
    max_tokens: u32,
    tokens_per_fill: u32,
    fill_interval: Duration,
}

/// A century: the longest time in which a bucket may fill up.
const LONGEST: u128 = 100 * 365 * 24 * 60 * 60 * 1_000_000_000;

/// What is wrong with a bucket.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidBucket {
    /// It lets nothing through.
    #[error("max_tokens is 0: 1 or more is allowed")]
    Empty,
    /// It never fills.
    #[error("{tokens} tokens each {interval:?} fill no bucket: both must be above 0")]
    Dry {
        /// `tokens_per_fill`.
        tokens: u32,
        /// `fill_interval`.
        interval: Duration,
    },
    /// Its tokens come more often than can be told apart, or too seldom.
    #[error(
        "{tokens} tokens each {interval:?} are out of bounds: up to 1000000 per second are allowed, and \
         a bucket that fills within a century"
    )]
    OutOfBounds {
        /// `tokens_per_fill`.
        tokens: u32,
        /// `fill_interval`.
        interval: Duration,
    },
}

impl Bucket {
    /// A bucket that holds `max_tokens` (the largest burst) and gets `tokens_per_fill` each
    /// `fill_interval`, evenly spread.
    ///
    /// # Errors
    /// If a number is zero, if there are more than a million tokens per second, or if the bucket needs
    /// more than a century to fill up.
    pub fn new(
        max_tokens: u32,
        tokens_per_fill: u32,
        fill_interval: Duration,
    ) -> Result<Self, InvalidBucket> {
        let (tokens, interval) = (tokens_per_fill, fill_interval);
        if max_tokens == 0 {
            return Err(InvalidBucket::Empty);
        }
        if tokens == 0 || interval.is_zero() {
            return Err(InvalidBucket::Dry { tokens, interval });
        }
        let period = interval.as_nanos().div_ceil(u128::from(tokens));
        let fast = interval.as_nanos() < 1_000 * u128::from(tokens);
        if fast || period > LONGEST / u128::from(max_tokens) {
            return Err(InvalidBucket::OutOfBounds { tokens, interval });
        }
        Ok(Self {
            max_tokens,
            tokens_per_fill,
            fill_interval,
        })
    }

    /// How many tokens it holds.
    #[must_use]
    pub fn max_tokens(&self) -> u32 {
        self.max_tokens
    }

    /// How many it gets in each interval.
    #[must_use]
    pub fn tokens_per_fill(&self) -> u32 {
        self.tokens_per_fill
    }

    /// How long an interval is.
    #[must_use]
    pub fn fill_interval(&self) -> Duration {
        self.fill_interval
    }
}

impl fmt::Display for LocalLimit {
    /// In words: what passes, how often it counts, and the answer to the rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for bucket in self.per_caller.iter().chain(&self.total) {
            let and = if first { "" } else { ", and " };
            first = false;
            write!(f, "{and}{bucket}")?;
        }
        for (share, what) in [(self.enabled, "counted"), (self.enforced, "enforced")] {
            if share != Fraction::ONE {
                write!(f, ", {what} for {share}")?;
            }
        }
        write!(f, ", else {} ({})", self.refusal.status, self.scope)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at once and {} more each {:?}",
            self.max_tokens, self.tokens_per_fill, self.fill_interval
        )
    }
}

/// A bucket of some callers.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CallersBucket {
    /// Their identities, whole (`spiffe://...`).
    pub identities: Vec<Box<str>>,
    /// What they have together.
    pub bucket: Bucket,
}
