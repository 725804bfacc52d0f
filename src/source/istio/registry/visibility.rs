//! Who sees an object: Istio's `exportTo`.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The namespaces that an object is exported to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::source::istio) enum Visibility {
    /// All of them (`*`, also when nothing is said).
    Everyone,
    /// These; nobody if there are none (`~`).
    Namespaces(BTreeSet<Arc<str>>),
}

impl Visibility {
    /// Reads the entries of an object of the namespace `own`.
    pub(in crate::source::istio) fn read<'a>(
        entries: impl IntoIterator<Item = &'a str>,
        own: &str,
    ) -> Self {
        let mut said = false;
        let mut namespaces = BTreeSet::new();
        for entry in entries {
            said = true;
            match entry.trim() {
                "*" => return Self::Everyone,
                "." => {
                    namespaces.insert(own.into());
                }
                "~" => {}
                other => {
                    namespaces.insert(other.into());
                }
            }
        }
        if said {
            Self::Namespaces(namespaces)
        } else {
            Self::Everyone
        }
    }

    /// Only the namespace `own`.
    pub(in crate::source::istio) fn private(own: &str) -> Self {
        Self::Namespaces(BTreeSet::from([own.into()]))
    }

    /// Whether a client of that namespace sees the object.
    pub(in crate::source::istio) fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::Everyone => true,
            Self::Namespaces(namespaces) => namespaces.contains(namespace),
        }
    }

    /// Whether nobody outside of the namespace `own` sees the object.
    pub(in crate::source::istio) fn is_private(&self, own: &str) -> bool {
        match self {
            Self::Everyone => false,
            Self::Namespaces(namespaces) => namespaces.iter().all(|one| &**one == own),
        }
    }

    /// Whether every namespace that `other` lists is listed here. As in Istio the lists are
    /// compared as they are written: `*` does not contain `my-app`.
    pub(in crate::source::istio) fn lists_all_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everyone, Self::Everyone) => true,
            (Self::Namespaces(all), Self::Namespaces(some)) => {
                !some.is_empty() && all.is_superset(some)
            }
            (Self::Everyone, Self::Namespaces(_)) | (Self::Namespaces(_), Self::Everyone) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn export_to_dot_is_the_own_namespace_star_swallows_the_rest_and_tilde_is_nobody() {
        let seen = |entries: &[&str], by: &str| {
            Visibility::read(entries.iter().copied(), "own").includes(by)
        };
        assert!(seen(&[], "other"));
        assert!(seen(&["."], "own") && !seen(&["."], "other"));
        assert!(seen(&[".", "*"], "other"));
        assert!(seen(&["other"], "other") && !seen(&["other"], "own"));
        assert!(!seen(&["~"], "own"));
    }

    #[test]
    fn superset_compares_what_is_written() {
        let read = |entries: &[&str]| Visibility::read(entries.iter().copied(), "own");
        assert!(read(&["a", "b"]).lists_all_of(&read(&["a"])));
        assert!(!read(&["*"]).lists_all_of(&read(&["a"])));
        assert!(read(&["."]).is_private("own") && !read(&["a"]).is_private("own"));
    }
}
