//! One pick: priority, locality, member.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::balancer::POSITIONS;
use super::pool::{Growth, Place, Pool};
use super::state::State;
use super::tier::Tier;
use super::{Ask, Balancer, Candidate};
use crate::model::balancing::PeakEwma;
use crate::model::cluster::Balancing;
use crate::random::Random;

/// How often a pick draws again when it meets members that the caller wants to avoid.
const DRAWS: usize = 4;

/// How many places a pick looks at, one by one, when drawing did not help. A bound, so that a pick
/// costs the same in a cluster of any size.
const LOOKS: usize = 32;

/// How many entries of a hash table a pick looks at. With half of the members out, once in 2^64
/// picks that is not enough.
const ENTRIES: usize = 64;

/// How often a draw is repeated because the drawn member's share has not grown yet.
const GROWING: usize = 32;

/// What a pick works with.
pub(super) struct Draw<'a, E, F> {
    pub(super) balancer: &'a Balancer<E>,
    pub(super) state: &'a State<E>,
    pub(super) random: &'a Random,
    pub(super) avoid: &'a F,
}

/// Who was picked.
pub(super) struct Picked {
    pub(super) member: u32,
    /// Whether health is ignored where it was found.
    pub(super) panic: bool,
}

impl<E: Candidate, F: Fn(&E) -> bool> Draw<'_, E, F> {
    /// A member, avoiding what is to be avoided; `None` if nobody can be picked.
    pub(super) fn pick(&self, ask: Ask) -> Option<Picked> {
        if self.state.tables.is_empty() {
            let (_, tier) = self
                .state
                .index
                .tier(ask.leave, || self.random.below(100))?;
            let member = self.drawn(tier);
            let panic = tier.panic;
            return Some(Picked { member, panic });
        }
        let key = ask.key.unwrap_or_else(|| self.random.draw());
        let (number, tier) = self.state.index.tier(ask.leave, || (key % 100) as u32)?;
        let member = self.hashed(number, tier, key, ask.in_flight);
        let panic = tier.panic;
        Some(Picked { member, panic })
    }

    /// The member that a key leads to, or the next one that can be picked.
    fn hashed(&self, number: usize, tier: &Tier, key: u64, in_flight: u32) -> u32 {
        let mut second = None;
        let table = self.state.tables.get(number);
        let walk = table.into_iter().flat_map(|table| table.walk(key));
        for number in walk.take(ENTRIES) {
            let Some(candidate) = self.state.members.get(number) else {
                continue;
            };
            if !tier.panic && !candidate.admitted() {
                continue;
            }
            let full = table.is_some_and(|table| table.full(&**candidate, in_flight));
            if !(self.avoid)(candidate) && !full {
                return number;
            }
            second.get_or_insert(number);
        }
        // Nearly all are out: the few that are left share the keys evenly.
        second.unwrap_or_else(|| tier.keyed(key).keyed(key).member)
    }

    /// A few draws, then a look at neighbours.
    fn drawn(&self, tier: &Tier) -> u32 {
        let mut pool = tier.pool(self.random);
        let mut place = self.draw(pool);
        for _ in 1..DRAWS {
            if !self.avoided(place) {
                return place.member;
            }
            pool = tier.pool(self.random);
            place = self.draw(pool);
        }
        if let Some(near) = self.neighbour(pool, place) {
            return near.member;
        }
        let others = tier.pools().take(LOOKS);
        let elsewhere = others.filter(|other| other.number != pool.number);
        let mut found = elsewhere.filter_map(|other| self.neighbour(other, self.draw(other)));
        found.next().unwrap_or(place).member
    }

    /// One draw from a pool, by the way of balancing.
    fn draw(&self, pool: &Pool) -> Place {
        let growth = match &self.balancer.rules.spread.slow_start {
            None => None,
            Some(rules) => pool.growth(rules),
        };
        match &self.balancer.rules.balancing {
            Balancing::RoundRobin => {
                let place = self.turn(pool);
                match &growth {
                    // Who is not taken hands its turn to one who is drawn, not to the next in the
                    // row, which would get the turns of all the young ones before it.
                    Some(growth) if !self.accepts(place, growth) => self.one(pool, growth),
                    Some(_) | None => place,
                }
            }
            Balancing::WeightedRoundRobin(_) => self.turn(pool),
            Balancing::PickFirst(_) => pool.first(),
            // Hashes are looked up; there is no table only where there is no priority.
            Balancing::Random | Balancing::Maglev(_) | Balancing::RingHash(_) => match &growth {
                Some(growth) => self.one(pool, growth),
                None => pool.draw(self.random),
            },
            Balancing::LeastRequest => self.better(pool, growth.as_ref(), |first, second| {
                less_busy(growth.as_ref(), first, second)
            }),
            Balancing::PeakEwma(rules) => {
                self.better(pool, None, |first, second| cheaper(rules, first, second))
            }
        }
    }

    fn turn(&self, pool: &Pool) -> Place {
        // There are positions wherever there are turns.
        let position = self.balancer.positions.get(pool.number % POSITIONS);
        pool.turn(position.map_or(0, |own| own.fetch_add(1, Ordering::Relaxed)))
    }

    /// Draws by weight and growth: who is drawn and has only a part of its share is taken with the
    /// probability of that part, which gives everybody exactly weight times part.
    fn one(&self, pool: &Pool, growth: &Growth<'_>) -> Place {
        self.until_accepted(growth, || pool.draw(self.random))
    }

    fn until_accepted(&self, growth: &Growth<'_>, draw: impl Fn() -> Place) -> Place {
        let mut place = draw();
        for _ in 1..GROWING {
            if self.accepts(place, growth) {
                break;
            }
            place = draw();
        }
        place
    }

    fn accepts(&self, place: Place, growth: &Growth<'_>) -> bool {
        let part = self.at(place).map_or(1.0, |member| growth.part(member));
        part >= 1.0 || self.random.unit() < part
    }

    /// The better of two distinct ones that are drawn by weight, unless one is to be avoided.
    /// `keeps` says whether the first is at least as good.
    fn better(
        &self,
        pool: &Pool,
        growth: Option<&Growth<'_>>,
        keeps: impl Fn(&E, &E) -> bool,
    ) -> Place {
        let first = match growth {
            None => pool.draw(self.random),
            Some(growth) => self.one(pool, growth),
        };
        if pool.len() == 1 {
            return first;
        }
        let other = || pool.draw_other(first, self.random);
        let second = match growth {
            None => other(),
            Some(growth) => self.until_accepted(growth, other),
        };
        // Both are members; see `at`.
        let (Some(one), Some(two)) = (self.at(first), self.at(second)) else {
            return first;
        };
        let keeps = match ((self.avoid)(one), (self.avoid)(two)) {
            (true, false) => false,
            (false, true) => true,
            (true, true) | (false, false) => keeps(one, two),
        };
        if keeps { first } else { second }
    }

    /// The first of a few places from `start` on whose member is not to be avoided.
    fn neighbour(&self, pool: &Pool, start: Place) -> Option<Place> {
        std::iter::successors(Some(start), |place| Some(pool.after(*place)))
            .take(pool.len().min(LOOKS))
            .find(|place| !self.avoided(*place))
    }

    fn avoided(&self, place: Place) -> bool {
        self.at(place).is_some_and(|member| (self.avoid)(member))
    }

    /// The member at a place. There is one: pools and members are of one state.
    fn at(&self, place: Place) -> Option<&E> {
        self.state.members.get(place.member).map(|member| &**member)
    }
}

/// Whether the first has no more requests in flight per weight.
fn less_busy<E: Candidate>(growth: Option<&Growth<'_>>, one: &E, other: &E) -> bool {
    // one.active / one.weight <= other.active / other.weight, without dividing.
    let load = u64::from(one.active()) * u64::from(other.weight().get());
    let other_load = u64::from(other.active()) * u64::from(one.weight().get());
    match growth {
        None => load <= other_load,
        Some(growth) => load as f64 * growth.part(other) <= other_load as f64 * growth.part(one),
    }
}

/// Whether the first has no larger product of latency and requests in flight, this one included.
/// Weight is in the draw: a heavier one is drawn more often, and its latency tells whether that was
/// too often.
fn cheaper<E: Candidate>(rules: &PeakEwma, one: &E, other: &E) -> bool {
    let now = Instant::now();
    let cost = |member: &E| {
        let latency = match member.signals() {
            Some(signals) => signals.latency(rules, now),
            None => rules.default_latency.as_secs_f32(),
        };
        f64::from(latency) * (f64::from(member.active()) + 1.0)
    };
    cost(one) <= cost(other)
}
