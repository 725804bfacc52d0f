//! How much may be under way at once to one cluster from one process.
//!
//! Envoy calls these "circuit breaker thresholds". They are counted per cluster (host, port and
//! subset) and per process, not per endpoint.

use std::time::Duration;

use super::Percent;

/// The limits of a cluster. `u32::MAX` is Istio's "no limit".
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Limits {
    /// Connections to all endpoints together. An endpoint without any connection may always open
    /// one, as in Envoy.
    pub connections: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
    /// Requests in flight.
    pub requests: u32,
    /// How retries are limited.
    pub retries: RetryLimit,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: u32::MAX,
            pending: u32::MAX,
            requests: u32::MAX,
            retries: RetryLimit::Budget,
        }
    }
}

/// How retries of a cluster are limited.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RetryLimit {
    /// The mesh's own budget, a token bucket: a fifth of the requests plus three per second.
    #[default]
    Budget,
    /// At most so many retries in flight (`maxRetries`).
    Concurrent(u32),
    /// Retries in flight as a share of requests (`retryBudget`, Envoy's `retry_budget`).
    Share {
        /// The share of the requests that count.
        percent: Percent,
        /// So many retries are always allowed.
        minimum: u32,
        /// Which requests count: those that began within this time, whether they have ended or not
        /// (`budget_interval`); zero: those in flight or waiting for a connection.
        interval: Duration,
    },
}
