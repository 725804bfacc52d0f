//! The rules of what an HTTP route does besides choosing a destination.

use std::time::Duration;

use super::Checker;
use super::http_match::{header_value, string_match};
use super::names::{
    duration, duration_or_zero, header_name, http_status, is_dns_label, port, regex, whole_percent,
};
use super::virtual_service::destination;
use crate::error::GRPC_STATUSES;
use crate::source::istio::fault::{did_you_mean, quoted};
use crate::source::istio::kinds::{
    CorsPolicy, DirectResponse, FaultAbort, FaultDelay, FaultInjection, HeaderOperations, Headers,
    HttpRoute, Percent, Redirect, Retries, Rewrite,
};

/// Conditions of a retry besides status codes: Envoy's, then those of gRPC.
const RETRY_ON: &[&str] = &[
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// Conditions of one `retryOn`: all names and all statuses.
const RETRY_TOKENS: usize = RETRY_ON.len() + 400;

const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*",
];

/// The longest body of a direct response.
const DIRECT_BODY_BYTES: usize = 1 << 20;

pub(super) fn rules(check: &mut Checker<'_>, route: &HttpRoute) {
    duration_or_zero(check, "timeout", route.timeout);
    check.some("retries", route.retries.as_ref(), |check, r| {
        retries(check, r)
    });
    check.some("fault", route.fault.as_ref(), |check, f| fault(check, f));
    check.some("redirect", route.redirect.as_ref(), |check, r| {
        redirect(check, r)
    });
    check.some("rewrite", route.rewrite.as_ref(), |check, r| {
        rewrite(check, r)
    });
    let direct = route.direct_response.as_ref();
    check.some("directResponse", direct, |check, d| {
        direct_response(check, d)
    });
    check.some("headers", route.headers.as_ref(), |check, changes| {
        headers(check, changes);
        one_authority(check, changes, route.rewrite.as_deref());
    });
    check.some("corsPolicy", route.cors_policy.as_ref(), |check, c| {
        cors(check, c)
    });
    mirrors(check, route);
    delegate(check, route);
}

pub(super) fn retries(check: &mut Checker<'_>, retries: &Retries) {
    let Retries {
        attempts,
        per_try_timeout,
        retry_on,
        retry_remote_localities,
        retry_ignore_previous_hosts,
        backoff,
    } = retries;
    let others = per_try_timeout.is_some()
        || retry_on.is_some()
        || retry_remote_localities.is_some()
        || retry_ignore_previous_hosts.is_some()
        || backoff.is_some();
    if *attempts == 0 && others {
        check.error_hint(
            "http retry policy configured when attempts are set to 0 (disabled)",
            "set attempts, or write retries: {} to switch retries off",
        );
    }
    duration(check, "perTryTimeout", *per_try_timeout);
    duration(check, "backoff", *backoff);
    check.some("retryOn", retry_on.as_ref(), |check, tokens| {
        if tokens.split(',').count() > RETRY_TOKENS {
            check.error(format!("more than {RETRY_TOKENS} conditions"));
            return;
        }
        for token in tokens.split(',').filter(|_| !tokens.is_empty()) {
            retry_token(check, token);
        }
    });
}

/// The list is split without trimming, as Istio does, so a blank after a comma is a fault.
fn retry_token(check: &mut Checker<'_>, token: &str) {
    let status = token.parse::<u16>().ok();
    let digits = token.bytes().all(|b| b.is_ascii_digit());
    if RETRY_ON.contains(&token) {
        return;
    }
    if let Some(status) = status.filter(|_| digits) {
        if !(200..=599).contains(&status) {
            check.error(format!("status {status} is outside of 200 to 599"));
        }
        return;
    }
    let text = format!("unknown token {}", quoted(token));
    if token.is_empty() {
        check.error_hint("empty token", "remove the comma that nothing follows");
    } else if token.trim() != token {
        check.error_hint(text, "write no blanks around the commas");
    } else if let Some(near) = did_you_mean(token, RETRY_ON.iter().copied()) {
        check.error_hint(text, format!("did you mean {near:?}?"));
    } else {
        let allowed = RETRY_ON.join(", ");
        check.error_hint(text, format!("allowed: {allowed} and 200 to 599"));
    }
}

fn fault(check: &mut Checker<'_>, fault: &FaultInjection) {
    if fault.delay.is_none() && fault.abort.is_none() {
        check.error("HTTP fault injection must have an abort and/or a delay");
    }
    check.some("delay", fault.delay.as_ref(), delay);
    check.some("abort", fault.abort.as_ref(), abort);
}

fn delay(check: &mut Checker<'_>, delay: &FaultDelay) {
    if delay.exponential_delay.is_some() {
        check.error_at("exponentialDelay", "exponentialDelay not supported yet");
    } else if delay.fixed_delay.is_none() {
        check.error_at("fixedDelay", "a delay needs fixedDelay");
    }
    duration(check, "fixedDelay", delay.fixed_delay);
    percentage(check, delay.percentage);
    whole_percent(check, "percent", delay.percent);
    check.deprecated(
        "percent",
        delay.percent.is_some(),
        "write percentage: {value: ...}",
    );
    let absent = delay.percentage.is_none() && delay.percent.is_none();
    never_injected(check, absent);
}

fn abort(check: &mut Checker<'_>, abort: &FaultAbort) {
    if abort.http2_error.is_some() {
        check.error_at(
            "http2Error",
            "HTTP/2 abort fault injection not supported yet",
        );
    }
    match (abort.http_status, &abort.grpc_status) {
        (None, None) => check.error("an abort needs httpStatus or grpcStatus"),
        (Some(_), Some(_)) => check.error("httpStatus and grpcStatus exclude each other"),
        (Some(status), None) => http_status(check, "httpStatus", status),
        (None, Some(status)) if !GRPC_STATUSES.contains(&&***status) => {
            check.within("grpcStatus", |check| {
                let text = format!("{} is no gRPC status", quoted(status));
                let near = did_you_mean(status, GRPC_STATUSES.iter().copied());
                let hint = match near {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("allowed: {}", GRPC_STATUSES.join(", ")),
                };
                check.error_hint(text, hint);
            });
        }
        (None, Some(_)) => {}
    }
    percentage(check, abort.percentage);
    never_injected(check, abort.percentage.is_none());
}

/// Istio injects nothing when the share is left out, which surprises everybody once.
fn never_injected(check: &mut Checker<'_>, absent: bool) {
    if absent {
        let text = "nothing is injected: without percentage the share is 0 %";
        check.warn(crate::source::istio::fault::Code::Suspicious, text);
    }
}

fn percentage(check: &mut Checker<'_>, percent: Option<Percent>) {
    let Some(Percent { value }) = percent else {
        return;
    };
    // The share is held in parts per million, so a smaller one would silently be none.
    if value != 0.0 && !(0.0001..=100.0).contains(&value) {
        check.within("percentage", |check| {
            let text = format!("percentage {value} is neither 0 nor between 0.0001 and 100");
            check.error_at("value", text);
        });
    }
}

fn redirect(check: &mut Checker<'_>, redirect: &Redirect) {
    let Redirect {
        uri,
        prefix_rewrite,
        authority,
        port: number,
        derive_port,
        scheme,
        redirect_code,
    } = redirect;
    let texts = [uri, prefix_rewrite, authority, scheme];
    let any = texts.iter().any(|text| text.is_some());
    if !any && number.is_none() && derive_port.is_none() {
        check.error("redirect must specify URI, authority, scheme, or port");
    }
    if uri.is_some() && prefix_rewrite.is_some() {
        check.error("uri and prefixRewrite exclude each other");
    }
    if number.is_some() && derive_port.is_some() {
        check.error("port and derivePort exclude each other");
    }
    if let Some(scheme) = scheme
        .as_deref()
        .filter(|scheme| !matches!(*scheme, "http" | "https"))
    {
        let text = format!("{} is neither http nor https", quoted(scheme));
        check.error_at("scheme", text);
    }
    if let Some(code) = redirect_code.filter(|code| !matches!(code, 301..=303 | 307 | 308)) {
        let text = format!("{code} is not 301, 302, 303, 307 or 308");
        check.error_at("redirectCode", text);
    }
    authority_value(check, authority.as_deref());
    port(check, "port", *number);
}

fn authority_value(check: &mut Checker<'_>, authority: Option<&str>) {
    if let Some(authority) = authority
        && authority.parse::<http::uri::Authority>().is_err()
    {
        check.error_at(
            "authority",
            format!("{} is no authority", quoted(authority)),
        );
    }
}

fn rewrite(check: &mut Checker<'_>, rewrite: &Rewrite) {
    let Rewrite {
        uri,
        authority,
        uri_regex_rewrite,
    } = rewrite;
    if uri.is_none() && authority.is_none() && uri_regex_rewrite.is_none() {
        check.error("rewrite must specify uri, authority, or uriRegexRewrite");
    }
    if uri.is_some() && uri_regex_rewrite.is_some() {
        check.error("uri and uriRegexRewrite exclude each other");
    }
    authority_value(check, authority.as_deref());
    check.some(
        "uriRegexRewrite",
        uri_regex_rewrite.as_ref(),
        |check, replace| {
            match &replace.matches {
                Some(pattern) => check.within("match", |check| regex(check, pattern)),
                None => check.error_at("match", "match is required"),
            }
            if replace.rewrite.is_none() {
                check.error_at("rewrite", "rewrite is required");
            }
        },
    );
}

fn direct_response(check: &mut Checker<'_>, response: &DirectResponse) {
    http_status(check, "status", response.status);
    check.some("body", response.body.as_ref(), |check, body| {
        let bytes = body.bytes.as_ref().map(|bytes| bytes.len() / 4 * 3);
        let length = body.string.as_ref().map(String::len).or(bytes);
        match (&body.string, &body.bytes) {
            (None, None) => check.error("a body is string or bytes"),
            (Some(_), Some(_)) => check.error("string and bytes exclude each other"),
            (Some(_), None) => {}
            (None, Some(bytes)) => check.within("bytes", |check| {
                if !is_base64(bytes) {
                    check.error("bytes must be base64");
                }
            }),
        }
        if let Some(length) = length.filter(|length| *length > DIRECT_BODY_BYTES) {
            let text = format!("{length} bytes; a direct response has at most {DIRECT_BODY_BYTES}");
            check.error(text);
        }
    });
}

/// Standard base64 with its padding, in which proto3-JSON writes bytes.
fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let known = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    text.len().is_multiple_of(4) && text.len() - digits.len() <= 2 && digits.bytes().all(known)
}

pub(super) fn headers(check: &mut Checker<'_>, headers: &Headers) {
    check.some("request", headers.request.as_ref(), |check, operations| {
        header_operations(check, operations, true);
    });
    check.some(
        "response",
        headers.response.as_ref(),
        |check, operations| {
            header_operations(check, operations, false);
        },
    );
}

fn header_operations(check: &mut Checker<'_>, operations: &HeaderOperations, request: bool) {
    for (field, values) in [("set", &operations.set), ("add", &operations.add)] {
        check.within(field, |check| {
            for (name, value) in values {
                check.within_key(name, |check| {
                    changed_header(check, name, request);
                    header_value(check, value);
                });
            }
        });
    }
    check.each("remove", &operations.remove, |check, name| {
        if name.eq_ignore_ascii_case("host") {
            check.error("the host header cannot be removed");
        }
        changed_header(check, name, false);
    });
}

fn changed_header(check: &mut Checker<'_>, name: &str, authority: bool) {
    if authority && name == ":authority" {
        return;
    }
    if name.starts_with(':') {
        check.error(format!(
            "{}: pseudo headers cannot be changed",
            quoted(name)
        ));
    } else {
        header_name(check, name);
    }
}

fn is_authority(name: &str) -> bool {
    name == ":authority" || name.eq_ignore_ascii_case("host")
}

/// Two ways to set the authority cannot both win.
fn one_authority(check: &mut Checker<'_>, headers: &Headers, rewrite: Option<&Rewrite>) {
    let Some(request) = &headers.request else {
        return;
    };
    let names = request.set.keys().chain(request.add.keys());
    let mut ways = names.filter(|name| is_authority(name)).count();
    ways += usize::from(rewrite.is_some_and(|rewrite| rewrite.authority.is_some()));
    if ways > 1 {
        check.error_at("request", "the authority is set in more than one way");
    }
}

fn cors(check: &mut Checker<'_>, cors: &CorsPolicy) {
    check.each("allowOrigins", &cors.allow_origins, string_match);
    check.each("allowMethods", &cors.allow_methods, |check, method| {
        if !METHODS.contains(&&**method) {
            check.error(format!("{} is no HTTP method", quoted(method)));
        }
    });
    for (field, names) in [
        ("allowHeaders", &cors.allow_headers),
        ("exposeHeaders", &cors.expose_headers),
    ] {
        check.each(field, names, |check, name| {
            if name != "*" {
                header_name(check, name);
            }
        });
    }
    let age = cors.max_age.map(Duration::from);
    if age.is_some_and(|age| age.subsec_nanos() != 0) {
        check.error_at("maxAge", "maxAge must be whole seconds");
    }
}

fn mirrors(check: &mut Checker<'_>, route: &HttpRoute) {
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        check.error_at(
            "mirrors",
            "HTTP route cannot contain both mirror and mirrors",
        );
    }
    check.some("mirror", route.mirror.as_ref(), |check, to| {
        destination(check, to)
    });
    check.each("mirrors", &route.mirrors, |check, mirror| {
        match &mirror.destination {
            Some(to) => check.within("destination", |check| destination(check, to)),
            None => check.error_at("destination", "destination is required"),
        }
        percentage(check, mirror.percentage);
    });
    whole_percent(check, "mirrorPercent", route.mirror_percent);
    let instead = "write mirrorPercentage: {value: ...}";
    check.deprecated("mirrorPercent", route.mirror_percent.is_some(), instead);
    if let Some(Percent { value }) = route.mirror_percentage
        && value != 0.0
        && !(0.0001..=100.0).contains(&value)
    {
        let text = format!("percentage {value} is neither 0 nor between 0.0001 and 100");
        check.error_at("mirrorPercentage", text);
    }
}

fn delegate(check: &mut Checker<'_>, route: &HttpRoute) {
    check.some("delegate", route.delegate.as_ref(), |check, delegate| {
        if delegate.name.is_empty() {
            check.error_at("name", "a delegate needs a name");
        }
        if let Some(namespace) = delegate
            .namespace
            .as_ref()
            .filter(|name| !is_dns_label(name))
        {
            check.error_at(
                "namespace",
                format!("{} is no namespace", quoted(namespace)),
            );
        }
    });
}
