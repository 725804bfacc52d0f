//! What is in force, and what has to be when nothing changes any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::decoder::resource;
use super::{ROOTS, World};
use crate::source::xds::{Kind, Resource};

impl World {
    /// What must be in force: all that the roots lead to, as the server has it.
    pub(super) fn expected(&self) -> BTreeMap<(Kind, Arc<str>), Resource> {
        let mut expected = BTreeMap::new();
        let mut queue: Vec<_> = ROOTS.map(|name| (Kind::Listener, Arc::from(name))).into();
        while let Some(key) = queue.pop() {
            let Some(text) = self.server.resources.get(&key) else {
                continue;
            };
            let [name, refers, stamp] = *text.split('|').collect::<Vec<_>>() else {
                panic!("{text}");
            };
            let (kind, _) = key;
            let next = match kind {
                Kind::Listener => Kind::RouteConfiguration,
                Kind::RouteConfiguration => Kind::Cluster,
                _ => Kind::Endpoints,
            };
            if kind != Kind::Endpoints {
                queue.extend(refers.split(',').map(|name| (next, Arc::from(name))));
            }
            let value = resource(kind, name, refers, stamp.parse().unwrap());
            expected.insert(key, value);
        }
        expected
    }

    pub(super) fn found(&self) -> BTreeMap<(Kind, Arc<str>), Resource> {
        let resources = &self.bench.resources;
        let listeners = resources.listeners.iter().map(|(name, value)| {
            (
                (Kind::Listener, name.clone()),
                Resource::Listener {
                    listener: value.clone(),
                    chain: Arc::default(),
                },
            )
        });
        let routes = resources.routes.iter().map(|(name, value)| {
            let value = Resource::RouteConfiguration {
                routes: value.clone(),
                said: Arc::default(),
            };
            ((Kind::RouteConfiguration, name.clone()), value)
        });
        let clusters = resources.clusters.iter().map(|(name, cluster)| {
            let cluster = cluster.clone();
            let endpoints = None;
            (
                (Kind::Cluster, name.clone()),
                Resource::Cluster {
                    cluster,
                    endpoints,
                    reports: false,
                },
            )
        });
        let endpoints = resources.endpoints.iter().map(|(name, value)| {
            (
                (Kind::Endpoints, name.clone()),
                Resource::Endpoints(value.clone()),
            )
        });
        listeners
            .chain(routes)
            .chain(clusters)
            .chain(endpoints)
            .collect()
    }
}
