//! What is equal, held once.
//!
//! Two clients that differ in a label have views of their own, and most of what is in these is equal. Each view
//! is compiled and encoded by itself; what comes out of it is then exchanged for what another view has already.
//! The same is done with what many streams of one view have in common.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hasher as _;
use std::sync::{Arc, Mutex, Weak};

use twox_hash::XxHash64;

use super::lock::lock;
use super::resource::Encoded;

/// All values that somebody holds.
#[derive(Debug)]
pub(super) struct Interned<T: ?Sized> {
    // Held for a look, and while one value is made.
    by_hash: Mutex<HashMap<u64, Weak<T>>>,
}

impl<T: ?Sized> Default for Interned<T> {
    fn default() -> Self {
        Self {
            by_hash: Mutex::default(),
        }
    }
}

impl<T: ?Sized> Interned<T> {
    /// The value that others have under that hash, if it is the same, or the one that is made.
    fn one(
        &self,
        hash: u64,
        is_same: impl FnOnce(&T) -> bool,
        make: impl FnOnce() -> Arc<T>,
    ) -> Arc<T> {
        let mut known = lock(&self.by_hash);
        match known.get(&hash).and_then(Weak::upgrade) {
            Some(same) if is_same(&same) => same,
            // Of two that have one hash the first is shared.
            Some(_) => make(),
            None => {
                if known.len() == known.capacity() {
                    known.retain(|_, value| value.strong_count() > 0);
                }
                let made = make();
                known.insert(hash, Arc::downgrade(&made));
                made
            }
        }
    }
}

impl Interned<Encoded> {
    /// These resources, each as the allocation that others have of it, if any has.
    pub(super) fn share(&self, mut resources: Vec<Arc<Encoded>>) -> Vec<Arc<Encoded>> {
        for resource in &mut resources {
            // One content may have two labels.
            let is_same = |known: &Encoded| known.is_same(resource);
            *resource = self.one(resource.hash(), is_same, || resource.clone());
        }
        resources
    }
}

/// What many streams of one view have in common, held once.
#[derive(Debug, Default)]
pub(super) struct Alike {
    tables: Interned<[Arc<Encoded>]>,
    names: Interned<BTreeSet<Arc<str>>>,
}

impl Alike {
    /// A table of exactly these allocations, in this order.
    pub(super) fn table(&self, resources: &[&Arc<Encoded>]) -> Arc<[Arc<Encoded>]> {
        if resources.is_empty() {
            return Arc::default();
        }
        let mut hasher = XxHash64::default();
        for resource in resources {
            hasher.write_u64(resource.hash());
        }
        let is_same = |known: &[Arc<Encoded>]| {
            let mut both = known.iter().zip(resources);
            known.len() == resources.len() && both.all(|(one, other)| Arc::ptr_eq(one, other))
        };
        let make = || resources.iter().map(|one| Arc::clone(one)).collect();
        self.tables.one(hasher.finish(), is_same, make)
    }

    /// A set of these names.
    pub(super) fn names(&self, names: &Arc<BTreeSet<Arc<str>>>) -> Arc<BTreeSet<Arc<str>>> {
        if names.is_empty() {
            return Arc::default();
        }
        let mut hasher = XxHash64::default();
        for name in names.iter() {
            hasher.write_usize(name.len());
            hasher.write(name.as_bytes());
        }
        // A tree that grew name by name has nodes that are half empty; one that is made of all of them is dense.
        let make = || Arc::new(names.iter().cloned().collect());
        let is_same = |known: &BTreeSet<Arc<str>>| known == &**names;
        self.names.one(hasher.finish(), is_same, make)
    }
}

#[cfg(test)]
mod tests {
    use super::super::kind::Kind;
    use super::super::resource::Parts;
    use super::*;

    fn resource(body: &[u8], label: Option<&str>) -> Arc<Encoded> {
        let mut parts = Parts::new(Kind::Cluster, "a".into(), body);
        parts.label = label.map(Into::into);
        Arc::new(parts.finish())
    }

    #[test]
    fn equal_resources_are_one_allocation_and_others_are_what_they_were() {
        let interned = Interned::default();
        let one = interned.share(vec![resource(b"1", None)]);
        let same = interned.share(vec![resource(b"1", None)]);
        assert!(Arc::ptr_eq(&one[0], &same[0]));
        let labelled = interned.share(vec![resource(b"1", Some("v7"))]);
        assert_eq!(&**labelled[0].version(), "v7");
        let other = interned.share(vec![resource(b"2", None)]);
        assert_eq!(other[0].body(), b"2");
    }

    #[test]
    fn what_nobody_has_any_more_is_forgotten() {
        let interned = Interned::default();
        for at in 0..10_000_u32 {
            interned.share(vec![resource(&at.to_le_bytes(), None)]);
        }
        let known = interned.by_hash.lock().expect("nobody panicked").len();
        assert!(known < 100, "{known}");
    }

    #[test]
    fn a_table_is_of_these_allocations_and_names_are_these() {
        let alike = Alike::default();
        let (one, equal) = (resource(b"1", None), resource(b"1", None));
        let table = alike.table(&[&one]);
        assert!(Arc::ptr_eq(&table, &alike.table(&[&one])));
        assert!(Arc::ptr_eq(&alike.table(&[&equal])[0], &equal));
        assert_eq!(alike.table(&[&one, &equal]).len(), 2);
        let names = |all: &[&str]| Arc::new(all.iter().map(|name| Arc::from(*name)).collect());
        let known = alike.names(&names(&["a", "b"]));
        assert!(Arc::ptr_eq(&known, &alike.names(&names(&["b", "a"]))));
        assert_eq!(alike.names(&names(&["ab"])).len(), 1);
    }
}
