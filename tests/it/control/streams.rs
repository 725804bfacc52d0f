use envoy_types::pb::envoy::service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use meshwork::control::Kind;
use pb::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::world::{PATIENCE, Sotw, World, contents, node};

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
async fn a_stream_of_one_kind_is_served() {
    let world = World::of(&[("a", "1")]).await;
    let (sender, receiver) = mpsc::channel(16);
    let mut client = ClusterDiscoveryServiceClient::new(world.channel().await);
    let answers = client.stream_clusters(ReceiverStream::new(receiver));
    let mut answers = answers.await.expect("the stream is open").into_inner();
    let ask = pb::DiscoveryRequest {
        node: node("client-1"),
        ..pb::DiscoveryRequest::default()
    };
    sender.send(ask).await.expect("open");
    let next = tokio::time::timeout(PATIENCE, answers.message()).await;
    let response = next.expect("in time").expect("no error").expect("no end");
    assert_eq!(contents(&response), ["1"]);
    assert_eq!(response.type_url, Kind::Cluster.type_url());
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
