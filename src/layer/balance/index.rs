//! Who can be picked, and how one of them is drawn.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::layout::{Group, Layout, Priority};
use super::loads::{Health, Load, capacity, loads};
use super::shares::Shares;
use super::{Candidate, Rules};
use crate::model::balancing::{SlowStart, WeightedRoundRobin};
use crate::model::cluster::Balancing;
use crate::random::Random;

/// Reported weights are made whole numbers with the largest at this one, as in gRPC.
const WEIGHT_SCALE: f64 = 65_535.0;

/// The members that may be picked, at the time it was made.
#[derive(Debug)]
pub(super) struct Index {
    tiers: Box<[Tier]>,
    /// How many members are admitted.
    admitted: usize,
    /// The members that are not.
    out: Box<[u32]>,
    /// When reported weights are to be looked at again; `None` if there are none.
    pub(super) due: Option<Instant>,
}

/// One priority.
#[derive(Debug)]
pub(super) struct Tier {
    /// Its share of a hundred ends here; it begins where the one before ends.
    end: u32,
    /// Whether health is ignored.
    pub(super) panic: bool,
    /// The shares of the pools; `None` if all are the same.
    shares: Option<Shares>,
    /// None of them is empty.
    pub(super) pools: Box<[Pool]>,
}

/// Members among whom one is drawn by weight.
#[derive(Debug)]
pub(super) struct Pool {
    /// A number of its own among the pools of its index.
    pub(super) number: usize,
    /// The members, by their place in the balancer's list.
    members: Box<[u32]>,
    /// Their weights, in the order of `members`; `None` if all are the same.
    shares: Option<Shares>,
    /// Since when its first and its last member serve, if shares grow.
    served: Option<(Instant, Instant)>,
}

/// A place in a [`Pool`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place(pub(super) usize);

/// How the shares of a pool's members are growing at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth<'a> {
    rules: &'a SlowStart,
    now: Instant,
    /// The part that the oldest member has.
    most: f64,
}

impl Index {
    /// O(members): looks at each one. Who is admitted and was not `before` begins anew.
    pub(super) fn new<E: Candidate>(
        members: &[Arc<E>],
        layout: &Layout,
        rules: &Rules,
        before: Option<&Self>,
    ) -> Self {
        // Health is read once for each member, so that counts and pools agree.
        let healthy: Vec<bool> = members.iter().map(|member| member.admitted()).collect();
        let out = before.map_or(&[][..], |before| &before.out);
        for back in out.iter().filter(|member| healthy[**member as usize]) {
            if let Some(signals) = members[*back as usize].signals() {
                signals.restart(Instant::now());
            }
        }
        let out = (0..).zip(&healthy).filter(|(_, healthy)| !**healthy);
        let out: Box<[u32]> = out.map(|(place, _)| place).collect();
        let health = |members: &[u32]| Health {
            admitted: members.iter().filter(|one| healthy[**one as usize]).count() as u32,
            total: members.len() as u32,
        };
        let together = |priority: &Priority| {
            let groups = priority.groups.iter().map(|group| health(&group.members));
            groups.fold(
                Health {
                    admitted: 0,
                    total: 0,
                },
                |sum, one| Health {
                    admitted: sum.admitted + one.admitted,
                    total: sum.total + one.total,
                },
            )
        };
        let priorities: Vec<_> = layout.priorities.iter().map(together).collect();
        let factor = rules.spread.overprovisioning.get();
        let loads = loads(&priorities, factor, rules.panic_threshold.value());
        let due = match rules.balancing {
            Balancing::WeightedRoundRobin(reports) => {
                Instant::now().checked_add(reports.update.max(Duration::from_millis(100)))
            }
            Balancing::LeastRequest
            | Balancing::Maglev(_)
            | Balancing::PeakEwma(_)
            | Balancing::Random
            | Balancing::RingHash(_)
            | Balancing::RoundRobin => None,
        };
        let mut maker = Maker {
            members,
            rules,
            healthy: &healthy,
            pools: 0,
        };
        let mut end = 0;
        let tiers = layout.priorities.iter().zip(loads).map(|(priority, load)| {
            end += load.share;
            maker.tier(priority, load, end, &health)
        });
        Self {
            tiers: tiers.collect(),
            admitted: members.len() - out.len(),
            out,
            due,
        }
    }

    pub(super) fn panic(&self) -> bool {
        self.tiers.iter().any(|tier| tier.panic)
    }

    pub(super) fn admitted(&self) -> usize {
        self.admitted
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
        (!tier.pools.is_empty()).then_some((number, tier))
    }
}

impl Index {
    /// The first priority that is not left out and has somebody who is well.
    fn tier_but(&self, leave: u64) -> Option<(usize, &Tier)> {
        let left = |number: usize| leave & (1 << number.min(63)) == 0;
        let mut tiers = self.tiers.iter().enumerate();
        tiers.find(|(number, tier)| left(*number) && !tier.panic && !tier.pools.is_empty())
    }
}

impl Tier {
    /// Draws a pool by weight.
    pub(super) fn pool(&self, random: &Random) -> &Pool {
        match (&*self.pools, &self.shares) {
            ([only], _) => only,
            (pools, Some(shares)) => &pools[shares.member(below(random, shares.total()))],
            (pools, None) => &pools[random.below(pools.len() as u32) as usize],
        }
    }
}

/// Makes an index.
struct Maker<'a, E> {
    members: &'a [Arc<E>],
    rules: &'a Rules,
    healthy: &'a [bool],
    pools: usize,
}

impl<E: Candidate> Maker<'_, E> {
    fn tier(
        &mut self,
        priority: &Priority,
        load: Load,
        end: u32,
        health: &impl Fn(&[u32]) -> Health,
    ) -> Tier {
        let Load { share: _, panic } = load;
        let mut tier = Tier {
            end,
            panic,
            shares: None,
            pools: Box::default(),
        };
        if panic {
            // Envoy's rule: where health is ignored, so are the shares of localities.
            let all = priority.groups.iter().flat_map(|group| &group.members);
            tier.pools = self.pool(all.copied().collect()).into_iter().collect();
            return tier;
        }
        let factor = self.rules.spread.overprovisioning.get();
        let mut weights = Vec::new();
        let mut pools = Vec::new();
        for Group { weight, members } in &priority.groups {
            let admitted = members.iter().copied();
            let admitted = admitted.filter(|member| self.healthy[*member as usize]);
            if let Some(pool) = self.pool(admitted.collect()) {
                pools.push(pool);
                weights.push(u64::from(*weight) * u64::from(capacity(health(members), factor)));
            }
        }
        tier.shares = Shares::new(&narrowed(&weights));
        tier.pools = pools.into();
        tier
    }

    fn pool(&mut self, members: Box<[u32]>) -> Option<Pool> {
        if members.is_empty() {
            return None;
        }
        let number = self.pools;
        self.pools += 1;
        let all = members
            .iter()
            .map(|member| &*self.members[*member as usize]);
        let weights: Vec<u32> = match self.rules.balancing {
            Balancing::WeightedRoundRobin(reports) => reported(all.clone(), &reports),
            Balancing::LeastRequest
            | Balancing::Maglev(_)
            | Balancing::PeakEwma(_)
            | Balancing::Random
            | Balancing::RingHash(_)
            | Balancing::RoundRobin => all.clone().map(|member| member.weight().get()).collect(),
        };
        let since = all.filter_map(|member| Some(member.signals()?.since()));
        let served = self.rules.spread.slow_start.and_then(|_| {
            since.fold(None, |bounds, since| match bounds {
                None => Some((since, since)),
                Some((first, last)) => Some((since.min(first), since.max(last))),
            })
        });
        Some(Pool {
            number,
            shares: Shares::new(&weights),
            members,
            served,
        })
    }
}

/// The weights that members report, made whole. Those without one get the average of the others;
/// all are the same while fewer than two have one (gRPC A58).
fn reported<'a, E: Candidate + 'a>(
    members: impl Iterator<Item = &'a E>,
    rules: &WeightedRoundRobin,
) -> Vec<u32> {
    let now = Instant::now();
    let weights: Vec<Option<f64>> = members
        .map(|member| member.signals()?.weight(rules, now))
        .collect();
    let known = || weights.iter().flatten().copied();
    let count = known().count();
    if count < 2 {
        return vec![1; weights.len()];
    }
    let largest = known().fold(0.0, f64::max);
    // Divided before they are added, so that huge ones do not overflow.
    let average = known().map(|weight| weight / largest).sum::<f64>() / count as f64;
    weights
        .iter()
        .map(|weight| {
            let share = weight.map_or(average, |weight| weight / largest);
            // From 1 to 65,535: nobody is starved for good, or it could never report better.
            (share * WEIGHT_SCALE).round().max(1.0) as u32
        })
        .collect()
}

/// Weights that fit, in the same proportions as far as that can be.
fn narrowed(weights: &[u64]) -> Vec<u32> {
    let most = weights.iter().copied().max().unwrap_or(0);
    let shift = (u64::BITS - most.leading_zeros()).saturating_sub(u32::BITS);
    let narrow = |weight: &u64| u32::try_from((weight >> shift).max(1)).unwrap_or(u32::MAX);
    weights.iter().map(narrow).collect()
}

impl Pool {
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// The member at a place, by its place in the balancer's list.
    pub(super) fn member(&self, place: Place) -> usize {
        self.members[place.0] as usize
    }

    /// The place after another, and after the last the first.
    pub(super) fn after(&self, place: Place) -> Place {
        Place((place.0 + 1) % self.members.len())
    }

    /// A place that is the same for the same key.
    pub(super) fn keyed(&self, key: u64) -> Place {
        Place((key % self.members.len() as u64) as usize)
    }

    /// Draws by weight.
    pub(super) fn draw(&self, random: &Random) -> Place {
        Place(match &self.shares {
            Some(shares) => shares.member(below(random, shares.total())),
            // Members are indexed by `u32`.
            None => random.below(self.members.len() as u32) as usize,
        })
    }

    /// Draws by weight from all but `first`: exactly, without drawing again. The pool has two or
    /// more.
    pub(super) fn draw_other(&self, first: Place, random: &Random) -> Place {
        let step_over = |drawn: u64, start: u64, length: u64| {
            if drawn < start { drawn } else { drawn + length }
        };
        Place(match &self.shares {
            Some(shares) => {
                let (start, length) = shares.interval(first.0);
                let point = below(random, shares.total() - length);
                shares.member(step_over(point, start, length))
            }
            None => {
                let drawn = random.below(self.members.len() as u32 - 1);
                step_over(u64::from(drawn), first.0 as u64, 1) as usize
            }
        })
    }

    /// Whose turn it is.
    pub(super) fn turn(&self, position: u64) -> Place {
        Place(match &self.shares {
            Some(shares) => shares.turn(position),
            None => (position % self.members.len() as u64) as usize,
        })
    }

    /// How shares grow here, unless all have grown.
    pub(super) fn growth<'a>(&self, rules: &'a SlowStart) -> Option<Growth<'a>> {
        let (first, last) = self.served?;
        let now = Instant::now();
        if now.saturating_duration_since(last) >= rules.window {
            return None;
        }
        let most = rules.part(now.saturating_duration_since(first));
        Some(Growth { rules, now, most })
    }
}

impl Growth<'_> {
    /// The part of its share that a member has, of the part that the oldest has.
    pub(super) fn part<E: Candidate>(&self, member: &E) -> f64 {
        let Some(signals) = member.signals() else {
            return 1.0;
        };
        let part = self
            .rules
            .part(self.now.saturating_duration_since(signals.since()));
        // With a minimum of zero everybody may have nothing in the first moment.
        if self.most > 0.0 {
            part / self.most
        } else {
            1.0
        }
    }
}

/// A number from `0..bound`, as [`Random::below`] for longer lines.
fn below(random: &Random, bound: u64) -> u64 {
    ((u128::from(random.draw()) * u128::from(bound)) >> 64) as u64
}
