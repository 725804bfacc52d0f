//! When an identity is asked for next: a function of time, failures and chance.

use std::time::Duration;

use super::identity::Identity;
use crate::random::Random;

/// The pause after a first failure.
const FIRST: Duration = Duration::from_millis(500);
/// No pause is longer, so that an authority that is back is noticed soon.
const LONGEST: Duration = Duration::from_secs(30);

/// What is known of earlier tries.
#[derive(Debug, Default)]
pub(super) struct Plan {
    failures: u32,
}

impl Plan {
    /// When to ask after this identity was issued at `now`: at half of its lifetime, a twentieth of that
    /// earlier or later.
    pub(super) fn issued(
        &mut self,
        identity: &Identity,
        now: Duration,
        random: &Random,
    ) -> Duration {
        self.failures = 0;
        identity.renewal(now, random.unit())
    }

    /// What was asked for has come without being asked again.
    #[cfg(feature = "spiffe")]
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// When to ask again after a failure at `now`: a pause that doubles, up to two fifths shorter. If
    /// an identity that still holds would expire meanwhile, it is tried once more before that.
    pub(super) fn failed(
        &mut self,
        now: Duration,
        expires: Option<Duration>,
        random: &Random,
    ) -> Duration {
        let pause = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let pause = pause.mul_f64(0.6 + 0.4 * random.unit());
        match expires.and_then(|expires| expires.checked_sub(now)) {
            Some(left) if !left.is_zero() => now + pause.min(left),
            Some(_) | None => now + pause,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::authority::Authority;

    const BEGIN: Duration = Duration::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(24 * 3_600);

    fn identity() -> Identity {
        let authority = Authority::generate("td".parse().unwrap(), BEGIN).unwrap();
        let id = "spiffe://td/ns/a/sa/b".parse().unwrap();
        authority.issue(&id, &[], DAY, BEGIN).unwrap()
    }

    #[test]
    fn a8_of_a_thousand_that_start_together_no_second_renews_more_than_thirty() {
        let identity = identity();
        let random = Random::seeded(8);
        let mut seconds = std::collections::BTreeMap::<u64, usize>::new();
        for _ in 0..1_000 {
            let at = Plan::default().issued(&identity, BEGIN, &random);
            let into = at - BEGIN;
            assert!(into > DAY * 47 / 100 && into < DAY * 53 / 100, "{into:?}");
            *seconds.entry(at.as_secs()).or_default() += 1;
        }
        let most = seconds.values().max().copied().unwrap_or_default();
        assert!(most <= 30, "{most} in one second");
    }

    #[test]
    fn a8_those_that_fail_together_spread_too() {
        let random = Random::seeded(9);
        let mut buckets = std::collections::BTreeMap::<u128, usize>::new();
        for _ in 0..1_000 {
            let mut plan = Plan::default();
            let mut now = BEGIN;
            // Ten failures: about two minutes of an authority that is away.
            for _ in 0..10 {
                now = plan.failed(now, None, &random);
            }
            *buckets
                .entry((now - BEGIN).as_millis() / 1_000)
                .or_default() += 1;
        }
        let most = buckets.values().max().copied().unwrap_or_default();
        assert!(most <= 100, "{most} in one second");
    }

    #[test]
    fn a7_pauses_double_up_to_their_bound_and_never_sleep_over_the_expiry() {
        let random = Random::seeded(7);
        let mut plan = Plan::default();
        let mut now = BEGIN;
        for (index, expected) in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
            .into_iter()
            .enumerate()
        {
            let next = plan.failed(now, None, &random);
            let pause = (next - now).as_millis() as u64;
            let (least, most) = (expected * 6 / 10, expected);
            assert!((least..=most).contains(&pause), "{index}: {pause}");
            now = next;
        }
        let expires = now + Duration::from_secs(5);
        assert_eq!(plan.failed(now, Some(expires), &random), expires);
        let after = plan.failed(expires, Some(expires), &random);
        assert!(
            after > expires + Duration::from_secs(17),
            "it goes on when it has expired"
        );
        plan.issued(&identity(), BEGIN, &random);
        let first = plan.failed(now, None, &random) - now;
        assert!(first <= Duration::from_millis(500), "{first:?}");
    }
}
