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
