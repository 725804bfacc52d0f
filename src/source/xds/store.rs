//! The last good value of each resource, and what is wrong with it since.
//!
//! A value and a trouble may stand side by side: the value is in use, the trouble is told (gRFC A88).
//! What drops a value is decided where the trouble is taken in, so that nobody who reads has to weigh
//! one against the other: if there is a value it holds, and if there is only a trouble the resource
//! cannot be had.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::ads::message::Raw;
use super::{Kind, Resource};

/// A resource's kind and canonical name.
pub(crate) type Key = (Kind, Arc<str>);

/// What is known of a resource that somebody needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) good: Option<Good>,
    pub(crate) trouble: Option<Trouble>,
    /// When its not being there becomes a trouble, for each server that was asked for it.
    pub(crate) due: Vec<(usize, Instant)>,
    /// When it is subscribed anew, at which server.
    pub(crate) again: Option<(usize, Instant)>,
}

/// A value in use.
#[derive(Clone, Debug)]
pub(crate) struct Good {
    pub(crate) resource: Resource,
    pub(crate) raw: Raw,
    pub(crate) version: Arc<str>,
    pub(crate) received: Instant,
    /// Whether it is from the disk and no server has confirmed it.
    pub(crate) unconfirmed: bool,
    /// When it ends by itself (its time to live).
    pub(crate) expires: Option<Instant>,
}

/// What is wrong with a resource.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Trouble {
    pub(crate) problem: Problem,
    pub(crate) text: Arc<str>,
    /// The version that was refused.
    pub(crate) version: Option<Arc<str>>,
    pub(crate) at: Instant,
}

/// The kinds of trouble.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Problem {
    /// It does not exist: the server said so, or nothing came in time.
    Absent,
    /// What came was refused.
    Refused,
    /// The server said why it cannot be had.
    Reported,
    /// Nothing came in time, and the server is one whose silence is no absence.
    Timeout,
}

impl Entry {
    /// Whether there is an answer of either kind.
    pub(crate) fn is_known(&self) -> bool {
        self.good.is_some() || self.trouble.is_some()
    }

    /// Why the resource cannot be had at all.
    pub(crate) fn failure(&self) -> Option<&Trouble> {
        self.trouble.as_ref().filter(|_| self.good.is_none())
    }

    /// Takes a good value; returns whether it is another one than before.
    pub(crate) fn accept(&mut self, good: Good) -> bool {
        self.due.clear();
        self.again = None;
        self.trouble = None;
        let changed = self
            .good
            .as_ref()
            .is_none_or(|old| old.resource != good.resource);
        self.good = Some(match self.good.take() {
            // The same value keeps its identity, so that nothing is linked anew.
            Some(old) if !changed => Good {
                resource: old.resource,
                ..good
            },
            _ => good,
        });
        changed
    }

    /// Takes a trouble. `drops` is whether it ends the value too. Returns whether the resource can
    /// be had no more, and whether this was told before.
    pub(crate) fn suffer(&mut self, trouble: Trouble, drops: bool) -> Suffered {
        self.due.clear();
        self.again = None;
        let repeated = self
            .trouble
            .as_ref()
            .is_some_and(|old| old.problem == trouble.problem && old.text == trouble.text);
        self.trouble = Some(trouble);
        let had = self.good.is_some();
        if drops {
            self.good = None;
        }
        Suffered {
            lost: had && drops,
            unknown_before: !had && !repeated,
            repeated,
        }
    }
}

/// What a trouble did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Suffered {
    /// There was a value, and it is gone.
    pub(crate) lost: bool,
    /// There was no value, and by now it is known why.
    pub(crate) unknown_before: bool,
    /// The same was told before.
    pub(crate) repeated: bool,
}

/// All resources that somebody needs.
#[derive(Debug, Default)]
pub(crate) struct Store {
    entries: BTreeMap<Key, Entry>,
}

impl Store {
    pub(crate) fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut Entry> {
        self.entries.get_mut(key)
    }

    pub(crate) fn insert(&mut self, key: Key, entry: Entry) {
        self.entries.insert(key, entry);
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&Key) -> bool) {
        self.entries.retain(|key, _| keep(key));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&Key, &mut Entry)> {
        self.entries.iter_mut()
    }
}
