//! One priority: its members in pools, and how much each locality gets.

use tokio::time::Instant;

use super::first;
use super::index::{NOWHERE, Spot};
use super::layout::Priority;
use super::loads::{Health, capacity};
use super::pool::{Pool, Seat, below};
use super::shares::Shares;
use super::slots::Slots;
use super::{Candidate, Rules};
use crate::model::balancing::WeightedRoundRobin;
use crate::model::cluster::Balancing;
use crate::random::Random;

/// Reported weights are made whole numbers with the largest at this one, as in gRPC.
const WEIGHT_SCALE: f64 = 65_535.0;

/// One priority.
#[derive(Clone, Debug)]
pub(super) struct Tier {
    pub(super) priority: u32,
    /// Whether its localities have shares by weight.
    pub(super) weighed: bool,
    /// Its share of a hundred ends here; it begins where the one before ends.
    pub(super) end: u32,
    /// Whether health is ignored.
    pub(super) panic: bool,
    /// All members, admitted or not.
    pub(super) all: Pool,
    /// The weight that a member has among all before it has reported one.
    pub(super) unreported: u32,
    pub(super) groups: Box<[Located]>,
    /// The groups that have somebody admitted, and their shares; `None` if all are the same.
    pub(super) served: Box<[usize]>,
    pub(super) shares: Option<Shares>,
}

/// The members of a priority that share one weight.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) locality: u32,
    pub(super) weight: u32,
    pub(super) size: u32,
    pub(super) admitted: Pool,
    /// The weight that a member has here before it has reported one.
    pub(super) unreported: u32,
}

impl Tier {
    /// Puts the members of a priority into pools; `spots` knows who of them is admitted. The tier has
    /// this number, the pools have numbers from the other one on.
    pub(super) fn new<E: Candidate>(
        (number, pools): (usize, usize),
        priority: Priority,
        (members, rules, seed): (&Slots<E>, &Rules, u64),
        spots: &mut [Spot],
    ) -> Self {
        // Where there is an order an index is never changed, so that places in pools are not looked at.
        let arranged = |numbers: &mut Vec<u32>| {
            if let Balancing::PickFirst(own) = rules.balancing {
                first::arrange(numbers, members, own, seed);
            }
        };
        let mut everybody = Vec::new();
        let mut groups = Vec::new();
        for (place, group) in priority.groups.into_iter().enumerate() {
            let mut admitted = Vec::new();
            for member in &group.members {
                let spot = &mut spots[*member as usize];
                (spot.tier, spot.group) = (number as u32, place as u32);
                spot.all = everybody.len() as u32;
                everybody.push(*member);
                if spot.admitted != NOWHERE {
                    spot.admitted = admitted.len() as u32;
                    admitted.push(*member);
                }
            }
            arranged(&mut admitted);
            let (seats, unreported) = seats(&admitted, members, rules);
            groups.push(Located {
                locality: group.locality,
                weight: group.weight,
                size: group.members.len() as u32,
                admitted: Pool::new(pools + place, seats.into_iter()),
                unreported,
            });
        }
        arranged(&mut everybody);
        let (seats, unreported) = seats(&everybody, members, rules);
        Self {
            priority: priority.number,
            weighed: priority.weighed,
            end: 0,
            panic: false,
            // Whoever is drawn from all is not drawn from a group at the same time.
            all: Pool::new(pools, seats.into_iter()),
            unreported,
            groups: groups.into(),
            served: Box::default(),
            shares: None,
        }
    }

    pub(super) fn health(&self) -> Health {
        Health {
            admitted: self
                .groups
                .iter()
                .map(|group| group.admitted.len() as u32)
                .sum(),
            total: self.all.len() as u32,
        }
    }

    pub(super) fn settle(&mut self, factor: u32) {
        self.all.settle();
        self.groups
            .iter_mut()
            .for_each(|group| group.admitted.settle());
        let groups = self.groups.iter().enumerate();
        let served = groups.filter(|(_, group)| !group.admitted.is_empty());
        self.served = served.map(|(at, _)| at).collect();
        let weights: Vec<u64> = self
            .served()
            .map(|group| {
                let health = Health {
                    admitted: group.admitted.len() as u32,
                    total: group.size,
                };
                u64::from(group.weight) * u64::from(capacity(health, factor))
            })
            .collect();
        self.shares = Shares::new(&narrowed(&weights));
    }

    fn served(&self) -> impl Iterator<Item = &Located> {
        self.served.iter().map(|at| &self.groups[*at])
    }

    pub(super) fn is_empty(&self) -> bool {
        if self.panic {
            self.all.is_empty()
        } else {
            self.served.is_empty()
        }
    }

    /// Draws a pool by weight. The tier is not empty.
    pub(super) fn pool(&self, random: &Random) -> &Pool {
        if self.panic {
            // Envoy's rule: where health is ignored, so are the shares of localities.
            return &self.all;
        }
        let at = match (&*self.served, &self.shares) {
            ([only], _) => *only,
            (served, Some(shares)) => served[shares.owner(below(random, shares.total()))],
            (served, None) => served[random.below(served.len() as u32) as usize],
        };
        &self.groups[at].admitted
    }

    /// The pools that can be drawn.
    pub(super) fn pools(&self) -> impl Iterator<Item = &Pool> {
        let all = self.panic.then_some(&self.all);
        let served = self.served().map(|group| &group.admitted);
        all.into_iter().chain(served.filter(|_| !self.panic))
    }

    /// A pool that is the same for the same key.
    pub(super) fn keyed(&self, key: u64) -> &Pool {
        if self.panic {
            return &self.all;
        }
        let at = self.served[(key % self.served.len() as u64) as usize];
        &self.groups[at].admitted
    }
}

fn since<E: Candidate>(member: &E, rules: &Rules) -> Option<Instant> {
    rules.spread.slow_start?;
    Some(member.signals()?.since())
}

impl Located {
    /// Puts in one who is admitted; returns its place.
    pub(super) fn push<E: Candidate>(&mut self, number: u32, member: &E, rules: &Rules) -> u32 {
        let seat = seat(number, member, rules, self.unreported);
        self.admitted.push(seat) as u32
    }
}

pub(super) fn seat<E: Candidate>(number: u32, member: &E, rules: &Rules, unreported: u32) -> Seat {
    Seat {
        member: number,
        weight: match &rules.balancing {
            // What it reports is looked at when all are.
            Balancing::WeightedRoundRobin(_) => unreported,
            Balancing::LeastRequest
            | Balancing::Maglev(_)
            | Balancing::PeakEwma(_)
            | Balancing::PickFirst(_)
            | Balancing::Random
            | Balancing::RingHash(_)
            | Balancing::RoundRobin => member.weight().get(),
        },
        since: since(member, rules),
    }
}

/// The members with what they weigh, and what one weighs who has reported nothing.
fn seats<E: Candidate>(numbers: &[u32], members: &Slots<E>, rules: &Rules) -> (Vec<Seat>, u32) {
    let all = numbers
        .iter()
        .filter_map(|number| Some((*number, members.get(*number)?)));
    let mut seats: Vec<Seat> = all
        .clone()
        .map(|(number, member)| seat(number, &**member, rules, 1))
        .collect();
    let mut unreported = 1;
    if let Balancing::WeightedRoundRobin(reports) = &rules.balancing {
        let weights;
        (weights, unreported) = reported(all.map(|(_, member)| &**member), reports);
        for (seat, weight) in seats.iter_mut().zip(weights) {
            seat.weight = weight;
        }
    }
    (seats, unreported)
}

/// The weights that members report, made whole, and that of those without one, which is the
/// average of the others; all are the same while fewer than two have one (gRPC A58).
fn reported<'a, E: Candidate + 'a>(
    members: impl Iterator<Item = &'a E>,
    rules: &WeightedRoundRobin,
) -> (Vec<u32>, u32) {
    let now = Instant::now();
    let weights: Vec<Option<f64>> = members
        .map(|member| member.signals()?.weight(rules, now))
        .collect();
    let known = || weights.iter().flatten().copied();
    let count = known().count();
    if count < 2 {
        return (vec![1; weights.len()], 1);
    }
    let largest = known().fold(0.0, f64::max);
    // Divided before they are added, so that huge ones do not overflow.
    let average = known().map(|weight| weight / largest).sum::<f64>() / count as f64;
    // From 1 to 65,535: nobody is starved for good, or it could never report better.
    let whole = |share: f64| (share * WEIGHT_SCALE).round().max(1.0) as u32;
    let shares = weights
        .iter()
        .map(|weight| weight.map_or(average, |weight| weight / largest));
    (shares.map(whole).collect(), whole(average))
}

/// Weights that fit, in the same proportions as far as that can be.
fn narrowed(weights: &[u64]) -> Vec<u32> {
    let most = weights.iter().copied().max().unwrap_or(0);
    let shift = (u64::BITS - most.leading_zeros()).saturating_sub(u32::BITS);
    let narrow = |weight: &u64| u32::try_from((weight >> shift).max(1)).unwrap_or(u32::MAX);
    weights.iter().map(narrow).collect()
}
