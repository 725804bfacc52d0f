//! What must wait: removals for the routes that leave, routes for the clusters that come.
//!
//! Both rules look at what the client may still *use*, not at what the server would like it to: a
//! version that was acknowledged stays in use until a later one is, and one that was sent but not
//! answered, or refused, may be in use in parts.
//!
//! **Late removal.** A resource that left the snapshot is withdrawn when nothing in use refers to
//! it but what refers to it in the snapshot too (somebody who keeps a dangling reference means
//! it). A cluster that the client asked for by name is its own to let go; it is withdrawn 5
//! seconds after the last route was, should the client not have unsubscribed by then. What a client
//! brings from another stream (`initial_resource_versions`) may be named by routes that it brings too, and
//! whose content is not known here if it has changed since: it is withdrawn when these were answered, or 5
//! seconds after it was found to be gone, should the client bring no routes at all. In the state of the world a
//! client brings all names of its first request, if that has a version; a whole state without one of
//! them would take it away, so that it waits for the routes likewise, with all else of the kind: 5 seconds
//! at most if they are refused, or wait themselves.
//!
//! **Route hold.** A client of *all* clusters (Envoy) uses a changed route at once, whether its
//! clusters have endpoints or not. So for such a client a listener or route waits until the
//! clusters that it names were sent, and 2 seconds at most until those that are new to it and their
//! endpoints were acknowledged. Clients that ask for clusters by name (gRPC, A74) wait themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::holdings::Had;
use super::watch::Watch;
use super::{HOLD_CAP, REMOVAL_CAP, Stream, Variant};
use crate::control::kind::Kind;
use crate::control::resource::Encoded;
use crate::control::variant;

/// Whether something may go out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Gate {
    /// It may.
    Go,
    /// Not before something else happens.
    Wait,
    /// Not before something else happens, or this time comes.
    Until(Instant),
}

/// How long something is in use that left the snapshot.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Hold {
    /// By what is gone too, or may still come.
    Passing,
    /// By a version that nothing replaces at the moment: the next one was refused, or waits.
    Standing,
    /// Until the client has answered what is on its way to it.
    Answer,
}

/// What versions in use refer to, of one kind.
#[derive(Debug)]
pub(super) struct InUse<'a> {
    names: BTreeMap<&'a str, Hold>,
    /// The same for whatever a client brings from another stream.
    brought: Option<Hold>,
}

impl InUse<'_> {
    pub(super) fn holds(&self, name: &str, have: &Had<'_>) -> Option<Hold> {
        let named = self.names.get(variant::name(name)).copied();
        // Routes of unknown content may also name what the client was sent since, or has unchanged.
        let unknown = |hold: &Hold| *hold > Hold::Passing || have.brought;
        named.max(self.brought.filter(unknown))
    }
}

impl Stream {
    /// The names of a kind that versions in use refer to, without those references that the
    /// snapshot has too.
    pub(super) fn in_use(&self, kind: Kind) -> InUse<'_> {
        let mut names: BTreeMap<&str, Hold> = BTreeMap::new();
        for holder in Kind::ALL {
            let Some(watch) = self.watch(holder) else {
                continue;
            };
            let replaced = match watch.outstanding.is_some() {
                true => Hold::Answer,
                false => Hold::Standing,
            };
            for (name, have) in watch.have.iter() {
                let mut target = None;
                for version in versions(have) {
                    if !version
                        .references()
                        .iter()
                        .any(|(referred, _)| *referred == kind)
                    {
                        continue;
                    }
                    let target = target.get_or_insert_with(|| self.snapshot.get(holder, name));
                    let hold = match target {
                        Some(target) if target.hash() == version.hash() => continue,
                        // The next version of it goes out, and is answered.
                        Some(_) => replaced,
                        // Its own removal goes out, where the protocol has one. Resources of one
                        // kind may refer to each other in a circle.
                        None if holder != kind && self.tells_removal(holder) => replaced,
                        None => Hold::Passing,
                    };
                    refer(&mut names, version, kind, hold);
                }
            }
            let leaving = watch
                .outstanding
                .iter()
                .flat_map(|on_its_way| &on_its_way.leaving);
            for version in leaving.flat_map(|have| versions(have.into())) {
                refer(&mut names, version, kind, Hold::Answer);
            }
        }
        InUse {
            names,
            brought: self.brought_names(kind),
        }
    }

    /// Whether a client can be told that a resource of the kind is gone.
    pub(super) fn tells_removal(&self, kind: Kind) -> bool {
        self.client.variant == Variant::Delta || kind.is_whole()
    }

    /// Whether a resource that left the snapshot may be withdrawn; `gone` is when it left, or was
    /// last in use.
    pub(super) fn removal(
        &self,
        kind: Kind,
        name: &str,
        (in_use, have): (&InUse<'_>, &Had<'_>),
        gone: Instant,
        now: Instant,
    ) -> Gate {
        let capped = |wait: bool| match gone + REMOVAL_CAP {
            at if wait && at > now => Gate::Until(at),
            _ => Gate::Go,
        };
        match in_use.holds(name, have) {
            Some(hold) if self.is_held(hold, have) => Gate::Wait,
            Some(_) => capped(true),
            // To wait for the client to let it go would keep from it what it needs to do so.
            None if self.keeps_state(have) => Gate::Go,
            None => capped(kind == Kind::Cluster && self.lets_go_itself(name)),
        }
    }

    /// Whether something may not be withdrawn at any time. Of a state that is kept from the client not
    /// because of routes that nothing replaces: these may wait for a cluster of that state.
    pub(super) fn is_held(&self, hold: Hold, have: &Had<'_>) -> bool {
        match hold {
            Hold::Passing => false,
            Hold::Standing => !self.keeps_state(have),
            Hold::Answer => true,
        }
    }

    /// Whether something that the client keeps has its whole kind wait: a state of the world cannot
    /// hold what the server does not have, and without it would take it away.
    pub(super) fn keeps_state(&self, have: &Had<'_>) -> bool {
        have.sent.is_none() && self.client.variant == Variant::Sotw
    }

    /// Whether what a client brought from its former stream, and whose content nobody knows here, may name
    /// resources of a kind that it brought too.
    fn brought_names(&self, kind: Kind) -> Option<Hold> {
        if !self.client.aggregated || !matches!(kind, Kind::Cluster | Kind::Endpoints) {
            return None;
        }
        let routes = [Kind::Listener, Kind::Routes].map(|kind| self.watch(kind));
        let clusters = self
            .watch(Kind::Cluster)
            .filter(|_| kind == Kind::Endpoints);
        let unanswered = |watch: &Watch| {
            let leaving = watch.outstanding.iter().flat_map(|sent| &sent.leaving);
            let mut all = watch
                .have
                .iter()
                .map(|(_, have)| have)
                .chain(leaving.map(Had::from));
            all.any(|have| have.brought && have.acked.is_none())
        };
        match routes.into_iter().flatten().chain(clusters).any(unanswered) {
            true if self.client.variant == Variant::Delta => Some(Hold::Answer),
            // Whole states wait for it with all that they hold, so not for ever.
            true => Some(Hold::Passing),
            // Listeners come before the routes that they name.
            false if routes[1].is_none() => Some(Hold::Passing),
            false => None,
        }
    }

    /// Whether a cluster is one that the client asked for by name on a stream that has its routes.
    fn lets_go_itself(&self, name: &str) -> bool {
        let routes = [Kind::Listener, Kind::Routes]
            .into_iter()
            .any(|kind| self.watch(kind).is_some());
        let by_name = self
            .watch(Kind::Cluster)
            .is_some_and(|watch| !watch.wildcard && watch.named.contains(name));
        routes && by_name
    }

    /// Whether a listener or route may be sent that became due at `since`.
    pub(super) fn referents(&self, resource: &Encoded, since: Instant, now: Instant) -> Gate {
        let Some(clusters) = self.watch(Kind::Cluster).filter(|watch| watch.wildcard) else {
            return Gate::Go;
        };
        let mut gate = Gate::Go;
        for (kind, name) in resource.references() {
            if *kind != Kind::Cluster {
                continue;
            }
            let Some(cluster) = self.snapshot.set(Kind::Cluster).get(name) else {
                continue;
            };
            let Some(have) = clusters.have_of(name) else {
                return Gate::Wait;
            };
            if !self.has_endpoints(cluster, &have) {
                gate = Gate::Until(since + HOLD_CAP);
            }
        }
        match gate {
            Gate::Until(at) if at <= now => Gate::Go,
            gate => gate,
        }
    }

    /// Whether the client has acknowledged a cluster, and the endpoints that exist for it.
    pub(super) fn has_endpoints(&self, cluster: &Encoded, have: &Had<'_>) -> bool {
        // What it brought from another stream it has had for long.
        if have.acked.is_none() {
            return self.was_had(have);
        }
        let mut endpoints = cluster.references().iter();
        endpoints.all(|(kind, name)| {
            if *kind != Kind::Endpoints || self.snapshot.get(Kind::Endpoints, name).is_none() {
                return true;
            }
            let watch = self.watch(Kind::Endpoints);
            let have = watch.and_then(|watch| watch.have_of(name));
            have.is_some_and(|have| have.acked.is_some() || self.was_had(&have))
        })
    }

    /// Whether a client said that it has some version of exactly this; in the state of the world it
    /// only says that it has a version of the kind.
    fn was_had(&self, have: &Had<'_>) -> bool {
        self.client.variant == Variant::Delta && have.sent.is_none()
    }
}

/// The versions that may be in use.
fn versions(have: Had<'_>) -> impl Iterator<Item = &Arc<Encoded>> {
    let same = match (have.sent, have.acked) {
        (Some(sent), Some(acked)) => Arc::ptr_eq(sent, acked),
        _ => false,
    };
    let acked = have.acked.into_iter().filter(move |_| !same);
    have.sent.into_iter().chain(acked)
}

fn refer<'a>(names: &mut BTreeMap<&'a str, Hold>, version: &'a Encoded, kind: Kind, hold: Hold) {
    for (_, name) in version
        .references()
        .iter()
        .filter(|(referred, _)| *referred == kind)
    {
        let known = names.entry(name).or_insert(hold);
        *known = hold.max(*known);
    }
}
