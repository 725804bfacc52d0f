//! What is legal and probably not meant, found by looking at several objects at once.
//!
//! The first group are messages that `istioctl analyze` has too (`IST0101` and so on, see
//! [`Code::istio`]); the second are traps that Istio leaves in silence. Each is one function. They
//! speak of what concerns the client that is compiled for and nothing else, so a set for many
//! namespaces does not drown one of them in the troubles of the others.

mod policy;
mod rule;

use super::Scope;
use super::host::closest;
use super::rules::Rules;
use crate::source::istio::fault::{Code, Fault, Faults};
use crate::source::istio::kinds::Object;
use crate::source::istio::registry::{Home, NODE, Port, PortProtocol, Service, place, warning};
use crate::source::istio::yaml::Located;

pub(super) use policy::{empty_subset, nobody_to_eject, policy};
pub(super) use rule::rule;

/// Lints of the services that the client sees.
pub(super) fn services(scope: &mut Scope<'_>) {
    for service in scope.view.services() {
        for port in &service.ports {
            port_without_protocol(service, port, &mut scope.faults);
        }
        if service.node_local && !scope.client.labels().contains_key(NODE) {
            scope.faults.push(no_node(service));
        }
    }
}

/// `internalTrafficPolicy: Local` for a client that does not know its node.
fn no_node(service: &Service<'_>) -> Fault {
    let text = format!(
        "internalTrafficPolicy Local leaves {} without an endpoint: the client does not know its node",
        service.host
    );
    warning(service.object, Code::NoEndpoints, (0, 0), text)
        .field("internalTrafficPolicy")
        .hinted(format!(
            "give the workload the label {NODE} with the name of its node"
        ))
}

/// IST0118: nothing says what a port speaks, so requests are sent as they were made.
fn port_without_protocol(service: &Service<'_>, port: &Port, faults: &mut Faults) {
    if service.home != Home::Kubernetes || port.protocol != PortProtocol::Unknown {
        return;
    }
    let text = format!(
        "the name {:?} of port {} does not say what is spoken there; requests are sent in the \
         version of HTTP in which they were made",
        &*port.name, port.number
    );
    let fault = warning(service.object, Code::PortName, (port.line, 1), text);
    faults.push(fault.hinted("begin the name with http, http2 or grpc, or write appProtocol"));
}

/// Lints of the hosts that rules speak of.
pub(super) fn hosts(scope: &mut Scope<'_>, rules: &Rules<'_>) {
    let mut faults = Faults::default();
    let known: Vec<&str> = scope
        .view
        .services()
        .map(|service| &*service.host)
        .collect();
    rule_without_service(scope, rules, &known, &mut faults);
    for claim in scope.claims.without_service() {
        for (index, written) in claim.spec.hosts.iter().enumerate() {
            let host = (index, written, &*claim.host);
            half_qualified(claim.object, host, &known, &mut faults);
        }
    }
    tcp_only(scope, &mut faults);
    rules_of_alias(scope, &mut faults);
    scope.faults.extend(faults);
}

/// IST0174: a DestinationRule for a host that nobody has.
fn rule_without_service(scope: &Scope<'_>, rules: &Rules<'_>, known: &[&str], faults: &mut Faults) {
    let client = scope.client.namespace();
    for (object, written, host) in rules.without_service(client, &scope.view) {
        let fault = warning(
            object,
            Code::HostUnknown,
            place(written),
            format!("has no effect: no service has the host {host}"),
        );
        faults.push(suggested(fault.field("host"), host, known));
    }
}

/// `catalog.my-app` has a dot, so it is not completed, and is the host of nobody.
fn half_qualified(
    object: &Object,
    (index, written, claimed): (usize, &Located<String>, &str),
    known: &[&str],
    faults: &mut Faults,
) {
    if !written.contains('.') || !written.eq_ignore_ascii_case(claimed) {
        return;
    }
    let full = known.iter().find(|host| {
        let rest = host.strip_prefix(claimed);
        rest.is_some_and(|rest| rest.starts_with('.'))
    });
    let Some(full) = full else { return };
    let text = format!("{claimed} is not the host {full}: a name with a dot is not completed");
    faults.push(
        warning(object, Code::HalfQualified, place(written), text)
            .field(format!("hosts[{index}]"))
            .hinted(format!("write {full}")),
    );
}

/// HTTP rules for a service that has no HTTP port are never asked.
fn tcp_only(scope: &Scope<'_>, faults: &mut Faults) {
    for service in scope.view.services() {
        let tcp = |port: &Port| !port.protocol.routes_http();
        let Some(claim) = scope.claims.of(&service.host) else {
            continue;
        };
        let none = !service.ports.is_empty() && service.ports.iter().all(tcp);
        if none && !claim.spec.http.is_empty() {
            let text = format!(
                "has no effect for the host {}: its ports are not HTTP by their name or appProtocol",
                service.host
            );
            faults.push(warning(claim.object, Code::NoEffect, (0, 0), text).field("http"));
        }
    }
}

/// An `ExternalName` service has the rules of the service behind it.
fn rules_of_alias(scope: &Scope<'_>, faults: &mut Faults) {
    for service in scope.view.services() {
        for alias in scope.view.aliases(&service.host) {
            let Some(claim) = scope.claims.of(&alias.host) else {
                continue;
            };
            if claim.host == alias.host {
                let text = format!(
                    "has no effect: the host {} is another name of {}, whose rules it has",
                    alias.host, service.host
                );
                faults.push(warning(claim.object, Code::NoEffect, (0, 0), text).field("hosts"));
            }
        }
    }
}

pub(super) fn suggested(fault: Fault, wanted: &str, known: &[&str]) -> Fault {
    match closest(wanted, known.iter().copied()) {
        Some(name) => fault.hinted(format!("did you mean {name}?")),
        None => fault,
    }
}

/// Adds what a lint has found.
fn found(fault: Option<Fault>, faults: &mut Faults) {
    if let Some(fault) = fault {
        faults.push(fault);
    }
}
