//! Who can be picked: the admitted members in pools, by priority and locality.
//!
//! An index is a value; whoever changes one works on a copy that shares what it leaves alone. A
//! member that comes, goes, is ejected or is back costs O(log members) and a look at each priority
//! and locality. What changes more than that (a locality that comes, goes or has another weight, a
//! subset, weights that are reported) makes it anew: [`Anew`].

use std::time::Duration;

use tokio::time::Instant;

use super::layout::{Group, layout};
use super::loads::loads;
use super::slots::Slots;
use super::tier::{Located, Tier, seat};
use super::{Candidate, Placement, Rules};
use crate::list::tree::Tree;
use crate::model::balancing::LocalityWeights;
use crate::model::cluster::Balancing;

/// No pool, no place.
pub(super) const NOWHERE: u32 = u32::MAX;

/// The members that may be picked, at the time it was made.
#[derive(Clone, Debug)]
pub(super) struct Index {
    tiers: Box<[Tier]>,
    /// Where each member is, by its number.
    spots: Tree<Spot, ()>,
    /// How many members are admitted.
    admitted: usize,
    /// When reported weights are to be looked at again; `None` if there are none.
    pub(super) due: Option<Instant>,
}

/// Where a member is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// Its tier and group; [`NOWHERE`] if this client does not use it.
    pub(super) tier: u32,
    pub(super) group: u32,
    /// Its place among all of the tier.
    pub(super) all: u32,
    /// Its place among the admitted of the group; [`NOWHERE`] if it is not admitted.
    pub(super) admitted: u32,
}

/// A change that needs another index than one that goes on from this one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Anew;

impl Index {
    /// O(members): looks at each one. Who is admitted and was not `before` begins anew.
    pub(super) fn new<E: Candidate>(
        members: &Slots<E>,
        rules: &Rules,
        seed: u64,
        before: Option<&Self>,
    ) -> Self {
        let due = match &rules.balancing {
            Balancing::WeightedRoundRobin(reports) => {
                Instant::now().checked_add(reports.update.max(Duration::from_millis(100)))
            }
            Balancing::LeastRequest
            | Balancing::Maglev(_)
            | Balancing::PeakEwma(_)
            | Balancing::PickFirst(_)
            | Balancing::Random
            | Balancing::RingHash(_)
            | Balancing::RoundRobin => None,
        };
        let mut index = Self {
            tiers: Box::default(),
            spots: Tree::new(),
            admitted: 0,
            due,
        };
        let numbers = members
            .iter()
            .last()
            .map_or(0, |(last, _)| last as usize + 1);
        let mut spots = vec![Spot::ABSENT; numbers];
        // Health is read once for each member, so that counts and pools agree.
        for (number, member) in members.iter() {
            if !member.admitted() {
                continue;
            }
            index.admitted += 1;
            spots[number as usize].admitted = 0;
            if before.is_some_and(|before| !before.is_admitted(number)) {
                restart(&**member);
            }
        }
        let mut pools = 0;
        let tiers = layout(members, &rules.spread, seed).into_iter().enumerate();
        let tiers = tiers.map(|(tier, priority)| {
            let first = pools;
            pools += priority.groups.len();
            Tier::new((tier, first), priority, (members, rules, seed), &mut spots)
        });
        index.tiers = tiers.collect();
        index.spots = spots.into_iter().collect();
        index.settle(rules);
        index
    }

    pub(super) fn panic(&self) -> bool {
        self.tiers.iter().any(|tier| tier.panic)
    }

    pub(super) fn admitted(&self) -> usize {
        self.admitted
    }

    pub(super) fn is_admitted(&self, number: u32) -> bool {
        let spot = self.spots.get(number as usize);
        spot.is_some_and(|spot| spot.admitted != NOWHERE)
    }

    /// The priority that a hundredth, below 100, falls on, and its number; `None` if nobody can be
    /// picked. Those whose bit is in `leave` are left out, if that leaves one.
    pub(super) fn tier(
        &self,
        leave: u64,
        hundredth: impl FnOnce() -> u32,
    ) -> Option<(usize, &Tier)> {
        if leave != 0
            && let Some(other) = self.tier_but(leave)
        {
            return Some(other);
        }
        let number = match &*self.tiers {
            [_] => 0,
            tiers => {
                let hundredth = hundredth();
                tiers.iter().position(|tier| hundredth < tier.end)?
            }
        };
        let tier = self.tiers.get(number)?;
        (!tier.is_empty()).then_some((number, tier))
    }

    /// The first priority that is not left out and has somebody who is well.
    fn tier_but(&self, leave: u64) -> Option<(usize, &Tier)> {
        let left = |number: usize| leave & (1 << number.min(63)) == 0;
        let mut tiers = self.tiers.iter().enumerate();
        tiers.find(|(number, tier)| left(*number) && !tier.panic && !tier.is_empty())
    }

    /// Which tier a member is in.
    pub(super) fn tier_of(&self, number: u32) -> Option<usize> {
        let spot = self.spots.get(number as usize)?;
        (spot.tier != NOWHERE).then_some(spot.tier as usize)
    }

    /// The groups of each tier, with all their members.
    pub(super) fn groups(&self) -> impl Iterator<Item = Vec<Group>> {
        self.tiers.iter().map(|tier| {
            let empty = |located: &Located| Group {
                locality: located.locality,
                weight: located.weight,
                members: Vec::with_capacity(located.size as usize),
            };
            let mut groups: Vec<Group> = tier.groups.iter().map(empty).collect();
            for seat in tier.all.iter() {
                let spot = self.spots.get(seat.member as usize);
                let group = spot.and_then(|spot| groups.get_mut(spot.group as usize));
                if let Some(group) = group {
                    group.members.push(seat.member);
                }
            }
            groups
        })
    }

    // === Changes, each to be followed by `settle` ===

    /// A member has come, under a number that nobody has.
    pub(super) fn join<E: Candidate>(
        &mut self,
        number: u32,
        member: &E,
        rules: &Rules,
    ) -> Result<(), Anew> {
        if rules.spread.subset.is_some() {
            return Err(Anew);
        }
        let mut spot = self.place(member.placement(), rules)?;
        let admitted = member.admitted();
        self.admitted += usize::from(admitted);
        if admitted {
            spot.admitted = 0;
        }
        if let Some((tier, group)) = self.located(spot) {
            spot.all = tier.all.push(seat(number, member, rules, tier.unreported)) as u32;
            let group = &mut tier.groups[group];
            group.size += 1;
            if admitted {
                spot.admitted = group.push(number, member, rules);
            }
        }
        if self.spots.set(number as usize, spot).is_none() {
            self.spots.push(spot);
        }
        Ok(())
    }

    /// A member is gone, and its number with it.
    pub(super) fn leave(&mut self, number: u32, rules: &Rules) -> Result<(), Anew> {
        if rules.spread.subset.is_some() {
            return Err(Anew);
        }
        self.withdraw(number);
        let spot = self.spot(number);
        self.spots.set(number as usize, Spot::ABSENT);
        let Some((tier, group)) = self.located(spot) else {
            return Ok(());
        };
        tier.groups[group].size -= 1;
        let last = tier.groups[group].size == 0;
        if let Some(moved) = tier.all.remove(spot.all as usize) {
            self.correct(moved, |own| own.all = spot.all);
        }
        if last { Err(Anew) } else { Ok(()) }
    }

    /// Looks whether a member is admitted; says whether that is news. Who is back begins anew.
    pub(super) fn reconsider<E: Candidate>(
        &mut self,
        number: u32,
        member: &E,
        rules: &Rules,
    ) -> bool {
        let admitted = member.admitted();
        if admitted == self.is_admitted(number) {
            return false;
        }
        if !admitted {
            self.withdraw(number);
            return true;
        }
        restart(member);
        self.admitted += 1;
        let spot = self.spot(number);
        let place = match self.located(spot) {
            Some((tier, group)) => tier.groups[group].push(number, member, rules),
            None => 0,
        };
        self.correct(number, |own| own.admitted = place);
        true
    }

    /// Computes what depends on all: how much each priority and each locality gets.
    pub(super) fn settle(&mut self, rules: &Rules) {
        let factor = rules.spread.overprovisioning.get();
        let health: Vec<_> = self.tiers.iter().map(Tier::health).collect();
        let loads = loads(&health, factor, rules.panic_threshold.value());
        let mut end = 0;
        for (tier, load) in self.tiers.iter_mut().zip(loads) {
            end += load.share;
            tier.end = end;
            tier.panic = load.panic;
            tier.settle(factor);
        }
    }

    /// Takes a member out of the admitted ones.
    fn withdraw(&mut self, number: u32) {
        let spot = self.spot(number);
        if spot.admitted == NOWHERE {
            return;
        }
        self.admitted -= 1;
        self.correct(number, |own| own.admitted = NOWHERE);
        let Some((tier, group)) = self.located(spot) else {
            return;
        };
        if let Some(moved) = tier.groups[group].admitted.remove(spot.admitted as usize) {
            self.correct(moved, |own| own.admitted = spot.admitted);
        }
    }

    /// Where a member with this placement belongs.
    fn place(&self, placement: Placement, rules: &Rules) -> Result<Spot, Anew> {
        let own = |tier: &Tier| tier.priority == placement.priority;
        let tier = self.tiers.iter().position(own).ok_or(Anew)?;
        let Tier {
            weighed, groups, ..
        } = &self.tiers[tier];
        let in_force = rules.spread.localities == LocalityWeights::InForce;
        let group = match (weighed, placement.weight) {
            // It would be the first with a weight.
            (false, 1..) if in_force => return Err(Anew),
            (false, _) => 0,
            (true, 0) => return Ok(Spot::ABSENT),
            (true, weight) => {
                let own = |group: &Located| {
                    (group.locality, group.weight) == (placement.locality, weight)
                };
                groups.iter().position(own).ok_or(Anew)?
            }
        };
        Ok(Spot {
            tier: tier as u32,
            group: group as u32,
            ..Spot::ABSENT
        })
    }

    fn spot(&self, number: u32) -> Spot {
        let spot = self.spots.get(number as usize);
        spot.copied().unwrap_or(Spot::ABSENT)
    }

    fn correct(&mut self, number: u32, change: impl FnOnce(&mut Spot)) {
        let mut spot = self.spot(number);
        change(&mut spot);
        self.spots.set(number as usize, spot);
    }

    fn located(&mut self, spot: Spot) -> Option<(&mut Tier, usize)> {
        let tier = self.tiers.get_mut(spot.tier as usize)?;
        Some((tier, spot.group as usize))
    }
}

impl Spot {
    const ABSENT: Self = Self {
        tier: NOWHERE,
        group: NOWHERE,
        all: NOWHERE,
        admitted: NOWHERE,
    };
}

fn restart<E: Candidate>(member: &E) {
    if let Some(signals) = member.signals() {
        signals.restart(Instant::now());
    }
}

#[cfg(test)]
impl Index {
    /// All that decides about picks, with names for numbers and in an order of its own.
    pub(super) fn picture(&self, name: impl Fn(u32) -> Option<String>) -> Vec<String> {
        let members = |pool: &super::pool::Pool| {
            let mut all: Vec<_> = pool
                .iter()
                .map(|one| (name(one.member), one.weight))
                .collect();
            all.sort();
            all
        };
        let tier = |tier: &Tier| {
            let groups: Vec<_> = tier
                .groups
                .iter()
                .map(|group| {
                    let Located {
                        locality,
                        weight,
                        size,
                        ..
                    } = group;
                    (locality, weight, size, members(&group.admitted))
                })
                .collect();
            let Tier {
                priority,
                end,
                panic,
                served,
                shares,
                ..
            } = tier;
            let all = members(&tier.all);
            format!("{priority} {end} {panic} {all:?} {groups:?} {served:?} {shares:?}")
        };
        let mut picture: Vec<_> = self.tiers.iter().map(tier).collect();
        picture.push(format!("{} admitted", self.admitted));
        picture
    }
}
