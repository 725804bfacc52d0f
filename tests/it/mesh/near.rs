//! Priorities that retries leave, hosts behind an egress proxy, sessions by header, and the PROXY
//! protocol, through the front door.

use std::num::NonZeroU32;

use http::Request;
use hyper::body::Incoming;
use meshwork::OutboundTraffic;
use meshwork::model::Resources;
use meshwork::model::affinity::SessionKey;
use meshwork::model::cluster::{Cluster, Connection, Protocol, ProxyProtocol};
use meshwork::model::endpoint::{Address, LocalityEndpoints};
use meshwork::{CallReport, Mesh, Random};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::world::{World, call, cluster, endpoints, get, one, retries, text};

/// Endpoints at priorities: ports 1 and 2 at 0, 3 at 1, 4 at 2.
fn at_priorities(mut resources: Resources) -> Resources {
    let all = endpoints("c", &[1, 2, 3, 4]);
    let group = all.localities[0].clone();
    let part = |priority, range: std::ops::Range<usize>| LocalityEndpoints {
        priority,
        endpoints: range.map(|at| group.endpoints[at].clone()).collect(),
        ..group.clone()
    };
    let localities = vec![part(0, 0..2), part(1, 2..3), part(2, 3..4)];
    resources.insert_endpoints(meshwork::model::Endpoints { localities, ..all });
    resources
}

#[tokio::test(start_paused = true)]
async fn after_two_tries_retries_leave_the_priority_that_failed() {
    let world = World::default();
    (1..=4).for_each(|port| world.status(port, 503));
    for (leave, expected) in [
        (NonZeroU32::new(2), "0 0 1 1 2 2"),
        (NonZeroU32::new(1), "0 1 2 0 0 0"),
        (None, "0 0 0 0 0 0"),
    ] {
        let resources = one(cluster("c", Protocol::Http1), &[1, 2, 3, 4], |to| {
            let mut policy = retries(5, None);
            policy.leave_priorities = leave;
            to.retry = Some(policy);
        });
        let (mesh, _publisher) = world.mesh(at_priorities(resources)).await;
        let report = CallReport::default();
        let mut request = get("http://catalog/");
        request.extensions_mut().insert(report.clone());
        assert_eq!(call(&mesh, request).await.unwrap().0, 503);
        let went = report.attempts();
        let went: Vec<&str> = went
            .iter()
            .map(
                |attempt| match attempt.endpoint.rsplit_once(':').unwrap().1 {
                    "1" | "2" => "0",
                    "3" => "1",
                    _ => "2",
                },
            )
            .collect();
        assert_eq!(went.join(" "), expected, "{leave:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_hosts_go_to_the_egress_proxy_by_their_own_names() {
    let world = World::default();
    world.serve(1, |request: Request<Incoming>| async move {
        text(request.headers()["host"].as_bytes().to_vec())
    });
    let mut resources = one(cluster("c", Protocol::Http1), &[1], |_| {});
    resources.egress_proxy = Some("c".into());
    let (mesh, publisher) = world.mesh(resources.clone()).await;
    for host in ["elsewhere.example", "elsewhere.example:8080"] {
        let (status, body) = call(&mesh, get(&format!("http://{host}/"))).await.unwrap();
        assert_eq!((status, &*body), (200, host));
    }
    let channel = mesh.channel("third.example").unwrap();
    let response = tower::ServiceExt::oneshot(channel, get("/")).await.unwrap();
    assert_eq!(response.status(), 200);
    // A proxy that is not there is a route that leads nowhere, not a way around it.
    resources.egress_proxy = Some("gone".into());
    publisher.publish(resources.clone()).await.unwrap();
    let error = call(&mesh, get("http://elsewhere.example/"))
        .await
        .unwrap_err();
    assert_eq!(error.flag().unwrap().code(), "NC");
    // What the program says of unknown hosts stands above.
    resources.egress_proxy = Some("c".into());
    let (_publisher, feed) = meshwork::source::feed(resources);
    let strict = Mesh::builder()
        .feed(feed)
        .connector(world.clone())
        .random(Random::seeded(7))
        .outbound_traffic(OutboundTraffic::RegistryOnly);
    let error = call(
        &strict.start().await.unwrap(),
        get("http://elsewhere.example/"),
    )
    .await;
    assert!(error.unwrap_err().is_no_route());
}

#[tokio::test(start_paused = true)]
async fn a_session_by_header_comes_back_to_its_endpoint() {
    let world = World::default();
    (1..=5).for_each(|port| world.named(port));
    let name = http::HeaderName::from_static("x-at");
    let session = SessionKey::Header(name.clone()).into();
    let resources = one(cluster("c", Protocol::Http1), &[1, 2, 3, 4, 5], |to| {
        to.affinity.session = Some(session);
    });
    let (mesh, _publisher) = world.mesh(resources).await;
    for _ in 0..10 {
        let first = mesh.client().request(get("http://catalog/")).await.unwrap();
        let at = first.headers()[&name].clone();
        let body = http_body_util::BodyExt::collect(first.into_body())
            .await
            .unwrap();
        let served = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        for _ in 0..5 {
            let mut again = get("http://catalog/");
            again.headers_mut().insert(&name, at.clone());
            assert_eq!(call(&mesh, again).await.unwrap().1, served);
        }
        let mut nonsense = get("http://catalog/");
        nonsense.headers_mut().insert(&name, "?".parse().unwrap());
        assert_eq!(call(&mesh, nonsense).await.unwrap().0, 200);
    }
}

#[tokio::test]
async fn on_sockets_a_connection_begins_with_the_proxy_protocols_header() {
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let (mut stream, peer) = listener.accept().await.unwrap();
            let length = match version {
                ProxyProtocol::V1 => format!(
                    "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n",
                    peer.port(),
                    address.port()
                )
                .len(),
                ProxyProtocol::V2 => 28,
            };
            let mut header = vec![0; length];
            stream.read_exact(&mut header).await.unwrap();
            let mut request = [0; 1_024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET / HTTP/1.1\r\n"));
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
            (header, peer)
        });
        let announced = Cluster {
            connection: Connection {
                proxy_protocol: Some(version),
                ..Connection::default()
            },
            ..cluster("c", Protocol::Http1)
        };
        let mut resources = one(announced, &[1], |_| {});
        let mut all = endpoints("c", &[1]);
        all.localities[0].endpoints[0].address = Address::Socket(address);
        resources.insert_endpoints(all);
        let (_publisher, feed) = meshwork::source::feed(resources);
        let mesh = Mesh::builder().feed(feed).start().await.unwrap();
        assert_eq!(call(&mesh, get("http://catalog/")).await.unwrap().0, 200);
        let (header, peer) = serving.await.unwrap();
        match version {
            ProxyProtocol::V1 => {
                let expected = format!(
                    "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n",
                    peer.port(),
                    address.port()
                );
                assert_eq!(header, expected.as_bytes());
            }
            ProxyProtocol::V2 => {
                assert_eq!(header[12..16], [0x21, 0x11, 0, 12]);
                assert_eq!(header[24..26], peer.port().to_be_bytes());
            }
        }
    }
}
