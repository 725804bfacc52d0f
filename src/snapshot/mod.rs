//! A configuration that is in force: all names resolved, all machinery running.
//!
//! The model names things; a [`Snapshot`] holds them. [`link`](link::link) turns one into the
//! other: every route gets the clusters it names, every cluster its endpoints, its limits and its
//! detector. What already runs is kept where an edit does not concern it, so that counters,
//! ejections and connections survive. The result is immutable and is swapped in by one atomic
//! store ([`Live`]); a request loads it once and sees nothing of a later edit. Except that endpoints
//! come and go within a cluster: an edit that changes nothing else is in force in place, for requests
//! that have not picked yet (see [`members`]).
//!
//! Rejected: a cluster map that is edited in place (a request could see the new route and the old
//! cluster) and a lock around the whole (it would stand on the path of every request).

mod aggregate;
mod changes;
mod cluster;
#[cfg_attr(
    not(feature = "xds"),
    allow(dead_code, reason = "only control planes are asked for names")
)]
mod demand;
mod difference;
mod endpoint;
mod gate;
mod health;
mod link;
#[cfg_attr(
    not(feature = "xds"),
    allow(dead_code, reason = "only control planes are told")
)]
mod load;
mod members;
mod on_demand;
mod overload;
mod propagation;
mod rates;
mod reports;
mod security;
mod series;
#[cfg_attr(
    not(feature = "inbound"),
    allow(dead_code, reason = "only who listens asks")
)]
mod server;
mod stats;
mod table;
mod tally;
mod turns;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use http::uri::Authority;

use crate::filter::Running;
use crate::layer::deadline::Announcement;
use crate::layer::fault::Injector;
use crate::layer::retry;
use crate::model;
use crate::name::Target;

pub(crate) use changes::{Moves, announce};
pub(crate) use cluster::{Cluster, Located};
pub(crate) use demand::{Demand, Held};
#[cfg(feature = "xds")]
pub(crate) use demand::{Naming, ServerNaming, Standing};
#[cfg(feature = "xds")]
pub(crate) use endpoint::Record;
pub(crate) use endpoint::{Endpoint, InFlight, Member};
pub(crate) use link::{Environment, link, replace_endpoints, retire, stand_alone};
#[cfg(feature = "xds")]
pub(crate) use load::ClusterLoad;
#[cfg(feature = "xds")]
pub(crate) use propagation::{Reported, Sum};
use rates::Limit;
pub(crate) use rates::Rates;
#[cfg(feature = "inbound")]
pub(crate) use server::Chain;
pub(crate) use stats::InboundCounts;
pub use stats::{ClusterStats, EndpointStats, InboundStats, Stats};
use table::Table;
pub(crate) use table::lower;
pub use tally::RouteStats;
pub(crate) use tally::Tallies;
use tally::Tally;
pub use turns::{ConnectionStats, DetectionStats};

/// One configuration in force.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Counts the configurations of this mesh, from 1; 0 is "none yet".
    /// An edit of endpoints alone counts up the one that is in force.
    generation: AtomicU64,
    /// What it was made of, but for the endpoints that have changed since.
    #[cfg_attr(
        not(feature = "inbound"),
        allow(dead_code, reason = "the admin endpoint asks for it")
    )]
    linked: Arc<model::Resources>,
    listeners: Map<Arc<str>, Arc<Table>>,
    /// Listeners that are called `host:port`, by both, where a source is asked for names: plain
    /// requests find them by their authority.
    addressed: Map<u16, Map<Box<str>, Arc<Table>>>,
    /// Virtual hosts by the port that the caller dials.
    ports: Map<u16, Arc<Table>>,
    /// The ports of each host, for targets that name none.
    hosts: Map<Box<str>, Vec<u16>>,
    clusters: HashMap<Arc<str>, Arc<Cluster>>,
    /// Listeners of servers.
    servers: HashMap<Arc<str>, Arc<server::Server>>,
    /// What is asked of requests that arrive; kept where an edit does not concern it.
    pub(crate) inbound: Arc<model::Inbound>,
    /// The clusters whose endpoints are those of a name.
    users: HashMap<Arc<str>, Vec<Arc<Cluster>>>,
    /// What happens to hosts that are not in here, if the configuration says.
    pub(crate) outbound_traffic: Option<model::OutboundTraffic>,
    /// The route of hosts that are not in here, if the configuration has a proxy for them.
    pub(crate) egress: Option<Arc<Route>>,
    /// What is asked of callers.
    #[cfg_attr(
        not(feature = "inbound"),
        allow(dead_code, reason = "only the door asks for it")
    )]
    pub(crate) peers: model::security::PeerPolicy,
    /// How much of callers is taken at once.
    #[cfg_attr(
        not(all(feature = "inbound", feature = "tls-core")),
        allow(dead_code, reason = "only the mesh's own listeners ask for it")
    )]
    pub(crate) capacities: model::capacity::Capacities,
}

/// What requests are looked up in. Its keys are the configuration's, so that nobody who sends requests
/// can choose keys that collide, and the hash may be a fast one.
type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A virtual host whose routes lead to clusters.
#[derive(Debug)]
pub(crate) struct VirtualHost {
    pub(crate) model: Arc<model::route::VirtualHost>,
    pub(crate) routes: Vec<Arc<Route>>,
}

/// A route, ready to be taken.
pub(crate) struct Route {
    pub(crate) model: Arc<model::route::Route>,
    /// One for each destination of a forwarding route, in order; `None`: it does not exist.
    pub(crate) clusters: Vec<Option<Arc<Cluster>>>,
    /// One for each mirror of a forwarding route, in order; `None`: it does not exist.
    pub(crate) mirrors: Vec<Option<Arc<Cluster>>>,
    /// Compiled, if the route retries.
    pub(crate) retry: Option<retry::Policy>,
    /// Running, if the route injects faults.
    pub(crate) fault: Option<Injector>,
    /// Running, if the route limits its requests.
    pub(crate) limits: Vec<Arc<Limit>>,
    /// The program's own, in the order in which requests meet them.
    pub(crate) filters: Arc<[Arc<dyn Running>]>,
    /// Where its answers are counted, if that is wanted.
    pub(crate) tally: Option<Arc<Tally>>,
    /// One for each destination of a forwarding route that has other faults; `None`: it has none.
    /// Empty if no destination has.
    pub(crate) own_faults: Vec<Option<Injector>>,
    /// What the callee is told of the time it has, if the route says.
    pub(crate) announced: Option<Announcement>,
}

impl Snapshot {
    /// A configuration that knows nobody.
    pub(crate) fn empty() -> Self {
        Self {
            generation: AtomicU64::new(0),
            linked: Arc::default(),
            listeners: Map::default(),
            addressed: Map::default(),
            ports: Map::default(),
            hosts: Map::default(),
            clusters: HashMap::new(),
            servers: HashMap::new(),
            // Nobody has said yet who may come in.
            inbound: Arc::new(model::Inbound::closed()),
            users: HashMap::new(),
            outbound_traffic: None,
            egress: None,
            peers: model::security::PeerPolicy::default(),
            capacities: model::capacity::Capacities::default(),
        }
    }

    /// Which of the mesh's configurations this is.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// What is in force: O(resources), for who asks.
    #[cfg(feature = "inbound")]
    pub(crate) fn resources(&self) -> model::Resources {
        let mut resources = model::Resources::clone(&self.linked);
        for (name, users) in &self.users {
            let endpoints = users.first().and_then(|one| one.endpoints.load_full());
            if let Some(endpoints) = endpoints {
                resources.endpoints.insert(name.clone(), endpoints);
            }
        }
        resources
    }

    /// One more, which is this one with other endpoints.
    fn count_edit(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// The virtual host that a channel's target names.
    pub(crate) fn target(&self, target: &Target) -> Option<&Arc<VirtualHost>> {
        match target {
            Target::Listener { name, authority } => {
                of_authority(self.listeners.get(name)?, authority)
            }
            Target::Host { host, port, .. } => {
                let port = port.unwrap_or_else(|| self.sole_port(host));
                self.ports.get(&port)?.find(host)
            }
        }
    }

    /// The virtual host for the authority of a plain request.
    pub(crate) fn authority(
        &self,
        authority: &Authority,
        default_port: u16,
    ) -> Option<&Arc<VirtualHost>> {
        let port = authority.port_u16().unwrap_or(default_port);
        let by_port = self.ports.get(&port);
        by_port
            .and_then(|table| table.find(authority.host()))
            .or_else(|| {
                let table = self.addressed.get(&port)?.get(&*lower(authority.host()))?;
                of_authority(table, authority)
            })
    }

    fn sole_port(&self, host: &str) -> u16 {
        match self.hosts.get(host).map(Vec::as_slice) {
            Some([port]) => *port,
            Some(_) | None => 80,
        }
    }

    /// The listener of a server.
    #[cfg(feature = "inbound")]
    pub(crate) fn server(&self, name: &str) -> Option<&Arc<server::Server>> {
        self.servers.get(name)
    }

    /// All clusters, in no order.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }
}

/// The virtual host of a listener for an authority: with its port as gRPC looks for it, else the
/// host alone, since both are written.
fn of_authority<'t>(table: &'t Table, authority: &Authority) -> Option<&'t Arc<VirtualHost>> {
    let whole = authority.as_str();
    let host = authority.host();
    let found = table.find(whole);
    found.or_else(|| (host.len() < whole.len()).then(|| table.find(host))?)
}

/// The configuration in force, for all who send requests.
#[derive(Debug)]
pub(crate) struct Live {
    current: ArcSwap<Snapshot>,
}

impl Live {
    pub(crate) fn new() -> Self {
        Self {
            current: ArcSwap::from_pointee(Snapshot::empty()),
        }
    }

    /// The configuration as of now. Called once for each request: two loads could differ.
    pub(crate) fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The configuration as of now, to be held for longer than a request's first step.
    pub(crate) fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Puts a configuration in force and returns it.
    pub(crate) fn store(&self, next: Snapshot) -> Arc<Snapshot> {
        let next = Arc::new(next);
        self.current.store(next.clone());
        next
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("name", &self.model.name)
            .finish_non_exhaustive()
    }
}
