//! Which VirtualService owns a host, as seen by one client.
//!
//! There is no merging for services: candidates are asked in the order private to the client's
//! namespace, exported to it by name, public, each by age, and the first that names a host takes it
//! whole. A host by its full name comes before every pattern, a longer pattern before a shorter
//! one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::host::{covers, expand, specificity};
use super::matches::includes_mesh;
use crate::source::istio::fault::{Code, Faults};
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
    rank: Rank,
}

/// In which order candidates are asked.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Rank {
    Private,
    Named,
    Public,
}

/// All claims that count for a client, by host.
#[derive(Debug)]
pub(super) struct Claims<'a> {
    by_host: BTreeMap<Arc<str>, Claim<'a>>,
    without_service: Vec<Arc<str>>,
}

impl<'a> Claims<'a> {
    /// Reads the claims; `objects` are in the order of age.
    pub(super) fn new(
        objects: &[&'a Object],
        client: &Workload,
        view: &View<'a>,
        faults: &mut Faults,
    ) -> Self {
        let mut candidates = candidates(objects, client);
        // Stable, so that age decides within a rank.
        candidates.sort_by_key(|(rank, _, _)| *rank);
        let mut by_host: BTreeMap<Arc<str>, Claim<'a>> = BTreeMap::new();
        for (rank, object, spec) in candidates {
            for (index, written) in spec.hosts.iter().enumerate() {
                let host = expand(written, &object.meta.namespace, client.cluster_domain());
                let claim = Claim {
                    host: host.clone(),
                    object,
                    spec,
                    rank,
                };
                match by_host.get(&host) {
                    None => {
                        by_host.insert(host, claim);
                    }
                    // A rule of the own namespace that stands before a public one is meant to.
                    Some(first) if first.rank != rank || std::ptr::eq(first.object, object) => {}
                    Some(first) => faults.push(
                        warning(
                            object,
                            Code::HostClaimed,
                            place(written),
                            format!(
                                "has no effect for the host {host}: {} claims it too and is {}",
                                origin(first.object),
                                precedence(first.object, object)
                            ),
                        )
                        .field(format!("hosts[{index}]"))
                        .hinted("move all rules of a host into one VirtualService"),
                    ),
                }
            }
        }
        let without_service = by_host
            .keys()
            .filter(|host| !view.services().any(|service| covers(host, &service.host)))
            .filter(|host| view.service(host).is_none())
            .cloned()
            .collect();
        Self {
            by_host,
            without_service,
        }
    }

    /// Who owns a host.
    pub(super) fn of(&self, host: &str) -> Option<&Claim<'a>> {
        self.by_host.get(host).or_else(|| {
            let patterns = self
                .by_host
                .values()
                .filter(|claim| covers(&claim.host, host));
            patterns.max_by_key(|claim| specificity(&claim.host))
        })
    }

    /// Claims of hosts that no service has.
    pub(super) fn without_service(&self) -> impl Iterator<Item = &Claim<'a>> {
        self.without_service
            .iter()
            .filter_map(|host| self.by_host.get(host))
    }
}

/// Why the first of two objects comes first.
fn precedence(first: &Object, second: &Object) -> &'static str {
    match (&first.meta.creation, &second.meta.creation) {
        (Some(a), Some(b)) if a != b => "older",
        (Some(_), None) => "the one with a creation time",
        (Some(_) | None, _) => "first in the order of files",
    }
}

fn candidates<'a>(
    objects: &[&'a Object],
    client: &Workload,
) -> Vec<(Rank, &'a Object, &'a VirtualService)> {
    let mut candidates = Vec::new();
    for &object in objects {
        let Kind::VirtualService(spec) = &object.kind else {
            continue;
        };
        let namespace = &*object.meta.namespace;
        let exported = spec.export_to.iter().map(|entry| entry.value.as_str());
        let visibility = Visibility::read(exported, namespace);
        if !includes_mesh(&spec.gateways) || !visibility.includes(client.namespace()) {
            continue;
        }
        let rank = match visibility {
            Visibility::Everyone => Rank::Public,
            Visibility::Namespaces(_) if namespace == client.namespace() => Rank::Private,
            Visibility::Namespaces(_) => Rank::Named,
        };
        candidates.push((rank, object, &**spec));
    }
    candidates
}
