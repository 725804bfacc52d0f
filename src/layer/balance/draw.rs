//! One pick: priority, locality, member.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::balancer::POSITIONS;
use super::index::{Growth, Index, Place, Pool, Tier};
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
    pub(super) index: &'a Index,
    pub(super) random: &'a Random,
    pub(super) avoid: &'a F,
}

/// Who was picked.
pub(super) struct Picked {
    pub(super) member: usize,
    /// Whether health is ignored where it was found.
    pub(super) panic: bool,
}

impl<E: Candidate, F: Fn(&E) -> bool> Draw<'_, E, F> {
    /// A member, avoiding what is to be avoided; `None` if nobody can be picked.
    pub(super) fn pick(&self, ask: Ask) -> Option<Picked> {
        if self.balancer.tables.is_empty() {
            let (_, tier) = self.index.tier(ask.leave, || self.random.below(100))?;
            let member = self.drawn(tier);
            let panic = tier.panic;
            return Some(Picked { member, panic });
        }
        let key = ask.key.unwrap_or_else(|| self.random.draw());
        let (number, tier) = self.index.tier(ask.leave, || (key % 100) as u32)?;
        let member = self.hashed(number, tier, key, ask.in_flight);
        let panic = tier.panic;
        Some(Picked { member, panic })
    }

    /// The member that a key leads to, or the next one that can be picked.
    fn hashed(&self, number: usize, tier: &Tier, key: u64, in_flight: u32) -> usize {
        let table = &self.balancer.tables[number];
        let mut second = None;
        for member in table.walk(key).take(ENTRIES) {
            let candidate = self.member(member as usize);
            if !tier.panic && !candidate.admitted() {
                continue;
            }
            if !(self.avoid)(candidate) && !table.full(member, candidate.active(), in_flight) {
                return member as usize;
            }
            second.get_or_insert(member as usize);
        }
        second.unwrap_or_else(|| {
            // Nearly all are out: the few that are left share the keys evenly.
            let pool = &tier.pools[(key % tier.pools.len() as u64) as usize];
            pool.member(pool.keyed(key))
        })
    }

    /// A few draws, then a look at neighbours.
    fn drawn(&self, tier: &Tier) -> usize {
        let mut pool = tier.pool(self.random);
        let mut place = self.draw(pool);
        for _ in 1..DRAWS {
            if !self.avoided(pool, place) {
                return pool.member(place);
            }
            pool = tier.pool(self.random);
            place = self.draw(pool);
        }
        if let Some(near) = self.neighbour(pool, place) {
            return pool.member(near);
        }
        let others = tier.pools.iter().take(LOOKS);
        let elsewhere = others.filter(|other| other.number != pool.number);
        let mut found = elsewhere.filter_map(|other| {
            let near = self.neighbour(other, self.draw(other))?;
            Some(other.member(near))
        });
        found.next().unwrap_or(pool.member(place))
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
                    Some(growth) if !self.accepts(pool, place, growth) => self.one(pool, growth),
                    Some(_) | None => place,
                }
            }
            Balancing::WeightedRoundRobin(_) => self.turn(pool),
            // Hashes are looked up; there is no table only where there is no priority.
            Balancing::Random | Balancing::Maglev(_) | Balancing::RingHash(_) => match &growth {
                Some(growth) => self.one(pool, growth),
                None => pool.draw(self.random),
            },
            Balancing::LeastRequest => self.better(pool, growth.as_ref(), |first, second| {
                self.less_busy(pool, growth.as_ref(), first, second)
            }),
            Balancing::PeakEwma(rules) => self.better(pool, None, |first, second| {
                self.cheaper(pool, rules, first, second)
            }),
        }
    }

    fn turn(&self, pool: &Pool) -> Place {
        let position = &self.balancer.positions[pool.number % POSITIONS];
        pool.turn(position.fetch_add(1, Ordering::Relaxed))
    }

    /// Draws by weight and growth: who is drawn and has only a part of its share is taken with the
    /// probability of that part, which gives everybody exactly weight times part.
    fn one(&self, pool: &Pool, growth: &Growth<'_>) -> Place {
        self.until_accepted(pool, growth, || pool.draw(self.random))
    }

    fn until_accepted(&self, pool: &Pool, growth: &Growth<'_>, draw: impl Fn() -> Place) -> Place {
        let mut place = draw();
        for _ in 1..GROWING {
            if self.accepts(pool, place, growth) {
                break;
            }
            place = draw();
        }
        place
    }

    fn accepts(&self, pool: &Pool, place: Place, growth: &Growth<'_>) -> bool {
        let part = growth.part(self.at(pool, place));
        part >= 1.0 || self.random.unit() < part
    }

    /// The better of two distinct ones that are drawn by weight, unless one is to be avoided.
    fn better(
        &self,
        pool: &Pool,
        growth: Option<&Growth<'_>>,
        choose: impl Fn(Place, Place) -> Place,
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
            Some(growth) => self.until_accepted(pool, growth, other),
        };
        match (self.avoided(pool, first), self.avoided(pool, second)) {
            (true, false) => second,
            (false, true) => first,
            (true, true) | (false, false) => choose(first, second),
        }
    }

    /// The one with fewer requests in flight per weight; the first of equals.
    fn less_busy(
        &self,
        pool: &Pool,
        growth: Option<&Growth<'_>>,
        first: Place,
        second: Place,
    ) -> Place {
        let (one, other) = (self.at(pool, first), self.at(pool, second));
        // one.active / one.weight <= other.active / other.weight, without dividing.
        let load = u64::from(one.active()) * u64::from(other.weight().get());
        let other_load = u64::from(other.active()) * u64::from(one.weight().get());
        let first_wins = match growth {
            None => load <= other_load,
            Some(growth) => {
                load as f64 * growth.part(other) <= other_load as f64 * growth.part(one)
            }
        };
        if first_wins { first } else { second }
    }

    /// The one with the smaller product of latency and requests in flight, this one included.
    /// Weight is in the draw: a heavier one is drawn more often, and its latency tells whether that
    /// was too often.
    fn cheaper(&self, pool: &Pool, rules: &PeakEwma, first: Place, second: Place) -> Place {
        let now = Instant::now();
        let cost = |place| {
            let member = self.at(pool, place);
            let latency = match member.signals() {
                Some(signals) => signals.latency(rules, now),
                None => rules.default_latency.as_secs_f32(),
            };
            f64::from(latency) * (f64::from(member.active()) + 1.0)
        };
        if cost(first) <= cost(second) {
            first
        } else {
            second
        }
    }

    /// The first of a few places from `start` on whose member is not to be avoided.
    fn neighbour(&self, pool: &Pool, start: Place) -> Option<Place> {
        std::iter::successors(Some(start), |place| Some(pool.after(*place)))
            .take(pool.len().min(LOOKS))
            .find(|place| !self.avoided(pool, *place))
    }

    fn avoided(&self, pool: &Pool, place: Place) -> bool {
        (self.avoid)(self.at(pool, place))
    }

    fn at(&self, pool: &Pool, place: Place) -> &E {
        self.member(pool.member(place))
    }

    fn member(&self, member: usize) -> &E {
        &self.balancer.members[member]
    }
}
