//! Who can be picked, and how one of them is drawn.

use std::sync::Arc;

use super::Candidate;
use super::shares::Shares;
use crate::model::Percent;
use crate::random::Random;

/// The members that may be picked, at the time it was made.
#[derive(Debug)]
pub(super) struct Index {
    /// The members, by their place in the balancer's list.
    pool: Box<[u32]>,
    /// Their weights, in the order of `pool`; `None` if all are the same.
    shares: Option<Shares>,
    /// Whether health is ignored.
    panic: bool,
    /// How many members are admitted.
    admitted: usize,
}

/// A place in the pool of an [`Index`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place(pub(super) usize);

impl Index {
    /// O(members): looks at each one.
    pub(super) fn new<E: Candidate>(members: &[Arc<E>], threshold: Percent) -> Self {
        // Health is read once for each member, so that count and pool agree.
        let healthy: Box<[u32]> = (0..)
            .zip(members)
            .filter(|(_, member)| member.admitted())
            .map(|(place, _)| place)
            .collect();
        let admitted = healthy.len();
        let panic = (admitted as u64) * 100 < u64::from(threshold.value()) * members.len() as u64;
        let pool: Box<[u32]> = if panic {
            (0..).zip(members).map(|(place, _)| place).collect()
        } else {
            healthy
        };
        let weights: Vec<u32> = pool
            .iter()
            .map(|place| members[*place as usize].weight().get())
            .collect();
        Self {
            shares: Shares::new(&weights),
            pool,
            panic,
            admitted,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pool.len()
    }

    pub(super) fn panic(&self) -> bool {
        self.panic
    }

    pub(super) fn admitted(&self) -> usize {
        self.admitted
    }

    /// The member at a place, by its place in the balancer's list.
    pub(super) fn member(&self, place: Place) -> usize {
        self.pool[place.0] as usize
    }

    /// The place after another, and after the last the first.
    pub(super) fn after(&self, place: Place) -> Place {
        Place((place.0 + 1) % self.pool.len())
    }

    /// Draws by weight. The pool is not empty.
    pub(super) fn draw(&self, random: &Random) -> Place {
        Place(match &self.shares {
            Some(shares) => shares.member(below(random, shares.total())),
            // Members are indexed by `u32`.
            None => random.below(self.pool.len() as u32) as usize,
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
                let drawn = random.below(self.pool.len() as u32 - 1);
                step_over(u64::from(drawn), first.0 as u64, 1) as usize
            }
        })
    }

    /// Whose turn it is. The pool is not empty.
    pub(super) fn turn(&self, position: u64) -> Place {
        Place(match &self.shares {
            Some(shares) => shares.turn(position),
            None => (position % self.pool.len() as u64) as usize,
        })
    }
}

/// A number from `0..bound`, as [`Random::below`] for longer lines.
fn below(random: &Random, bound: u64) -> u64 {
    ((u128::from(random.draw()) * u128::from(bound)) >> 64) as u64
}
