//! The admin endpoint, asked as `grpcdebug` asks: by gRPC over real sockets.

use std::net::SocketAddr;

use envoy_types::pb::envoy::admin::v3::ClientResourceStatus;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::service::status::v3 as status;
use meshwork::model::cluster::Protocol;
use meshwork::model::route::{HeaderChange, HeaderChanges};
use meshwork::{Mesh, Workload, source};
use prost::Message as _;
use status::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient as Client;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::world::{cluster, one};

/// A mesh that nobody sent anything, whose one route shows a password to its callee.
async fn mesh() -> (Mesh, SocketAddr) {
    let mut resources = one(cluster("c", Protocol::Http1), &[1], |_| {});
    let mut routes = (*resources.routes["80"]).clone();
    let set = |name: &'static str, value: &'static str| {
        HeaderChange::Set(name.parse().unwrap(), value.parse().unwrap())
    };
    let mut host = (*routes.virtual_hosts[0]).clone();
    let mut route = (*host.routes[0]).clone();
    route.headers = HeaderChanges {
        request: vec![set("authorization", "Basic c2VzYW1l"), set("x-team", "red")],
        response: Vec::new(),
    };
    host.routes = vec![route.into()];
    routes.virtual_hosts = vec![host.into()];
    resources.insert_routes(routes);
    let (_, feed) = source::feed(resources);
    let workload = Workload::new("my-app", "order-sa");
    let mesh = Mesh::builder()
        .feed(feed)
        .workload(workload)
        .start()
        .await
        .unwrap();
    let address = mesh.admin(([127, 0, 0, 1], 0).into()).await.unwrap();
    (mesh, address)
}

async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

fn all() -> status::ClientStatusRequest {
    status::ClientStatusRequest::default()
}

#[tokio::test]
async fn client_status_tells_what_is_in_force_without_its_secrets() {
    let (_mesh, address) = mesh().await;
    let mut client = Client::new(channel(address).await);
    let answer = client
        .fetch_client_status(all())
        .await
        .unwrap()
        .into_inner();
    let [config] = &answer.config[..] else {
        panic!("{answer:?}");
    };
    assert_eq!(config.node.as_ref().unwrap().id, "my-app/order-sa");
    let of = |kind: &str| {
        let mut all = config.generic_xds_configs.iter();
        all.find(|one| one.type_url.ends_with(kind)).expect(kind)
    };
    let found = of("v3.Cluster");
    assert_eq!((&*found.name, &*found.version_info), ("c", "1"));
    assert_eq!(found.client_status(), ClientResourceStatus::Acked);
    let message = found.xds_config.as_ref().expect("the message");
    assert_eq!(Cluster::decode(&*message.value).unwrap().name, "c");
    let routes = of("v3.RouteConfiguration").xds_config.as_ref().unwrap();
    let text = String::from_utf8_lossy(&routes.value);
    assert!(!text.contains("c2VzYW1l"), "{text}");
    assert!(
        text.contains("[redacted]") && text.contains("red"),
        "{text}"
    );
    let brief = status::ClientStatusRequest {
        exclude_resource_contents: true,
        ..all()
    };
    let answer = client
        .fetch_client_status(brief)
        .await
        .unwrap()
        .into_inner();
    let configs = &answer.config[0].generic_xds_configs;
    assert!(!configs.is_empty() && configs.iter().all(|one| one.xds_config.is_none()));
}

#[tokio::test]
async fn client_status_is_told_again_when_it_is_asked_again_on_a_stream() {
    let (mesh, address) = mesh().await;
    let mut client = Client::new(channel(address).await);
    let asked = client
        .stream_client_status(tokio_stream::iter([all(), all()]))
        .await;
    let mut answers = asked.unwrap().into_inner();
    for _ in 0..2 {
        let answer = answers.message().await.unwrap().expect("an answer");
        assert_eq!(answer.config.len(), 1);
    }
    assert_eq!(answers.message().await.unwrap(), None);
    drop(mesh);
}

#[tokio::test]
async fn health_is_that_of_the_process() {
    let (mesh, address) = mesh().await;
    let mut health = HealthClient::new(channel(address).await);
    let mut check = async |service: &str| {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = health.check(request).await;
        answer.map(|answer| answer.into_inner().status())
    };
    assert_eq!(check("").await.unwrap(), ServingStatus::Serving);
    let csds = "envoy.service.status.v3.ClientStatusDiscoveryService";
    assert_eq!(check(csds).await.unwrap(), ServingStatus::Serving);
    let unknown = check("catalog.Catalog").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("catalog.Catalog"), "{unknown}");
    let mut watching = HealthClient::new(channel(address).await);
    let watched = watching.watch(HealthCheckRequest::default()).await;
    assert_eq!(watched.unwrap_err().code(), Code::Unimplemented);
    drop(mesh);
}

#[tokio::test]
async fn what_is_not_there_is_unimplemented_and_foreign_names_are_refused() {
    let (_mesh, address) = mesh().await;
    let mut grpc = tonic::client::Grpc::new(channel(address).await);
    grpc.ready().await.unwrap();
    let path = "/grpc.channelz.v1.Channelz/GetTopChannels".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckRequest>::default();
    let request = tonic::Request::new(HealthCheckRequest::default());
    let answer = grpc.unary(request, path, codec).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let endpoint = endpoint.origin("http://evil.example".parse().unwrap());
    let mut client = Client::new(endpoint.connect().await.unwrap());
    let refused = client.fetch_client_status(all()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}
