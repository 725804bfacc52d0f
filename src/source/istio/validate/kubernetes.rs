//! What a mesh needs of the Kubernetes kinds. The API server has rules of its own; here are those
//! without which an object would be read wrongly.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Checker;
use super::names::{host_fault, labels, port};
use crate::source::istio::fault::quoted;
use crate::source::istio::kinds::{
    EndpointPort, EndpointSlice, Endpoints, Pod, PodSpec, Service, TargetPort, Workload,
};
use crate::source::istio::yaml::Located;

pub(super) fn service(check: &mut Checker<'_>, service: &Service) {
    check.within("selector", |check| labels(check, &service.selector));
    let external = service.service_type.as_deref() == Some("ExternalName");
    match &service.external_name {
        None if external => check.error_at("externalName", "an ExternalName service needs a name"),
        Some(name) if external && host_fault(name).is_some() => {
            check.error_at("externalName", format!("{} is no host", quoted(name)));
        }
        Some(_) | None => {}
    }
    check.each("ipFamilies", &service.ip_families, |check, family| {
        if !matches!(family.as_str(), "IPv4" | "IPv6") {
            check.error(format!("{} is not IPv4 or IPv6", quoted(family)));
        }
    });
    if service.ports.is_empty() && !external {
        check.error_at("ports", "a service needs at least one port");
    }
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    check.each("ports", &service.ports, |check, entry| {
        port(check, "port", Some(entry.port));
        match &entry.target_port {
            Some(TargetPort::Number(number)) => port(check, "targetPort", Some(*number)),
            Some(TargetPort::Name(name)) if name.is_empty() => {
                check.error_at("targetPort", "a port name must not be empty");
            }
            Some(TargetPort::Name(_)) | None => {}
        }
        let transport = entry.protocol.clone().unwrap_or_else(|| "TCP".into());
        if !numbers.insert((entry.port, transport)) {
            check.error_at("port", format!("port {} stands twice", entry.port));
        }
        match &entry.name {
            None if service.ports.len() > 1 => {
                check.error_at(
                    "name",
                    "a service with several ports must name each of them",
                );
            }
            Some(name) if !names.insert(name.value.clone()) => {
                check.error_at("name", format!("port name {} stands twice", quoted(name)));
            }
            Some(_) | None => {}
        }
    });
}

pub(super) fn endpoint_slice(check: &mut Checker<'_>, slice: &EndpointSlice) {
    let kind = slice.address_type.as_ref().map(|kind| kind.as_str());
    match kind {
        None => check.error_hint(
            "addressType is required",
            "write addressType: IPv4 beside endpoints",
        ),
        Some("IPv4" | "IPv6" | "FQDN") => {}
        Some(other) => {
            let text = format!("{} is not IPv4, IPv6 or FQDN", quoted(other));
            check.error_at("addressType", text);
        }
    }
    check.each("endpoints", &slice.endpoints, |check, endpoint| {
        if endpoint.addresses.is_empty() {
            check.error_at("addresses", "an endpoint needs an address");
        }
        check.each("addresses", &endpoint.addresses, |check, address| {
            let parsed = address.parse::<IpAddr>();
            let good = match kind {
                Some("IPv4") => parsed.is_ok_and(|address| address.is_ipv4()),
                Some("IPv6") => parsed.is_ok_and(|address| address.is_ipv6()),
                _ => true,
            };
            if !good {
                let kind = kind.unwrap_or_default();
                check.error(format!("{} is no {kind} address", quoted(address)));
            }
        });
    });
    endpoint_ports(check, &slice.ports);
}

fn endpoint_ports(check: &mut Checker<'_>, ports: &[Located<EndpointPort>]) {
    check.each("ports", ports, |check, entry| {
        port(check, "port", entry.port)
    });
}

pub(super) fn endpoints(check: &mut Checker<'_>, endpoints: &Endpoints) {
    check.each("subsets", &endpoints.subsets, |check, group| {
        for (field, addresses) in [
            ("addresses", &group.addresses),
            ("notReadyAddresses", &group.not_ready_addresses),
        ] {
            check.each(field, addresses, |check, address| {
                if address.ip.parse::<IpAddr>().is_err() {
                    check.error_at("ip", format!("{} is no IP address", quoted(&address.ip)));
                }
            });
        }
        endpoint_ports(check, &group.ports);
    });
}

pub(super) fn pod(check: &mut Checker<'_>, pod: &Pod) {
    check.within("spec", |check| pod_spec(check, &pod.spec));
}

fn pod_spec(check: &mut Checker<'_>, spec: &PodSpec) {
    check.each("containers", &spec.containers, |check, container| {
        check.each("ports", &container.ports, |check, entry| {
            port(check, "containerPort", Some(entry.container_port));
        });
    });
}

pub(super) fn workload(check: &mut Checker<'_>, workload: &Workload) {
    let template = &workload.template;
    check.within("template", |check| {
        check.within("metadata", |check| {
            check.within("labels", |check| labels(check, &template.metadata.labels));
        });
        check.within("spec", |check| pod_spec(check, &template.spec));
    });
    let wanted = &workload.selector.match_labels;
    let has = |(key, value): (&String, &String)| template.metadata.labels.get(key) == Some(value);
    if !wanted.iter().all(has) {
        let text = "the selector does not match the labels of the template";
        check.error_at("selector", text);
    }
}
