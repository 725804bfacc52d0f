//! Connections of a port that become something else: WebSocket and its like, over real sockets.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use meshwork::inbound::Listener;
use meshwork::model::authorization::{
    Action, Authorization, Condition, PathPattern, Policy, Stage,
};
use meshwork::model::capacity::{Capacities, Capacity};
use meshwork::model::cluster::Protocol;
use meshwork::model::matcher::StringMatcher;
use meshwork::model::security::{MutualTls, PeerPolicy};
use meshwork::model::{Inbound, Resources};
use meshwork::source::{Publisher, feed};
use meshwork::{Body, Mesh};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tower::{Layer, Service, service_fn};

use super::world::{cluster, endpoints, one};
use crate::transport::peer::{GOAWAY, HEADERS, Peer, RST_STREAM, SETTINGS};

/// How long something may take before the test fails, on the slowest machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Switches to a protocol that sends everything back.
async fn echo(mut request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
    let mut response = Response::new(Body::empty());
    if !request.headers().contains_key("upgrade") {
        return Ok(response);
    }
    let switch = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(io) = switch.await else { return };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(io));
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert("connection", "upgrade".parse().unwrap());
    headers.insert("upgrade", "websocket".parse().unwrap());
    Ok(response)
}

/// A port that echoes, and what serves it.
pub(super) struct Port {
    pub(super) mesh: Mesh,
    pub(super) publisher: Publisher,
    pub(super) address: SocketAddr,
    serving: JoinHandle<()>,
}

async fn port(change: impl FnOnce(Listener) -> Listener) -> Port {
    serve(change, |mesh| mesh.inbound_layer().layer(service_fn(echo))).await
}

/// A port of what is made of a mesh that nothing is configured for.
pub(super) async fn serve<S, B>(
    change: impl FnOnce(Listener) -> Listener,
    make: impl FnOnce(&Mesh) -> S,
) -> Port
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<tower::BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    let (publisher, source) = feed(Resources::default());
    let mesh = Mesh::builder().feed(source).start().await.unwrap();
    serve_of(mesh, publisher, change, make).await
}

/// The same of a mesh that is there already.
pub(super) async fn serve_of<S, B>(
    mesh: Mesh,
    publisher: Publisher,
    change: impl FnOnce(Listener) -> Listener,
    make: impl FnOnce(&Mesh) -> S,
) -> Port
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<tower::BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    let listener = change(mesh.listen("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr();
    let serving = tokio::spawn(listener.serve(make(&mesh)));
    Port {
        mesh,
        publisher,
        address,
        serving,
    }
}

/// Writes a request and reads the head of its answer; `None`: the connection was closed before.
pub(super) async fn ask(stream: &mut TcpStream, request: &str) -> Option<String> {
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Switches a connection; `None`: it was closed before it was answered.
async fn try_switch(address: SocketAddr, path: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let head = ask(&mut stream, &request).await?;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    Some(stream)
}

pub(super) async fn switch(address: SocketAddr, path: &str) -> TcpStream {
    try_switch(address, path).await.expect("it is let in")
}

pub(super) async fn talk(stream: &mut TcpStream, word: &[u8]) {
    stream.write_all(word).await.unwrap();
    let mut back = vec![0; word.len()];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, word);
}

/// Reads to the end, which must come.
pub(super) async fn end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is as good an end.
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    let _ = ended.expect("the stream is cut");
    assert_eq!(rest, b"");
}

pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what}"));
}

pub(super) fn active(mesh: &Mesh, number: usize) -> bool {
    let line = format!("\nmeshwork_active_work {number}\n");
    mesh.metrics().contains(&line)
}

pub(super) fn deny(prefix: &str) -> Resources {
    let path = Condition::Path(PathPattern::Text(StringMatcher::Prefix(prefix.into())));
    let policies = vec![Policy::new("p", path)];
    let inbound = Inbound {
        authorization: Authorization {
            stages: vec![Stage::enforced(Action::Deny, policies)],
            ..Authorization::default()
        },
        ..Inbound::default()
    };
    Resources {
        inbound: Arc::new(inbound),
        ..Resources::default()
    }
}

#[tokio::test]
async fn a_switched_stream_counts_and_keeps_its_place_until_it_is_dropped() {
    let port = port(|listener| listener.with_max_connections(1)).await;
    let mut stream = switch(port.address, "/chat").await;
    talk(&mut stream, b"one").await;
    // More than any buffer on the way, in both directions at once.
    let large = vec![7; 300_000];
    let (mut read, mut write) = stream.split();
    let mut back = vec![0; large.len()];
    let (sent, _) = tokio::join!(write.write_all(&large), read.read_exact(&mut back));
    sent.unwrap();
    assert_eq!(back, large);
    assert!(active(&port.mesh, 1), "{}", port.mesh.metrics());
    assert!(try_switch(port.address, "/chat").await.is_none());
    drop(stream);
    until("it is given back", || active(&port.mesh, 0)).await;
    let again = async {
        loop {
            if let Some(stream) = try_switch(port.address, "/chat").await {
                return stream;
            }
        }
    };
    let again = tokio::time::timeout(PATIENCE, again).await;
    talk(&mut again.expect("the place is free"), b"two").await;
}

#[tokio::test]
async fn c24_a_switched_stream_is_cut_by_a_policy_that_denies_it_and_others_go_on() {
    let port = port(|listener| listener).await;
    let mut denied = switch(port.address, "/chat").await;
    let mut other = switch(port.address, "/other").await;
    talk(&mut denied, b"one").await;
    port.publisher.publish(deny("/another")).await.unwrap();
    talk(&mut denied, b"two").await;
    port.publisher.publish(deny("/chat")).await.unwrap();
    end(&mut denied).await;
    talk(&mut other, b"three").await;
    assert_eq!(port.mesh.stats().inbound.cut, 1);
    until("it is given back", || active(&port.mesh, 1)).await;
}

#[tokio::test]
async fn a_switched_stream_is_a_request_of_its_port_until_it_is_dropped() {
    const PLAIN: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let port = port(|listener| listener).await;
    let one = Capacity {
        requests: NonZeroU32::new(1),
        ..Capacity::default()
    };
    let resources = Resources {
        capacities: Capacities {
            every: one,
            ..Capacities::default()
        },
        ..Resources::default()
    };
    port.publisher.publish(resources).await.unwrap();
    let mut stream = switch(port.address, "/chat").await;
    let mut second = TcpStream::connect(port.address).await.unwrap();
    let refused = ask(&mut second, PLAIN).await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert_eq!(port.mesh.stats().inbound.overloaded, 1);
    talk(&mut stream, b"one").await;
    drop(stream);
    let served = async {
        loop {
            let mut again = TcpStream::connect(port.address).await.unwrap();
            let head = ask(&mut again, PLAIN).await.unwrap();
            if head.starts_with("HTTP/1.1 200 ") {
                return;
            }
        }
    };
    let served = tokio::time::timeout(PATIENCE, served).await;
    served.expect("its place is free");
}

#[tokio::test]
async fn a_switched_stream_is_cut_after_the_drain_time_where_mutual_tls_is_demanded() {
    let port = port(|listener| listener.with_drain(Duration::from_millis(10))).await;
    let mut stream = switch(port.address, "/chat").await;
    talk(&mut stream, b"one").await;
    let strict = Resources {
        peers: PeerPolicy {
            mode: MutualTls::Strict,
            ..PeerPolicy::default()
        },
        ..Resources::default()
    };
    port.publisher.publish(strict).await.unwrap();
    end(&mut stream).await;
    until("it is given back", || active(&port.mesh, 0)).await;
}

#[tokio::test]
async fn a_switched_stream_has_the_drain_time_of_its_port_and_the_mesh_waits_for_it() {
    let port = port(|listener| listener.with_drain(Duration::from_secs(3_600))).await;
    let mut stream = switch(port.address, "/chat").await;
    let mesh = port.mesh.clone();
    let shutting = tokio::spawn(async move { mesh.shutdown(PATIENCE).await });
    // Nobody listens any more: the drain has begun.
    let begun = async { while TcpStream::connect(port.address).await.is_ok() {} };
    let begun = tokio::time::timeout(PATIENCE, begun).await;
    begun.expect("the port is closed");
    talk(&mut stream, b"one").await;
    assert!(!port.serving.is_finished());
    drop(stream);
    shutting.await.unwrap();
    port.serving.await.unwrap();
}

#[tokio::test]
async fn a_switched_stream_ends_with_the_mesh_after_the_drain_time() {
    let port = port(|listener| listener.with_drain(Duration::from_millis(10))).await;
    let mut stream = switch(port.address, "/chat").await;
    talk(&mut stream, b"one").await;
    let mesh = port.mesh.clone();
    let shutting = tokio::spawn(async move { mesh.shutdown(PATIENCE).await });
    end(&mut stream).await;
    shutting.await.unwrap();
    port.serving.await.unwrap();
}

#[tokio::test]
async fn a_channel_behind_a_port_hands_a_switched_stream_on() {
    let backend = port(|listener| listener).await;
    let mut resources = one(cluster("c", Protocol::Http1), &[1], |_| {});
    let mut members = endpoints("c", &[1]);
    members.localities[0].endpoints[0].address = backend.address.into();
    resources.insert_endpoints(members);
    let (publisher, source) = feed(resources.clone());
    let mesh = Mesh::builder().feed(source).start().await.unwrap();
    let listener = mesh.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr();
    let channel = mesh.channel("catalog").unwrap();
    tokio::spawn(listener.serve(mesh.inbound_layer().layer(channel)));
    let mut stream = switch(address, "/chat").await;
    talk(&mut stream, b"through a gateway").await;
    assert!(active(&backend.mesh, 1));
    assert_eq!(super::world::counted(&mesh, "c").active_requests, 1);
    drop(stream);
    until("the backend learns of it", || active(&backend.mesh, 0)).await;
    until("and so does the gateway", || active(&mesh, 0)).await;
    assert_eq!(super::world::counted(&mesh, "c").active_requests, 0);
    // A cut on the caller's side is one on the other.
    let mut stream = switch(address, "/chat").await;
    talk(&mut stream, b"again").await;
    resources.inbound = deny("/chat").inbound;
    publisher.publish(resources).await.unwrap();
    end(&mut stream).await;
    until("the backend learns of it", || active(&backend.mesh, 0)).await;
    assert_eq!(mesh.stats().inbound.cut, 1);
    assert_eq!(super::world::counted(&mesh, "c").active_requests, 0);
}

#[tokio::test]
async fn over_http2_no_switch_is_offered_and_none_is_answered_as_if_it_were() {
    const ENABLE_CONNECT_PROTOCOL: u8 = 8;
    let port = port(|listener| listener).await;
    let mut peer = Peer::call(TcpStream::connect(port.address).await.unwrap()).await;
    let settings = peer.read().await.unwrap();
    assert_eq!(settings.kind, SETTINGS);
    let offered: Vec<u8> = settings.payload.chunks(6).map(|one| one[1]).collect();
    assert!(!offered.contains(&ENABLE_CONNECT_PROTOCOL), "{offered:?}");
    let connect = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "a"),
        ("sec-websocket-version", "13"),
    ];
    peer.send(1, &connect).await;
    let refused = async {
        loop {
            match peer.read().await {
                None => return,
                Some(frame) if matches!(frame.kind, GOAWAY | RST_STREAM) => return,
                Some(frame) => assert_ne!(frame.kind, HEADERS, "{frame:?}"),
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await;
    refused.expect("the stream is refused");
}
