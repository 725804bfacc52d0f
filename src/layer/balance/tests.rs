//! The choices against their definitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::model::Percent;
use crate::model::cluster::Balancing;
use crate::random::Random;

mod changes;
mod first;
mod growth;
mod hash;
mod latency;
mod reports;
mod spread;

#[derive(Debug)]
struct Peer {
    name: usize,
    key: String,
    weight: NonZeroU32,
    placement: Placement,
    active: AtomicU32,
    out: AtomicBool,
    signals: Signals,
}

impl Candidate for Peer {
    fn weight(&self) -> NonZeroU32 {
        self.weight
    }

    fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    fn admitted(&self) -> bool {
        !self.out.load(Ordering::Relaxed)
    }

    fn key(&self) -> &str {
        &self.key
    }

    fn placement(&self) -> Placement {
        self.placement
    }

    fn signals(&self) -> Option<&Signals> {
        Some(&self.signals)
    }
}

impl Peer {
    fn put(&self, out: bool) {
        self.out.store(out, Ordering::Relaxed);
    }

    fn busy(&self, active: u32) {
        self.active.store(active, Ordering::Relaxed);
    }
}

fn peer(name: usize, weight: u32, placement: Placement) -> Arc<Peer> {
    Arc::new(Peer {
        name,
        key: format!("10.0.{}.{}:80", name / 256, name % 256),
        weight: NonZeroU32::new(weight).unwrap(),
        placement,
        active: AtomicU32::new(0),
        out: AtomicBool::new(false),
        signals: Signals::new(Instant::now()),
    })
}

fn peers(weights: &[u32]) -> Vec<Arc<Peer>> {
    let equal = |(name, weight): (usize, &u32)| peer(name, *weight, Placement::default());
    weights.iter().enumerate().map(equal).collect()
}

fn balancer(balancing: Balancing, weights: &[u32]) -> (Balancer<Peer>, Random) {
    let random = Random::seeded(42);
    let balancer = Balancer::new(balancing, peers(weights), &random);
    (balancer, random)
}

fn panicking(balancing: Balancing, panic_threshold: Percent) -> Rules {
    Rules {
        panic_threshold,
        ..Rules::from(balancing)
    }
}

/// Envoy's rule for one priority: too few are admitted, and they cannot serve everything.
fn panics(admitted: usize, all: usize, threshold: Percent) -> bool {
    admitted * 100 < threshold.value() as usize * all && admitted * 140 < 100 * all
}

fn names(balancer: &Balancer<Peer>, random: &Random, picks: usize) -> Vec<usize> {
    let name = |_| balancer.pick(random, |_| false).unwrap().name;
    (0..picks).map(name).collect()
}

fn counts(picks: &[usize]) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    picks
        .iter()
        .for_each(|name| *counts.entry(*name).or_default() += 1);
    counts
}

const ALL: [Balancing; 3] = [
    Balancing::LeastRequest,
    Balancing::Random,
    Balancing::RoundRobin,
];

/// Pearson's statistic of picks against weights.
fn chi_square(picks: &[usize], weights: &[u32]) -> f64 {
    let counts = counts(picks);
    let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let term = |(name, weight): (usize, &u32)| {
        let expected = picks.len() as f64 * f64::from(*weight) / total;
        let found = *counts.get(&name).unwrap_or(&0) as f64;
        (found - expected).powi(2) / expected
    };
    weights.iter().enumerate().map(term).sum()
}

#[test]
fn f11_shares_are_those_of_the_weights() {
    // With the critical values of p = 0.001 for as many degrees of freedom.
    for (weights, critical) in [
        (&[1, 99][..], 10.83),
        (&[1, 1], 10.83),
        (&[10, 20, 70], 13.82),
        (&[1, 1, 1, 1], 16.27),
        (&[u32::MAX, u32::MAX - 1, u32::MAX], 13.82),
        (&[5, 1, 1, 1, 1, 1, 1, 1, 1, 1], 27.88),
    ] {
        for balancing in ALL {
            let (balancer, random) = balancer(balancing.clone(), weights);
            let picks = names(&balancer, &random, 200_000);
            // An idle least request draws by weight too: the first of two equals wins.
            let found = chi_square(&picks, weights);
            assert!(found < critical, "{balancing:?} {weights:?}: {found}");
        }
    }
}

#[test]
fn f11_the_same_seed_gives_the_same_picks() {
    for balancing in ALL {
        let picks = || {
            let (balancer, random) = balancer(balancing.clone(), &[1, 2, 3, 4]);
            names(&balancer, &random, 1_000)
        };
        assert_eq!(picks(), picks(), "{balancing:?}");
    }
}

#[test]
fn round_robin_starts_anywhere_and_goes_round() {
    let mut starts = BTreeMap::new();
    for seed in 0..200 {
        let random = Random::seeded(seed);
        let balancer = Balancer::new(Balancing::RoundRobin, peers(&[1; 5]), &random);
        let picks = names(&balancer, &random, 10);
        assert!(
            picks.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 5),
            "{picks:?}"
        );
        *starts.entry(picks[0]).or_insert(0) += 1;
    }
    assert!(
        starts.len() == 5 && starts.values().all(|count| *count > 20),
        "{starts:?}"
    );
}

#[test]
fn a_successor_goes_on_where_its_predecessor_was() {
    let (before, random) = balancer(Balancing::RoundRobin, &[1; 5]);
    let last = *names(&before, &random, 3).last().unwrap();
    let after = before.succeed(Balancing::RoundRobin, before.members().to_vec());
    assert_eq!(names(&after, &random, 1), [(last + 1) % 5]);
    assert_eq!(
        names(&before, &random, 1),
        [(last + 2) % 5],
        "one position for both"
    );
}

#[test]
fn least_request_prefers_the_less_busy_per_weight() {
    let (two, random) = balancer(Balancing::LeastRequest, &[1, 1]);
    two.members()[0].busy(1);
    assert!(
        names(&two, &random, 100).iter().all(|name| *name == 1),
        "two distinct ones"
    );
    let (weighted, random) = balancer(Balancing::LeastRequest, &[3, 1]);
    for (heavy, light, picked) in [(4, 1, 1), (2, 1, 0), (u32::MAX, u32::MAX, 0), (0, 1, 0)] {
        weighted.members()[0].busy(heavy);
        weighted.members()[1].busy(light);
        let picks = names(&weighted, &random, 50);
        assert!(picks.iter().all(|name| *name == picked), "{heavy} {light}");
    }
}

/// Each pair of distinct members is drawn equally often, so the busiest of `n` is never picked and
/// the second busiest only in the pair with the busiest.
#[test]
fn least_request_draws_every_pair() {
    let (balancer, random) = balancer(Balancing::LeastRequest, &[1; 4]);
    for member in balancer.members() {
        member.busy(member.name as u32);
    }
    let picks = names(&balancer, &random, 60_000);
    let counts = counts(&picks);
    assert_eq!(counts.get(&3), None);
    for (name, pairs) in [(0, 3), (1, 2), (2, 1)] {
        let expected = 60_000 * pairs / 6;
        assert!(counts[&name].abs_diff(expected) < 400, "{counts:?}");
    }
}

#[test]
fn f2_the_ejected_are_not_picked_and_the_others_keep_their_shares() {
    for balancing in ALL {
        let (balancer, random) = balancer(balancing.clone(), &[10, 20, 30, 40]);
        balancer.members()[3].put(true);
        // No refresh: a pick that meets an ejected member finds out by itself.
        let picks = names(&balancer, &random, 60_000);
        assert!(picks.iter().all(|name| *name != 3), "{balancing:?}");
        let found = chi_square(&picks, &[10, 20, 30]);
        assert!(found < 13.82, "{balancing:?}: {found}");
        balancer.members()[3].put(false);
        balancer.refresh();
        assert!(
            names(&balancer, &random, 1_000).contains(&3),
            "{balancing:?}"
        );
    }
}

#[test]
fn f8_health_is_ignored_below_the_panic_threshold_and_only_there() {
    for balancing in ALL {
        for threshold in [0, 1, 50, 100] {
            for out in 0..=10 {
                let random = Random::seeded(7);
                let threshold = Percent::new(threshold).unwrap();
                let members = peers(&[1; 10]);
                members[..out].iter().for_each(|member| member.put(true));
                let balancer =
                    Balancer::new(panicking(balancing.clone(), threshold), members, &random);
                let picked: std::collections::BTreeSet<_> = (0..400)
                    .filter_map(|_| Some(balancer.pick(&random, |_| false)?.name))
                    .collect();
                let panic = panics(10 - out, 10, threshold);
                let expected: std::collections::BTreeSet<_> = if panic {
                    (0..10).collect()
                } else {
                    (out..10).collect()
                };
                assert_eq!(picked, expected, "{balancing:?} {threshold:?} {out}");
                assert_eq!(
                    (balancer.panicking(), balancer.admitted()),
                    (panic, 10 - out)
                );
            }
        }
    }
}

#[test]
fn nobody_is_picked_of_none() {
    for balancing in ALL {
        let (balancer, random) = balancer(balancing.clone(), &[]);
        assert!(balancer.pick(&random, |_| false).is_none());
        balancer.refresh();
        assert!(!balancer.panicking());
    }
}

#[test]
fn avoided_members_are_picked_only_if_there_is_no_other() {
    for balancing in ALL {
        for weights in [&[1; 5][..], &[1_000_000, 1, 1, 1, 1]] {
            let (balancer, random) = balancer(balancing.clone(), weights);
            for avoided in 0..5 {
                for _ in 0..200 {
                    let avoid = |peer: &Peer| peer.name <= avoided;
                    let picked = balancer.pick(&random, avoid).unwrap().name;
                    assert!(picked > avoided || avoided == 4, "{balancing:?} {avoided}");
                }
            }
        }
    }
}

/// An endpoint that fails at once always looks idle: it gets what two draws of `n` give, not all.
#[test]
fn f15_an_idle_looking_endpoint_gets_two_picks_in_n() {
    let (balancer, random) = balancer(Balancing::LeastRequest, &[1; 10]);
    balancer.members()[1..]
        .iter()
        .for_each(|peer| peer.busy(100));
    let picks = names(&balancer, &random, 50_000);
    let sunk = counts(&picks)[&0];
    assert!(sunk.abs_diff(10_000) < 400, "{sunk}");
}

#[test]
fn threads_that_eject_and_refresh_at_once_leave_an_exact_index() {
    let (balancer, random) = balancer(Balancing::LeastRequest, &[1; 64]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (balancer, random) = (&balancer, &random);
            scope.spawn(move || {
                for member in balancer.members().iter().skip(thread).step_by(4) {
                    member.put(member.name % 8 != 0);
                    balancer.refresh();
                    assert!(balancer.pick(random, |_| false).is_some());
                }
            });
        }
    });
    assert_eq!(balancer.admitted(), 8);
    assert!(
        names(&balancer, &random, 1_000)
            .iter()
            .all(|name| name % 8 == 0)
    );
}

proptest! {
    #![proptest_config(crate::random::properties(256))]

    /// Whatever the members, health and wishes are: a pick is admitted, avoids what it can among a
    /// few, and there is one if and only if somebody is admitted.
    #[test]
    fn a_pick_is_always_one_that_may_be_picked(
        peers_of in prop::collection::vec((1_u32..100, any::<bool>(), any::<bool>()), 0..20),
        balancing in prop::sample::select(ALL.to_vec()),
        threshold in 0_u32..=100,
        seed in any::<u64>(),
    ) {
        let weights: Vec<_> = peers_of.iter().map(|peer| peer.0).collect();
        let members = peers(&weights);
        let random = Random::seeded(seed);
        let threshold = Percent::new(threshold).unwrap();
        let balancer = Balancer::new(panicking(balancing.clone(), threshold), members, &random);
        for (member, (_, out, _)) in balancer.members().iter().zip(&peers_of) {
            member.put(*out);
        }
        balancer.refresh();
        let admitted = peers_of.iter().filter(|peer| !peer.1).count();
        let panic = panics(admitted, peers_of.len(), threshold);
        let may = |peer: &(u32, bool, bool)| panic || !peer.1;
        for _ in 0..20 {
            let picked = balancer.pick(&random, |peer| peers_of[peer.name].2);
            prop_assert_eq!(picked.is_some(), peers_of.iter().any(may));
            let Some(picked) = picked else { continue };
            let found = &peers_of[picked.name];
            prop_assert!(may(found));
            prop_assert!(!found.2 || peers_of.iter().filter(|peer| may(peer)).all(|peer| peer.2));
        }
    }
}
