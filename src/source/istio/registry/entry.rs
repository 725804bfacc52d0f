//! The `ServiceEntry`: a service that Kubernetes does not know.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use super::kubernetes::{entry_member, port_of};
use super::workload::Workloads;
use super::{Home, Member, Port, PortProtocol, Service, Visibility, place, settle, warning};
use crate::source::istio::fault::{Code, Faults};
use crate::source::istio::kinds::{Object, ServiceEntry, ServiceEntryPort};

/// The services of an entry, one for each of its hosts, all with the same endpoints.
///
/// Hosts are never completed with a namespace (`ServiceEntry` is how foreign names get in).
pub(super) fn services<'a>(
    object: &'a Object,
    spec: &'a ServiceEntry,
    workloads: &Workloads<'a>,
    faults: &mut Faults,
) -> Vec<Service<'a>> {
    let namespace = &object.meta.namespace;
    let exported = spec.export_to.iter().map(|entry| entry.value.as_str());
    let visibility = Visibility::read(exported, namespace);
    let mut ports: Vec<Port> = Vec::new();
    for written in &spec.ports {
        let protocol =
            PortProtocol::of_entry_port(written.protocol.as_ref().map(|text| text.value.as_str()));
        if protocol == PortProtocol::Udp || ports.iter().any(|port| port.number == written.number) {
            continue;
        }
        ports.push(Port {
            number: written.number,
            name: written.name.as_str().into(),
            protocol,
            members: settle(members(object, spec, written, workloads)),
            line: written.line,
        });
    }
    if !ports.is_empty() && ports.iter().all(|port| port.members.is_empty()) {
        faults.push(warning(
            object,
            Code::NoEndpoints,
            spec.workload_selector.as_ref().map_or((0, 0), place),
            "no endpoints known: no WorkloadEntry and no Pod with an address is selected",
        ));
    }
    let addresses = addresses(object, spec, faults);
    spec.hosts
        .iter()
        .map(|host| Service {
            host: host.trim_end_matches('.').to_ascii_lowercase().into(),
            namespace: namespace.clone(),
            home: Home::Entry,
            ports: ports.clone(),
            addresses: addresses.clone(),
            visibility: visibility.clone(),
            object,
        })
        .collect()
}

fn members(
    object: &Object,
    spec: &ServiceEntry,
    port: &ServiceEntryPort,
    workloads: &Workloads<'_>,
) -> Vec<Member> {
    let number =
        |ports: &BTreeMap<String, u16>| port_of(ports, &port.name, port.target_port, port.number);
    let mut all: Vec<Member> = spec
        .endpoints
        .iter()
        .filter_map(|entry| entry_member(entry, &entry.labels, number(&entry.ports)))
        .collect();
    if let Some(selector) = &spec.workload_selector {
        let namespace = &object.meta.namespace;
        all.extend(
            workloads
                .entries(namespace, &selector.labels)
                .filter_map(|(entry, labels)| entry_member(entry, labels, number(&entry.ports))),
        );
        let pods = workloads.pods(namespace, &selector.labels);
        all.extend(pods.map(|(address, health, known)| Member {
            address: SocketAddr::new(address, port.target_port.unwrap_or(port.number)).into(),
            weight: NonZeroU32::MIN,
            health,
            labels: known.labels,
            locality: known.locality,
        }));
    }
    all
}

/// Single addresses by which the service may be called. A network cannot be told from a name in a
/// request, so it is only warned of.
fn addresses(object: &Object, spec: &ServiceEntry, faults: &mut Faults) -> Vec<IpAddr> {
    let mut all = Vec::new();
    for (index, written) in spec.addresses.iter().enumerate() {
        let single = match written.split_once('/') {
            None => Some(written.as_str()),
            Some((address, bits)) => address
                .parse::<IpAddr>()
                .ok()
                .filter(|ip| bits == if ip.is_ipv4() { "32" } else { "128" })
                .map(|_| address),
        };
        match single.and_then(|text| text.parse().ok()) {
            Some(address) => all.push(address),
            None => faults.push(
                warning(
                    object,
                    Code::NoEffect,
                    place(written),
                    format!(
                        "the network {:?} has no effect in this client",
                        written.value
                    ),
                )
                .field(format!("addresses[{index}]"))
                .hinted("requests are matched by host or by a single address"),
            ),
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}
