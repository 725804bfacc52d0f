//! From a set of resources to a snapshot.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::event::Announcer;
use crate::layer::balance::{Balancer, HashKey, Placement, Rules, Signals};
use crate::layer::deadline::Announcement;
use crate::layer::fault::{ActiveFaults, Injector};
use crate::layer::limit::Limits;
use crate::layer::outlier::{Detector, Host};
use crate::layer::retry::{self, Quota};
use crate::model::cluster::Discovery;
use crate::model::endpoint::{Address, Health};
use crate::model::listener::Routes;
use crate::model::route::{Action, Domain};
use crate::model::{self, Resources, RouteConfiguration};
use crate::random::Random;
use crate::telemetry::{Registry, Series};
use crate::transport::{Answer, Connect, Connections, Secure, Settings};

use super::cluster::{Cluster, Endpoint, Member, Running};
use super::demand::Demand;
use super::gate::ClusterGate;
use super::health::{Age, Checks};
use super::on_demand::OnDemand;
use super::security;
use super::table::{Table, addressed};
use super::{Route, Snapshot, VirtualHost};

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
    /// Where the certificates are that clusters name.
    #[cfg(feature = "tls-core")]
    pub(crate) materials: crate::tls::Materials,
    pub(crate) random: Random,
    /// What is measured.
    pub(crate) telemetry: Registry,
    /// What stands for this client where requests are kept together by their source.
    pub(crate) source: HashKey,
}

/// Links `resources`, keeping from `before` all that still holds.
///
/// It cannot fail: a route whose cluster is missing answers 503 `NC`, a listener whose routes are
/// missing has no virtual host, as in Envoy. Sources report such references as faults before.
/// Endpoints that nobody uses any more are retired when the caller drops `before`'s successor into
/// force (see [`retire`]).
pub(crate) fn link(
    before: &Snapshot,
    resources: &Arc<Resources>,
    environment: &Environment,
) -> Snapshot {
    let mut clusters = HashMap::with_capacity(resources.clusters.len());
    for (name, model) in &resources.clusters {
        let endpoints = match &model.discovery {
            Discovery::Endpoints(name) => resources.endpoints.get(name),
            Discovery::Dns(dns) => resources.endpoints.get(&dns.endpoints),
            Discovery::OnDemand { .. } | Discovery::Passthrough => None,
        };
        let old = before.clusters.get(name);
        clusters.insert(name.clone(), cluster(old, model, endpoints, environment));
    }
    let mut linker = Linker {
        environment,
        clusters: &clusters,
        done: HashMap::new(),
    };
    let mut listeners = HashMap::with_capacity(resources.listeners.len());
    let mut tables: HashMap<*const RouteConfiguration, Arc<Table>> = HashMap::new();
    for (name, listener) in &resources.listeners {
        let routes = match &listener.routes {
            Routes::Inline(routes) => Some(routes),
            Routes::Named(name) => resources.routes.get(name),
        };
        if let Some(routes) = routes {
            let table = tables
                .entry(Arc::as_ptr(routes))
                .or_insert_with(|| linker.table(routes))
                .clone();
            listeners.insert(name.clone(), table);
        }
    }
    let addressed = match &environment.demand {
        Some(_) => addressed(&listeners),
        None => HashMap::new(),
    };
    let mut ports = HashMap::new();
    let mut hosts: HashMap<Box<str>, Vec<u16>> = HashMap::new();
    for (name, routes) in &resources.routes {
        if let Ok(port) = name.parse::<u16>() {
            ports.insert(port, linker.table(routes));
            for_each_host(routes, |host| {
                hosts.entry(host.into()).or_default().push(port)
            });
        }
    }
    Snapshot {
        generation: before.generation + 1,
        resources: resources.clone(),
        listeners,
        addressed,
        ports,
        hosts,
        clusters,
        inbound: if before.inbound == resources.inbound {
            before.inbound.clone()
        } else {
            resources.inbound.clone()
        },
        outbound_traffic: resources.outbound_traffic,
        peers: resources.peers.clone(),
    }
}

/// Retires the connections of all endpoints that `after` does not use any more.
///
/// Requests that are on their way to them finish, also those that have not been sent yet: a
/// cluster in use lives until its last request leaves. The connections close behind them.
pub(crate) fn retire(before: &Snapshot, after: &Snapshot) {
    for (name, old) in &before.clusters {
        let new = after.clusters.get(name);
        if new.is_some_and(|new| Arc::ptr_eq(new, old)) {
            continue;
        }
        let kept: HashSet<*const Connections> = new
            .map(|new| new.balancer.members())
            .unwrap_or_default()
            .iter()
            .map(|member| Arc::as_ptr(&member.endpoint.connections))
            .collect();
        if new.is_none() {
            old.running.checks.end();
        }
        for member in old.balancer.members() {
            if !kept.contains(&Arc::as_ptr(&member.endpoint.connections)) {
                member.endpoint.connections.retire();
            }
        }
        if let Some(on_demand) = &old.on_demand {
            on_demand.retire();
        }
    }
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
    /// Each virtual host is linked once, also if it stands in several route configurations.
    done: HashMap<*const model::route::VirtualHost, Arc<VirtualHost>>,
}

impl Linker<'_> {
    fn table(&mut self, routes: &RouteConfiguration) -> Arc<Table> {
        let mut table = Table::default();
        for model in &routes.virtual_hosts {
            table.insert(&self.virtual_host(model));
        }
        Arc::new(table)
    }

    fn virtual_host(&mut self, model: &Arc<model::route::VirtualHost>) -> Arc<VirtualHost> {
        if let Some(done) = self.done.get(&Arc::as_ptr(model)) {
            return done.clone();
        }
        let routes = model.routes.iter().map(|model| self.route(model));
        let host = Arc::new(VirtualHost {
            routes: routes.collect(),
            model: model.clone(),
        });
        self.done.insert(Arc::as_ptr(model), host.clone());
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
            Action::Direct(_) | Action::Redirect(_) | Action::Serve => {
                (Vec::new(), Vec::new(), None, None)
            }
        };
        let fault = model
            .fault
            .clone()
            .map(|fault| Injector::counting(fault, self.environment.active_faults.clone()));
        Arc::new(Route {
            model: model.clone(),
            clusters,
            mirrors,
            retry,
            fault,
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
    let cluster = cluster(None, &Arc::new(model), None, environment);
    let clusters = HashMap::from([(cluster.name().clone(), cluster)]);
    let linker = Linker {
        environment,
        clusters: &clusters,
        done: HashMap::new(),
    };
    linker.route(&Arc::new(route))
}

pub(super) fn cluster(
    old: Option<&Arc<Cluster>>,
    model: &Arc<model::Cluster>,
    endpoints: Option<&Arc<model::Endpoints>>,
    environment: &Environment,
) -> Arc<Cluster> {
    if let Some(old) = old
        && old.model == *model
        && old.endpoints.as_ref() == endpoints
    {
        return old.clone();
    }
    let running = match old {
        Some(old) => {
            let running = old.running.clone();
            running.limits.set(&model.limits);
            running
        }
        None => Arc::new(Running {
            limits: Arc::new(Limits::new(&model.limits)),
            detector: Detector::new(model.outlier.clone()),
            swept: Mutex::default(),
            counters: Arc::default(),
            checks: Checks::new(environment),
            events: environment.events.clone(),
            starved: AtomicBool::new(false),
        }),
    };
    let secure = match old {
        Some(old) if old.model.security == model.security => old.secure.clone(),
        Some(_) | None => security::secure(&model.security, environment),
    };
    let wiring = Wiring {
        model,
        secure: &secure,
        running: &running,
        environment,
    };
    let members = members(old, endpoints, &wiring);
    enroll(old, &members, &running.detector);
    running.checks.set(
        model,
        members.iter().map(|member| &member.endpoint),
        &running.counters,
        secure.as_ref(),
        environment,
        if old.is_some() { Age::Known } else { Age::New },
    );
    if old.is_some_and(|old| old.model.outlier != model.outlier) {
        let hosts = members.iter().map(|member| &*member.endpoint.host);
        // Without a policy all are readmitted; the balancer below is made after that.
        let _ = running.detector.set(model.outlier.clone(), hosts);
    }
    let balancer = match old {
        Some(old) => old.balancer.succeed(rules(model), members),
        None => Balancer::new(rules(model), members, &environment.random),
    };
    Arc::new(Cluster {
        model: model.clone(),
        endpoints: endpoints.cloned(),
        balancer,
        quota: match old {
            Some(old) => old.quota.with_limit(model.limits.retries),
            None => Quota::new(model.limits.retries),
        },
        running,
        series: series(model, &BTreeMap::new(), environment),
        on_demand: OnDemand::of(&model.discovery),
        secure,
    })
}

/// Tells the detector who is there now and who has left.
fn enroll(old: Option<&Arc<Cluster>>, members: &[Arc<Member>], detector: &Detector) {
    for member in members {
        detector.join(&member.endpoint.host);
    }
    let staying: HashSet<*const Host> = members
        .iter()
        .map(|member| Arc::as_ptr(&member.endpoint.host))
        .collect();
    for member in old.map(|old| old.balancer.members()).unwrap_or_default() {
        if !staying.contains(&Arc::as_ptr(&member.endpoint.host)) {
            detector.leave(&member.endpoint.host);
        }
    }
}

fn rules(model: &model::Cluster) -> Rules {
    Rules {
        balancing: model.balancing,
        spread: model.spread,
        panic_threshold: model.panic_threshold,
    }
}

/// What all endpoints of a cluster are made with.
struct Wiring<'a> {
    model: &'a Arc<model::Cluster>,
    secure: &'a Option<Arc<dyn Secure>>,
    running: &'a Arc<Running>,
    environment: &'a Environment,
}

/// The members of all priorities, each with its running endpoint.
fn members(
    old: Option<&Arc<Cluster>>,
    endpoints: Option<&Arc<model::Endpoints>>,
    wiring: &Wiring<'_>,
) -> Vec<Arc<Member>> {
    let cluster = wiring.model;
    let settings = Arc::new(Settings::from(&**cluster));
    let reusable = old.is_some_and(|old| {
        old.model.security == cluster.security && Settings::from(&*old.model) == *settings
    });
    let before: HashMap<&Address, &Arc<Member>> = old
        .map(|old| old.balancer.members())
        .unwrap_or_default()
        .iter()
        .map(|member| (&member.endpoint.address, member))
        .collect();
    let new = |one: &model::endpoint::Endpoint| {
        let secured = security::wanted(&cluster.security, one.meshed);
        new_endpoint(&one.address, secured, &settings, wiring)
    };
    let localities = endpoints.map_or(&[][..], |endpoints| &endpoints.localities);
    let mut counted = Counted {
        model: cluster,
        environment: wiring.environment,
        last: None,
    };
    (0..)
        .zip(localities)
        .flat_map(|(number, locality)| {
            let placement = Placement {
                priority: locality.priority,
                locality: number,
                weight: locality.weight.map_or(0, NonZeroU32::get),
            };
            locality.endpoints.iter().map(move |one| (placement, one))
        })
        .filter(|(_, endpoint)| endpoint.health != Health::Draining)
        .map(|(placement, model)| {
            let known = before.get(&model.address);
            let secured = security::wanted(&cluster.security, model.meshed);
            let endpoint = match known {
                Some(member) if reusable && member.endpoint.secured == secured => {
                    member.endpoint.clone()
                }
                Some(member) => Arc::new(Endpoint {
                    // What is known of the endpoint outlives a change of settings; connections do
                    // not.
                    host: member.endpoint.host.clone(),
                    signals: member.endpoint.signals.clone(),
                    counts: member.endpoint.counts.clone(),
                    checked: member.endpoint.checked.clone(),
                    ..new(model)
                }),
                None => Arc::new(new(model)),
            };
            if model.health == Health::Healthy
                && known.is_some_and(|member| member.health != Health::Healthy)
            {
                endpoint.signals.restart(Instant::now());
            }
            Arc::new(Member {
                endpoint,
                weight: model.weight,
                health: model.health,
                placement,
                series: counted.series(&model.labels),
            })
        })
        .collect()
}

/// What the endpoints of a cluster count for. Neighbours mostly are replicas of one workload, so that
/// the last answer is the next.
struct Counted<'a> {
    model: &'a model::Cluster,
    environment: &'a Environment,
    last: Option<(Arc<EndpointLabels>, Arc<Series>)>,
}

type EndpointLabels = BTreeMap<Box<str>, Box<str>>;

impl Counted<'_> {
    fn series(&mut self, labels: &Arc<EndpointLabels>) -> Arc<Series> {
        if let Some((known, series)) = &self.last
            && (Arc::ptr_eq(known, labels) || known == labels)
        {
            return series.clone();
        }
        let series = series(self.model, labels, self.environment);
        self.last = Some((labels.clone(), series.clone()));
        series
    }
}

fn series(
    model: &model::Cluster,
    labels: &EndpointLabels,
    environment: &Environment,
) -> Arc<Series> {
    let telemetry = &environment.telemetry;
    if !telemetry.measures() {
        return telemetry.unknown().clone();
    }
    telemetry.toward(&model.name, |name| labels.get(name).map(AsRef::as_ref))
}

fn new_endpoint(
    address: &Address,
    secured: bool,
    settings: &Arc<Settings>,
    wiring: &Wiring<'_>,
) -> Endpoint {
    let Wiring {
        model,
        secure,
        running,
        environment,
    } = wiring;
    Endpoint {
        cluster: model.name.clone(),
        address: address.clone(),
        secured,
        label: address.to_string().into(),
        host: Arc::new(Host::new()),
        signals: Arc::new(Signals::new(Instant::now())),
        connections: match &environment.answer {
            Some(answer) => Connections::answering(answer.clone()),
            None => Connections::secured(
                address.clone(),
                settings.clone(),
                environment.connector.clone(),
                Arc::new(ClusterGate(running.limits.clone())),
                (*secure).clone().filter(|_| secured),
            ),
        },
        counts: Arc::default(),
        checked: Arc::default(),
    }
}
