//! Two meshes and a port between them, on real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use meshwork::inbound::Peer;
use meshwork::model::Resources;
use meshwork::model::cluster::Protocol;
use meshwork::model::security::{ClientTls, MutualTls, PeerPolicy, Security};
use meshwork::source::{Publisher, feed};
use meshwork::tls::{Bundle, Connector, Credentials, Offer, Trust};
use meshwork::{Body, Mesh};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::service_fn;

use super::authority::{Authority, clock, credentials, trust};
use super::handshakes::mesh_tls;
use crate::mesh::world::{cluster, endpoints, one};

fn peers(mode: MutualTls) -> Resources {
    Resources {
        peers: PeerPolicy {
            mode,
            ..PeerPolicy::default()
        },
        ..Resources::default()
    }
}

/// A server that answers with who it thinks the caller is, and by which certificate.
struct Server {
    mesh: Mesh,
    publisher: Publisher,
    address: SocketAddr,
}

async fn whoami(request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
    let peer = request
        .extensions()
        .get::<Peer>()
        .cloned()
        .unwrap_or_default();
    let principal = peer
        .principal
        .map_or("nobody".to_owned(), |id| id.to_string());
    let serial = peer
        .certificate
        .map(|names| names.serial.to_string())
        .unwrap_or_default();
    Ok(Response::new(Body::from(format!("{principal} {serial}"))))
}

async fn server(own: Credentials, mode: MutualTls) -> Server {
    let (publisher, source) = feed(peers(mode));
    let builder = Mesh::builder().feed(source).identity(own).clock(clock());
    let mesh = builder.start().await.unwrap();
    let listener = mesh.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr();
    tokio::spawn(listener.serve(service_fn(whoami)));
    Server {
        mesh,
        publisher,
        address,
    }
}

/// A mesh whose host `c` is at this address.
async fn client(
    own: Credentials,
    address: SocketAddr,
    protocol: Protocol,
    security: Security,
    change: impl FnOnce(&mut meshwork::model::Cluster),
) -> (Mesh, Publisher) {
    let meshed = !matches!(security, Security::Plaintext);
    client_of(own, address, protocol, security, meshed, change).await
}

async fn client_of(
    own: Credentials,
    address: SocketAddr,
    protocol: Protocol,
    security: Security,
    meshed: bool,
    change: impl FnOnce(&mut meshwork::model::Cluster),
) -> (Mesh, Publisher) {
    let mut model = cluster("c", protocol);
    model.security = security;
    change(&mut model);
    let mut resources = one(model, &[1], |_| {});
    let mut members = endpoints("c", &[1]);
    let endpoint = &mut members.localities[0].endpoints[0];
    endpoint.address = address.into();
    endpoint.meshed = meshed;
    resources.insert_endpoints(members);
    let (publisher, source) = feed(resources);
    let builder = Mesh::builder().feed(source).identity(own).clock(clock());
    (builder.start().await.unwrap(), publisher)
}

fn tls() -> Security {
    Security::Tls(Arc::new(mesh_tls()))
}

async fn ask(mesh: &Mesh) -> Result<(StatusCode, String), meshwork::Error> {
    let request = Request::get("http://catalog/").body(Body::empty()).unwrap();
    let response = mesh.client().request(request).await?;
    let status = response.status();
    let text = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8(text.to_vec()).unwrap()))
}

#[tokio::test]
async fn every_kind_of_client_meets_every_kind_of_server() {
    use MutualTls::{Disable, Permissive, Strict};
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let caller = credentials(&mut root, "spiffe://td/caller");
    let auto = || Security::Automatic(Arc::new(mesh_tls()));
    for mode in [Disable, Permissive, Strict] {
        let server = server(own.clone(), mode).await;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            for (row, security, meshed) in [
                ("plaintext", Security::Plaintext, false),
                ("mutual", tls(), false),
                ("automatic, it speaks it", auto(), true),
                ("automatic, it does not", auto(), false),
            ] {
                let encrypted = matches!(security, Security::Tls(_)) || meshed;
                let address = server.address;
                let made = client_of(caller.clone(), address, protocol, security, meshed, |_| {});
                let (mesh, _publisher) = made.await;
                let place = format!("{row}, {protocol:?}, {mode:?}");
                match (mode, encrypted, ask(&mesh).await) {
                    (Disable | Permissive, false, Ok((_, text))) => {
                        assert_eq!(text, "nobody ", "{place}");
                    }
                    (Permissive | Strict, true, Ok((_, text))) => {
                        assert!(text.starts_with("spiffe://td/caller "), "{place}: {text}");
                    }
                    (Disable, true, Err(error)) => {
                        assert!(error.is_tls() && error.is_connect(), "{place}: {error:?}");
                    }
                    (Strict, false, Err(error)) => {
                        assert!(error.is_connect() || error.is_reset(), "{place}: {error:?}");
                    }
                    (_, _, outcome) => panic!("{place}: {outcome:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn b7_istio_mutual_never_falls_back_to_plaintext() {
    let mut root = Authority::new("root");
    let caller = credentials(&mut root, "spiffe://td/caller");
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let (mesh, _publisher) = client(caller, address, Protocol::Http1, tls(), |_| {}).await;
    let attacking = async {
        let (mut stream, _) = tcp.accept().await.unwrap();
        let mut seen = vec![0; 3];
        stream.read_exact(&mut seen).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        let _ = stream.read_to_end(&mut seen).await;
        seen
    };
    let (outcome, seen) = tokio::join!(ask(&mesh), attacking);
    let error = outcome.unwrap_err();
    assert!(error.is_tls() && error.is_unprocessed(), "{error:?}");
    assert_eq!(error.flag().unwrap().code(), "UF");
    assert!(seen.starts_with(&[0x16, 3]));
    assert!(
        !seen
            .windows(4)
            .any(|part| part == b"HTTP" || part == b"GET "),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a14_a_server_with_another_name_gets_no_byte_of_the_request() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/other");
    let caller = credentials(&mut root, "spiffe://td/caller");
    let server = server(own, MutualTls::Strict).await;
    let expects = meshwork::model::matcher::StringMatcher::Exact("spiffe://td/server".into());
    let expecting = ClientTls {
        names: vec![expects],
        ..mesh_tls()
    };
    let security = Security::Tls(Arc::new(expecting));
    let (mesh, _publisher) =
        client(caller, server.address, Protocol::Http2, security, |_| {}).await;
    let error = ask(&mesh).await.unwrap_err();
    assert!(error.is_tls(), "{error:?}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("spiffe://td/other"), "{cause}");
}

/// Callers in a loop until they are told to stop; none may fail.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn on(meshes: &[&Mesh], callers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        for mesh in meshes {
            for _ in 0..callers {
                let (mesh, stop, served) = (Mesh::clone(mesh), stop.clone(), served.clone());
                tasks.push(tokio::spawn(async move {
                    while !stop.load(Relaxed) {
                        let (status, text) = ask(&mesh).await.expect("no request fails");
                        assert_eq!(status, StatusCode::OK);
                        assert!(text.starts_with("spiffe://td/caller "), "{text}");
                        served.fetch_add(1, Relaxed);
                    }
                }));
            }
        }
        Self {
            stop,
            served,
            tasks,
        }
    }

    /// Waits until this many more requests were served.
    async fn more(&self, requests: u64) {
        let goal = self.served.load(Relaxed) + requests;
        while self.served.load(Relaxed) < goal {
            assert!(
                self.tasks.iter().all(|task| !task.is_finished()),
                "a request failed"
            );
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.served.load(Relaxed)
    }
}

fn once(model: &mut meshwork::model::Cluster) {
    model.connection.max_requests = std::num::NonZeroU32::new(1);
}

#[tokio::test]
async fn a1_a_thousand_rotations_on_both_sides_lose_no_request_and_each_is_shown() {
    const ROTATIONS: u64 = 1_000;
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let caller = credentials(&mut root, "spiffe://td/caller");
    let server = server(own.clone(), MutualTls::Strict).await;
    let address = server.address;
    let (two, _p) = client(caller.clone(), address, Protocol::Http2, tls(), |_| {}).await;
    let (fresh, _q) = client(caller.clone(), address, Protocol::Http2, tls(), once).await;
    let load = Load::on(&[&two], 4);
    let observer = Connector::new(&mesh_tls(), Some(caller.clone()), caller.clone(), clock());
    for _ in 0..ROTATIONS {
        own.rotate(root.issue("spiffe://td/server").identity());
        caller.rotate(root.issue("spiffe://td/caller").identity());
        // The stamp: what a new handshake shows on either side is the newest.
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = observer.connect(stream, "a", Offer::Http2).await.unwrap();
        assert_eq!(&*stream.known().serial, own.identity().unwrap().serial());
        let (_, text) = ask(&fresh).await.expect("no request fails");
        let expected = format!("spiffe://td/caller {}", caller.identity().unwrap().serial());
        assert_eq!(text, expected);
        load.more(1).await;
    }
    let served = load.end().await;
    assert!(served >= ROTATIONS, "{served}");
    assert_eq!(
        (own.counts().rotations, caller.counts().rotations),
        (ROTATIONS, ROTATIONS)
    );
    assert_eq!(
        (own.counts().refused, own.counts().cut, caller.counts().cut),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn a2_a_root_is_replaced_in_three_steps_under_load_without_a_lost_request() {
    for server_first in [true, false] {
        let (mut old, mut new) = (Authority::new("old"), Authority::new("new"));
        let own = credentials(&mut old, "spiffe://td/server");
        let caller = credentials(&mut old, "spiffe://td/caller");
        let server = server(own.clone(), MutualTls::Strict).await;
        let address = server.address;
        let (one, _p) = client(caller.clone(), address, Protocol::Http1, tls(), |_| {}).await;
        let (two, _q) = client(caller.clone(), address, Protocol::Http2, tls(), |_| {}).await;
        let load = Load::on(&[&one, &two], 2);
        load.more(50).await;
        let both = format!("{}{}", old.pem(), new.pem());
        let both = Bundle::from_pem(both.as_bytes()).unwrap();
        let both = Trust::default().with_domain("td".parse().unwrap(), both);
        let mut order = [
            (&own, "spiffe://td/server"),
            (&caller, "spiffe://td/caller"),
        ];
        if !server_first {
            order.reverse();
        }
        for (peer, _) in order {
            peer.trust(both.clone());
            load.more(100).await;
        }
        for (peer, id) in order {
            peer.rotate(new.issue(id).identity());
            load.more(100).await;
        }
        for (peer, _) in order {
            peer.trust(trust(&new));
            load.more(100).await;
        }
        assert!(load.end().await > 600);
        assert_eq!(
            (own.counts().cut, caller.counts().cut),
            (0, 0),
            "none had to be cut"
        );
        // What the old root has signed is nobody any more.
        let late = Credentials::new(Some(old.issue("spiffe://td/caller").identity()), both);
        let (late, _r) = client(late, address, Protocol::Http2, tls(), |_| {}).await;
        ask(&late).await.unwrap_err();
    }
}

#[tokio::test]
async fn b6_strict_drains_plaintext_and_no_mutual_request_is_lost() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let caller = credentials(&mut root, "spiffe://td/caller");
    let server = server(own, MutualTls::Permissive).await;
    let address = server.address;
    let (mutual, _p) = client(caller.clone(), address, Protocol::Http2, tls(), |_| {}).await;
    let plain = |protocol| {
        client(
            caller.clone(),
            address,
            protocol,
            Security::Plaintext,
            |_| {},
        )
    };
    let (one, _q) = plain(Protocol::Http1).await;
    let (two, _r) = plain(Protocol::Http2).await;
    assert_eq!(ask(&one).await.unwrap().1, "nobody ");
    assert_eq!(ask(&two).await.unwrap().1, "nobody ");
    let load = Load::on(&[&mutual], 4);
    load.more(20).await;
    for _ in 0..10 {
        server
            .publisher
            .publish(peers(MutualTls::Strict))
            .await
            .unwrap();
        for mesh in [&one, &two] {
            match ask(mesh).await {
                Ok((status, text)) => assert_eq!(status, StatusCode::FORBIDDEN, "{text}"),
                Err(error) => assert!(error.is_connect() || error.is_reset(), "{error:?}"),
            }
        }
        load.more(20).await;
        server
            .publisher
            .publish(peers(MutualTls::Permissive))
            .await
            .unwrap();
        load.more(20).await;
    }
    load.end().await;
    assert_eq!(ask(&two).await.unwrap().1, "nobody ", "it is welcome again");
}

#[tokio::test]
async fn b6_a_request_that_is_under_way_finishes_when_strict_comes() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let (publisher, source) = feed(peers(MutualTls::Permissive));
    let builder = Mesh::builder().feed(source).identity(own).clock(clock());
    let mesh = builder.start().await.unwrap();
    let listener = mesh.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr();
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = gate.clone();
    tokio::spawn(listener.serve(service_fn(move |_: Request<Body>| {
        let (arrived, opened) = (arrived.clone(), opened.clone());
        async move {
            arrived.send(()).unwrap();
            opened.notified().await;
            Ok::<_, std::convert::Infallible>(Response::new(Body::from("done")))
        }
    })));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: c\r\n\r\n")
        .await
        .unwrap();
    arrivals.recv().await.unwrap();
    publisher.publish(peers(MutualTls::Strict)).await.unwrap();
    gate.notify_one();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200") && text.ends_with("done"),
        "{text}"
    );
}

#[tokio::test]
async fn b1_strict_closes_plaintext_without_an_answer() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let server = server(own, MutualTls::Strict).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost: c\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A reset is as good an end.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{answer:?}");
    }
    assert_eq!(server.mesh.credentials().unwrap().counts().refused, 2);
}

#[tokio::test]
async fn a_listener_holds_as_many_connections_as_it_may_and_ends_with_the_mesh() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let mesh = Mesh::builder()
        .identity(own)
        .clock(clock())
        .start()
        .await
        .unwrap();
    let listener = mesh
        .listen("127.0.0.1:0")
        .await
        .unwrap()
        .with_max_connections(1);
    let address = listener.local_addr();
    let serving = tokio::spawn(listener.serve(service_fn(whoami)));
    let get = b"GET / HTTP/1.1\r\nhost: c\r\n\r\n";
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(get).await.unwrap();
    let mut head = [0; 12];
    first.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let mut second = TcpStream::connect(address).await.unwrap();
    let _ = second.write_all(get).await;
    let mut answer = Vec::new();
    let _ = second.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{answer:?}");
    mesh.shutdown(Duration::from_secs(5)).await;
    serving.await.unwrap();
    TcpStream::connect(address).await.unwrap_err();
}

#[tokio::test]
async fn health_has_a_port_of_its_own_and_says_when_callers_should_go_elsewhere() {
    async fn probe(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (status, body) = (&text[9..12], text.rsplit("\r\n\r\n").next().unwrap());
        format!("{status} {body}")
    }
    let mut root = Authority::new("root");
    let own = Credentials::default();
    let mesh = Mesh::builder()
        .identity(own.clone())
        .clock(clock())
        .start()
        .await
        .unwrap();
    let health = mesh.health("127.0.0.1:0").await.unwrap();
    assert_eq!(probe(health, "/livez").await, "200 alive");
    assert_eq!(
        probe(health, "/readyz").await,
        "503 there is no identity yet"
    );
    own.rotate(root.issue("spiffe://td/server").identity());
    assert_eq!(probe(health, "/readyz").await, "200 ready");
    assert_eq!(
        probe(health, "/items").await,
        "404 ask for /livez or /readyz"
    );
}

#[tokio::test]
async fn axum_and_tonic_are_served_as_they_are() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let caller = credentials(&mut root, "spiffe://td/caller");
    let (_publisher, source) = feed(peers(MutualTls::Strict));
    let builder = Mesh::builder().feed(source).identity(own).clock(clock());
    let mesh = builder.start().await.unwrap();

    let listener = mesh.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr();
    let who = |axum::Extension(peer): axum::Extension<Peer>| async move {
        format!("{} ", peer.principal.unwrap())
    };
    let app: axum::Router = axum::Router::new().route("/", axum::routing::get(who));
    tokio::spawn(listener.serve(app.layer(mesh.inbound_layer())));
    let (axum, _p) = client(caller.clone(), address, Protocol::Http1, tls(), |_| {}).await;
    assert_eq!(ask(&axum).await.unwrap().1, "spiffe://td/caller ");

    let listener = mesh.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr();
    let (_reporter, health) = tonic_health::server::health_reporter();
    let routes = tonic::service::Routes::new(health).prepare();
    tokio::spawn(listener.serve(routes));
    let (tonic, _q) = client(caller, address, Protocol::Http2, tls(), |_| {}).await;
    let channel = tonic.channel("catalog").unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let asked = tonic_health::pb::HealthCheckRequest::default();
    let answer = health.check(asked).await.unwrap().into_inner();
    assert_eq!(answer.status, 1);
}

#[tokio::test]
async fn strict_holds_for_the_plain_layer_too() {
    use tower::{Layer, ServiceExt};
    let mut policy = peers(MutualTls::Strict);
    policy.peers.ports.insert(8_081, MutualTls::Disable);
    let (publisher, source) = feed(policy);
    let mesh = Mesh::builder().feed(source).start().await.unwrap();
    let layer = mesh.inbound_layer();
    let status = |layer: meshwork::inbound::InboundLayer, peer: Option<Peer>, grpc: bool| async move {
        let mut request = Request::post("http://a/p.S/M").body(Body::empty()).unwrap();
        request.extensions_mut().extend({
            let mut extensions = http::Extensions::new();
            peer.map(|peer| extensions.insert(peer));
            extensions
        });
        if grpc {
            let value = "application/grpc".parse().unwrap();
            request.headers_mut().insert("content-type", value);
        }
        let response = layer
            .layer(service_fn(whoami))
            .oneshot(request)
            .await
            .unwrap();
        let code = response.headers().get("grpc-status");
        code.map_or(response.status().as_u16().to_string(), |code| {
            format!("grpc {}", code.to_str().unwrap())
        })
    };
    let at = |port: u16| Peer::plaintext(None, Some(([127, 0, 0, 1], port).into()));
    let mut encrypted = at(8_080);
    encrypted.tls = true;
    let mut mutual = encrypted.clone();
    mutual.principal = Some("spiffe://td/caller".parse().unwrap());
    for (row, layer, peer, expected) in [
        ("nobody knows the connection", layer.clone(), None, "403"),
        ("plaintext", layer.clone(), Some(at(8_080)), "403"),
        ("no certificate", layer.clone(), Some(encrypted), "403"),
        ("mutual", layer.clone(), Some(mutual), "200"),
        (
            "a port that is exempt",
            layer.clone(),
            Some(at(8_081)),
            "200",
        ),
        (
            "the same, by the program",
            layer.clone().on_port(8_081),
            None,
            "200",
        ),
        (
            "a port that is not",
            layer.clone().on_port(8_080),
            None,
            "403",
        ),
        (
            "a sidecar in front",
            layer.clone().trust_transport(),
            None,
            "200",
        ),
    ] {
        assert_eq!(status(layer, peer, false).await, expected, "{row}");
    }
    assert_eq!(status(layer.clone(), None, true).await, "grpc 7");
    assert_eq!(mesh.stats().inbound.denied, 5);
    publisher
        .publish(peers(MutualTls::Permissive))
        .await
        .unwrap();
    assert_eq!(status(layer, None, false).await, "200");
}

#[tokio::test]
async fn want_of_an_identity_of_ones_own_ejects_no_endpoint() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let servers = [
        server(own.clone(), MutualTls::Strict).await,
        server(own, MutualTls::Strict).await,
    ];
    let mut model = cluster("c", Protocol::Http2);
    model.security = tls();
    model.outlier = Some(meshwork::model::outlier::Outlier {
        consecutive_5xx: std::num::NonZeroU32::new(1),
        ..meshwork::model::outlier::Outlier::default()
    });
    let mut resources = one(model, &[1, 2], |_| {});
    let mut members = endpoints("c", &[1, 2]);
    for (index, server) in servers.iter().enumerate() {
        members.localities[0].endpoints[index].address = server.address.into();
    }
    resources.insert_endpoints(members);
    let (_publisher, source) = feed(resources);
    let late = Credentials::new(None, trust(&root));
    let builder = Mesh::builder()
        .feed(source)
        .identity(late.clone())
        .clock(clock());
    let mesh = builder.start().await.unwrap();
    for _ in 0..4 {
        let error = ask(&mesh).await.unwrap_err();
        assert!(error.is_tls() && error.is_unprocessed(), "{error:?}");
    }
    assert_eq!(mesh.stats().clusters[0].ejections, 0);
    late.rotate(root.issue("spiffe://td/caller").identity());
    assert!(
        ask(&mesh)
            .await
            .unwrap()
            .1
            .starts_with("spiffe://td/caller ")
    );
    // The same failures count where the endpoint is the reason.
    servers[0].mesh.credentials().unwrap().withdraw();
    let mut tries = 0;
    while mesh.stats().clusters[0].ejections == 0 {
        let _ = ask(&mesh).await;
        tries += 1;
        assert!(tries < 100, "nobody is ejected");
    }
}

#[tokio::test]
async fn grpc_meets_every_kind_of_server() {
    use MutualTls::{Disable, Permissive, Strict};
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let caller = credentials(&mut root, "spiffe://td/caller");
    let auto = || Security::Automatic(Arc::new(mesh_tls()));
    for mode in [Disable, Permissive, Strict] {
        let (_publisher, source) = feed(peers(mode));
        let builder = Mesh::builder().feed(source).identity(own.clone());
        let mesh = builder.clock(clock()).start().await.unwrap();
        let listener = mesh.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr();
        let (_reporter, health) = tonic_health::server::health_reporter();
        let routes = tonic::service::Routes::new(health).prepare();
        tokio::spawn(listener.serve(routes));
        for (row, security, meshed) in [
            ("plaintext", Security::Plaintext, false),
            ("mutual", tls(), false),
            ("automatic, it speaks it", auto(), true),
            ("automatic, it does not", auto(), false),
        ] {
            let encrypted = matches!(security, Security::Tls(_)) || meshed;
            let made = client_of(
                caller.clone(),
                address,
                Protocol::Http2,
                security,
                meshed,
                |_| {},
            );
            let (mesh, _publisher) = made.await;
            let mut health = tonic_health::pb::health_client::HealthClient::new(
                mesh.channel("catalog").unwrap(),
            );
            let asked = tonic_health::pb::HealthCheckRequest::default();
            let answer = health.check(asked).await;
            let good = match mode {
                Disable => !encrypted,
                Permissive => true,
                Strict => encrypted,
            };
            match answer {
                Ok(answer) => assert!(good && answer.into_inner().status == 1, "{row}, {mode:?}"),
                Err(status) => assert!(
                    !good && status.code() == tonic::Code::Unavailable,
                    "{row}, {mode:?}: {status}"
                ),
            }
        }
    }
}
