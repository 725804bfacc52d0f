//! The rules of Linkerd's HTTPLocalRateLimitPolicy and Server.

use super::Checker;
use super::names::labels;
use crate::source::istio::fault::quoted;
use crate::source::istio::kinds::{
    HttpLocalRateLimitPolicy, LinkerdServer, RateLimitClient, RateLimitOverride, RateLimitTarget,
    TargetPort,
};

/// More than that in a second cannot be told apart.
const MOST: u32 = 1_000_000;
const GROUP: &str = "policy.linkerd.io";

pub(super) fn policy(check: &mut Checker<'_>, policy: &HttpLocalRateLimitPolicy) {
    let HttpLocalRateLimitPolicy {
        target_ref,
        total,
        identity,
        overrides,
    } = policy;
    if !cfg!(feature = "rate-limit") {
        check.error("a limit of requests needs the feature \"rate-limit\" of this library");
    }
    match target_ref {
        None => check.error("a policy needs a targetRef, the Server that it is for"),
        Some(target) => check.within("targetRef", |check| self::target(check, target)),
    }
    let total = total.as_ref().map(|total| total.requests_per_second);
    let within = |check: &mut Checker<'_>, rate: u32| {
        if !(1..=MOST).contains(&rate) {
            check.error(format!("{rate} is out of bounds: 1 to {MOST} are allowed"));
        } else if total.is_some_and(|total| rate > total) {
            check.error(format!(
                "{rate} is more than total.requestsPerSecond, which bounds it"
            ));
        }
    };
    let rate = |check: &mut Checker<'_>, rate: u32| {
        check.within("requestsPerSecond", |check| within(check, rate));
    };
    check.some("total", total.as_ref(), |check, total| rate(check, *total));
    check.some("identity", identity.as_ref(), |check, identity| {
        rate(check, identity.requests_per_second);
    });
    check.each("overrides", overrides, |check, one| {
        let RateLimitOverride {
            requests_per_second,
            client_refs,
        } = &**one;
        rate(check, *requests_per_second);
        if client_refs.is_empty() {
            check.error("an override needs clientRefs, the callers that it is for");
        }
        check.each("clientRefs", client_refs, |check, one| client(check, one));
    });
}

fn target(check: &mut Checker<'_>, target: &RateLimitTarget) {
    let RateLimitTarget { group, kind, name } = target;
    if group != GROUP || kind != "Server" {
        check.error(format!(
            "a policy is for a Server of {GROUP}, found {} of {}",
            quoted(kind),
            quoted(group)
        ));
    }
    if name.is_empty() {
        check.error_at("name", "a Server is named");
    }
}

fn client(check: &mut Checker<'_>, client: &RateLimitClient) {
    let RateLimitClient {
        group,
        kind,
        namespace: _,
        name,
    } = client;
    if !group.is_empty() || kind != "ServiceAccount" {
        check.error(format!(
            "a caller is a ServiceAccount, found {} of {}",
            quoted(kind),
            quoted(group)
        ));
    }
    if name.is_empty() {
        check.error_at("name", "a ServiceAccount is named");
    }
}

pub(super) fn server(check: &mut Checker<'_>, server: &LinkerdServer) {
    let LinkerdServer {
        pod_selector,
        port,
        proxy_protocol,
        access_policy,
    } = server;
    match pod_selector {
        None => check.error("a Server needs a podSelector"),
        Some(selector) => check.within("podSelector", |check| {
            check.within("matchLabels", |check| labels(check, &selector.match_labels));
        }),
    }
    match port {
        None => check.error("a Server needs a port"),
        Some(TargetPort::Number(1..)) => {}
        Some(_) => check.error_at("port", "a port is a number here, 1 to 65535"),
    }
    let allowed = ["unknown", "HTTP/1", "HTTP/2", "gRPC"];
    if let Some(other) = proxy_protocol
        && !allowed.contains(&other.as_str())
    {
        check.error_at(
            "proxyProtocol",
            format!(
                "{} is not served here: {} are",
                quoted(other),
                allowed.join(", ")
            ),
        );
    }
    if !matches!(
        access_policy.as_deref(),
        Some("all-unauthenticated" | "audit")
    ) {
        let found = access_policy.as_deref().unwrap_or("deny");
        check.error_hint(
            format!(
                "accessPolicy {} is not enforced here: all-unauthenticated and audit are, which let \
                 everybody",
                quoted(found)
            ),
            "who may call is for Istio's AuthorizationPolicy to say",
        );
    }
}
