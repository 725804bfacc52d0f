//! An Istio Gateway, as the Envoys that it selects see it.

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use envoy_types::pb::google::protobuf::{Struct, Value, value};
use meshwork::control::{Content, Egress, Kind, Limits, Store};
use meshwork::source::istio::{Options, read};
use prost::Message as _;

use super::world::{Sotw, World};

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: edge}
spec:
  selector: {istio: edge}
  servers:
  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*.shop.test']}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: catalog, namespace: shop}
spec:
  hosts: [www.shop.test]
  gateways: [edge/edge]
  http: [{route: [{destination: {host: catalog}}]}]
";

fn text(text: &str) -> Value {
    Value {
        kind: Some(value::Kind::StringValue(text.into())),
    }
}

fn node(agent: &str, label: &str) -> Node {
    let labels = Struct {
        fields: [("istio".to_owned(), text(label))].into(),
    };
    let labels = Value {
        kind: Some(value::Kind::StructValue(labels)),
    };
    Node {
        id: "router~10.0.0.1~edge-1.edge~edge.svc.cluster.local".into(),
        user_agent_name: agent.into(),
        metadata: Some(Struct {
            fields: [("LABELS".to_owned(), labels)].into(),
        }),
        ..Node::default()
    }
}

async fn start(text: &str, content: Content) -> (World, Store) {
    let read = read([("mesh.yaml", text)], &Options::default());
    assert!(!read.faults.has_errors(), "{}", read.faults);
    let store = Store::new();
    store.publish(content.with_objects(read.objects, Options::default()));
    (World::start(store.clone(), Limits::default()).await, store)
}

fn ask(node: Node, kind: Kind, names: &[&str]) -> pb::DiscoveryRequest {
    pb::DiscoveryRequest {
        node: Some(node),
        type_url: kind.type_url().into(),
        resource_names: names.iter().map(ToString::to_string).collect(),
        ..pb::DiscoveryRequest::default()
    }
}

async fn listeners(stream: &mut Sotw) -> Vec<String> {
    let response = stream.next().await.expect("a response");
    stream.answer(&response, &[]).await;
    let decoded = response.resources.iter();
    let decoded = decoded.map(|any| Listener::decode(&*any.value).expect("a listener"));
    decoded.map(|listener| listener.name).collect()
}

#[tokio::test]
async fn a_gateway_is_listeners_of_the_envoys_that_it_selects() {
    let (world, _) = start(MESH, Content::default()).await;
    for (label, wanted) in [("edge", &["0.0.0.0_8080"][..]), ("other", &[])] {
        let mut stream = Sotw::open(world.channel().await).await;
        stream
            .send(ask(node("envoy", label), Kind::Listener, &[]))
            .await;
        assert_eq!(listeners(&mut stream).await, wanted, "{label}");
        if wanted.is_empty() {
            continue;
        }
        stream
            .send(ask(node("envoy", label), Kind::Routes, &["http.8080"]))
            .await;
        let response = stream.next().await.expect("a response");
        let routes = RouteConfiguration::decode(&*response.resources[0].value).expect("routes");
        assert_eq!(routes.virtual_hosts.len(), 1);
        assert_eq!(
            routes.virtual_hosts[0].domains,
            ["www.shop.test", "www.shop.test:*"]
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn an_edit_of_a_gateway_opens_and_closes_listeners() {
    let (world, store) = start(MESH, Content::default()).await;
    let mut stream = Sotw::open(world.channel().await).await;
    stream
        .send(ask(node("envoy", "edge"), Kind::Listener, &[]))
        .await;
    assert_eq!(listeners(&mut stream).await, ["0.0.0.0_8080"]);
    let publish = |text: &str| {
        let read = read([("mesh.yaml", text)], &Options::default());
        store.publish(Content::default().with_objects(read.objects, Options::default()));
    };
    publish(&MESH.replace("number: 8080", "number: 9090"));
    assert_eq!(listeners(&mut stream).await, ["0.0.0.0_9090"]);
    publish(&MESH.replace("selector: {istio: edge}", "selector: {istio: other}"));
    assert_eq!(listeners(&mut stream).await, [""; 0]);
    world.stop().await;
}

#[tokio::test]
async fn an_address_of_the_command_line_stays_with_it() {
    let egress: Egress = "0.0.0.0:8080".parse().expect("a listener");
    let (world, _) = start(MESH, Content::default().with_egress([egress])).await;
    let mut stream = Sotw::open(world.channel().await).await;
    stream
        .send(ask(node("envoy", "edge"), Kind::Listener, &[]))
        .await;
    assert_eq!(listeners(&mut stream).await, ["egress_0.0.0.0_8080"]);
    world.stop().await;
}

#[tokio::test]
async fn a_client_of_grpc_has_no_listener_of_a_gateway() {
    let (world, _) = start(MESH, Content::default()).await;
    let mut stream = Sotw::open(world.channel().await).await;
    stream
        .send(ask(node("gRPC Go", "edge"), Kind::Listener, &[]))
        .await;
    let listeners = listeners(&mut stream).await;
    assert!(
        !listeners.is_empty() && listeners.iter().all(|name| !name.contains("8080")),
        "{listeners:?}"
    );
    world.stop().await;
}
