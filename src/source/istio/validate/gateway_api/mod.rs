//! The rules of the Gateway API's kinds: those that its resources carry as CEL expressions and
//! limits, in their words where they have some.
//!
//! What is *not* here is a reference that leads nowhere. The Gateway API does not refuse such a
//! route; it accepts it, says so in the status, and answers the share of the requests with 500.
//! Whether a reference holds needs the whole set, so that is the compiler's.

mod backend_policy;
mod filter;
mod grpc_route;
mod http_route;
mod session;

use std::collections::BTreeSet;

use super::Checker;
use super::names::{header_name, is_dns_label, is_dns_subdomain, port, regex};
use crate::source::istio::fault::{Code, quoted};
use crate::source::istio::kinds::gateway_api::{
    HttpHeaderMatch, ParentReference, ReferenceGrantSpec, ValueMatchType,
};
use crate::source::istio::yaml::Located;

pub(super) use backend_policy::{tls as backend_tls_policy, traffic as backend_traffic_policy};
pub(super) use grpc_route::rules as grpc_route;
pub(super) use http_route::rules as http_route;

const PARENT_REFS: usize = 32;
const HOSTNAMES: usize = 16;
const RULES: usize = 16;
/// Of one rule.
const MATCHES: usize = 64;
/// Of all rules of a route together.
const ALL_MATCHES: usize = 128;
const FILTERS: usize = 16;
const BACKEND_REFS: usize = 16;
const HEADERS: usize = 16;
const GRANTS: usize = 16;
const WEIGHT: u32 = 1_000_000;
/// Bytes of a header's or parameter's value, of a name, of a path.
const VALUE: usize = 4_096;
const NAME: usize = 256;
const PATH: usize = 1_024;

pub(super) fn reference_grant(check: &mut Checker<'_>, grant: &ReferenceGrantSpec) {
    for (field, count) in [("from", grant.from.len()), ("to", grant.to.len())] {
        if count == 0 {
            check.error_at(field, format!("{field} must have at least one entry"));
        }
        at_most(check, field, count, GRANTS);
    }
    check.each("from", &grant.from, |check, from| {
        if from.kind.is_empty() {
            check.error_at("kind", "kind is required");
        }
        if !is_dns_label(&from.namespace) {
            let text = format!("{} is no namespace", quoted(&from.namespace));
            check.error_at("namespace", text);
        }
    });
    check.each("to", &grant.to, |check, to| {
        if to.kind.is_empty() {
            check.error_at("kind", "kind is required");
        }
        if to.name.as_deref() == Some("") {
            check.error_at("name", "name must not be empty; leave it out to mean all");
        }
    });
}

/// What both kinds of routes begin with.
fn head(
    check: &mut Checker<'_>,
    parents: &[Located<ParentReference>],
    hostnames: &[Located<String>],
    use_default_gateways: Option<&str>,
) {
    at_most(check, "parentRefs", parents.len(), PARENT_REFS);
    at_most(check, "hostnames", hostnames.len(), HOSTNAMES);
    let reason = "there is no gateway here";
    check.no_effect("useDefaultGateways", use_default_gateways.is_some(), reason);
    check.each("hostnames", hostnames, |check, hostname| {
        let name = hostname.strip_prefix("*.").unwrap_or(hostname);
        if !is_dns_subdomain(name) {
            check.error(format!("{} is no host name", quoted(hostname)));
        }
    });
    let reason = "they are for gateways; a service's requests are its own by its host";
    check.no_effect("hostnames", !hostnames.is_empty(), reason);
    if parents.is_empty() {
        let text = "the object has no effect: it is attached to nothing";
        check.warn(Code::NoEffect, text);
    }
    let mut seen = BTreeSet::new();
    check.each("parentRefs", parents, |check, parent| {
        one_parent(check, parent);
        let place = (
            parent.group.as_deref(),
            parent.kind.as_deref(),
            parent.namespace.as_deref(),
            parent.name.as_str(),
            parent.section_name.as_deref(),
            parent.port,
        );
        if !seen.insert(place) {
            check.error(
                "sectionName or port must be unique when parentRefs includes 2 or more \
                 references to the same parent",
            );
        }
    });
}

fn one_parent(check: &mut Checker<'_>, parent: &ParentReference) {
    if parent.name.is_empty() {
        check.error_at("name", "name is required");
    }
    if let Some(namespace) = parent
        .namespace
        .as_deref()
        .filter(|text| !is_dns_label(text))
    {
        check.error_at(
            "namespace",
            format!("{} is no namespace", quoted(namespace)),
        );
    }
    port(check, "port", parent.port);
    if parent.is_gateway() {
        let text = "has no effect in this client: there is no gateway here";
        check.warn(Code::NoEffect, text);
    }
}

/// Names of rules must be unique, and their matches few.
fn rule_list<'n>(
    check: &mut Checker<'_>,
    names: impl ExactSizeIterator<Item = Option<&'n Located<String>>>,
    matches: usize,
) {
    at_most(check, "rules", names.len(), RULES);
    if matches >= ALL_MATCHES {
        check.error_at(
            "rules",
            "While 16 rules and 64 matches per rule are allowed, the total number of matches \
             across all rules in a route must be less than 128",
        );
    }
    let mut seen = BTreeSet::new();
    check.within("rules", |check| {
        for (index, name) in names.enumerate() {
            let Some(name) = name else { continue };
            check.within(index, |check| {
                if !is_dns_subdomain(name) {
                    check.error_at("name", format!("{} is no name", quoted(name)));
                }
                if !seen.insert(name.as_str()) {
                    check.error_at("name", "Rule name must be unique within the route");
                }
            });
        }
    });
}

/// Conditions on headers, of which each name counts once.
fn header_matches(check: &mut Checker<'_>, headers: &[Located<HttpHeaderMatch>]) {
    at_most(check, "headers", headers.len(), HEADERS);
    let mut seen: Vec<&str> = Vec::new();
    check.each("headers", headers, |check, header| {
        check.within("name", |check| {
            header_name(check, &header.name);
            name_is_new(check, &header.name, &mut seen, true);
        });
        value(check, header.match_type, &header.value.value);
    });
}

/// Exact repetitions are refused; names that differ in case only mean the same, and the first
/// counts.
fn name_is_new<'n>(
    check: &mut Checker<'_>,
    name: &'n str,
    seen: &mut Vec<&'n str>,
    ignore_case: bool,
) {
    if seen.contains(&name) {
        check.error(format!("{} stands twice", quoted(name)));
    } else if ignore_case && seen.iter().any(|one| one.eq_ignore_ascii_case(name)) {
        let text = format!(
            "{} stands twice in another case; the first counts",
            quoted(name)
        );
        check.warn(Code::Ineffective, text);
    }
    if name.len() > NAME {
        check.error(format!("{} bytes; a name has at most {NAME}", name.len()));
    }
    seen.push(name);
}

fn value(check: &mut Checker<'_>, how: ValueMatchType, wanted: &Located<String>) {
    check.within("value", |check| match how {
        ValueMatchType::Exact if wanted.is_empty() => check.error("value must not be empty"),
        ValueMatchType::Exact if wanted.len() > VALUE => {
            let text = format!("{} bytes; a value has at most {VALUE}", wanted.len());
            check.error(text);
        }
        ValueMatchType::Exact => {}
        ValueMatchType::RegularExpression => regex(check, wanted),
    });
}

/// What is common to all references to a backend.
struct Backend<'a> {
    group: Option<&'a str>,
    kind: Option<&'a str>,
    name: &'a str,
    namespace: Option<&'a str>,
    port: Option<u16>,
}

fn backend(check: &mut Checker<'_>, backend: &Backend<'_>) {
    if backend.name.is_empty() {
        check.error_at("name", "name is required");
    }
    if let Some(namespace) = backend.namespace.filter(|text| !is_dns_label(text)) {
        check.error_at(
            "namespace",
            format!("{} is no namespace", quoted(namespace)),
        );
    }
    port(check, "port", backend.port);
    let group = backend.group.unwrap_or_default();
    let kind = backend.kind.unwrap_or("Service");
    if group.is_empty() && kind == "Service" && backend.port.is_none() {
        check.error("Must have port for Service reference");
    }
}

fn weight(check: &mut Checker<'_>, weight: Option<u32>) {
    if let Some(weight) = weight.filter(|weight| *weight > WEIGHT) {
        check.error_at("weight", format!("weight {weight} is above {WEIGHT}"));
    }
}

/// A list has a limit.
fn at_most(check: &mut Checker<'_>, field: &'static str, count: usize, most: usize) {
    if count > most {
        check.error_at(
            field,
            format!("{count} entries; at most {most} are allowed"),
        );
    }
}
