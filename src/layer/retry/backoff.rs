//! Pauses between tries.

use std::time::Duration;

use crate::model::retry::Backoff;
use crate::random::Random;

/// The pause before the retry `number` (0 is the first): drawn evenly from
/// `0..=min(base * 2^number, max)`.
///
/// "Full jitter" spreads the retries of many clients that failed at the same moment over the whole
/// pause; Envoy draws in the same way (`JitteredExponentialBackOffStrategy`). Any base, maximum and
/// number are safe; what is longer than 584 years is cut to that.
pub(crate) fn pause(backoff: &Backoff, number: u32, random: &Random) -> Duration {
    let longest = nanos(backoff, number);
    // A draw below 2^64 times a bound of at most 2^64 fits 128 bits; its upper half is below the
    // bound (Lemire).
    let nanos = (u128::from(random.draw()) * (longest + 1)) >> 64;
    Duration::from_nanos(nanos as u64)
}

/// The longest pause before the retry `number` (0 is the first).
pub(crate) fn longest_pause(backoff: &Backoff, number: u32) -> Duration {
    // At most `u64::MAX`, see below.
    Duration::from_nanos(nanos(backoff, number) as u64)
}

fn nanos(backoff: &Backoff, number: u32) -> u128 {
    backoff
        .base
        .as_nanos()
        .saturating_mul(1 << number.min(100))
        .min(backoff.max.as_nanos())
        .min(u128::from(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_grow_to_their_maximum_and_fill_their_range() {
        let backoff = Backoff::default();
        let random = Random::seeded(1);
        for (number, longest) in [
            (0, 25),
            (1, 50),
            (2, 100),
            (3, 200),
            (4, 250),
            (u32::MAX, 250),
        ] {
            let longest = Duration::from_millis(longest);
            let pauses: Vec<_> = (0..2_000)
                .map(|_| pause(&backoff, number, &random))
                .collect();
            let mean = pauses.iter().sum::<Duration>() / 2_000;
            assert!(pauses.iter().all(|pause| *pause <= longest), "{number}");
            assert!(*pauses.iter().max().unwrap() > longest * 99 / 100);
            assert!(*pauses.iter().min().unwrap() < longest / 100);
            let middle = longest * 48 / 100..longest * 52 / 100;
            assert!(middle.contains(&mean), "{number}: {mean:?}");
        }
    }

    #[test]
    fn no_pause_is_possible() {
        let none = Backoff {
            base: Duration::ZERO,
            max: Duration::MAX,
        };
        assert_eq!(pause(&none, 9, &Random::seeded(1)), Duration::ZERO);
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn no_back_off_overflows(base: Duration, max: Duration, number: u32, seed: u64) {
            let pause = pause(&Backoff { base, max }, number, &Random::seeded(seed));
            prop_assert!(pause <= max);
        }
    }
}
