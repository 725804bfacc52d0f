//! VirtualServices that are for gateways too, against the gateways of the set.

use std::collections::HashMap;

use super::super::host::{closest, covers, expand};
use super::{DOMAIN, Survey};
use crate::source::istio::fault::{Code, Fault};
use crate::source::istio::gateway::Gateway;
use crate::source::istio::kinds::{Kind, Object, VirtualService};
use crate::source::istio::registry::{place, warning};
use crate::source::istio::yaml::Located;

/// The word for the services themselves.
const MESH: &str = "mesh";

/// IST0101 and IST0132: the gateway does not exist, or takes no such host. A set without a gateway
/// says nothing: those of others are elsewhere.
pub(super) fn hosts(survey: &mut Survey<'_>, gateways: &[Gateway]) {
    if gateways.is_empty() {
        return;
    }
    let known: HashMap<(&str, &str), &Gateway> = gateways
        .iter()
        .map(|one| ((&*one.namespace, &*one.name), one))
        .collect();
    let mut found = Vec::new();
    for object in &survey.objects {
        let Kind::VirtualService(service) = &object.kind else {
            continue;
        };
        let own = &*object.meta.namespace;
        for (index, written) in service.gateways.iter().enumerate() {
            if written.as_str() == MESH {
                continue;
            }
            let (namespace, name) = written.split_once('/').unwrap_or((own, written));
            match known.get(&(namespace, name)) {
                Some(gateway) => found.extend(not_taken(object, service, gateway)),
                None => found.push(unknown(object, index, written, gateways)),
            }
        }
    }
    found
        .into_iter()
        .for_each(|fault| survey.faults.push(fault));
}

fn unknown(object: &Object, index: usize, written: &Located<String>, all: &[Gateway]) -> Fault {
    let names: Vec<String> = all
        .iter()
        .map(|one| format!("{}/{}", one.namespace, one.name))
        .collect();
    let text = format!("no Gateway of this set is {:?}", written.value);
    let fault = warning(object, Code::NotFound, place(written), text);
    let fault = fault.field(format!("gateways[{index}]"));
    match closest(written, names.iter().map(String::as_str)) {
        Some(name) => fault.hinted(format!("did you mean {name}?")),
        None => fault.hinted(format!("known: {}", names.join(", "))),
    }
}

/// Hosts of the rules that no server of the gateway has.
fn not_taken(object: &Object, service: &VirtualService, gateway: &Gateway) -> Vec<Fault> {
    let namespace = &*object.meta.namespace;
    let takes = |host: &str| {
        let mut all = gateway.hosts_for(namespace);
        all.any(|one| covers(one, host) || covers(host, one))
    };
    let hosts = service.hosts.iter().enumerate();
    let missing = hosts.filter(|(_, written)| {
        let full = expand(written, namespace, DOMAIN);
        !takes(&written.to_ascii_lowercase()) && !takes(&full)
    });
    let faults = missing.map(|(index, written)| {
        let text = format!(
            "the gateway {}/{} does not take the host {:?}: it takes {}",
            gateway.namespace,
            gateway.name,
            written.value,
            some(gateway.hosts_for(namespace))
        );
        warning(object, Code::GatewayHost, place(written), text).field(format!("hosts[{index}]"))
    });
    faults.collect()
}

/// A few of many.
fn some<'h>(hosts: impl Iterator<Item = &'h str>) -> String {
    const SHOWN: usize = 5;
    let all: Vec<&str> = hosts.collect();
    match all.get(..SHOWN) {
        _ if all.is_empty() => "none of this namespace".to_owned(),
        Some(first) if all.len() > SHOWN => format!("{}, ...", first.join(", ")),
        _ => all.join(", "),
    }
}
