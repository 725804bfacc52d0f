//! The rules of ServiceEntry and WorkloadEntry.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Checker;
use super::names::{export_to, host_fault, is_address_or_network, is_dns_label, labels, port};
use crate::source::istio::fault::quoted;
use crate::source::istio::kinds::{Resolution, ServiceEntry, ServiceEntryPort, WorkloadEntry};

/// Hosts and addresses of one entry, as Istio's schema bounds them.
const NAMES: usize = 256;

/// Protocols that a port may have, in upper case.
const PROTOCOLS: &[&str] = &[
    "HTTP",
    "HTTPS",
    "HTTP2",
    "GRPC",
    "GRPC-WEB",
    "TCP",
    "TLS",
    "UDP",
    "MONGO",
    "MYSQL",
    "REDIS",
    "HTTP-PROXY",
];

pub(super) fn rules(check: &mut Checker<'_>, entry: &ServiceEntry) {
    hosts(check, entry);
    addresses(check, entry);
    ports(check, &entry.ports);
    endpoints(check, entry);
    export_to(check, &entry.export_to);
    check.some(
        "workloadSelector",
        entry.workload_selector.as_ref(),
        |check, selector| {
            check.within("labels", |check| labels(check, &selector.labels));
        },
    );
}

fn hosts(check: &mut Checker<'_>, entry: &ServiceEntry) {
    if entry.hosts.is_empty() {
        check.error_at("hosts", "service entry must have at least one host");
    }
    if entry.hosts.len() > NAMES {
        check.error_at("hosts", format!("more than {NAMES} hosts"));
    }
    check.each("hosts", &entry.hosts, |check, host| {
        if &***host == "*" {
            check.error("invalid host *");
        } else if let Some(fault) = host_fault(host) {
            check.error(fault);
        }
    });
}

fn addresses(check: &mut Checker<'_>, entry: &ServiceEntry) {
    if entry.addresses.len() > NAMES {
        check.error_at("addresses", format!("more than {NAMES} addresses"));
    }
    let networks = matches!(entry.resolution, Resolution::None | Resolution::Static);
    check.each("addresses", &entry.addresses, |check, address| {
        if !is_address_or_network(address) {
            check.error(format!(
                "{} is neither an address nor a network",
                quoted(address)
            ));
        } else if address.contains('/') && !networks {
            check.error("a network is allowed for the resolutions NONE and STATIC only");
        }
    });
}

fn ports(check: &mut Checker<'_>, ports: &[crate::source::istio::yaml::Located<ServiceEntryPort>]) {
    if ports.is_empty() {
        check.error_at("ports", "service entry must have at least one port");
    }
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    check.each("ports", ports, |check, entry| {
        port(check, "number", Some(entry.number));
        port(check, "targetPort", entry.target_port);
        if !numbers.insert(entry.number) {
            check.error_at(
                "number",
                format!("port number {} stands twice", entry.number),
            );
        }
        if !is_dns_label(&entry.name) {
            let text = format!("{} is no port name (DNS-1123 label)", quoted(&entry.name));
            check.error_at("name", text);
        } else if !names.insert(entry.name.value.clone()) {
            check.error_at(
                "name",
                format!("port name {} stands twice", quoted(&entry.name)),
            );
        }
        check.some("protocol", entry.protocol.as_ref(), |check, protocol| {
            if !PROTOCOLS.contains(&&*protocol.to_ascii_uppercase()) {
                let text = format!("{} is no protocol", quoted(protocol));
                check.error_hint(text, format!("allowed: {}", PROTOCOLS.join(", ")));
            }
        });
    });
}

fn endpoints(check: &mut Checker<'_>, entry: &ServiceEntry) {
    if !entry.endpoints.is_empty() && entry.workload_selector.is_some() {
        check.error("only one of workloadSelector or endpoints is allowed in a service entry");
    }
    let none = entry.endpoints.is_empty() && entry.workload_selector.is_none();
    match entry.resolution {
        Resolution::None if !entry.endpoints.is_empty() => {
            check.error_at(
                "endpoints",
                "no endpoints should be provided for resolution NONE",
            );
        }
        Resolution::DynamicDns if !entry.endpoints.is_empty() => {
            let text = "no endpoints should be provided for resolution DYNAMIC_DNS";
            check.error_at("endpoints", text);
        }
        Resolution::Static if none => {
            let text = "endpoints or workloadSelector must be provided for resolution STATIC";
            check.error(text);
        }
        Resolution::DnsRoundRobin if entry.endpoints.len() > 1 => {
            check.error_at("endpoints", "resolution DNS_ROUND_ROBIN takes one endpoint");
        }
        Resolution::Dns | Resolution::DnsRoundRobin if none => {
            check.each("hosts", &entry.hosts, |check, host| {
                if host.starts_with('*') {
                    check.error("a wildcard host cannot be resolved: name endpoints");
                }
            });
        }
        Resolution::Dns
        | Resolution::DnsRoundRobin
        | Resolution::DynamicDns
        | Resolution::None
        | Resolution::Static => {}
    }
    let names: BTreeSet<&str> = entry.ports.iter().map(|port| port.name.as_str()).collect();
    check.each("endpoints", &entry.endpoints, |check, endpoint| {
        workload_entry(check, endpoint);
        let address = Address::of(&endpoint.address);
        if entry.resolution == Resolution::Static && matches!(address, Address::Name) {
            let text = format!("{} is no IP address", quoted(&endpoint.address));
            check.error_at("address", format!("{text}, as resolution STATIC needs"));
        }
        if matches!(address, Address::Unix) && entry.ports.len() > 1 {
            check.error_at("address", "a unix socket serves a single port");
        }
        check.within("ports", |check| {
            for name in endpoint
                .ports
                .keys()
                .filter(|name| !names.contains(name.as_str()))
            {
                check.within_key(name, |check| {
                    check.error(format!("the service has no port named {}", quoted(name)));
                });
            }
        });
    });
}

/// What the address of a workload is.
pub(super) enum Address {
    Ip,
    Missing,
    Name,
    Unix,
}

impl Address {
    pub(super) fn of(text: &str) -> Self {
        match text {
            "" => Self::Missing,
            text if text.starts_with("unix://") => Self::Unix,
            text if text.parse::<IpAddr>().is_ok() => Self::Ip,
            _ => Self::Name,
        }
    }
}

pub(super) fn workload_entry(check: &mut Checker<'_>, entry: &WorkloadEntry) {
    let address = entry.address.as_str();
    match Address::of(address) {
        Address::Missing if entry.network.is_none() => {
            check.error_at("address", "address is required");
        }
        Address::Unix => {
            let path = address.strip_prefix("unix://").unwrap_or_default();
            if !path.starts_with('/') || path.contains('\0') {
                check.error_at("address", "unix:// takes an absolute path");
            }
            if !entry.ports.is_empty() {
                check.error_at("ports", "a unix socket has no ports");
            }
        }
        Address::Name if address.contains('*') || host_fault(address).is_some() => {
            let text = format!(
                "{} is neither an IP address, a DNS name nor unix://",
                quoted(address)
            );
            check.error_at("address", text);
        }
        Address::Ip | Address::Missing | Address::Name => {}
    }
    check.no_effect(
        "network",
        address.is_empty() && entry.network.is_some(),
        "gateways of networks are not read, so an entry without an address is nobody's endpoint",
    );
    check.within("ports", |check| {
        for (name, number) in &entry.ports {
            check.within_key(name, |check| {
                if *number == 0 {
                    check.error("port 0 does not exist: expected 1 to 65535");
                }
                if !is_dns_label(name) {
                    check.error(format!("{} is no port name (DNS-1123 label)", quoted(name)));
                }
            });
        }
    });
    check.within("labels", |check| labels(check, &entry.labels));
    if let Some(locality) = &entry.locality {
        let parts: Vec<_> = locality.split('/').collect();
        let empty = |part: &&str| part.is_empty() || part.contains('*');
        if parts.len() > 3 || parts.iter().any(empty) {
            let text = format!("{} is not region/zone/subzone", quoted(locality));
            check.error_at("locality", text);
        }
    }
}
