//! The bench config: what every comparison of the mesh's speed runs with.

use std::time::Duration;

use meshwork::model::limit::{Limits, RetryLimit};
use meshwork::model::outlier::Outlier;

pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const ENDPOINTS: usize = 10;
/// Of all random choices, so that a rung does the same in every run.
pub(crate) const SEED: u64 = 1;

/// 100 connections, 1,024 requests that wait for one, 4,096 requests.
pub(crate) fn limits() -> Limits {
    Limits {
        connections: 100,
        pending: 1_024,
        requests: 4_096,
        retries: RetryLimit::Budget,
    }
}

/// Istio's defaults.
pub(crate) fn outlier() -> Outlier {
    Outlier::default()
}
