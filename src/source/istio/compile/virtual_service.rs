//! Which VirtualService owns a host, as seen by one client.
//!
//! There is no merging for services: candidates are asked in the order private to the client's
//! namespace, exported to it by name, public, each by age, and the first that names a host takes it
//! whole. A host by its full name comes before every pattern, a longer pattern before a shorter
//! one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::host::{covers, expand, specificity};
use super::matches::Via;
use super::sidecar::Imports;
use crate::source::istio::defaults::Defaults;
use crate::source::istio::fault::{Code, Fault, Faults};
use crate::source::istio::kinds::{Kind, Object, VirtualService};
use crate::source::istio::registry::{View, Visibility, origin, place, warning};
use crate::workload::Workload;

/// A VirtualService that owns a host.
#[derive(Clone, Debug)]
pub(super) struct Claim<'a> {
    /// The host, completed, in lower case.
    pub(super) host: Arc<str>,
    /// Who claims it.
    pub(super) object: &'a Object,
    /// Its rules.
    pub(super) spec: &'a VirtualService,
    /// What they are read for.
    pub(super) via: Via<'a>,
    pub(super) rank: Rank,
    /// Its place among all objects by age.
    pub(super) age: usize,
}

/// In which order candidates are asked.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Rank {
    Private,
    Named,
    Public,
}

/// All claims that count for a client, by host.
#[derive(Debug)]
pub(super) struct Claims<'a> {
    by_host: BTreeMap<Arc<str>, Claim<'a>>,
    /// Hosts with a star, the most specific first: only these need to be compared with others.
    patterns: Vec<Arc<str>>,
    without_service: Vec<Arc<str>>,
}

impl<'a> Claims<'a> {
    /// Reads the claims; `objects` are in the order of age.
    pub(super) fn new(
        objects: &[&'a Object],
        client: &Workload,
        view: &View<'a>,
        (defaults, imports): (Defaults<'a>, &Imports<'a>),
        faults: &mut Faults,
    ) -> Self {
        let mut candidates = candidates(objects, client, defaults, Via::Mesh);
        let domain = client.cluster_domain();
        candidates.retain(|one| imports.virtual_service(one.object, one.spec, domain));
        let mut by_host: BTreeMap<Arc<str>, Claim<'a>> = BTreeMap::new();
        for candidate in candidates {
            let Candidate {
                rank,
                age,
                object,
                spec,
            } = candidate;
            for (index, written) in spec.hosts.iter().enumerate() {
                let host = expand(written, &object.meta.namespace, client.cluster_domain());
                let claim = Claim {
                    host: host.clone(),
                    object,
                    spec,
                    via: Via::Mesh,
                    rank,
                    age,
                };
                match by_host.get(&host) {
                    None => {
                        by_host.insert(host, claim);
                    }
                    // A rule of the own namespace that stands before a public one is meant to.
                    Some(first) if first.rank != rank || std::ptr::eq(first.object, object) => {}
                    Some(first) => {
                        let fault = claimed_twice(first, &claim, place(written));
                        faults.push(fault.field(format!("hosts[{index}]")));
                    }
                }
            }
        }
        let (mut patterns, names): (Vec<Arc<str>>, Vec<Arc<str>>) = by_host
            .keys()
            .cloned()
            .partition(|host| host.starts_with('*'));
        patterns.sort_by_key(|pattern| std::cmp::Reverse(specificity(pattern)));
        let names = names
            .into_iter()
            .filter(|host| view.service(host).is_none());
        let unused = patterns.iter().filter(|pattern| {
            !view
                .services()
                .any(|service| covers(pattern, &service.host))
        });
        Self {
            without_service: unused.cloned().chain(names).collect(),
            patterns,
            by_host,
        }
    }

    /// Who owns a host.
    pub(super) fn of(&self, host: &str) -> Option<&Claim<'a>> {
        self.by_host.get(host).or_else(|| {
            let pattern = self.patterns.iter().find(|pattern| covers(pattern, host))?;
            self.by_host.get(pattern)
        })
    }

    /// Claims of hosts that no service has.
    pub(super) fn without_service(&self) -> impl Iterator<Item = &Claim<'a>> {
        self.without_service
            .iter()
            .filter_map(|host| self.by_host.get(host))
    }
}

/// The claims of a Gateway's VirtualServices that a client sees, in the order in which they are asked.
///
/// At a gateway nobody takes a host whole: the rules of all who claim it stand one after the other.
pub(super) fn at_gateway<'a>(
    objects: &[&'a Object],
    client: &Workload,
    defaults: Defaults<'a>,
    via: Via<'a>,
) -> Vec<Claim<'a>> {
    let candidates = candidates(objects, client, defaults, via);
    let claims = candidates.into_iter().flat_map(|candidate| {
        let Candidate {
            rank,
            age,
            object,
            spec,
        } = candidate;
        spec.hosts.iter().map(move |written| Claim {
            host: expand(written, &object.meta.namespace, client.cluster_domain()),
            object,
            spec,
            via,
            rank,
            age,
        })
    });
    claims.collect()
}

/// IST0109: the host has an owner of the same rank already.
fn claimed_twice(first: &Claim<'_>, second: &Claim<'_>, at: (u32, u32)) -> Fault {
    let text = format!(
        "has no effect for the host {}: {} claims it too and is {}",
        second.host,
        origin(first.object),
        precedence(first.object, second.object)
    );
    warning(second.object, Code::HostClaimed, at, text)
        .hinted("move all rules of a host into one VirtualService")
}

/// Why the first of two objects comes first.
pub(super) fn precedence(first: &Object, second: &Object) -> &'static str {
    match (&first.meta.creation, &second.meta.creation) {
        (Some(a), Some(b)) if a != b => "older",
        (Some(_), None) => "the one with a creation time",
        (Some(_) | None, _) => "first in the order of files",
    }
}

/// A VirtualService that the client sees and that is for what it is read for.
struct Candidate<'a> {
    rank: Rank,
    age: usize,
    object: &'a Object,
    spec: &'a VirtualService,
}

fn candidates<'a>(
    objects: &[&'a Object],
    client: &Workload,
    defaults: Defaults<'_>,
    via: Via<'_>,
) -> Vec<Candidate<'a>> {
    let mut candidates = Vec::new();
    for (age, &object) in objects.iter().enumerate() {
        let Kind::VirtualService(spec) = &object.kind else {
            continue;
        };
        let namespace = &*object.meta.namespace;
        let exported = spec.export_to.iter().map(|entry| entry.value.as_str());
        let visibility = defaults.virtual_service(exported, namespace);
        let bound = via.takes(&spec.gateways, namespace);
        if !bound || !visibility.includes(client.namespace()) {
            continue;
        }
        let rank = match visibility {
            Visibility::Everyone => Rank::Public,
            Visibility::Namespaces(_) if namespace == client.namespace() => Rank::Private,
            Visibility::Namespaces(_) => Rank::Named,
        };
        candidates.push(Candidate {
            rank,
            age,
            object,
            spec,
        });
    }
    // Stable, so that age decides within a rank.
    candidates.sort_by_key(|candidate| candidate.rank);
    candidates
}
