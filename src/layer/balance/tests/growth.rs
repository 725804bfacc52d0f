//! Slow start.

use std::time::Duration;

use super::*;
use crate::model::balancing::{Ratio, SlowStart};

fn growing(balancing: Balancing, aggression: f64) -> Rules {
    let mut rules = Rules::from(balancing);
    rules.spread.slow_start = Some(SlowStart {
        aggression: Ratio::new(aggression).unwrap(),
        ..SlowStart::over(Duration::from_secs(100))
    });
    rules
}

async fn advance(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[test]
fn the_curve_is_envoys() {
    for (aggression, seconds, expected) in [
        (1.0, 0, 0.1),
        (1.0, 5, 0.1),
        (1.0, 50, 0.5),
        (1.0, 100, 1.0),
        (1.0, 1_000, 1.0),
        (2.0, 25, 0.5),
        (2.0, 1, 0.1),
        (0.0, 99, 0.1),
    ] {
        let rules = growing(Balancing::Random, aggression)
            .spread
            .slow_start
            .unwrap();
        let part = rules.part(Duration::from_secs(seconds));
        assert!(
            (part - expected).abs() < 1e-9,
            "{aggression} {seconds}: {part}"
        );
    }
    let nothing = SlowStart::over(Duration::ZERO);
    assert_eq!(nothing.part(Duration::ZERO), 1.0);
}

/// Nine that have grown and one that has just come, by the definition: `part / (9 + part)`.
#[tokio::test(start_paused = true)]
async fn f10_the_share_of_a_new_one_follows_the_curve() {
    for balancing in ALL {
        let random = Random::seeded(3);
        let mut members = peers(&[1; 9]);
        advance(1_000).await;
        members.push(peer(9, 1, Placement::default()));
        let balancer = Balancer::new(growing(balancing.clone(), 1.0), members, &random);
        let mut before = 0;
        for (seconds, part) in [(0, 0.1), (30, 0.3), (30, 0.6), (30, 0.9), (20, 1.0)] {
            advance(seconds).await;
            let found = counts(&names(&balancer, &random, 60_000));
            let expected: f64 = 60_000.0 * part / (9.0 + part);
            let sigma = expected.sqrt();
            let share = found.get(&9).copied().unwrap_or(0);
            assert!(
                (share as f64 - expected).abs() < 4.5 * sigma,
                "{balancing:?} {part}: {share}"
            );
            assert!(share > before, "monotone");
            before = share;
            let others: Vec<_> = (0..9).map(|name| found[&name]).collect();
            let spread = others.iter().max().unwrap() - others.iter().min().unwrap();
            assert!(
                spread < 700,
                "{balancing:?}: the others gain alike {others:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f10_who_is_back_after_an_ejection_grows_again() {
    for balancing in ALL {
        let random = Random::seeded(3);
        let balancer = Balancer::new(growing(balancing.clone(), 1.0), peers(&[1; 4]), &random);
        advance(1_000).await;
        balancer.members()[2].put(true);
        balancer.refresh();
        advance(30).await;
        balancer.members()[2].put(false);
        balancer.refresh();
        let share = counts(&names(&balancer, &random, 31_000))[&2];
        assert!(share.abs_diff(1_000) < 150, "{balancing:?}: {share}");
        advance(100).await;
        let share = counts(&names(&balancer, &random, 30_000))[&2];
        assert!(share.abs_diff(7_500) < 400, "{balancing:?}: {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn those_that_start_together_share_as_if_grown() {
    for balancing in ALL {
        let random = Random::seeded(3);
        let balancer = Balancer::new(growing(balancing.clone(), 1.0), peers(&[1, 3]), &random);
        for _ in 0..3 {
            let found = counts(&names(&balancer, &random, 20_000));
            assert!(found[&0].abs_diff(5_000) < 300, "{balancing:?} {found:?}");
            advance(20).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_young_one_is_busy_sooner() {
    let random = Random::seeded(3);
    let mut members = peers(&[1]);
    advance(1_000).await;
    members.push(peer(1, 1, Placement::default()));
    let balancer = Balancer::new(growing(Balancing::LeastRequest, 1.0), members, &random);
    // One request at the young one is as much as ten at the grown one.
    balancer.members()[1].busy(1);
    for (active, expected) in [(9, 0), (11, 1)] {
        balancer.members()[0].busy(active);
        assert!(
            names(&balancer, &random, 50)
                .iter()
                .all(|name| *name == expected)
        );
    }
}

proptest! {
    #![proptest_config(crate::random::properties(256))]

    /// Envoy's definition: `(served / window)^(1 / aggression)` of the share, at least the minimum, all of
    /// it after the window; it never shrinks.
    #[test]
    fn the_curve_follows_its_definition_and_never_falls(
        window in 1_u64..10_000,
        served in prop::collection::vec(0_u64..12_000, 2..20),
        aggression in 1.0_f64..8.0,
    ) {
        let rules = SlowStart {
            aggression: Ratio::new(aggression).unwrap(),
            ..SlowStart::over(Duration::from_millis(window))
        };
        let minimum = f64::from(rules.minimum.value()) / 100.0;
        let mut served = served;
        served.sort_unstable();
        let mut before = 0.0;
        for millis in served {
            let part = rules.part(Duration::from_millis(millis));
            let grown = (millis as f64 / window as f64).powf(1.0 / rules.aggression.value());
            let expected = if millis >= window { 1.0 } else { grown.max(minimum) };
            prop_assert!((part - expected).abs() < 1e-9, "{part} {expected}");
            prop_assert!(part >= before);
            before = part;
        }
    }
}
