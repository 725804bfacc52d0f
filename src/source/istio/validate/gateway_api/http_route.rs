//! The rules of an HTTPRoute.

use std::time::Duration;

use super::filter::{self, Filter};
use super::session::session;
use super::{
    BACKEND_REFS, Backend, FILTERS, HEADERS, MATCHES, PATH, at_most, backend, head, header_matches,
    name_is_new, rule_list, value, weight,
};
use crate::source::istio::fault::quoted;
use crate::source::istio::kinds::gateway_api::{
    HttpBackendRef, HttpPathMatch, HttpRouteMatch, HttpRouteRetry, HttpRouteRule, HttpRouteSpec,
    HttpRouteTimeouts, PathMatchType,
};
use crate::source::istio::validate::Checker;
use crate::source::istio::validate::names::regex;

const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

pub(in super::super) fn rules(check: &mut Checker<'_>, route: &HttpRouteSpec) {
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

fn one(check: &mut Checker<'_>, rule: &HttpRouteRule) {
    at_most(check, "matches", rule.matches.len(), MATCHES);
    at_most(check, "filters", rule.filters.len(), FILTERS);
    at_most(check, "backendRefs", rule.backend_refs.len(), BACKEND_REFS);
    check.some(
        "sessionPersistence",
        rule.session_persistence.as_ref(),
        session,
    );
    check.each("matches", &rule.matches, |check, block| {
        matches(check, block)
    });
    let filters = || rule.filters.iter().map(|one| Filter::http(one));
    filter::list(check, filters());
    let redirects = filters().any(|filter| filter.redirects());
    if redirects && !rule.backend_refs.is_empty() {
        check.error("RequestRedirect filter must not be used together with backendRefs");
    }
    filter::prefix_needs_one_match(check, filters(), &rule.matches);
    check.each("backendRefs", &rule.backend_refs, |check, to| {
        destination(check, to);
    });
    check.some("timeouts", rule.timeouts.as_ref(), |c, t| timeouts(c, t));
    check.some("retry", rule.retry.as_ref(), |check, r| retry(check, r));
}

fn matches(check: &mut Checker<'_>, block: &HttpRouteMatch) {
    check.some("path", block.path.as_ref(), |check, p| path(check, p));
    header_matches(check, &block.headers);
    at_most(check, "queryParams", block.query_params.len(), HEADERS);
    let mut seen = Vec::new();
    check.each("queryParams", &block.query_params, |check, parameter| {
        check.within("name", |check| {
            if parameter.name.is_empty() {
                check.error("name is required");
            }
            name_is_new(check, &parameter.name, &mut seen, false);
        });
        value(check, parameter.match_type, &parameter.value.value);
    });
    check.some("method", block.method.as_ref(), |check, method| {
        if !METHODS.contains(&method.as_str()) {
            let text = format!("{} is no method of an HTTPRoute", quoted(method));
            check.error_hint(text, format!("allowed: {}", METHODS.join(", ")));
        }
    });
}

fn path(check: &mut Checker<'_>, path: &HttpPathMatch) {
    let Some(value) = &path.value else { return };
    check.within("value", |check| match path.match_type {
        PathMatchType::Exact | PathMatchType::PathPrefix => literal_path(check, value),
        PathMatchType::RegularExpression => regex(check, value),
    });
}

/// A path that is compared as it is must be one that a request can have after normalisation.
fn literal_path(check: &mut Checker<'_>, path: &str) {
    const TYPES: &str = "when type one of ['Exact', 'PathPrefix']";
    if !path.starts_with('/') {
        check.error(format!(
            "value must be an absolute path and start with '/' {TYPES}"
        ));
    }
    for part in ["//", "/./", "/../", "%2f", "%2F", "#"] {
        if path.contains(part) {
            check.error(format!("must not contain '{part}' {TYPES}"));
        }
    }
    for end in ["/..", "/."] {
        if path.ends_with(end) {
            check.error(format!("must not end with '{end}' {TYPES}"));
        }
    }
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@%#".contains(&b);
    if !path.bytes().all(known) {
        check.error(format!(
            "{} has characters that a path cannot have unescaped",
            quoted(path)
        ));
    }
    if path.len() > PATH {
        check.error(format!("{} bytes; a path has at most {PATH}", path.len()));
    }
}

fn destination(check: &mut Checker<'_>, to: &HttpBackendRef) {
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
    filter::list(check, to.filters.iter().map(|one| Filter::http(one)));
    filter::of_backend(check, to.filters.iter().map(|one| Filter::http(one)));
}

fn timeouts(check: &mut Checker<'_>, timeouts: &HttpRouteTimeouts) {
    let HttpRouteTimeouts {
        request,
        backend_request,
    } = timeouts;
    let (Some(request), Some(backend)) = (request, backend_request) else {
        return;
    };
    if backend > request && request.0 != Duration::ZERO {
        check.error("backendRequest timeout cannot be longer than request timeout");
    }
}

fn retry(check: &mut Checker<'_>, retry: &HttpRouteRetry) {
    check.each("codes", &retry.codes, |check, code| {
        if !(400..=599).contains(&code.value) {
            check.error(format!("status {} is outside of 400 to 599", code.value));
        }
    });
    if retry.codes.len() > 200 {
        check.error_at("codes", "more than 200 statuses");
    }
    if retry.backoff.is_some_and(|pause| pause.0 == Duration::ZERO) {
        check.error_at("backoff", "backoff must be longer than 0s");
    }
}
