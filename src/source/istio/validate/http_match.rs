//! The rules of a VirtualService's match blocks.

use super::Checker;
use super::names::{header_name, is_dns_label, is_dns_subdomain, labels, port, regex};
use crate::source::istio::fault::{Code, quoted};
use crate::source::istio::kinds::{HttpMatch, Redirect, StringMatch};
use crate::source::istio::yaml::Located;

/// The prefix of Istio's pseudo-headers for claims of a token.
const CLAIMS: &str = "@request.auth.claims";

/// Headers of one `withoutHeaders`; each is looked up among all.
const HEADERS: usize = 1_000;

pub(super) fn block(check: &mut Checker<'_>, block: &HttpMatch) {
    for (field, matcher) in [
        ("uri", &block.uri),
        ("scheme", &block.scheme),
        ("method", &block.method),
        ("authority", &block.authority),
    ] {
        check.some(field, matcher.as_ref(), string_match);
    }
    let regex_uri = block.uri.as_ref().is_some_and(|uri| uri.regex.is_some());
    let reason = "it is for exact and prefix; write (?i) in the expression";
    check.no_effect("ignoreUriCase", block.ignore_uri_case && regex_uri, reason);
    check.within("headers", |check| {
        for (name, matcher) in &block.headers {
            check.within_key(name, |check| header(check, name, matcher));
        }
    });
    if block.without_headers.len() > HEADERS {
        check.error_at("withoutHeaders", format!("more than {HEADERS} headers"));
        return;
    }
    check.within("withoutHeaders", |check| {
        for (name, matcher) in &block.without_headers {
            check.within_key(name, |check| {
                if check.is_null() {
                    check.error("a header of withoutHeaders needs a matcher; {} means any value");
                }
                header(check, name, matcher);
            });
        }
    });
    check.within("queryParams", |check| {
        for (name, matcher) in &block.query_params {
            check.within_key(name, |check| string_match(check, matcher));
        }
    });
    port(check, "port", block.port);
    check.within("sourceLabels", |check| labels(check, &block.source_labels));
    source_namespace(check, block.source_namespace.as_deref());
    check.each("gateways", &block.gateways, |check, gateway| {
        let name = gateway
            .split_once('/')
            .map_or(&***gateway, |(_, name)| name);
        if !is_dns_subdomain(name) {
            check.error(format!("{} is no gateway", quoted(gateway)));
        }
    });
}

pub(super) fn source_namespace(check: &mut Checker<'_>, namespace: Option<&str>) {
    if let Some(namespace) = namespace.filter(|namespace| !is_dns_label(namespace)) {
        let text = format!("{} is no namespace", quoted(namespace));
        check.error_at("sourceNamespace", text);
    }
}

fn header(check: &mut Checker<'_>, name: &str, matcher: &StringMatch) {
    if name.starts_with(CLAIMS) {
        check.error("JWT claim based routing is for gateways, not for the mesh");
        return;
    }
    header_name(check, name);
    // `exact: ""` and no matcher at all mean "is present", and so does the expression `*`, which
    // is no expression otherwise.
    let present = matcher.regex.as_ref().is_some_and(|regex| &**regex == "*");
    if !present {
        string_match(check, matcher);
    }
}

pub(super) fn string_match(check: &mut Checker<'_>, matcher: &StringMatch) {
    let StringMatch {
        exact,
        prefix,
        regex: pattern,
    } = matcher;
    let given = [exact.is_some(), prefix.is_some(), pattern.is_some()];
    if given.iter().filter(|given| **given).count() > 1 {
        check.error("exact, prefix and regex exclude each other");
    }
    if prefix.as_deref() == Some("") {
        check.error_at("prefix", "prefix must not be empty");
    }
    check.some("regex", pattern.as_ref(), |check, pattern| {
        regex(check, pattern)
    });
}

/// A redirect's `prefixRewrite` replaces the matched prefix, so every match must have one.
pub(super) fn redirect_prefix(
    check: &mut Checker<'_>,
    redirect: &Redirect,
    matches: &[Located<HttpMatch>],
) {
    if redirect.prefix_rewrite.is_none() {
        return;
    }
    for (index, block) in matches.iter().enumerate() {
        let other = |uri: &StringMatch| uri.exact.is_some() || uri.regex.is_some();
        if block.uri.as_ref().is_some_and(other) {
            check.within(index, |check| {
                check.error_at("uri", "prefixRewrite of a redirect needs a match by prefix");
            });
        }
    }
}

/// Says what an Envoy substitution in a header value does here.
pub(super) fn header_value(check: &mut Checker<'_>, value: &str) {
    if http::HeaderValue::from_str(value).is_err() {
        check.error(format!("{} is no header value", quoted(value)));
    } else if value.replace("%%", "").contains('%') {
        let text = "Envoy's substitutions (%...%) have no effect in this client: \
                    the value is sent as it is written";
        check.warn(Code::NoEffect, text);
    }
}
