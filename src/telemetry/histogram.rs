//! How often a value fell where.

use std::sync::atomic::{AtomicU64, Ordering};

/// The upper bounds of Istio's histograms, in milliseconds or bytes; the last bucket has none.
pub(super) const BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Counts values by [`BOUNDS`]. Values are whole thousandths, so that their sum is exact.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    thousandths: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Distribution {
    /// How many values are at most each of the bounds; the last is all of them.
    pub(super) cumulative: Vec<u64>,
    pub(super) sum: f64,
}

impl Histogram {
    /// Counts one value.
    pub(super) fn record(&self, thousandths: u64) {
        let value = thousandths as f64 / 1_000.0;
        let bucket = BOUNDS.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.thousandths.fetch_add(thousandths, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Distribution {
        let mut sum = 0;
        let cumulative = self.buckets.iter().map(|bucket| {
            sum += bucket.load(Ordering::Relaxed);
            sum
        });
        Distribution {
            cumulative: cumulative.collect(),
            sum: self.thousandths.load(Ordering::Relaxed) as f64 / 1_000.0,
        }
    }
}

impl Distribution {
    /// Takes in those of another.
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, more) in self.cumulative.iter_mut().zip(&other.cumulative) {
            *sum += more;
        }
        self.sum += other.sum;
    }

    /// Takes off those of another, as far as they are here.
    pub(super) fn subtract(&mut self, other: &Self) {
        for (sum, less) in self.cumulative.iter_mut().zip(&other.cumulative) {
            *sum = sum.saturating_sub(*less);
        }
        self.sum = (self.sum - other.sum).max(0.0);
    }

    /// How many values there are.
    pub(super) fn count(&self) -> u64 {
        self.cumulative.last().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_what_is_above_all_to_the_last() {
        let histogram = Histogram::default();
        for thousandths in [0, 500, 501, 1_000, 3_600_000_000, 3_600_000_001] {
            histogram.record(thousandths);
        }
        let read = histogram.read();
        assert_eq!(read.cumulative[..3], [2, 4, 4]);
        assert_eq!(read.cumulative[18..], [5, 6]);
        assert_eq!(read.count(), 6);
        assert_eq!(read.sum, 7_200_000.0 + 0.002 + 2.0);
    }
}
