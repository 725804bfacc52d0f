//! The `ServiceEntry`: a service that Kubernetes does not know.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use super::kubernetes::{entry_member, named_member, port_of};
use super::workload::Workloads;
use super::{
    Distribution, Home, Member, Port, PortProtocol, Reach, Service, place, settle, warning,
};
use crate::model::cluster::Lookup;
use crate::source::istio::defaults::Defaults;
use crate::source::istio::fault::{Code, Faults};
use crate::source::istio::kinds::{Object, Resolution, ServiceEntry, ServiceEntryPort};

/// The services of an entry, one for each of its hosts, all with the same endpoints.
///
/// Hosts are never completed with a namespace (`ServiceEntry` is how foreign names get in).
pub(super) fn services<'a>(
    object: &'a Object,
    spec: &'a ServiceEntry,
    defaults: Defaults<'_>,
    workloads: &Workloads<'a>,
    faults: &mut Faults,
) -> Vec<Service<'a>> {
    let namespace = &object.meta.namespace;
    let exported = spec.export_to.iter().map(|entry| entry.value.as_str());
    let visibility = defaults.service(exported, namespace);
    let mut ports: Vec<Port> = Vec::new();
    for written in &spec.ports {
        let protocol =
            PortProtocol::of_entry_port(written.protocol.as_ref().map(|text| text.value.as_str()));
        if protocol == PortProtocol::Udp || ports.iter().any(|port| port.number == written.number) {
            continue;
        }
        let members = settle(members(object, spec, written, workloads));
        ports.push(Port {
            number: written.number,
            name: written.name.as_str().into(),
            protocol,
            reach: reach(spec.resolution, written, &members),
            members,
            line: written.line,
        });
    }
    let listed = |port: &Port| port.reach == Reach::Listed && port.members.is_empty();
    if !ports.is_empty() && ports.iter().all(listed) {
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
        .map(|host| {
            let host: Arc<str> = host.trim_end_matches('.').to_ascii_lowercase().into();
            Service {
                ports: ports
                    .iter()
                    .map(|port| of_host(port, spec, &host, namespace))
                    .collect(),
                host,
                namespace: namespace.clone(),
                home: Home::Entry,
                addresses: addresses.clone(),
                visibility: visibility.clone(),
                distribution: Distribution::of(object, None),
                node_local: false,
                object,
            }
        })
        .collect()
}

/// `NONE` is Envoy's cluster of original destinations and `DYNAMIC_DNS` its dynamic forward proxy.
/// Nothing is captured here, so both go to the host that the request asks for.
fn reach(resolution: Resolution, port: &ServiceEntryPort, members: &[Member]) -> Reach {
    match resolution {
        Resolution::Dns => Reach::Named(Lookup::Each),
        Resolution::DnsRoundRobin => Reach::Named(Lookup::One),
        Resolution::DynamicDns => Reach::AsAsked(port.target()),
        Resolution::None => Reach::AsAsked(port.number),
        Resolution::Static => Reach::of(members),
    }
}

/// The port of one host of the entry: under DNS without endpoints the host itself is the endpoint.
fn of_host(port: &Port, spec: &ServiceEntry, host: &Arc<str>, namespace: &Arc<str>) -> Port {
    let mut port = port.clone();
    let written = spec
        .ports
        .iter()
        .find(|written| written.number == port.number);
    let selects = spec.workload_selector.is_some();
    if matches!(port.reach, Reach::Named(_)) && port.members.is_empty() && !selects {
        let number = written.map_or(port.number, |written| written.target());
        port.members
            .push(named_member(host.clone(), number, namespace));
    }
    port
}

fn members(
    object: &Object,
    spec: &ServiceEntry,
    port: &ServiceEntryPort,
    workloads: &Workloads<'_>,
) -> Vec<Member> {
    let number = |ports: &BTreeMap<String, u16>| port_of(ports, &port.name, port.target());
    match spec.resolution {
        Resolution::None | Resolution::DynamicDns => return Vec::new(),
        Resolution::Dns | Resolution::DnsRoundRobin | Resolution::Static => {}
    }
    let mut all: Vec<Member> = spec
        .endpoints
        .iter()
        .filter_map(|entry| {
            entry_member(
                entry,
                &entry.labels,
                number(&entry.ports),
                &object.meta.namespace,
            )
        })
        .collect();
    if let Some(selector) = &spec.workload_selector {
        let namespace = &object.meta.namespace;
        all.extend(
            workloads
                .entries(namespace, &selector.labels)
                .filter_map(|(entry, labels)| {
                    entry_member(entry, labels, number(&entry.ports), namespace)
                }),
        );
        let pods = workloads.pods(namespace, &selector.labels);
        all.extend(pods.map(|(address, health, known)| Member {
            address: SocketAddr::new(address, port.target()).into(),
            weight: NonZeroU32::MIN,
            health,
            labels: known.labels,
            locality: known.locality,
            namespace: namespace.clone(),
            account: known.account,
            is_machine: false,
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
