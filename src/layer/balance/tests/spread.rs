//! Priorities, localities, subsets.

use std::collections::BTreeSet;

use super::*;
use crate::model::balancing::LocalityWeights;

/// `count` members at a place.
fn at(first: usize, count: usize, priority: u32, locality: u32, weight: u32) -> Vec<Arc<Peer>> {
    let placement = Placement {
        priority,
        locality,
        weight,
    };
    let names = first..first + count;
    names.map(|name| peer(name, 1, placement)).collect()
}

/// How many of `picks` fall on the members from `first` on.
fn share(counts: &BTreeMap<usize, usize>, first: usize, count: usize) -> usize {
    counts
        .range(first..first + count)
        .map(|(_, picks)| picks)
        .sum()
}

fn weighted(balancing: Balancing) -> Rules {
    let mut rules = Rules::from(balancing);
    rules.spread.localities = LocalityWeights::InForce;
    rules
}

#[test]
fn f12_traffic_spills_to_the_next_priority_by_the_formula_and_returns() {
    let all = [ALL.as_slice(), &super::hash::rings()].concat();
    for balancing in all {
        // Numbers of priorities may have gaps.
        let mut members = at(0, 10, 0, 0, 1);
        members.extend(at(10, 10, 7, 1, 1));
        let random = Random::seeded(1);
        let balancer = Balancer::new(balancing.clone(), members, &random);
        for (out, expected) in [
            (0, 100),
            (2, 100),
            (3, 98),
            (5, 70),
            (9, 14),
            (10, 0),
            (1, 100),
        ] {
            for member in &balancer.members()[..10] {
                member.put(member.name < out);
            }
            balancer.refresh();
            let picks = counts(&names(&balancer, &random, 20_000));
            let found = share(&picks, 0, 10) as i64;
            let expected = expected * 200;
            assert!(
                (found - expected).abs() < 300,
                "{balancing:?} {out}: {found}"
            );
        }
    }
}

#[test]
fn an_ejection_fails_over_at_once() {
    let mut members = at(0, 1, 0, 0, 1);
    members.extend(at(1, 1, 1, 1, 1));
    let random = Random::seeded(1);
    let balancer = Balancer::new(Balancing::LeastRequest, members, &random);
    assert_eq!(names(&balancer, &random, 50), vec![0; 50]);
    balancer.members()[0].put(true);
    // No refresh: the first pick finds out.
    assert_eq!(names(&balancer, &random, 50), vec![1; 50]);
}

#[test]
fn a_priority_panics_alone() {
    let mut members = at(0, 10, 0, 0, 1);
    members.extend(at(10, 10, 1, 1, 1));
    members[..9].iter().for_each(|member| member.put(true));
    members[10..15].iter().for_each(|member| member.put(true));
    let random = Random::seeded(1);
    let threshold = Percent::new(30).unwrap();
    let rules = panicking(Balancing::RoundRobin, threshold);
    let balancer = Balancer::new(rules, members, &random);
    // 14 % and 70 % can be served: 16 % and 83 % of the traffic, and the rest to the first.
    let picked: BTreeSet<_> = names(&balancer, &random, 4_000).into_iter().collect();
    let expected: BTreeSet<_> = (0..10).chain(15..20).collect();
    assert_eq!(picked, expected);
    assert!(balancer.panicking());
}

#[test]
fn localities_have_the_shares_of_their_weights_and_health() {
    for balancing in ALL {
        let mut members = at(0, 2, 0, 0, 70);
        members.extend(at(2, 10, 0, 1, 30));
        members.extend(at(12, 3, 0, 2, 0));
        let random = Random::seeded(1);
        let balancer = Balancer::new(weighted(balancing.clone()), members, &random);
        let picks = counts(&names(&balancer, &random, 50_000));
        assert!(
            share(&picks, 0, 2).abs_diff(35_000) < 500,
            "{balancing:?} {picks:?}"
        );
        assert_eq!(
            share(&picks, 12, 3),
            0,
            "without a weight there is no share"
        );
        // Half of the first is out: it can serve 0.5 x 1.4 of its 70.
        balancer.members()[0].put(true);
        balancer.refresh();
        let picks = counts(&names(&balancer, &random, 50_000));
        let expected = 50_000 * 49 / 79;
        assert!(
            share(&picks, 0, 2).abs_diff(expected) < 500,
            "{balancing:?} {picks:?}"
        );
    }
}

#[test]
fn a_retry_leaves_a_locality_before_it_repeats_an_endpoint() {
    let mut members = at(0, 1, 0, 0, 1_000_000);
    members.extend(at(1, 1, 0, 1, 1));
    let random = Random::seeded(1);
    let balancer = Balancer::new(weighted(Balancing::LeastRequest), members, &random);
    for _ in 0..100 {
        let picked = balancer.pick(&random, |peer| peer.name == 0).unwrap();
        assert_eq!(picked.name, 1);
    }
}

fn subset_of(seed: u64, members: Vec<Arc<Peer>>, size: u32) -> (Balancer<Peer>, BTreeSet<usize>) {
    let random = Random::seeded(seed);
    let mut rules = Rules::from(Balancing::RoundRobin);
    rules.spread.subset = NonZeroU32::new(size);
    let balancer = Balancer::new(rules, members, &random);
    let subset = names(&balancer, &random, 200).into_iter().collect();
    (balancer, subset)
}

#[test]
fn f13_one_endpoint_changes_at_most_one_of_a_subset() {
    for seed in 0..40 {
        let members = peers(&[1; 60]);
        let (balancer, before) = subset_of(seed, members.clone(), 10);
        assert_eq!(before.len(), 10);
        let rules = balancer.rules().clone();
        for removed in 0..60 {
            let mut fewer = members.clone();
            fewer.remove(removed);
            let after = balancer.succeed(rules.clone(), fewer);
            let random = Random::seeded(seed);
            let after: BTreeSet<_> = names(&after, &random, 200).into_iter().collect();
            let lost = before.difference(&after).count();
            assert_eq!(
                lost,
                usize::from(before.contains(&removed)),
                "{seed} {removed}"
            );
            assert_eq!(after.len(), 10);
        }
    }
}

/// Each of 100 endpoints is used by 10 % of the clients, give or take 4.5 standard deviations.
#[test]
fn f13_subsets_of_many_clients_spread_over_all() {
    let mut load = BTreeMap::new();
    let members = peers(&[1; 100]);
    for seed in 0..1_000 {
        let (_, subset) = subset_of(seed * 7_919, members.clone(), 10);
        subset
            .iter()
            .for_each(|name| *load.entry(*name).or_insert(0_u32) += 1);
    }
    assert_eq!(load.len(), 100);
    assert!(
        load.values().all(|clients| clients.abs_diff(100) <= 43),
        "{load:?}"
    );
}

#[test]
fn sessions_find_the_admitted_by_their_key() {
    let (balancer, _) = balancer(Balancing::Random, &[1; 300]);
    for member in balancer.members() {
        assert_eq!(balancer.named(&member.key).unwrap().name, member.name);
    }
    assert!(balancer.named("10.9.9.9:80").is_none());
    balancer.members()[7].put(true);
    assert!(balancer.named("10.0.0.7:80").is_none());
}
