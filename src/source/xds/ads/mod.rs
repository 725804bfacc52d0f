//! One stream to one server: subscriptions, versions, nonces and answers, without any IO.
//!
//! The machine is told which names are wanted and what came of each response; it is asked for the
//! next message whenever one can be sent. So messages are made when they leave: a subscription that
//! changed three times while the server did not read is one message, and what is in the message is
//! what is wanted at that time. Only answers queue, one for each response, and a server that reads
//! none of a thousand of them is given up ([`Overrun`]). Reading is never held back by writing, so
//! that the two sides cannot wait for each other.
//!
//! The rules are those of the protocol's text and of gRPC, as C1 to C9 of the project's list count
//! them, and each has a test by its number:
//!
//! * the node is in the first message of a stream only (C1);
//! * each response is answered once, by its nonce: with its version if all of it was good, else with
//!   the last accepted version and the reasons (C2, C3);
//! * a changed subscription repeats all names with the newest nonce and version; when the last name
//!   goes, the list is empty, which is no wildcard once a name was asked for (C8);
//! * a new stream begins with an empty nonce, the last version and all names, or with the versions
//!   of what is known where the variant is incremental (C9);
//! * an empty list is never the first message of a kind: that would ask for everything.

pub(crate) mod message;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::Kind;
use message::{Ask, Request};

/// How many answers may wait for a server that does not read.
const MOST_ANSWERS: usize = 1_024;

/// How many names that were unsubscribed on a stream are kept in mind.
const MOST_PARTED: usize = 10_000;

/// The state of one stream, and what outlives it.
#[derive(Debug)]
pub(crate) struct Ads {
    delta: bool,
    kinds: BTreeMap<Kind, Subscription>,
    answers: VecDeque<Answer>,
    /// Whether the server was told who this is.
    introduced: bool,
}

/// One kind of resources.
#[derive(Debug, Default)]
struct Subscription {
    wanted: BTreeSet<Arc<str>>,
    /// What the server knows of it, on this stream.
    told: BTreeSet<Arc<str>>,
    /// Of these, what was not wanted at some time since, also if it is wanted again: what was known of
    /// it is forgotten, and a server sends it again only if it is subscribed anew.
    dropped: BTreeSet<Arc<str>>,
    /// What was unsubscribed on this stream. A server passes over messages that cross one of its own,
    /// so that it may not have seen it, and not see a subscription as a new one.
    parted: BTreeSet<Arc<str>>,
    /// Whether anything of this kind was sent on this stream.
    begun: bool,
    /// The newest response's, on this stream.
    nonce: Arc<str>,
    /// The last that was accepted, on any stream.
    version: Arc<str>,
}

/// What a response is answered with.
#[derive(Debug)]
struct Answer {
    kind: Kind,
    nonce: Arc<str>,
    version: Arc<str>,
    refusal: Option<Arc<str>>,
}

/// The server does not read its answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{MOST_ANSWERS} responses came without one of their answers being read")]
pub(crate) struct Overrun;

impl Ads {
    pub(crate) fn new(delta: bool) -> Self {
        Self {
            delta,
            kinds: BTreeMap::new(),
            answers: VecDeque::new(),
            introduced: false,
        }
    }

    /// Says which names of a kind are wanted from here on.
    pub(crate) fn want(&mut self, kind: Kind, names: BTreeSet<Arc<str>>) {
        if !names.is_empty() || self.kinds.contains_key(&kind) {
            let subscription = self.kinds.entry(kind).or_default();
            let gone = subscription.told.difference(&names).cloned();
            subscription.dropped.extend(gone);
            subscription.wanted = names;
        }
    }

    /// Whether a name is wanted of this server.
    pub(crate) fn wants(&self, kind: Kind, name: &str) -> bool {
        let of_kind = self.kinds.get(&kind);
        of_kind.is_some_and(|subscription| subscription.wanted.contains(name))
    }

    /// The wanted names that the server knows of, on this stream.
    pub(crate) fn told(&self, kind: Kind) -> impl Iterator<Item = &Arc<str>> {
        let of_kind = self.kinds.get(&kind).into_iter();
        of_kind.flat_map(|subscription| subscription.told.intersection(&subscription.wanted))
    }

    /// Subscribes a name anew.
    pub(crate) fn again(&mut self, kind: Kind, name: &Arc<str>) {
        if let Some(subscription) = self.kinds.get_mut(&kind)
            && subscription.told.contains(name)
        {
            subscription.dropped.insert(name.clone());
        }
    }

    /// Whether anything is wanted of this server.
    pub(crate) fn is_needed(&self) -> bool {
        self.kinds.values().any(|kind| !kind.wanted.is_empty())
    }

    /// Whether the kind was asked for on this stream: a response of another one is not answered,
    /// since the answer would be a first message without names.
    pub(crate) fn has_begun(&self, kind: Kind) -> bool {
        self.kinds.get(&kind).is_some_and(|kind| kind.begun)
    }

    /// Begins a stream.
    pub(crate) fn begin(&mut self) {
        self.introduced = false;
        self.answers.clear();
        for subscription in self.kinds.values_mut() {
            subscription.told.clear();
            subscription.dropped.clear();
            subscription.parted.clear();
            subscription.begun = false;
            subscription.nonce = Arc::default();
        }
    }

    /// Answers a response: `refusal` says what of it was not good.
    pub(crate) fn answer(
        &mut self,
        kind: Kind,
        nonce: Arc<str>,
        version: Arc<str>,
        refusal: Option<Arc<str>>,
    ) -> Result<(), Overrun> {
        if self.answers.len() >= MOST_ANSWERS {
            return Err(Overrun);
        }
        let subscription = self.kinds.entry(kind).or_default();
        subscription.nonce = nonce.clone();
        if refusal.is_none() {
            subscription.version = version;
        }
        self.answers.push_back(Answer {
            kind,
            nonce,
            version: subscription.version.clone(),
            refusal,
        });
        Ok(())
    }

    /// Whether there is something to say.
    pub(crate) fn has_next(&self) -> bool {
        !self.answers.is_empty() || self.changed().is_some()
    }

    fn changed(&self) -> Option<Kind> {
        let changed = |(_, subscription): &(&Kind, &Subscription)| subscription.is_changed();
        self.kinds.iter().find(changed).map(|(kind, _)| *kind)
    }

    /// The next message. `known` gives the version of a resource that need not be sent again.
    pub(crate) fn next(
        &mut self,
        known: impl Fn(Kind, &Arc<str>) -> Option<Arc<str>>,
    ) -> Option<Request> {
        let (kind, nonce, version, refusal) = match self.answers.pop_front() {
            Some(answer) => (answer.kind, answer.nonce, answer.version, answer.refusal),
            None => {
                let kind = self.changed()?;
                let subscription = self.kinds.get(&kind)?;
                let Subscription { nonce, version, .. } = subscription;
                (kind, nonce.clone(), version.clone(), None)
            }
        };
        let delta = self.delta;
        let subscription = self.kinds.get_mut(&kind)?;
        let names: BTreeSet<_> = subscription
            .wanted
            .difference(&subscription.dropped)
            .cloned()
            .collect();
        let fresh: Vec<_> = names.difference(&subscription.told).cloned().collect();
        let ask = if delta {
            subscription.changes(&names, &fresh, |name| known(kind, name))
        } else {
            Ask::Sotw {
                names: names.iter().cloned().collect(),
                version,
            }
        };
        // A server passes over what comes with a nonce that is not its newest (the incremental
        // variant does not), so that the names in it are said again.
        let returned = |name: &&Arc<str>| !delta && subscription.parted.contains(*name);
        let returned = fresh.iter().filter(returned).cloned().collect();
        if delta || nonce == subscription.nonce {
            subscription.part(&names);
            subscription.told = names;
            subscription.dropped.clear();
        }
        subscription.begun = true;
        Some(Request {
            kind,
            introduces: !std::mem::replace(&mut self.introduced, true),
            nonce,
            refusal,
            ask,
            fresh,
            returned,
        })
    }
}

impl Subscription {
    /// Takes in that the server is told these names and no others.
    fn part(&mut self, names: &BTreeSet<Arc<str>>) {
        let gone = self.told.difference(names).cloned();
        self.parted.extend(gone);
        if self.parted.len() > MOST_PARTED {
            self.parted.clear();
        }
    }

    fn is_changed(&self) -> bool {
        let differs = self.told != self.wanted || !self.dropped.is_empty();
        differs && (self.begun || !self.wanted.is_empty())
    }

    fn changes(
        &self,
        names: &BTreeSet<Arc<str>>,
        fresh: &[Arc<str>],
        known: impl Fn(&Arc<str>) -> Option<Arc<str>>,
    ) -> Ask {
        let with_version = |name: &Arc<str>| Some((name.clone(), known(name)?));
        Ask::Delta {
            subscribe: fresh.to_vec(),
            unsubscribe: self.told.difference(names).cloned().collect(),
            known: if self.begun {
                Vec::new()
            } else {
                fresh.iter().filter_map(with_version).collect()
            },
        }
    }
}
