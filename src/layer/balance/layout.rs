//! Who stands where: members by priority and locality, as far as this client uses them.

use std::sync::Arc;

use super::Candidate;
use super::hash::hash;
use crate::model::balancing::{LocalityWeights, Spread};

/// The members that may ever be picked. It changes with the members, not with their health.
#[derive(Debug)]
pub(super) struct Layout {
    /// In the order of priority, without gaps.
    pub(super) priorities: Box<[Priority]>,
}

/// The members of one priority.
#[derive(Debug)]
pub(super) struct Priority {
    /// One for each locality with a weight, if weights are in force; else one for all.
    pub(super) groups: Box<[Group]>,
}

/// Members that share one weight.
#[derive(Debug)]
pub(super) struct Group {
    /// Its share among its priority.
    pub(super) weight: u32,
    /// The members, by their place in the balancer's list.
    pub(super) members: Box<[u32]>,
}

impl Layout {
    /// O(members), with a sort where there is more than one priority or locality.
    ///
    /// `seed` is what makes this client choose another subset than the next one.
    pub(super) fn new<E: Candidate>(members: &[Arc<E>], spread: &Spread, seed: u64) -> Self {
        // Members are counted by `u32`; see `Balancer::new`.
        let mut order: Vec<u32> = (0..members.len() as u32).collect();
        let placement = |place: &u32| members[*place as usize].placement();
        let priority = |place: &u32| placement(place).priority;
        if !order.is_sorted_by_key(&priority) {
            order.sort_by_key(priority);
        }
        let priorities = order.chunk_by(|one, other| priority(one) == priority(other));
        let priorities = priorities.map(|all| {
            let mut all = subset(members, all, spread, seed);
            let locality = |place: &u32| placement(place).locality;
            let weighed = match spread.localities {
                LocalityWeights::Ignored => false,
                LocalityWeights::InForce => all.iter().any(|one| placement(one).weight > 0),
            };
            if !weighed {
                let group = Group {
                    weight: 1,
                    members: all.into(),
                };
                return Priority {
                    groups: Box::new([group]),
                };
            }
            all.sort_by_key(locality);
            let groups = all.chunk_by(|one, other| locality(one) == locality(other));
            let groups = groups.map(|members| Group {
                weight: placement(&members[0]).weight,
                members: members.into(),
            });
            Priority {
                groups: groups.filter(|group| group.weight > 0).collect(),
            }
        });
        Self {
            priorities: priorities.collect(),
        }
    }
}

/// The members of a priority that this client uses, in their order.
///
/// Rendezvous hashing (gRPC A68): each member has a place in an order that is this client's own,
/// and the first ones are used. One member more or less moves one in or out.
fn subset<E: Candidate>(members: &[Arc<E>], all: &[u32], spread: &Spread, seed: u64) -> Vec<u32> {
    let mut chosen = all.to_vec();
    let Some(size) = spread.subset.map(|size| size.get() as usize) else {
        return chosen;
    };
    if size < chosen.len() {
        chosen.sort_by_cached_key(|place| (hash(members[*place as usize].key(), seed), *place));
        chosen.truncate(size);
        chosen.sort_unstable();
    }
    chosen
}
