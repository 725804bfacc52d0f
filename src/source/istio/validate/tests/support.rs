//! Everything that is known and not in force says so.

use super::{refuses, rule_tests, warns};

type Shape = (&'static str, String);

fn route(text: &str) -> Shape {
    let to = "route: [{destination: {host: catalog}}]";
    let spec = format!("{{hosts: [catalog], http: [{{{to}, {text}}}]}}");
    ("VirtualService", spec)
}

fn service(text: &str) -> Shape {
    ("VirtualService", format!("{{hosts: [catalog], {text}}}"))
}

fn policy(text: &str) -> Shape {
    let spec = format!("{{host: catalog, trafficPolicy: {{{text}}}}}");
    ("DestinationRule", spec)
}

fn subset_policy(text: &str) -> Shape {
    let spec = format!("{{host: catalog, subsets: [{{name: v1, trafficPolicy: {{{text}}}}}]}}");
    ("DestinationRule", spec)
}

fn port_policy(text: &str) -> Shape {
    policy(&format!(
        "portLevelSettings: [{{port: {{number: 80}}, {text}}}]"
    ))
}

fn workload(text: &str) -> Shape {
    ("WorkloadEntry", text.to_owned())
}

fn kubernetes(text: &str) -> Shape {
    ("Service", format!("{{ports: [{{port: 80}}], {text}}}"))
}

fn slice(text: &str) -> Shape {
    ("EndpointSlice", text.to_owned())
}

rule_tests! {
    tcp_routes: refuses(service, "tcp: [{route: [{destination: {host: a}}]}]")
        => "tcp: tcp is known, not yet supported";
    tls_routes: refuses(service,
        "tls: [{match: [{sniHosts: [catalog]}], route: [{destination: {host: a}}]}]")
        => "tls: tls is known, not yet supported";
    a_mirror_of_a_redirect: warns(service,
        "http: [{redirect: {uri: /a}, mirror: {host: a}}]")
        => "http[0].mirror: mirror has no effect in this client: requests that are answered here \
            are not copied";
    remote_localities: refuses(route, "retries: {attempts: 1, retryRemoteLocalities: true}")
        => "http[0].retries.retryRemoteLocalities: retryRemoteLocalities is known, not yet supported";
    cors: warns(route, "corsPolicy: {allowMethods: [GET]}")
        => "http[0].corsPolicy: corsPolicy has no effect in this client: CORS is for browsers, \
            which do not call through it";
    stat_prefixes: warns(route, "match: [{statPrefix: a}]")
        => "http[0].match[0].statPrefix: statPrefix has no effect in this client: metrics carry \
            the name of the route";
    a_share_without_a_mirror: warns(route, "mirrorPercentage: {value: 10}")
        => "http[0].mirrorPercentage: mirrorPercentage has no effect in this client: it is the \
            share of mirror, which is absent";
    passthrough: refuses(policy, "loadBalancer: {simple: PASSTHROUGH}")
        => "trafficPolicy.loadBalancer.simple: PASSTHROUGH is known, not yet supported";
    zones: refuses(policy, "loadBalancer: {zoneAwareLbSetting: {}}")
        => "trafficPolicy.loadBalancer.zoneAwareLbSetting: zoneAwareLbSetting is known, not yet \
            supported";
    zones_of_a_subset: refuses(subset_policy, "loadBalancer: {zoneAwareLbSetting: {}}")
        => "subsets[0].trafficPolicy.loadBalancer.zoneAwareLbSetting: zoneAwareLbSetting is known, \
            not yet supported";
    zones_of_a_port: refuses(port_policy, "loadBalancer: {zoneAwareLbSetting: {}}")
        => "trafficPolicy.portLevelSettings[0].loadBalancer.zoneAwareLbSetting: \
            zoneAwareLbSetting is known, not yet supported";
    warmup_of_a_hash: warns(policy,
        "loadBalancer: {consistentHash: {useSourceIp: true}, warmup: {duration: 1s}}")
        => "trafficPolicy.loadBalancer.warmup: warmup has no effect in this client: a hash decides, \
            which knows no shares that grow";
    a_secret: refuses(policy, "tls: {mode: MUTUAL, credentialName: a}")
        => "trafficPolicy.tls.credentialName: credentialName is known, not yet supported";
    a_secret_of_a_port: refuses(port_policy, "tls: {mode: SIMPLE, credentialName: a}")
        => "trafficPolicy.portLevelSettings[0].tls.credentialName: credentialName is known, not yet \
            supported";
    a_tunnel: refuses(policy, "tunnel: {targetHost: a, targetPort: 80}")
        => "trafficPolicy.tunnel: tunnel is known, not yet supported";
    the_proxy_protocol: refuses(policy, "proxyProtocol: {version: V2}")
        => "trafficPolicy.proxyProtocol: proxyProtocol is known, not yet supported";
    a_network: refuses(workload, "{address: 10.0.0.1, network: a}")
        => "network: network is known, not yet supported";
    local_traffic: refuses(kubernetes, "internalTrafficPolicy: Local")
        => "internalTrafficPolicy: internalTrafficPolicy Local is known, not yet supported";
    traffic_distribution: warns(kubernetes, "trafficDistribution: PreferClose")
        => "trafficDistribution: trafficDistribution has no effect in this client: preferring near \
            endpoints is known, not yet supported";
    names_in_slices: refuses(slice, "addressType: FQDN\nendpoints: [{addresses: [a.b]}]")
        => "addressType: addressType FQDN is known, not yet supported";
}
