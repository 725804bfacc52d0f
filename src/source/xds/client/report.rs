//! How demands stand, for those who wait and for those who ask why.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Client, name};
use crate::model::listener::Routes;
use crate::source::xds::store::{Entry, Key, Problem};
use crate::source::xds::{Kind, Resource};

/// What became of a listener that was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Status {
    /// It does not exist.
    Absent(Arc<str>),
    /// It cannot be had; that may change.
    Failed(Arc<str>),
    /// It is in force.
    InForce,
    /// It is being asked for; the text says what is missing.
    Pending(Arc<str>),
}

impl Client {
    pub(super) fn statuses(&self) -> BTreeMap<Arc<str>, Status> {
        let status = |name: &Arc<str>| (name.clone(), self.status(name));
        self.roots.iter().map(status).collect()
    }

    fn status(&self, name: &Arc<str>) -> Status {
        let key = (Kind::Listener, name.clone());
        let listener = match self.graph.in_force(&key) {
            Some(Resource::Listener { listener, .. }) => listener,
            // Those who listen look at it themselves; a client cannot use it.
            Some(Resource::Server(_)) => {
                let text = format!("listener {name:?} is a server's: it has no api_listener");
                return Status::Failed(text.into());
            }
            Some(_) | None => {
                return self.failed(&key).unwrap_or_else(|| self.pending(&key));
            }
        };
        match &listener.routes {
            Routes::Inline(_) => Status::InForce,
            Routes::Named(routes) => {
                let key = (Kind::RouteConfiguration, name::canonical(routes));
                match self.graph.in_force(&key) {
                    Some(_) => Status::InForce,
                    None => self.failed(&key).unwrap_or_else(|| self.pending(&key)),
                }
            }
        }
    }

    fn failed(&self, key: &Key) -> Option<Status> {
        let trouble = self.store.get(key)?.failure()?;
        let text = trouble.text.clone();
        Some(match (trouble.problem, key.0) {
            (Problem::Absent, Kind::Listener) => Status::Absent(text),
            _ => Status::Failed(text),
        })
    }

    /// What is missing, or why it cannot come.
    fn pending(&self, root: &Key) -> Status {
        for key in self.graph.needed([root.clone()]) {
            let known = self.store.get(&key).is_some_and(Entry::is_known);
            if known {
                continue;
            }
            let (kind, name) = &key;
            let domain = self.domains.get(name::authority(name));
            let node = &self.node;
            return match domain.and_then(|domain| domain.trouble(&self.remotes)) {
                Some(trouble) => {
                    Status::Failed(format!("{kind} {name:?}: {trouble} (xDS node {node:?})").into())
                }
                None => Status::Pending(
                    format!("{kind} {name:?} has not arrived (xDS node {node:?})").into(),
                ),
            };
        }
        Status::Pending("it is being put in force".into())
    }

    /// By cluster, why it or its endpoints cannot be had.
    pub(super) fn notes(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let mut notes = BTreeMap::new();
        for ((kind, name), entry) in self.store.iter() {
            let Some(trouble) = entry.failure() else {
                continue;
            };
            match kind {
                Kind::Cluster => {
                    notes.insert(name.clone(), trouble.text.clone());
                }
                Kind::Endpoints => {
                    for cluster in self.graph.referrers(&(*kind, name.clone())) {
                        notes.insert(cluster.1.clone(), trouble.text.clone());
                    }
                }
                Kind::Listener | Kind::RouteConfiguration | Kind::Secret => {}
            }
        }
        notes
    }
}
