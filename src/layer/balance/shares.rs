//! Weights as intervals of a line.

/// Members of unequal weight, laid end to end on a line of `total` units.
///
/// A point on the line belongs to exactly one member, so a uniform point picks by weight, exactly:
/// there is no rounding of weights to a smaller scale. Compared with an alias table, which is as
/// fast, intervals can also be picked from *without* one member (draw from the rest and step over
/// it) and walked in a fixed order, which two distinct choices and round robin need; so one table
/// serves every way of balancing.
///
/// A guide table finds the member of a point: slot `s` of `n` tells where to begin for points from
/// `s / n` of the line. On average one step more is needed; the worst case is a binary search.
#[derive(Debug)]
pub(super) struct Shares {
    /// Where each member's interval ends; the first one starts at 0.
    ends: Box<[u64]>,
    guide: Box<[u32]>,
    /// How long the stretch of line is that one slot of the guide stands for.
    slot: u64,
    /// How far round robin steps from point to point; see [`Shares::turn`].
    stride: u64,
}

impl Shares {
    /// `None` if all weights are the same (or there are none), because then no table is needed.
    pub(super) fn new(weights: &[u32]) -> Option<Self> {
        let first = weights.first()?;
        if weights.iter().all(|weight| weight == first) {
            return None;
        }
        let divisor = weights
            .iter()
            .fold(0, |divisor, weight| gcd(divisor, u64::from(*weight)));
        let ends: Box<[u64]> = weights
            .iter()
            .scan(0_u64, |end, weight| {
                // 2^32 members of weight 2^32: more than memory holds, and still no overflow.
                *end += u64::from(*weight) / divisor;
                Some(*end)
            })
            .collect();
        let total = *ends.last()?;
        let slot = total.div_ceil(ends.len() as u64);
        let mut member = 0;
        let guide = (0..total.div_ceil(slot))
            .map(|index| {
                while ends[member] <= index * slot {
                    member += 1;
                }
                // Members are indexed by `u32`; see `Balancer::new`.
                member as u32
            })
            .collect();
        Some(Self {
            ends,
            guide,
            slot,
            stride: stride(total),
        })
    }

    /// How long the line is.
    pub(super) fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The member that `point`, below `total`, belongs to.
    pub(super) fn member(&self, point: u64) -> usize {
        let slot = (point / self.slot) as usize;
        let first = self.guide[slot] as usize;
        if point < self.ends[first] {
            return first;
        }
        let last = self
            .guide
            .get(slot + 1)
            .map_or(self.ends.len() - 1, |last| *last as usize);
        first + self.ends[first..last].partition_point(|end| *end <= point)
    }

    /// Where a member's interval starts, and how long it is.
    pub(super) fn interval(&self, member: usize) -> (u64, u64) {
        let start = member.checked_sub(1).map_or(0, |before| self.ends[before]);
        (start, self.ends[member] - start)
    }

    /// The member whose turn it is at a position of the round.
    ///
    /// The positions step over the line by a stride that has no divisor in common with its length,
    /// so that any `total` turns in a row meet every point exactly once: over such a round each
    /// member gets exactly its weight. The stride is the golden section of the line, which spreads
    /// the turns of a heavy member over the round instead of bunching them.
    pub(super) fn turn(&self, position: u64) -> usize {
        let total = self.total();
        let point = match u32::try_from(total) {
            // Twice as fast where it fits.
            Ok(_) => position % total * self.stride % total,
            Err(_) => {
                let point = u128::from(position % total) * u128::from(self.stride);
                (point % u128::from(total)) as u64
            }
        };
        self.member(point)
    }
}

/// The stride for a line of `total` units: near its golden section and coprime to it.
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

    /// The member of a point, by walking the line.
    fn walk(weights: &[u32], mut point: u64) -> usize {
        for (member, weight) in weights.iter().enumerate() {
            match point.checked_sub(u64::from(*weight)) {
                Some(rest) => point = rest,
                None => return member,
            }
        }
        unreachable!("the point lies beyond the line")
    }

    fn divisor(weights: &[u32]) -> u32 {
        weights
            .iter()
            .fold(0, |a, b| gcd(a.into(), (*b).into()) as u32)
    }

    proptest! {
        #[test]
        fn every_point_belongs_to_the_member_that_a_walk_finds(
            weights in prop::collection::vec(1_u32..50, 1..40),
        ) {
            let Some(shares) = Shares::new(&weights) else {
                prop_assert!(weights.iter().all(|weight| *weight == weights[0]));
                return Ok(());
            };
            let divisor = divisor(&weights);
            let reduced: Vec<_> = weights.iter().map(|weight| weight / divisor).collect();
            prop_assert_eq!(shares.total(), reduced.iter().map(|weight| u64::from(*weight)).sum::<u64>());
            for point in 0..shares.total() {
                let member = shares.member(point);
                prop_assert_eq!(member, walk(&reduced, point));
                let (start, length) = shares.interval(member);
                prop_assert!((start..start + length).contains(&point));
            }
        }

        #[test]
        fn any_round_gives_each_member_exactly_its_weight(
            weights in prop::collection::vec(1_u32..50, 2..20),
            start in any::<u32>(),
        ) {
            let Some(shares) = Shares::new(&weights) else { return Ok(()) };
            let mut turns = vec![0; weights.len()];
            for position in 0..shares.total() {
                turns[shares.turn(u64::from(start) + position)] += 1;
            }
            let divisor = divisor(&weights);
            let reduced: Vec<_> = weights.iter().map(|weight| weight / divisor).collect();
            prop_assert_eq!(turns, reduced);
        }
    }

    #[test]
    fn extreme_weights_neither_overflow_nor_lose_the_small() {
        let weights = [1, u32::MAX, u32::MAX - 1, 1];
        let shares = Shares::new(&weights).unwrap();
        assert_eq!(shares.total(), 2 * u64::from(u32::MAX) + 1);
        assert_eq!(shares.member(0), 0);
        assert_eq!(shares.member(1), 1);
        assert_eq!(shares.member(u64::from(u32::MAX) + 1), 2);
        assert_eq!(shares.member(shares.total() - 1), 3);
        assert!((0..1_000).all(|position| shares.turn(u64::MAX - position) < 4));
    }

    /// A heavy member's turns are spread: 1 of 4 never gets two turns in a row, nor waits for more
    /// than one round.
    #[test]
    fn turns_are_spread_over_the_round() {
        let shares = Shares::new(&[3, 1]).unwrap();
        let turns: Vec<_> = (0..8).map(|position| shares.turn(position)).collect();
        assert_eq!(turns, [0, 1, 0, 0, 0, 1, 0, 0]);
    }
}
