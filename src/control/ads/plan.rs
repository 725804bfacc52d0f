//! From what is due to a response: first decided, without a change, then taken note of.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::introduce::Step;
use super::order::{Gate, InUse};
use super::watch::{Have, Outstanding, Watch};
use super::{Item, Response, Stream, Variant, earliest};
use crate::control::kind::Kind;
use crate::control::resource::Encoded;
use crate::control::snapshot::version;

/// What one kind has to say at one moment.
#[derive(Debug, Default)]
struct Plan {
    send: Vec<(Arc<str>, Arc<Encoded>)>,
    /// Which of these introduce what comes next, and so stay due.
    introduced: BTreeSet<Arc<str>>,
    remove: Vec<Arc<str>>,
    missing: Vec<Arc<str>>,
    beats: Vec<(Arc<str>, Arc<Encoded>)>,
    /// Names that need no look any more.
    settled: Vec<Arc<str>>,
    /// Gone, but still held: when that was so last.
    gone: Vec<(Arc<str>, Instant)>,
    /// A resource waits for something else.
    waits: bool,
    /// Something stays that cannot be repeated, since only the client has it.
    keeps: bool,
    wake: Option<Instant>,
}

impl Stream {
    pub(super) fn respond(&mut self, kind: Kind, now: Instant) -> Option<Response> {
        let watch = self.watch(kind)?;
        // One response at a time: what comes meanwhile is in the next one.
        if watch.outstanding.is_some() {
            return None;
        }
        let heartbeat = watch.beats.values().min().is_some_and(|at| *at <= now);
        if watch.due.is_empty() && !watch.owed && !heartbeat {
            self.wake = earliest(self.wake, watch.beats.values().min().copied());
            return None;
        }
        let plan = self.plan(kind, watch, now);
        self.wake = earliest(self.wake, plan.wake);
        self.note(kind, &plan);
        let whole = self.client.variant == Variant::Sotw && kind.is_whole();
        let owed = self.watch_mut(kind).owed && !plan.waits;
        let says = !plan.send.is_empty()
            || !plan.beats.is_empty()
            || !plan.missing.is_empty()
            || (!plan.remove.is_empty() && self.tells_removal(kind));
        // A whole state without it would take it away.
        if (!says && !owed) || (whole && plan.keeps) {
            return None;
        }
        Some(match self.client.variant {
            Variant::Sotw => self.sotw_response(kind, plan, whole, now),
            Variant::Delta => self.delta_response(kind, plan, now),
        })
    }

    /// Decides on everything that is due.
    fn plan(&self, kind: Kind, watch: &Watch, now: Instant) -> Plan {
        let mut plan = Plan::default();
        let mut in_use: Option<InUse<'_>> = None;
        for (name, since) in &watch.due {
            let have = watch.have.get(name);
            match (self.snapshot.get(kind, name), have) {
                (Some(target), Some(have)) if !have.force && is(&target, have) => {
                    plan.settled.push(name.clone());
                }
                (Some(target), _) => self.plan_send(&mut plan, (name, *since), target, now),
                (None, Some(have)) if have.sent.is_some() || self.tells_removal(kind) => {
                    let in_use = in_use.get_or_insert_with(|| self.in_use(kind));
                    self.plan_removal(&mut plan, (kind, name), have, in_use, now);
                }
                (None, _) => {
                    if self.is_unknown(kind, name) {
                        plan.missing.push(name.clone());
                    }
                    plan.settled.push(name.clone());
                }
            }
        }
        if self.client.variant == Variant::Delta {
            for (name, at) in &watch.beats {
                let known = watch.have.get(name).and_then(|have| have.sent.as_ref());
                match known.filter(|_| !watch.due.contains_key(name)) {
                    Some(resource) if *at <= now => {
                        plan.beats.push((name.clone(), resource.clone()));
                    }
                    _ => plan.wake = earliest(plan.wake, Some(*at).filter(|at| *at > now)),
                }
            }
        }
        plan
    }

    /// Whether a name that does not exist is one that the client is to be told of.
    fn is_unknown(&self, kind: Kind, name: &Arc<str>) -> bool {
        let told = self.client.variant == Variant::Delta || self.client.errors;
        told && self.watch(kind).is_some_and(|watch| {
            let collection = watch.globs.iter().any(|glob| glob.is(name));
            watch.named.contains(name) && !watch.told.contains(name) && !collection
        })
    }

    fn plan_send(
        &self,
        plan: &mut Plan,
        (name, since): (&Arc<str>, Instant),
        target: Arc<Encoded>,
        now: Instant,
    ) {
        match self.introduction(name, &target, now) {
            Step::None => {}
            Step::Introduce(routes) => {
                plan.introduced.insert(name.clone());
                return plan.send.push((name.clone(), routes));
            }
            Step::Until(at) => {
                plan.waits = true;
                plan.wake = earliest(plan.wake, Some(at));
                return;
            }
        }
        let gate = match target.kind() {
            Kind::Listener | Kind::Routes | Kind::ScopedRoutes | Kind::VirtualHost => {
                self.referents(&target, since, now)
            }
            _ => Gate::Go,
        };
        match gate {
            Gate::Go => plan.send.push((name.clone(), target)),
            Gate::Wait => plan.waits = true,
            Gate::Until(at) => {
                plan.waits = true;
                plan.wake = earliest(plan.wake, Some(at));
            }
        }
    }

    fn plan_removal(
        &self,
        plan: &mut Plan,
        (kind, name): (Kind, &Arc<str>),
        have: &Have,
        in_use: &InUse<'_>,
        now: Instant,
    ) {
        let hold = in_use.holds(name, have);
        let held = hold.is_some_and(|hold| self.is_held(hold, have));
        let gone = have.gone().filter(|_| !held).unwrap_or(now);
        plan.gone.push((name.clone(), gone));
        let gate = self.removal(kind, name, (in_use, have), gone, now);
        plan.keeps |= gate != Gate::Go && self.keeps_state(have);
        match gate {
            Gate::Go => {
                plan.remove.push(name.clone());
                // Whether the client has it is not known in this variant: it is told that too.
                if self.keeps_state(have) && self.is_unknown(kind, name) {
                    plan.missing.push(name.clone());
                }
            }
            Gate::Wait => {}
            Gate::Until(at) => plan.wake = earliest(plan.wake, Some(at)),
        }
    }

    /// Takes note of what was found out, whether there is a response or not.
    fn note(&mut self, kind: Kind, plan: &Plan) {
        let lasting = !self.tells_removal(kind);
        let snapshot = self.snapshot.clone();
        let watch = self.watch_mut(kind);
        for (name, at) in &plan.gone {
            if let Some(have) = watch.have.get_mut(name) {
                have.set_gone(Some(*at));
            }
        }
        for name in &plan.settled {
            watch.due.remove(name);
            // The same content, perhaps in a later allocation: let the earlier one go.
            if let (Some(have), Some(target)) =
                (watch.have.get_mut(name), snapshot.set(kind).get(name))
                && have
                    .sent
                    .as_ref()
                    .is_some_and(|sent| sent.hash() == target.hash())
            {
                have.set_gone(None);
            }
        }
        if lasting {
            // These cannot be taken away; the client drops them when it wants no more of them.
            for name in &plan.remove {
                watch.due.remove(name);
                // Should they come back, that is another change.
                if let Some(have) = watch.have.get_mut(name) {
                    have.set_introduced(None);
                }
            }
        }
    }

    fn sotw_response(&mut self, kind: Kind, plan: Plan, whole: bool, now: Instant) -> Response {
        let changed = self.take(kind, &plan, now);
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
            .filter_map(|name| watch.have.get(name)?.sent.clone());
        let items: Vec<Arc<Encoded>> = sent.collect();
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
            missing,
            denied,
        };
        self.sent(response, names, leaving)
    }

    fn delta_response(&mut self, kind: Kind, plan: Plan, now: Instant) -> Response {
        self.take(kind, &plan, now);
        let names: Vec<Arc<str>> = plan.send.iter().map(|(name, _)| name.clone()).collect();
        self.follow_up(kind, &names, now);
        let watch = self.watch_mut(kind);
        let mut leaving = Vec::new();
        for name in &plan.remove {
            leaving.extend(watch.have.get(name).cloned());
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
        let told = plan.missing.iter().filter(|_| self.client.errors);
        let denied = told.filter(|name| self.snapshot.is_denied(kind, name));
        let denied = denied.cloned().collect();
        let mut removed = plan.remove;
        let mut items: Vec<Item> = plan
            .send
            .into_iter()
            .map(|(_, item)| Item::Full(item))
            .collect();
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
            missing: Vec::new(),
            denied,
        };
        self.sent(response, names, leaving)
    }

    /// Notes what is about to be sent; yields the names whose content is new to the client.
    fn take(&mut self, kind: Kind, plan: &Plan, now: Instant) -> Vec<Arc<str>> {
        let delta = self.client.variant == Variant::Delta;
        let watch = self.watch_mut(kind);
        let mut changed = Vec::new();
        for (name, target) in &plan.send {
            let have = watch.have.entry(name.clone()).or_default();
            if !is(target, have) {
                changed.push(name.clone());
            }
            have.sent = Some(target.clone());
            watch.strangers.remove(name);
            (have.force, have.here) = (false, true);
            have.set_gone(None);
            if plan.introduced.contains(name) {
                let since = have.introduced().unwrap_or(now);
                have.set_introduced(Some(since));
            } else {
                have.set_introduced(None);
                watch.due.remove(name);
            }
            watch.told.remove(name);
            match target.ttl().filter(|_| delta) {
                Some(ttl) => watch.beats.insert(name.clone(), now + ttl / 2),
                None => watch.beats.remove(name),
            };
        }
        for name in &plan.missing {
            watch.told.insert(name.clone());
        }
        changed
    }

    /// What has to be sent again because of what is sent: the endpoints of a cluster, for which
    /// Envoy would wait, and the virtual hosts of a route configuration, which it has dropped.
    fn follow_up(&mut self, kind: Kind, sent: &[Arc<str>], now: Instant) {
        let mut again: Vec<Arc<str>> = Vec::new();
        let other = match kind {
            Kind::Cluster => {
                let snapshot = self.snapshot.clone();
                let clusters = sent.iter().filter_map(|name| snapshot.set(kind).get(name));
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
            return;
        };
        for name in again {
            if watch.have.contains_key(&name) {
                watch.force(&name, now);
            }
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

/// Whether the client was sent that content.
fn is(target: &Encoded, have: &Have) -> bool {
    have.sent
        .as_ref()
        .is_some_and(|sent| sent.hash() == target.hash())
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
