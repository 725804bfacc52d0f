//! A folder of YAML, served.

use std::fs;
use std::path::Path;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, route, route_action};
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use meshwork::control::{Kind, Limits, Store};
use meshwork::source::istio::Options;
use prost::Message as _;

use super::world::{Sotw, World};

const HOST: &str = "outbound|80||catalog.my-app.svc.cluster.local";

fn mesh(canary: u32) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: catalog, namespace: my-app}}
spec:
  hosts: [catalog.my-app.svc.cluster.local]
  ports: [{{number: 80, name: grpc, protocol: GRPC}}]
  resolution: STATIC
  endpoints:
  - {{address: 127.0.0.1, ports: {{grpc: 9001}}, labels: {{version: v1}}}}
  - {{address: 127.0.0.1, ports: {{grpc: 9002}}, labels: {{version: v2}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: catalog, namespace: my-app}}
spec:
  host: catalog.my-app.svc.cluster.local
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: catalog, namespace: my-app}}
spec:
  hosts: [catalog.my-app.svc.cluster.local]
  http:
  - route:
    - {{destination: {{host: catalog.my-app.svc.cluster.local, subset: v1}}, weight: {}}}
    - {{destination: {{host: catalog.my-app.svc.cluster.local, subset: v2}}, weight: {canary}}}
",
        100 - canary
    )
}

fn write(folder: &Path, text: &str) {
    // As editors do: whole or not at all.
    fs::write(folder.join("next"), text).expect("a file in a temporary folder");
    fs::rename(folder.join("next"), folder.join("mesh.yaml")).expect("a rename");
}

async fn open(world: &World, agent: &str) -> Sotw {
    let stream = Sotw::open(world.channel().await).await;
    let request = |kind: Kind, names: &[&str]| pb::DiscoveryRequest {
        node: Some(Node {
            id: "sidecar~10.0.0.1~order.my-app~my-app.svc.cluster.local".into(),
            user_agent_name: agent.into(),
            ..Node::default()
        }),
        type_url: kind.type_url().into(),
        resource_names: names.iter().map(ToString::to_string).collect(),
        ..pb::DiscoveryRequest::default()
    };
    stream.send(request(Kind::Routes, &[HOST])).await;
    stream
}

fn weights(response: &pb::DiscoveryResponse) -> Vec<u32> {
    let routes = RouteConfiguration::decode(&*response.resources[0].value).expect("routes");
    let action = &routes.virtual_hosts[0].routes[0].action;
    let Some(route::Action::Route(action)) = action else {
        panic!("{action:?}");
    };
    let Some(route_action::ClusterSpecifier::WeightedClusters(weighted)) =
        &action.cluster_specifier
    else {
        panic!("{action:?}");
    };
    let weight =
        |one: &envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight| {
            one.weight.as_ref().map_or(0, |weight| weight.value)
        };
    weighted.clusters.iter().map(weight).collect()
}

#[tokio::test]
async fn s20_a_folder_is_served_an_edit_pushed_and_a_bad_one_rejected() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), &mesh(10));
    let store = Store::follow(folder.path(), Options::default())
        .await
        .expect("a good folder");
    let world = World::start(store, Limits::default()).await;
    let mut stream = open(&world, "gRPC Go").await;
    let response = stream.next().await.expect("routes");
    assert_eq!(weights(&response), [90, 10]);
    stream.answer(&response, &[HOST]).await;

    write(folder.path(), "kind: VirtualService\nspec: [");
    while world.server.store().rejected().is_none() {
        tokio::task::yield_now().await;
    }
    let mut later = open(&world, "gRPC Go").await;
    let response = later.next().await.expect("routes");
    assert_eq!(
        weights(&response),
        [90, 10],
        "as it was, also for who comes later"
    );

    write(folder.path(), &mesh(50));
    let response = stream.next().await.expect("routes");
    assert_eq!(
        weights(&response),
        [50, 50],
        "the bad edit was pushed to nobody"
    );
    assert!(world.server.store().rejected().is_none());
    assert_eq!(world.server.store().rejections(), 1);
}

/// Good by itself, and wrong in this mesh: nobody has declared the provider.
const UNKNOWN_PROVIDER: &str = "
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: default, namespace: my-app}
spec:
  tracing:
  - providers: [{name: nobody}]
";

/// What `check` and an embedded mesh refuse is refused here, before any client asks for a view of it.
#[tokio::test]
async fn s20_an_edit_whose_objects_do_not_fit_together_is_rejected() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), &mesh(10));
    let store = Store::follow(folder.path(), Options::default())
        .await
        .expect("a good folder");
    let world = World::start(store, Limits::default()).await;
    let mut stream = open(&world, "gRPC Go").await;
    let response = stream.next().await.expect("routes");
    assert_eq!(weights(&response), [90, 10]);
    stream.answer(&response, &[HOST]).await;

    let bad = mesh(50) + UNKNOWN_PROVIDER;
    write(folder.path(), &bad);
    while world.server.store().rejected().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.server.store().generation(), 1);
    let faults = world.server.store().rejected().expect("it is rejected");
    let fault = faults.iter().find(|fault| fault.code().as_str() == "M040");
    let fault = fault.unwrap_or_else(|| panic!("{faults}"));
    assert!(
        fault.snippet().is_some(),
        "it is shown where it is: {fault}"
    );
    let checked = meshwork::source::istio::check(folder.path(), &[], &Options::default());
    assert!(checked.faults.has_errors(), "as check says");
    let mut later = open(&world, "gRPC Go").await;
    let response = later.next().await.expect("routes");
    assert_eq!(weights(&response), [90, 10], "as it was");

    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    write(elsewhere.path(), &bad);
    let refused = Store::follow(elsewhere.path(), Options::default()).await;
    refused.expect_err("it does not start with it");

    write(folder.path(), &mesh(50));
    let response = stream.next().await.expect("routes");
    assert_eq!(weights(&response), [50, 50]);
    assert!(world.server.store().rejected().is_none());
}

#[tokio::test]
async fn s20_a_folder_with_faults_does_not_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), "kind: VirtualService\nspec: [");
    let faults = Store::follow(folder.path(), Options::default())
        .await
        .expect_err("a fault");
    assert!(faults.has_errors());
}

#[tokio::test]
async fn d11_two_servers_of_the_same_files_serve_the_same_versions() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), &mesh(10));
    let mut versions = Vec::new();
    for _ in 0..2 {
        let store = Store::follow(folder.path(), Options::default())
            .await
            .expect("a good folder");
        let world = World::start(store, Limits::default()).await;
        let mut stream = open(&world, "gRPC Go").await;
        versions.push(stream.next().await.expect("routes").version_info);
    }
    assert_eq!(versions[0], versions[1]);
}

#[tokio::test]
async fn dialects_and_namespaces_have_views_of_their_own() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), &mesh(10));
    let store = Store::follow(folder.path(), Options::default())
        .await
        .expect("a good folder");
    let world = World::start(store, Limits::default()).await;
    let mut streams = Vec::new();
    for agent in ["gRPC Go", "gRPC Java", "envoy", "meshwork"] {
        let mut stream = open(&world, agent).await;
        stream.next().await.expect("routes");
        streams.push(stream);
    }
    assert_eq!(world.server.store().views(), 3, "the two of gRPC share one");
}

#[tokio::test]
async fn k8_an_expression_that_is_too_long_is_refused_with_its_place_and_nothing_is_served() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let with = |expression: &str| {
        let split = "  - route:\n";
        let matching = format!("  - match: [{{uri: {{regex: '{expression}'}}}}]\n    route:\n");
        mesh(10).replace(split, &matching)
    };
    write(folder.path(), &with(&"a".repeat(1_025)));
    let refused = Store::follow(folder.path(), Options::default()).await;
    let faults = refused.expect_err("it is too long").to_string();
    assert!(faults.contains("http[0].match[0].uri.regex"), "{faults}");
    write(folder.path(), &with(&"a".repeat(1_024)));
    assert!(
        Store::follow(folder.path(), Options::default())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn k8_a_hundred_thousand_routes_are_refused_with_their_place_and_nothing_is_served() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let routes = |number: u32| {
        let route = |at| {
            format!("  - {{match: [{{uri: {{exact: /{at}}}}}], directResponse: {{status: 200}}}}\n")
        };
        let whole = mesh(10);
        let (head, behind) = whole.split_once("  http:\n").expect("it has routes");
        let all: String = (0..number).map(route).collect();
        format!("{head}  http:\n{all}{behind}")
    };
    write(folder.path(), &routes(100_000));
    let refused = Store::follow(folder.path(), Options::default()).await;
    let faults = refused.expect_err("they are too many").to_string();
    let told = "the file has more than 400000 nodes";
    assert!(
        faults.contains("mesh.yaml:") && faults.contains(told),
        "{faults}"
    );
    assert!(faults.contains("{exact: /"), "the field is shown: {faults}");
    write(folder.path(), &routes(1_000));
    let store = Store::follow(folder.path(), Options::default()).await;
    assert!(
        store.is_ok(),
        "{:?}",
        store.err().map(|error| error.to_string())
    );
}
