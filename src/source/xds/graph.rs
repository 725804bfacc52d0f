//! Who needs whom, and which values stand together (gRFC A74).
//!
//! A listener names its routes, routes their clusters, clusters their endpoints, and each arrives
//! when it arrives. A value comes into force when everything that it leads to is known: there, or
//! known not to be had. Until then the value before it stays in force with all that it led to, which
//! stays subscribed for as long. So a request that was routed by a configuration finds its cluster
//! in the same one, whatever the order in which a control plane sends.
//!
//! Routes that are a resource of their own are put under the filters of each listener that names them
//! here, where both are known.
//!
//! What is known not to be had does not hold others up: a route to a cluster that does not exist is
//! in force, and requests that take it are told why.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::resource::SECRETS;
use super::server::Template;
use super::store::{Key, Store};
use super::{Kind, Resource, name};
use crate::model::cluster::Discovery;
use crate::model::listener::Routes;
use crate::model::route::Action;
use crate::model::security::{Material, Security};
use crate::model::server::ServerListener;
use crate::model::{self, Listener, Resources, RouteConfiguration};
use crate::tls::Secret;

/// The values in force, and who refers to whom.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    in_force: BTreeMap<Key, Resource>,
    /// What the latest good value of each resource refers to.
    references: BTreeMap<Key, Vec<Key>>,
    /// The other way round.
    referrers: BTreeMap<Key, BTreeSet<Key>>,
    /// Which change of a listener its value in force is, counted over all of them.
    edition: BTreeMap<Arc<str>, u64>,
    editions: u64,
    /// The listeners in force that name a route configuration.
    followers: BTreeMap<Key, BTreeSet<Arc<str>>>,
    /// The clusters in force whose load is to be reported.
    reporting: BTreeSet<Arc<str>>,
    resources: Arc<Resources>,
    secrets: Arc<BTreeMap<Arc<str>, Secret>>,
}

impl Graph {
    /// The values in force.
    pub(crate) fn resources(&self) -> &Arc<Resources> {
        &self.resources
    }

    /// The secrets in force.
    pub(crate) fn secrets(&self) -> &Arc<BTreeMap<Arc<str>, Secret>> {
        &self.secrets
    }

    pub(crate) fn in_force(&self, key: &Key) -> Option<&Resource> {
        self.in_force.get(key)
    }

    /// The clusters in force whose load is to be reported.
    pub(crate) fn reporting(&self) -> impl Iterator<Item = &Arc<str>> {
        self.reporting.iter()
    }

    /// Who refers to it, by the latest values.
    pub(crate) fn referrers(&self, key: &Key) -> impl Iterator<Item = &Key> {
        self.referrers.get(key).into_iter().flatten()
    }

    /// Takes in that these resources have changed; returns the kinds of which anything in force did.
    pub(crate) fn update(
        &mut self,
        store: &Store,
        changed: impl IntoIterator<Item = Key>,
    ) -> BTreeSet<Kind> {
        let mut queue: VecDeque<(Key, bool)> = changed.into_iter().map(|key| (key, true)).collect();
        let mut kinds = BTreeSet::new();
        for (key, _) in &queue {
            self.refer(key, store);
        }
        while let Some((key, told)) = queue.pop_front() {
            let Some(entry) = store.get(&key) else {
                continue;
            };
            let moved = match (&entry.good, entry.failure()) {
                (Some(good), _) => {
                    self.in_force.get(&key) != Some(&good.resource)
                        && self.leads_to_known(&key, store)
                        && self.put(&key, good.resource.clone())
                }
                (None, Some(_)) => self.drop_value(&key),
                (None, None) => false,
            };
            if moved {
                kinds.insert(key.0);
            }
            // Whoever waits for it may wait no more; one that does not is not moved by this.
            if moved || told {
                let waiting = self.referrers.get(&key).into_iter().flatten();
                let waiting = waiting.filter(|by| self.waits(by, store));
                queue.extend(waiting.map(|by| (by.clone(), false)));
            }
        }
        kinds
    }

    /// Forgets what nobody needs; returns whether any of it was in force.
    pub(crate) fn retain(&mut self, needed: &BTreeSet<Key>) -> bool {
        let gone: Vec<Key> = self
            .in_force
            .keys()
            .filter(|key| !needed.contains(*key))
            .cloned()
            .collect();
        for key in &gone {
            self.drop_value(key);
        }
        let unneeded = |key: &&Key| !needed.contains(*key);
        let stale: Vec<Key> = self.references.keys().filter(unneeded).cloned().collect();
        for key in stale {
            self.set_references(&key, Vec::new());
        }
        !gone.is_empty()
    }

    /// All that these listeners lead to, by the latest values and by those in force.
    pub(crate) fn needed(&self, roots: impl IntoIterator<Item = Key>) -> BTreeSet<Key> {
        let mut needed = BTreeSet::new();
        let mut queue: Vec<Key> = roots.into_iter().collect();
        while let Some(key) = queue.pop() {
            if !needed.insert(key.clone()) {
                continue;
            }
            queue.extend(self.references.get(&key).into_iter().flatten().cloned());
            if let Some(resource) = self.in_force.get(&key) {
                queue.extend(references(resource));
            }
        }
        needed
    }

    /// Whether a good value is there that is not in force yet.
    fn waits(&self, key: &Key, store: &Store) -> bool {
        let good = store.get(key).and_then(|entry| entry.good.as_ref());
        good.is_some_and(|good| self.in_force.get(key) != Some(&good.resource))
    }

    /// Whether all that the latest value refers to is in force, or known not to be had.
    fn leads_to_known(&self, key: &Key, store: &Store) -> bool {
        let mut seen = BTreeSet::from([key]);
        let mut queue: Vec<&Key> = self.references.get(key).into_iter().flatten().collect();
        while let Some(key) = queue.pop() {
            // Aggregates may go in circles; a circle waits for nothing but its other members.
            if !seen.insert(key) || self.in_force.contains_key(key) {
                continue;
            }
            match store.get(key) {
                Some(entry) if entry.failure().is_some() => {}
                Some(entry) if entry.good.is_some() => {
                    queue.extend(self.references.get(key).into_iter().flatten());
                }
                Some(_) | None => return false,
            }
        }
        true
    }

    fn refer(&mut self, key: &Key, store: &Store) {
        let good = store.get(key).and_then(|entry| entry.good.as_ref());
        let references = good.map(|good| references(&good.resource));
        self.set_references(key, references.unwrap_or_default());
    }

    fn set_references(&mut self, key: &Key, new: Vec<Key>) {
        let old = if new.is_empty() {
            self.references.remove(key)
        } else {
            self.references.insert(key.clone(), new.clone())
        };
        for other in old.into_iter().flatten() {
            if let Some(by) = self.referrers.get_mut(&other) {
                by.remove(key);
                if by.is_empty() {
                    self.referrers.remove(&other);
                }
            }
        }
        for other in new {
            self.referrers.entry(other).or_default().insert(key.clone());
        }
    }

    fn put(&mut self, key: &Key, resource: Resource) -> bool {
        let resources = Arc::make_mut(&mut self.resources);
        let name = key.1.clone();
        match &resource {
            // Below, when they are among those in force.
            Resource::Listener { .. } | Resource::Server(_) => {}
            Resource::RouteConfiguration { routes, .. } => {
                resources.routes.insert(name, routes.clone());
            }
            Resource::Cluster {
                cluster,
                endpoints,
                reports,
            } => {
                match reports {
                    true => self.reporting.insert(name.clone()),
                    false => self.reporting.remove(&name),
                };
                let mut cluster = cluster.clone();
                let contained = contained(&name);
                match endpoints {
                    Some(endpoints) => {
                        lead_to(&mut cluster, &contained);
                        resources.endpoints.insert(contained, endpoints.clone());
                    }
                    None => {
                        resources.endpoints.remove(&contained);
                    }
                }
                resources.clusters.insert(name, cluster);
            }
            Resource::Endpoints(endpoints) => {
                resources.endpoints.insert(name, endpoints.clone());
            }
            Resource::Secret(secret) => {
                Arc::make_mut(&mut self.secrets).insert(name, secret.clone());
            }
        }
        let before = self.in_force.insert(key.clone(), resource);
        self.follow(key, before.as_ref());
        true
    }

    /// Keeps who follows which routes, and what the followers of routes that changed make of them.
    fn follow(&mut self, key: &Key, before: Option<&Resource>) {
        match key.0 {
            Kind::Listener => {
                for routes in before.map(named_routes).unwrap_or_default() {
                    if let Some(followers) = self.followers.get_mut(&routes) {
                        followers.remove(&key.1);
                        if followers.is_empty() {
                            self.followers.remove(&routes);
                        }
                    }
                }
                let named = self.in_force.get(key).map(named_routes);
                for routes in named.unwrap_or_default() {
                    let followers = self.followers.entry(routes).or_default();
                    followers.insert(key.1.clone());
                }
                self.editions += 1;
                self.edition.insert(key.1.clone(), self.editions);
                self.compose(&key.1);
            }
            Kind::RouteConfiguration => {
                let followers = self.followers.get(key).cloned().unwrap_or_default();
                followers.iter().for_each(|name| self.compose(name));
            }
            Kind::Cluster | Kind::Endpoints | Kind::Secret => {}
        }
    }

    /// Puts a listener in force with the routes that its filters make of those it names.
    fn compose(&mut self, name: &Arc<str>) {
        let key = (Kind::Listener, name.clone());
        let (listener, chain) = match self.in_force.get(&key) {
            Some(Resource::Listener { listener, chain }) => (listener, chain),
            Some(Resource::Server(template)) => {
                let server = Arc::new(self.composed(template));
                let resources = Arc::make_mut(&mut self.resources);
                resources.listeners.remove(name);
                resources.servers.insert(name.clone(), server);
                return;
            }
            _ => return,
        };
        let named = self
            .in_force
            .get(&key)
            .map(named_routes)
            .unwrap_or_default();
        let named = named.first().and_then(|routes| self.in_force.get(routes));
        let composed = match named {
            Some(Resource::RouteConfiguration { routes, said }) => {
                let over = chain.over(routes, said);
                (!Arc::ptr_eq(&over, routes)).then_some(over)
            }
            _ => None,
        };
        let listener = match composed {
            None => listener.clone(),
            Some(routes) => Arc::new(Listener {
                routes: Routes::Inline(routes),
                ..(**listener).clone()
            }),
        };
        let resources = Arc::make_mut(&mut self.resources);
        resources.servers.remove(name);
        resources.listeners.insert(name.clone(), listener);
    }

    fn composed(&self, template: &Template) -> ServerListener {
        let edition = self.edition.get(&template.name).copied();
        template.compose(edition.unwrap_or_default(), |name| {
            match self.in_force.get(&key(Kind::RouteConfiguration, name)) {
                Some(Resource::RouteConfiguration { routes, said }) => Some((routes, said)),
                _ => None,
            }
        })
    }

    fn drop_value(&mut self, key: &Key) -> bool {
        let Some(before) = self.in_force.remove(key) else {
            return false;
        };
        let resources = Arc::make_mut(&mut self.resources);
        let (kind, name) = key;
        match kind {
            Kind::Listener => {
                resources.listeners.remove(name);
                resources.servers.remove(name);
                self.edition.remove(name);
            }
            Kind::RouteConfiguration => drop(resources.routes.remove(name)),
            Kind::Cluster => {
                self.reporting.remove(name);
                resources.clusters.remove(name);
                resources.endpoints.remove(&contained(name));
            }
            Kind::Endpoints => drop(resources.endpoints.remove(name)),
            Kind::Secret => drop(Arc::make_mut(&mut self.secrets).remove(name)),
        }
        self.follow(key, Some(&before));
        true
    }
}

/// The routes that a listener names.
fn named_routes(resource: &Resource) -> Vec<Key> {
    let of = |name: &Arc<str>| key(Kind::RouteConfiguration, name);
    match resource {
        Resource::Listener { listener, .. } => match &listener.routes {
            Routes::Named(name) => vec![of(name)],
            Routes::Inline(_) => Vec::new(),
        },
        Resource::Server(template) => template.names().map(of).collect(),
        Resource::Cluster { .. }
        | Resource::Endpoints(_)
        | Resource::RouteConfiguration { .. }
        | Resource::Secret(_) => Vec::new(),
    }
}

/// What endpoints are called that a cluster's message contains. A resource of endpoints with the
/// cluster's name may be another one.
fn contained(cluster: &str) -> Arc<str> {
    format!("{cluster} (contained)").into()
}

fn lead_to(cluster: &mut Arc<model::Cluster>, endpoints: &Arc<str>) {
    match &mut Arc::make_mut(cluster).discovery {
        Discovery::Endpoints(name) => name.clone_from(endpoints),
        Discovery::Dns(dns) => dns.endpoints.clone_from(endpoints),
        Discovery::Aggregate(_) | Discovery::OnDemand { .. } | Discovery::Passthrough => {}
    }
}

/// What a resource leads to.
fn references(resource: &Resource) -> Vec<Key> {
    match resource {
        Resource::Listener { listener, .. } => match &listener.routes {
            Routes::Inline(routes) => clusters(routes),
            Routes::Named(name) => vec![key(Kind::RouteConfiguration, name)],
        },
        Resource::RouteConfiguration { routes, .. } => clusters(routes),
        Resource::Server(template) => {
            let mut keys = named_routes(resource);
            keys.extend(template.materials().filter_map(secret));
            keys
        }
        Resource::Cluster {
            cluster, endpoints, ..
        } => {
            let mut keys = members(cluster, endpoints.is_none());
            if let Security::Automatic(tls) | Security::Tls(tls) = &cluster.security {
                keys.extend(tls.identity.iter().chain([&tls.trust]).filter_map(secret));
            }
            keys
        }
        Resource::Endpoints(_) | Resource::Secret(_) => Vec::new(),
    }
}

/// Whom a cluster is made of; its own endpoints only if they are not in its message.
fn members(cluster: &model::Cluster, elsewhere: bool) -> Vec<Key> {
    match &cluster.discovery {
        Discovery::Endpoints(name) if elsewhere => vec![key(Kind::Endpoints, name)],
        Discovery::Aggregate(members) => members
            .iter()
            .map(|name| key(Kind::Cluster, name))
            .collect(),
        Discovery::Endpoints(_)
        | Discovery::Dns(_)
        | Discovery::OnDemand { .. }
        | Discovery::Passthrough => Vec::new(),
    }
}

/// The secret behind a name of certificates, if it is one.
fn secret(material: &Material) -> Option<Key> {
    match material {
        Material::Named(name) => {
            let name = name.strip_prefix(SECRETS)?;
            Some((Kind::Secret, name.into()))
        }
        Material::Files(_) | Material::Mesh | Material::System => None,
    }
}

fn clusters(routes: &RouteConfiguration) -> Vec<Key> {
    let mut names = BTreeSet::new();
    for route in routes.virtual_hosts.iter().flat_map(|host| &host.routes) {
        if let Action::Forward(forward) = &route.action {
            let destinations = forward.destinations.all().iter().map(|one| &one.cluster);
            let mirrors = forward.mirrors.iter().map(|one| &one.cluster);
            names.extend(destinations.chain(mirrors).cloned());
        }
    }
    names.iter().map(|name| key(Kind::Cluster, name)).collect()
}

/// Names in messages may be spelled in another way than they are kept.
fn key(kind: Kind, spelled: &Arc<str>) -> Key {
    let name = if name::is_federated(spelled) {
        name::canonical(spelled)
    } else {
        spelled.clone()
    };
    (kind, name)
}
