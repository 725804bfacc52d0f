//! `EndpointSlice` and `Endpoints`: the addresses behind a Kubernetes service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use super::families::{self, Family};
use super::workload::{Workloads, labelled};
use super::{Member, NODE};
use crate::model::endpoint::{Address, Health};
use crate::source::istio::kinds::{
    EndpointConditions, EndpointPort, EndpointSlice, Endpoints, Kind, Object, TargetRef,
};
use crate::source::istio::yaml::Located;

/// The label of a slice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Slices and their older form, by namespace and service.
#[derive(Debug, Default)]
pub(super) struct Slices<'a> {
    slices: BTreeMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>,
    legacy: BTreeMap<(&'a str, &'a str), &'a Endpoints>,
}

/// What the slices say of one port of a service.
#[derive(Debug, Default)]
pub(super) struct PortMembers {
    pub(super) members: Vec<Member>,
    /// Names of the ports that the slices have, for a message when none fits.
    pub(super) port_names: BTreeSet<String>,
    /// Whether there is a slice at all.
    pub(super) any_slice: bool,
}

/// One address before it is known which port is asked for.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    address: IpAddr,
    health: Health,
    target: Option<&'a TargetRef>,
    zone: Option<&'a str>,
    node: Option<&'a str>,
}

impl<'a> Slices<'a> {
    pub(super) fn new(objects: &[&'a Object]) -> Self {
        let mut all = Self::default();
        for &object in objects {
            let namespace = &*object.meta.namespace;
            match &object.kind {
                Kind::EndpointSlice(slice) => {
                    if let Some(service) = object.meta.labels.get(SERVICE_NAME) {
                        let of_service = all.slices.entry((namespace, service)).or_default();
                        of_service.push(slice);
                    }
                }
                Kind::Endpoints(endpoints) => {
                    let key = (namespace, &*object.meta.name);
                    all.legacy.entry(key).or_insert(endpoints);
                }
                Kind::AuthorizationPolicy(_)
                | Kind::DestinationRule(_)
                | Kind::MeshConfig(_)
                | Kind::GrpcRoute(_)
                | Kind::HttpRoute(_)
                | Kind::HttpLocalRateLimitPolicy(_)
                | Kind::LinkerdServer(_)
                | Kind::Namespace(_)
                | Kind::BackendTlsPolicy(_)
                | Kind::BackendTrafficPolicy(_)
                | Kind::ReferenceGrant(_)
                | Kind::PeerAuthentication(_)
                | Kind::Pod(_)
                | Kind::RequestAuthentication(_)
                | Kind::Service(_)
                | Kind::ServiceAccount(_)
                | Kind::ServiceEntry(_)
                | Kind::Gateway(_)
                | Kind::Sidecar(_)
                | Kind::Telemetry(_)
                | Kind::WorkloadGroup(_)
                | Kind::VirtualService(_)
                | Kind::Workload(_)
                | Kind::WorkloadEntry(_) => {}
            }
        }
        all
    }

    /// The endpoints of a service's port, which belong to the slice port of the same *name*: the
    /// number in the slice is that of the container.
    ///
    /// A dual-stack service has slices of both families with the same pods, each of which is one endpoint
    /// whose address of the `first` family is preferred; see [`families`]. `Endpoints` are read only without
    /// slices, of which Kubernetes keeps them as a mirror.
    pub(super) fn members(
        &self,
        (namespace, service): (&str, &str),
        (port_name, first): (&str, Family),
        selector: &BTreeMap<String, String>,
        workloads: &Workloads<'_>,
    ) -> PortMembers {
        let mut found = PortMembers::default();
        let mut all: Vec<(Candidate<'_>, SocketAddr)> = Vec::new();
        let mut add = |ports: &[Located<EndpointPort>], candidates: Vec<Candidate<'a>>| {
            found.any_slice = true;
            for port in ports.iter().filter(|port| is_tcp(port)) {
                let name = port.name.as_deref().unwrap_or_default();
                found.port_names.insert(name.to_owned());
                let Some(number) = port.port.filter(|_| name == port_name) else {
                    continue;
                };
                let at = |one: &Candidate<'a>| (*one, SocketAddr::new(one.address, number));
                all.extend(candidates.iter().map(at));
            }
        };
        if let Some(slices) = self.slices.get(&(namespace, service)) {
            for slice in slices.iter().filter(|slice| !is_of_names(slice)) {
                add(&slice.ports, slice_candidates(slice));
            }
        } else if let Some(endpoints) = self.legacy.get(&(namespace, service)) {
            for group in &endpoints.subsets {
                add(&group.ports, group_candidates(group));
            }
        }
        let addresses: Vec<_> = all.iter().map(|(one, at)| (*at, one.target)).collect();
        let places = families::places(&addresses, first).into_iter();
        let listening = all.iter().zip(places);
        found.members = listening
            .filter_map(|((candidate, _), address)| {
                Some(member(candidate, address?, namespace, selector, workloads))
            })
            .collect();
        found
    }
}

fn is_tcp(port: &EndpointPort) -> bool {
    port.protocol
        .as_deref()
        .is_none_or(|protocol| protocol.eq_ignore_ascii_case("tcp"))
}

/// Whether its addresses are names, which Kubernetes itself does not resolve.
fn is_of_names(slice: &EndpointSlice) -> bool {
    let declared = slice.address_type.as_ref();
    declared.is_some_and(|declared| declared.eq_ignore_ascii_case("FQDN"))
}

fn slice_candidates(slice: &EndpointSlice) -> Vec<Candidate<'_>> {
    slice
        .endpoints
        .iter()
        .filter_map(|endpoint| {
            let address = endpoint.addresses.first()?.parse().ok()?;
            Some(Candidate {
                address,
                health: health(endpoint.conditions),
                target: endpoint.target_ref.as_ref(),
                zone: endpoint.zone.as_deref(),
                node: endpoint.node_name.as_deref(),
            })
        })
        .collect()
}

fn group_candidates(group: &crate::source::istio::kinds::EndpointGroup) -> Vec<Candidate<'_>> {
    let ready = group.addresses.iter().map(|one| (one, Health::Healthy));
    let unready = group.not_ready_addresses.iter();
    let unready = unready.map(|one| (one, Health::Unhealthy));
    ready
        .chain(unready)
        .filter_map(|(one, health)| {
            Some(Candidate {
                address: one.ip.parse().ok()?,
                health,
                target: one.target_ref.as_ref(),
                zone: None,
                node: one.node_name.as_deref(),
            })
        })
        .collect()
}

/// An endpoint that is about to end but still serves is drained; one that is not ready is kept and
/// marked, for panic.
fn health(conditions: EndpointConditions) -> Health {
    let EndpointConditions {
        ready,
        serving,
        terminating,
    } = conditions;
    if terminating == Some(true) && serving.or(ready) != Some(false) {
        Health::Draining
    } else if ready == Some(false) || terminating == Some(true) {
        Health::Unhealthy
    } else {
        Health::Healthy
    }
}

fn member(
    candidate: &Candidate<'_>,
    address: Address,
    namespace: &str,
    selector: &BTreeMap<String, String>,
    workloads: &Workloads<'_>,
) -> Member {
    let mut known = workloads.behind(namespace, candidate.target, candidate.address, selector);
    if known.locality.zone.is_empty() {
        known.locality.zone = candidate.zone.unwrap_or_default().into();
    }
    Member {
        address,
        weight: NonZeroU32::MIN,
        health: candidate.health,
        labels: labelled(known.labels, NODE, candidate.node),
        locality: known.locality,
        namespace: namespace.into(),
        account: known.account,
        is_machine: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_of_a_slice_endpoint() {
        let rows = [
            ("nothing said", None, None, None, Health::Healthy),
            ("ready", Some(true), None, None, Health::Healthy),
            ("unready", Some(false), None, None, Health::Unhealthy),
            (
                "ends, serves",
                Some(false),
                Some(true),
                Some(true),
                Health::Draining,
            ),
            (
                "ends, silent",
                Some(false),
                Some(false),
                Some(true),
                Health::Unhealthy,
            ),
        ];
        for (row, ready, serving, terminating, expected) in rows {
            let conditions = EndpointConditions {
                ready,
                serving,
                terminating,
            };
            assert_eq!(health(conditions), expected, "{row}");
        }
    }
}
