use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3 as pb;
use meshwork::control::{Kind, Limits, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

use super::world::{PATIENCE, Sotw, World, endpoint, publish};

#[tokio::test]
async fn k6_streams_beyond_the_limit_are_refused_and_a_place_is_given_back() {
    let store = Store::new();
    publish(&store, &[("a", "1")]);
    let limits = Limits {
        streams: 2,
        ..Limits::default()
    };
    let world = World::start(store, limits).await;
    let mut first = Sotw::open(world.channel().await).await;
    let mut second = Sotw::open(world.channel().await).await;
    for stream in [&mut first, &mut second] {
        stream.ask(Kind::Cluster, &[]).await;
        assert_eq!(stream.takes().await, ["1"]);
    }
    let mut third = Sotw::open(world.channel().await).await;
    let status = third.next().await.expect_err("refused");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(world.server.report().turned_away, 1);
    drop(first);
    // The server learns of it when it learns of it.
    loop {
        let mut again = Sotw::open(world.channel().await).await;
        again.ask(Kind::Cluster, &[]).await;
        if again.next().await.is_ok() {
            return;
        }
    }
}

#[tokio::test]
async fn k6_too_large_and_too_many_end_the_stream_that_sent_them() {
    let store = Store::new();
    publish(&store, &[("a", "1")]);
    let limits = Limits {
        names: 10,
        message_bytes: 10_000,
        ..Limits::default()
    };
    let world = World::start(store, limits).await;
    let many: Vec<String> = (0..11).map(|at| at.to_string()).collect();
    let many: Vec<&str> = many.iter().map(|name| &**name).collect();
    let large = "x".repeat(20_000);
    for names in [&many[..], &[&large]] {
        let mut stream = Sotw::open(world.channel().await).await;
        stream.ask(Kind::Cluster, names).await;
        let status = stream.next().await.expect_err("refused");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    }
    // As many names as are allowed, and a long one, are answered.
    let long = "x".repeat(8_000);
    let most: Vec<&str> = many[..9].iter().copied().chain(["a"]).collect();
    for names in [&most[..], &["a", &long]] {
        let mut stream = Sotw::open(world.channel().await).await;
        stream.ask(Kind::Cluster, names).await;
        assert_eq!(stream.takes().await, ["1"], "{} names", names.len());
    }
}

/// What a client has not read yet is at most what it was sent at once; everybody else is served.
#[tokio::test]
async fn s26_k6_a_stuck_reader_delays_nobody_and_is_ended() {
    let large = "x".repeat(1 << 20);
    let store = Store::new();
    publish(&store, &[("a", &large)]);
    let limits = Limits {
        write: Duration::from_millis(300),
        ..Limits::default()
    };
    let world = World::start(store, limits).await;
    let narrow = endpoint(world.address)
        .initial_stream_window_size(1_000)
        .initial_connection_window_size(70_000);
    let stuck = Sotw::open(narrow.connect().await.expect("it listens")).await;
    stuck.ask(Kind::Cluster, &[]).await;
    let mut other = Sotw::open(world.channel().await).await;
    other.ask(Kind::Cluster, &[]).await;
    assert_eq!(other.takes().await[0].len(), large.len());
    for body in 0..20 {
        let body = body.to_string();
        world.publish(&[("a", &body)]);
        assert_eq!(other.takes().await, [body]);
    }
    while world.server.report().stuck == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.server.report().stuck, 1);
}

#[tokio::test]
async fn k6_a_thousand_streams_get_their_first_state_in_turns() {
    let store = Store::new();
    publish(&store, &[("a", "1")]);
    let limits = Limits {
        initial_syncs: 3,
        ..Limits::default()
    };
    let world = World::start(store, limits).await;
    let mut streams = Vec::new();
    for at in 0..1_000 {
        if at % 100 == 0 {
            streams.push((world.channel().await, Vec::new()));
        }
        let (channel, of_channel) = streams.last_mut().expect("one was pushed");
        let stream = Sotw::open(channel.clone()).await;
        stream.ask(Kind::Cluster, &[]).await;
        of_channel.push(stream);
    }
    for stream in streams.iter_mut().flat_map(|(_, streams)| streams) {
        assert_eq!(stream.takes().await, ["1"]);
    }
    world.publish(&[("a", "2")]);
    for stream in streams.iter_mut().flat_map(|(_, streams)| streams) {
        assert_eq!(stream.takes().await, ["2"]);
    }
    assert_eq!(world.server.report().opened, 1_000);
}

/// A client that never answers gets one response of each kind, however often the state changes.
#[tokio::test]
async fn s25_k6_a_client_that_never_answers_gets_no_more() {
    let world = World::of(&[("a", "1")]).await;
    let mut silent = Sotw::open(world.channel().await).await;
    silent.ask(Kind::Cluster, &[]).await;
    silent.next().await.expect("the first state");
    let mut other = Sotw::open(world.channel().await).await;
    other.ask(Kind::Cluster, &[]).await;
    other.takes().await;
    for body in 0..50 {
        let body = body.to_string();
        world.publish(&[("a", &body)]);
        assert_eq!(other.takes().await, [body]);
    }
    assert_eq!(world.server.report().pushed(Kind::Cluster), 52);
    silent
        .send(pb::DiscoveryRequest {
            type_url: Kind::Cluster.type_url().into(),
            response_nonce: "1".into(),
            ..pb::DiscoveryRequest::default()
        })
        .await;
    assert_eq!(silent.takes().await, ["49"]);
}

/// How HTTP/2 begins: with these bytes, and with settings.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8; 9] = b"\0\0\0\x04\0\0\0\0\0";

/// Connects, says this and nothing more, and reads until the connection is closed.
async fn says_and_waits(address: std::net::SocketAddr, said: &[u8]) -> Vec<u8> {
    let read = async {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        // A place that is not given back is one that nobody reads from.
        let _ = stream.write_all(said).await;
        let mut read = Vec::new();
        let _ = stream.read_to_end(&mut read).await;
        read
    };
    let read = tokio::time::timeout(PATIENCE, read).await;
    read.expect("it is closed")
}

/// The only place of the server is taken by each in turn.
#[tokio::test]
async fn k6_a_connection_that_does_not_begin_gives_its_place_back() {
    let limits = Limits {
        connections: 1,
        hello: Duration::from_millis(20),
        ..Limits::default()
    };
    let world = World::start(Store::new(), limits).await;
    for said in [&b""[..], b"P", &PREFACE[..23], b"GET / HTTP/1.1\r\n"] {
        says_and_waits(world.address, said).await;
    }
}

#[tokio::test]
async fn k6_a_connection_without_a_call_is_told_to_leave_and_is_ended() {
    let limits = Limits {
        idle: Duration::from_millis(20),
        drain: Duration::from_millis(20),
        ..Limits::default()
    };
    let world = World::start(Store::new(), limits).await;
    let read = says_and_waits(world.address, &[&PREFACE[..], SETTINGS].concat()).await;
    let goaway = frames(&read).any(|kind| kind == 7);
    assert!(goaway, "{read:?}");
}

/// The types of the frames of HTTP/2 (RFC 9113, 4.1).
fn frames(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (head, behind) = rest.split_first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        rest = behind.get(length..)?;
        Some(head[3])
    })
}
