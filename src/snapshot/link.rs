//! From a set of resources to a snapshot.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::Notify;

use crate::event::Announcer;
use crate::filter::Filters;
use crate::layer::balance::HashKey;
use crate::layer::deadline::Announcement;
use crate::layer::fault::{ActiveFaults, Injector};
use crate::layer::retry;
use crate::model::affinity::Affinity;
use crate::model::cluster::Discovery;
use crate::model::fault::Fault;
use crate::model::listener::Routes;
use crate::model::matcher::RouteMatcher;
use crate::model::route::{
    Action, Destination, Destinations, Domain, Forward, HeaderChanges, OwnFault,
};
use crate::model::upgrade::Upgrades;
use crate::model::{self, Origin, Resources, RouteConfiguration};
use crate::random::Random;
use crate::telemetry::Registry;
use crate::transport::{Answer, Connect};

use super::aggregate::leaves;
use super::changes::Moves;
use super::cluster::Cluster;
use super::demand::Demand;
use super::members::{aggregate, cluster, renew};
use super::rates::Rates;
use super::server::Server;
use super::table::{Table, addressed};
use super::tally::Tallies;
use super::{Map, Route, Snapshot, VirtualHost};

/// What linking needs from the process.
#[derive(Clone)]
pub(crate) struct Environment {
    /// Counted for the whole mesh, as gRPC A33 has it, so that edits do not forget any.
    pub(crate) active_faults: ActiveFaults,
    /// Answers in place of all endpoints, in benchmarks and tests.
    pub(crate) answer: Option<Answer>,
    /// Told when active checks have changed their mind about an endpoint.
    pub(crate) checked: Arc<Notify>,
    pub(crate) connector: Arc<dyn Connect>,
    /// What is asked of a source that is asked for names.
    pub(crate) demand: Option<Arc<Demand>>,
    pub(crate) events: Announcer,
    /// What the program has added.
    pub(crate) filters: Filters,
    /// Where the certificates are that clusters name.
    #[cfg(feature = "tls-core")]
    pub(crate) materials: crate::tls::Materials,
    pub(crate) random: Random,
    /// The limits of requests in a time that run.
    pub(crate) rates: Rates,
    /// What is counted by route.
    pub(crate) tallies: Tallies,
    /// What is measured.
    pub(crate) telemetry: Registry,
    /// What stands for this client where requests are kept together by their source.
    pub(crate) source: HashKey,
}

/// Links `resources`, keeping from `before` all that still holds.
///
/// It cannot fail: a route whose cluster is missing answers 503 `NC`, a listener whose routes are
/// missing has no virtual host, as in Envoy. Sources report such references as faults before.
/// Endpoints that nobody uses any more are to be retired when the result is in force (see
/// [`retire`]).
pub(crate) fn link(
    before: &Snapshot,
    resources: &Arc<Resources>,
    environment: &Environment,
) -> (Snapshot, Moves) {
    let mut moves = Moves::default();
    let mut clusters = HashMap::with_capacity(resources.clusters.len());
    let mut users: HashMap<Arc<str>, Vec<Arc<Cluster>>> = HashMap::new();
    for (name, model) in &resources.clusters {
        if matches!(model.discovery, Discovery::Aggregate(_)) {
            // It is made of the others, below.
            continue;
        }
        let named = model.discovery.endpoints();
        let endpoints = named.and_then(|name| resources.endpoints.get(name));
        let old = before.clusters.get(name);
        let cluster = cluster(old, model, endpoints, environment, &mut moves);
        if let Some(named) = named {
            users
                .entry(named.clone())
                .or_default()
                .push(cluster.clone());
        }
        clusters.insert(name.clone(), cluster);
    }
    let mut aggregates = Vec::new();
    for (name, model) in &resources.clusters {
        if let Discovery::Aggregate(members) = &model.discovery {
            let leaves = leaves(members, &resources.clusters, &clusters);
            let old = before.clusters.get(name);
            let made = aggregate(old, model, leaves, environment, &mut moves);
            aggregates.push((name.clone(), made));
        }
    }
    clusters.extend(aggregates);
    for (name, old) in &before.clusters {
        if !clusters.contains_key(name) {
            moves.all_down(old);
        }
    }
    let mut linker = Linker {
        environment,
        clusters: &clusters,
        done: HashMap::new(),
    };
    let mut listeners = Map::default();
    let mut tables: HashMap<*const RouteConfiguration, Arc<Table>> = HashMap::new();
    for (name, listener) in &resources.listeners {
        let routes = match &listener.routes {
            Routes::Inline(routes) => Some(routes),
            Routes::Named(name) => resources.routes.get(name),
        };
        if let Some(routes) = routes {
            let table = tables
                .entry(Arc::as_ptr(routes))
                .or_insert_with(|| linker.table(routes, Side::Client))
                .clone();
            listeners.insert(name.clone(), table);
        }
    }
    let addressed = match &environment.demand {
        Some(_) => addressed(&listeners),
        None => Map::default(),
    };
    let mut ports = Map::default();
    let mut hosts: Map<Box<str>, Vec<u16>> = Map::default();
    for (name, routes) in &resources.routes {
        if let Ok(port) = name.parse::<u16>() {
            ports.insert(port, linker.table(routes, Side::Client));
            for_each_host(routes, |host| {
                hosts.entry(host.into()).or_default().push(port)
            });
        }
    }
    let servers = resources.servers.iter().map(|(name, model)| {
        let before = before.servers.get(name);
        let server = match before.filter(|before| Arc::ptr_eq(&before.model, model)) {
            Some(before) => before.clone(),
            None => Arc::new(Server::new(model, environment, |chain| {
                Some(linker.table(&chain.routes.as_ref()?.routes, Side::Server))
            })),
        };
        (name.clone(), server)
    });
    let servers = servers.collect();
    let egress = resources.egress_proxy.as_ref();
    let egress = egress.map(|cluster| linker.route(&Arc::new(egress_route(cluster))));
    environment.rates.prune();
    environment.tallies.prune();
    let snapshot = Snapshot {
        generation: AtomicU64::new(before.generation() + 1),
        linked: resources.clone(),
        listeners,
        addressed,
        ports,
        hosts,
        clusters,
        servers,
        inbound: if before.inbound == resources.inbound {
            before.inbound.clone()
        } else {
            resources.inbound.clone()
        },
        users,
        outbound_traffic: resources.outbound_traffic,
        egress,
        peers: resources.peers.clone(),
        capacities: resources.capacities.clone(),
    };
    (snapshot, moves)
}

/// The route of unknown hosts to a proxy, which is asked for them by their names.
fn egress_route(cluster: &Arc<str>) -> model::route::Route {
    model::route::Route {
        name: "allow_any".into(),
        matcher: RouteMatcher::everything(),
        action: Action::Forward(Box::new(Forward {
            destinations: Destinations::single(cluster.clone()),
            timeout: None,
            idle_timeout: None,
            retry: None,
            path_rewrite: None,
            authority_rewrite: None,
            endpoint_authority: false,
            mirrors: Vec::new(),
            affinity: Affinity::default(),
            upgrades: Upgrades::default(),
        })),
        headers: HeaderChanges::default(),
        fault: None,
        filters: Vec::new(),
        limits: Vec::new(),
        stat_prefix: None,
        origin: Origin::built_in(),
    }
}

/// Lets go of the connections of all endpoints that `after`, which is in force, does not use any
/// more. Requests that are on their way to them finish.
pub(crate) fn retire(before: &Snapshot, after: &Snapshot, moves: &Moves) {
    moves.retire();
    for (name, old) in &before.clusters {
        let new = after.clusters.get(name);
        if new.is_none() {
            old.running.checks.end();
            old.running.reports.end();
        }
        let kept = new.is_some_and(|new| Arc::ptr_eq(new, old));
        if !kept && let Some(on_demand) = &old.on_demand {
            on_demand.retire();
        }
    }
}

/// Puts other endpoints in force in all clusters that have them, each from the name that it has them
/// from, and counts that as a configuration of its own.
///
/// O(change): routes and all other clusters stay as they are. See [`super::members`].
pub(crate) fn replace_endpoints(
    current: &Snapshot,
    endpoints: &[&Arc<model::Endpoints>],
    environment: &Environment,
) -> Moves {
    let mut moves = Moves::default();
    for endpoints in endpoints {
        for cluster in current.users.get(&endpoints.name).into_iter().flatten() {
            renew(cluster, endpoints, environment, &mut moves);
        }
    }
    current.count_edit();
    moves.retire();
    moves
}

/// Calls `visit` for every exact domain without a port.
fn for_each_host(routes: &RouteConfiguration, mut visit: impl FnMut(&str)) {
    for domain in routes.virtual_hosts.iter().flat_map(|host| &host.domains) {
        match domain {
            Domain::Exact(text) if !has_port(text) => visit(text),
            Domain::Exact(_) | Domain::Suffix(_) | Domain::Prefix(_) | Domain::Any => {}
        }
    }
}

fn has_port(authority: &str) -> bool {
    authority
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.contains(':') && port.parse::<u16>().is_ok())
        || authority.contains("]:")
}

struct Linker<'a> {
    environment: &'a Environment,
    clusters: &'a HashMap<Arc<str>, Arc<Cluster>>,
    /// Each virtual host is linked once for each side, also if it stands in several route configurations.
    done: HashMap<(*const model::route::VirtualHost, Side), Arc<VirtualHost>>,
}

/// Whose routes they are.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Side {
    Client,
    Server,
}

impl Linker<'_> {
    fn table(&mut self, routes: &RouteConfiguration, side: Side) -> Arc<Table> {
        let mut table = Table::default();
        for model in &routes.virtual_hosts {
            table.insert(&self.virtual_host(model, side));
        }
        Arc::new(table)
    }

    fn virtual_host(
        &mut self,
        model: &Arc<model::route::VirtualHost>,
        side: Side,
    ) -> Arc<VirtualHost> {
        let key = (Arc::as_ptr(model), side);
        if let Some(done) = self.done.get(&key) {
            return done.clone();
        }
        let taken = |action: &Action| match (action, side) {
            (Action::Unknown, Side::Client) => false,
            (Action::Unknown, Side::Server)
            | (Action::Direct(_) | Action::Forward(_) | Action::Redirect(_) | Action::Serve, _) => {
                true
            }
        };
        let routes = model.routes.iter().filter(|model| taken(&model.action));
        let routes = routes.map(|model| self.route(model));
        let host = Arc::new(VirtualHost {
            routes: routes.collect(),
            model: model.clone(),
        });
        self.done.insert(key, host.clone());
        host
    }

    fn route(&self, model: &Arc<model::route::Route>) -> Arc<Route> {
        let named = |name: &Arc<str>| self.clusters.get(name).cloned();
        let (clusters, mirrors, retry, announced) = match &model.action {
            Action::Forward(forward) => (
                forward
                    .destinations
                    .all()
                    .iter()
                    .map(|one| named(&one.cluster))
                    .collect(),
                forward
                    .mirrors
                    .iter()
                    .map(|one| named(&one.cluster))
                    .collect(),
                forward.retry.as_ref().map(retry::Policy::new),
                announced(forward),
            ),
            Action::Direct(_) | Action::Redirect(_) | Action::Serve | Action::Unknown => {
                (Vec::new(), Vec::new(), None, None)
            }
        };
        let injector = |fault: &Fault| {
            Injector::counting(fault.clone(), self.environment.active_faults.clone())
        };
        let destinations = match &model.action {
            Action::Forward(forward) => forward.destinations.all(),
            Action::Direct(_) | Action::Redirect(_) | Action::Serve | Action::Unknown => &[],
        };
        let own = |one: &Destination| match &one.fault {
            OwnFault::AsRoute => model.fault.as_ref().map(injector),
            OwnFault::Nothing => None,
            OwnFault::This(fault) => Some(injector(fault)),
        };
        let differs = |one: &Destination| one.fault != OwnFault::AsRoute;
        let own_faults = match destinations.iter().any(differs) {
            true => destinations.iter().map(own).collect(),
            false => Vec::new(),
        };
        Arc::new(Route {
            model: model.clone(),
            clusters,
            mirrors,
            retry,
            fault: model.fault.as_ref().map(injector),
            filters: self.environment.filters.run(&model.filters),
            limits: self.environment.rates.run(&model.limits),
            tally: model
                .stat_prefix
                .as_ref()
                .map(|prefix| self.environment.tallies.of(prefix)),
            own_faults,
            announced,
        })
    }
}

/// The callee is told the per-try timeout if that is shorter than the route's (Envoy's rule).
fn announced(forward: &model::route::Forward) -> Option<Announcement> {
    let per_try = forward
        .retry
        .as_ref()
        .and_then(|retry| retry.per_try_timeout);
    let shorter = match (per_try, forward.timeout) {
        (Some(per_try), Some(route)) => Some(per_try.min(route)),
        (one, other) => one.or(other),
    };
    shorter.map(Announcement::new)
}

/// A route with a cluster of its own, outside of any configuration.
pub(crate) fn stand_alone(
    route: model::route::Route,
    model: model::Cluster,
    environment: &Environment,
) -> Arc<Route> {
    let moves = &mut Moves::default();
    let cluster = cluster(None, &Arc::new(model), None, environment, moves);
    let clusters = HashMap::from([(cluster.name().clone(), cluster)]);
    let linker = Linker {
        environment,
        clusters: &clusters,
        done: HashMap::new(),
    };
    linker.route(&Arc::new(route))
}
