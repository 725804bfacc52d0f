//! From what shall be said to a response, and what the client has then.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::holdings::Have;
use super::plan::{Plan, is};
use super::watch::{Outstanding, Watch};
use super::{Item, Response, Stream, Variant};
use crate::control::kind::Kind;
use crate::control::resource::Encoded;
use crate::control::snapshot::version;

impl Stream {
    pub(super) fn sotw_response(
        &mut self,
        kind: Kind,
        plan: Plan,
        whole: bool,
        now: Instant,
    ) -> Response {
        let (changed, _) = self.take(kind, &plan, now);
        self.follow_up(kind, &changed, now);
        let watch = self.watch_mut(kind);
        let mut leaving = Vec::new();
        if whole {
            leaving.extend(plan.remove.iter().filter_map(|name| {
                watch.due.remove(name);
                watch.have.remove(name)
            }));
        }
        let names: Vec<Arc<str>> = if whole {
            watch.have.keys().cloned().collect()
        } else {
            plan.send.iter().map(|(name, _)| name.clone()).collect()
        };
        let sent = names
            .iter()
            .filter_map(|name| watch.have.get(name)?.sent.cloned());
        let items: Vec<Arc<Encoded>> = once(sent, watch);
        let version = label(&items).unwrap_or_else(|| {
            let whole_sum = items
                .iter()
                .fold(0, |sum: u64, item| sum.wrapping_add(item.hash()));
            let sum = if whole {
                whole_sum
            } else {
                self.snapshot.set(kind).sum()
            };
            version(sum).into()
        });
        let (denied, missing) = plan
            .missing
            .into_iter()
            .partition(|name| self.snapshot.is_denied(kind, name));
        let response = Response {
            kind,
            nonce: self.nonce + 1,
            version,
            items: items.into_iter().map(Item::Full).collect(),
            removed: Vec::new(),
            left: Vec::new(),
            missing,
            denied,
        };
        self.sent(response, names, leaving)
    }

    pub(super) fn delta_response(&mut self, kind: Kind, plan: Plan, now: Instant) -> Response {
        let (_, mut left) = self.take(kind, &plan, now);
        let names: Vec<Arc<str>> = plan.send.iter().map(|(name, _)| name.clone()).collect();
        self.follow_up(kind, &names, now);
        let watch = self.watch_mut(kind);
        let mut leaving = Vec::new();
        let mut removed: Vec<Arc<str>> = Vec::new();
        for name in &plan.remove {
            let have = watch.have.remove(name);
            match have.as_ref().and_then(|have| have.sent.as_ref()) {
                Some(sent) if sent.constraints().is_some() => left.push(sent.clone()),
                _ => removed.push(name.clone()),
            }
            leaving.extend(have);
            watch.forget(name);
            // Being removed is being told.
            if watch.named.contains(name) {
                watch.told.insert(name.clone());
            }
        }
        for (name, resource) in &plan.beats {
            watch
                .beats
                .insert(name.clone(), now + resource.ttl().unwrap_or_default() / 2);
        }
        left.retain(|variant| !watch.has(variant));
        let sent = plan.send.into_iter().map(|(_, item)| item);
        let mut items: Vec<Item> = once(sent, watch).into_iter().map(Item::Full).collect();
        let told = plan.missing.iter().filter(|_| self.client.errors);
        let denied = told.filter(|name| self.snapshot.is_denied(kind, name));
        let denied = denied.cloned().collect();
        items.extend(plan.beats.into_iter().map(|(_, item)| Item::Beat(item)));
        if kind == Kind::VirtualHost {
            items.extend(plan.missing.into_iter().map(Item::Unknown));
        } else {
            removed.extend(plan.missing);
        }
        let response = Response {
            kind,
            nonce: self.nonce + 1,
            version: version(self.snapshot.set(kind).sum()).into(),
            items,
            removed,
            left,
            missing: Vec::new(),
            denied,
        };
        self.sent(response, names, leaving)
    }

    /// Notes what is about to be sent; yields the names whose content is new to the client, and the
    /// variants in whose place others come.
    fn take(
        &mut self,
        kind: Kind,
        plan: &Plan,
        now: Instant,
    ) -> (Vec<Arc<str>>, Vec<Arc<Encoded>>) {
        let delta = self.client.variant == Variant::Delta;
        let snapshot = self.snapshot.clone();
        let watch = self.watch_mut(kind);
        let (mut changed, mut left) = (Vec::new(), Vec::new());
        for (name, target) in &plan.send {
            let have = watch.have.entry(name);
            if !is(target, &(&*have).into()) {
                changed.push(name.clone());
            }
            let before = have.sent.replace(target.clone());
            left.extend(before.filter(|before| {
                before.constraints().is_some() && before.constraints() != target.constraints()
            }));
            (have.force, have.gone) = (false, None);
            if plan.introduced.contains(name) {
                have.introduced.get_or_insert(now);
            } else {
                have.introduced = None;
                watch.due.remove(name);
            }
            watch.told.remove(name);
            if watch.lists(&snapshot, kind, name) {
                watch.strangers.remove(name);
            }
            match target.ttl().filter(|_| delta) {
                Some(ttl) => watch.beats.insert(name.clone(), now + ttl / 2),
                None => watch.beats.remove(name),
            };
        }
        for name in &plan.missing {
            watch.told.insert(name.clone());
        }
        (changed, left)
    }

    /// What has to be sent again because of what is sent: the endpoints of a cluster, for which
    /// Envoy would wait, and the virtual hosts of a route configuration, which it has dropped.
    fn follow_up(&mut self, kind: Kind, sent: &[Arc<str>], now: Instant) {
        let mut again: Vec<Arc<str>> = Vec::new();
        let other = match kind {
            Kind::Cluster => {
                let clusters = self.watch(kind).into_iter();
                let clusters = clusters.flat_map(|watch| {
                    let had = sent.iter().filter_map(|name| watch.have.get(name));
                    had.filter_map(|have| have.sent)
                });
                let referred = clusters.flat_map(|cluster| cluster.references());
                let endpoints = referred.filter(|(kind, _)| *kind == Kind::Endpoints);
                again.extend(endpoints.map(|(_, name)| name.clone()));
                Kind::Endpoints
            }
            Kind::Routes => {
                let hosts = self.watch(Kind::VirtualHost).into_iter();
                let hosts = hosts.flat_map(|watch| watch.have.keys());
                again.extend(hosts.filter(|name| of_any(name, sent)).cloned());
                Kind::VirtualHost
            }
            _ => return,
        };
        let Some(watch) = self.watches[other.index()].as_mut() else {
            if other == Kind::Endpoints && self.client.variant == Variant::Delta {
                self.awaits(again);
            }
            return;
        };
        for name in again {
            let keys: Vec<Arc<str>> = watch.keys(&name).map(|(key, _)| key.clone()).collect();
            for key in keys {
                watch.force(&key, now);
            }
        }
    }

    /// Notes the endpoints of clusters that were sent, as long as no endpoints are asked for. A client that never
    /// does is not remembered by more than it has clusters.
    fn awaits(&mut self, endpoints: Vec<Arc<str>>) {
        self.awaited.extend(endpoints);
        let Some(clusters) = self.watches[Kind::Cluster.index()].as_ref() else {
            return;
        };
        if self.awaited.len() > 2 * clusters.have.len() {
            let sent = clusters.have.iter().filter_map(|(_, have)| have.sent);
            let referred = sent.flat_map(|cluster| cluster.references());
            let referred: BTreeSet<&Arc<str>> = referred.map(|(_, name)| name).collect();
            self.awaited.retain(|name| referred.contains(name));
        }
    }

    /// The last step: a response is on its way.
    fn sent(&mut self, response: Response, names: Vec<Arc<str>>, leaving: Vec<Have>) -> Response {
        self.nonce = response.nonce;
        let watch = self.watch_mut(response.kind);
        watch.owed = false;
        watch.nonce = Some(response.nonce);
        watch.version = Some(response.version.clone());
        watch.outstanding = Some(Outstanding {
            nonce: response.nonce,
            names,
            leaving,
        });
        response
    }
}

/// Each resource once: several names of a client can lead to one variant.
fn once(all: impl Iterator<Item = Arc<Encoded>>, watch: &Watch) -> Vec<Arc<Encoded>> {
    let mut seen = BTreeSet::new();
    all.filter(|one| !watch.located || seen.insert(Arc::as_ptr(one)))
        .collect()
}

/// Whether a virtual host (`route configuration/host`) is of one of these route configurations.
fn of_any(host: &str, routes: &[Arc<str>]) -> bool {
    let mut routes = routes.iter();
    routes.any(|name| {
        host.strip_prefix(&**name)
            .is_some_and(|rest| rest.starts_with('/'))
    })
}

/// The label that all resources have in common, if they have one.
fn label(items: &[Arc<Encoded>]) -> Option<Arc<str>> {
    let first = items.first()?;
    let mut all = items.iter();
    let common = all.all(|item| item.is_labelled() && item.version() == first.version());
    common.then(|| first.version().clone())
}
