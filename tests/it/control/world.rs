//! A server on a free port, and clients that say exactly what a test says.

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use meshwork::control::{Content, Encoded, Kind, Limits, Server, Store};
use pb::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// How long anything may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<usize>>,
}

impl World {
    pub(crate) async fn start(store: Store, limits: Limits) -> Self {
        let server = Server::new(store).with_limits(limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = server.clone();
        let task = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            serving.serve(listener, stopped).await
        });
        Self {
            server,
            address,
            stop: Some(stop),
            task,
        }
    }

    /// A server of clusters `name=content`.
    pub(crate) async fn of(clusters: &[(&str, &str)]) -> Self {
        let store = Store::new();
        publish(&store, clusters);
        Self::start(store, Limits::default()).await
    }

    pub(crate) fn publish(&self, clusters: &[(&str, &str)]) {
        publish(self.server.store(), clusters);
    }

    pub(crate) async fn channel(&self) -> Channel {
        endpoint(self.address).connect().await.expect("it listens")
    }

    /// Shuts it down; how many connections were cut.
    pub(crate) async fn stop(mut self) -> usize {
        drop(self.stop.take());
        let ended = tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("it ends");
        ended.expect("no panic").expect("it had an address")
    }
}

pub(crate) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).expect("a URL")
}

pub(crate) fn publish(store: &Store, clusters: &[(&str, &str)]) {
    let encoded = clusters
        .iter()
        .map(|(name, content)| Encoded::new(Kind::Cluster, *name, content.as_bytes()));
    store.publish(Content::default().with_resources(encoded));
}

pub(crate) fn node(id: &str) -> Option<Node> {
    Some(Node {
        id: id.into(),
        ..Node::default()
    })
}

/// A stream of the state-of-the-world variant.
pub(crate) struct Sotw {
    sender: mpsc::Sender<pb::DiscoveryRequest>,
    answers: Streaming<pb::DiscoveryResponse>,
}

impl Sotw {
    pub(crate) async fn open(channel: Channel) -> Self {
        let (sender, receiver) = mpsc::channel(16);
        let mut client =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let answers = client.stream_aggregated_resources(ReceiverStream::new(receiver));
        let answers = answers.await.expect("the stream is open").into_inner();
        Self { sender, answers }
    }

    pub(crate) async fn send(&self, request: pb::DiscoveryRequest) {
        self.sender.send(request).await.expect("the stream is open");
    }

    pub(crate) async fn ask(&self, kind: Kind, names: &[&str]) {
        self.ask_as("client-1", kind, names).await;
    }

    pub(crate) async fn ask_as(&self, id: &str, kind: Kind, names: &[&str]) {
        self.send(pb::DiscoveryRequest {
            node: node(id),
            type_url: kind.type_url().into(),
            resource_names: names.iter().map(ToString::to_string).collect(),
            ..pb::DiscoveryRequest::default()
        })
        .await;
    }

    pub(crate) async fn answer(&self, response: &pb::DiscoveryResponse, names: &[&str]) {
        self.send(pb::DiscoveryRequest {
            version_info: response.version_info.clone(),
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            resource_names: names.iter().map(ToString::to_string).collect(),
            ..pb::DiscoveryRequest::default()
        })
        .await;
    }

    pub(crate) async fn next(&mut self) -> Result<pb::DiscoveryResponse, Status> {
        let next = tokio::time::timeout(PATIENCE, self.answers.message()).await;
        let next = next.expect("an answer in time")?;
        next.ok_or_else(|| Status::ok("the end"))
    }

    /// The contents of the next response, which is acknowledged as a wildcard.
    pub(crate) async fn takes(&mut self) -> Vec<String> {
        let response = self.next().await.expect("a response");
        self.answer(&response, &[]).await;
        contents(&response)
    }
}

pub(crate) fn contents(response: &pb::DiscoveryResponse) -> Vec<String> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    response
        .resources
        .iter()
        .map(|any| text(&any.value))
        .collect()
}
