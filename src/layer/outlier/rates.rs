//! Who lies outside: success rates and failure percentages of one interval.

use crate::model::outlier::{FailurePercentage, SuccessRate};

/// The answers of one admitted host in one interval.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Sample {
    /// Which of the swept hosts.
    pub(super) index: usize,
    pub(super) successes: u64,
    pub(super) failures: u64,
}

impl Sample {
    fn total(&self) -> u64 {
        self.successes.saturating_add(self.failures)
    }

    /// In percent. The caller has made sure that there is an answer.
    fn success_rate(&self) -> f64 {
        100.0 * self.successes as f64 / self.total() as f64
    }
}

/// The samples with enough answers to be compared, or none if those are too few.
fn comparable(samples: &[Sample], volume: u32, minimum_hosts: u32) -> Vec<Sample> {
    // A volume of 0 still needs one answer: no rate without.
    let volume = u64::from(volume.max(1));
    let enough: Vec<_> = samples
        .iter()
        .filter(|sample| sample.total() >= volume)
        .copied()
        .collect();
    if enough.len() < minimum_hosts as usize {
        return Vec::new();
    }
    enough
}

/// The indices of the hosts whose success rate lies below the mean by more than `stdev_factor`
/// thousandths of the standard deviation (of the population, as in Envoy and A50).
pub(super) fn by_success_rate(samples: &[Sample], policy: &SuccessRate) -> Vec<usize> {
    let samples = comparable(samples, policy.request_volume, policy.minimum_hosts);
    let count = samples.len() as f64;
    let mean = samples.iter().map(Sample::success_rate).sum::<f64>() / count;
    let variance = samples
        .iter()
        .map(|sample| (sample.success_rate() - mean).powi(2))
        .sum::<f64>()
        / count;
    let threshold = mean - f64::from(policy.stdev_factor) / 1_000.0 * variance.sqrt();
    samples
        .iter()
        .filter(|sample| sample.success_rate() < threshold)
        .map(|sample| sample.index)
        .collect()
}

/// The indices of the hosts that fail at least the threshold.
pub(super) fn by_failure_percentage(samples: &[Sample], policy: &FailurePercentage) -> Vec<usize> {
    let threshold = u128::from(policy.threshold.value());
    comparable(samples, policy.request_volume, policy.minimum_hosts)
        .iter()
        .filter(|sample| {
            // Exact: no rounding can move a host over the line.
            u128::from(sample.failures) * 100 >= threshold * u128::from(sample.total())
        })
        .map(|sample| sample.index)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Percent;

    fn samples(counts: &[(u64, u64)]) -> Vec<Sample> {
        counts
            .iter()
            .enumerate()
            .map(|(index, &(successes, failures))| Sample {
                index,
                successes,
                failures,
            })
            .collect()
    }

    fn success_rate() -> SuccessRate {
        SuccessRate {
            stdev_factor: 1_900,
            enforcing: Percent::HUNDRED,
            minimum_hosts: 5,
            request_volume: 100,
        }
    }

    /// Envoy's documented example: rates 100, 100, 100, 100, 50 have mean 90, deviation 20, so the
    /// threshold is 52.
    #[test]
    fn success_rate_ejects_below_mean_minus_factor_times_deviation() {
        let good = (100, 0);
        let policy = success_rate();
        for (worst, out) in [((50, 50), vec![4]), ((51, 49), vec![4]), ((100, 0), vec![])] {
            let samples = samples(&[good, good, good, good, worst]);
            assert_eq!(by_success_rate(&samples, &policy), out, "{worst:?}");
        }
        let wider = SuccessRate {
            stdev_factor: 2_100,
            ..policy
        };
        let samples = samples(&[good, good, good, good, (50, 50)]);
        assert!(by_success_rate(&samples, &wider).is_empty());
    }

    #[test]
    fn rates_need_volume_and_hosts() {
        let good = (100, 0);
        let policy = success_rate();
        let few = samples(&[good, good, good, (0, 100)]);
        assert!(by_success_rate(&few, &policy).is_empty(), "four hosts");
        let thin = samples(&[good, good, good, good, (0, 99)]);
        assert!(by_success_rate(&thin, &policy).is_empty(), "99 requests");
        let none = SuccessRate {
            minimum_hosts: 0,
            request_volume: 0,
            ..policy
        };
        assert!(by_success_rate(&samples(&[(0, 0); 5]), &none).is_empty());
    }

    #[test]
    fn failure_percentage_ejects_at_the_threshold() {
        let policy = FailurePercentage {
            threshold: Percent::new(85).unwrap(),
            enforcing: Percent::HUNDRED,
            minimum_hosts: 2,
            request_volume: 20,
        };
        let samples = samples(&[(3, 17), (4, 17), (0, 19), (20, 0)]);
        assert_eq!(by_failure_percentage(&samples, &policy), [0]);
    }
}
