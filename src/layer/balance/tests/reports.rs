//! Weighted round robin by reports.

use std::time::Duration;

use http::HeaderMap;

use super::*;
use crate::model::balancing::WeightedRoundRobin;

fn rules() -> WeightedRoundRobin {
    WeightedRoundRobin::default()
}

fn wrr() -> (Balancer<Peer>, Random) {
    balancer(Balancing::WeightedRoundRobin(rules()), &[9, 1, 1])
}

fn report(balancer: &Balancer<Peer>, name: usize, text: &str) {
    let mut headers = HeaderMap::new();
    headers.insert("endpoint-load-metrics", text.parse().unwrap());
    let signals = &balancer.members()[name].signals;
    balancer.report(signals, &headers, Instant::now());
}

/// Every second for this long: utilizations of 20 %, 40 % and 80 % at 100 requests per second.
async fn serve(balancer: &Balancer<Peer>, seconds: u64, members: usize) {
    for _ in 0..seconds {
        for (name, used) in [0.2, 0.4, 0.8].into_iter().enumerate().take(members) {
            report(
                balancer,
                name,
                &format!("TEXT cpu_utilization={used},rps_fractional=100"),
            );
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
}

fn shares(balancer: &Balancer<Peer>, random: &Random) -> Vec<usize> {
    let found = counts(&names(balancer, random, 7_000));
    (0..3).map(|name| found[&name]).collect()
}

#[track_caller]
fn assert_shares(found: &[usize], expected: [usize; 3]) {
    let near = found
        .iter()
        .zip(expected)
        .all(|(one, other)| one.abs_diff(other) <= 5);
    assert!(near, "{found:?} is not {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn f14_weights_count_after_the_blackout_and_until_they_expire() {
    let (balancer, random) = wrr();
    let equal = [2_333; 3];
    assert_shares(&shares(&balancer, &random), equal);
    serve(&balancer, 9, 3).await;
    assert_shares(&shares(&balancer, &random), equal);
    serve(&balancer, 2, 3).await;
    // 500 : 250 : 125.
    assert_shares(&shares(&balancer, &random), [4_000, 2_000, 1_000]);
    tokio::time::advance(Duration::from_secs(178)).await;
    assert_shares(&shares(&balancer, &random), [4_000, 2_000, 1_000]);
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_shares(&shares(&balancer, &random), equal);
    serve(&balancer, 9, 3).await;
    assert_shares(&shares(&balancer, &random), equal);
}

#[tokio::test(start_paused = true)]
async fn f14_who_reports_nothing_gets_the_average_and_one_alone_counts_not() {
    let (balancer, random) = wrr();
    serve(&balancer, 12, 1).await;
    assert_shares(&shares(&balancer, &random), [2_333; 3]);
    serve(&balancer, 12, 2).await;
    // 500 : 250, and 375 for the silent one.
    assert_shares(&shares(&balancer, &random), [3_111, 1_556, 2_333]);
}

#[tokio::test(start_paused = true)]
async fn f14_zero_nan_and_nonsense_change_nothing() {
    let (balancer, random) = wrr();
    serve(&balancer, 12, 3).await;
    for text in [
        "TEXT cpu_utilization=NaN,rps_fractional=1",
        "TEXT cpu_utilization=0,rps_fractional=1",
        "TEXT cpu_utilization=1,rps_fractional=0",
        "TEXT cpu_utilization=-1,rps_fractional=5",
        "nonsense",
    ] {
        report(&balancer, 0, text);
    }
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_shares(&shares(&balancer, &random), [4_000, 2_000, 1_000]);
}

#[tokio::test(start_paused = true)]
async fn who_is_back_has_a_blackout_again() {
    let (balancer, random) = wrr();
    serve(&balancer, 12, 3).await;
    balancer.members()[0].put(true);
    balancer.refresh();
    balancer.members()[0].put(false);
    balancer.refresh();
    serve(&balancer, 2, 3).await;
    // The average of 250 and 125 for the first.
    assert_shares(&shares(&balancer, &random), [2_333, 3_111, 1_556]);
}
