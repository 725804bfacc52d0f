//! Names of hosts: how they are completed, compared and written on the wire.

use std::net::IpAddr;
use std::sync::Arc;

/// Completes a host as Istio does: a name without a dot belongs to the namespace of the object
/// that uses it. A name with a dot, a pattern and an address stay as they are, so `catalog.my-app`
/// is *not* completed; `lint` warns of that.
pub(super) fn expand(host: &str, namespace: &str, domain: &str) -> Arc<str> {
    let host = host.to_ascii_lowercase();
    let is_name = !host.contains('.') && !host.starts_with('*') && host.parse::<IpAddr>().is_err();
    if is_name {
        format!("{host}.{namespace}.svc.{domain}").into()
    } else {
        host.trim_end_matches('.').into()
    }
}

/// Whether a host of a VirtualService or DestinationRule speaks of `host`: it is the host, or
/// `*.suffix` and the host (which may be a pattern itself) ends with the suffix.
pub(super) fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        None => pattern == host,
        Some(suffix) => {
            let text = host.strip_prefix('*').unwrap_or(host);
            text.ends_with(suffix) && (host.starts_with('*') || text.len() > suffix.len())
        }
    }
}

/// How closely a pattern that covers a host speaks of it; the larger wins: the host itself, then
/// the longer pattern.
pub(super) fn specificity(pattern: &str) -> (bool, usize) {
    (!pattern.starts_with('*'), pattern.len())
}

/// Istio's name of clusters, their endpoints and their route configurations.
pub(super) fn resource_name(port: u16, subset: &str, host: &str) -> Arc<str> {
    format!("outbound|{port}|{subset}|{host}").into()
}

/// Names that are compared at most, since it is only for a hint.
const COMPARED: usize = 2_000;

/// The most similar of some names, if one is similar enough to be meant: `catalog.my-app` means
/// `catalog.my-app.svc.cluster.local`, and `catalgo` means `catalog`.
pub(super) fn closest<'a>(
    wanted: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = (wanted.len() / 4).clamp(1, 4);
    names
        .into_iter()
        .take(COMPARED)
        .filter_map(|name| {
            let completed = name
                .strip_prefix(wanted)
                .is_some_and(|rest| rest.starts_with('.'));
            let distance = if completed {
                0
            } else if name.len().abs_diff(wanted.len()) > limit {
                return None;
            } else {
                strsim::damerau_levenshtein(wanted, name)
            };
            Some((distance, name))
        })
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_host_is_completed_with_the_namespace_of_the_object() {
        let rows = [
            ("catalog", "catalog.my-app.svc.cluster.local"),
            ("Catalog", "catalog.my-app.svc.cluster.local"),
            ("catalog.my-app", "catalog.my-app"),
            ("*.example.com", "*.example.com"),
            ("10.0.0.1", "10.0.0.1"),
            ("fd00::1", "fd00::1"),
            ("api.example.com.", "api.example.com"),
        ];
        for (written, expected) in rows {
            assert_eq!(&*expand(written, "my-app", "cluster.local"), expected);
        }
    }

    #[test]
    fn pattern_covers_longer_names_and_narrower_patterns() {
        assert!(covers("*.a.com", "x.a.com") && covers("*.a.com", "*.b.a.com"));
        assert!(covers("*.a.com", "*.a.com"));
        assert!(!covers("*.a.com", "a.com") && !covers("*.b.a.com", "*.a.com"));
        assert!(covers("a.com", "a.com") && !covers("a.com", "x.a.com"));
        assert!(specificity("a.b") > specificity("*.long.b"));
        assert!(specificity("*.long.b") > specificity("*.b"));
    }

    #[test]
    fn closest_name_is_similar_or_the_full_form() {
        let names = ["catalog.my-app.svc.cluster.local", "order", "v1"];
        assert_eq!(closest("catalog.my-app", names), Some(names[0]));
        assert_eq!(closest("ordr", names), Some("order"));
        assert_eq!(closest("payment", names), None);
    }
}
