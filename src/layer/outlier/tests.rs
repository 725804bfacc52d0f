//! The rules, one by one, and all of them against a slow reference.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::layer::classify::{Local, Outcome};
use crate::model::Percent;
use crate::model::outlier::{FailurePercentage, LocalOrigin, Outlier, SuccessRate};
use crate::random::Random;

mod reference;

const SECOND: Duration = Duration::from_secs(1);
const BAD: Outcome = Outcome::Failure(500);
const GATEWAY: Outcome = Outcome::Failure(503);
const RESET: Outcome = Outcome::Local(Local::Reset);

/// Five errors in a row; all may be out.
fn policy() -> Outlier {
    Outlier {
        max_ejection: Percent::HUNDRED,
        ..Default::default()
    }
}

struct Cluster {
    detector: Detector,
    hosts: Vec<Host>,
    now: Instant,
    random: Random,
}

impl Cluster {
    fn new(policy: Outlier, hosts: usize) -> Self {
        let detector = Detector::new(Some(policy.into()));
        let hosts: Vec<_> = (0..hosts).map(|_| Host::new()).collect();
        hosts.iter().for_each(|host| detector.join(host));
        Self {
            detector,
            hosts,
            now: Instant::now(),
            random: Random::seeded(1),
        }
    }

    fn record(&self, host: usize, outcome: Outcome) -> Option<Event> {
        self.detector.record(&self.hosts[host], outcome, self.now)
    }

    /// Records until something happens; how often it took.
    fn fail(&self, host: usize, outcome: Outcome) -> (usize, Event) {
        (1..=1_000)
            .find_map(|count| Some((count, self.record(host, outcome)?)))
            .expect("1,000 failures have an effect")
    }

    fn sweep_after(&mut self, time: Duration) -> Vec<Swept> {
        self.now += time;
        self.detector.sweep(&self.hosts, self.now, &self.random)
    }

    fn out(&self) -> Vec<usize> {
        let out = |host: &usize| !self.hosts[*host].admitted();
        (0..self.hosts.len()).filter(out).collect()
    }
}

fn cause((count, event): (usize, Event)) -> (usize, Cause) {
    match event {
        Event::Ejected { cause, .. } | Event::Spared { cause, .. } => (count, cause),
        Event::Readmitted => panic!("nobody is readmitted by a failure"),
    }
}

fn ejection(event: Event) -> Duration {
    match event {
        Event::Ejected { time, .. } => time,
        Event::Readmitted | Event::Spared { .. } => panic!("{event:?}"),
    }
}

#[test]
fn f6_exactly_the_nth_failure_ejects_inline() {
    let cluster = Cluster::new(policy(), 2);
    assert_eq!(cause(cluster.fail(0, BAD)), (5, Cause::Consecutive5xx));
    assert_eq!(cluster.out(), [0]);
    assert_eq!(cluster.detector.ejected(), 1);
    assert_eq!(cluster.record(0, BAD), None, "out already");
    assert_eq!(cluster.detector.ejections(), 1);
}

#[test]
fn a_success_ends_the_run() {
    let cluster = Cluster::new(policy(), 2);
    for _ in 0..3 {
        for _ in 0..4 {
            assert_eq!(cluster.record(0, BAD), None);
        }
        // 404 is the caller's mistake, hence a success of the endpoint.
        assert_eq!(cluster.record(0, Outcome::Failure(404)), None);
    }
    assert!(cluster.out().is_empty());
}

#[test]
fn each_rule_counts_its_own_kind_of_failure() {
    let three = NonZeroU32::new(3);
    let gateway = Outlier {
        consecutive_gateway: three,
        ..policy()
    };
    let split = Outlier {
        local_origin: Some(LocalOrigin { consecutive: three }),
        ..policy()
    };
    let listed = Outlier {
        error_statuses: vec![429, 503],
        consecutive_gateway: three,
        ..policy()
    };
    for (name, policy, outcome, expected) in [
        ("503", &gateway, GATEWAY, (3, Cause::ConsecutiveGateway)),
        (
            "500 is no gateway error",
            &gateway,
            BAD,
            (5, Cause::Consecutive5xx),
        ),
        (
            "reset counts as 503",
            &gateway,
            RESET,
            (3, Cause::ConsecutiveGateway),
        ),
        ("reset, split", &split, RESET, (3, Cause::ConsecutiveLocal)),
        ("500, split", &split, BAD, (5, Cause::Consecutive5xx)),
        (
            "listed",
            &listed,
            Outcome::Failure(429),
            (5, Cause::Consecutive5xx),
        ),
        (
            "listed gateway",
            &listed,
            GATEWAY,
            (3, Cause::ConsecutiveGateway),
        ),
        (
            "reset beside a list",
            &listed,
            RESET,
            (3, Cause::ConsecutiveGateway),
        ),
    ] {
        let cluster = Cluster::new(policy.clone(), 2);
        assert_eq!(cause(cluster.fail(0, outcome)), expected, "{name}");
    }
    let cluster = Cluster::new(listed, 2);
    assert!(
        (0..20).all(|_| cluster.record(0, BAD).is_none()),
        "500 is not listed"
    );
}

#[test]
fn split_failures_of_this_side_do_not_touch_the_runs_of_answers() {
    let policy = Outlier {
        local_origin: Some(LocalOrigin { consecutive: None }),
        ..policy()
    };
    let cluster = Cluster::new(policy, 2);
    for _ in 0..4 {
        assert_eq!(cluster.record(0, BAD), None);
        assert_eq!(cluster.record(0, RESET), None);
    }
    assert_eq!(cause(cluster.fail(0, BAD)), (1, Cause::Consecutive5xx));
}

#[test]
fn f8_not_more_than_the_cap_are_out() {
    for (hosts, percent, always, out) in [
        (10, 10, false, 1),
        (9, 10, false, 0),
        (3, 10, false, 0),
        (3, 10, true, 1),
        (1, 10, true, 0),
        (1, 100, false, 1),
        (2, 0, true, 1),
        (20, 10, true, 2),
        (5, 50, false, 2),
        (4, 100, false, 4),
    ] {
        let policy = Outlier {
            max_ejection: Percent::new(percent).unwrap(),
            always_eject_one: always,
            ..Default::default()
        };
        let cluster = Cluster::new(policy, hosts);
        for host in 0..hosts {
            cluster.fail(host, BAD);
        }
        let name = format!("{hosts} hosts, {percent} %, {always}");
        assert_eq!(cluster.out().len(), out, "{name}");
        assert_eq!(cluster.detector.spared(), (hosts - out) as u64, "{name}");
    }
}

#[test]
fn a_host_that_the_cap_spared_has_to_fail_n_times_more() {
    let policy = Outlier {
        max_ejection: Percent::TEN,
        ..policy()
    };
    let cluster = Cluster::new(policy, 3);
    cluster.fail(0, BAD);
    for _ in 0..2 {
        let (count, event) = cluster.fail(1, BAD);
        let (cause, reason) = (Cause::Consecutive5xx, Reason::Overflow);
        assert_eq!((count, event), (5, Event::Spared { cause, reason }));
    }
}

#[test]
fn f9_ejections_grow_with_each_and_decay_with_each_healthy_interval() {
    let mut cluster = Cluster::new(policy(), 2);
    for times in 1..=3 {
        let time = ejection(cluster.fail(0, BAD).1);
        assert_eq!(time, 30 * SECOND * times);
        assert!(cluster.sweep_after(time - SECOND).is_empty());
        let swept = cluster.sweep_after(SECOND);
        assert_eq!(
            swept,
            [Swept {
                index: 0,
                event: Event::Readmitted
            }]
        );
    }
    for left in [2, 1, 0, 0] {
        cluster.sweep_after(10 * SECOND);
        assert_eq!(cluster.hosts[0].multiplier(), left);
    }
    assert_eq!(ejection(cluster.fail(0, BAD).1), 30 * SECOND);
}

#[test]
fn f9_no_ejection_is_longer_than_the_cap_and_the_multiplier_stays_in_reach() {
    let mut cluster = Cluster::new(policy(), 2);
    for _ in 0..50 {
        let time = ejection(cluster.fail(0, BAD).1);
        assert!(time <= 300 * SECOND);
        cluster.sweep_after(time);
    }
    assert_eq!(cluster.hosts[0].multiplier(), 11);
}

#[test]
fn f9_a_changed_policy_keeps_counts_and_rules_at_once() {
    let mut cluster = Cluster::new(policy(), 2);
    for _ in 0..3 {
        cluster.record(0, BAD);
    }
    let stricter = Outlier {
        consecutive_5xx: NonZeroU32::new(4),
        base_ejection_time: 5 * SECOND,
        ..policy()
    };
    assert!(
        cluster
            .detector
            .set(Some(stricter.into()), &cluster.hosts)
            .is_empty()
    );
    assert_eq!(cause(cluster.fail(0, BAD)).0, 1, "the fourth in all");
    let longer = policy();
    cluster.detector.set(Some(longer.into()), &cluster.hosts);
    assert!(cluster.sweep_after(29 * SECOND).is_empty());
    assert_eq!(cluster.sweep_after(SECOND).len(), 1);
}

#[test]
fn a_policy_that_ejects_nobody_lets_all_in_at_once() {
    let no_rule = Outlier {
        consecutive_5xx: None,
        ..policy()
    };
    for none in [None, Some(no_rule.into())] {
        let cluster = Cluster::new(policy(), 3);
        for host in 0..3 {
            cluster.fail(host, BAD);
        }
        assert_eq!(cluster.detector.set(none, &cluster.hosts).len(), 3);
        assert!(cluster.out().is_empty());
        assert_eq!(
            (cluster.detector.ejected(), cluster.detector.interval()),
            (0, None)
        );
        assert!((0..10).all(|_| cluster.record(0, BAD).is_none()));
    }
}

#[test]
fn a_host_that_leaves_frees_its_place_and_is_not_ejected_any_more() {
    let policy = Outlier {
        max_ejection: Percent::TEN,
        ..policy()
    };
    let cluster = Cluster::new(policy, 4);
    cluster.fail(0, BAD);
    let refused = cluster.fail(1, BAD).1;
    assert!(matches!(refused, Event::Spared { .. }));
    for _ in 0..2 {
        cluster.detector.leave(&cluster.hosts[0]);
    }
    assert_eq!(cluster.detector.ejected(), 0);
    assert_eq!(ejection(cluster.fail(1, BAD).1), 30 * SECOND);
    cluster.detector.leave(&cluster.hosts[2]);
    assert!((0..10).all(|_| cluster.record(2, BAD).is_none()));
    cluster.detector.join(&cluster.hosts[0]);
    assert_eq!(cluster.detector.ejected(), 2, "it comes back as it left");
}

#[test]
fn f7_a_host_that_fails_half_is_out_after_one_interval_and_a_tenth_is_not() {
    let policy = Outlier {
        success_rate: Some(SuccessRate {
            stdev_factor: 1_900,
            enforcing: Percent::HUNDRED,
            minimum_hosts: 5,
            request_volume: 100,
        }),
        failure_percentage: Some(FailurePercentage {
            threshold: Percent::new(50).unwrap(),
            enforcing: Percent::HUNDRED,
            minimum_hosts: 5,
            request_volume: 50,
        }),
        ..policy()
    };
    let mut cluster = Cluster::new(policy, 6);
    for request in 0..100 {
        for host in 0..6 {
            let fails = match host {
                0 => request % 2 == 0,
                1 => request % 10 == 0,
                _ => false,
            };
            let outcome = if fails { BAD } else { Outcome::Success };
            assert_eq!(cluster.record(host, outcome), None);
        }
    }
    let swept = cluster.sweep_after(10 * SECOND);
    assert_eq!(swept.len(), 1, "once, though both rules see it: {swept:?}");
    assert_eq!(cause((0, swept[0].event)).1, Cause::SuccessRate);
    assert_eq!(cluster.out(), [0]);
    assert!(
        cluster.sweep_after(10 * SECOND).is_empty(),
        "a new interval"
    );
}

#[test]
fn enforcing_is_the_share_of_detections_that_eject() {
    let policy = Outlier {
        consecutive_5xx: None,
        failure_percentage: Some(FailurePercentage {
            threshold: Percent::HUNDRED,
            enforcing: Percent::new(25).unwrap(),
            minimum_hosts: 1,
            request_volume: 1,
        }),
        ..policy()
    };
    let mut cluster = Cluster::new(policy, 2_000);
    for host in 0..2_000 {
        cluster.record(host, BAD);
    }
    let swept = cluster.sweep_after(10 * SECOND);
    assert_eq!(swept.len(), 2_000);
    assert!(
        (430..570).contains(&cluster.out().len()),
        "{}",
        cluster.out().len()
    );
    assert_eq!(
        cluster.detector.spared() + cluster.detector.ejections(),
        2_000
    );
}

/// Two requests that fail at once do not both take the last place.
#[test]
fn threads_that_fail_at_once_respect_the_cap() {
    let policy = Outlier {
        consecutive_5xx: NonZeroU32::new(1),
        max_ejection: Percent::new(50).unwrap(),
        ..Default::default()
    };
    let cluster = Cluster::new(policy, 16);
    std::thread::scope(|scope| {
        for first in 0..4 {
            let cluster = &cluster;
            scope.spawn(move || {
                for host in 0..16 {
                    cluster.record((host + first * 4) % 16, BAD);
                }
            });
        }
    });
    assert_eq!(cluster.out().len(), 8);
    assert_eq!(cluster.detector.ejections(), 8);
}
