//! Connections that become something else: WebSocket and its like, over both versions of HTTP.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::ext::Protocol as Extended;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use meshwork::model::cluster::{Cluster, Connection, Protocol};
use meshwork::model::endpoint::Address;
use meshwork::model::limit::Limits;
use meshwork::model::route::{Forward, HeaderChange};
use meshwork::model::upgrade::Upgrades;
use meshwork::model::{Fraction, Resources};
use meshwork::transport::upgrade::{self, Upgraded};
use meshwork::{Body, CallOptions, Error, Mesh};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tower::ServiceExt;

use super::world::{
    Break, World, answer, call, cluster, counted, get, millis, one, retries, seconds, settle, text,
};

/// The example of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Switches to a protocol that sends everything back, whichever way it was asked.
fn echo(mut request: Request<Incoming>) -> Response<Body> {
    let extended = request.extensions().get::<Extended>().is_some();
    let asked = request
        .headers()
        .get("upgrade")
        .is_some_and(|value| value == "websocket");
    if !extended && !asked {
        return text("plain");
    }
    let switch = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(io) = switch.await else { return };
        let mut io = TokioIo::new(io);
        let mut buffer = [0; 1_024];
        while let Ok(length @ 1..) = io.read(&mut buffer).await {
            if io.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    });
    if extended {
        return answer(200);
    }
    let mut response = answer(101);
    let headers = response.headers_mut();
    headers.insert("connection", "upgrade".parse().unwrap());
    headers.insert("upgrade", "websocket".parse().unwrap());
    headers.insert("sec-websocket-accept", ACCEPT.parse().unwrap());
    response
}

fn websocket(uri: &str) -> Request<Body> {
    Request::get(uri)
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", KEY)
        .body(Body::empty())
        .unwrap()
}

/// Sends bytes back and forth.
async fn talk(stream: &mut Upgraded, words: &[&[u8]]) {
    for word in words {
        stream.write_all(word).await.unwrap();
        let mut back = vec![0; word.len()];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, *word);
    }
}

async fn switched(mesh: &Mesh, request: Request<Body>) -> Upgraded {
    let mut response = mesh.client().request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    upgrade::on(&mut response).await.unwrap()
}

/// A backend on a socket, and the resources that lead to it.
async fn on_a_socket(protocol: Protocol, change: impl FnOnce(&mut Forward)) -> Resources {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service =
                hyper::service::service_fn(|request| async { Ok::<_, Break>(echo(request)) });
            tokio::spawn(async move {
                let mut server = auto::Builder::new(TokioExecutor::new());
                server.http2().enable_connect_protocol();
                let _ = server
                    .serve_connection_with_upgrades(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    let mut resources = one(cluster("c", protocol), &[1], change);
    let mut endpoints = super::world::endpoints("c", &[1]);
    endpoints.localities[0].endpoints[0].address = Address::Socket(address);
    resources.insert_endpoints(endpoints);
    resources
}

async fn real_mesh(resources: Resources) -> (Mesh, meshwork::source::Publisher) {
    let (publisher, feed) = meshwork::source::feed(resources);
    (Mesh::builder().feed(feed).start().await.unwrap(), publisher)
}

#[tokio::test]
async fn on_sockets_a_switched_connection_echoes_in_both_versions_through_client_and_channel() {
    for protocol in [Protocol::Http1, Protocol::Http2, Protocol::SameAsRequest] {
        let (mesh, _publisher) = real_mesh(on_a_socket(protocol, |_| {}).await).await;
        let large = vec![7; 300_000];
        let mut response = mesh
            .client()
            .request(websocket("http://catalog/chat"))
            .await
            .unwrap();
        assert_eq!(response.status(), 101, "{protocol:?}");
        assert_eq!(response.headers()["upgrade"], "websocket", "{protocol:?}");
        assert_eq!(
            response.headers()["sec-websocket-accept"],
            ACCEPT,
            "{protocol:?}"
        );
        let mut stream = upgrade::on(&mut response).await.unwrap();
        talk(&mut stream, &[b"one", b"two"]).await;
        // More than any buffer on the way: both directions at once.
        let (mut read, mut write) = tokio::io::split(stream);
        let sent = large.clone();
        let writing = tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            write
        });
        let mut back = vec![0; large.len()];
        read.read_exact(&mut back).await.unwrap();
        assert_eq!(back, large, "{protocol:?}");
        drop((read, writing.await.unwrap()));

        let channel = mesh.channel("catalog").unwrap();
        let mut response = channel.oneshot(websocket("/chat")).await.unwrap();
        let mut stream = upgrade::on(&mut response).await.unwrap();
        talk(&mut stream, &[b"through a channel"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_counts_against_every_limit_until_it_is_dropped() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::default();
        world.serve(1, |request| async { echo(request) });
        let tight = Cluster {
            limits: Limits {
                requests: 1,
                connections: 1,
                ..Limits::default()
            },
            ..cluster("c", protocol)
        };
        let (mesh, _publisher) = world.mesh(one(tight, &[1], |_| {})).await;
        let mut stream = switched(&mesh, websocket("http://catalog/")).await;
        talk(&mut stream, &[b"one"]).await;
        let now = counted(&mesh, "c");
        assert_eq!(
            (now.active_requests, now.connections),
            (1, 1),
            "{protocol:?}"
        );
        assert_eq!(now.endpoints[0].active_requests, 1, "{protocol:?}");
        assert_eq!(now.endpoints[0].connections, 1, "{protocol:?}");
        let refused = call(&mesh, get("http://catalog/")).await.unwrap_err();
        assert!(refused.is_overloaded(), "{protocol:?}: {refused}");

        drop(stream);
        settle().await;
        let now = counted(&mesh, "c");
        assert_eq!(now.active_requests, 0, "{protocol:?}");
        let connections = u32::from(protocol == Protocol::Http2);
        assert_eq!(now.connections, connections, "{protocol:?}");
        assert_eq!(
            call(&mesh, get("http://catalog/")).await.unwrap().1,
            "plain"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_takes_the_stream_from_gives_everything_back() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::default();
        world.serve(1, |request| async { echo(request) });
        let (mesh, _publisher) = world.mesh(one(cluster("c", protocol), &[1], |_| {})).await;
        let response = mesh
            .client()
            .request(websocket("http://catalog/"))
            .await
            .unwrap();
        assert_eq!(counted(&mesh, "c").active_requests, 1);
        drop(response);
        settle().await;
        assert_eq!(counted(&mesh, "c").active_requests, 0, "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_extended_connect_of_a_caller_reaches_either_version_and_is_answered_with_200() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::default();
        world.serve(1, |request| async { echo(request) });
        let (mesh, _publisher) = world.mesh(one(cluster("c", protocol), &[1], |_| {})).await;
        let request = || {
            Request::connect("http://catalog/chat")
                .extension(Extended::from_static("websocket"))
                .body(Body::empty())
                .unwrap()
        };
        // HTTP/1.1 needs a key, which is made unless there is one.
        let mut with_key = request();
        with_key
            .headers_mut()
            .insert("sec-websocket-key", KEY.parse().unwrap());
        let mut response = mesh.client().request(with_key).await.unwrap();
        assert_eq!(response.status(), 200, "{protocol:?}");
        for header in ["connection", "upgrade", "sec-websocket-accept"] {
            assert!(
                !response.headers().contains_key(header),
                "{protocol:?} {header}"
            );
        }
        let mut stream = upgrade::on(&mut response).await.unwrap();
        talk(&mut stream, &[b"over", b"there"]).await;

        // A server that answers another key than the one that was made did not read it.
        if protocol == Protocol::Http1 {
            let error = mesh.client().request(request()).await.unwrap_err();
            assert!(error.is_upgrade(), "{error}");
            assert!(
                error.to_string().contains("does not answer the key"),
                "{error}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_protocol_that_the_route_does_not_allow_is_403_and_reaches_nobody() {
    let world = World::default();
    world.serve(1, |_| async { panic!("it must not be asked") });
    let none = one(cluster("c", Protocol::Http1), &[1], |to| {
        to.upgrades = Upgrades::none();
        to.retry = Some(retries(2, None));
    });
    let spdy = || {
        let mut request = websocket("http://catalog/");
        request
            .headers_mut()
            .insert("upgrade", "spdy/3.1".parse().unwrap());
        request
    };
    let default = one(cluster("c", Protocol::Http1), &[1], |_| {});
    for (resources, request) in [(none, websocket("http://catalog/")), (default, spdy())] {
        let (mesh, _publisher) = world.mesh(resources).await;
        let name = request.headers()["upgrade"].to_str().unwrap().to_owned();
        let again = spdy();
        let error = mesh.client().request(request).await.unwrap_err();
        assert!(error.is_upgrade() && error.is_unprocessed());
        assert_eq!(
            error.to_string(),
            format!(
                "the route does not let requests switch to {name:?}; Istio's routes allow \
                 websocket only (cluster c)"
            )
        );
        let channel = mesh.channel("catalog").unwrap();
        let response = channel.oneshot(again).await.unwrap();
        assert_eq!(response.status(), 403);
        assert_eq!(world.dials(1), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn headers_that_ask_for_no_switch_are_for_this_hop_and_stay_here() {
    let world = World::default();
    world.serve(1, |request: Request<Incoming>| async move {
        let headers = request.headers();
        let hop = ["connection", "upgrade", "http2-settings"];
        let found = hop
            .iter()
            .filter(|name| headers.contains_key(**name))
            .count();
        text(found.to_string())
    });
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http1), &[1], |_| {}))
        .await;
    for (connection, upgrade) in [
        ("keep-alive", "websocket"),
        ("Upgrade, HTTP2-Settings", "h2c"),
    ] {
        let request = Request::get("http://catalog/")
            .header("connection", connection)
            .header("upgrade", upgrade)
            .header("http2-settings", "AAMAAABk")
            .body(Body::empty())
            .unwrap();
        let (status, found) = call(&mesh, request).await.unwrap();
        let left = if upgrade == "h2c" { "0" } else { "1" };
        assert_eq!((status, &*found), (200, left), "{upgrade}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_does_not_switch_answers_as_to_any_request() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::default();
        world.serve(1, |_| async {
            let mut response = text("not here");
            *response.status_mut() = StatusCode::FORBIDDEN;
            response
        });
        let (mesh, _publisher) = world.mesh(one(cluster("c", protocol), &[1], |_| {})).await;
        for _ in 0..3 {
            let (status, body) = call(&mesh, websocket("http://catalog/")).await.unwrap();
            assert_eq!((status, &*body), (403, "not here"), "{protocol:?}");
        }
        // The connection carries on.
        assert_eq!(world.dials(1), 1, "{protocol:?}");
        let mut response = mesh
            .client()
            .request(websocket("http://catalog/"))
            .await
            .unwrap();
        let error = upgrade::on(&mut response).await.unwrap_err();
        assert!(error.is_upgrade(), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_retried_until_an_endpoint_switches_and_never_after() {
    let world = World::default();
    let (asked, broke) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let count = asked.clone();
    world.serve(1, move |mut request| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let broke = broke.clone();
        async move {
            if number == 0 {
                return answer(503);
            }
            let switch = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                // Hangs up as soon as it has switched.
                drop(switch.await);
                broke.fetch_add(1, Ordering::SeqCst);
            });
            let mut response = answer(101);
            let headers = response.headers_mut();
            headers.insert("connection", "upgrade".parse().unwrap());
            headers.insert("upgrade", "websocket".parse().unwrap());
            response
        }
    });
    let resources = one(cluster("c", Protocol::Http1), &[1], |to| {
        to.retry = Some(retries(5, None));
    });
    let (mesh, _publisher) = world.mesh(resources).await;
    let mut stream = switched(&mesh, websocket("http://catalog/")).await;
    let mut rest = Vec::new();
    // The end of the conversation, whether told as an end or as a break.
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    drop(stream);
    settle().await;
    assert_eq!(
        asked.load(Ordering::SeqCst),
        2,
        "one try that failed, one that switched"
    );
    let now = counted(&mesh, "c");
    assert_eq!((now.requests, now.retries, now.failures), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn it_is_neither_copied_nor_hedged() {
    let world = World::default();
    let asked = Arc::new(AtomicU32::new(0));
    for port in [1, 2, 3] {
        let asked = asked.clone();
        world.serve(port, move |request| {
            asked.fetch_add(1, Ordering::SeqCst);
            async {
                tokio::time::sleep(seconds(1)).await;
                echo(request)
            }
        });
    }
    let resources = one(cluster("c", Protocol::Http1), &[1, 2, 3], |to| {
        to.mirrors = vec![meshwork::model::route::Mirror {
            cluster: "c".into(),
            share: Fraction::ONE,
        }];
        let mut policy = retries(2, None);
        policy.hedge = Some(meshwork::model::retry::Hedge {
            delay: millis(100),
            extra: NonZeroU32::MIN,
        });
        to.retry = Some(policy);
    });
    let (mesh, _publisher) = world.mesh(resources).await;
    let mut stream = switched(&mesh, websocket("http://catalog/")).await;
    talk(&mut stream, &[b"once"]).await;
    let now = counted(&mesh, "c");
    assert_eq!((now.hedges, now.mirrored), (0, 0));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn timeouts_are_for_the_switch_and_only_idleness_ends_the_stream() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::default();
        world.serve(1, |request| async { echo(request) });
        let resources = one(cluster("c", protocol), &[1], |to| {
            to.timeout = Some(seconds(5));
            to.idle_timeout = Some(seconds(60));
        });
        let (mesh, _publisher) = world.mesh(resources).await;
        let mut request = websocket("http://catalog/");
        let options = CallOptions::new().timeout(seconds(3));
        request.extensions_mut().insert(options);
        let mut stream = switched(&mesh, request).await;
        for _ in 0..10 {
            tokio::time::sleep(seconds(59)).await;
            talk(&mut stream, &[b"still here"]).await;
        }
        let began = Instant::now();
        let mut buffer = [0; 1];
        let error = stream.read(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{protocol:?}");
        assert_eq!(began.elapsed().as_secs(), 60, "{protocol:?}");
        let cause = error.into_inner().unwrap().downcast::<Error>().unwrap();
        assert_eq!(cause.to_string(), "no byte moved for 60s", "{protocol:?}");

        // The switch itself is bounded.
        world.hung(1);
        let error = mesh
            .client()
            .request(websocket("http://catalog/"))
            .await
            .unwrap_err();
        assert!(error.is_timeout(), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_it_until_its_deadline() {
    let world = World::default();
    world.serve(1, |request| async { echo(request) });
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http1), &[1], |_| {}))
        .await;
    let stream = switched(&mesh, websocket("http://catalog/")).await;
    assert_eq!(mesh.shutdown(seconds(5)).await, 1);
    drop(stream);
    assert_eq!(mesh.shutdown(seconds(5)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_edit_leaves_it_alone_and_its_endpoint_goes_when_it_ends() {
    let world = World::default();
    world.serve(1, |request| async { echo(request) });
    world.named(2);
    let resources = |port| one(cluster("c", Protocol::Http1), &[port], |_| {});
    let (mesh, publisher) = world.mesh(resources(1)).await;
    let mut stream = switched(&mesh, websocket("http://catalog/")).await;
    publisher.publish(resources(2)).await.unwrap();
    talk(&mut stream, &[b"as before"]).await;
    assert_eq!(call(&mesh, get("http://catalog/")).await.unwrap().1, "2");
    talk(&mut stream, &[b"and on"]).await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_endpoint_that_knows_no_extended_connect_is_not_asked() {
    let (mesh, _publisher) = {
        let (publisher, feed) =
            meshwork::source::feed(one(cluster("c", Protocol::Http2), &[1], |_| {}));
        let mesh = Mesh::builder()
            .feed(feed)
            .connector(Plain)
            .start()
            .await
            .unwrap();
        (mesh, publisher)
    };
    let error = mesh
        .client()
        .request(websocket("http://catalog/"))
        .await
        .unwrap_err();
    assert!(error.is_upgrade(), "{error}");
    assert!(error.to_string().contains("RFC 8441"), "{error}");
    assert_eq!(error.status(), 503);
    assert_eq!(
        call(&mesh, get("http://catalog/")).await.unwrap().1,
        "plain"
    );
}

/// HTTP/2 servers that do not announce extended CONNECT.
#[derive(Debug)]
struct Plain;

impl meshwork::transport::Connect for Plain {
    fn connect(
        &self,
        _: &Address,
        _: &meshwork::transport::Settings,
    ) -> meshwork::transport::Connecting {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                assert_ne!(request.method(), http::Method::CONNECT);
                Ok::<_, Break>(text("plain"))
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(theirs), service)
                .await;
        });
        Box::pin(async move { Ok(meshwork::transport::Io::boxed(ours)) })
    }
}

#[tokio::test(start_paused = true)]
async fn header_changes_of_the_route_apply_and_the_handshake_stays() {
    let world = World::default();
    world.serve(1, |request: Request<Incoming>| async {
        assert_eq!(request.headers()["x-user"], "7");
        assert_eq!(request.headers()["connection"], "upgrade");
        echo(request)
    });
    let mut route = super::world::to("c", |_| {});
    let set = |name, value: &str| HeaderChange::Set(name, value.parse().unwrap());
    let name = http::HeaderName::from_static;
    route.headers.request = vec![set(name("x-user"), "7")];
    route.headers.response = vec![set(name("x-mesh"), "yes")];
    let resources = super::world::Plan::default()
        .cluster(cluster("c", Protocol::Http1), &[1])
        .host("catalog", vec![route])
        .build();
    let (mesh, _publisher) = world.mesh(resources).await;
    let mut response = mesh
        .client()
        .request(websocket("http://catalog/"))
        .await
        .unwrap();
    assert_eq!(response.headers()["x-mesh"], "yes");
    let mut stream = upgrade::on(&mut response).await.unwrap();
    talk(&mut stream, &[b"hello"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_switched_is_the_last_of_its_number_of_requests() {
    let world = World::default();
    world.serve(1, |request| async { echo(request) });
    let once = Cluster {
        connection: Connection {
            max_requests: NonZeroU32::new(1),
            ..Connection::default()
        },
        ..cluster("c", Protocol::Http1)
    };
    let (mesh, _publisher) = world.mesh(one(once, &[1], |_| {})).await;
    let mut first = switched(&mesh, websocket("http://catalog/")).await;
    let mut second = switched(&mesh, websocket("http://catalog/")).await;
    talk(&mut first, &[b"1"]).await;
    talk(&mut second, &[b"2"]).await;
    assert_eq!(world.dials(1), 2);
    assert_eq!(counted(&mesh, "c").connections, 2);
}
