//! Clusters whose endpoint is the host that a request asks for.
//!
//! Istio's `resolution: NONE` and `DYNAMIC_DNS`, and the cluster of hosts that nobody declared, have
//! no members to pick from: each host gets a cluster of one endpoint when it is first asked for,
//! which shares limits, counters and settings with the one that the configuration names. The number
//! of hosts is bounded; the one that was not used for longest makes room.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::uri::Authority;
use tokio::time::Instant;

use super::changes::Moves;
use super::cluster::Cluster;
use super::link::Environment;
use super::lower;
use super::members::cluster;
use crate::model::cluster::Discovery;
use crate::model::endpoint::{Address, Endpoint, Health, Locality, LocalityEndpoints};
use crate::model::{self, List, Origin};

/// More hosts than these at once make a cluster forget the one that was not used for longest.
const MAX_HOSTS: usize = 1_024;

/// The hosts that were asked for.
#[derive(Debug)]
pub(crate) struct OnDemand {
    /// The port that is connected to; `None`: that of the request.
    port: Option<u16>,
    // A lock is fine here: these requests leave the mesh, and it is held for a lookup.
    hosts: Mutex<HashMap<(Box<str>, u16), Known>>,
}

#[derive(Debug)]
struct Known {
    cluster: Arc<Cluster>,
    used: Instant,
}

impl OnDemand {
    /// The hosts of a cluster that is found on demand.
    pub(super) fn of(discovery: &Discovery) -> Option<Self> {
        let port = match discovery {
            Discovery::Aggregate(_) | Discovery::Dns(_) | Discovery::Endpoints(_) => return None,
            Discovery::OnDemand { port } => Some(*port),
            Discovery::Passthrough => None,
        };
        Some(Self {
            port,
            hosts: Mutex::default(),
        })
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<(Box<str>, u16), Known>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the encrypted connections that there are.
    #[cfg(feature = "tls-core")]
    pub(super) fn renew(&self) {
        for known in self.hosts().values() {
            known.cluster.renew();
        }
    }

    /// Keeps no connection longer than a request needs it.
    pub(super) fn retire(&self) {
        for (_, known) in self.hosts().drain() {
            known.cluster.retire();
        }
    }

    /// Ends all connections with the requests that are under way.
    pub(super) fn close(&self) {
        for (_, known) in self.hosts().drain() {
            known.cluster.close();
        }
    }
}

impl Cluster {
    /// The cluster that a request to `authority` uses: this one, unless it is an aggregate or its
    /// endpoint is the host that was asked for. `port` is the one that the request means.
    pub(crate) fn toward(
        self: &Arc<Self>,
        authority: &Authority,
        port: u16,
        environment: &Environment,
    ) -> Arc<Self> {
        let this = self.member().unwrap_or(self);
        let Some(on_demand) = &this.on_demand else {
            return this.clone();
        };
        let port = on_demand.port.unwrap_or(port);
        let key = (
            Box::from(lower(authority.host()).trim_end_matches('.')),
            port,
        );
        let now = Instant::now();
        let mut hosts = on_demand.hosts();
        if let Some(known) = hosts.get_mut(&key) {
            known.used = now;
            return known.cluster.clone();
        }
        if hosts.len() >= MAX_HOSTS {
            forget_oldest(&mut hosts);
        }
        let cluster = this.of_host(address(&key.0, port), environment);
        let known = Known {
            cluster: cluster.clone(),
            used: now,
        };
        hosts.insert(key, known);
        cluster
    }

    /// A cluster of one endpoint, which counts with this one.
    fn of_host(self: &Arc<Self>, address: Address, environment: &Environment) -> Arc<Self> {
        let name = self.model.name.clone();
        let model = model::Cluster {
            discovery: Discovery::Endpoints(name.clone()),
            // A host that somebody asked for has no substitute, so nobody is ejected: Envoy's
            // cluster of original destinations does not look at health either.
            outlier: None,
            health_check: None,
            load_metrics: Vec::new(),
            ..model::Cluster::clone(&self.model)
        };
        let endpoints = model::Endpoints {
            name,
            localities: vec![LocalityEndpoints {
                locality: Locality::default(),
                priority: 0,
                weight: None,
                endpoints: List::from([Endpoint {
                    address,
                    weight: NonZeroU32::MIN,
                    health: Health::Healthy,
                    labels: Arc::default(),
                    meshed: false,
                    hostname: None,
                }]),
            }],
            overloads: Vec::new(),
            origin: Origin::built_in(),
        };
        cluster(
            Some(self),
            &Arc::new(model),
            Some(&Arc::new(endpoints)),
            environment,
            // It stays as long as it is used; nobody is told of it.
            &mut Moves::default(),
        )
    }
}

fn forget_oldest(hosts: &mut HashMap<(Box<str>, u16), Known>) {
    let oldest = hosts
        .iter()
        .min_by_key(|(_, known)| known.used)
        .map(|(key, _)| key.clone());
    if let Some(forgotten) = oldest.and_then(|key| hosts.remove(&key)) {
        forgotten.cluster.retire();
    }
}

fn address(host: &str, port: u16) -> Address {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match bare.unwrap_or(host).parse::<IpAddr>() {
        Ok(ip) => Address::Socket(SocketAddr::new(ip, port)),
        Err(_) => Address::Name {
            host: host.into(),
            port,
        },
    }
}
