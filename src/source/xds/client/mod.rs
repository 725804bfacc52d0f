//! All servers and all resources together, without any IO: what a program asked for, what is known
//! of it, and which server is asked for what.
//!
//! The machine is driven by what happens (a demand, a stream that began or ended, a response, time)
//! and is asked what to do: [`wish`](Client::wish) for a connection, [`next`](Client::next) for a
//! message, [`due`](Client::due) for the next time to look at the clock, [`take`](Client::take) for
//! what is in force. Everything that a response leads to has happened when
//! [`receive`](Client::receive) returns, so that whoever reads the next one after that has the flow
//! control that gRPC has (no response is read before the last one is worked off).

mod domain;
mod receive;
mod remote;
mod report;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ads::message::Request;
use super::bootstrap::{Bootstrap, Server};
use super::cache::Kept;
use super::graph::Graph;
use super::store::{Entry, Good, Key, Problem, Store, Trouble};
use super::{Decode, Kind, name};
use crate::model::Resources;
use crate::random::Random;
use crate::tls::Secret;
use domain::Domain;
pub(crate) use remote::{Remote, Wish};
pub(crate) use report::Status;

/// When a resource is subscribed anew that was needed before on the same stream and does not come.
const AGAIN: Duration = Duration::from_secs(3);

/// The state of an xDS client.
#[derive(Debug)]
pub(crate) struct Client {
    /// The client's name, which stands in every error: who reads a log of many finds it by this.
    node: Arc<str>,
    remotes: Vec<Remote>,
    /// By authority; plain names have the empty one.
    domains: BTreeMap<Arc<str>, Domain>,
    certificate_providers: BTreeSet<Arc<str>>,
    decoder: Arc<dyn Decode>,
    random: Random,
    store: Store,
    graph: Graph,
    /// The listeners that were asked for.
    roots: BTreeSet<Arc<str>>,
    /// What a disk knows, until a server has said something newer.
    seeds: BTreeMap<Key, Good>,
    /// When something may have to be done for a resource. Entries that are out of date do nothing.
    timers: BTreeSet<(Instant, Key)>,
    /// Whether something is in force that was not taken yet.
    moved: bool,
    /// Whether the state of a demand may have changed.
    told: bool,
}

/// What is in force by now.
#[derive(Debug)]
pub(crate) struct Taken {
    /// `None`: what was in force before.
    pub(crate) resources: Option<Arc<Resources>>,
    /// The certificates and roots that come with it.
    pub(crate) secrets: Arc<BTreeMap<Arc<str>, Secret>>,
    /// Each listener that was asked for.
    pub(crate) statuses: BTreeMap<Arc<str>, Status>,
    /// Why clusters, or their endpoints, cannot be had.
    pub(crate) notes: BTreeMap<Arc<str>, Arc<str>>,
}

impl Client {
    /// A client that was asked for nothing. `seeds` are resources of an earlier process, to begin
    /// with.
    pub(crate) fn new(
        bootstrap: &Bootstrap,
        decoder: Arc<dyn Decode>,
        random: Random,
        seeds: BTreeMap<Key, Good>,
    ) -> Self {
        let (remotes, domains) = domain::of(bootstrap);
        Self {
            node: Arc::from(&*bootstrap.node.id),
            remotes,
            domains,
            certificate_providers: bootstrap.certificate_providers.keys().cloned().collect(),
            decoder,
            random,
            store: Store::default(),
            graph: Graph::default(),
            roots: BTreeSet::new(),
            seeds,
            timers: BTreeSet::new(),
            moved: false,
            told: false,
        }
    }

    /// How many servers there are; they are called by number.
    pub(crate) fn servers(&self) -> usize {
        self.remotes.len()
    }

    /// A server by its number.
    pub(crate) fn server(&self, number: usize) -> Option<Arc<Server>> {
        Some(self.remotes.get(number)?.server.clone())
    }

    /// Says which listeners are asked for from here on.
    pub(crate) fn demand(&mut self, listeners: BTreeSet<Arc<str>>, now: Instant) {
        if listeners != self.roots {
            self.roots = listeners;
            self.told = true;
            self.settle(Vec::new(), true, now);
        }
    }

    /// What shall become of the stream to a server.
    pub(crate) fn wish(&self, server: usize) -> Wish {
        let active = self.domains.values().any(|domain| domain.uses(server));
        self.remotes
            .get(server)
            .map_or(Wish::Rest, |remote| remote.wish(active))
    }

    /// A stream to a server begins.
    pub(crate) fn begin(&mut self, server: usize, now: Instant) {
        if let Some(remote) = self.remotes.get_mut(server) {
            remote.begin(now);
        }
    }

    /// Whether there is a message for a server.
    pub(crate) fn has_next(&self, server: usize) -> bool {
        let remote = self.remotes.get(server);
        remote.is_some_and(|remote| remote.ads.has_next())
    }

    /// The next message for a server. Times that resources may take begin by it: it is sent as soon
    /// as there is a connection.
    pub(crate) fn next(&mut self, server: usize, now: Instant) -> Option<Request> {
        let Self {
            remotes,
            store,
            timers,
            ..
        } = self;
        let remote = remotes.get_mut(server)?;
        let request = remote.ads.next(|kind, name| {
            let good = store.get(&(kind, name.clone()))?.good.as_ref()?;
            (!good.unconfirmed).then(|| good.version.clone())
        })?;
        let due = now + remote.server.features.patience();
        for name in &request.fresh {
            let key = (request.kind, name.clone());
            if let Some(entry) = store.get_mut(&key)
                && entry.good.as_ref().is_none_or(|good| good.unconfirmed)
            {
                // A name that is subscribed anew has no more time for that.
                if !entry.due.iter().any(|(of, _)| *of == server) {
                    entry.due.push((server, due));
                    timers.insert((due, key.clone()));
                }
                if request.returned.contains(name) && !entry.is_known() {
                    let again = now + AGAIN;
                    entry.again = Some((server, again));
                    timers.insert((again, key));
                }
            }
        }
        Some(request)
    }

    /// A stream has ended, or could not be begun.
    pub(crate) fn end(&mut self, server: usize, why: &str, now: Instant) {
        let Some(remote) = self.remotes.get_mut(server) else {
            return;
        };
        let failed = remote.end(why, &self.random, now);
        for (_, entry) in self.store.iter_mut() {
            entry.due.retain(|(of, _)| *of != server);
            entry.again.take_if(|(of, _)| *of == server);
        }
        if failed {
            self.fall_back(server, now);
            self.told = true;
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Does what is due: resources that did not come, and those whose time to live has ended.
    pub(crate) fn tick(&mut self, now: Instant) {
        let mut changed = Vec::new();
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, key)) = self.timers.pop_first()
        {
            if self.expire(&key, now) {
                changed.push(key);
            }
        }
        if !changed.is_empty() {
            self.settle(changed, true, now);
        }
    }

    fn expire(&mut self, key: &Key, now: Instant) -> bool {
        let Some(entry) = self.store.get_mut(key) else {
            return false;
        };
        let ended = |good: &Good| good.expires.is_some_and(|at| at <= now);
        if entry.good.as_ref().is_some_and(ended) {
            let text = "its time to live has ended";
            return self.suffer(key, Problem::Absent, text, None, true, now);
        }
        if let Some((server, _)) = entry.again.take_if(|(_, at)| *at <= now)
            && let Some(remote) = self.remotes.get_mut(server)
        {
            remote.ads.again(key.0, &key.1);
        }
        let Some(&(server, _)) = entry.due.iter().find(|(_, at)| *at <= now) else {
            return false;
        };
        let remote = &self.remotes[server];
        let features = remote.server.features;
        let seconds = features.patience().as_secs();
        let text = format!("{} did not send it within {seconds} s", remote.server);
        let problem = if features.timer_is_transient {
            Problem::Timeout
        } else {
            Problem::Absent
        };
        // What is from the disk and unknown to the server is no more.
        self.suffer(key, problem, &text, None, problem == Problem::Absent, now)
    }

    /// Takes in a trouble; returns whether it changes what can be had.
    fn suffer(
        &mut self,
        key: &Key,
        problem: Problem,
        text: &str,
        version: Option<Arc<str>>,
        drops: bool,
        now: Instant,
    ) -> bool {
        let Some(entry) = self.store.get_mut(key) else {
            return false;
        };
        let (kind, name) = key;
        let text: Arc<str> = format!("{kind} {name:?}: {text} (xDS node {:?})", self.node).into();
        let trouble = Trouble {
            problem,
            text: text.clone(),
            version,
            at: now,
        };
        let suffered = entry.suffer(trouble, drops);
        if !suffered.repeated {
            let kept = entry.good.is_some();
            tracing::warn!(target: "meshwork::source::xds", kept, "{text}");
        }
        suffered.lost || suffered.unknown_before
    }

    /// Puts in force what can be, and asks for what is needed from here on. `structure`: whether
    /// more than endpoints has changed, so that something else may be needed.
    fn settle(&mut self, mut changed: Vec<Key>, mut structure: bool, now: Instant) {
        loop {
            self.told |= !changed.is_empty();
            let kinds = self.graph.update(&self.store, changed.drain(..));
            self.moved |= !kinds.is_empty();
            structure |= kinds.iter().any(|kind| *kind != Kind::Endpoints);
            if !structure {
                return;
            }
            let roots = self.roots.iter().map(|name| (Kind::Listener, name.clone()));
            let needed = self.graph.needed(roots);
            self.store.retain(|key| needed.contains(key));
            self.moved |= self.graph.retain(&needed);
            for key in &needed {
                if self.store.get(key).is_none() && self.begin_to_need(key, now) {
                    changed.push(key.clone());
                }
            }
            if changed.is_empty() {
                self.subscribe(&needed);
                return;
            }
        }
    }

    /// Returns whether something is known of it at once.
    fn begin_to_need(&mut self, key: &Key, now: Instant) -> bool {
        let good = self.seeds.get(key).cloned();
        let seeded = good.is_some();
        self.store.insert(
            key.clone(),
            Entry {
                good,
                ..Entry::default()
            },
        );
        let authority = name::authority(&key.1);
        if !self.domains.contains_key(authority) {
            let text = format!("the bootstrap has no authority {authority:?}");
            self.suffer(key, Problem::Absent, &text, None, true, now);
            return true;
        }
        seeded
    }

    /// Tells each server what is wanted of it.
    fn subscribe(&mut self, needed: &BTreeSet<Key>) {
        for (server, remote) in self.remotes.iter_mut().enumerate() {
            let mut wanted: BTreeMap<Kind, BTreeSet<Arc<str>>> =
                Kind::ALL.map(|kind| (kind, BTreeSet::new())).into();
            for (kind, name) in needed {
                let domain = self.domains.get(name::authority(name));
                if domain.is_some_and(|domain| domain.uses(server))
                    && let Some(names) = wanted.get_mut(kind)
                {
                    names.insert(name.clone());
                }
            }
            for (kind, names) in wanted {
                remote.ads.want(kind, names);
            }
        }
    }

    /// The clusters in force whose load this server wants to know.
    pub(crate) fn reporting(&self, server: usize) -> BTreeSet<Arc<str>> {
        let uses = |name: &Arc<str>| {
            let domain = self.domains.get(name::authority(name));
            domain.is_some_and(|domain| domain.uses(server))
        };
        let reporting = self.graph.reporting();
        reporting.filter(|name| uses(name)).cloned().collect()
    }

    pub(crate) fn remotes(&self) -> impl Iterator<Item = &Remote> {
        self.remotes.iter()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.store.iter()
    }

    /// The resources that a later process may begin with.
    pub(crate) fn kept(&self) -> Vec<Kept> {
        let kept = |(key, entry): (&Key, &Entry)| {
            // A key is never written to a disk.
            if key.0 == Kind::Secret {
                return None;
            }
            let good = entry.good.as_ref()?;
            Some(Kept {
                key: key.clone(),
                version: good.version.clone(),
                raw: good.raw.clone(),
            })
        };
        self.store.iter().filter_map(kept).collect()
    }

    /// What is in force, and how demands stand, if either has changed since it was taken last.
    pub(crate) fn take(&mut self) -> Option<Taken> {
        if !std::mem::take(&mut self.told) && !self.moved {
            return None;
        }
        let moved = std::mem::take(&mut self.moved);
        Some(Taken {
            resources: moved.then(|| self.graph.resources().clone()),
            secrets: self.graph.secrets().clone(),
            statuses: self.statuses(),
            notes: self.notes(),
        })
    }
}
