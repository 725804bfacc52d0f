//! Members that come and go one at a time: what that leads to is what making it anew leads to.

use super::*;
use crate::model::balancing::{
    LoadBound, LocalityWeights, Maglev, PickFirst, RingHash, WeightedRoundRobin,
};

/// One step in the life of a cluster.
#[derive(Clone, Debug)]
enum Step {
    Eject(usize, bool),
    Join {
        name: usize,
        weight: u32,
        placement: Placement,
    },
    Leave(usize),
    /// As an edit of weight or place: the old member goes, another with its key comes.
    Replace(usize, u32, Placement),
}

fn step() -> impl Strategy<Value = Step> {
    let placement = (0_u32..2, 0_u32..3).prop_map(|(priority, locality)| Placement {
        priority,
        locality,
        // A locality without a weight, and two with one of their own.
        weight: locality * 10,
    });
    let weight = prop_oneof![4 => Just(1_u32), 1 => Just(2_u32), 1 => 1_u32..9];
    prop_oneof![
        (any::<usize>(), any::<bool>()).prop_map(|(at, out)| Step::Eject(at, out)),
        (0_usize..400, weight.clone(), placement.clone()).prop_map(|(name, weight, placement)| {
            Step::Join {
                name,
                weight,
                placement,
            }
        }),
        any::<usize>().prop_map(Step::Leave),
        (any::<usize>(), weight, placement)
            .prop_map(|(at, weight, placement)| { Step::Replace(at, weight, placement) }),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    let bounded = RingHash::new(8, 4_000)
        .unwrap()
        .bounded(LoadBound::new(150).unwrap());
    let balancing = prop::sample::select(vec![
        Balancing::LeastRequest,
        Balancing::Maglev(Maglev::new(251).unwrap()),
        Balancing::PickFirst(PickFirst { shuffle: true }),
        Balancing::RingHash(RingHash::new(64, 4_000).unwrap()),
        Balancing::RingHash(bounded),
        Balancing::RoundRobin,
        Balancing::WeightedRoundRobin(WeightedRoundRobin::default()),
    ]);
    let localities = prop::sample::select(vec![LocalityWeights::Ignored, LocalityWeights::InForce]);
    let subset = prop_oneof![9 => Just(None), 1 => Just(NonZeroU32::new(3))];
    (
        balancing,
        localities,
        subset,
        prop::sample::select(vec![0_u32, 50]),
    )
        .prop_map(|(balancing, localities, subset, threshold)| {
            let mut rules = panicking(balancing.clone(), Percent::new(threshold).unwrap());
            rules.spread.localities = localities;
            rules.spread.subset = subset;
            rules
        })
}

/// Does a step with a balancer and with the list of those that are in it.
fn walk(balancer: &Balancer<Peer>, members: &mut Vec<Arc<Peer>>, step: &Step) {
    let at = |at: usize| at % members.len();
    match step {
        Step::Join {
            name,
            weight,
            placement,
        } => {
            let new = peer(*name, *weight, *placement);
            members.push(new.clone());
            balancer.change(&[], vec![new]);
        }
        Step::Eject(..) | Step::Leave(_) | Step::Replace(..) if members.is_empty() => {}
        Step::Eject(number, out) => {
            let member = &members[at(*number)];
            member.put(*out);
            balancer.refresh_named([member.key()]);
        }
        Step::Leave(number) => {
            let old = members.swap_remove(at(*number));
            balancer.change(&[old], Vec::new());
        }
        Step::Replace(number, weight, placement) => {
            let number = at(*number);
            let new = peer(members[number].name, *weight, *placement);
            let old = std::mem::replace(&mut members[number], new.clone());
            balancer.change(&[old], vec![new]);
        }
    }
}

fn owner(balancer: &Balancer<Peer>, key: u64) -> Option<(String, u32)> {
    let ask = Ask {
        key: Some(key),
        in_flight: 0,
        leave: 0,
    };
    let picked = balancer.pick_for(ask, &Random::seeded(1), |_| false)?;
    Some((picked.key.clone(), picked.weight.get()))
}

proptest! {
    #![proptest_config(crate::random::properties(256))]

    #[test]
    fn a_changed_balancer_is_the_one_that_is_made_anew(
        rules in rules(),
        begin in prop::collection::vec(step(), 0..80),
        steps in prop::collection::vec(step(), 0..30),
    ) {
        let random = Random::seeded(5);
        let mut members = Vec::new();
        let balancer = Balancer::new(rules.clone(), Vec::new(), &random);
        // A first stretch at once, the rest one by one.
        begin.iter().for_each(|step| walk(&balancer, &mut members, step));
        let balancer = balancer.succeed(rules.clone(), members.clone());
        for step in &steps {
            walk(&balancer, &mut members, step);
            // With the seed of this client, which chooses the subset.
            let anew = balancer.succeed(rules.clone(), members.clone());
            let (changed, made) = (balancer.state.load(), anew.state.load());
            prop_assert_eq!(changed.picture(), made.picture());
            prop_assert_eq!(balancer.len(), members.len());
            for member in &members {
                prop_assert!(balancer.all_named(&member.key).iter().any(|one| Arc::ptr_eq(one, member)));
            }
            if balancer.hashes() && members.iter().all(|member| {
                members.iter().filter(|other| other.key == member.key).count() == 1
            }) {
                for key in 0..40_u64 {
                    let key = HashKey::of(key.to_le_bytes()).0;
                    prop_assert_eq!(owner(&balancer, key), owner(&anew, key));
                }
            }
        }
    }
}

/// What a request began with it can finish with, whoever leaves.
#[test]
fn a_fork_goes_its_own_way() {
    for balancing in [&ALL[..], &super::hash::rings()].concat() {
        let members = peers(&[1; 40]);
        let before = Balancer::new(balancing.clone(), members.clone(), &Random::seeded(1));
        let after = before.fork();
        after.change(&members[1..], vec![peer(99, 1, Placement::default())]);
        let random = Random::seeded(2);
        let picked = counts(&names(&before, &random, 4_000));
        assert_eq!(picked.len(), 40, "{balancing:?}");
        let picked: Vec<_> = counts(&names(&after, &random, 400)).into_keys().collect();
        assert_eq!(picked, [0, 99], "{balancing:?}");
    }
}

#[test]
fn who_is_not_there_is_not_taken_out() {
    let (balancer, random) = balancer(Balancing::RoundRobin, &[1; 3]);
    balancer.change(&[peer(1, 1, Placement::default())], Vec::new());
    assert_eq!(counts(&names(&balancer, &random, 30)).len(), 3);
    let gone = balancer.members();
    balancer.change(&gone, Vec::new());
    assert!(balancer.is_empty() && balancer.pick(&random, |_| false).is_none());
    balancer.change(&[], gone);
    assert_eq!(counts(&names(&balancer, &random, 30)).len(), 3);
}

/// Picks, changes and ejections at once: a pick is always one of those that never left.
#[test]
fn picks_find_somebody_while_others_come_and_go() {
    for balancing in [&ALL[..], &super::hash::rings()[..1]].concat() {
        let staying = peers(&[1; 50]);
        let balancer = Balancer::new(balancing.clone(), staying.clone(), &Random::seeded(1));
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let balancer = &balancer;
                scope.spawn(move || {
                    let random = Random::seeded(thread);
                    for _ in 0..4_000 {
                        let key = Some(random.draw());
                        let ask = Ask {
                            key,
                            in_flight: 0,
                            leave: 0,
                        };
                        let picked = balancer.pick_for(ask, &random, |_| false);
                        assert!(picked.is_some());
                    }
                });
            }
            for round in 0..400 {
                let guest = peer(100 + round, 1, Placement::default());
                balancer.change(&[], vec![guest.clone()]);
                guest.put(round % 2 == 0);
                balancer.refresh_named([guest.key()]);
                balancer.change(&[guest], Vec::new());
            }
        });
        assert_eq!((balancer.len(), balancer.admitted()), (50, 50));
    }
}

/// Numbers that members have left are used again, so that coming and going leaves nothing behind.
#[test]
fn a_long_life_leaves_nothing_behind() {
    let ring = Balancing::RingHash(RingHash::new(16, 4_000).unwrap());
    for balancing in [Balancing::LeastRequest, ring] {
        let (balancer, _) = balancer(balancing.clone(), &[1; 100]);
        let size = || balancer.state.load().size();
        let before = size();
        for round in 0..5_000 {
            let guest = peer(1_000 + round, 1, Placement::default());
            balancer.change(&[], vec![guest.clone()]);
            balancer.change(&[guest], Vec::new());
        }
        // One number more, for the guest.
        assert_eq!(size(), (before.0 + 1, before.1), "{balancing:?}");
        let all = balancer.members();
        balancer.change(&all[1..], Vec::new());
        assert!(size().0 < 65, "{:?}", size());
    }
}
