//! A whole configuration: every resource of one client's view, by kind and by name.
//!
//! This is what a source hands on and what is linked into a snapshot. The four maps are ordered,
//! so that two sources that say the same say it in the same order, and values are shared, so that
//! an edit of one resource keeps the others by pointer. References between resources are names
//! here; whether they hold is found out when the set is linked.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::capacity::Capacities;
use super::security::PeerPolicy;
use super::server::ServerListener;
use super::{
    Cluster, Endpoints, Inbound, Listener, OutboundTraffic, RouteConfiguration, Telemetry,
};

/// Every resource of one configuration, each under its own name.
///
/// ```
/// use meshwork::model::Resources;
///
/// let nothing = Resources::default();
/// assert!(nothing.is_empty());
/// assert_eq!(nothing, Resources::default());
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Resources {
    /// API listeners: the names that a channel is opened for.
    pub listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    /// Route configurations that listeners name.
    pub routes: BTreeMap<Arc<str>, Arc<RouteConfiguration>>,
    /// Clusters that routes name.
    pub clusters: BTreeMap<Arc<str>, Arc<Cluster>>,
    /// The endpoints that clusters name.
    pub endpoints: BTreeMap<Arc<str>, Arc<Endpoints>>,
    /// Listeners of servers, which only a control plane has.
    pub servers: BTreeMap<Arc<str>, Arc<ServerListener>>,
    /// What is asked of requests that arrive, where no listener of a server says it.
    pub inbound: Arc<Inbound>,
    /// What happens to hosts that are not in here; `None`: nothing is said.
    pub outbound_traffic: Option<OutboundTraffic>,
    /// The cluster that gets requests for hosts that are not in here and may be passed through
    /// (`egressProxy`); `None`: they go where DNS says.
    pub egress_proxy: Option<Arc<str>>,
    /// What is asked of callers.
    pub peers: PeerPolicy,
    /// How much of callers is taken at once, by port.
    pub capacities: Capacities,
    /// What is told of requests.
    pub telemetry: Arc<Telemetry>,
}

impl Resources {
    /// Whether there is no resource of any kind, and nothing said of other hosts and of requests
    /// that arrive.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            listeners,
            routes,
            clusters,
            endpoints,
            servers,
            inbound,
            outbound_traffic,
            egress_proxy,
            peers,
            capacities,
            telemetry,
        } = self;
        listeners.is_empty()
            && servers.is_empty()
            && routes.is_empty()
            && clusters.is_empty()
            && endpoints.is_empty()
            && **inbound == Inbound::default()
            && outbound_traffic.is_none()
            && egress_proxy.is_none()
            && *peers == PeerPolicy::default()
            && *capacities == Capacities::default()
            && **telemetry == Telemetry::default()
    }

    /// The endpoints of `after` that differ from those here, if all else is not only equal but the
    /// same: equal values may come from other lines of a file.
    ///
    /// O(resources), of which those that are shared are not looked into.
    pub(crate) fn changed_endpoints<'a>(&self, after: &'a Self) -> Option<Vec<&'a Arc<Endpoints>>> {
        let Self {
            listeners,
            routes,
            clusters,
            endpoints,
            servers,
            inbound,
            outbound_traffic,
            egress_proxy,
            peers,
            capacities,
            telemetry,
        } = self;
        let rest = same(clusters, &after.clusters)
            && same(routes, &after.routes)
            && same(listeners, &after.listeners)
            && same(servers, &after.servers)
            && *inbound == after.inbound
            && *outbound_traffic == after.outbound_traffic
            && *egress_proxy == after.egress_proxy
            && *peers == after.peers
            && *capacities == after.capacities
            && *telemetry == after.telemetry;
        // Names that come or go may be the endpoints of any cluster.
        if !rest || !endpoints.keys().eq(after.endpoints.keys()) {
            return None;
        }
        let both = endpoints.values().zip(after.endpoints.values());
        let changed = both.filter(|(before, after)| before != after);
        Some(changed.map(|(_, after)| after).collect())
    }

    /// Puts a listener in under its name, in place of the one that was there.
    pub fn insert_listener(&mut self, listener: Listener) {
        self.listeners
            .insert(listener.name.clone(), Arc::new(listener));
    }

    /// Puts a route configuration in under its name, in place of the one that was there.
    pub fn insert_routes(&mut self, routes: RouteConfiguration) {
        self.routes.insert(routes.name.clone(), Arc::new(routes));
    }

    /// Puts a cluster in under its name, in place of the one that was there.
    pub fn insert_cluster(&mut self, cluster: Cluster) {
        self.clusters
            .insert(cluster.name.clone(), Arc::new(cluster));
    }

    /// Puts endpoints in under their name, in place of those that were there.
    pub fn insert_endpoints(&mut self, endpoints: Endpoints) {
        self.endpoints
            .insert(endpoints.name.clone(), Arc::new(endpoints));
    }
}

fn same<T>(one: &BTreeMap<Arc<str>, Arc<T>>, other: &BTreeMap<Arc<str>, Arc<T>>) -> bool {
    let both = || one.iter().zip(other);
    one.len() == other.len()
        && both().all(|(one, other)| one.0 == other.0 && Arc::ptr_eq(one.1, other.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Origin;

    #[test]
    fn a_resource_replaces_the_one_of_its_name_and_only_that() {
        let mut resources = Resources::default();
        let endpoints = |name: &str| Endpoints {
            name: name.into(),
            localities: Vec::new(),
            overloads: Vec::new(),
            origin: Origin::built_in(),
        };
        resources.insert_endpoints(endpoints("a"));
        resources.insert_endpoints(endpoints("b"));
        let before = resources.endpoints["b"].clone();
        resources.insert_endpoints(endpoints("a"));
        assert_eq!(resources.endpoints.len(), 2);
        assert!(Arc::ptr_eq(&before, &resources.endpoints["b"]));
        assert!(!resources.is_empty());
    }
}
