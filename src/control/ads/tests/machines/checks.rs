//! What must hold at every step, and in the end.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::Variant;
use super::mesh::{HOSTS, listener};
use super::pair::{Held, Pair};
use crate::control::ads::REMOVAL_CAP;
use crate::control::ads::watch::Watch;
use crate::control::kind::Kind;
use crate::control::resource::Encoded;
use crate::model::RouteConfiguration;
use crate::model::cluster::Discovery;
use crate::model::listener::Routes;
use crate::model::route::Action;
use crate::source::xds::machine as client;

impl Pair {
    pub(super) fn check(&self) {
        let all = &*self.in_force;
        for listener in all.listeners.values() {
            let Routes::Named(name) = &listener.routes else {
                panic!("{listener:?}");
            };
            match all.routes.get(name) {
                Some(routes) => self.check_routes(routes),
                None => self.may_be_missing(Kind::Routes, name),
            }
        }
        let names = self.known.len();
        assert!(
            self.client.entries().count() <= names + HOSTS.len(),
            "the client's resources"
        );
        let watches = self.stream.iter().flat_map(|stream| &stream.watches);
        for (kind, watch) in Kind::ALL.into_iter().zip(watches) {
            let Some(watch) = watch else { continue };
            self.check_watch(kind, watch);
        }
    }

    /// What the server keeps of a kind is what the client wants, and of that what there is, what it has, or
    /// what it named.
    fn check_watch(&self, kind: Kind, watch: &Watch) {
        let (seed, there) = (self.seed, self.snapshot.set(kind));
        for name in watch.have.keys() {
            assert!(watch.wants(name), "seed {seed}: {kind} {name} is kept");
        }
        for name in watch.due.keys() {
            let about = watch.have.contains_key(name)
                || watch.named.contains(name)
                || there.get(name).is_some();
            assert!(about, "seed {seed}: {kind} {name} is due");
        }
        for name in watch.strangers.iter() {
            let known = watch.have.contains_key(name);
            assert!(known, "seed {seed}: {kind} {name} is counted");
        }
        let beside = watch.told.iter().chain(watch.beats.keys());
        for name in beside {
            assert!(watch.wants(name), "seed {seed}: {kind} {name} is noted");
        }
    }

    fn check_routes(&self, routes: &RouteConfiguration) {
        for name in clusters(routes) {
            let Some(cluster) = self.in_force.clusters.get(&name) else {
                self.may_be_missing(Kind::Cluster, &name);
                continue;
            };
            if let Discovery::Endpoints(name) = &cluster.discovery {
                match self.in_force.endpoints.get(name) {
                    Some(members) => assert!(self.served.contains(members), "seed {}", self.seed),
                    None => self.may_be_missing(Kind::Endpoints, name),
                }
            }
        }
    }

    fn may_be_missing(&self, kind: Kind, name: &Arc<str>) {
        let absent = self.absent.contains(&(kind, name.clone()))
            || !self.known.contains(&(kind, name.clone()));
        assert!(
            absent,
            "seed {}: {kind} {name} is used and not there",
            self.seed
        );
    }

    /// Takes note of what a response about clusters does.
    pub(super) fn no_cluster_leaves_before_its_routes(
        &mut self,
        full: &[Arc<Encoded>],
        removed: &[Arc<str>],
    ) {
        let there: BTreeSet<Arc<str>> = full.iter().map(|one| one.name().clone()).collect();
        let leaves = |name: &Arc<str>| match self.mode.variant {
            Variant::Sotw => !there.contains(name),
            Variant::Delta => removed.contains(name),
        };
        let leaving: Vec<Arc<str>> = self
            .clusters
            .iter()
            .filter(|name| leaves(name))
            .cloned()
            .collect();
        for name in leaving {
            self.tally.count("cluster removed");
            let late = self.now >= self.changed + REMOVAL_CAP;
            let Held {
                carried,
                sent,
                acknowledged,
                ..
            } = &self.routes;
            let known = sent.iter().chain(acknowledged).map(|of| (of, false));
            for ((route, version), capped) in known.chain(carried.iter().map(|of| (of, true))) {
                let refers = version.references().iter().any(|(_, to)| *to == name);
                let target = self.snapshot.get(Kind::Routes, route);
                // A route that is gone itself is nothing that could be acknowledged.
                let replaced = target.is_some_and(|target| target.hash() != version.hash());
                assert!(
                    !(refers && replaced) || (capped && late),
                    "seed {}: {name} leaves before {route}",
                    self.seed
                );
            }
            self.clusters.remove(&name);
        }
        self.clusters.extend(there);
    }

    /// All that the listeners of the server lead to, as the server has it.
    pub(super) fn ends_with_the_state_of_the_server(&self) {
        let (have, model, seed) = (&*self.in_force, &self.mesh.model, self.seed);
        let names = HOSTS.map(listener).into_iter();
        for name in names.filter(|name| model.listeners.contains_key(name)) {
            assert_eq!(self.statuses[&name], client::Status::InForce, "seed {seed}");
            let (found, served) = (have.listeners.get(&name), &model.listeners[&name]);
            assert_eq!(found, Some(served), "seed {seed}");
            let Routes::Named(routes) = &served.routes else {
                panic!("seed {seed}: {name}");
            };
            let (found, served) = (have.routes.get(routes), &model.routes[routes]);
            assert_eq!(found, Some(served), "seed {seed}");
            for cluster in clusters(served) {
                let (found, served) = (have.clusters.get(&cluster), &model.clusters[&cluster]);
                assert_eq!(found, Some(served), "seed {seed}");
                if let Discovery::Endpoints(name) = &served.discovery {
                    let (found, served) = (have.endpoints.get(name), model.endpoints.get(name));
                    assert_eq!(found, served, "seed {seed}");
                }
            }
        }
    }
}

/// The clusters that routes lead to.
fn clusters(routes: &RouteConfiguration) -> Vec<Arc<str>> {
    let all = routes.virtual_hosts.iter().flat_map(|host| &host.routes);
    let forwards = all.filter_map(|route| match &route.action {
        Action::Forward(forward) => Some(forward),
        _ => None,
    });
    let destinations = forwards.flat_map(|forward| forward.destinations.all());
    destinations.map(|one| one.cluster.clone()).collect()
}
