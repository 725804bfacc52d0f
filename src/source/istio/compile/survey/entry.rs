//! What services say of their ports: twice and differently, or too little for a sidecar.

use super::Survey;
use crate::source::istio::fault::{Code, Fault};
use crate::source::istio::kinds::{Kind, Object, Service, ServicePort};
use crate::source::istio::registry::{selects, warning};

/// IST0134: a port of TCP without an address. A sidecar knows a connection by where it goes, and
/// without an address it takes each one to that port, whatever host was meant.
pub(super) fn addresses(survey: &mut Survey<'_>) {
    let mut found = Vec::new();
    for object in &survey.objects {
        let Kind::ServiceEntry(entry) = &object.kind else {
            continue;
        };
        if !entry.addresses.is_empty() {
            continue;
        }
        for (index, port) in entry.ports.iter().enumerate() {
            let said = port.protocol.as_ref().map_or("", |one| one.as_str());
            if !said.is_empty() && !said.eq_ignore_ascii_case("TCP") {
                continue;
            }
            let text = format!(
                "port {} is TCP, and no address is named: a sidecar takes every connection to that port, \
                 whatever host it is for",
                port.number
            );
            let place = (port.line, port.column);
            let fault = warning(object, Code::AddressRequired, place, text);
            let fault = fault.field(format!("ports[{index}]"));
            found.push(fault.hinted("write addresses, or the protocol that is spoken there"));
        }
    }
    found
        .into_iter()
        .for_each(|fault| survey.faults.push(fault));
}

/// IST0177: one host and port, two protocols.
pub(super) fn protocols(survey: &mut Survey<'_>) {
    let mut known: Vec<(&str, u16, String, &Object)> = Vec::new();
    let mut found = Vec::new();
    for object in &survey.objects {
        let Kind::ServiceEntry(entry) = &object.kind else {
            continue;
        };
        for host in &entry.hosts {
            for port in &entry.ports {
                let protocol = port.protocol.as_ref().map_or("TCP", |one| one.as_str());
                let protocol = protocol.to_ascii_uppercase();
                let (host, number) = (host.as_str(), port.number);
                let other = known
                    .iter()
                    .find(|(one, other, ..)| (*one, *other) == (host, number));
                match other {
                    Some((_, _, said, first)) if *said != protocol => {
                        let text = format!(
                            "port {number} of {host} speaks {protocol} here and {said} in {}",
                            first.reference()
                        );
                        let place = (port.line, port.column);
                        found.push(warning(object, Code::ProtocolConflict, place, text));
                    }
                    Some(_) => {}
                    None => known.push((host, number, protocol, object)),
                }
            }
        }
    }
    // A workload behind two services that say different things about one of its ports (IST0116).
    for (index, (object, service)) in survey.census.services.iter().enumerate() {
        for (other, before) in survey.census.services.iter().take(index) {
            found.extend(conflict(survey, (object, service), (other, before)));
        }
    }
    found
        .into_iter()
        .for_each(|fault| survey.faults.push(fault));
}

fn conflict(
    survey: &Survey<'_>,
    (object, service): (&Object, &Service),
    (other, before): (&Object, &Service),
) -> Option<Fault> {
    if object.meta.namespace != other.meta.namespace
        || service.selector.is_empty()
        || before.selector.is_empty()
    {
        return None;
    }
    let said = |port: &ServicePort| {
        let said = port.app_protocol.as_ref().or(port.name.as_ref());
        let said = said
            .map(|said| said.to_ascii_lowercase())
            .unwrap_or_default();
        said.split('-').next().unwrap_or_default().to_owned()
    };
    let all = survey
        .census
        .selected(Some(&*object.meta.namespace), Some(&service.selector));
    let mut both = all.filter(|one| selects(&before.selector, one.labels));
    let one = both.next()?;
    let (port, first) = service.ports.iter().find_map(|port| {
        let mut others = before.ports.iter();
        let other =
            others.find(|other| other.target() == port.target() && said(other) != said(port))?;
        Some((port, other))
    })?;
    let text = format!(
        "{} is behind {} too, which calls the same port {:?}: this calls it {:?}",
        one.object.reference(),
        other.reference(),
        said(first),
        said(port)
    );
    Some(
        warning(
            object,
            Code::ProtocolConflict,
            (port.line, port.column),
            text,
        )
        .field("ports"),
    )
}
