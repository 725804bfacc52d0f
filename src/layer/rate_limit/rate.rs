//! How fast a bucket fills.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::Quota;
use thiserror::Error;

/// A century: the longest time in which a bucket may fill up.
const LONGEST: u128 = 100 * 365 * 24 * 60 * 60 * 1_000_000_000;

/// The shortest time between two tokens, in nanoseconds. It is rounded up to whole ones, so that
/// never more passes than asked for; from here on that costs less than 0.1 % of the rate.
const SHORTEST: u128 = 1_000;

/// The size of a bucket of tokens and how it fills (Envoy's `token_bucket`).
///
/// ```
/// use std::time::Duration;
/// use meshwork::layer::rate_limit::Rate;
///
/// let rate = Rate::new(100, 50, Duration::from_secs(1))?;
/// assert_eq!(rate.period(), Duration::from_millis(20));
/// assert!(Rate::new(0, 1, Duration::from_secs(1)).is_err());
/// # Ok::<(), meshwork::layer::rate_limit::InvalidRate>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Rate {
    max_tokens: NonZeroU32,
    period: Duration,
}

/// What is wrong with a rate.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidRate {
    /// A bucket without tokens lets nothing through.
    #[error("max_tokens is 0: 1 or more is allowed")]
    Empty,
    /// A bucket that never fills.
    #[error("{tokens} tokens each {interval:?} fill no bucket: both must be above 0")]
    Dry {
        /// `tokens_per_fill`.
        tokens: u32,
        /// `fill_interval`.
        interval: Duration,
    },
    /// The tokens come closer than the arithmetic can tell apart.
    #[error("{tokens} tokens each {interval:?} are too many: up to 1000000 per second are allowed")]
    TooFast {
        /// `tokens_per_fill`.
        tokens: u32,
        /// `fill_interval`.
        interval: Duration,
    },
    /// An empty bucket would need more than a century to fill up.
    #[error("a bucket of {max_tokens} fills in more than a century at one token each {period:?}")]
    TooSlow {
        /// `max_tokens`.
        max_tokens: u32,
        /// The time between two tokens.
        period: Duration,
    },
}

impl Rate {
    /// A bucket of `max_tokens` (the largest burst) that gets `tokens_per_fill` tokens each
    /// `fill_interval`, evenly spread.
    ///
    /// # Errors
    /// If a number is zero, if there are more than a million tokens per second, or if the bucket
    /// needs more than a century to fill up.
    pub fn new(
        max_tokens: u32,
        tokens_per_fill: u32,
        fill_interval: Duration,
    ) -> Result<Self, InvalidRate> {
        let max_tokens = NonZeroU32::new(max_tokens).ok_or(InvalidRate::Empty)?;
        let (tokens, interval) = (tokens_per_fill, fill_interval);
        if tokens == 0 || interval.is_zero() {
            return Err(InvalidRate::Dry { tokens, interval });
        }
        if interval.as_nanos() < SHORTEST * u128::from(tokens) {
            return Err(InvalidRate::TooFast { tokens, interval });
        }
        let period = interval.as_nanos().div_ceil(u128::from(tokens));
        let too_slow = InvalidRate::TooSlow {
            max_tokens: max_tokens.get(),
            period: interval / tokens,
        };
        if period > LONGEST / u128::from(max_tokens.get()) {
            return Err(too_slow);
        }
        let period = u64::try_from(period).map_err(|_| too_slow)?;
        Ok(Self {
            max_tokens,
            period: Duration::from_nanos(period),
        })
    }

    /// The most tokens that the bucket holds.
    #[must_use]
    pub fn max_tokens(&self) -> NonZeroU32 {
        self.max_tokens
    }

    /// The time between two tokens, in whole nanoseconds.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }

    pub(super) fn quota(&self) -> Quota {
        Quota::with_period(self.period)
            .expect("a rate's period is at least a microsecond")
            .allow_burst(self.max_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn rates_out_of_bounds_are_refused_and_named() {
        for (rate, text) in [
            (
                Rate::new(0, 1, SECOND),
                "max_tokens is 0: 1 or more is allowed",
            ),
            (
                Rate::new(1, 0, SECOND),
                "0 tokens each 1s fill no bucket: both must be above 0",
            ),
            (
                Rate::new(1, 1, Duration::ZERO),
                "1 tokens each 0ns fill no bucket: both must be above 0",
            ),
            (
                Rate::new(1, 1_000_001, SECOND),
                "1000001 tokens each 1s are too many: up to 1000000 per second are allowed",
            ),
            (
                Rate::new(u32::MAX, 1, SECOND),
                "a bucket of 4294967295 fills in more than a century at one token each 1s",
            ),
        ] {
            assert_eq!(rate.unwrap_err().to_string(), text);
        }
        assert!(Rate::new(1, 1, Duration::MAX).is_err());
        assert!(Rate::new(u32::MAX, 1_000_000, SECOND).is_ok());
    }

    #[test]
    fn periods_are_rounded_up_so_that_never_more_passes() {
        let third = Rate::new(1, 3, SECOND).unwrap();
        assert_eq!(third.period(), Duration::from_nanos(333_333_334));
    }
}
