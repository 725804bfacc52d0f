//! Endpoints that are names, and hosts that only the request knows.

use std::time::Duration;

use meshwork::model::Resources;
use meshwork::model::cluster::{Discovery, Dns, Families, Lookup};

use super::{assert_silent, assert_warns, compiled, resources};

fn entry(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: api, namespace: my-app}}\nspec:\n  \
         ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}]\n{spec}"
    )
}

fn bare(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: my-app}}\n\
         spec: {{ports: [{{name: http, port: 80, targetPort: 8080}}], {spec}}}\n"
    )
}

/// How a cluster finds its endpoints, and the addresses that are written for them.
fn found(resources: &Resources, cluster: &str) -> (Option<Lookup>, Vec<String>) {
    let lookup = match &resources.clusters[cluster].discovery {
        Discovery::Endpoints(name) => {
            assert_eq!(&**name, cluster);
            None
        }
        Discovery::Dns(Dns {
            endpoints,
            lookup,
            families: Families::Both,
            refresh,
        }) => {
            assert_eq!((&**endpoints, *refresh), (cluster, Duration::from_secs(60)));
            Some(*lookup)
        }
        other => panic!("{other:?}"),
    };
    let localities = &resources.endpoints[cluster].localities;
    let endpoints = localities.iter().flat_map(|one| &one.endpoints);
    (
        lookup,
        endpoints.map(|one| one.address.to_string()).collect(),
    )
}

#[test]
fn dns_resolves_the_endpoints_or_else_the_host_itself() {
    for (row, spec, lookup, expected) in [
        (
            "the host",
            "resolution: DNS",
            Lookup::Each,
            "api.example:8080",
        ),
        (
            "one of it",
            "resolution: DNS_ROUND_ROBIN",
            Lookup::One,
            "api.example:8080",
        ),
        (
            "endpoints",
            "resolution: DNS\n  endpoints: [{address: DB.example, ports: {http: 81}}, {address: 10.0.0.1}]",
            Lookup::Each,
            "db.example:81 10.0.0.1:8080",
        ),
    ] {
        let resources = resources(&[&entry(&format!("  hosts: [api.example]\n  {spec}"))]);
        let (how, addresses) = found(&resources, "outbound|80||api.example");
        assert_eq!(
            (how, &*addresses.join(" ")),
            (Some(lookup), expected),
            "{row}"
        );
    }
    let several = resources(&[&entry("  hosts: [a.example, b.example]\n  resolution: DNS")]);
    for host in ["a.example", "b.example"] {
        let (_, addresses) = found(&several, &format!("outbound|80||{host}"));
        assert_eq!(addresses, [format!("{host}:8080")]);
    }
}

#[test]
fn workload_entries_may_be_names_and_unix_sockets() {
    let group = |address: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
             metadata: {{name: vm, namespace: my-app}}\n\
             spec: {{address: '{address}', labels: {{app: api}}}}\n"
        )
    };
    let service = bare("api", "selector: {app: api}");
    for (address, expected) in [
        (
            "vm.example",
            (Some(Lookup::Each), vec!["vm.example:8080".to_owned()]),
        ),
        (
            "unix:///run/api.sock",
            (None, vec!["unix:/run/api.sock".to_owned()]),
        ),
    ] {
        let resources = resources(&[&service, &group(address)]);
        assert_eq!(
            found(&resources, "outbound|80||api.my-app.svc.cluster.local"),
            expected
        );
    }
}

#[test]
fn a_service_without_slices_is_what_dns_says_of_its_host() {
    const HOST: &str = "catalog.my-app.svc.cluster.local";
    for (spec, port) in [("clusterIP: 10.96.0.1", 80), ("clusterIP: None", 8080)] {
        let compiled = compiled(&[&bare("catalog", spec)]);
        let (how, addresses) = found(&compiled.resources, &format!("outbound|80||{HOST}"));
        assert_eq!(
            (how, addresses),
            (Some(Lookup::Each), vec![format!("{HOST}:{port}")])
        );
        assert_warns(&compiled, "M047", "its endpoints are what DNS says");
    }
    let listed = super::service("catalog.my-app", &[("http", 80)], &[("10.0.0.1", "v1")]);
    assert_silent(&compiled(&[&listed]), "M047");
}

#[test]
fn external_name_outside_of_the_mesh_is_resolved() {
    let alias = bare("db", "type: ExternalName, externalName: DB.example.com");
    let outside = compiled(&[&alias]);
    let (how, addresses) = found(
        &outside.resources,
        "outbound|80||db.my-app.svc.cluster.local",
    );
    assert_eq!(
        (how, addresses),
        (Some(Lookup::Each), vec!["db.example.com:8080".to_owned()])
    );
    assert!(outside.faults.is_empty(), "{}", outside.faults);
    let portless = "apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: my-app}\n\
                    spec: {type: ExternalName, externalName: db.example.com}\n";
    assert_warns(
        &compiled(&[portless]),
        "M047",
        "name the ports that it serves",
    );
}

#[test]
fn requests_go_where_they_ask_for_under_none_and_dynamic_dns() {
    for (resolution, port) in [("NONE", 80), ("DYNAMIC_DNS", 8080)] {
        let text = entry(&format!(
            "  hosts: ['*.example']\n  resolution: {resolution}"
        ));
        let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                    metadata: {name: api, namespace: my-app}\nspec:\n  host: '*.example'\n  \
                    trafficPolicy:\n    outlierDetection: {consecutive5xxErrors: 3}\n    \
                    connectionPool: {tcp: {connectTimeout: 3s}}\n";
        let compiled = compiled(&[&text, rule]);
        let cluster = &compiled.resources.clusters["outbound|80||*.example"];
        assert_eq!(cluster.discovery, Discovery::OnDemand { port });
        assert_eq!(cluster.connect_timeout, Duration::from_secs(3));
        assert_eq!(cluster.outlier, None);
        assert_warns(
            &compiled,
            "M",
            "outlierDetection has no effect for the host *.example",
        );
        assert!(compiled.resources.endpoints.is_empty());
    }
}
