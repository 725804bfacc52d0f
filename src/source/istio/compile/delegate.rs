//! Delegates: rules of a VirtualService that stand in another one.
//!
//! A root rule says which requests it gives away, the delegate (a VirtualService without hosts) what
//! happens to them. They are merged before anything else looks at them, as istiod's
//! `mergeVirtualServicesIfNeeded` does, so that all that follows knows rules only. What a delegate's
//! rule does not say it has from the root's. Its conditions must be narrower than the root's: a rule
//! that could take other requests is dropped, with a warning. There is one level: a delegate of a
//! delegate is refused when it is read.
//!
//! Each merged rule keeps the object that it was written in: destinations are completed with the
//! delegate's namespace, and faults and origins point to its file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::host::expand;
use crate::source::istio::defaults::Defaults;
use crate::source::istio::fault::{Code, Faults};
use crate::source::istio::kinds::{
    Delegate, HttpMatch, HttpRoute, Kind, Object, StringMatch, VirtualService,
};
use crate::source::istio::registry::{origin, place, warning};
use crate::source::istio::yaml::Located;
use crate::workload::Workload;

/// A rule and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Written<'a> {
    pub(super) object: &'a Object,
    pub(super) index: usize,
    pub(super) spec: Cow<'a, Located<HttpRoute>>,
}

/// The merged rules of every VirtualService that has delegates.
#[derive(Debug, Default)]
pub(super) struct Delegation<'a> {
    rules: HashMap<*const Object, Vec<Written<'a>>>,
}

type Children<'a> = HashMap<(&'a str, &'a str), (&'a Object, &'a VirtualService)>;

impl<'a> Delegation<'a> {
    pub(super) fn new(
        objects: &[&'a Object],
        client: &Workload,
        defaults: Defaults<'_>,
        faults: &mut Faults,
    ) -> Self {
        let services = || {
            objects.iter().filter_map(|&object| match &object.kind {
                Kind::VirtualService(spec) => Some((object, &**spec)),
                _ => None,
            })
        };
        let delegates = |spec: &VirtualService| spec.http.iter().any(|one| one.delegate.is_some());
        let children: Children<'a> = services()
            .filter(|(_, spec)| spec.hosts.is_empty())
            .map(|(object, spec)| {
                let meta = &object.meta;
                ((&*meta.namespace, &*meta.name), (object, spec))
            })
            .collect();
        let merged = services()
            .filter(|(_, spec)| !spec.hosts.is_empty() && delegates(spec))
            .map(|(object, spec)| {
                let root = Root {
                    object,
                    domain: client.cluster_domain(),
                    defaults,
                };
                (
                    std::ptr::from_ref(object),
                    root.rules(spec, &children, faults),
                )
            });
        Self {
            rules: merged.collect(),
        }
    }

    /// The rules of a VirtualService, with those of its delegates in their places.
    pub(super) fn rules<'s>(
        &'s self,
        object: &'s Object,
        spec: &'s VirtualService,
    ) -> Cow<'s, [Written<'s>]> {
        match self.rules.get(&std::ptr::from_ref(object)) {
            Some(merged) => Cow::Borrowed(merged),
            None => {
                let own = spec.http.iter().enumerate();
                let own = own.map(|(index, spec)| Written {
                    object,
                    index,
                    spec: Cow::Borrowed(spec),
                });
                Cow::Owned(own.collect())
            }
        }
    }
}

/// A VirtualService that delegates.
struct Root<'a, 'd> {
    object: &'a Object,
    domain: &'d str,
    defaults: Defaults<'d>,
}

impl<'a> Root<'a, '_> {
    fn rules(
        &self,
        spec: &'a VirtualService,
        children: &Children<'a>,
        faults: &mut Faults,
    ) -> Vec<Written<'a>> {
        let mut all = Vec::new();
        for (index, rule) in spec.http.iter().enumerate() {
            match &rule.delegate {
                None => all.push(Written {
                    object: self.object,
                    index,
                    spec: Cow::Borrowed(rule),
                }),
                Some(delegate) => {
                    if let Some((child, spec)) = self.child(index, delegate, children, faults) {
                        self.merge(rule, child, spec, faults, &mut all);
                    }
                }
            }
        }
        all
    }

    /// The delegate, if there is one that this root may see.
    fn child(
        &self,
        index: usize,
        delegate: &Located<Delegate>,
        children: &Children<'a>,
        faults: &mut Faults,
    ) -> Option<(&'a Object, &'a VirtualService)> {
        let own = &*self.object.meta.namespace;
        let written = delegate.namespace.as_ref().map(|name| name.value.as_str());
        let namespace = written.filter(|name| !name.is_empty()).unwrap_or(own);
        let found = children.get(&(namespace, &*delegate.name.value)).copied();
        let why = match found {
            Some((child, spec)) => {
                let exported = spec.export_to.iter().map(|entry| entry.value.as_str());
                let seen = self
                    .defaults
                    .virtual_service(exported, &child.meta.namespace);
                if seen.includes(own) {
                    return found;
                }
                format!("{} is not exported to namespace {own}", origin(child))
            }
            None => format!(
                "no VirtualService {namespace}/{} without hosts",
                delegate.name.value
            ),
        };
        let text = format!("{why}; its requests go to the rules that follow");
        let fault = warning(self.object, Code::NotFound, place(&delegate.name), text);
        faults.push(fault.field(format!("http[{index}].delegate")));
        None
    }

    fn merge(
        &self,
        root: &HttpRoute,
        child: &'a Object,
        spec: &'a VirtualService,
        faults: &mut Faults,
        all: &mut Vec<Written<'a>>,
    ) {
        for (index, rule) in spec.http.iter().enumerate() {
            let Some(matches) = conditions(&root.matches, &rule.matches) else {
                let text = format!(
                    "has no effect for {}: its conditions are not narrower than those of the rule \
                     that delegates to it",
                    origin(self.object)
                );
                let fault = warning(child, Code::Conflict, place(rule), text);
                faults.push(fault.field(format!("http[{index}].match")));
                continue;
            };
            let mut merged = rule.clone();
            merged.value = self.inherit(root, &rule.value);
            merged.value.matches = matches;
            all.push(Written {
                object: child,
                index,
                spec: Cow::Owned(merged),
            });
        }
    }

    /// The delegate's rule; what it does not say is the root's.
    fn inherit(&self, root: &HttpRoute, child: &HttpRoute) -> HttpRoute {
        let HttpRoute {
            name,
            matches,
            route,
            redirect,
            direct_response,
            delegate,
            rewrite,
            timeout,
            retries,
            fault,
            mirror,
            mirror_percent,
            mirror_percentage,
            mirrors,
            cors_policy,
            headers,
        } = child.clone();
        let mirrored = mirror.is_some() || !mirrors.is_empty();
        let root_mirror = || root.mirror.clone().map(|to| self.completed(to));
        let root_mirrors = || {
            let mut all = root.mirrors.clone();
            for mirror in &mut all {
                let to = mirror.value.destination.take();
                mirror.value.destination = to.map(|to| self.completed(to));
            }
            all
        };
        // An answer of the delegate's own takes no rewrite or fault, which belong to requests.
        let sent = redirect.is_none() && direct_response.is_none();
        HttpRoute {
            name: joined(root.name.as_deref(), name.as_deref()),
            matches,
            route,
            redirect,
            direct_response,
            delegate,
            rewrite: rewrite.or_else(|| root.rewrite.clone().filter(|_| sent)),
            timeout: timeout.or(root.timeout),
            retries: retries.or_else(|| root.retries.clone()),
            fault: fault.or_else(|| root.fault.clone()),
            mirror_percent: mirror_percent.or(root.mirror_percent.filter(|_| !mirrored)),
            mirror_percentage: mirror_percentage.or(root.mirror_percentage.filter(|_| !mirrored)),
            mirror: if mirrored { mirror } else { root_mirror() },
            mirrors: if mirrored { mirrors } else { root_mirrors() },
            cors_policy: cors_policy.or_else(|| root.cors_policy.clone()),
            headers: headers.or_else(|| root.headers.clone()),
        }
    }

    /// A destination of the root's, which its own namespace completes.
    fn completed(
        &self,
        mut to: Located<crate::source::istio::kinds::Destination>,
    ) -> Located<crate::source::istio::kinds::Destination> {
        let host = &mut to.value.host.value;
        *host = expand(host, &self.object.meta.namespace, self.domain).to_string();
        to
    }
}

fn joined(root: Option<&str>, child: Option<&str>) -> Option<String> {
    let said = |name: Option<&str>| name.filter(|name| !name.is_empty()).map(str::to_owned);
    match (said(root), said(child)) {
        (Some(root), Some(child)) => Some(format!("{root}-{child}")),
        (one, other) => one.or(other),
    }
}

// === Conditions ===

/// Both conditions at once; `None` if a block of the delegate's fits into none of the root's.
fn conditions(
    root: &[Located<HttpMatch>],
    child: &[Located<HttpMatch>],
) -> Option<Vec<Located<HttpMatch>>> {
    if root.is_empty() || child.is_empty() {
        return Some([root, child].concat());
    }
    let mut all = Vec::new();
    for block in child {
        let before = all.len();
        let fitting = root.iter().filter(|outer| narrows(outer, block));
        all.extend(fitting.map(|outer| {
            let mut merged = block.clone();
            merged.value = both(outer, block);
            merged
        }));
        if all.len() == before {
            return None;
        }
    }
    Some(all)
}

/// One block that asks for what both ask for, where the child's is the narrower.
fn both(root: &HttpMatch, child: &HttpMatch) -> HttpMatch {
    let HttpMatch {
        name,
        uri,
        scheme,
        method,
        authority,
        headers,
        port,
        source_labels,
        gateways,
        query_params,
        ignore_uri_case,
        without_headers,
        source_namespace,
        stat_prefix,
    } = child.clone();
    HttpMatch {
        name: joined(root.name.as_deref(), name.as_deref()),
        uri: uri.or_else(|| root.uri.clone()),
        scheme: scheme.or_else(|| root.scheme.clone()),
        method: method.or_else(|| root.method.clone()),
        authority: authority.or_else(|| root.authority.clone()),
        headers: union(&root.headers, headers),
        port: port.or(root.port),
        source_labels: union(&root.source_labels, source_labels),
        gateways: if gateways.is_empty() {
            root.gateways.clone()
        } else {
            gateways
        },
        query_params: union(&root.query_params, query_params),
        ignore_uri_case,
        without_headers: union(&root.without_headers, without_headers),
        source_namespace: source_namespace.or_else(|| root.source_namespace.clone()),
        stat_prefix: stat_prefix.or_else(|| root.stat_prefix.clone()),
    }
}

fn union<T: Clone>(root: &BTreeMap<String, T>, child: BTreeMap<String, T>) -> BTreeMap<String, T> {
    let mut all = root.clone();
    all.extend(child);
    all
}

/// Whether whatever the child's block takes beyond what it leaves open, the root's takes too.
fn narrows(root: &HttpMatch, child: &HttpMatch) -> bool {
    let texts = [
        (&root.uri, &child.uri),
        (&root.scheme, &child.scheme),
        (&root.method, &child.method),
        (&root.authority, &child.authority),
    ];
    let maps = [
        (&root.headers, &child.headers),
        (&root.query_params, &child.query_params),
        (&root.without_headers, &child.without_headers),
    ];
    let same = |one: Option<&str>, other: Option<&str>| match (one, other) {
        (Some(one), Some(other)) => one == other,
        (_, None) | (None, _) => true,
    };
    texts
        .iter()
        .all(|(outer, inner)| text_narrows(outer.as_ref(), inner.as_ref()))
        && maps.iter().all(|(outer, inner)| {
            inner
                .iter()
                .all(|(name, inner)| text_narrows(outer.get(name), Some(inner)))
        })
        && root.ignore_uri_case == child.ignore_uri_case
        && root
            .port
            .is_none_or(|port| child.port.is_none_or(|other| other == port))
        && same(
            root.source_namespace.as_deref(),
            child.source_namespace.as_deref(),
        )
        && child
            .source_labels
            .iter()
            .all(|(key, value)| root.source_labels.get(key).is_none_or(|own| own == value))
        && (root.gateways.is_empty()
            || child
                .gateways
                .iter()
                .all(|gateway| root.gateways.iter().any(|own| **own == **gateway)))
}

/// Whether the inner condition is met only where the outer is; what one of them leaves open is the
/// other's. Expressions cannot be compared.
fn text_narrows(outer: Option<&StringMatch>, inner: Option<&StringMatch>) -> bool {
    let (Some(outer), Some(inner)) = (outer, inner) else {
        return true;
    };
    if outer.regex.is_some() || inner.regex.is_some() {
        return false;
    }
    match (&outer.exact, &outer.prefix) {
        (Some(exact), _) => inner.exact.as_ref() == Some(exact) && inner.prefix.is_none(),
        (None, Some(prefix)) => inner
            .exact
            .as_ref()
            .or(inner.prefix.as_ref())
            .is_some_and(|text| text.starts_with(prefix)),
        // Presence alone: any condition on the value is narrower.
        (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> StringMatch {
        StringMatch {
            exact: Some(text.to_owned()),
            ..StringMatch::default()
        }
    }

    fn prefix(text: &str) -> StringMatch {
        StringMatch {
            prefix: Some(text.to_owned()),
            ..StringMatch::default()
        }
    }

    #[test]
    fn narrower_is_the_same_text_or_one_that_the_prefix_begins() {
        let regex = StringMatch {
            regex: Some("/a.*".to_owned().into()),
            ..StringMatch::default()
        };
        for (outer, inner, expected) in [
            (exact("/a"), exact("/a"), true),
            (exact("/a"), exact("/b"), false),
            (exact("/a"), prefix("/a"), false),
            (prefix("/a"), prefix("/a/b"), true),
            (prefix("/a"), exact("/a/b"), true),
            (prefix("/a/b"), prefix("/a"), false),
            (prefix("/a"), exact("/b"), false),
            (regex.clone(), exact("/a"), false),
            (prefix("/a"), regex, false),
            (StringMatch::default(), exact("/a"), true),
        ] {
            assert_eq!(
                text_narrows(Some(&outer), Some(&inner)),
                expected,
                "{outer:?} {inner:?}"
            );
        }
        assert!(text_narrows(None, Some(&exact("/a"))) && text_narrows(Some(&exact("/a")), None));
    }
}
