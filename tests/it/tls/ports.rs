//! Two meshes and a port between them, on real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use meshwork::inbound::Peer;
use meshwork::model::Resources;
use meshwork::model::cluster::Protocol;
use meshwork::model::security::{ClientTls, MutualTls, PeerPolicy, Security};
use meshwork::source::{Publisher, feed};
use meshwork::tls::Credentials;
use meshwork::{Body, Mesh};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::service_fn;

use super::authority::{Authority, clock, credentials};
use super::handshakes::mesh_tls;
use crate::mesh::world::{cluster, endpoints, one};

pub(super) fn peers(mode: MutualTls) -> Resources {
    Resources {
        peers: PeerPolicy {
            mode,
            ..PeerPolicy::default()
        },
        ..Resources::default()
    }
}

/// A server that answers with who it thinks the caller is, and by which certificate.
pub(super) struct Server {
    pub(super) mesh: Mesh,
    pub(super) publisher: Publisher,
    pub(super) address: SocketAddr,
}

pub(super) async fn whoami(
    request: Request<Body>,
) -> Result<Response<Body>, std::convert::Infallible> {
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

pub(super) async fn server(own: Credentials, mode: MutualTls) -> Server {
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
pub(super) async fn client(
    own: Credentials,
    address: SocketAddr,
    protocol: Protocol,
    security: Security,
    change: impl FnOnce(&mut meshwork::model::Cluster),
) -> (Mesh, Publisher) {
    let meshed = !matches!(security, Security::Plaintext);
    client_of(own, address, protocol, security, meshed, change).await
}

pub(super) async fn client_of(
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

pub(super) fn tls() -> Security {
    Security::Tls(Arc::new(mesh_tls()))
}

pub(super) async fn ask(mesh: &Mesh) -> Result<(StatusCode, String), meshwork::Error> {
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
    let (mesh, _publisher) = client(
        caller.clone(),
        server.address,
        Protocol::Http2,
        security,
        |_| {},
    )
    .await;
    let error = ask(&mesh).await.unwrap_err();
    assert!(error.is_tls() && error.is_unprocessed(), "{error:?}");
    // A failure of this side's own making, as outlier detection counts them.
    assert_eq!(error.flag().unwrap().code(), "UF");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("spiffe://td/other"), "{cause}");
    let counted = mesh.stats();
    assert!(counted.clusters[0].endpoints[0].failures > 0, "{counted:?}");
    assert_eq!(
        caller.refusals().keys().collect::<Vec<_>>(),
        [&"wrong_name"]
    );
    // The server never got so far that a byte of a request could have been read.
    let own = server.mesh.credentials().unwrap();
    let refused = async {
        while own.counts().refused == 0 {
            tokio::task::yield_now().await;
        }
    };
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, refused).await.unwrap();
    assert_eq!(own.counts().accepted, 0);
}

#[tokio::test]
async fn b6_a_hundred_requests_that_are_under_way_finish_when_strict_comes() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let (publisher, source) = feed(peers(MutualTls::Permissive));
    let builder = Mesh::builder().feed(source).identity(own).clock(clock());
    let mesh = builder.start().await.unwrap();
    let listener = mesh.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr();
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    const CALLERS: usize = 100;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = gate.clone();
    tokio::spawn(listener.serve(service_fn(move |_: Request<Body>| {
        let (arrived, opened) = (arrived.clone(), opened.clone());
        async move {
            arrived.send(()).unwrap();
            opened.acquire().await.unwrap().forget();
            Ok::<_, std::convert::Infallible>(Response::new(Body::from("done")))
        }
    })));
    let mut streams = Vec::new();
    for _ in 0..CALLERS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: c\r\n\r\n")
            .await
            .unwrap();
        arrivals.recv().await.unwrap();
        streams.push(stream);
    }
    publisher.publish(peers(MutualTls::Strict)).await.unwrap();
    gate.add_permits(CALLERS);
    for mut stream in streams {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200") && text.ends_with("done"),
            "{text}"
        );
    }
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

/// HTTP/2 begins with these bytes; whoever stops within them has said neither that nor anything else.
#[tokio::test]
async fn whoever_connects_and_does_not_begin_gives_its_place_back() {
    let mesh = Mesh::builder().clock(clock()).start().await.unwrap();
    let soon = Duration::from_millis(20);
    let listener = mesh
        .listen("127.0.0.1:0")
        .await
        .unwrap()
        .with_max_connections(1)
        .with_handshake_deadline(soon)
        .with_head_deadline(soon);
    let address = listener.local_addr();
    tokio::spawn(listener.serve(service_fn(whoami)));
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for begun in [&b""[..], b"P", &preface[..23], b"GET / HTTP/1.1\r\nho"] {
        // The place of whoever was there before is free a moment after its connection is closed.
        let answer = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let get = b"GET / HTTP/1.1\r\nhost: c\r\nconnection: close\r\n\r\n";
                let mut answer = Vec::new();
                let _ = stream.write_all(get).await;
                let _ = stream.read_to_end(&mut answer).await;
                if answer.starts_with(b"HTTP/1.1 200") {
                    break;
                }
            }
            // Likewise; a connection that found no place ends at once.
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(begun).await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            answer
        });
        let answer = answer.await.expect("it is closed");
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_head_that_may_take_forever_is_answered() {
    let mesh = Mesh::builder().clock(clock()).start().await.unwrap();
    let listener = mesh.listen("127.0.0.1:0").await.unwrap();
    let listener = listener.with_head_deadline(Duration::MAX);
    let mut stream = TcpStream::connect(listener.local_addr()).await.unwrap();
    tokio::spawn(listener.serve(service_fn(whoami)));
    let get = b"GET / HTTP/1.1\r\nhost: c\r\nconnection: close\r\n\r\n";
    stream.write_all(get).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
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

#[cfg(feature = "yaml")]
#[tokio::test]
async fn a_credential_of_the_program_is_presented_and_without_it_nothing_is_sent() {
    let mut root = Authority::new("root");
    let own = credentials(&mut root, "spiffe://td/server");
    let identity = root.issue("spiffe://td/partner").identity();
    let roots = meshwork::tls::Trust::default().with_roots(root.bundle());
    let partner = Credentials::new(Some(identity), roots);
    let server = server(own, MutualTls::Strict).await;
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: catalog, namespace: my-app}}\nspec:\n  hosts: [catalog]\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  \
         endpoints: [{{address: 127.0.0.1, ports: {{http: {}}}}}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: catalog, namespace: my-app}}\nspec:\n  host: catalog\n  trafficPolicy:\n    \
         tls: {{mode: MUTUAL, credentialName: partner, subjectAltNames: [spiffe://td/server]}}\n",
        server.address.port()
    )
    // A name without a dot is completed in a rule and not in an entry.
    .replace("[catalog]", "[catalog.my-app.svc.cluster.local]");
    std::fs::write(folder.path().join("mesh.yaml"), text).unwrap();
    let builder = || {
        let workload = meshwork::Workload::new("my-app", "order-sa");
        let builder = Mesh::builder().yaml(folder.path()).workload(workload);
        builder.clock(clock())
    };
    let ask = async |mesh: &Mesh| {
        let request = Request::get("http://catalog.my-app.svc.cluster.local/").body(Body::empty());
        let response = mesh.client().request(request.unwrap()).await?;
        let text = response.into_body().collect().await?.to_bytes();
        Ok::<_, meshwork::Error>(String::from_utf8(text.to_vec()).unwrap())
    };
    let known = builder()
        .credential("partner", partner)
        .start()
        .await
        .unwrap();
    let text = ask(&known).await.unwrap();
    assert!(text.starts_with("spiffe://td/partner "), "{text}");
    let unknown = builder()
        .credential("other", Credentials::default())
        .start()
        .await
        .unwrap();
    let error = ask(&unknown).await.unwrap_err();
    assert!(error.is_tls() && error.is_connect(), "{error:?}");
}
