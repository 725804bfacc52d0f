//! Services, their names, and who stands behind them.

use meshwork::model::endpoint::{Address, Health, Locality};

use super::*;

fn entry(name: &str, spec: &str) -> String {
    object("ServiceEntry", name, spec)
}

const EXTERNAL: &str = r"  hosts: [api.example.com]
  addresses: [240.0.0.9]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8000}]
  resolution: STATIC
  location: MESH_EXTERNAL
  endpoints:
  - {address: 10.9.0.1, weight: 3, labels: {version: v1}, locality: eu/a/r1}
  - {address: 10.9.0.2, ports: {http: 9000}}
  - {address: 'unix:///run/api.sock'}";

#[test]
fn every_service_port_has_listener_routes_cluster_and_endpoints() {
    let two = service(
        "two.my-app",
        &[("http", 80), ("grpc", 90)],
        &[("10.0.0.1", "v1")],
    );
    let resources = resources(&[&two]);
    let host = "two.my-app.svc.cluster.local";
    for (port, endpoint) in [(80, "10.0.0.1:8080"), (90, "10.0.0.1:8090")] {
        let name = format!("outbound|{port}||{host}");
        assert!(resources.listeners.contains_key(&*format!("{host}:{port}")));
        assert!(resources.routes.contains_key(&*name));
        assert!(resources.clusters.contains_key(&*name));
        assert_eq!(addresses(&resources, &name), [endpoint]);
    }
}

#[test]
fn port_configuration_and_own_configuration_share_the_virtual_host() {
    let resources = resources(&[&catalog()]);
    let own = &resources.routes[&*format!("outbound|80||{CATALOG}")].virtual_hosts[0];
    let of_port = &resources.routes["80"].virtual_hosts[0];
    assert!(std::sync::Arc::ptr_eq(own, of_port));
    assert_eq!(&*own.name, format!("{CATALOG}:80"));
}

#[test]
fn short_names_lead_to_the_service_as_the_clients_namespace_sees_it() {
    let address = catalog().replacen("spec:\n", "spec:\n  clusterIP: 10.96.0.7\n", 1);
    let names = |client: &Workload| -> Vec<String> {
        let compiled = compiled_as(client, &Options::default(), &[&address]);
        let port = &compiled.resources.routes["80"];
        [
            "catalog",
            "catalog.my-app",
            "catalog.my-app.svc",
            CATALOG,
            "10.96.0.7",
        ]
        .iter()
        .flat_map(|name| [(*name).to_owned(), format!("{name}:80")])
        .chain([format!("{CATALOG}."), "catalog:81".to_owned()])
        .filter(|name| owner(port, name).is_some())
        .collect()
    };
    assert_eq!(names(&order()).len(), 11, "all but the other port");
    let foreign = names(&Workload::new("shop", "cart"));
    assert_eq!(foreign.len(), 9);
    assert!(!foreign.contains(&"catalog".to_owned()));
}

#[test]
fn service_of_another_cluster_domain() {
    let client = order().with_cluster_domain("mesh.example");
    let compiled = compiled_as(&client, &Options::default(), &[&catalog()]);
    let name = "catalog.my-app.svc.mesh.example:80";
    assert!(compiled.resources.listeners.contains_key(name));
}

#[test]
fn service_that_is_not_exported_to_the_client_is_unknown() {
    let annotated = catalog().replacen(
        "metadata: {",
        "metadata: {annotations: {networking.istio.io/exportTo: \"., other\"}, ",
        1,
    );
    let seen = |namespace: &str| {
        let client = Workload::new(namespace, "x");
        let compiled = compiled_as(&client, &Options::default(), &[&annotated]);
        !compiled.resources.clusters.is_empty()
    };
    assert!(seen("my-app") && seen("other") && !seen("shop"));
    let private = entry("api.shop", &format!("{EXTERNAL}\n  exportTo: [\".\"]"));
    assert!(resources(&[&private]).is_empty());
}

#[test]
fn endpoint_port_is_found_by_the_name_of_the_service_port() {
    let renamed = catalog().replace("- {name: http, port: 8080}", "- {name: web, port: 8080}");
    let compiled = compiled(&[&renamed]);
    assert!(addresses(&compiled.resources, &format!("outbound|80||{CATALOG}")).is_empty());
    assert_warns(
        &compiled,
        "M047",
        "has a port named \"http\"; they have \"web\"",
    );
}

#[test]
fn unready_endpoints_are_kept_and_marked() {
    let marked = catalog()
        .replace(
            "{addresses: [10.0.0.1],",
            "{addresses: [10.0.0.1], conditions: {ready: false},",
        )
        .replace(
            "{addresses: [10.0.0.2],",
            "{addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: true},",
        );
    let resources = resources(&[&marked]);
    let endpoints = &resources.endpoints[&*format!("outbound|80||{CATALOG}")];
    let health: Vec<Health> = endpoints.localities[0]
        .endpoints
        .iter()
        .map(|endpoint| endpoint.health)
        .collect();
    assert_eq!(
        health,
        [Health::Unhealthy, Health::Draining, Health::Healthy]
    );
}

#[test]
fn slices_of_one_service_are_joined_and_an_address_counts_once() {
    let second = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: catalog-2, namespace: my-app, labels: {kubernetes.io/service-name: catalog}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.1]}
- {addresses: [10.0.0.9]}
";
    let sixth = second
        .replace("catalog-2", "catalog-6")
        .replace("IPv4", "IPv6")
        .replace("10.0.0.1", "'fd00::1'")
        .replace("10.0.0.9", "'fd00::9'");
    let name = format!("outbound|80||{CATALOG}");
    let expected = [
        "10.0.0.1:8080",
        "10.0.0.2:8080",
        "10.0.0.3:8080",
        "10.0.0.9:8080",
    ];
    let resources = resources(&[&catalog(), second, &sixth]);
    assert_eq!(addresses(&resources, &name), expected);
}

#[test]
fn a_pod_of_a_dual_stack_service_is_one_endpoint_with_two_addresses() {
    let slice = |name: &str, family: &str, one: &str, two: &str| {
        format!(
            "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, namespace: my-app, labels: {{kubernetes.io/service-name: search}}}}
addressType: {family}
ports: [{{name: http, port: 8080}}]
endpoints:
- {{addresses: ['{one}'], targetRef: {{kind: Pod, name: search-a}}}}
- {{addresses: ['{two}'], targetRef: {{kind: Pod, name: search-b}}}}
"
        )
    };
    let service = |families: &str| {
        format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: search, namespace: my-app}}
spec: {{ports: [{{name: http, port: 80}}], ipFamilies: {families}}}
"
        )
    };
    let (four, six) = (
        slice("search-4", "IPv4", "10.0.0.1", "10.0.0.2"),
        slice("search-6", "IPv6", "fd00::1", "fd00::2"),
    );
    let name = "outbound|80||search.my-app.svc.cluster.local";
    for (families, expected) in [
        (
            "[IPv4, IPv6]",
            [
                "10.0.0.1:8080,[fd00::1]:8080",
                "10.0.0.2:8080,[fd00::2]:8080",
            ],
        ),
        (
            "[IPv6, IPv4]",
            [
                "[fd00::1]:8080,10.0.0.1:8080",
                "[fd00::2]:8080,10.0.0.2:8080",
            ],
        ),
    ] {
        let resources = resources(&[&service(families), &six, &four]);
        assert_eq!(addresses(&resources, name), expected, "{families}");
    }
}

#[test]
fn legacy_endpoints_are_read_where_there_are_no_slices() {
    let legacy = "
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: my-app}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: catalog, namespace: my-app}
subsets:
- addresses: [{ip: 10.0.0.1}]
  notReadyAddresses: [{ip: 10.0.0.2}]
  ports: [{name: http, port: 8080}]
";
    let resources = resources(&[legacy]);
    let name = format!("outbound|80||{CATALOG}");
    assert_eq!(
        addresses(&resources, &name),
        ["10.0.0.1:8080", "10.0.0.2:8080"]
    );
    let endpoints = &resources.endpoints[&*name].localities[0].endpoints;
    assert_eq!(endpoints[1].health, Health::Unhealthy);
}

#[test]
fn external_name_is_another_name_of_the_service_behind_it() {
    let alias = |target: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: shelf, namespace: my-app}}\n\
             spec: {{type: ExternalName, externalName: {target}}}\n"
        )
    };
    let resources = resources(&[&catalog(), &alias(CATALOG)]);
    let listener = &resources.listeners["shelf.my-app.svc.cluster.local:80"];
    let own = &resources.listeners[&*format!("{CATALOG}:80")];
    assert_eq!(listener.routes, own.routes);
    let port = &resources.routes["80"];
    assert_eq!(owner(port, "shelf"), owner(port, "catalog"));
    assert_eq!(resources.clusters.len(), 1);

    let ruled = virtual_service(
        "shelf.my-app",
        "  hosts: [shelf]\n  http: [{route: [{destination: {host: shelf}}]}]",
    );
    let ruled = compiled(&[&catalog(), &alias(CATALOG), &ruled]);
    assert_warns(&ruled, "M023", "is another name of catalog.my-app.svc");

    let circle = compiled(&[&alias("shelf.my-app.svc.cluster.local")]);
    assert!(circle.resources.is_empty());
}

#[test]
fn static_entry_has_endpoints_with_ports_weights_and_localities() {
    let resources = resources(&[&entry("api.my-app", EXTERNAL)]);
    let endpoints = &resources.endpoints["outbound|80||api.example.com"];
    let at = |region: &str, zone: &str, sub_zone: &str| Locality {
        region: region.into(),
        zone: zone.into(),
        sub_zone: sub_zone.into(),
    };
    assert_eq!(endpoints.localities[0].locality, at("", "", ""));
    let unplaced = &endpoints.localities[0].endpoints;
    assert_eq!(
        unplaced[0].address.to_string(),
        "10.9.0.2:9000",
        "its own port"
    );
    assert!(matches!(unplaced[1].address, Address::Unix(_)));
    let placed = &endpoints.localities[1];
    assert_eq!(placed.locality, at("eu", "a", "r1"));
    assert_eq!(placed.weight.unwrap().get(), 3);
    assert_eq!(
        placed.endpoints[0].address.to_string(),
        "10.9.0.1:8000",
        "the target port"
    );
    assert_eq!(&*placed.endpoints[0].labels["version"], "v1");
    assert!(owner(&resources.routes["80"], "240.0.0.9:80").is_some());
}

#[test]
fn entry_selects_workload_entries_and_pods_of_its_namespace() {
    let selecting = entry(
        "api.my-app",
        "  hosts: [api.example.com]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  \
         resolution: STATIC\n  workloadSelector: {labels: {app: api}}",
    );
    let machine = |namespace: &str, address: &str| {
        let spec = format!("  address: {address}\n  labels: {{app: api}}\n  weight: 2");
        object("WorkloadEntry", &format!("machine.{namespace}"), &spec)
    };
    let pod = |name: &str, address: &str, phase: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: my-app, labels: \
             {{app: api}}}}\nspec: {{containers: []}}\nstatus: {{podIP: {address}, phase: {phase}}}\n"
        )
    };
    let resources = resources(&[
        &selecting,
        &machine("my-app", "10.8.0.1"),
        &machine("other", "10.8.0.2"),
        &pod("one", "10.8.0.3", "Running"),
        &pod("done", "10.8.0.4", "Succeeded"),
    ]);
    let name = "outbound|80||api.example.com";
    assert_eq!(addresses(&resources, name), ["10.8.0.1:80", "10.8.0.3:80"]);
}

#[test]
fn kubernetes_service_takes_workload_entries_that_its_selector_selects() {
    let machine = object(
        "WorkloadEntry",
        "machine.my-app",
        "  address: 10.8.0.1\n  labels: {app: catalog, version: v1}\n  ports: {http: 7000}",
    );
    let resources = resources(&[&catalog(), &machine]);
    let all = addresses(&resources, &format!("outbound|80||{CATALOG}"));
    assert!(all.contains(&"10.8.0.1:7000".to_owned()), "{all:?}");
}

#[test]
fn kubernetes_service_comes_before_an_entry_of_the_same_host() {
    let spec = EXTERNAL.replace("api.example.com", CATALOG);
    let compiled = compiled(&[&entry("early.my-app", &spec), &catalog()]);
    let all = addresses(&compiled.resources, &format!("outbound|80||{CATALOG}"));
    assert_eq!(all.len(), 3);
    assert!(all[0].starts_with("10.0.0."));
    assert_warns(&compiled, "M045", "is declared by 1.yaml:1");
}

#[test]
fn service_of_the_clients_namespace_comes_first() {
    let near = entry("near.my-app", &EXTERNAL.replace("10.9.0.1", "10.9.9.9"));
    let far = entry("far.aaa", EXTERNAL);
    let resources = resources(&[&far, &near]);
    let all = addresses(&resources, "outbound|80||api.example.com");
    assert!(all.contains(&"10.9.9.9:8000".to_owned()), "{all:?}");
}

#[test]
fn entries_of_one_namespace_and_host_are_one_service_with_all_ports() {
    let second = EXTERNAL.replace("number: 80,", "number: 81,");
    let resources = resources(&[
        &entry("one.my-app", EXTERNAL),
        &entry("two.my-app", &second),
    ]);
    assert!(
        resources
            .clusters
            .contains_key("outbound|80||api.example.com")
    );
    assert!(
        resources
            .clusters
            .contains_key("outbound|81||api.example.com")
    );
}

#[test]
fn wildcard_entry_is_reached_by_url_but_has_no_listener() {
    let spec = EXTERNAL.replace("api.example.com", "\"*.example.com\"");
    let resources = resources(&[&entry("all.my-app", &spec)]);
    assert!(resources.listeners.is_empty());
    assert!(owner(&resources.routes["80"], "*.example.com").is_some());
}

#[test]
fn outlier_detection_turns_failover_on_for_a_client_that_knows_where_it_is() {
    let spec = "  hosts: [api.example.com]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  \
                resolution: STATIC\n  endpoints:\n  - {address: 10.9.0.1, locality: us/a/1}\n  \
                - {address: 10.9.0.2, locality: eu/b/1}\n  - {address: 10.9.0.3, locality: eu/a/1}";
    let rule = |policy: &str| {
        let spec = format!("  host: api.example.com\n  trafficPolicy: {policy}");
        destination_rule("api.my-app", &spec)
    };
    let client = order().with_locality(Locality {
        region: "eu".into(),
        zone: "a".into(),
        sub_zone: "1".into(),
    });
    let priorities = |client: &Workload, policy: &str| -> Vec<u32> {
        let texts = [&*entry("api.my-app", spec), &rule(policy)];
        let compiled = compiled_as(client, &Options::default(), &texts);
        let endpoints = &compiled.resources.endpoints["outbound|80||api.example.com"];
        endpoints
            .localities
            .iter()
            .map(|one| one.priority)
            .collect()
    };
    // Localities are in the order of their names: eu/a, eu/b, us/a.
    assert_eq!(priorities(&client, "{outlierDetection: {}}"), [0, 1, 2]);
    assert_eq!(priorities(&order(), "{outlierDetection: {}}"), [0, 0, 0]);
    assert_eq!(
        priorities(&client, "{loadBalancer: {simple: RANDOM}}"),
        [0, 0, 0]
    );
    let off = "{outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}}";
    assert_eq!(priorities(&client, off), [0, 0, 0]);
}
