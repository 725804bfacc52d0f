//! Everything that is known and not in force says so.

use super::{rule_tests, warns};

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

fn kubernetes(text: &str) -> Shape {
    ("Service", format!("{{ports: [{{port: 80}}], {text}}}"))
}

fn slice(text: &str) -> Shape {
    ("EndpointSlice", text.to_owned())
}

rule_tests! {
    tcp_routes: warns(service, "tcp: [{route: [{destination: {host: a}}]}]")
        => "tcp: tcp has no effect in this client: only HTTP and gRPC go through it, and \
            connections of other protocols are the program's own";
    tls_routes: warns(service,
        "tls: [{match: [{sniHosts: [catalog]}], route: [{destination: {host: a}}]}]")
        => "tls: tls has no effect in this client: only HTTP and gRPC go through it, and \
            connections of other protocols are the program's own";
    a_mirror_of_a_redirect: warns(service,
        "http: [{redirect: {uri: /a}, mirror: {host: a}}]")
        => "http[0].mirror: mirror has no effect in this client: requests that are answered here \
            are not copied";
    cors: warns(route, "corsPolicy: {allowMethods: [GET]}")
        => "http[0].corsPolicy: corsPolicy has no effect in this client: CORS is for browsers, \
            which do not call through it";
    a_scheme_that_no_request_has: warns(route, "match: [{scheme: {exact: https}}, {scheme: {prefix: ht}}]")
        => "http[0].match[0].scheme: no request of this client has it: callers write http, whether the \
            mesh encrypts or not";
    a_share_without_a_mirror: warns(route, "mirrorPercentage: {value: 10}")
        => "http[0].mirrorPercentage: mirrorPercentage has no effect in this client: it is the \
            share of mirror, which is absent";
    zones: warns(policy, "loadBalancer: {zoneAwareLbSetting: {}}")
        => "trafficPolicy.loadBalancer.zoneAwareLbSetting: zoneAwareLbSetting has no effect in this \
            client: it needs to know how many clients each zone has, which only a control plane can \
            say; write localityLbSetting";
    zones_of_a_subset: warns(subset_policy, "loadBalancer: {zoneAwareLbSetting: {}}")
        => "subsets[0].trafficPolicy.loadBalancer.zoneAwareLbSetting: zoneAwareLbSetting has no \
            effect in this client: it needs to know how many clients each zone has, which only a \
            control plane can say; write localityLbSetting";
    zones_of_a_port: warns(port_policy, "loadBalancer: {zoneAwareLbSetting: {}}")
        => "trafficPolicy.portLevelSettings[0].loadBalancer.zoneAwareLbSetting: \
            zoneAwareLbSetting has no effect in this client: it needs to know how many clients each \
            zone has, which only a control plane can say; write localityLbSetting";
    warmup_of_a_hash: warns(policy,
        "loadBalancer: {consistentHash: {useSourceIp: true}, warmup: {duration: 1s}}")
        => "trafficPolicy.loadBalancer.warmup: warmup has no effect in this client: a hash decides, \
            which knows no shares that grow";
    a_tunnel: warns(policy, "tunnel: {targetHost: a, targetPort: 80}")
        => "trafficPolicy.tunnel: tunnel has no effect in this client: it is for tcp and tls routes, \
            which are none of this client's";
    traffic_distribution: warns(kubernetes, "trafficDistribution: PreferHome")
        => "trafficDistribution: trafficDistribution has no effect in this client: PreferClose, \
            PreferSameZone and PreferSameNode are known";
    names_in_slices: warns(slice, "addressType: FQDN\nendpoints: [{addresses: [a.b]}]")
        => "addressType: addressType has no effect in this client: Istio does not read such slices \
            either; write the IP addresses";
}
