//! What one stream has of one kind: its subscription, what it was sent, and what is due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::holdings::{Had, Have, Holdings};
use super::names::Names;
use crate::control::interned::Alike;
use crate::control::kind::Kind;
use crate::control::limits::beginning;
use crate::control::resource::Encoded;
use crate::control::snapshot::Snapshot;
use crate::control::variant;

/// The most of an error text that is kept.
const ERROR_LENGTH: usize = 4 << 10;

/// The subscription of one kind.
#[derive(Debug, Default)]
pub(in crate::control) struct Watch {
    /// Whether a request of the kind came.
    pub(super) begun: bool,
    /// Whether any name was ever sent, after which an empty list is no wildcard.
    pub(super) ever_named: bool,
    /// All resources of the kind are wanted.
    pub(super) wildcard: bool,
    /// With these parameters, as they stand in a key.
    pub(super) parameters: Arc<str>,
    /// Whether a name was ever one with parameters.
    pub(super) located: bool,
    /// Names that are wanted, whether they exist or not.
    pub(super) named: Names,
    /// The list that they came from, where a request replaces them all.
    pub(super) list: Option<u64>,
    /// Collections that are wanted.
    pub(super) globs: Vec<Glob>,
    /// What the client was sent.
    pub(super) have: Holdings,
    /// Wanted names of which it was told that they do not exist.
    pub(super) told: BTreeSet<Arc<str>>,
    /// Names to be looked at, and since when.
    pub(super) due: BTreeMap<Arc<str>, Instant>,
    /// When a resource with a time to live is renewed.
    pub(super) beats: BTreeMap<Arc<str>, Instant>,
    /// An answer is owed, even an empty one.
    pub(super) owed: bool,
    /// The response that was not answered yet.
    pub(super) outstanding: Option<Outstanding>,
    /// The nonce of the last response.
    pub(super) nonce: Option<u64>,
    /// The version of the last response, and of the last one that was acknowledged.
    pub(super) version: Option<Arc<str>>,
    /// The last refusal, until something is acknowledged: version and text.
    pub(super) error: Option<(Arc<str>, Arc<str>)>,
    /// Names that it brought from another stream, or dropped and is not told of yet, and that neither it
    /// nor the snapshot names: what they cost is the client's doing.
    pub(super) strangers: Names,
}

/// A response on its way.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) nonce: u64,
    /// The resources that it holds.
    pub(super) names: Vec<Arc<str>>,
    /// What it takes away; in use until it is answered.
    pub(super) leaving: Vec<Have>,
}

/// One resource that a client has, for views.
#[derive(Clone, Debug)]
pub(in crate::control) struct Held<'a> {
    pub(in crate::control) name: &'a Arc<str>,
    /// What it was sent last; `None`: it does not exist.
    pub(in crate::control) sent: Option<&'a Arc<Encoded>>,
    /// Whether it acknowledged that.
    pub(in crate::control) acked: bool,
    /// What it said when it refused its last response of the kind: version and text.
    pub(in crate::control) error: Option<&'a (Arc<str>, Arc<str>)>,
}

/// A collection of `xdstp:` resources: those of one directory and one context.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Glob {
    name: Arc<str>,
    prefix: Box<str>,
    context: Box<str>,
}

impl Glob {
    /// The collection that a name stands for, if it is one: `xdstp://authority/type/path/*?context`.
    pub(super) fn parse(name: &Arc<str>) -> Option<Self> {
        if !name.starts_with("xdstp://") {
            return None;
        }
        let (path, context) = name.split_once('?').unwrap_or((name, ""));
        let prefix = path
            .strip_suffix('*')
            .filter(|prefix| prefix.ends_with('/'))?;
        Some(Self {
            name: name.clone(),
            prefix: prefix.into(),
            context: context.into(),
        })
    }

    /// Whether it is the collection of that name.
    pub(super) fn is(&self, name: &str) -> bool {
        *self.name == *name
    }

    /// Whether a name is in the collection: directly in the directory, with equal context.
    pub(super) fn matches(&self, name: &str) -> bool {
        let (path, context) = name.split_once('?').unwrap_or((name, ""));
        let rest = path.strip_prefix(&*self.prefix);
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('/'))
            && context == &*self.context
    }
}

impl Watch {
    /// Whether a resource of that name would be sent.
    pub(super) fn wants(&self, name: &str) -> bool {
        (self.wildcard && variant::parameters(name) == &*self.parameters)
            || self.named.contains(name)
            || self.globs.iter().any(|glob| glob.matches(name))
    }

    pub(super) fn due(&mut self, name: &Arc<str>, now: Instant) {
        if !self.due.contains_key(name) {
            self.due.insert(name.clone(), now);
        }
    }

    /// Sends a resource again although it did not change.
    pub(super) fn force(&mut self, name: &Arc<str>, now: Instant) {
        if let Some(have) = self.have.get_mut(name) {
            have.force = true;
        }
        self.due(name, now);
    }

    /// Makes due whatever differs between what the client has and the snapshot.
    pub(super) fn compare(&mut self, snapshot: &Snapshot, kind: Kind, now: Instant) {
        let set = snapshot.set(kind);
        let mut due: Vec<Arc<str>> = Vec::new();
        let mut look = |name: &Arc<str>, target: Option<&Arc<Encoded>>| {
            let sent = self.have.get(name).and_then(|have| have.sent);
            if sent.map(|sent| sent.hash()) != target.map(|target| target.hash()) {
                due.push(name.clone());
            }
        };
        if self.wildcard && self.parameters.is_empty() {
            set.entries()
                .for_each(|(name, target)| look(name, Some(target)));
        } else if self.wildcard {
            for name in set.names() {
                let key = format!("{name}{}", self.parameters).into();
                look(&key, set.get(&key));
            }
        }
        for glob in &self.globs {
            let found = set.beginning(&glob.prefix);
            let found = found.filter(|(name, _)| glob.matches(name));
            found.for_each(|(name, target)| look(name, Some(target)));
        }
        let others = self.have.keys().chain(self.named.iter());
        others.for_each(|name| look(name, snapshot.get(kind, name).as_ref()));
        for name in due {
            self.due(&name, now);
        }
    }

    /// Whether it holds names that stand in no list of changes.
    pub(super) fn needs_lookups(&self, snapshot: &Snapshot, kind: Kind) -> bool {
        let set = snapshot.set(kind);
        let listed = |name: &Arc<str>| set.get(name).is_some_and(|found| found.name() == name);
        let spelled = matches!(kind, Kind::Listener | Kind::VirtualHost);
        self.located || (spelled && !self.named.iter().all(listed))
    }

    /// The names under which the client has a resource or variants of it.
    pub(super) fn keys<'w>(
        &'w self,
        name: &'w str,
    ) -> impl Iterator<Item = (&'w Arc<str>, Had<'w>)> {
        let from = self.have.from(name);
        from.take_while(move |(key, _)| variant::name(key) == name)
    }

    /// Whether the client was sent a variant, under whatever name.
    pub(super) fn has(&self, variant: &Encoded) -> bool {
        let mut all = self.keys(variant.name()).filter_map(|(_, have)| have.sent);
        all.any(|sent| sent.constraints() == variant.constraints())
    }

    /// What the client has of a resource, in one variant or another.
    pub(super) fn have_of<'w>(&'w self, name: &'w str) -> Option<Had<'w>> {
        self.keys(name).next().map(|(_, have)| have)
    }

    /// Notes the parameters with which everything is wanted; whether they were others before.
    pub(super) fn want_all_with(&mut self, parameters: &str) -> bool {
        let others = *self.parameters != *parameters;
        if others {
            self.parameters = parameters.into();
            self.located = true;
            self.forget_unwanted();
        }
        others
    }

    /// Adds a name; `false`: it was there.
    pub(super) fn add(&mut self, name: &Arc<str>) -> bool {
        let new = self.named.insert(name.clone());
        if new {
            self.told.remove(name);
            self.strangers.remove(name);
            self.located |= !variant::parameters(name).is_empty();
            self.globs.extend(Glob::parse(name));
        }
        new
    }

    /// Removes a name; `false`: it was not there.
    pub(super) fn drop_name(&mut self, name: &Arc<str>) -> bool {
        let old = self.named.remove(name);
        if old {
            self.told.remove(name);
            let globs = self.globs.len();
            self.globs.retain(|glob| glob.name != *name);
            if self.globs.len() < globs {
                self.forget_unwanted();
            }
        }
        old
    }

    /// Forgets what a resource was sent, since nobody wants it any more.
    pub(super) fn forget(&mut self, name: &Arc<str>) {
        self.have.remove(name);
        self.strangers.remove(name);
        self.due.remove(name);
        self.beats.remove(name);
    }

    /// Whether the snapshot itself has a name that it would be sent without asking for it by name. What
    /// exists under any of many spellings, or for any parameters, is the client's doing.
    pub(super) fn lists(&self, snapshot: &Snapshot, kind: Kind, name: &str) -> bool {
        let parameters = variant::parameters(name);
        (parameters.is_empty() || *parameters == *self.parameters)
            && snapshot.set(kind).lists(variant::name(name))
    }

    /// Whether the client has something under a name of which nothing is left: that it drops the name does
    /// not take away what other resources may still refer to.
    pub(super) fn is_leaving(&self, snapshot: &Snapshot, kind: Kind, name: &str) -> bool {
        let had = self.have.get(name);
        had.is_some_and(|have| have.sent.is_some() || have.brought)
            && snapshot.get(kind, name).is_none()
    }

    /// Whether what the client has under a name that it drops stays: something else wants the name, and the
    /// snapshot has it or had it. What exists because somebody asks for it goes with who asked.
    pub(super) fn keeps(&self, snapshot: &Snapshot, kind: Kind, name: &str) -> bool {
        self.wants(name)
            && (self.lists(snapshot, kind, name) || self.is_leaving(snapshot, kind, name))
    }

    /// Lets go of names that came and went before the client could be told of them: of those that it
    /// neither has nor named there is nothing to tell.
    pub(super) fn forget_passed(&mut self, snapshot: &Snapshot, kind: Kind) {
        let (have, named) = (&self.have, &self.named);
        self.due.retain(|name, _| {
            have.contains_key(name)
                || named.contains(name)
                || snapshot.set(kind).get(name).is_some()
        });
    }

    /// Forgets everything that is not wanted any more.
    pub(super) fn forget_unwanted(&mut self) {
        let keys = self.have.keys().chain(self.due.keys());
        let unwanted: Vec<_> = keys.filter(|name| !self.wants(name)).cloned().collect();
        unwanted.iter().for_each(|name| self.forget(name));
    }

    /// Takes the answer to the outstanding response in.
    pub(super) fn acknowledged(&mut self, alike: &Alike) {
        let answered = self.outstanding.take();
        for name in answered.iter().flat_map(|answered| &answered.names) {
            self.have.acknowledge(name);
        }
        self.error = None;
        self.pack(alike);
    }

    /// Makes what stays for the life of the stream as small as it can be: trees from which all was taken
    /// keep a node.
    fn pack(&mut self, alike: &Alike) {
        if self.due.is_empty() {
            self.due = BTreeMap::new();
        }
        if self.told.is_empty() {
            self.told = BTreeSet::new();
        }
        self.have.pack(alike);
        self.named.pack(alike);
    }

    /// Takes the refusal of the outstanding response in: what was acknowledged before is what may
    /// still be in use, and so is what was sent, since parts of a response may be taken.
    pub(super) fn refused(&mut self, error: &str) -> (Arc<str>, Arc<str>) {
        self.outstanding = None;
        let version = self.version.clone().unwrap_or_else(|| "".into());
        let told = (version, Arc::from(beginning(error, ERROR_LENGTH)));
        self.error = Some(told.clone());
        told
    }

    /// Names and their bytes: O(1), it is asked for each request.
    pub(super) fn cost(&self) -> (usize, usize) {
        let (named, strangers) = (&self.named, &self.strangers);
        let bytes = named.bytes() + strangers.bytes();
        (named.len() + strangers.len(), bytes)
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> usize {
        self.named.len()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.outstanding.is_none() && !self.owed && self.due.is_empty()
    }

    pub(super) fn held(&self) -> impl Iterator<Item = Held<'_>> {
        let had = self.have.iter().map(|(name, have)| Held {
            name,
            sent: have.sent,
            acked: match (have.sent, have.acked) {
                (Some(sent), Some(acked)) => Arc::ptr_eq(sent, acked),
                _ => false,
            },
            error: self.error.as_ref(),
        });
        let missing = self.named.iter().filter(|name| {
            !self.have.contains_key(name) && !self.globs.iter().any(|glob| glob.name == **name)
        });
        had.chain(missing.map(|name| Held {
            name,
            sent: None,
            acked: false,
            error: None,
        }))
    }
}
