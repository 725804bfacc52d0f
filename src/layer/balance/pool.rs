//! Members among whom one is drawn by weight.
//!
//! Their weights lie end to end on a line. A point on the line belongs to exactly one member, so a
//! uniform point picks by weight, exactly: there is no rounding of weights to a smaller scale.
//! Compared with an alias table, lines can also be drawn from *without* one member (draw from the
//! rest and step over it) and walked in a fixed order, which two distinct choices and round robin
//! need; and a weight that changes is one path of a tree (see [`crate::list`]), where tables are made
//! anew. While all weights are the same, the line is not looked at: a draw is an index.
//!
//! The order of members means nothing, so who leaves is replaced by the last one; where it does
//! ([`first`](super::first)) pools are made anew instead.

use tokio::time::Instant;

use super::Candidate;
use crate::list::tree::{Total, Tree};
use crate::model::balancing::SlowStart;
use crate::random::Random;

/// Members with their weights.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    /// A number of its own among the pools of its index.
    pub(super) number: usize,
    stretches: Tree<Stretch, Sum>,
    /// Since when each serves, if shares grow.
    ages: Option<Box<Tree<Option<Instant>, Ages>>>,
    /// How far round robin steps from point to point; see [`Pool::turn`].
    stride: u64,
}

/// A member in a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) member: u32,
    pub(super) weight: u32,
    /// Since when it serves, if shares grow.
    pub(super) since: Option<Instant>,
}

/// A member's part of the line: as small as can be, since a draw among many reads one that is in no
/// cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) member: u32,
    pub(super) weight: u32,
}

/// What stretches add up to.
#[derive(Clone, Copy, Debug)]
struct Sum {
    weight: u64,
    /// The greatest common divisor of the weights.
    divisor: u64,
    lightest: u32,
    heaviest: u32,
}

/// Since when the oldest and the youngest serve.
type Ages = Option<(Instant, Instant)>;

/// A member at its place in a pool.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    at: usize,
    pub(super) member: u32,
}

/// How the shares of a pool's members are growing at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth<'a> {
    rules: &'a SlowStart,
    now: Instant,
    /// The part that the oldest member has.
    most: f64,
}

impl Total<Stretch> for Sum {
    const NONE: Self = Self {
        weight: 0,
        divisor: 0,
        lightest: u32::MAX,
        heaviest: 0,
    };

    fn of(stretch: &Stretch) -> Self {
        Self {
            weight: stretch.weight.into(),
            divisor: stretch.weight.into(),
            lightest: stretch.weight,
            heaviest: stretch.weight,
        }
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            // 2^32 members of weight 2^32: more than memory holds, and still no overflow.
            weight: self.weight + other.weight,
            divisor: gcd(self.divisor, other.divisor),
            lightest: self.lightest.min(other.lightest),
            heaviest: self.heaviest.max(other.heaviest),
        }
    }
}

impl Total<Option<Instant>> for Ages {
    const NONE: Self = None;

    fn of(since: &Option<Instant>) -> Self {
        since.map(|since| (since, since))
    }

    fn and(&self, other: &Self) -> Self {
        match (*self, *other) {
            (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
            (one, other) => one.or(other),
        }
    }
}

impl Seat {
    fn stretch(&self) -> Stretch {
        Stretch {
            member: self.member,
            weight: self.weight,
        }
    }
}

impl Sum {
    fn is_uniform(&self) -> bool {
        self.lightest == self.heaviest
    }
}

impl Pool {
    pub(super) fn new(number: usize, seats: impl Iterator<Item = Seat>) -> Self {
        let seats: Vec<Seat> = seats.collect();
        let grows = seats.iter().any(|seat| seat.since.is_some());
        let mut pool = Self {
            number,
            stretches: seats.iter().map(Seat::stretch).collect(),
            ages: grows.then(|| Box::new(seats.iter().map(|seat| seat.since).collect())),
            stride: 1,
        };
        pool.settle();
        pool
    }

    /// To be called after members have come or gone.
    pub(super) fn settle(&mut self) {
        let sum = self.stretches.total();
        self.stride = if sum.is_uniform() {
            1
        } else {
            stride(self.round())
        };
    }

    pub(super) fn len(&self) -> usize {
        self.stretches.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a member in and returns its place.
    pub(super) fn push(&mut self, seat: Seat) -> usize {
        let place = self.stretches.len();
        self.stretches.push(seat.stretch());
        if seat.since.is_some() || self.ages.is_some() {
            let others = || Box::new(std::iter::repeat_n(None, place).collect());
            self.ages.get_or_insert_with(others).push(seat.since);
        }
        place
    }

    /// Takes out the member at a place; returns whose place this is from then on.
    pub(super) fn remove(&mut self, at: usize) -> Option<u32> {
        self.stretches.swap_remove(at);
        if let Some(ages) = &mut self.ages {
            ages.swap_remove(at);
        }
        self.stretches.get(at).map(|moved| moved.member)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Stretch> {
        self.stretches.iter()
    }

    /// The place after another, and after the last the first.
    pub(super) fn after(&self, place: Place) -> Place {
        self.at((place.at + 1) % self.len())
    }

    /// The first place, which means something in a pool that was put in order.
    pub(super) fn first(&self) -> Place {
        self.at(0)
    }

    /// A place that is the same for the same key.
    pub(super) fn keyed(&self, key: u64) -> Place {
        self.at((key % self.len() as u64) as usize)
    }

    fn at(&self, at: usize) -> Place {
        // A pool that is drawn from is not empty, and its places are below its length.
        let member = self.stretches.get(at).map_or(0, |stretch| stretch.member);
        Place { at, member }
    }

    /// Where a point on the line of weights lies.
    fn on_line(&self, mut point: u64) -> Place {
        let found = self.stretches.seek(|stretch| {
            let passes = point >= stretch.weight;
            if passes {
                point -= stretch.weight;
            }
            passes
        });
        let (at, stretch) = match found {
            Some(found) => found,
            None => return self.at(0),
        };
        Place {
            at,
            member: stretch.member,
        }
    }

    /// Draws by weight.
    pub(super) fn draw(&self, random: &Random) -> Place {
        let sum = self.stretches.total();
        if sum.is_uniform() {
            // Members are numbered by `u32`.
            self.at(random.below(self.len() as u32) as usize)
        } else {
            self.on_line(below(random, sum.weight))
        }
    }

    /// Draws by weight from all but `first`: exactly, without drawing again. The pool has two or
    /// more.
    pub(super) fn draw_other(&self, first: Place, random: &Random) -> Place {
        let sum = self.stretches.total();
        if sum.is_uniform() {
            let drawn = random.below(self.len() as u32 - 1) as usize;
            return self.at(drawn + usize::from(drawn >= first.at));
        }
        let own = self
            .stretches
            .get(first.at)
            .map_or(0, |stretch| stretch.weight);
        let mut start = 0;
        self.stretches
            .before(first.at, |stretch| start += stretch.weight);
        let point = below(random, sum.weight - u64::from(own));
        self.on_line(if point < start {
            point
        } else {
            point + u64::from(own)
        })
    }

    /// How many turns a round has.
    fn round(&self) -> u64 {
        let sum = self.stretches.total();
        sum.weight / sum.divisor.max(1)
    }

    /// The member whose turn it is at a position of the round.
    ///
    /// The positions step over the line by a stride that has no divisor in common with its length,
    /// so that any round of turns in a row meets every point exactly once: over such a round each
    /// member gets exactly its weight. The stride is the golden section of the line, which spreads
    /// the turns of a heavy member over the round instead of bunching them.
    pub(super) fn turn(&self, position: u64) -> Place {
        let sum = self.stretches.total();
        if sum.is_uniform() {
            return self.keyed(position);
        }
        let round = self.round();
        let point = match u32::try_from(round) {
            // Twice as fast where it fits.
            Ok(_) => position % round * self.stride % round,
            Err(_) => {
                let point = u128::from(position % round) * u128::from(self.stride);
                (point % u128::from(round)) as u64
            }
        };
        self.on_line(point * sum.divisor)
    }

    /// How shares grow here, unless all have grown.
    pub(super) fn growth<'a>(&self, rules: &'a SlowStart) -> Option<Growth<'a>> {
        let (oldest, youngest) = (*self.ages.as_ref()?.total())?;
        let now = Instant::now();
        if now.saturating_duration_since(youngest) >= rules.window {
            return None;
        }
        let most = rules.part(now.saturating_duration_since(oldest));
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
pub(super) fn below(random: &Random, bound: u64) -> u64 {
    ((u128::from(random.draw()) * u128::from(bound)) >> 64) as u64
}

/// The stride for a round of `total` turns: near its golden section and coprime to it.
fn stride(total: u64) -> u64 {
    // 2^64 / golden ratio, so that the product's upper half is the golden section.
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let near = ((u128::from(total) * u128::from(GOLDEN)) >> 64) as u64;
    // `total - 1` is always coprime, so the search ends; it takes a handful of steps.
    (near.max(1)..total)
        .find(|stride| gcd(*stride, total) == 1)
        .unwrap_or(1)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(weights: &[u32]) -> Pool {
        let seat = |(member, weight): (u32, &u32)| Seat {
            member,
            weight: *weight,
            since: None,
        };
        Pool::new(0, (0..).zip(weights).map(seat))
    }

    /// The member of a point, by walking the line.
    fn walk(weights: &[u32], mut point: u64) -> u32 {
        for (member, weight) in (0..).zip(weights) {
            match point.checked_sub(u64::from(*weight)) {
                Some(rest) => point = rest,
                None => return member,
            }
        }
        unreachable!("the point lies beyond the line")
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn every_point_belongs_to_the_member_that_a_walk_finds(
            weights in prop::collection::vec(1_u32..50, 1..100),
        ) {
            let pool = pool(&weights);
            let total = weights.iter().map(|weight| u64::from(*weight)).sum::<u64>();
            prop_assert_eq!(pool.stretches.total().weight, total);
            for point in 0..total {
                prop_assert_eq!(pool.on_line(point).member, walk(&weights, point));
            }
        }

        #[test]
        fn any_round_gives_each_member_exactly_its_weight(
            weights in prop::collection::vec(1_u32..50, 2..20),
            start in any::<u32>(),
        ) {
            let pool = pool(&weights);
            let mut turns = vec![0; weights.len()];
            let divisor = weights.iter().fold(0, |a, b| gcd(a, (*b).into())) as u32;
            prop_assert_eq!(pool.round(), weights.iter().map(|one| u64::from(one / divisor)).sum::<u64>());
            for position in 0..pool.round() {
                turns[pool.turn(u64::from(start) + position).member as usize] += 1;
            }
            let reduced: Vec<_> = weights.iter().map(|weight| weight / divisor).collect();
            prop_assert_eq!(turns, reduced);
        }

        /// The other of two is anybody but the first, by weight.
        #[test]
        fn the_other_is_never_the_first(
            weights in prop::collection::vec(1_u32..5, 2..80),
            seed in any::<u64>(),
        ) {
            let (pool, random) = (pool(&weights), Random::seeded(seed));
            for _ in 0..50 {
                let first = pool.draw(&random);
                let other = pool.draw_other(first, &random);
                prop_assert_ne!(first.member, other.member);
                prop_assert_eq!(pool.at(other.at), other);
            }
        }
    }

    #[test]
    fn extreme_weights_neither_overflow_nor_lose_the_small() {
        let pool = pool(&[1, u32::MAX, u32::MAX - 1, 1]);
        let total = pool.stretches.total().weight;
        assert_eq!(total, 2 * u64::from(u32::MAX) + 1);
        for (point, member) in [(0, 0), (1, 1), (u64::from(u32::MAX) + 1, 2), (total - 1, 3)] {
            assert_eq!(pool.on_line(point).member, member);
        }
        assert!((0..1_000).all(|position| pool.turn(u64::MAX - position).member < 4));
    }

    /// A heavy member's turns are spread: 1 of 4 never gets two turns in a row, nor waits for more
    /// than one round.
    #[test]
    fn turns_are_spread_over_the_round() {
        let pool = pool(&[3, 1]);
        let turns: Vec<_> = (0..8).map(|position| pool.turn(position).member).collect();
        assert_eq!(turns, [0, 1, 0, 0, 0, 1, 0, 0]);
    }
}
