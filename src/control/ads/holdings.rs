//! What a client has of one kind.
//!
//! A server with ten thousand streams of a hundred resources each holds a million entries, and nearly all of them
//! say the same: this was sent, and acknowledged. What is settled like that lies in a table of nothing but the
//! resources, in the order of their names, and streams that have the same share one table. Whatever is under way,
//! or has more to it, lies over the table entry by entry; when it is settled, a table is found or made that has it.
//!
//! A small table is looked for with each answer. One that is large is made anew only when what lies over it is a
//! good part of it, so that the cost of a change does not grow with what did not change.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use tokio::time::Instant;

use crate::control::interned::Alike;
use crate::control::resource::Encoded;

/// Up to so many entries are put in a table as soon as they are settled.
pub(super) const SMALL: usize = 256;

/// What the client has of one resource.
#[derive(Clone, Debug, Default)]
pub(super) struct Have {
    /// The version sent last; `None`: it came with it, from another stream, and is unknown.
    pub(super) sent: Option<Arc<Encoded>>,
    /// The version that it acknowledged.
    pub(super) acked: Option<Arc<Encoded>>,
    /// It is to be sent again although nothing changed.
    pub(super) force: bool,
    /// It came with the client from another stream, in a version that is not the snapshot's.
    pub(super) brought: bool,
    /// When it was first missing from the snapshot, or last held by something else.
    pub(super) gone: Option<Instant>,
    /// Since when it is routes that introduce the clusters of those that come next.
    pub(super) introduced: Option<Instant>,
}

impl Have {
    /// What was sent and acknowledged.
    pub(super) fn settled(resource: Arc<Encoded>) -> Self {
        Self {
            acked: Some(resource.clone()),
            sent: Some(resource),
            ..Self::default()
        }
    }
}

/// [`Have`], wherever it lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Had<'a> {
    pub(super) sent: Option<&'a Arc<Encoded>>,
    pub(super) acked: Option<&'a Arc<Encoded>>,
    pub(super) force: bool,
    pub(super) brought: bool,
    pub(super) gone: Option<Instant>,
    pub(super) introduced: Option<Instant>,
}

impl<'a> Had<'a> {
    /// The resource, if that it was sent and acknowledged under its own name is all there is to say.
    fn settled(self, name: &str) -> Option<&'a Arc<Encoded>> {
        let (sent, acked) = (self.sent?, self.acked?);
        let more = self.force || self.brought || self.gone.is_some() || self.introduced.is_some();
        (Arc::ptr_eq(sent, acked) && !more && **sent.name() == *name).then_some(sent)
    }
}

impl<'a> From<&'a Have> for Had<'a> {
    fn from(have: &'a Have) -> Self {
        Self {
            sent: have.sent.as_ref(),
            acked: have.acked.as_ref(),
            force: have.force,
            brought: have.brought,
            gone: have.gone,
            introduced: have.introduced,
        }
    }
}

impl<'a> From<&'a Arc<Encoded>> for Had<'a> {
    fn from(settled: &'a Arc<Encoded>) -> Self {
        Self {
            sent: Some(settled),
            acked: Some(settled),
            force: false,
            brought: false,
            gone: None,
            introduced: None,
        }
    }
}

/// What the client has, by name.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    /// What is settled, in the order of its names.
    table: Arc<[Arc<Encoded>]>,
    /// What is not, and what the client has no more although the table has it.
    over: BTreeMap<Arc<str>, Option<Have>>,
    count: usize,
    /// How many entries were left over the table when it was made.
    left: usize,
}

impl Holdings {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn get(&self, name: &str) -> Option<Had<'_>> {
        match self.over.get(name) {
            Some(over) => over.as_ref().map(Had::from),
            None => self.in_table(name).map(Had::from),
        }
    }

    pub(super) fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn in_table(&self, name: &str) -> Option<&Arc<Encoded>> {
        let found = self
            .table
            .binary_search_by(|resource| (**resource.name()).cmp(name));
        found.ok().map(|at| &self.table[at])
    }

    /// An entry, to be changed.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Have> {
        if !self.over.contains_key(name) {
            let settled = self.in_table(name)?.clone();
            let name = settled.name().clone();
            self.over.insert(name, Some(Have::settled(settled)));
        }
        self.over.get_mut(name)?.as_mut()
    }

    /// An entry, to be changed; made if there is none.
    pub(super) fn entry(&mut self, name: &Arc<str>) -> &mut Have {
        if !self.contains_key(name) {
            self.count += 1;
            self.over.insert(name.clone(), Some(Have::default()));
        } else if !self.over.contains_key(name) {
            let settled = self.in_table(name).cloned().map(Have::settled);
            self.over.insert(name.clone(), settled);
        }
        let slot = self.over.entry(name.clone()).or_default();
        slot.get_or_insert_default()
    }

    pub(super) fn insert(&mut self, name: Arc<str>, have: Have) {
        *self.entry(&name) = have;
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Have> {
        let settled = self.in_table(name).cloned();
        let removed = match (self.over.remove(name), &settled) {
            (Some(over), _) => over,
            (None, settled) => settled.clone().map(Have::settled),
        };
        if let Some(settled) = settled {
            self.over.insert(settled.name().clone(), None);
        }
        self.count -= usize::from(removed.is_some());
        removed
    }

    /// All entries, in the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Had<'_>)> {
        self.from("")
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.iter().map(|(name, _)| name)
    }

    /// The entries from a name on, in the order of their names.
    pub(super) fn from<'h>(&'h self, name: &str) -> impl Iterator<Item = (&'h Arc<str>, Had<'h>)> {
        let at = self
            .table
            .partition_point(|resource| **resource.name() < *name);
        let mut table = self.table[at..].iter().peekable();
        let range = (Bound::Included(name), Bound::Unbounded);
        let mut over = self.over.range::<str, _>(range).peekable();
        std::iter::from_fn(move || {
            loop {
                let order = match (table.peek(), over.peek()) {
                    (Some(resource), Some((name, _))) => resource.name().cmp(name),
                    (Some(_), None) => Ordering::Less,
                    (None, _) => Ordering::Greater,
                };
                if order == Ordering::Less {
                    return table.next().map(|settled| (settled.name(), settled.into()));
                }
                if order == Ordering::Equal {
                    table.next();
                }
                if let (name, Some(have)) = over.next()? {
                    return Some((name, have.into()));
                }
            }
        })
    }

    /// Acknowledges what was sent of a resource.
    pub(super) fn acknowledge(&mut self, name: &str) {
        // Of what lies in the table that is known.
        if let Some(Some(have)) = self.over.get_mut(name) {
            have.acked = have.sent.clone();
        }
    }

    /// Makes what stays for the life of the stream as small as it can be.
    pub(super) fn pack(&mut self, alike: &Alike) {
        let grown = self.over.len() > self.left + (self.left + self.table.len()) / 4;
        if self.over.is_empty() || (self.count > SMALL && !grown) {
            return;
        }
        let settled = self.iter().filter_map(|(name, had)| had.settled(name));
        let table = alike.table(&settled.collect::<Vec<_>>());
        self.over.retain(|name, have| {
            let had = have.as_ref().map(Had::from);
            had.is_some_and(|had| had.settled(name).is_none())
        });
        if self.over.is_empty() {
            self.over = BTreeMap::new();
        }
        (self.table, self.left) = (table, self.over.len());
    }
}

impl FromIterator<(Arc<str>, Have)> for Holdings {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Have)>>(entries: I) -> Self {
        let entries = entries.into_iter();
        let over: BTreeMap<_, _> = entries.map(|(name, have)| (name, Some(have))).collect();
        Self {
            count: over.len(),
            over,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::kind::Kind;

    fn resource(name: &str, body: u8) -> Arc<Encoded> {
        Arc::new(Encoded::new(Kind::Cluster, name, &[body]))
    }

    fn settled(names: impl IntoIterator<Item = Arc<Encoded>>) -> Holdings {
        let entry = |resource: Arc<Encoded>| (resource.name().clone(), Have::settled(resource));
        names.into_iter().map(entry).collect()
    }

    #[test]
    fn streams_that_have_the_same_share_one_table() {
        let alike = Alike::default();
        let resources: Vec<_> = (0..100).map(|at| resource(&at.to_string(), 1)).collect();
        let mut all: Vec<_> = (0..2).map(|_| settled(resources.clone())).collect();
        all.iter_mut().for_each(|one| one.pack(&alike));
        assert!(Arc::ptr_eq(&all[0].table, &all[1].table));
        assert!(all[0].over.is_empty());
        // Another version, until it is acknowledged.
        let next = resource("7", 2);
        for one in &mut all {
            one.entry(next.name()).sent = Some(next.clone());
            one.pack(&alike);
            assert_eq!((one.over.len(), one.len()), (1, 100));
        }
        let former = all[0].get("7").and_then(|had| had.acked).cloned();
        assert!(former.is_some_and(|former| Arc::ptr_eq(&former, &resources[7])));
        all[0].acknowledge("7");
        all[0].pack(&alike);
        assert_eq!(all[0].over.len(), 0);
        assert!(!Arc::ptr_eq(&all[0].table, &all[1].table));
        all[1].acknowledge("7");
        all[1].pack(&alike);
        assert!(Arc::ptr_eq(&all[0].table, &all[1].table));
    }

    #[test]
    fn a_large_table_is_not_made_anew_for_a_small_change() {
        let alike = Alike::default();
        let names = (0..2 * SMALL).map(|at| resource(&at.to_string(), 1));
        let mut large = settled(names);
        large.pack(&alike);
        let table = large.table.clone();
        for at in 0..SMALL / 4 {
            let next = resource(&at.to_string(), 2);
            large.insert(next.name().clone(), Have::settled(next));
            large.pack(&alike);
            assert!(Arc::ptr_eq(&large.table, &table));
        }
        // A large part of it is another matter, and so is what can never be settled.
        for at in 0..SMALL {
            let next = resource(&at.to_string(), 3);
            large.entry(next.name()).brought = true;
        }
        large.pack(&alike);
        let table = large.table.clone();
        assert_eq!(table.len(), SMALL);
        large.entry(&Arc::from("0")).force = true;
        large.pack(&alike);
        assert!(Arc::ptr_eq(&large.table, &table));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Acknowledge,
        Bring,
        Pack,
        Remove,
        Send(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Acknowledge),
            Just(Step::Bring),
            Just(Step::Pack),
            Just(Step::Remove),
            (0..3_u8).prop_map(Step::Send),
        ]
    }

    /// Text of all that an entry says.
    fn text(had: Had<'_>) -> String {
        let body = |one: Option<&Arc<Encoded>>| one.map(|one| one.body().to_vec());
        format!("{:?} {:?} {}", body(had.sent), body(had.acked), had.brought)
    }

    proptest! {
        #![proptest_config(crate::random::properties(512))]

        #[test]
        fn it_says_what_a_plain_map_says(
            steps in prop::collection::vec((step(), "[a-d]{1,2}"), 0..96),
        ) {
            let alike = Alike::default();
            let (mut holdings, mut plain) = (Holdings::default(), BTreeMap::<Arc<str>, Have>::new());
            for (step, name) in steps {
                let name: Arc<str> = name.into();
                match step {
                    Step::Acknowledge => {
                        holdings.acknowledge(&name);
                        if let Some(have) = plain.get_mut(&name) {
                            have.acked = have.sent.clone();
                        }
                    }
                    Step::Bring => {
                        let both = (holdings.get_mut(&name), plain.get_mut(&name));
                        if let (Some(one), Some(other)) = both {
                            (one.brought, other.brought) = (true, true);
                        }
                    }
                    Step::Pack => holdings.pack(&alike),
                    Step::Remove => {
                        let both = (holdings.remove(&name), plain.remove(&name));
                        prop_assert_eq!(both.0.is_some(), both.1.is_some());
                    }
                    Step::Send(body) => {
                        let resource = resource(&name, body);
                        holdings.entry(&name).sent = Some(resource.clone());
                        plain.entry(name.clone()).or_default().sent = Some(resource);
                    }
                }
                prop_assert_eq!(holdings.len(), plain.len());
                let one: Vec<_> = holdings.iter().map(|(name, had)| (name, text(had))).collect();
                let other: Vec<_> = plain.iter().map(|(name, have)| (name, text(have.into()))).collect();
                prop_assert_eq!(one, other);
                let one: Vec<_> = holdings.from(&name).map(|(name, _)| name.clone()).collect();
                let other: Vec<_> = plain.range(name.clone()..).map(|(name, _)| name.clone()).collect();
                prop_assert_eq!(one, other);
                prop_assert_eq!(holdings.get(&name).map(text), plain.get(&name).map(|have| text(have.into())));
            }
        }
    }
}
