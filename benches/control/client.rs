//! Clients: each a connection of its own with one stream, on bare h2, so that ten thousand of them
//! leave a core to the server. Each wants all clusters and, by name, their endpoints, and
//! acknowledges everything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use h2::SendStream;
use meshwork::control::Kind;
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::mesh::{CLUSTERS, name};
use crate::peer::Variant;

/// Connections that are made at a time: a listener's queue is not endless.
const AT_ONCE: usize = 64;

/// What all clients together have received.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Clients that have all clusters and all endpoints.
    synced: AtomicUsize,
    /// Responses with endpoints behind that.
    pushed: AtomicUsize,
    /// Streams that have ended, which none should.
    ended: AtomicUsize,
    /// How many are waited for.
    target: AtomicUsize,
    reached: Notify,
}

impl Progress {
    /// Waits until so many clients have the first state.
    pub(crate) async fn synced(&self, clients: usize) -> Result<(), String> {
        self.reached(&self.synced, clients).await
    }

    /// Waits until so many pushes have arrived, at all clients together.
    pub(crate) async fn pushed(&self, pushes: usize) -> Result<(), String> {
        self.reached(&self.pushed, pushes).await
    }

    async fn reached(&self, count: &AtomicUsize, target: usize) -> Result<(), String> {
        self.target.store(target, Ordering::SeqCst);
        loop {
            match self.ended.load(Ordering::SeqCst) {
                0 if count.load(Ordering::SeqCst) >= target => return Ok(()),
                0 => self.reached.notified().await,
                ended => return Err(format!("{ended} streams have ended")),
            }
        }
    }

    /// Only the one that makes it whole wakes whoever waits: the core is for the clients.
    fn one_more(&self, count: &AtomicUsize) {
        if count.fetch_add(1, Ordering::SeqCst) + 1 >= self.target.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }

    fn ended(&self) {
        self.ended.fetch_add(1, Ordering::SeqCst);
        self.reached.notify_one();
    }
}

/// Begins so many streams; they end when the set is dropped.
pub(crate) fn start(
    address: SocketAddr,
    variant: Variant,
    clients: usize,
    progress: &Arc<Progress>,
) -> JoinSet<()> {
    let mut all = JoinSet::new();
    let places = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    for number in 0..clients {
        let (progress, places) = (progress.clone(), places.clone());
        all.spawn(async move {
            let place = places.acquire_owned().await.expect("nobody closes it");
            let stream = TcpStream::connect(address).await.expect("it listens");
            drop(place);
            let ended = client(stream, variant, number, &progress).await;
            if let Err(why) = ended {
                eprintln!("client {number}: {why}");
            }
            progress.ended();
        });
    }
    all
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn client(
    stream: TcpStream,
    variant: Variant,
    number: usize,
    progress: &Progress,
) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 20)
        .handshake::<_, Bytes>(stream)
        .await?;
    let connection = async { connection.await.map_err(Failure::from) };
    let talk = talk(sender, variant, number, progress);
    tokio::try_join!(connection, talk).map(drop)
}

async fn talk(
    sender: h2::client::SendRequest<Bytes>,
    variant: Variant,
    number: usize,
    progress: &Progress,
) -> Result<(), Failure> {
    let request = http::Request::post(format!("http://control{}", variant.path()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut requests) = sender.ready().await?.send_request(request, false)?;
    let names: Vec<String> = (0..CLUSTERS).map(name).collect();
    for (kind, names) in [(Kind::Cluster, &[][..]), (Kind::Endpoints, &names)] {
        let message = variant.subscription(kind, names, number);
        requests.send_data(message, false)?;
    }
    let mut body = response.await?.into_body();
    let (mut buffer, mut have, mut synced) = (BytesMut::new(), [0, 0], false);
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        buffer.extend_from_slice(&data);
        while let Some(message) = message(&mut buffer) {
            let (kind, resources) = variant.answer(message, &names, &mut requests)?;
            have[usize::from(kind == Kind::Endpoints)] += resources;
            if synced && kind == Kind::Endpoints {
                progress.one_more(&progress.pushed);
            } else if !synced && have.iter().all(|have| *have >= CLUSTERS) {
                synced = true;
                progress.one_more(&progress.synced);
            }
        }
    }
    Ok(())
}

/// The next whole message.
fn message(buffer: &mut BytesMut) -> Option<Bytes> {
    let head: [u8; 5] = buffer.get(..5)?.try_into().ok()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if buffer.len() < 5 + length {
        return None;
    }
    buffer.advance(5);
    Some(buffer.split_to(length).freeze())
}

pub(crate) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(5 + length);
    out.put_u8(0);
    out.put_u32(u32::try_from(length).expect("it is small"));
    message.encode(&mut out).expect("there is room");
    out.freeze()
}

fn node(number: usize) -> Option<Node> {
    Some(Node {
        id: format!("client-{number}"),
        user_agent_name: "envoy".into(),
        ..Node::default()
    })
}

impl Variant {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Sotw => {
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
            }
            Self::Delta => {
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
            }
        }
    }

    fn subscription(self, kind: Kind, names: &[String], number: usize) -> Bytes {
        match self {
            Self::Sotw => framed(&pb::DiscoveryRequest {
                node: node(number),
                type_url: kind.type_url().into(),
                resource_names: names.to_vec(),
                ..pb::DiscoveryRequest::default()
            }),
            Self::Delta => framed(&pb::DeltaDiscoveryRequest {
                node: node(number),
                type_url: kind.type_url().into(),
                resource_names_subscribe: names.to_vec(),
                ..pb::DeltaDiscoveryRequest::default()
            }),
        }
    }

    /// Acknowledges a response; yields its kind and how many resources it has.
    fn answer(
        self,
        message: Bytes,
        names: &[String],
        requests: &mut SendStream<Bytes>,
    ) -> Result<(Kind, usize), Failure> {
        let endpoints = Kind::Endpoints.type_url();
        let kind = |type_url: &str| match type_url == endpoints {
            true => Kind::Endpoints,
            false => Kind::Cluster,
        };
        match self {
            Self::Sotw => {
                let response = pb::DiscoveryResponse::decode(message)?;
                let (kind, count) = (kind(&response.type_url), response.resources.len());
                let names = match kind {
                    Kind::Endpoints => names.to_vec(),
                    _ => Vec::new(),
                };
                let answer = pb::DiscoveryRequest {
                    version_info: response.version_info,
                    type_url: response.type_url,
                    response_nonce: response.nonce,
                    resource_names: names,
                    ..pb::DiscoveryRequest::default()
                };
                requests.send_data(framed(&answer), false)?;
                Ok((kind, count))
            }
            Self::Delta => {
                let response = pb::DeltaDiscoveryResponse::decode(message)?;
                let (kind, count) = (kind(&response.type_url), response.resources.len());
                let answer = pb::DeltaDiscoveryRequest {
                    type_url: response.type_url,
                    response_nonce: response.nonce,
                    ..pb::DeltaDiscoveryRequest::default()
                };
                requests.send_data(framed(&answer), false)?;
                Ok((kind, count))
            }
        }
    }
}
