//! The Kubernetes `Service`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use super::endpoint::Slices;
use super::families::Family;
use super::workload::{Workloads, account, labelled, locality, shared};
use super::{
    Distribution, Home, Member, NETWORK, Port, PortProtocol, Reach, Service, place, settle, warning,
};
use crate::model::cluster::Lookup;
use crate::model::endpoint::{Address, Health};
use crate::source::istio::defaults::Defaults;
use crate::source::istio::fault::{Code, Fault, Faults};
use crate::source::istio::kinds::{self, Object, ServicePort};
use crate::source::istio::yaml::Located;

/// The annotation that is the `exportTo` of a Kubernetes service.
const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// Reads a service with the endpoints of its ports.
pub(super) fn service<'a>(
    object: &'a Object,
    spec: &'a kinds::Service,
    domain: &str,
    defaults: Defaults<'_>,
    slices: &Slices<'a>,
    workloads: &Workloads<'a>,
    faults: &mut Faults,
) -> Service<'a> {
    let namespace = &object.meta.namespace;
    let host = format!("{}.{namespace}.svc.{domain}", object.meta.name).to_ascii_lowercase();
    let exported = object.meta.annotations.get(EXPORT_TO);
    let exported = exported.into_iter().flat_map(|list| list.split(','));
    let visibility = defaults.service(exported, namespace);
    let (home, ports) = match alias_target(spec) {
        Some(target) => {
            let ports = alias_ports(spec, &target, namespace);
            (Home::Alias(target), ports)
        }
        None => (
            Home::Kubernetes,
            ports(object, spec, &host, slices, workloads, faults),
        ),
    };
    Service {
        host: host.into(),
        namespace: namespace.clone(),
        home,
        ports,
        addresses: addresses(spec),
        visibility,
        distribution: Distribution::of(object, spec.traffic_distribution.as_deref()),
        node_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        object,
    }
}

/// What an `ExternalName` service stands for.
fn alias_target(spec: &kinds::Service) -> Option<Arc<str>> {
    spec.service_type
        .as_deref()
        .filter(|kind| *kind == "ExternalName")?;
    let name = spec.external_name.as_ref()?;
    Some(name.trim_end_matches('.').to_ascii_lowercase().into())
}

fn addresses(spec: &kinds::Service) -> Vec<IpAddr> {
    let all: BTreeSet<IpAddr> = spec
        .cluster_ip
        .iter()
        .chain(&spec.cluster_ips)
        .filter_map(|text| text.parse().ok())
        .collect();
    all.into_iter().collect()
}

fn ports(
    object: &Object,
    spec: &kinds::Service,
    host: &str,
    slices: &Slices<'_>,
    workloads: &Workloads<'_>,
    faults: &mut Faults,
) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    let (mut nothing_known, first) = (true, Family::first(spec));
    for written in &spec.ports {
        let name = port_name(written);
        let protocol = protocol(written);
        if protocol == PortProtocol::Udp || ports.iter().any(|port| port.number == written.port) {
            continue;
        }
        let namespaced = (&*object.meta.namespace, &*object.meta.name);
        let found = slices.members(namespaced, (name, first), &spec.selector, workloads);
        let mut members = found.members;
        members.extend(entry_members(object, spec, written, workloads));
        nothing_known &= !found.any_slice && members.is_empty();
        if found.any_slice && !found.port_names.contains(name) && members.is_empty() {
            faults.push(no_such_port(object, written, &found.port_names));
        }
        ports.push(Port {
            number: written.port,
            name: name.into(),
            protocol,
            reach: Reach::of(&members),
            members: settle(members),
            line: written.line,
        });
    }
    if nothing_known && !ports.is_empty() {
        let text = "no EndpointSlice and no WorkloadEntry of this service: its endpoints are what \
                    DNS says";
        let hint = "add the service's EndpointSlices to the files \
                    (kubectl get endpointslices -o yaml) to balance over its pods";
        faults.push(warning(object, Code::NoEndpoints, (0, 0), text).hinted(hint));
        let host: Arc<str> = host.into();
        for port in &mut ports {
            port.reach = Reach::Named(Lookup::Each);
            port.members = vec![named_member(
                host.clone(),
                dns_port(spec, port.number),
                &object.meta.namespace,
            )];
        }
    }
    ports
}

/// The port behind a service's DNS name. A headless service's name leads to its pods, so it is the
/// pods' port; the pods' port by name is in their slices only, and taken to be the service's.
fn dns_port(spec: &kinds::Service, number: u16) -> u16 {
    let headless = spec
        .cluster_ip
        .as_ref()
        .is_some_and(|address| address.as_str() == "None");
    let written = spec.ports.iter().find(|port| port.port == number);
    let target = written
        .filter(|_| headless)
        .and_then(|port| port.target_number());
    target.unwrap_or(number)
}

/// The ports of a service that is another name, should that name be outside of the mesh.
fn alias_ports(spec: &kinds::Service, target: &Arc<str>, namespace: &Arc<str>) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for written in &spec.ports {
        let protocol = protocol(written);
        if protocol == PortProtocol::Udp || ports.iter().any(|port| port.number == written.port) {
            continue;
        }
        let number = written.target_number().unwrap_or(written.port);
        ports.push(Port {
            number: written.port,
            name: port_name(written).into(),
            protocol,
            reach: Reach::Named(Lookup::Each),
            members: vec![named_member(target.clone(), number, namespace)],
            line: written.line,
        });
    }
    ports
}

fn protocol(port: &ServicePort) -> PortProtocol {
    let declared = port.app_protocol.as_ref().map(|text| text.value.as_str());
    let transport = port.protocol.as_deref();
    PortProtocol::of_service_port(port.port, port_name(port), declared, transport)
}

/// The endpoint that is a name, whose addresses DNS knows.
pub(super) fn named_member(host: Arc<str>, port: u16, namespace: &Arc<str>) -> Member {
    Member {
        address: Address::Name { host, port },
        weight: NonZeroU32::MIN,
        health: Health::Healthy,
        labels: super::Labels::default(),
        locality: crate::model::endpoint::Locality::default(),
        namespace: namespace.clone(),
        account: None,
        is_machine: false,
    }
}

fn port_name(port: &ServicePort) -> &str {
    port.name.as_ref().map_or("", |name| name.value.as_str())
}

fn no_such_port(
    object: &Object,
    written: &Located<ServicePort>,
    found: &BTreeSet<String>,
) -> Fault {
    let name = port_name(written);
    let text = format!(
        "no EndpointSlice of this service has a port named {name:?}; they have {}",
        quoted(found)
    );
    warning(object, Code::NoEndpoints, place(written), text)
        .field(format!("ports[name={name}]"))
        .hinted("endpoints belong to the service port of the same name")
}

fn quoted(names: &BTreeSet<String>) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// `WorkloadEntry`s that the service's selector takes: how machines outside of the cluster join a
/// Kubernetes service.
fn entry_members<'a>(
    object: &'a Object,
    spec: &'a kinds::Service,
    port: &'a ServicePort,
    workloads: &'a Workloads<'_>,
) -> impl Iterator<Item = Member> {
    let target = port.target_number().unwrap_or(port.port);
    workloads
        .entries(&object.meta.namespace, &spec.selector)
        .filter_map(move |(entry, labels)| {
            let number = port_of(&entry.ports, port_name(port), target);
            entry_member(entry, labels, number, &object.meta.namespace)
        })
}

/// The port of a `WorkloadEntry`: by the name of the service's port, else the service's target.
pub(super) fn port_of(ports: &BTreeMap<String, u16>, name: &str, target: u16) -> u16 {
    ports.get(name).copied().unwrap_or(target)
}

/// An endpoint from a `WorkloadEntry`; `None` for one without an address, which only its network
/// knows.
pub(super) fn entry_member(
    entry: &kinds::WorkloadEntry,
    labels: &BTreeMap<String, String>,
    port: u16,
    namespace: &Arc<str>,
) -> Option<Member> {
    let written = entry.address.as_str();
    let address = match (written.strip_prefix("unix://"), written.parse()) {
        (Some(path), _) => Address::Unix(std::path::Path::new(path).into()),
        (None, Ok(ip)) => SocketAddr::new(ip, port).into(),
        (None, Err(_)) if written.is_empty() => return None,
        (None, Err(_)) => {
            let host = written.trim_end_matches('.').to_ascii_lowercase().into();
            Address::Name { host, port }
        }
    };
    Some(Member {
        address,
        weight: entry
            .weight
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN),
        health: Health::Healthy,
        labels: labelled(
            shared(labels),
            NETWORK,
            entry.network.as_ref().map(|name| name.as_str()),
        ),
        locality: entry
            .locality
            .as_ref()
            .map(|text| locality(text, '/'))
            .unwrap_or_default(),
        namespace: namespace.clone(),
        account: entry
            .service_account
            .as_ref()
            .map(|name| account(namespace, name)),
        is_machine: true,
    })
}
