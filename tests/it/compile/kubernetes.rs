//! What the mesh reads of Kubernetes' own kinds, and what it leaves alone.

use meshwork::model::endpoint::{Endpoint, Health};

use super::*;

const CLUSTER: &str = "outbound|80||catalog.my-app.svc.cluster.local";

/// The endpoints of the catalog with the zones of their localities.
fn members(texts: &[&str]) -> Vec<(String, Endpoint)> {
    let resources = resources(texts);
    let localities = resources.endpoints[CLUSTER].localities.iter();
    let of_each = localities.flat_map(|one| {
        let zone = one.locality.zone.to_string();
        one.endpoints
            .iter()
            .map(move |endpoint| (zone.clone(), endpoint.clone()))
    });
    of_each.collect()
}

#[test]
fn all_cluster_addresses_are_names_of_the_service() {
    let spec = "spec:\n  clusterIP: 10.96.0.7\n  clusterIPs: [10.96.0.7, 'fd00::7']\n";
    let resources = resources(&[&catalog().replacen("spec:\n", spec, 1)]);
    for name in ["10.96.0.7", "10.96.0.7:80", "[fd00::7]", "[fd00::7]:80"] {
        assert!(owner(&resources.routes["80"], name).is_some(), "{name}");
    }
}

#[test]
fn target_port_is_that_of_selected_workload_entries() {
    let port = "- {name: http, port: 80}";
    let service = catalog().replace(port, "- {name: http, port: 80, targetPort: 7070}");
    let machine = object(
        "WorkloadEntry",
        "machine.my-app",
        "  address: 10.8.0.1\n  labels: {app: catalog}",
    );
    let resources = resources(&[&service, &machine]);
    let all = addresses(&resources, CLUSTER);
    assert!(all.contains(&"10.8.0.1:7070".to_owned()), "{all:?}");
    assert!(
        all.contains(&"10.0.0.1:8080".to_owned()),
        "the slice says the port: {all:?}"
    );
}

#[test]
fn ports_of_other_transports_have_no_endpoints() {
    let udp = catalog().replace(
        "- {name: http, port: 8080}",
        "- {name: http, port: 8080, protocol: UDP}",
    );
    assert!(members(&[&udp]).is_empty());
}

#[test]
fn zone_of_an_endpoint_is_its_zone_unless_its_pod_says_so() {
    let zoned = catalog().replace(
        "{addresses: [10.0.0.1],",
        "{addresses: [10.0.0.1], zone: z1,",
    );
    let zones = |text: &str| -> Vec<String> {
        members(&[text]).into_iter().map(|(zone, _)| zone).collect()
    };
    assert_eq!(zones(&zoned), ["", "", "z1"]);
    let label = "labels: {topology.kubernetes.io/zone: z9, app: catalog,";
    let labelled = zoned.replacen("labels: {app: catalog,", label, 1);
    assert_eq!(zones(&labelled), ["", "", "z9"]);
}

#[test]
fn pod_behind_an_address_is_found_by_name_or_by_address() {
    let version = |text: &str| {
        let members = members(&[text]);
        let label = members[0].1.labels.get("version");
        label.map(|label| label.to_string())
    };
    let slice = |target: &str, pod_namespace: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: catalog, namespace: my-app}}\n\
             spec: {{ports: [{{name: http, port: 80}}]}}\n---\n\
             apiVersion: v1\nkind: Endpoints\nmetadata: {{name: catalog, namespace: my-app}}\n\
             subsets: [{{addresses: [{{ip: 10.0.0.1, targetRef: {target}}}], \
             ports: [{{name: http, port: 80}}]}}]\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{name: one, namespace: {pod_namespace}, \
             labels: {{version: v7}}}}\nstatus: {{podIP: 10.0.0.1}}\n"
        )
    };
    let found = Some("v7".to_owned());
    assert_eq!(version(&slice("{kind: Pod, name: one}", "my-app")), found);
    assert_eq!(
        version(&slice("{kind: Pod, name: other}", "my-app")),
        None,
        "the name counts"
    );
    assert_eq!(
        version(&slice("{kind: Pod, name: one}", "far")),
        None,
        "another namespace"
    );
    assert_eq!(
        version(&slice("{kind: Pod, name: one, namespace: far}", "far")),
        found
    );
    assert_eq!(
        version(&slice("{kind: Node, name: one}", "my-app")),
        found,
        "by its address"
    );
    assert_eq!(version(&slice("", "my-app")), found, "by its address");
}

#[test]
fn selected_pod_that_is_not_ready_is_marked() {
    let pod = |name: &str, address: &str, condition: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: my-app, labels: \
             {{app: catalog}}}}\nstatus: {{podIP: {address}, conditions: [{condition}]}}\n"
        )
    };
    let entry = object(
        "ServiceEntry",
        "catalog.my-app",
        &format!(
            "  hosts: [{CATALOG}]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  \
             resolution: STATIC\n  workloadSelector: {{labels: {{app: catalog}}}}"
        ),
    );
    let members = members(&[
        &entry,
        &pod("a", "10.0.0.1", "{type: Ready, status: 'True'}"),
        &pod("b", "10.0.0.2", "{type: Ready, status: 'False'}"),
        &pod("c", "10.0.0.3", "{type: PodScheduled, status: 'False'}"),
    ]);
    let health: Vec<Health> = members
        .iter()
        .map(|(_, endpoint)| endpoint.health)
        .collect();
    assert_eq!(
        health,
        [Health::Healthy, Health::Unhealthy, Health::Healthy]
    );
}

#[test]
fn fields_that_say_nothing_to_a_client_change_nothing() {
    let plain = resources(&[&catalog()]);
    let rich = catalog()
        .replace(
            "spec: {containers: []}",
            "spec: {serviceAccountName: sa, containers: \
                 [{name: main, ports: [{name: http, containerPort: 9, protocol: TCP}]}]}",
        )
        .replace(
            "- {name: http, port: 8080}",
            "- {name: http, port: 8080, appProtocol: grpc}",
        );
    assert_ne!(rich, catalog());
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: catalog, namespace: \
                      my-app}\nspec: {replicas: 9, template: {metadata: {annotations: {a: b}}}}\n";
    let with = resources(&[&rich, deployment]);
    assert_eq!(with.endpoints, plain.endpoints);
    assert_eq!(with.clusters, plain.clusters);
    assert_eq!(with.listeners.len(), plain.listeners.len());
}
