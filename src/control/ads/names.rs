//! Names of a client, counted: what they cost is looked at with each of its requests.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use super::holdings::SMALL;
use crate::control::interned::Alike;

/// A set of names that knows how many bytes they have. It is read as the set that it is, and shared with the other
/// streams that have these.
#[derive(Clone, Debug, Default)]
pub(in crate::control) struct Names {
    all: Arc<BTreeSet<Arc<str>>>,
    bytes: usize,
    /// How often it was changed since it was packed.
    changes: usize,
}

impl Names {
    /// Adds a name; `false`: it was there.
    pub(super) fn insert(&mut self, name: Arc<str>) -> bool {
        let new = !self.all.contains(&name);
        if new {
            self.bytes += name.len();
            self.changes += 1;
            Arc::make_mut(&mut self.all).insert(name);
        }
        new
    }

    /// Removes a name; `false`: it was not there.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let old = self.all.contains(name);
        if old {
            self.bytes -= name.len();
            self.changes += 1;
            Arc::make_mut(&mut self.all).remove(name);
        }
        old
    }

    /// The bytes of all names.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes the set as small as it can be, once it has changed enough for what that costs.
    pub(super) fn pack(&mut self, alike: &Alike) {
        let much = self.all.len() <= SMALL || self.changes > self.all.len() / 4;
        if self.changes > 0 && much {
            (self.all, self.changes) = (alike.names(&self.all), 0);
        }
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
            let alike = Alike::default();
            names.pack(&alike);
            let mut same = before.clone();
            same.pack(&alike);
            prop_assert!(names.is_empty() || Arc::ptr_eq(&same.all, &names.all) || before.changes == 0);
            prop_assert_eq!((&*names, names.bytes()), (&*before, before.bytes()));
        }
    }
}
