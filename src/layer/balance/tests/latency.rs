//! Peak EWMA.

use std::time::Duration;

use super::*;
use crate::model::balancing::PeakEwma;

const RULES: PeakEwma = PeakEwma {
    default_latency: Duration::from_secs(1),
    decay: Duration::from_secs(10),
};

const EWMA: Balancing = Balancing::PeakEwma(RULES);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test(start_paused = true)]
async fn latency_rises_at_once_and_decays_with_time() {
    let signals = Signals::new(Instant::now());
    let latency = || f64::from(signals.latency(&RULES, Instant::now()));
    let near = |found: f64, expected: f64| (found - expected).abs() < expected * 0.001;
    assert!(near(latency(), 1.0), "unknown");
    signals.observe(millis(100), false, &RULES, Instant::now());
    assert!(near(latency(), 0.1), "the first answer replaces the guess");
    signals.observe(millis(900), false, &RULES, Instant::now());
    assert!(near(latency(), 0.9), "up at once");
    tokio::time::advance(RULES.decay).await;
    let kept = (-1.0_f64).exp();
    assert!(near(latency(), 0.9 * kept));
    signals.observe(millis(100), false, &RULES, Instant::now());
    assert!(
        near(latency(), 0.9 * kept + 0.1 * (1.0 - kept)),
        "down slowly"
    );
}

#[tokio::test(start_paused = true)]
async fn f15_a_fast_failure_does_not_look_fast() {
    let signals = Signals::new(Instant::now());
    signals.observe(millis(1), true, &RULES, Instant::now());
    assert_eq!(signals.latency(&RULES, Instant::now()), 1.0);
    signals.observe(millis(50), false, &RULES, Instant::now());
    signals.observe(millis(1), true, &RULES, Instant::now());
    assert_eq!(signals.latency(&RULES, Instant::now()), 0.05);
    signals.observe(millis(5_000), true, &RULES, Instant::now());
    assert_eq!(
        signals.latency(&RULES, Instant::now()),
        5.0,
        "a slow one is slow"
    );
}

/// One thousand requests per second, each as long as its endpoint takes; 1 of 10 takes 100 times as
/// long as the others.
#[tokio::test(start_paused = true)]
async fn f4_a_slow_endpoint_gets_at_most_two_percent_after_two_seconds() {
    let (balancer, random) = balancer(EWMA, &[1; 10]);
    let mut ends: Vec<(Instant, usize)> = Vec::new();
    let mut late = counts(&[]);
    for step in 0..10_000 {
        tokio::time::advance(millis(1)).await;
        let now = Instant::now();
        ends.retain(|(end, name)| {
            if *end <= now {
                let peer = &balancer.members()[*name];
                peer.active.fetch_sub(1, Ordering::Relaxed);
                let took = millis(if *name == 0 { 1_000 } else { 10 });
                balancer.observe(&peer.signals, took, false, now);
            }
            *end > now
        });
        let picked = balancer.pick(&random, |_| false).unwrap();
        picked.active.fetch_add(1, Ordering::Relaxed);
        let took = millis(if picked.name == 0 { 1_000 } else { 10 });
        ends.push((now + took, picked.name));
        if step >= 2_000 {
            *late.entry(picked.name).or_default() += 1;
        }
    }
    let slow = late.get(&0).copied().unwrap_or(0);
    assert!(slow * 50 <= 8_000, "{slow} of 8,000");
    assert!(
        (1..10).all(|name| late[&name].abs_diff(888) < 300),
        "{late:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_one_is_tried_again_when_its_peak_has_decayed() {
    let (balancer, random) = balancer(EWMA, &[1; 2]);
    let members = balancer.members();
    let [slow, fast] = [0, 1].map(|name: usize| &members[name].signals);
    balancer.observe(slow, millis(1_000), false, Instant::now());
    balancer.observe(fast, millis(10), false, Instant::now());
    assert!(names(&balancer, &random, 100).iter().all(|name| *name == 1));
    tokio::time::advance(Duration::from_secs(47)).await;
    balancer.observe(fast, millis(10), false, Instant::now());
    assert!(names(&balancer, &random, 100).contains(&0));
}

#[tokio::test(start_paused = true)]
async fn observations_that_run_backwards_by_a_moment_do_not_forget() {
    let signals = Signals::new(Instant::now());
    tokio::time::advance(Duration::from_secs(10)).await;
    let earlier = Instant::now();
    tokio::time::advance(millis(2)).await;
    signals.observe(millis(100), false, &RULES, Instant::now());
    assert_eq!(signals.latency(&RULES, earlier), 0.1);
}

proptest! {
    #![proptest_config(crate::random::properties(128))]

    /// The definition, in double precision: what is known decays by `e^(-t / decay)`; an answer that
    /// takes longer replaces it, a faster one is mixed in with what the decay has made room for, and a
    /// failure counts only if it took longer.
    #[test]
    fn the_peak_follows_its_definition(
        steps in prop::collection::vec((0_u64..5_000, 1_u64..3_000, prop::bool::weighted(0.2)), 1..40),
    ) {
        let begun = Instant::now();
        let (signals, mut now) = (Signals::new(begun), begun);
        // Seconds, and when they were seen.
        let mut known: Option<(f64, Instant)> = None;
        for (pause, took, failed) in steps {
            now += millis(pause);
            signals.observe(millis(took), failed, &RULES, now);
            let took = took as f64 / 1_000.0;
            let kept = known.map_or(1.0, |(_, then)| {
                (-now.duration_since(then).as_secs_f64() / RULES.decay.as_secs_f64()).exp()
            });
            let before = known.map_or(1.0, |(peak, _)| peak * kept);
            known = match known {
                known if failed && took <= before => known,
                None => Some((took, now)),
                Some(_) if failed || took >= before => Some((took, now)),
                Some((peak, _)) => Some((peak * kept + took * (1.0 - kept), now)),
            };
            let later = now + millis(700);
            let expected = known.map_or(1.0, |(peak, then)| {
                peak * (-later.duration_since(then).as_secs_f64() / 10.0).exp()
            });
            let found = f64::from(signals.latency(&RULES, later));
            prop_assert!((found - expected).abs() <= expected * 1e-4, "{found} {expected}");
        }
    }

    /// Of two, the one whose product of latency and requests in flight, this one included, is smaller.
    #[test]
    fn the_less_costly_of_two_is_picked(
        slow in (1_u64..1_000, 0_u32..20),
        fast in (1_u64..1_000, 0_u32..20),
        seed in any::<u64>(),
    ) {
        let cost = |(took, active): (u64, u32)| took * u64::from(active + 1);
        prop_assume!(cost(slow).abs_diff(cost(fast)) * 1_000 > cost(slow));
        let random = Random::seeded(seed);
        let balancer = Balancer::new(EWMA, peers(&[1; 2]), &random);
        let now = Instant::now();
        for (member, (took, active)) in balancer.members().iter().zip([slow, fast]) {
            balancer.observe(&member.signals, millis(took), false, now);
            member.active.store(active, Ordering::Relaxed);
        }
        let cheaper = usize::from(cost(fast) < cost(slow));
        prop_assert_eq!(names(&balancer, &random, 20), vec![cheaper; 20]);
    }
}
