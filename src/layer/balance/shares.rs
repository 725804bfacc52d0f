//! The shares of a few, as intervals of a line.

/// Localities of unequal weight, laid end to end on a line of `total` units; a uniform point picks
/// by weight. There are a handful of them, so whose a point is is found by looking at all.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    /// Where each one's interval ends; the first one starts at 0.
    ends: Box<[u64]>,
}

impl Shares {
    /// `None` if all weights are the same (or there are none), because then none is needed.
    pub(super) fn new(weights: &[u32]) -> Option<Self> {
        let first = weights.first()?;
        if weights.iter().all(|weight| weight == first) {
            return None;
        }
        let ends = weights.iter().scan(0_u64, |end, weight| {
            *end += u64::from(*weight);
            Some(*end)
        });
        Some(Self {
            ends: ends.collect(),
        })
    }

    /// How long the line is.
    pub(super) fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whose `point`, below `total`, is.
    pub(super) fn owner(&self, point: u64) -> usize {
        self.ends.partition_point(|end| *end <= point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_belongs_to_the_interval_that_it_lies_in() {
        let shares = Shares::new(&[2, u32::MAX, 1]).unwrap();
        assert_eq!(shares.total(), u64::from(u32::MAX) + 3);
        let last = shares.total() - 1;
        let owners = [0, 1, 2, last - 1, last].map(|point| shares.owner(point));
        assert_eq!(owners, [0, 0, 1, 1, 2]);
    }

    #[test]
    fn equal_shares_need_no_line() {
        assert!(Shares::new(&[]).is_none());
        assert!(Shares::new(&[7, 7, 7]).is_none());
    }
}
