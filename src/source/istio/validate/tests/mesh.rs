//! Sidecar, WorkloadGroup and the mesh configuration.

use super::{Severity, accepts, refuses, rule_tests, warns};
use crate::source::istio::{Options, read};

type Shape = (&'static str, String);

fn sidecar(text: &str) -> Shape {
    ("Sidecar", format!("{{{text}}}"))
}

fn egress(text: &str) -> Shape {
    sidecar(&format!("egress: [{{{text}}}]"))
}

fn group(text: &str) -> Shape {
    ("WorkloadGroup", format!("{{{text}}}"))
}

rule_tests! {
    a_sidecar_says_something: refuses(sidecar, "") => "sidecar: empty configuration provided";
    a_listener_has_hosts: refuses(egress, "hosts: []")
        => "egress[0].hosts: an egress listener must have at least one host";
    a_host_has_a_namespace: refuses(egress, "hosts: [a.b]")
        => "egress[0].hosts[0]: \"a.b\" is not namespace/host";
    a_namespace_is_one: refuses(egress, "hosts: ['A/*']")
        => "egress[0].hosts[0]: \"A\" is neither ., *, ~ nor a namespace";
    a_host_is_one: refuses(egress, "hosts: ['./a b']")
        => "egress[0].hosts[0]: \"a b\" is no host: expected a DNS name, *.suffix or an IP address";
    nobody_is_nobody: refuses(egress, "hosts: ['~/a.b']")
        => "egress[0].hosts[0]: \"~/a.b\" names nobody: expected ~/*";
    an_egress_proxy: warns(sidecar,
        "outboundTrafficPolicy: {mode: REGISTRY_ONLY, egressProxy: {host: a.b}}")
        => "outboundTrafficPolicy.egressProxy: egressProxy has no effect in this client: it counts \
            where mode is ALLOW_ANY";
    a_listener_port: warns(egress, "hosts: ['*/*'], port: {number: 80, name: a}")
        => "egress[0].port: port has no effect in this client: there are no listeners: the hosts \
            are seen on all ports";
    ingress: warns(sidecar, "ingress: [{port: {number: 80}, defaultEndpoint: '127.0.0.1:80'}]")
        => "ingress: ingress has no effect in this client: it configures the listeners of a proxy \
            for incoming requests";
    an_inbound_pool_of_a_proxy: warns(sidecar, "inboundConnectionPool: {http: {http2MaxRequests: 5, maxRetries: 1}}")
        => "inboundConnectionPool.http.maxRetries: maxRetries has no effect in this client: requests \
            arrive in the program itself, which no proxy connects to; maxConnections and \
            http2MaxRequests are in force";
    an_inbound_pool_says_something: refuses(sidecar, "inboundConnectionPool: {}")
        => "inboundConnectionPool: connection pool must have at least one field";
    a_group_has_a_template: refuses(group, "metadata: {labels: {app: a}}")
        => "template: a workload group must have a template";
    a_group_is_a_template: warns(group, "template: {ports: {http: 80}}, probe: {httpGet: {port: 1}}")
        => "a WorkloadGroup is a template from which a control plane registers machines: by itself \
            it has no endpoints, write a WorkloadEntry for each machine";
}

#[test]
fn what_istio_accepts_of_a_sidecar_is_accepted() {
    for text in [
        "egress: [{hosts: ['./*', 'istio-system/*', '*/a.b', 'c/*.d', '~/*']}]",
        "workloadSelector: {labels: {app: a}}, outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
        "inboundConnectionPool: {tcp: {maxConnections: 3}, http: {http2MaxRequests: 5}}",
    ] {
        let (kind, spec) = sidecar(text);
        accepts(kind, &spec);
    }
}

/// Lines and messages of what is said about a mesh configuration, as a document and in a ConfigMap.
fn said(config: &[&str]) -> [Vec<(u32, String, Severity)>; 2] {
    let lines = |indent: &str| -> String {
        config
            .iter()
            .map(|line| format!("{indent}{line}\n"))
            .collect()
    };
    let texts = [
        format!("\n\n\n\nmesh:\n{}", lines("  ")),
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio-1-29}}\ndata:\n  mesh: |-\n{}",
            lines("    ")
        ),
    ];
    texts.map(|text| {
        let read = read([("mesh.yaml", text)], &Options::default());
        let faults = read.faults.iter();
        faults
            .map(|fault| (fault.line(), fault.message().to_string(), fault.severity()))
            .collect()
    })
}

#[test]
fn the_mesh_configuration_is_checked_where_it_stands() {
    use Severity::{Error, Warning};
    for (config, line, message, severity) in [
        (
            &["rootNamespace: A"][..],
            6,
            "rootNamespace: \"A\" is no namespace",
            Error,
        ),
        (
            &["connectTimeout: 3s", "dnsRefreshRate: 1x"],
            7,
            "dnsRefreshRate: ",
            Error,
        ),
        (
            &["ingressClass: istio"],
            6,
            "ingressClass: ingressClass has no effect",
            Warning,
        ),
        (
            &["trustDomain: TD"],
            6,
            "trustDomain: \"TD\" is no trust domain",
            Error,
        ),
        (
            &["outboundTrafficPolicy: {mode: NOWHERE}"],
            6,
            "outboundTrafficPolicy.mode: ",
            Error,
        ),
        (
            &[
                "defaultHttpRetryPolicy:",
                "  attempts: 2",
                "  retryOn: 5xxx",
            ],
            8,
            "defaultHttpRetryPolicy.retryOn: unknown token \"5xxx\"",
            Error,
        ),
        (
            &["localityLbSetting: {distribute: [{from: a, to: {b: 50}}]}"],
            6,
            "the locality weights sum up to 50, not 100",
            Error,
        ),
    ] {
        for said in said(config) {
            let [(at, text, how)] = &said[..] else {
                panic!("{config:?}: {said:?}")
            };
            assert_eq!((*at, *how), (line, severity), "{text}");
            assert!(text.contains(message), "{text}");
        }
    }
    for said in said(&[
        "rootNamespace: root",
        "connectTimeout: 3s",
        "defaultServiceExportTo: ['.']",
    ]) {
        assert!(said.is_empty(), "{said:?}");
    }
}

#[test]
fn two_mesh_configurations_and_broken_text_are_faults_and_other_maps_are_not_read() {
    let all = |text: &str| {
        let read = read([("mesh.yaml", text)], &Options::default());
        read.faults
            .iter()
            .map(|fault| fault.message().to_string())
            .collect::<Vec<_>>()
            .join("; ")
    };
    let map = |name: &str, text: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{mesh: '{text}'}}\n"
        )
    };
    let twice = all(&format!(
        "mesh: {{rootNamespace: a}}\n---\n{}",
        map("istio", "connectTimeout: 3s")
    ));
    assert!(twice.contains("written twice"), "{twice}");
    let broken = all(&map("istio", "a: [b"));
    assert!(broken.contains("in the text of mesh: "), "{broken}");
    let other = all(&map("other", "rootNamespace: A"));
    assert!(other.contains("ConfigMap is known"), "{other}");
}
