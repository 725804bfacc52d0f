use std::time::Duration;

use csds::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use envoy_types::pb::envoy::admin::v3::ClientResourceStatus;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterStats, UpstreamLocalityStats};
use envoy_types::pb::envoy::service::load_stats::v3 as lrs;
use envoy_types::pb::envoy::service::status::v3 as csds;
use lrs::load_reporting_service_client::LoadReportingServiceClient;
use meshwork::control::{Kind, Limits, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::world::{PATIENCE, Sotw, World, publish};

#[tokio::test]
async fn csds_tells_what_each_client_has() {
    let world = World::of(&[("a", "1")]).await;
    let mut stream = Sotw::open(world.channel().await).await;
    stream.ask(Kind::Cluster, &["a", "missing"]).await;
    let response = stream.next().await.expect("a response");
    let mut client = ClientStatusDiscoveryServiceClient::new(world.channel().await);
    let answer = client
        .fetch_client_status(csds::ClientStatusRequest::default())
        .await;
    let answer = answer.expect("an answer").into_inner();
    let [config] = &answer.config[..] else {
        panic!("{answer:?}");
    };
    assert_eq!(config.node.as_ref().map(|node| &*node.id), Some("client-1"));
    assert!(
        config.client_scope.ends_with("ADS Sotw"),
        "{}",
        config.client_scope
    );
    let of = |name: &str| {
        let found = config
            .generic_xds_configs
            .iter()
            .find(|one| one.name == name);
        found
            .unwrap_or_else(|| panic!("{name}: {config:?}"))
            .clone()
    };
    assert_eq!(of("a").client_status(), ClientResourceStatus::Requested);
    assert_eq!(of("a").xds_config.expect("its content").value, b"1");
    assert_eq!(
        of("missing").client_status(),
        ClientResourceStatus::DoesNotExist
    );
    assert!(
        !response.resource_errors.is_empty(),
        "the client is told at once"
    );
    let matchers = csds::ClientStatusRequest {
        node_matchers: vec![Default::default()],
        ..csds::ClientStatusRequest::default()
    };
    let status = client
        .fetch_client_status(matchers)
        .await
        .expect_err("not understood");
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_admin_port_answers_grpc_and_http() {
    let world = World::of(&[("a", "1")]).await;
    let mut stream = Sotw::open(world.channel().await).await;
    stream.ask(Kind::Cluster, &["a"]).await;
    stream.next().await.expect("a response");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = world.server.clone();
    let admin = tokio::spawn(async move { server.admin(listener).await });
    let channel = super::world::endpoint(address)
        .connect()
        .await
        .expect("a connection");
    let mut client = ClientStatusDiscoveryServiceClient::new(channel.clone());
    let answer = client
        .fetch_client_status(csds::ClientStatusRequest::default())
        .await;
    let answer = answer.expect("an answer").into_inner();
    let named = &answer.config[0].generic_xds_configs[0];
    assert_eq!(named.name, "a");
    assert_eq!(named.xds_config.as_ref().expect("its content").value, b"1");
    let mut health = HealthClient::new(channel);
    let answer = health
        .check(HealthCheckRequest::default())
        .await
        .expect("an answer");
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    let mut plain = tokio::net::TcpStream::connect(address)
        .await
        .expect("a connection");
    let request = b"GET /clients HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    plain.write_all(request).await.expect("it is sent");
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.expect("an answer");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("client-1"),
        "{answer}"
    );
    admin.abort();
}

#[tokio::test]
async fn load_reports_are_asked_for_and_added_up() {
    let world = World::of(&[]).await;
    let mut client = LoadReportingServiceClient::new(world.channel().await);
    let report = lrs::LoadStatsRequest {
        cluster_stats: vec![ClusterStats {
            cluster_name: "catalog".into(),
            upstream_locality_stats: vec![UpstreamLocalityStats {
                total_issued_requests: 7,
                total_error_requests: 2,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answers = client
        .stream_load_stats(tokio_stream::iter([report.clone(), report]))
        .await;
    let mut answers = answers.expect("the stream is open").into_inner();
    let answer = answers
        .message()
        .await
        .expect("no error")
        .expect("an answer");
    assert!(answer.send_all_clusters);
    assert_eq!(
        answer
            .load_reporting_interval
            .map(|interval| interval.seconds),
        Some(10)
    );
    assert!(answers.message().await.expect("no error").is_none());
    let load = world.server.loads()[&("catalog".into(), String::new())];
    assert_eq!((load.issued, load.failed), (14, 4));
}

/// What reflection tells in a version of its own messages, which are equal but for their package.
macro_rules! reflected {
    ($pb:path, $channel:expr) => {{
        use pb::server_reflection_client::ServerReflectionClient;
        use pb::server_reflection_request::MessageRequest;
        use pb::server_reflection_response::MessageResponse;
        use $pb as pb;
        let ask = |request| pb::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(request),
        };
        let mut client = ServerReflectionClient::new($channel);
        let answers = client
            .server_reflection_info(tokio_stream::iter([
                ask(MessageRequest::ListServices(String::new())),
                ask(MessageRequest::FileContainingSymbol(
                    "grpc.health.v1.Health".into(),
                )),
                ask(MessageRequest::FileContainingSymbol(
                    "no.such.Service".into(),
                )),
            ]))
            .await;
        let mut answers = answers.expect("the stream is open").into_inner();
        let mut next = async || {
            let answer = answers
                .message()
                .await
                .expect("no error")
                .expect("an answer");
            answer.message_response.expect("it says something")
        };
        let MessageResponse::ListServicesResponse(listed) = next().await else {
            panic!("no list");
        };
        let services = listed.service.into_iter().map(|service| service.name);
        let services: Vec<String> = services.collect();
        let MessageResponse::FileDescriptorResponse(found) = next().await else {
            panic!("no descriptors");
        };
        let unknown = answers.message().await.expect_err("nobody has it");
        (services, found.file_descriptor_proto, unknown.code())
    }};
}

#[tokio::test]
async fn reflection_tells_of_health_in_both_its_versions() {
    let world = World::of(&[]).await;
    let v1 = reflected!(tonic_reflection::pb::v1, world.channel().await);
    let alpha = reflected!(tonic_reflection::pb::v1alpha, world.channel().await);
    for (services, descriptors, unknown) in [v1, alpha] {
        let health = services.iter().any(|name| name == "grpc.health.v1.Health");
        assert!(health, "{services:?}");
        let files: Vec<_> = descriptors
            .iter()
            .map(|file| {
                <prost_types::FileDescriptorProto as prost::Message>::decode(&**file)
                    .expect("a descriptor")
            })
            .collect();
        let methods = files.iter().flat_map(|file| &file.service);
        let methods = methods.flat_map(|service| &service.method);
        let methods: Vec<&str> = methods.map(|method| method.name()).collect();
        assert!(
            methods.contains(&"Check") && methods.contains(&"Watch"),
            "{methods:?}"
        );
        assert_eq!(unknown, Code::NotFound);
    }
}

#[tokio::test]
async fn a_shutdown_drains_streams_and_says_so() {
    let store = Store::new();
    publish(&store, &[("a", "1")]);
    let limits = Limits {
        drain: Duration::from_secs(20),
        ..Limits::default()
    };
    let world = World::start(store, limits).await;
    let mut health = HealthClient::new(world.channel().await);
    let ads = HealthCheckRequest {
        service: "envoy.service.discovery.v3.AggregatedDiscoveryService".into(),
    };
    let mut watched = health.watch(ads).await.expect("it is known").into_inner();
    let mut status = async || {
        let next = tokio::time::timeout(PATIENCE, watched.message()).await;
        next.expect("in time")
            .map(|status| status.map(|status| status.status()))
    };
    let serving = Ok(Some(ServingStatus::Serving));
    assert_eq!(status().await.map_err(|status| status.code()), serving);
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = Sotw::open(world.channel().await).await;
        stream.ask(Kind::Cluster, &[]).await;
        stream.takes().await;
        streams.push(stream);
    }
    let server = world.server.clone();
    let stopped = tokio::spawn(world.stop());
    for stream in &mut streams {
        let status = stream.next().await.expect_err("it ends");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
    assert_eq!(server.report().streams, 0);
    let ends = Ok(Some(ServingStatus::NotServing));
    assert_eq!(status().await.map_err(|status| status.code()), ends);
    drop((watched, health, streams));
    assert_eq!(stopped.await.expect("no panic"), 0, "nothing had to be cut");
}

fn small() -> Limits {
    Limits {
        streams: 1,
        ..Limits::default()
    }
}

/// They have as many places as discovery, which they do not take from it.
#[tokio::test]
async fn k6_calls_beside_discovery_have_places_too_and_a_check_needs_none() {
    let store = Store::new();
    publish(&store, &[("a", "1")]);
    let world = World::start(store, small()).await;
    let mut health = HealthClient::new(world.channel().await);
    let watched = health.watch(HealthCheckRequest::default()).await;
    let mut watched = watched.expect("a stream").into_inner();
    watched.message().await.expect("its first message");
    let refused = health.watch(HealthCheckRequest::default()).await;
    let refused = refused.expect_err("the only place is taken");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let mut loads = LoadReportingServiceClient::new(world.channel().await);
    // What strangers may watch takes no place of those that report.
    let reports = loads.stream_load_stats(tokio_stream::pending()).await;
    let _reports = reports.expect("a place of its own");
    let refused = loads.stream_load_stats(tokio_stream::pending()).await;
    let refused = refused.expect_err("the only place is taken");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let check = health.check(HealthCheckRequest::default()).await;
    let check = check.expect("an answer").into_inner();
    assert_eq!(check.status(), ServingStatus::Serving);
    let mut stream = Sotw::open(world.channel().await).await;
    stream.ask(Kind::Cluster, &[]).await;
    assert_eq!(stream.takes().await, ["1"]);
    drop(watched);
    // The server learns of it when it learns of it.
    while health.watch(HealthCheckRequest::default()).await.is_err() {}
}

/// An answer is as large as all that all clients have.
#[tokio::test]
async fn k6_two_calls_of_client_status_are_answered_at_a_time() {
    let world = World::of(&[("a", "1")]).await;
    let mut client = ClientStatusDiscoveryServiceClient::new(world.channel().await);
    let mut calls = Vec::new();
    for _ in 0..2 {
        let (asks, asked) = tokio::sync::mpsc::channel(1);
        let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
        let call = client.stream_client_status(asked);
        asks.send(csds::ClientStatusRequest::default())
            .await
            .expect("room for one");
        let mut answers = call.await.expect("a place").into_inner();
        answers.message().await.expect("an answer");
        calls.push((asks, answers));
    }
    let ask = csds::ClientStatusRequest::default();
    let refused = client.fetch_client_status(ask.clone()).await;
    let refused = refused.expect_err("both places are taken");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    // The operator's port has other places.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = world.server.clone();
    let admin = tokio::spawn(async move { server.admin(listener).await });
    let channel = super::world::endpoint(address).connect().await;
    let mut operator = ClientStatusDiscoveryServiceClient::new(channel.expect("it listens"));
    let answer = operator.fetch_client_status(ask.clone()).await;
    assert!(answer.is_ok(), "{answer:?}");
    admin.abort();
    calls.pop();
    while client.fetch_client_status(ask.clone()).await.is_err() {}
}

#[tokio::test]
async fn k6_a_call_of_client_status_does_not_last() {
    let store = Store::new();
    publish(&store, &[("a", "1")]);
    let limits = Limits {
        write: Duration::from_millis(100),
        ..Limits::default()
    };
    let world = World::start(store, limits).await;
    let mut client = ClientStatusDiscoveryServiceClient::new(world.channel().await);
    let call = client.stream_client_status(tokio_stream::pending()).await;
    let mut answers = call.expect("a place").into_inner();
    let end = tokio::time::timeout(PATIENCE, answers.message()).await;
    let end = end.expect("it ends").expect_err("nothing was asked for");
    assert_eq!(end.code(), Code::DeadlineExceeded, "{end}");
}
