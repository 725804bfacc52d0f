//! How much a process takes at once on the ports where it listens.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// What one port takes at once; `None`: no limit of the configuration.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Capacity {
    /// Connections of callers; one too many is closed as soon as it is accepted.
    pub connections: Option<NonZeroU32>,
    /// Requests until the end of their response bodies; one too many is answered with 503, or
    /// UNAVAILABLE, and the header `x-envoy-overloaded`.
    pub requests: Option<NonZeroU32>,
}

impl Capacity {
    /// The lower of each limit.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let lower = |one: Option<NonZeroU32>, other: Option<NonZeroU32>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self {
            connections: lower(self.connections, other.connections),
            requests: lower(self.requests, other.requests),
        }
    }
}

/// What each port takes at once (Istio's `Sidecar.inboundConnectionPool`, and the `connectionPool` of a
/// DestinationRule on the side of its service). Default: no limits.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Capacities {
    /// What holds for ports that are not listed.
    pub every: Capacity,
    /// What holds for single ports that this process listens on.
    pub ports: BTreeMap<u16, Capacity>,
}

impl Capacities {
    /// What holds for a port.
    ///
    /// ```
    /// use std::num::NonZeroU32;
    ///
    /// use meshwork::model::capacity::{Capacities, Capacity};
    ///
    /// let few = Capacity { requests: NonZeroU32::new(10), ..Capacity::default() };
    /// let all = Capacities { ports: [(8_080, few)].into(), ..Capacities::default() };
    /// assert_eq!(all.on(8_080), few);
    /// assert_eq!(all.on(8_081), Capacity::default());
    /// ```
    #[must_use]
    pub fn on(&self, port: u16) -> Capacity {
        self.ports.get(&port).copied().unwrap_or(self.every)
    }
}
