//! The rules of Linkerd's HTTPLocalRateLimitPolicy and Server.

use super::{accepts, refuses, rule_tests};

const FOR: &str = "targetRef: {group: policy.linkerd.io, kind: Server, name: web}";

fn policy(text: &str) -> (&'static str, String) {
    let target = if text.contains("targetRef") { "" } else { FOR };
    let comma = if target.is_empty() || text.is_empty() {
        ""
    } else {
        ", "
    };
    (
        "HTTPLocalRateLimitPolicy",
        format!("{{{target}{comma}{text}}}"),
    )
}

fn server(text: &str) -> (&'static str, String) {
    ("Server", format!("{{{text}}}"))
}

#[cfg(feature = "rate-limit")]
rule_tests! {
    a_policy_is_for_a_server: refuses(policy,
        "targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: web}")
        => "targetRef: a policy is for a Server of policy.linkerd.io, found \"HTTPRoute\" of \
            \"policy.linkerd.io\"";
    a_rate_is_bounded: refuses(policy, "total: {requestsPerSecond: 0}")
        => "total.requestsPerSecond: 0 is out of bounds: 1 to 1000000 are allowed";
    the_total_bounds_the_others: refuses(policy,
        "total: {requestsPerSecond: 5}, identity: {requestsPerSecond: 6}")
        => "identity.requestsPerSecond: 6 is more than total.requestsPerSecond, which bounds it";
    an_override_has_callers: refuses(policy, "overrides: [{requestsPerSecond: 5}]")
        => "overrides[0]: an override needs clientRefs, the callers that it is for";
    a_caller_is_a_service_account: refuses(policy,
        "overrides: [{requestsPerSecond: 5, clientRefs: [{kind: Pod, name: a}]}]")
        => "overrides[0].clientRefs[0]: a caller is a ServiceAccount, found \"Pod\" of \"\"";
    a_server_selects: refuses(server, "port: 80, accessPolicy: audit")
        => "a Server needs a podSelector";
    a_port_is_a_number: refuses(server,
        "podSelector: {}, port: http, accessPolicy: audit")
        => "port: a port is a number here, 1 to 65535";
    what_is_not_http_is_not_served: refuses(server,
        "podSelector: {}, port: 80, accessPolicy: audit, proxyProtocol: opaque")
        => "proxyProtocol: \"opaque\" is not served here: unknown, HTTP/1, HTTP/2, gRPC are";
    a_server_that_denies_is_not_enforced: refuses(server, "podSelector: {}, port: 80")
        => "accessPolicy \"deny\" is not enforced here: all-unauthenticated and audit are, which \
            let everybody";
}

#[cfg(feature = "rate-limit")]
#[test]
fn what_linkerd_accepts_is_accepted() {
    for text in [
        "",
        "total: {requestsPerSecond: 100}, identity: {requestsPerSecond: 20}",
        "overrides: [{requestsPerSecond: 25, clientRefs: [{kind: ServiceAccount, name: a, \
         namespace: b}]}]",
    ] {
        let (kind, text) = policy(text);
        accepts(kind, &text);
    }
    accepts(
        "Server",
        "{podSelector: {matchLabels: {app: a}}, port: 8080, accessPolicy: all-unauthenticated}",
    );
}
