//! A server that a control plane configures (gRFC A36), on real sockets.

mod filters;
mod rbac;
mod secrets;
mod secured;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use meshwork::inbound::{Peer, Serving as State};
use meshwork::source::xds::{Bootstrap, Kind};
use meshwork::{Body, Builder, Mesh};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower::{Layer as _, service_fn};

use super::messages::{Made, chain, cluster, endpoints, routes, served, server_listener};
use super::plane::{PORT, Plane};
use crate::mesh::world::World;

const PATIENCE: Duration = Duration::from_secs(60);

/// A mesh that serves, and the plane that configures it.
pub(super) struct Serving {
    pub(super) plane: Plane,
    address: SocketAddr,
    name: String,
    mesh: Mesh,
    states: watch::Receiver<Option<State>>,
}

/// A body that has begun and never ends.
struct Endless(bool);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        match std::mem::replace(&mut self.0, true) {
            false => {
                let begin = http_body::Frame::data(Bytes::from_static(b"begun"));
                std::task::Poll::Ready(Some(Ok(begin)))
            }
            true => std::task::Poll::Pending,
        }
    }
}

async fn handler(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/endless" {
        return Ok(Response::new(Body::new(Endless(false))));
    }
    if request.uri().path() == "/echo" {
        return Ok(Response::new(request.into_body()));
    }
    let peer = request.extensions().get::<Peer>();
    let text = match peer.filter(|peer| peer.tls).map(|peer| &peer.principal) {
        None => "served".to_owned(),
        Some(None) => "served nobody".to_owned(),
        Some(Some(principal)) => format!("served {principal}"),
    };
    Ok(Response::new(Body::from(text)))
}

async fn start() -> Serving {
    start_with("").await
}

/// `more`: further fields of the bootstrap.
async fn start_with(more: &str) -> Serving {
    start_built(more, |builder| builder).await
}

/// The same, built with more.
pub(super) async fn start_built(more: &str, build: impl FnOnce(Builder) -> Builder) -> Serving {
    start_under(r#""fail_on_data_errors""#, more, build).await
}

/// A server whose control plane has these features.
async fn start_under(
    features: &str,
    more: &str,
    build: impl FnOnce(Builder) -> Builder,
) -> Serving {
    let world = World::default();
    let plane = Plane::new(&world);
    let text = format!(
        r#"{{"xds_servers": [{{"server_uri": "plane:{PORT}", "channel_creds": [{{"type": "insecure"}}],
              "server_features": [{features}]}}],
            "server_listener_resource_name_template": "server/%s"{more}}}"#
    );
    let mesh = Mesh::builder()
        .xds(Bootstrap::from_json(&text).unwrap())
        .connector(world);
    let mesh = build(mesh).start().await.unwrap();
    let listener = mesh.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr();
    let service = mesh.inbound_layer().layer(service_fn(handler));
    let (told, states) = watch::channel(None);
    let listener = listener.on_serving(move |state| drop(told.send(Some(state.clone()))));
    tokio::spawn(listener.serve(service));
    Serving {
        plane,
        address,
        name: format!("server/{address}"),
        mesh,
        states,
    }
}

impl Serving {
    pub(super) fn listener(&self, change: impl FnOnce(&mut listener::Listener)) -> Made {
        server_listener(&self.name, self.address, change)
    }

    /// Waits until the program is told so.
    async fn state(&self, wanted: impl Fn(&State) -> bool) {
        let mut states = self.states.clone();
        let told = states.wait_for(|state| state.as_ref().is_some_and(&wanted));
        let told = tokio::time::timeout(PATIENCE, told).await;
        drop(told.expect("it is told in time").expect("it listens"));
    }

    async fn not_serving(&self, because: &str) {
        self.state(|state| match state {
            State::NotServing { why } => why.contains(because),
            _ => false,
        })
        .await;
    }

    /// The status of a request on a connection of its own; `None`: closed without a byte.
    pub(super) async fn get(&self, path: &str, headers: &str) -> Option<u16> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        ask(&mut stream, path, headers).await
    }

    /// The head of an answer, on a connection of its own.
    pub(super) async fn head(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: catalog\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    pub(super) async fn until(&self, path: &str, expected: Option<u16>) {
        self.until_with(path, "", expected).await;
    }

    /// The same with further lines of the head.
    pub(super) async fn until_with(&self, path: &str, headers: &str, expected: Option<u16>) {
        let reached = async {
            while self.get(path, headers).await != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, reached).await;
        assert!(found.is_ok(), "{path} never became {expected:?}");
    }
}

/// Asks on a connection that stays; the status, or `None` if it is closed.
async fn ask(stream: &mut TcpStream, path: &str, headers: &str) -> Option<u16> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: catalog\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head).unwrap();
    let length = text
        .to_lowercase()
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| {
            rest.split("\r\n").next().unwrap().parse::<usize>().unwrap()
        });
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    text.split(' ').nth(1).unwrap().parse().ok()
}

#[tokio::test]
async fn c20_a_port_serves_while_it_has_a_listener_and_the_routes_say_what() {
    let serving = start().await;
    // Nothing is known: connections are accepted, and closed without a byte.
    assert_eq!(serving.get("/items", "").await, None);
    serving.plane.put([serving.listener(|_| {})]);
    serving.plane.put([served(&["/items"], |_| {})]);
    serving.until("/items", Some(200)).await;
    assert_eq!(serving.get("/other", "").await, Some(503));
    // Other routes, on the same connection: it is not drained for them.
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    assert_eq!(ask(&mut stream, "/items", "").await, Some(200));
    serving.plane.put([served(&["/other"], |_| {})]);
    serving.until("/other", Some(200)).await;
    assert_eq!(ask(&mut stream, "/other", "").await, Some(200));
    assert_eq!(ask(&mut stream, "/items", "").await, Some(503));
    // Routes that send requests on are for clients.
    serving.plane.put([cluster("c"), endpoints("c", &[1])]);
    serving.plane.put([routes("served", &[("c", 1)])]);
    serving.until("/other", Some(503)).await;
}

#[tokio::test]
async fn c20_connections_are_drained_when_the_listener_changes_and_closed_when_it_is_gone() {
    let serving = start().await;
    serving.plane.put([serving.listener(|_| {})]);
    serving.plane.put([served(&["/"], |_| {})]);
    serving.until("/", Some(200)).await;
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    assert_eq!(ask(&mut stream, "/", "").await, Some(200));
    let changed = serving.listener(|message| {
        message.filter_chains = vec![chain(Vec::new(), None)];
    });
    serving.plane.put([changed]);
    let drained = tokio::time::timeout(PATIENCE, stream.read_u8()).await;
    assert!(drained.expect("it is closed").is_err());
    serving.until("/", Some(200)).await;
    serving.plane.drop_resource(Kind::Listener, &serving.name);
    serving.until("/", None).await;
}

#[tokio::test]
async fn c20_a_listener_for_another_address_and_one_of_clients_serve_nobody() {
    let serving = start().await;
    let other = SocketAddr::from(([127, 0, 0, 1], 1));
    serving
        .plane
        .put([server_listener(&serving.name, other, |message| {
            message.filter_chains = vec![chain(Vec::new(), None)];
        })]);
    serving.not_serving("is for 127.0.0.1:1,").await;
    assert_eq!(serving.get("/", "").await, None);
    let any = SocketAddr::from(([0, 0, 0, 0], serving.address.port()));
    serving
        .plane
        .put([server_listener(&serving.name, any, |message| {
            message.filter_chains = vec![chain(Vec::new(), None)];
        })]);
    serving.until("/", Some(200)).await;
    serving
        .plane
        .put([super::messages::listener(&serving.name, "served")]);
    serving.plane.put([served(&["/"], |_| {})]);
    serving.not_serving("is for clients").await;
    assert_eq!(serving.get("/", "").await, None);
}

#[tokio::test]
async fn a_connection_belongs_to_one_chain() {
    let serving = start().await;
    let chains = |matched: listener::FilterChainMatch| {
        serving.listener(|message| {
            message.filter_chains = vec![listener::FilterChain {
                filter_chain_match: Some(matched),
                ..chain(Vec::new(), None)
            }];
        })
    };
    // From another machine, which nobody here is.
    let far = listener::FilterChainMatch {
        source_type: 2,
        ..listener::FilterChainMatch::default()
    };
    serving.plane.put([chains(far)]);
    serving.state(|state| *state == State::Serving).await;
    assert_eq!(serving.get("/", "").await, None);
    let near = listener::FilterChainMatch {
        source_type: 1,
        ..listener::FilterChainMatch::default()
    };
    serving.plane.put([chains(near)]);
    serving.until("/", Some(200)).await;
}

#[tokio::test]
async fn the_program_and_the_metrics_are_told_whether_a_port_serves() {
    let serving = start().await;
    let gauge = |value: u8| {
        format!(
            "meshwork_inbound_serving{{address=\"{}\"}} {value}\n",
            serving.address
        )
    };
    serving.state(|state| *state != State::Serving).await;
    assert!(serving.mesh.metrics().contains(&gauge(0)));
    serving.plane.put([serving.listener(|message| {
        message.filter_chains = vec![chain(Vec::new(), None)];
    })]);
    serving.state(|state| *state == State::Serving).await;
    assert!(serving.mesh.metrics().contains(&gauge(1)));
    serving.plane.drop_resource(Kind::Listener, &serving.name);
    serving.not_serving("does not exist").await;
    assert!(serving.mesh.metrics().contains(&gauge(0)));
}

#[tokio::test]
async fn a_listener_that_changes_under_load_loses_no_request() {
    let serving = start().await;
    // Each change brings a path of its own, by which it is seen to be in force.
    let edition = |number: usize| {
        serving.listener(move |message| {
            let path = format!("/{number}");
            let mut one = chain(Vec::new(), None);
            super::messages::with_manager(&mut one, |manager| {
                manager.route_specifier = Some(super::messages::inline(&["/ok", &path]));
            });
            message.filter_chains = vec![one];
        })
    };
    serving.plane.put([edition(0)]);
    serving.until("/0", Some(200)).await;
    let client = Mesh::builder().start().await.unwrap();
    let (over, answered) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (client, over, answered) = (client.client(), over.clone(), answered.clone());
            let uri = format!("http://{}/ok", serving.address);
            tokio::spawn(async move {
                while !over.load(SeqCst) {
                    let request = Request::get(&uri).version(http::Version::HTTP_2);
                    let request = request.body(Body::empty()).unwrap();
                    let response = client.request(request).await.expect("an answer");
                    assert_eq!(response.status(), 200);
                    response.into_body().collect().await.expect("a whole body");
                    answered.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for number in 1..=20 {
        let before = answered.load(SeqCst);
        serving.plane.put([edition(number)]);
        serving.until(&format!("/{number}"), Some(200)).await;
        let went_on = tokio::time::timeout(PATIENCE, async {
            while answered.load(SeqCst) < before + 4 {
                tokio::task::yield_now().await;
            }
        });
        went_on.await.expect("callers go on");
    }
    over.store(true, SeqCst);
    for caller in callers {
        caller.await.expect("no request was lost");
    }
}
