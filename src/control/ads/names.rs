//! Names of a client, counted: what they cost is looked at with each of its requests.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

/// A set of names that knows how many bytes they have. It is read as the set that it is.
#[derive(Clone, Debug, Default)]
pub(in crate::control) struct Names {
    all: BTreeSet<Arc<str>>,
    bytes: usize,
}

impl Names {
    /// Adds a name; `false`: it was there.
    pub(super) fn insert(&mut self, name: Arc<str>) -> bool {
        let length = name.len();
        let new = self.all.insert(name);
        if new {
            self.bytes += length;
        }
        new
    }

    /// Removes a name; `false`: it was not there.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let old = self.all.remove(name);
        if old {
            self.bytes -= name.len();
        }
        old
    }

    /// The bytes of all names.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes the set as small as it can be: a tree that grew name by name has nodes that are half empty.
    pub(super) fn pack(&mut self) {
        self.all = std::mem::take(&mut self.all).into_iter().collect();
    }
}

impl Deref for Names {
    type Target = BTreeSet<Arc<str>>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl Extend<Arc<str>> for Names {
    fn extend<I: IntoIterator<Item = Arc<str>>>(&mut self, names: I) {
        for name in names {
            self.insert(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn the_bytes_are_those_of_the_names_whatever_is_done(
            steps in prop::collection::vec((any::<bool>(), "[a-c]{0,3}"), 0..64),
        ) {
            let mut names = Names::default();
            for (add, name) in steps {
                let there = names.contains(&*name);
                match add {
                    true => prop_assert_eq!(names.insert(name.as_str().into()), !there),
                    false => prop_assert_eq!(names.remove(&name), there),
                }
                prop_assert_eq!(names.contains(&*name), add);
                let bytes: usize = names.iter().map(|name| name.len()).sum();
                prop_assert_eq!(names.bytes(), bytes);
            }
            let before = names.clone();
            names.pack();
            prop_assert_eq!((&*names, names.bytes()), (&*before, before.bytes()));
        }
    }
}
