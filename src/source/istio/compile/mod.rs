//! Istio's objects as one client sees them.
//!
//! Istio's objects describe the mesh as a whole; a client's configuration is a view of it.
//! [`compile`] applies namespaces, `exportTo`, source labels, selectors and precedence for one
//! [`Workload`] and yields the model that a control plane would send that client: the names are
//! istiod's, so that the embedded mesh and a served one cannot drift apart. It is a pure function,
//! without IO, clock or randomness, and what it yields does not depend on the order of files.
//!
//! One object never fails another: reading has checked each alone, so what is left to find here is
//! how they fit together. That is told as warnings, since in a cluster such a set is legal too (a
//! route to a service that comes later, a subset whose pods are not there yet), and what is
//! missing is answered with 503 at run time, as a sidecar would.
//!
//! Files have no creation time, by which Istio decides between objects that claim the same. Objects
//! that have one (`kubectl get -o yaml` prints it) come first, by age; then the order is that of
//! path, document and line. Every such decision is a warning.
//!
//! ```
//! use meshwork::Workload;
//! use meshwork::source::istio::{Options, compile, read};
//!
//! let text = "
//! apiVersion: networking.istio.io/v1
//! kind: ServiceEntry
//! metadata: {name: catalog, namespace: my-app}
//! spec:
//!   hosts: [catalog.example]
//!   ports: [{number: 80, name: http, protocol: HTTP}]
//!   resolution: STATIC
//!   endpoints: [{address: 127.0.0.1, ports: {http: 8080}}]
//! ";
//! let options = Options::default();
//! let read = read([("mesh/catalog.yaml", text)], &options);
//! let client = Workload::new("my-app", "order-sa");
//! let compiled = compile(&read.objects, &client, &options);
//! assert!(compiled.faults.is_empty(), "{}", compiled.faults);
//! assert!(compiled.resources.listeners.contains_key("catalog.example:80"));
//! assert!(compiled.resources.clusters.contains_key("outbound|80||catalog.example"));
//! ```

mod action;
mod affinity;
mod capacity;
mod delegate;
#[cfg_attr(
    not(feature = "control-plane"),
    allow(dead_code, reason = "nobody serves what is only checked")
)]
mod gateway;
mod gateway_api;
mod host;
mod inbound;
#[cfg(feature = "control-plane")]
mod labels;
mod lint;
mod locality;
mod matches;
mod members;
mod peers;
mod policy;
mod retry;
mod route;
mod rules;
mod security;
mod sidecar;
mod survey;
mod target;
mod telemetry;
mod virtual_host;
mod virtual_service;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Options;
pub(super) use gateway::at_edge;
pub(crate) use gateway::unopened;
#[cfg(feature = "control-plane")]
pub(crate) use gateway::{Chain, Leads, edge};
#[cfg(feature = "control-plane")]
pub(crate) use inbound::selected_by_labels;

use super::defaults::Defaults;
use super::fault::Faults;
use super::kinds::Object;
use super::registry::{Member, NODE, Port, Reach, Registry, Service, View, origin};
use crate::model::cluster::{Discovery, Dns, Families};
use crate::model::listener::Routes;
use crate::model::{Listener, Resources};
use crate::workload::Workload;
use delegate::Delegation;
use gateway_api::{Attached, Policies};
use locality::Outlook;
use peers::Peers;
use policy::Blocks;
use rules::{Effective, Rules};
use sidecar::Imports;
use virtual_service::Claims;

#[cfg(feature = "control-plane")]
pub(crate) use labels::ReadLabels;
pub use policy::Ejection;
pub(super) use survey::survey;

/// A set of objects as one client sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    /// What is in force for the client.
    pub resources: Resources,
    /// How the objects do not fit together. Errors are possible only for objects that were not
    /// [`read`](super::read) but made by hand.
    pub faults: Faults,
}

/// Compiles a set of objects for one client.
///
/// For every service and port that the client sees there are a listener `host:port`, a route
/// configuration, a cluster and its endpoints (all three `outbound|port||host`), and a cluster with
/// endpoints for each subset (`outbound|port|subset|host`). One route configuration per port
/// number (`"80"`) holds the virtual hosts of all services with that port, for clients that only
/// know a URL.
///
/// The objects must have been read by [`read`](super::read). The work is linear in the objects,
/// apart from wildcard hosts, which are compared with every service.
#[must_use]
pub fn compile(objects: &[Object], client: &Workload, options: &Options) -> Compiled {
    let objects = by_age(objects);
    let (mut scope, imports) = scoped(&objects, client, options);
    let defaults = scope.defaults;
    let arriving = inbound::inbound(&objects, client, defaults, &mut scope.faults);
    let told = telemetry::telemetry(&objects, client, defaults, &mut scope.faults);
    let rules = Rules::new(&objects, client.cluster_domain(), defaults);
    let (namespace, labels) = (client.namespace(), client.labels());
    scope.peers.lint(namespace, labels, &mut scope.faults);
    lint::services(&mut scope);
    lint::hosts(&mut scope, &rules);
    let mut resources = Resources {
        capacities: capacity::capacities(&scope, &rules, &imports),
        inbound: Arc::new(arriving),
        outbound_traffic: imports.outbound_traffic().or(defaults.outbound_traffic()),
        egress_proxy: imports.egress_proxy(&scope.view, client),
        peers: scope.peers.policy(namespace, labels),
        telemetry: Arc::new(told),
        ..Resources::default()
    };
    clusters(&mut scope, &mut resources);
    virtual_host::routes(&mut scope, &mut resources);
    listeners(&scope, &mut resources);
    Compiled {
        resources,
        faults: scope.faults,
    }
}

/// What is known of a set of objects, which are in the order of age, before anything is made of it.
fn scoped<'a>(
    objects: &[&'a Object],
    client: &'a Workload,
    options: &'a Options,
) -> (Scope<'a>, Imports<'a>) {
    let mut faults = Faults::default();
    let domain = client.cluster_domain();
    let defaults = Defaults::of(objects);
    let imports = Imports::of(objects, client, defaults, &mut faults);
    let registry = Registry::build(objects, domain, defaults, &mut faults);
    let view = View::new(
        registry,
        client.namespace(),
        |namespace, host| imports.service(namespace, host),
        &mut faults,
    );
    let rules = Rules::new(objects, domain, defaults);
    let scope = Scope {
        client,
        defaults,
        options,
        effective: effective(&view, &rules, client, &mut faults),
        claims: Claims::new(objects, client, &view, (defaults, &imports), &mut faults),
        attached: Attached::new(objects, client, &view, &mut faults),
        backends: Policies::new(objects, &view, &mut faults),
        peers: Peers::of(objects, defaults, &mut faults),
        delegation: Delegation::new(objects, client, defaults, &mut faults),
        view,
        faults,
    };
    (scope, imports)
}

/// Everything that is known while compiling for one client.
#[derive(Debug)]
struct Scope<'a> {
    client: &'a Workload,
    defaults: Defaults<'a>,
    options: &'a Options,
    view: View<'a>,
    /// The DestinationRule of each host that has one.
    effective: BTreeMap<Arc<str>, Effective<'a>>,
    claims: Claims<'a>,
    /// The Gateway API's routes.
    attached: Attached<'a>,
    /// Its policies of services.
    backends: Policies<'a>,
    delegation: Delegation<'a>,
    /// What is asked of callers, for each workload.
    peers: Peers<'a>,
    faults: Faults,
}

/// Oldest first: creation time where there is one, then path, document and line.
fn by_age(objects: &[Object]) -> Vec<&Object> {
    let mut sorted: Vec<&Object> = objects.iter().collect();
    sorted.sort_by_key(|object| {
        let creation = object.meta.creation.as_deref();
        (
            creation.is_none(),
            creation,
            &*object.file,
            object.document,
            object.line,
        )
    });
    sorted
}

fn effective<'a>(
    view: &View<'a>,
    rules: &Rules<'a>,
    client: &Workload,
    faults: &mut Faults,
) -> BTreeMap<Arc<str>, Effective<'a>> {
    view.services()
        .filter_map(|service| {
            let rule = rules.find(&service.host, &service.namespace, client, faults)?;
            Some((service.host.clone(), rule))
        })
        .collect()
}

/// A cluster and its endpoints for every port, and for every subset of it.
fn clusters(scope: &mut Scope<'_>, resources: &mut Resources) {
    let mut warnings = Faults::default();
    for service in scope.view.services() {
        let rule = scope.effective.get(&service.host);
        for port in &service.ports {
            cluster(scope, resources, service, port, rule, &mut warnings);
        }
    }
    scope.faults.extend(warnings);
}

fn cluster(
    scope: &Scope<'_>,
    resources: &mut Resources,
    service: &Service<'_>,
    port: &Port,
    rule: Option<&Effective<'_>>,
    warnings: &mut Faults,
) {
    let base = scope.defaults.traffic_policy();
    let host_policy = rule.and_then(|rule| rule.policy);
    let whole = Part {
        scope,
        service,
        port,
        subset: "",
    };
    let written = rule
        .zip(host_policy)
        .map(|(rule, policy)| (rule.policy_object, policy.line));
    let complete = |blocks| scope.backends.complete(&service.host, port.number, blocks);
    let blocks = complete(Blocks::of([base, host_policy, None], port.number));
    let node = scope.client.labels().get(NODE).map(String::as_str);
    let near = |member: &&Member| !service.node_local || member.is_on(node);
    let members: Vec<_> = port.members.iter().filter(near).collect();
    whole.emit(resources, &blocks, &members, written, warnings);
    let Some(rule) = rule else { return };
    for (object, subset) in &rule.subsets {
        let members: Vec<_> = members
            .iter()
            .copied()
            .filter(|member| super::registry::selects(&subset.labels, &member.labels))
            .collect();
        if !matches!(port.reach, Reach::AsAsked(_)) {
            lint::empty_subset(object, subset, service, port, members.len(), warnings);
        }
        let part = Part {
            subset: &subset.name,
            ..whole
        };
        let policies = [base, host_policy, subset.traffic_policy.as_ref()];
        let blocks = complete(Blocks::of(policies, port.number));
        let written = Some((*object, subset.line));
        part.emit(resources, &blocks, &members, written, warnings);
    }
}

/// A port of a service, or a subset of it: what becomes one cluster.
#[derive(Clone, Copy)]
struct Part<'s, 'a> {
    scope: &'s Scope<'a>,
    service: &'s Service<'a>,
    port: &'s Port,
    subset: &'s str,
}

impl Part<'_, '_> {
    fn emit(
        &self,
        resources: &mut Resources,
        blocks: &Blocks<'_>,
        members: &[&Member],
        written: Option<(&Object, u32)>,
        warnings: &mut Faults,
    ) {
        let name = host::resource_name(self.port.number, self.subset, &self.service.host);
        let declared = origin(self.service.object).at_line(self.port.line);
        let cluster_origin = match written {
            Some((object, line)) => origin(object).at_line(line.max(1)),
            None => declared.clone(),
        };
        let ejection = self.scope.options.ejection;
        let mut cluster =
            blocks.cluster(name.clone(), self.port.protocol, ejection, cluster_origin);
        blocks.complete(&mut cluster, self.scope.defaults, self.port.protocol);
        match self.port.reach {
            Reach::Listed => {}
            Reach::Named(lookup) => {
                cluster.discovery = Discovery::Dns(Dns {
                    endpoints: name.clone(),
                    lookup,
                    families: Families::Both,
                    refresh: self.scope.defaults.dns_refresh(),
                });
            }
            Reach::AsAsked(port) => cluster.discovery = Discovery::OnDemand { port },
        }
        let tls = blocks.tls.map(|tls| &tls.value);
        cluster.security = security::security(self, members, tls);
        if let Some((object, _)) = written {
            lint::policy(object, &cluster, blocks, members.len(), warnings);
        }
        if let Reach::AsAsked(_) = self.port.reach {
            if let Some((object, _)) = written.filter(|_| cluster.outlier.is_some()) {
                warnings.push(lint::nobody_to_eject(object, self.service));
            }
            // The host that somebody asked for has no substitute.
            cluster.outlier = None;
            resources.insert_cluster(cluster);
            return;
        }
        let outlook = Outlook::new(
            self.scope.client,
            blocks,
            self.service.distribution,
            self.scope.defaults.locality(),
        );
        cluster.spread.localities = outlook.weights();
        resources.insert_endpoints(members::endpoints(
            name,
            members,
            outlook,
            declared,
            |one| security::is_meshed(self, one),
        ));
        resources.insert_cluster(cluster);
    }
}

/// A listener for every name and port that has routes of its own.
fn listeners(scope: &Scope<'_>, resources: &mut Resources) {
    for service in scope.view.services() {
        let aliases = scope.view.aliases(&service.host);
        let named = std::iter::once(service).chain(aliases);
        for named in named.filter(|one| !one.host.starts_with('*')) {
            for port in &service.ports {
                let routes = host::resource_name(port.number, "", &service.host);
                let origin = origin(named.object);
                listener(resources, &named.host, port.number, routes, origin);
            }
        }
    }
    for claim in scope.claims.without_service() {
        if !claim.host.starts_with('*') {
            let routes = host::resource_name(virtual_host::HTTP_PORT, "", &claim.host);
            let origin = origin(claim.object);
            listener(
                resources,
                &claim.host,
                virtual_host::HTTP_PORT,
                routes,
                origin,
            );
        }
    }
}

fn listener(
    resources: &mut Resources,
    host: &str,
    port: u16,
    routes: Arc<str>,
    origin: crate::model::Origin,
) {
    resources.insert_listener(Listener {
        name: format!("{host}:{port}").into(),
        routes: Routes::Named(routes),
        origin,
    });
}
