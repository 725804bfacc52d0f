//! Hosts that the mesh does not know.
//!
//! As with a sidecar under `outboundTrafficPolicy: ALLOW_ANY` they are reached by DNS, without
//! policies, as cluster `PassthroughCluster`; under `REGISTRY_ONLY` they are refused. Each host and
//! port gets a cluster of one endpoint, kept while it is used; the number of them is bounded.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use http::uri::Authority;
use tokio::time::Instant;

use crate::error::{Error, Kind};
use crate::model::endpoint::{Address, Endpoint, Health, Locality, LocalityEndpoints};
use crate::model::matcher::RouteMatcher;
use crate::model::route::{Action, Destinations, Forward, HeaderChanges};
use crate::model::{self, Origin, Percent};
use crate::snapshot::{Environment, Route, lower, stand_alone};

/// What happens to requests for hosts that are not in the registry
/// (`MeshConfig.outboundTrafficPolicy`).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum OutboundTraffic {
    /// They are sent to where DNS says, without policies (`ALLOW_ANY`).
    #[default]
    AllowAny,
    /// They are refused with 502 (`REGISTRY_ONLY`).
    RegistryOnly,
}

const CLUSTER: &str = "PassthroughCluster";

/// More hosts than these at once make the mesh forget the one that was not used for longest.
const MAX_HOSTS: usize = 1_024;

pub(crate) struct Passthrough {
    policy: OutboundTraffic,
    // A lock is fine here: these requests have left the mesh, and it is held for a lookup.
    hosts: Mutex<HashMap<(Box<str>, u16), Known>>,
}

struct Known {
    route: Arc<Route>,
    used: Instant,
}

impl Passthrough {
    pub(crate) fn new(policy: OutboundTraffic) -> Self {
        Self {
            policy,
            hosts: Mutex::default(),
        }
    }

    /// The route to an unknown host.
    pub(crate) fn route(
        &self,
        authority: &Authority,
        port: u16,
        environment: &Environment,
    ) -> Result<Arc<Route>, Error> {
        match self.policy {
            OutboundTraffic::AllowAny => {}
            OutboundTraffic::RegistryOnly => {
                let authority = authority.as_str().into();
                return Err(Error::new(Kind::Blocked { authority }));
            }
        }
        let key = (Box::from(&*lower(authority.host())), port);
        let now = Instant::now();
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hosts.get_mut(&key) {
            known.used = now;
            return Ok(known.route.clone());
        }
        if hosts.len() >= MAX_HOSTS {
            forget_oldest(&mut hosts);
        }
        let route = route_to(&key.0, port, environment);
        let known = Known {
            route: route.clone(),
            used: now,
        };
        hosts.insert(key, known);
        Ok(route)
    }

    /// Lets go of all connections.
    pub(crate) fn close(&self) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        for cluster in hosts
            .drain()
            .flat_map(|(_, known)| known.route.clusters.clone())
            .flatten()
        {
            cluster.close();
        }
    }
}

impl Known {
    fn retire(&self) {
        for cluster in self.route.clusters.iter().flatten() {
            cluster.retire();
        }
    }
}

fn forget_oldest(hosts: &mut HashMap<(Box<str>, u16), Known>) {
    let oldest = hosts
        .iter()
        .min_by_key(|(_, known)| known.used)
        .map(|(key, _)| key.clone());
    if let Some(forgotten) = oldest.and_then(|key| hosts.remove(&key)) {
        forgotten.retire();
    }
}

fn route_to(host: &str, port: u16, environment: &Environment) -> Arc<Route> {
    let cluster = model::Cluster {
        name: CLUSTER.into(),
        discovery: model::cluster::Discovery::Passthrough,
        balancing: model::cluster::Balancing::default(),
        spread: model::balancing::Spread::default(),
        panic_threshold: Percent::ZERO,
        connect_timeout: std::time::Duration::from_secs(10),
        protocol: model::cluster::Protocol::SameAsRequest,
        connection: model::cluster::Connection::default(),
        limits: model::limit::Limits::default(),
        outlier: None,
        origin: Origin::built_in(),
    };
    let endpoints = model::Endpoints {
        name: CLUSTER.into(),
        localities: vec![LocalityEndpoints {
            locality: Locality::default(),
            priority: 0,
            weight: None,
            endpoints: vec![Endpoint {
                address: address(host, port),
                weight: NonZeroU32::MIN,
                health: Health::Healthy,
                labels: Arc::default(),
            }],
        }],
        origin: Origin::built_in(),
    };
    let route = model::route::Route {
        name: "allow_any".into(),
        matcher: RouteMatcher::everything(),
        action: Action::Forward(Box::new(Forward {
            destinations: Destinations::single(CLUSTER),
            timeout: None,
            idle_timeout: None,
            retry: None,
            path_rewrite: None,
            authority_rewrite: None,
            mirrors: Vec::new(),
            affinity: model::affinity::Affinity::default(),
        })),
        headers: HeaderChanges::default(),
        fault: None,
        origin: Origin::built_in(),
    };
    stand_alone(route, cluster, endpoints, environment)
}

fn address(host: &str, port: u16) -> Address {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match bare.unwrap_or(host).parse() {
        Ok(ip) => Address::Socket(std::net::SocketAddr::new(ip, port)),
        Err(_) => Address::Name {
            host: host.into(),
            port,
        },
    }
}
