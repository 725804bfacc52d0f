//! How much of the traffic each priority gets: Envoy's formula, in its whole percents.

/// How healthy one priority is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Health {
    pub(super) admitted: u32,
    pub(super) total: u32,
}

/// What one priority gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Load {
    /// In percent; all together they are 100.
    pub(super) share: u32,
    /// Whether health is ignored.
    pub(super) panic: bool,
}

/// The shares of priorities, the first of which is used first.
///
/// A priority can serve `min(100, factor x admitted / total)` percent: with the usual factor of 140
/// all, as long as no more than 28 % of it is missing. What it cannot serve spills to the next one.
/// If all together cannot serve 100 %, each is given more, by the same factor.
///
/// Health is ignored in a priority of which less than `threshold` percent is admitted, unless all
/// priorities together can serve 100 %. If it is ignored everywhere, priorities get shares by their
/// number of members.
pub(super) fn loads(priorities: &[Health], factor: u32, threshold: u32) -> Vec<Load> {
    let can: Vec<u32> = priorities
        .iter()
        .map(|one| capacity(*one, factor))
        .collect();
    let together = can.iter().fold(0, |sum: u32, one| (sum + one).min(100));
    let panic: Vec<bool> = priorities
        .iter()
        .map(|one| together < 100 && below(*one, threshold))
        .collect();
    let shares = if panic.iter().all(|panic| *panic) {
        by_size(priorities)
    } else {
        by_capacity(&can, together)
    };
    let both = shares.into_iter().zip(panic);
    both.map(|(share, panic)| Load { share, panic }).collect()
}

/// What a priority, or a locality, can serve, in percent.
pub(super) fn capacity(health: Health, factor: u32) -> u32 {
    let wanted = u64::from(factor) * u64::from(health.admitted);
    let served = wanted.checked_div(u64::from(health.total));
    // At most 100, so the cast is exact.
    served.unwrap_or(0).min(100) as u32
}

fn below(health: Health, threshold: u32) -> bool {
    u64::from(health.admitted) * 100 < u64::from(threshold) * u64::from(health.total)
        || (health.total == 0 && threshold > 0)
}

fn by_capacity(can: &[u32], together: u32) -> Vec<u32> {
    if together == 0 {
        // Nobody is admitted and panic is off: nobody will be found, wherever it is looked.
        return vec![0; can.len()];
    }
    let mut left = 100;
    let mut shares: Vec<u32> = can
        .iter()
        .map(|one| {
            let share = (one * 100 / together).min(left);
            left -= share;
            share
        })
        .collect();
    remainder(&mut shares, left, |at| can[at] > 0);
    shares
}

fn by_size(priorities: &[Health]) -> Vec<u32> {
    let total: u64 = priorities.iter().map(|one| u64::from(one.total)).sum();
    let mut left = 100;
    let mut shares: Vec<u32> = priorities
        .iter()
        .map(|one| {
            // At most 100, since each is a part of the total.
            let share = (u64::from(one.total) * 100).checked_div(total).unwrap_or(0) as u32;
            left -= share;
            share
        })
        .collect();
    remainder(&mut shares, left, |at| priorities[at].total > 0);
    shares
}

/// What rounding left goes to the first that can serve.
fn remainder(shares: &mut [u32], left: u32, can: impl Fn(usize) -> bool) {
    if let Some(first) = (0..shares.len()).find(|at| can(*at)) {
        shares[first] += left;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(priorities: &[(u32, u32)], threshold: u32) -> Vec<(u32, bool)> {
        let priorities: Vec<_> = priorities
            .iter()
            .map(|(admitted, total)| Health {
                admitted: *admitted,
                total: *total,
            })
            .collect();
        let loads = loads(&priorities, 140, threshold);
        loads.iter().map(|load| (load.share, load.panic)).collect()
    }

    /// The table of Envoy's documentation on priority levels, and the corners of its code.
    #[test]
    fn f12_shares_are_those_of_envoys_tables() {
        for (name, priorities, threshold, expected) in [
            (
                "all healthy",
                &[(100, 100), (100, 100)][..],
                0,
                &[(100, false), (0, false)][..],
            ),
            (
                "72 %",
                &[(72, 100), (72, 100)],
                0,
                &[(100, false), (0, false)],
            ),
            (
                "71 %",
                &[(71, 100), (71, 100)],
                0,
                &[(99, false), (1, false)],
            ),
            (
                "50 %",
                &[(50, 100), (50, 100)],
                0,
                &[(70, false), (30, false)],
            ),
            (
                "25 %",
                &[(25, 100), (100, 100)],
                0,
                &[(35, false), (65, false)],
            ),
            (
                "25 and 25 %",
                &[(25, 100), (25, 100)],
                0,
                &[(50, false), (50, false)],
            ),
            (
                "none, all",
                &[(0, 100), (100, 100)],
                50,
                &[(0, false), (100, false)],
            ),
            (
                "three",
                &[(25, 100), (25, 100), (25, 100)],
                0,
                &[(35, false), (35, false), (30, false)],
            ),
            (
                "none anywhere",
                &[(0, 10), (0, 10)],
                0,
                &[(0, false), (0, false)],
            ),
            (
                "one panics",
                &[(20, 100), (45, 100)],
                30,
                &[(31, true), (69, false)],
            ),
            (
                "all panic",
                &[(0, 1), (0, 3)],
                50,
                &[(25, true), (75, true)],
            ),
            (
                "all panic, thirds",
                &[(0, 1), (0, 1), (0, 1)],
                50,
                &[(34, true), (33, true), (33, true)],
            ),
            (
                "an unhealthy one without traffic",
                &[(72, 100), (0, 100)],
                50,
                &[(100, false), (0, false)],
            ),
            ("nobody at all", &[], 50, &[]),
        ] {
            assert_eq!(shares(priorities, threshold), expected, "{name}");
        }
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn shares_are_a_whole_and_only_go_to_those_that_can_serve(
            priorities in prop::collection::vec((0_u32..50, 1_u32..50), 1..6),
            threshold in 0_u32..=100,
        ) {
            let priorities: Vec<_> = priorities.iter().map(|(a, b)| (*a.min(b), *b)).collect();
            let found = shares(&priorities, threshold);
            let anybody = priorities.iter().any(|one| one.0 > 0) || threshold > 0;
            let sum: u32 = found.iter().map(|one| one.0).sum();
            prop_assert_eq!(sum, if anybody { 100 } else { 0 });
            for (one, (share, panic)) in priorities.iter().zip(&found) {
                prop_assert!(*share == 0 || one.0 > 0 || *panic);
            }
            // No spill while the first can serve everything.
            if priorities[0].0 * 140 / priorities[0].1 >= 100 {
                prop_assert_eq!(found[0], (100, false));
            }
        }
    }
}
