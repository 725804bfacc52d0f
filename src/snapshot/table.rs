//! Virtual hosts by authority.

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::route::Domain;

use super::{Map, VirtualHost};

/// Finds the virtual host of an authority: exact, then the longest suffix, then the longest
/// prefix, then `*` (Envoy's order), in a time that does not grow with their number.
///
/// Wildcards are found by their length: for each length that occurs among the patterns one hash
/// lookup, longest first. A mesh has a handful of lengths however many hosts it has.
#[derive(Debug, Default)]
pub(crate) struct Table {
    exact: Map<Box<str>, Arc<VirtualHost>>,
    suffixes: Wildcards,
    prefixes: Wildcards,
    any: Option<Arc<VirtualHost>>,
}

#[derive(Debug, Default)]
struct Wildcards {
    hosts: Map<Box<str>, Arc<VirtualHost>>,
    /// Descending, each once.
    lengths: Vec<usize>,
}

impl Table {
    /// Adds a virtual host under all of its domains; a domain that is taken stays with its owner.
    pub(crate) fn insert(&mut self, host: &Arc<VirtualHost>) {
        for domain in &host.model.domains {
            match domain {
                Domain::Any => {
                    self.any.get_or_insert_with(|| host.clone());
                }
                Domain::Exact(text) => {
                    self.exact
                        .entry(text.clone())
                        .or_insert_with(|| host.clone());
                }
                Domain::Prefix(text) => self.prefixes.insert(text, host),
                Domain::Suffix(text) => self.suffixes.insert(text, host),
            }
        }
    }

    /// The virtual host of an authority, in any case of letters.
    pub(crate) fn find(&self, authority: &str) -> Option<&Arc<VirtualHost>> {
        let authority = lower(authority);
        self.exact
            .get(&*authority)
            .or_else(|| {
                self.suffixes.find(&authority, |text, length| {
                    text.get(text.len().checked_sub(length)?..)
                })
            })
            .or_else(|| {
                self.prefixes
                    .find(&authority, |text, length| text.get(..length))
            })
            .or(self.any.as_ref())
    }
}

impl Wildcards {
    fn insert(&mut self, pattern: &str, host: &Arc<VirtualHost>) {
        self.hosts
            .entry(pattern.into())
            .or_insert_with(|| host.clone());
        if let Err(place) = self
            .lengths
            .binary_search_by(|length| pattern.len().cmp(length))
        {
            self.lengths.insert(place, pattern.len());
        }
    }

    fn find<'a>(
        &self,
        authority: &'a str,
        part: impl Fn(&'a str, usize) -> Option<&'a str>,
    ) -> Option<&Arc<VirtualHost>> {
        self.lengths
            .iter()
            // The star stands for at least one character.
            .filter(|length| **length < authority.len())
            .find_map(|length| self.hosts.get(part(authority, *length)?))
    }
}

/// Lower case without a copy, since authorities nearly always are in lower case already.
pub(crate) fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// Listeners by the host and port that they are called.
pub(super) fn addressed(
    listeners: &Map<Arc<str>, Arc<Table>>,
) -> Map<u16, Map<Box<str>, Arc<Table>>> {
    let mut addressed: Map<u16, Map<Box<str>, Arc<Table>>> = Map::default();
    for (name, table) in listeners {
        if let Some((host, port)) = name.rsplit_once(':')
            && let Ok(port) = port.parse()
        {
            let hosts = addressed.entry(port).or_default();
            hosts.insert(lower(host).into(), table.clone());
        }
    }
    addressed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{self, Origin};

    fn table(hosts: &[(&str, &[&str])]) -> Table {
        let mut table = Table::default();
        for (name, domains) in hosts {
            table.insert(&Arc::new(VirtualHost {
                model: Arc::new(model::route::VirtualHost {
                    name: (*name).into(),
                    domains: domains.iter().map(|text| Domain::parse(text)).collect(),
                    routes: Vec::new(),
                    origin: Origin::built_in(),
                }),
                routes: Vec::new(),
            }));
        }
        table
    }

    #[test]
    fn exact_beats_longest_suffix_beats_longest_prefix_beats_any() {
        let table = table(&[
            ("any", &["*"]),
            ("prefix", &["foo.*"]),
            ("long prefix", &["foo.bar.*"]),
            ("suffix", &["*.com"]),
            ("long suffix", &["*.bar.com"]),
            ("exact", &["foo.bar.com"]),
        ]);
        for (authority, expected) in [
            ("foo.bar.com", "exact"),
            ("FOO.bar.com", "exact"),
            ("x.bar.com", "long suffix"),
            ("x.com", "suffix"),
            ("foo.bar.net", "long prefix"),
            ("foo.net", "prefix"),
            ("other", "any"),
            (".com", "any"),
        ] {
            let found = table.find(authority).map(|host| &*host.model.name);
            assert_eq!(found, Some(expected), "{authority}");
        }
    }

    #[test]
    fn wildcards_do_not_split_characters() {
        let table = table(&[("suffix", &["*.é"]), ("prefix", &["é.*"])]);
        assert!(table.find("aé").is_none());
        assert!(table.find("éé").is_none());
    }
}
