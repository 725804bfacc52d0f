//! What the kinds can say and this client does not do yet, one function per kind.
//!
//! A field of a kind is in force, or it stands here: refused, because ignoring it would make
//! somebody believe in something that does not happen; or answered with a warning, because it
//! cannot matter to this client. Whoever implements a field removes its line.

use super::Checker;
use crate::source::istio::fault::Code;
use crate::source::istio::kinds::{
    ConnectionPool, DestinationRule, EndpointSlice, HttpPool, HttpRoute, LoadBalancer, Resolution,
    Service, ServiceEntry, TcpPool, TrafficPolicy, VirtualService,
};

pub(super) fn virtual_service(check: &mut Checker<'_>, service: &VirtualService) {
    // A program opens its own sockets: no bytes pass through here that are not HTTP, so there is
    // nothing that such a rule could be believed to do to them.
    let reason = "only HTTP and gRPC go through it, and connections of other protocols are the program's own";
    check.no_effect("tcp", !service.tcp.is_empty(), reason);
    // At a Gateway with mode PASSTHROUGH there are such connections.
    let gateways = service.gateways.iter().any(|gateway| &***gateway != "mesh");
    check.no_effect("tls", !service.tls.is_empty() && !gateways, reason);
    check.each("http", &service.http, |check, route| {
        http_route(check, route);
        if !gateways {
            schemes(check, route);
        }
    });
}

/// At a Gateway there are requests of both schemes, in the mesh of one.
fn schemes(check: &mut Checker<'_>, route: &HttpRoute) {
    const SCHEME: &str = "http";
    check.each("match", &route.matches, |check, block| {
        let wanted = block.scheme.as_ref();
        let other = wanted.is_some_and(|scheme| {
            let exact = scheme.exact.as_deref();
            let prefix = scheme.prefix.as_deref();
            exact.is_some_and(|text| !text.is_empty() && text != SCHEME)
                || prefix.is_some_and(|text| !SCHEME.starts_with(text))
        });
        if other && block.gateways.is_empty() {
            let text = "no request of this client has it: callers write http, whether the mesh encrypts or not";
            check.within("scheme", |check| check.warn(Code::NoEffect, text));
        }
    });
}

fn http_route(check: &mut Checker<'_>, route: &HttpRoute) {
    let answered = route.redirect.is_some() || route.direct_response.is_some();
    for (field, given) in [
        ("mirror", route.mirror.is_some()),
        ("mirrors", !route.mirrors.is_empty()),
    ] {
        let reason = "requests that are answered here are not copied";
        check.no_effect(field, given && answered, reason);
    }
    let alone = route.mirror.is_none();
    let shares = [
        ("mirrorPercent", route.mirror_percent.is_some()),
        ("mirrorPercentage", route.mirror_percentage.is_some()),
    ];
    for (field, given) in shares {
        check.no_effect(
            field,
            given && alone,
            "it is the share of mirror, which is absent",
        );
    }
    let reason = "CORS is for browsers, which do not call through it";
    check.no_effect("corsPolicy", route.cors_policy.is_some(), reason);
}

pub(super) fn destination_rule(check: &mut Checker<'_>, rule: &DestinationRule) {
    let policy = rule.traffic_policy.as_ref();
    check.some("trafficPolicy", policy, |check, policy| {
        traffic_policy(check, policy)
    });
    check.each("subsets", &rule.subsets, |check, subset| {
        let policy = subset.traffic_policy.as_ref();
        check.some("trafficPolicy", policy, |check, policy| {
            traffic_policy(check, policy)
        });
    });
}

pub(super) fn traffic_policy(check: &mut Checker<'_>, policy: &TrafficPolicy) {
    check.some("loadBalancer", policy.load_balancer.as_ref(), |c, b| {
        load_balancer(c, b)
    });
    let reason = "it is for tcp and tls routes, which are none of this client's";
    check.no_effect("tunnel", policy.tunnel.is_some(), reason);
    check.each(
        "portLevelSettings",
        &policy.port_level_settings,
        |check, settings| {
            check.some("loadBalancer", settings.load_balancer.as_ref(), |c, b| {
                load_balancer(c, b)
            });
        },
    );
}

/// Of a pool for requests that arrive two limits concern a port; the rest is about connections that
/// a sidecar makes to its program, which is this process.
pub(super) fn inbound_pool(check: &mut Checker<'_>, pool: &ConnectionPool) {
    let reason = "requests arrive in the program itself, which no proxy connects to; maxConnections and \
                  http2MaxRequests are in force";
    check.some("tcp", pool.tcp.as_ref(), |check, tcp| {
        let TcpPool {
            max_connections: _,
            connect_timeout,
            tcp_keepalive,
            max_connection_duration,
            idle_timeout,
        } = tcp;
        for (field, given) in [
            ("connectTimeout", connect_timeout.is_some()),
            ("tcpKeepalive", tcp_keepalive.is_some()),
            ("maxConnectionDuration", max_connection_duration.is_some()),
            ("idleTimeout", idle_timeout.is_some()),
        ] {
            check.no_effect(field, given, reason);
        }
    });
    check.some("http", pool.http.as_ref(), |check, http| {
        let HttpPool {
            http1_max_pending_requests,
            http2_max_requests: _,
            max_requests_per_connection,
            max_retries,
            idle_timeout,
            h2_upgrade_policy,
            use_client_protocol,
            max_concurrent_streams,
            http2_keepalive,
        } = http;
        for (field, given) in [
            (
                "http1MaxPendingRequests",
                http1_max_pending_requests.is_some(),
            ),
            (
                "maxRequestsPerConnection",
                max_requests_per_connection.is_some(),
            ),
            ("maxRetries", max_retries.is_some()),
            ("idleTimeout", idle_timeout.is_some()),
            ("h2UpgradePolicy", h2_upgrade_policy.is_some()),
            ("useClientProtocol", use_client_protocol.is_some()),
            ("maxConcurrentStreams", max_concurrent_streams.is_some()),
            ("http2KeepAlive", http2_keepalive.is_some()),
        ] {
            check.no_effect(field, given, reason);
        }
    });
}

fn load_balancer(check: &mut Checker<'_>, balancer: &LoadBalancer) {
    let reason = "it needs to know how many clients each zone has, which only a control plane can say; \
                  write localityLbSetting";
    let zones = balancer.zone_aware_lb_setting.is_some();
    check.no_effect("zoneAwareLbSetting", zones, reason);
    let hashed = balancer.consistent_hash.is_some();
    let warmups = [
        ("warmup", balancer.warmup.is_some()),
        (
            "warmupDurationSecs",
            balancer.warmup_duration_secs.is_some(),
        ),
    ];
    for (field, given) in warmups {
        let reason = "a hash decides, which knows no shares that grow";
        check.no_effect(field, given && hashed, reason);
    }
}

pub(super) fn service_entry(check: &mut Checker<'_>, entry: &ServiceEntry) {
    let asked = matches!(entry.resolution, Resolution::None | Resolution::DynamicDns);
    check.no_effect(
        "workloadSelector",
        asked && entry.workload_selector.is_some(),
        "this resolution goes to the host that the request asks for",
    );
}

pub(super) fn service(check: &mut Checker<'_>, service: &Service) {
    let said = service.traffic_distribution.as_deref();
    let known = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    let other = said.is_some_and(|said| !known.contains(&said));
    let reason = "PreferClose, PreferSameZone and PreferSameNode are known";
    check.no_effect("trafficDistribution", other, reason);
}

pub(super) fn endpoint_slice(check: &mut Checker<'_>, slice: &EndpointSlice) {
    let names = slice
        .address_type
        .as_ref()
        .is_some_and(|kind| &***kind == "FQDN");
    let reason = "Istio does not read such slices either; write the IP addresses";
    check.no_effect("addressType", names, reason);
}
