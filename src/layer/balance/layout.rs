//! Who stands where: members by priority and locality, as far as this client uses them.

use super::Candidate;
use super::hash::hash;
use super::slots::Slots;
use crate::model::balancing::{LocalityWeights, Spread};

/// The members of one priority that may ever be picked.
#[derive(Debug)]
pub(super) struct Priority {
    pub(super) number: u32,
    /// Whether localities have shares by their weights here.
    pub(super) weighed: bool,
    /// One for each locality with a weight, if weights are in force; else one for all.
    pub(super) groups: Vec<Group>,
}

/// Members that share one weight.
#[derive(Debug)]
pub(super) struct Group {
    /// Which locality that is, if weights are in force.
    pub(super) locality: u32,
    /// Its share among its priority.
    pub(super) weight: u32,
    /// The members, by their numbers.
    pub(super) members: Vec<u32>,
}

/// The priorities in their order, without gaps: O(members), with a sort where there is more than
/// one priority or locality.
///
/// `seed` is what makes this client choose another subset than the next one.
pub(super) fn layout<E: Candidate>(
    members: &Slots<E>,
    spread: &Spread,
    seed: u64,
) -> Vec<Priority> {
    let placement = |number: &u32| {
        let member = members.get(*number);
        member.map(|member| member.placement()).unwrap_or_default()
    };
    let mut order: Vec<u32> = members.iter().map(|(number, _)| number).collect();
    let priority = |number: &u32| placement(number).priority;
    if !order.is_sorted_by_key(&priority) {
        order.sort_by_key(priority);
    }
    let priorities = order.chunk_by(|one, other| priority(one) == priority(other));
    let priorities = priorities.map(|all| {
        let number = priority(&all[0]);
        let mut all = subset(members, all, spread, seed);
        let locality = |number: &u32| placement(number).locality;
        let weighed = match spread.localities {
            LocalityWeights::Ignored => false,
            LocalityWeights::InForce => all.iter().any(|one| placement(one).weight > 0),
        };
        let groups = if weighed {
            all.sort_by_key(locality);
            let groups = all.chunk_by(|one, other| locality(one) == locality(other));
            let groups = groups.map(|members| Group {
                locality: locality(&members[0]),
                weight: placement(&members[0]).weight,
                members: members.into(),
            });
            groups.filter(|group| group.weight > 0).collect()
        } else {
            vec![Group {
                locality: 0,
                weight: 1,
                members: all,
            }]
        };
        Priority {
            number,
            weighed,
            groups,
        }
    });
    priorities.collect()
}

/// The members of a priority that this client uses, in their order.
///
/// Rendezvous hashing (gRPC A68): each member has a place in an order that is this client's own,
/// and the first ones are used. One member more or less moves one in or out.
fn subset<E: Candidate>(members: &Slots<E>, all: &[u32], spread: &Spread, seed: u64) -> Vec<u32> {
    let mut chosen = all.to_vec();
    let Some(size) = spread.subset.map(|size| size.get() as usize) else {
        return chosen;
    };
    if size < chosen.len() {
        let key = |number: &u32| members.get(*number).map_or("", |member| member.key());
        chosen.sort_by_cached_key(|number| (hash(key(number), seed), *number));
        chosen.truncate(size);
        chosen.sort_unstable();
    }
    chosen
}
