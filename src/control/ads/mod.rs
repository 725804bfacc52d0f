//! One discovery stream, without IO: requests and snapshots go in, responses come out.
//!
//! [`Stream`] is the whole of the protocol's server side for one client, in both variants: the
//! state of the world and delta. It has no socket, no task and no clock; whoever drives it says
//! what time it is. So every sentence of the protocol is a test that needs a few lines, and a
//! schedule that once failed can be replayed.
//!
//! Three decisions shape it.
//!
//! **It is pulled.** [`Stream::next`] yields one response when the transport has room for it, so a
//! reader that is slow or stuck costs its subscriptions and nothing else: there is no queue. What
//! changed meanwhile is the difference between what was sent and the snapshot of the moment,
//! however many snapshots came between. Per kind one response is on its way at most; the next one
//! waits for its answer, and holds the latest state then.
//!
//! **What the client has is remembered by pointer.** Per resource: the version sent last and the
//! version that it acknowledged. Nothing else decides what is sent, and version labels decide
//! nothing at all.
//!
//! **Order is more than a sequence.** Sending clusters before routes is not enough under load: an
//! edit that moves a route and deletes the old cluster fails requests of clients that see the
//! deletion before they use the new route, and of proxies that use a route before its cluster has
//! endpoints. So a resource is withdrawn only when no version of a route that the client may still
//! use refers to it (`order`), and a client of all clusters gets a changed route only when the
//! clusters that it names were sent, and the endpoints of brand-new ones acknowledged.
//!
//! Names of tests begin with the sentence of the protocol that they are about: `s` for the state of
//! the world, `d` for delta.

mod delta;
mod holdings;
mod introduce;
mod message;
mod names;
mod order;
mod plan;
mod response;
mod sotw;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub(super) use self::message::{
    DeltaRequest, Item, Outcome, Reason, Refusal, Response, SotwRequest,
};
pub(super) use self::watch::Held;
use self::watch::Watch;
use super::kind::Kind;
use super::resource::canonical;
use super::snapshot::{Difference, Snapshot};

/// How long a resource stays that only its named subscriber still holds, or that only routes refer
/// to which are gone themselves.
const REMOVAL_CAP: Duration = Duration::from_secs(5);
/// How long a route waits for the endpoints of a new cluster to be acknowledged, or for the client to
/// be introduced to it.
const HOLD_CAP: Duration = Duration::from_secs(2);

/// Which of the two variants a stream speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Variant {
    /// The state of the world.
    Sotw,
    /// Incremental.
    Delta,
}

/// What is known of a client before its first subscription.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) variant: Variant,
    /// Whether it is told of missing names in `resource_errors` (xRFC TP3); in the delta variant
    /// `removed_resources` says so.
    pub(super) errors: bool,
    /// Whether it puts routes in force before it knows their clusters, so that it is
    /// [introduced](super::introduction) to them.
    pub(super) introduces: bool,
    /// Whether its listeners and routes come by the same stream (ADS).
    pub(super) aggregated: bool,
    /// How many names it may subscribe to or bring from another stream, of all kinds together.
    pub(super) names: usize,
}

/// The bytes that names on one stream may have together.
const NAME_BYTES: usize = 16 << 20;
/// The bytes of listeners that are made because one stream asked for them by names that are not listed. Streams of
/// one view share what is made, but a client that invents spellings has what nobody else asks for, and however
/// small a name is, what it stands for may be large.
const COPY_BYTES: usize = 4 << 20;
/// The bytes of one name.
const NAME_LENGTH: usize = 8 << 10;

/// A stream of one client.
#[derive(Debug)]
pub(super) struct Stream {
    client: Client,
    snapshot: Arc<Snapshot>,
    watches: [Option<Box<Watch>>; Kind::COUNT],
    /// Endpoints whose clusters were sent before the client asked for any endpoints: it waits for them then,
    /// whatever it says that it has.
    awaited: BTreeSet<Arc<str>>,
    /// Of the last response, of any kind.
    nonce: u64,
    wake: Option<Instant>,
    /// Why nothing can be sent any more.
    exceeded: Option<Refusal>,
}

impl Stream {
    /// A stream without subscriptions.
    pub(super) fn new(client: Client, snapshot: Arc<Snapshot>) -> Self {
        Self {
            client,
            snapshot,
            watches: Default::default(),
            awaited: BTreeSet::new(),
            nonce: 0,
            wake: None,
            exceeded: None,
        }
    }

    /// Another state of the world is in force.
    pub(super) fn update(&mut self, snapshot: Arc<Snapshot>, now: Instant) {
        let old = std::mem::replace(&mut self.snapshot, snapshot);
        for (kind, watch) in Kind::ALL.into_iter().zip(&mut self.watches) {
            let Some(watch) = watch else { continue };
            match self.snapshot.set(kind).since(old.set(kind).mark()) {
                Difference::None => {}
                Difference::Names(names) if !watch.needs_lookups(&self.snapshot, kind) => {
                    for name in names {
                        if watch.wants(name) {
                            watch.due(name, now);
                        }
                    }
                }
                Difference::Names(_) | Difference::Unknown => {
                    watch.compare(&self.snapshot, kind, now);
                }
            }
            watch.forget_passed(&self.snapshot, kind);
        }
    }

    /// The next response, if there is one to send.
    ///
    /// To be called until it yields none, as often as the transport has room, after every request
    /// and update, and at [`Stream::wake`].
    ///
    /// # Errors
    /// It would exceed a limit; the stream is to be ended with that.
    pub(super) fn next(&mut self, now: Instant) -> Result<Option<Response>, Refusal> {
        self.wake = None;
        let response = Kind::ALL
            .into_iter()
            .find_map(|kind| self.respond(kind, now));
        match self.exceeded.take() {
            Some(refusal) => Err(refusal),
            None => Ok(response),
        }
    }

    /// When [`Stream::next`] may have something although nothing arrived, as of its last call.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// Whether everything that can be sent was sent and answered: the end of an initial sync.
    pub(super) fn is_settled(&self) -> bool {
        let mut watches = self.watches.iter().flatten();
        watches.all(|watch| watch.is_settled())
    }

    /// How many names are subscribed to.
    #[cfg(test)]
    pub(super) fn names(&self) -> usize {
        self.watches
            .iter()
            .flatten()
            .map(|watch| watch.names())
            .sum()
    }

    /// What the client has of each kind, for views.
    pub(super) fn held(&self) -> impl Iterator<Item = (Kind, Held<'_>)> {
        let watches = Kind::ALL.into_iter().zip(&self.watches);
        let watches = watches.filter_map(|(kind, watch)| Some((kind, watch.as_ref()?)));
        watches.flat_map(|(kind, watch)| watch.held().map(move |held| (kind, held)))
    }

    fn watch(&self, kind: Kind) -> Option<&Watch> {
        self.watches[kind.index()].as_deref()
    }

    fn watch_mut(&mut self, kind: Kind) -> &mut Watch {
        self.watches[kind.index()].get_or_insert_default()
    }

    /// Whether there is room for these names of a kind besides those of the others; `gone` are names
    /// that leave with the same request.
    ///
    /// # Errors
    /// They are too many.
    fn room_for(&self, kind: Kind, names: &[Arc<str>], gone: &[Arc<str>]) -> Result<(), Refusal> {
        let of_all: (usize, usize) = Kind::ALL
            .into_iter()
            .filter_map(|other| self.watch(other))
            .map(|watch| watch.cost())
            .fold((0, 0), |sum, cost| (sum.0 + cost.0, sum.1 + cost.1));
        let watch = self.watch(kind);
        let has = |name: &&Arc<str>| watch.is_some_and(|watch| watch.named.contains(*name));
        // Each once, however often it is said.
        let cost = |names: BTreeSet<&Arc<str>>| {
            let bytes = names.iter().map(|name| name.len()).sum::<usize>();
            (names.len(), bytes)
        };
        let (more, less) = match self.client.variant {
            // The list replaces the one before it.
            Variant::Sotw => {
                let own = watch.map(Watch::cost).unwrap_or_default();
                (cost(names.iter().collect()), own)
            }
            Variant::Delta => {
                let brought =
                    |name: &&Arc<str>| watch.is_some_and(|watch| watch.strangers.contains(*name));
                let new = names.iter().filter(|name| !has(name) && !brought(name));
                (cost(new.collect()), cost(gone.iter().filter(has).collect()))
            }
        };
        let count = (of_all.0 + more.0).saturating_sub(less.0);
        let bytes = (of_all.1 + more.1).saturating_sub(less.1);
        if count > self.client.names || bytes > NAME_BYTES {
            return Err(Refusal::exhausted(format!(
                "{count} names of {bytes} bytes are subscribed to or brought on one stream: at most {} \
                 names and {NAME_BYTES} bytes are allowed",
                self.client.names
            )));
        }
        Ok(())
    }

    /// The names of a request, in their one spelling and shared with the snapshot where they
    /// exist. Empty names are none.
    ///
    /// # Errors
    /// One is too long.
    fn names_of(&self, kind: Kind, names: &[String]) -> Result<Vec<Arc<str>>, Refusal> {
        if let Some(long) = names.iter().find(|name| name.len() > NAME_LENGTH) {
            return Err(Refusal::invalid(format!(
                "a resource name of {} bytes: at most {NAME_LENGTH} are allowed",
                long.len()
            )));
        }
        let set = self.snapshot.set(kind);
        let shared = |name: &String| {
            let name = canonical(name);
            let known = set.get(&name).filter(|known| **known.name() == *name);
            known.map_or_else(|| Arc::from(&*name), |known| known.name().clone())
        };
        Ok(names
            .iter()
            .filter(|name| !name.is_empty())
            .map(shared)
            .collect())
    }
}

/// The earlier of the two.
fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
