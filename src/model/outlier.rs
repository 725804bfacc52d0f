//! When an endpoint is ejected from its cluster, and for how long.
//!
//! The algorithms are Envoy's; the fields are those of Istio's `outlierDetection`. Defaults are
//! Istio's for a block that is there but empty.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Percent;

/// Passive health: what the answers of an endpoint say of it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Outlier {
    /// Ejects after so many 5xx answers (or failures of this side) in a row; `None`: never.
    pub consecutive_5xx: Option<NonZeroU32>,
    /// Ejects after so many gateway errors (502, 503, 504) in a row; `None`: never.
    pub consecutive_gateway: Option<NonZeroU32>,
    /// Whether failures that happened on this side (connect, reset, timeout) are counted apart,
    /// and the number in a row that ejects; `None`: they count as gateway and 5xx errors.
    pub local_origin: Option<LocalOrigin>,
    /// Statuses that count as errors instead of 500 to 599; empty: the default.
    pub error_statuses: Vec<u16>,
    /// Ejects endpoints whose success rate lies far below the cluster's mean.
    pub success_rate: Option<SuccessRate>,
    /// Ejects endpoints that fail more than a percentage.
    pub failure_percentage: Option<FailurePercentage>,
    /// Time between sweeps, which un-eject and compute rates. Default 10 s.
    pub interval: Duration,
    /// An ejection lasts this long times the number of ejections in a row. Default 30 s.
    pub base_ejection_time: Duration,
    /// No ejection lasts longer. Default 300 s, and at least `base_ejection_time`.
    pub max_ejection_time: Duration,
    /// The share of a cluster's endpoints that may be ejected at once. Default 10 %.
    pub max_ejection: Percent,
    /// Whether at least one endpoint may be ejected whatever `max_ejection` says, if there are two
    /// or more (gRPC A50). Envoy's rule, which for fewer than ten endpoints and 10 % never ejects
    /// any, is `false`.
    pub always_eject_one: bool,
}

/// Failures of this side, counted apart.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct LocalOrigin {
    /// Ejects after so many in a row; `None`: never.
    pub consecutive: Option<NonZeroU32>,
}

/// Ejection by success rate (Envoy's and gRPC A50's algorithm).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SuccessRate {
    /// Ejects below `mean - factor / 1000 * standard deviation`. Default 1,900.
    pub stdev_factor: u32,
    /// The share of detections that eject.
    pub enforcing: Percent,
    /// At least so many endpoints must have `request_volume`. Default 5.
    pub minimum_hosts: u32,
    /// So many requests in one interval make an endpoint count. Default 100.
    pub request_volume: u32,
}

/// Ejection by failure percentage (Envoy's and gRPC A50's algorithm).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FailurePercentage {
    /// Ejects at or above this percentage. Default 85.
    pub threshold: Percent,
    /// The share of detections that eject.
    pub enforcing: Percent,
    /// At least so many endpoints must have `request_volume`. Default 5.
    pub minimum_hosts: u32,
    /// So many requests in one interval make an endpoint count. Default 50.
    pub request_volume: u32,
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            consecutive_5xx: NonZeroU32::new(5),
            consecutive_gateway: None,
            local_origin: None,
            error_statuses: Vec::new(),
            success_rate: None,
            failure_percentage: None,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection: Percent::TEN,
            always_eject_one: true,
        }
    }
}
