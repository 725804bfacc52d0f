//! The rules of a GRPCRoute.

use super::filter::{self, Filter};
use super::session::session;
use super::{
    BACKEND_REFS, Backend, FILTERS, MATCHES, at_most, backend, head, header_matches, rule_list,
    weight,
};
use crate::source::istio::fault::quoted;
use crate::source::istio::kinds::gateway_api::{
    GrpcMethodMatch, GrpcRouteRule, GrpcRouteSpec, ValueMatchType,
};
use crate::source::istio::validate::Checker;
use crate::source::istio::validate::names::regex;

pub(in super::super) fn rules(check: &mut Checker<'_>, route: &GrpcRouteSpec) {
    head(
        check,
        &route.parent_refs,
        &route.hostnames,
        route.use_default_gateways.as_deref(),
    );
    let matches = route.rules.iter().map(|rule| rule.matches.len()).sum();
    let names = route.rules.iter().map(|rule| rule.name.as_ref());
    rule_list(check, names, matches);
    check.each("rules", &route.rules, |check, rule| one(check, rule));
}

fn one(check: &mut Checker<'_>, rule: &GrpcRouteRule) {
    at_most(check, "matches", rule.matches.len(), MATCHES);
    at_most(check, "filters", rule.filters.len(), FILTERS);
    at_most(check, "backendRefs", rule.backend_refs.len(), BACKEND_REFS);
    check.some(
        "sessionPersistence",
        rule.session_persistence.as_ref(),
        session,
    );
    check.each("matches", &rule.matches, |check, block| {
        check.some("method", block.method.as_ref(), |check, m| method(check, m));
        header_matches(check, &block.headers);
    });
    filter::list(check, rule.filters.iter().map(|one| Filter::grpc(one)));
    check.each("backendRefs", &rule.backend_refs, |check, to| {
        backend(
            check,
            &Backend {
                group: to.group.as_deref(),
                kind: to.kind.as_deref(),
                name: &to.name,
                namespace: to.namespace.as_deref(),
                port: to.port,
            },
        );
        weight(check, to.weight);
        at_most(check, "filters", to.filters.len(), FILTERS);
        filter::list(check, to.filters.iter().map(|one| Filter::grpc(one)));
        filter::of_backend(check, to.filters.iter().map(|one| Filter::grpc(one)));
    });
}

fn method(check: &mut Checker<'_>, method: &GrpcMethodMatch) {
    if method.service.is_none() && method.method.is_none() {
        check.error("One or both of 'service' or 'method' must be specified");
    }
    let parts = [
        ("service", &method.service, is_service as fn(&str) -> bool),
        ("method", &method.method, is_method),
    ];
    for (field, text, valid) in parts {
        check.some(field, text.as_ref(), |check, text| {
            match method.match_type {
                ValueMatchType::Exact if !valid(text) => {
                    check.error(format!("{} is no name of a gRPC {field}", quoted(text)));
                }
                ValueMatchType::Exact => {}
                ValueMatchType::RegularExpression => regex(check, text),
            }
        });
    }
    // Both together are one expression, which has a limit of its own.
    let both = method.service.is_some() && method.method.is_some();
    if let Some(pattern) = method.pattern().filter(|_| both) {
        regex(check, &pattern);
    }
}

/// `^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$`
fn is_service(text: &str) -> bool {
    let text = text.strip_prefix('.').unwrap_or(text);
    text.len() <= 1_024 && text.split('.').all(is_method)
}

/// `^[A-Za-z_][A-Za-z_0-9]*$`
fn is_method(text: &str) -> bool {
    text.len() <= 1_024
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
