use envoy_types::pb::envoy::service::discovery::v3 as pb;
use meshwork::control::{Content, Encoded, Kind, Limits, Store};
use pb::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::world::{PATIENCE, Sotw, World, contents, node};

/// The service of each kind, and what its methods are named after.
const SERVICES: [(&str, &str, Kind); 9] = [
    (
        "cluster.v3.ClusterDiscoveryService",
        "Clusters",
        Kind::Cluster,
    ),
    (
        "endpoint.v3.EndpointDiscoveryService",
        "Endpoints",
        Kind::Endpoints,
    ),
    ("secret.v3.SecretDiscoveryService", "Secrets", Kind::Secret),
    (
        "listener.v3.ListenerDiscoveryService",
        "Listeners",
        Kind::Listener,
    ),
    (
        "route.v3.ScopedRoutesDiscoveryService",
        "ScopedRoutes",
        Kind::ScopedRoutes,
    ),
    ("route.v3.RouteDiscoveryService", "Routes", Kind::Routes),
    (
        "route.v3.VirtualHostDiscoveryService",
        "VirtualHosts",
        Kind::VirtualHost,
    ),
    (
        "extension.v3.ExtensionConfigDiscoveryService",
        "ExtensionConfigs",
        Kind::Extension,
    ),
    (
        "runtime.v3.RuntimeDiscoveryService",
        "Runtime",
        Kind::Runtime,
    ),
];

/// A call in both directions of any method.
pub(super) async fn open<Q, A>(
    channel: Channel,
    path: &str,
) -> Result<(mpsc::Sender<Q>, Streaming<A>), Status>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.expect("a connection");
    let (sender, receiver) = mpsc::channel(4);
    let requests = Request::new(ReceiverStream::new(receiver));
    let path = path.parse().expect("a path");
    let codec = ProstCodec::<Q, A>::default();
    let answers = grpc.streaming(requests, path, codec).await?.into_inner();
    Ok((sender, answers))
}

pub(super) async fn message<A>(answers: &mut Streaming<A>) -> A {
    let next = tokio::time::timeout(PATIENCE, answers.message()).await;
    next.expect("in time").expect("no error").expect("no end")
}

/// One resource of each kind, named `a`.
fn of_all_kinds(content: &str) -> Content {
    let encoded = Kind::ALL.map(|kind| Encoded::new(kind, "a", content.as_bytes()));
    Content::default().with_resources(encoded)
}

#[tokio::test]
async fn an_aggregated_stream_is_served_and_updated() {
    let world = World::of(&[("a", "1"), ("b", "1")]).await;
    let mut stream = Sotw::open(world.channel().await).await;
    stream.ask(Kind::Cluster, &[]).await;
    assert_eq!(stream.takes().await, ["1", "1"]);
    world.publish(&[("a", "2")]);
    assert_eq!(stream.takes().await, ["2"]);
    // Equal content pushes nothing: the next response is about what comes after it.
    world.publish(&[("a", "2")]);
    world.publish(&[("a", "3")]);
    assert_eq!(stream.takes().await, ["3"]);
    let report = world.server.report();
    assert_eq!((report.streams, report.pushed(Kind::Cluster)), (1, 3));
    assert!(report.acknowledged(Kind::Cluster) >= 2);
}

#[tokio::test]
async fn a_delta_stream_gets_what_changed() {
    let world = World::of(&[("a", "1"), ("b", "1")]).await;
    let (sender, receiver) = mpsc::channel(16);
    let mut client = AggregatedDiscoveryServiceClient::new(world.channel().await);
    let answers = client.delta_aggregated_resources(ReceiverStream::new(receiver));
    let mut answers = answers.await.expect("the stream is open").into_inner();
    let ask = pb::DeltaDiscoveryRequest {
        node: node("client-1"),
        type_url: Kind::Cluster.type_url().into(),
        ..pb::DeltaDiscoveryRequest::default()
    };
    sender.send(ask).await.expect("open");
    for expected in [(&["a", "b"][..], &[][..]), (&["c"], &["b"])] {
        let next = tokio::time::timeout(PATIENCE, answers.message()).await;
        let response = next.expect("in time").expect("no error").expect("no end");
        let names: Vec<&str> = response.resources.iter().map(|one| &*one.name).collect();
        assert_eq!(
            (
                &names[..],
                &response
                    .removed_resources
                    .iter()
                    .map(|name| &**name)
                    .collect::<Vec<_>>()[..]
            ),
            expected
        );
        let ack = pb::DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..pb::DeltaDiscoveryRequest::default()
        };
        sender.send(ack).await.expect("open");
        world.publish(&[("a", "1"), ("c", "1")]);
    }
}

#[tokio::test]
async fn each_kind_has_a_stream_of_its_own_in_the_state_of_the_world() {
    let store = Store::new();
    let world = World::start(store.clone(), Limits::default()).await;
    let channel = world.channel().await;
    for (service, name, kind) in SERVICES {
        store.publish(of_all_kinds("1"));
        let path = format!("/envoy.service.{service}/Stream{name}");
        let opened = open::<pb::DiscoveryRequest, pb::DiscoveryResponse>(channel.clone(), &path);
        let (sender, mut answers) = match opened.await {
            Ok(stream) => stream,
            // Virtual hosts have no such method: there is no state of their world.
            Err(status) => {
                assert_eq!(
                    (status.code(), kind),
                    (Code::Unimplemented, Kind::VirtualHost)
                );
                continue;
            }
        };
        let ask = pb::DiscoveryRequest {
            node: node("client-1"),
            resource_names: vec!["a".into()],
            ..pb::DiscoveryRequest::default()
        };
        sender.send(ask.clone()).await.expect("open");
        for content in ["1", "2"] {
            let response = message(&mut answers).await;
            assert_eq!(contents(&response), [content], "{path}");
            assert_eq!(response.type_url, kind.type_url());
            let ack = pb::DiscoveryRequest {
                response_nonce: response.nonce,
                version_info: response.version_info,
                ..ask.clone()
            };
            sender.send(ack).await.expect("open");
            store.publish(of_all_kinds("2"));
        }
        let of_another = pb::DiscoveryRequest {
            type_url: "type.googleapis.com/another.Kind".into(),
            ..ask
        };
        sender.send(of_another).await.expect("open");
        let status = answers.message().await.expect_err("it ends");
        assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status}");
    }
}

#[tokio::test]
async fn each_kind_has_a_delta_stream_of_its_own() {
    let store = Store::new();
    let world = World::start(store.clone(), Limits::default()).await;
    let channel = world.channel().await;
    for (service, name, kind) in SERVICES {
        store.publish(of_all_kinds("1"));
        let path = format!("/envoy.service.{service}/Delta{name}");
        let opened =
            open::<pb::DeltaDiscoveryRequest, pb::DeltaDiscoveryResponse>(channel.clone(), &path);
        let (sender, mut answers) = opened.await.expect("it is served");
        let ask = pb::DeltaDiscoveryRequest {
            node: node("client-1"),
            resource_names_subscribe: vec!["a".into()],
            ..pb::DeltaDiscoveryRequest::default()
        };
        sender.send(ask).await.expect("open");
        for content in ["1", "2"] {
            let response = message(&mut answers).await;
            let [resource] = &response.resources[..] else {
                panic!("{path}: {response:?}");
            };
            let body = resource.resource.as_ref().expect("its content");
            assert_eq!((&*resource.name, &*body.value), ("a", content.as_bytes()));
            assert_eq!(
                (&*response.type_url, &*body.type_url),
                (kind.type_url(), kind.type_url())
            );
            let ack = pb::DeltaDiscoveryRequest {
                response_nonce: response.nonce,
                ..pb::DeltaDiscoveryRequest::default()
            };
            sender.send(ack).await.expect("open");
            store.publish(of_all_kinds("2"));
        }
        store.publish(Content::default());
        let response = message(&mut answers).await;
        assert_eq!(response.removed_resources, ["a"], "{path}");
    }
}

#[test]
fn every_kind_has_a_service() {
    let kinds: std::collections::BTreeSet<Kind> = SERVICES.map(|(_, _, kind)| kind).into();
    assert_eq!(kinds.len(), Kind::ALL.len());
}

#[tokio::test]
async fn s13_many_streams_of_one_node_are_served_and_end_alone() {
    let world = World::of(&[("a", "1")]).await;
    let channel = world.channel().await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        let mut stream = Sotw::open(channel.clone()).await;
        stream.ask(Kind::Cluster, &[]).await;
        assert_eq!(stream.takes().await, ["1"]);
        streams.push(stream);
    }
    assert_eq!(world.server.clients().len(), 50);
    assert_eq!(
        world.server.store().views(),
        1,
        "they are alike, and share one view"
    );
    streams.truncate(1);
    world.publish(&[("a", "2")]);
    assert_eq!(streams[0].takes().await, ["2"]);
}

#[tokio::test]
async fn s17_unknown_types_are_survived() {
    let world = World::of(&[("a", "1")]).await;
    let mut stream = Sotw::open(world.channel().await).await;
    stream
        .send(pb::DiscoveryRequest {
            node: node("client-1"),
            type_url: "type.googleapis.com/no.such.Type".into(),
            ..pb::DiscoveryRequest::default()
        })
        .await;
    stream.ask(Kind::Cluster, &[]).await;
    assert_eq!(stream.takes().await, ["1"]);
}

#[tokio::test]
async fn s22_requests_without_type_or_node_end_the_stream() {
    let world = World::of(&[("a", "1")]).await;
    let without_type = pb::DiscoveryRequest {
        node: node("client-1"),
        ..pb::DiscoveryRequest::default()
    };
    let without_node = pb::DiscoveryRequest {
        type_url: Kind::Cluster.type_url().into(),
        ..pb::DiscoveryRequest::default()
    };
    for request in [without_type, without_node] {
        let mut stream = Sotw::open(world.channel().await).await;
        stream.send(request).await;
        let status = stream.next().await.expect_err("it ends");
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
}

#[tokio::test]
async fn s27_a_refusal_is_seen_by_whoever_looks() {
    let world = World::of(&[("a", "1")]).await;
    let mut stream = Sotw::open(world.channel().await).await;
    stream.ask(Kind::Cluster, &[]).await;
    let response = stream.next().await.expect("a response");
    stream
        .send(pb::DiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: Some(envoy_types::pb::google::rpc::Status {
                message: "a is no cluster".into(),
                ..Default::default()
            }),
            ..pb::DiscoveryRequest::default()
        })
        .await;
    world.publish(&[("a", "2")]);
    let response = stream.next().await.expect("the next state");
    assert_eq!(world.server.report().refused(Kind::Cluster), 1);
    let clients = world.server.clients();
    let (kind, _, text) = &clients[0].refusals[0];
    assert_eq!((*kind, &**text), (Kind::Cluster, "a is no cluster"));
    stream.answer(&response, &[]).await;
}
