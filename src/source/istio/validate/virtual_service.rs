//! The rules of a VirtualService (Istio's `validateVirtualService`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Checker;
use super::names::{
    export_to, host_fault, is_address_or_network, is_dns_label, is_dns_subdomain, labels, port,
};
use super::{http_action, http_match, reachable};
use crate::source::istio::fault::{Code, quoted};
use crate::source::istio::kinds::{
    Destination, HttpRoute, HttpRouteDestination, RouteDestination, TcpMatch, TcpRoute, TlsMatch,
    TlsRoute, VirtualService,
};
use crate::source::istio::yaml::Located;

pub(super) fn rules(check: &mut Checker<'_>, service: &VirtualService) {
    hosts(check, service);
    gateways(check, &service.gateways);
    export_to(check, &service.export_to);
    if service.http.is_empty() && service.tcp.is_empty() && service.tls.is_empty() {
        check.error("http, tcp or tls must be provided in virtual service");
    }
    let child = is_delegate(service);
    check.each("http", &service.http, |check, route| {
        http(check, route);
        delegation(check, route, child);
    });
    check.each("tls", &service.tls, |check, route| {
        tls(check, route, &service.hosts);
    });
    check.each("tcp", &service.tcp, |check, route| tcp(check, route));
    reachable::http(check, &service.http);
}

/// Hosts of one object; they are compared with each other.
const HOSTS: usize = 1_000;

fn bound_to_mesh(gateways: &[Located<String>]) -> bool {
    gateways.is_empty() || gateways.iter().any(|gateway| &**gateway == "mesh")
}

fn hosts(check: &mut Checker<'_>, service: &VirtualService) {
    if service.hosts.is_empty() {
        delegate(check, service);
    }
    let mesh = bound_to_mesh(&service.gateways);
    if service.hosts.len() > HOSTS {
        check.error_at("hosts", format!("more than {HOSTS} hosts"));
        return;
    }
    let mut earlier: Vec<&str> = Vec::new();
    check.within("hosts", |check| {
        for (index, host) in service.hosts.iter().enumerate() {
            check.within(index, |check| {
                host_rules(check, host, mesh);
                if let Some(other) = earlier.iter().find(|other| overlap(other, host)) {
                    let text = if *other == host.as_str() {
                        format!("duplicate host {}", quoted(host))
                    } else {
                        format!("{} overlaps with {}", quoted(host), quoted(other))
                    };
                    check.error(text);
                }
            });
            earlier.push(host);
        }
    });
}

/// Without hosts and with rules it can only be meant as a delegate.
fn is_delegate(service: &VirtualService) -> bool {
    service.hosts.is_empty() && !service.http.is_empty()
}

fn delegate(check: &mut Checker<'_>, service: &VirtualService) {
    if !is_delegate(service) {
        check.within("hosts", |check| {
            check.error_hint(
                "virtual service must have at least one host",
                "only a delegate has none, and a delegate has http rules",
            );
        });
        return;
    }
    for (field, given) in [
        ("gateways", !service.gateways.is_empty()),
        ("tls", !service.tls.is_empty()),
        ("tcp", !service.tcp.is_empty()),
    ] {
        if given {
            let text = format!("a delegate (a virtual service without hosts) must have no {field}");
            check.error_at(field, text);
        }
    }
    if service.export_to.iter().any(|entry| &**entry == "~") {
        check.error_at("exportTo", "a delegate that nobody sees has no effect");
    }
}

/// There is one level of delegation, and expressions cannot be compared when rules are merged.
fn delegation(check: &mut Checker<'_>, route: &HttpRoute, child: bool) {
    if child && route.delegate.is_some() {
        check.error_at("delegate", "a delegate cannot delegate");
    }
    if !child && route.delegate.is_none() {
        return;
    }
    check.each("match", &route.matches, |check, block| {
        let texts = [
            ("uri", &block.uri),
            ("scheme", &block.scheme),
            ("method", &block.method),
            ("authority", &block.authority),
        ];
        for (field, text) in texts {
            if text.as_ref().is_some_and(|text| text.regex.is_some()) {
                check.error_at(field, "a regex cannot be delegated: write exact or prefix");
            }
        }
        for (field, texts) in [
            ("headers", &block.headers),
            ("withoutHeaders", &block.without_headers),
            ("queryParams", &block.query_params),
        ] {
            if texts.values().any(|text| text.regex.is_some()) {
                check.error_at(field, "a regex cannot be delegated: write exact or prefix");
            }
        }
    });
}

fn host_rules(check: &mut Checker<'_>, host: &str, mesh: bool) {
    if let Some(fault) = host_fault(host) {
        check.error(fault);
    } else if host == "*" && mesh {
        check.error_hint(
            "wildcard host * is not allowed for virtual services bound to the mesh gateway",
            "name the hosts, or a suffix such as *.example.com",
        );
    } else if host
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_unspecified())
        && mesh
    {
        check.error("the wildcard address is not allowed for the mesh gateway");
    }
}

/// Whether one of two hosts is the other or, as a wildcard, contains it.
fn overlap(left: &str, right: &str) -> bool {
    let contains = |wildcard: &str, host: &str| match wildcard.strip_prefix('*') {
        Some(suffix) => host.strip_prefix('*').unwrap_or(host).ends_with(suffix),
        None => false,
    };
    left == right || contains(left, right) || contains(right, left)
}

fn gateways(check: &mut Checker<'_>, gateways: &[Located<String>]) {
    check.each("gateways", gateways, |check, gateway| {
        let valid = match gateway.split_once('/') {
            Some((namespace, name)) => is_dns_label(namespace) && is_dns_subdomain(name),
            None => is_dns_subdomain(gateway),
        };
        if !valid {
            let text = "is no gateway: expected mesh, name or namespace/name";
            check.error(format!("{} {text}", quoted(gateway)));
        }
    });
}

fn http(check: &mut Checker<'_>, route: &HttpRoute) {
    one_action(check, route);
    check.each("match", &route.matches, |check, block| {
        http_match::block(check, block);
    });
    check.within("match", |check| {
        if let Some(redirect) = &route.redirect {
            http_match::redirect_prefix(check, redirect, &route.matches);
        }
    });
    check.each("route", &route.route, |check, to| {
        http_destination(check, to)
    });
    weights(check, route.route.iter().map(|to| to.weight));
    http_action::rules(check, route);
}

/// A route does one thing: send, redirect, answer or delegate.
fn one_action(check: &mut Checker<'_>, route: &HttpRoute) {
    let actions = [
        ("route", !route.route.is_empty()),
        ("redirect", route.redirect.is_some()),
        ("directResponse", route.direct_response.is_some()),
        ("delegate", route.delegate.is_some()),
    ];
    let given: Vec<_> = actions
        .iter()
        .filter(|(_, given)| *given)
        .map(|(name, _)| *name)
        .collect();
    match given[..] {
        [] => check.error("HTTP route, redirect or direct_response is required"),
        [_] => {}
        [..] => check.error(format!("{} exclude each other", given.join(" and "))),
    }
    if route.redirect.is_some() || route.direct_response.is_some() {
        for (field, given) in [
            ("fault", route.fault.is_some()),
            ("rewrite", route.rewrite.is_some()),
        ] {
            if given {
                let text = format!("{field} cannot stand beside redirect or directResponse");
                check.error_at(field, text);
            }
        }
    }
}

fn weights(check: &mut Checker<'_>, weights: impl ExactSizeIterator<Item = u32>) {
    let count = weights.len();
    let weights: Vec<u64> = weights.map(u64::from).collect();
    let total: u64 = weights.iter().sum();
    match weights[..] {
        [] => {}
        // A weight of 100 says what happens, so it needs no comment.
        [0 | 100] => {}
        [weight] => check.within("route", |check| {
            let text = format!("the weight {weight} is ignored: there is one destination only");
            check.within(0_usize, |check| check.warn(Code::Suspicious, text));
        }),
        [..] if total == 0 => {
            check.error_at(
                "route",
                format!("the weights of {count} destinations sum up to 0"),
            );
        }
        [..] if total > u64::from(u32::MAX) => {
            check.error_at("route", "the weights sum up to more than 4294967295");
        }
        [..] => {}
    }
}

fn http_destination(check: &mut Checker<'_>, to: &HttpRouteDestination) {
    destination_of_route(check, to.destination.as_ref());
    check.some("headers", to.headers.as_ref(), http_action::headers);
}

fn destination_of_route(check: &mut Checker<'_>, to: Option<&Located<Destination>>) {
    match to {
        None => check.error_at("destination", "destination is required"),
        Some(to) => check.within("destination", |check| destination(check, to)),
    }
}

pub(super) fn destination(check: &mut Checker<'_>, to: &Destination) {
    check.within("host", |check| match to.host.as_str() {
        "*" => check.error("destination host must not be a wildcard"),
        host if host.starts_with("*.") => check.error("destination host must not be a wildcard"),
        host => {
            if let Some(fault) = host_fault(host) {
                check.error(fault);
            }
        }
    });
    check.some("subset", to.subset.as_ref(), |check, subset| {
        if !is_dns_label(subset) {
            check.error(format!(
                "{} is no subset name (DNS-1123 label)",
                quoted(subset)
            ));
        }
    });
    check.some("port", to.port.as_ref(), |check, selected| {
        port(check, "number", Some(selected.number));
    });
}

fn tls(check: &mut Checker<'_>, route: &TlsRoute, hosts: &[Located<String>]) {
    if route.matches.is_empty() {
        check.error_at("match", "TLS match must have at least one SNI host");
    }
    check.each("match", &route.matches, |check, block| {
        tls_match(check, block, hosts);
    });
    l4_route(check, &route.route);
}

fn tls_match(check: &mut Checker<'_>, block: &TlsMatch, hosts: &[Located<String>]) {
    if block.sni_hosts.is_empty() {
        check.error_at("sniHosts", "TLS match must have at least one SNI host");
    }
    check.each("sniHosts", &block.sni_hosts, |check, sni| {
        // `*` is every name, of an object that is for every host.
        let inner = match sni.as_str() {
            "*" => "",
            sni => sni.strip_prefix("*.").unwrap_or(sni),
        };
        let under = |host: &&Located<String>| {
            ***host == **sni
                || host
                    .strip_prefix('*')
                    .is_some_and(|suffix| sni.ends_with(suffix))
        };
        if inner.contains('*') || host_fault(sni).is_some() {
            check.error(format!("{} is no SNI host", quoted(sni)));
        } else if hosts.len() <= HOSTS && !hosts.iter().any(|host| under(&host)) {
            let text = format!(
                "SNI host {} is not among the hosts of the object",
                quoted(sni)
            );
            check.error(text);
        }
    });
    subnets(check, &block.destination_subnets);
    port(check, "port", block.port);
    check.within("sourceLabels", |check| labels(check, &block.source_labels));
    gateways(check, &block.gateways);
    http_match::source_namespace(check, block.source_namespace.as_deref());
}

fn tcp(check: &mut Checker<'_>, route: &TcpRoute) {
    check.each("match", &route.matches, tcp_match);
    l4_route(check, &route.route);
}

fn tcp_match(check: &mut Checker<'_>, block: &TcpMatch) {
    subnets(check, &block.destination_subnets);
    port(check, "port", block.port);
    check.no_effect(
        "sourceSubnet",
        block.source_subnet.is_some(),
        "Istio never implemented it",
    );
    check.within("sourceLabels", |check| labels(check, &block.source_labels));
    gateways(check, &block.gateways);
    http_match::source_namespace(check, block.source_namespace.as_deref());
}

fn subnets(check: &mut Checker<'_>, subnets: &[String]) {
    check.each("destinationSubnets", subnets, |check, subnet| {
        if !is_address_or_network(subnet) {
            check.error(format!(
                "{} is neither an address nor a network",
                quoted(subnet)
            ));
        }
    });
}

fn l4_route(check: &mut Checker<'_>, route: &[RouteDestination]) {
    let distinct: BTreeSet<_> = route.iter().map(|to| to.weight).collect();
    if route.is_empty() {
        check.error_at("route", "route is required");
    } else if route.len() > 1 && distinct.len() == 1 && distinct.contains(&0) {
        check.error_at(
            "route",
            format!("the weights of {} destinations sum up to 0", route.len()),
        );
    }
    check.each("route", route, |check, to| {
        destination_of_route(check, to.destination.as_ref());
    });
}
