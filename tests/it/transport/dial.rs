//! Connecting, and failing to.

use std::error::Error as _;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use meshwork::Body;
use meshwork::model::cluster::Protocol;
use meshwork::transport::{Connections, End, is_exhausted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::world::{
    Dial, Server, Told, World, call, endpoint, get, handed, settings, settle, start,
};

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

#[tokio::test(start_paused = true)]
async fn f5_a_dial_that_is_never_answered_ends_with_the_connect_timeout() {
    for protocol in BOTH {
        let connections = endpoint(settings(protocol), &World::new(|_| Dial::Hang));
        let since = Instant::now();
        let unanswered = call(&connections).await.unwrap_err();
        assert_eq!(since.elapsed(), Duration::from_secs(10));
        assert!(unanswered.error.is_timeout() && unanswered.error.is_connect());
        assert_eq!(unanswered.error.to_string(), "could not connect within 10s");
        assert!(unanswered.unsent.is_some());
        settle().await;
        assert_eq!(connections.stats().tasks, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn f5_an_http2_peer_that_accepts_and_stays_silent_is_a_connect_timeout() {
    let (world, mut dials) = handed();
    let connections = endpoint(settings(Protocol::Http2), &world);
    let call = start(&connections);
    let _silent = dials.recv().await.unwrap();
    let since = Instant::now();
    let unanswered = call.await.unwrap().unwrap_err();
    assert!(since.elapsed() <= Duration::from_secs(10));
    assert!(unanswered.error.is_connect() && unanswered.error.is_timeout());
}

#[tokio::test(start_paused = true)]
async fn a_failed_dial_wakes_all_who_waited_for_it_with_the_cause() {
    let connections = endpoint(
        settings(Protocol::Http2),
        &World::new(|_| Dial::Fail(io::ErrorKind::ConnectionRefused.into())),
    );
    let calls: Vec<_> = (0..20).map(|_| start(&connections)).collect();
    for call in calls {
        let unanswered = call.await.unwrap().unwrap_err();
        assert!(unanswered.error.is_connect() && unanswered.error.is_unprocessed());
        let cause = unanswered.error.source().unwrap();
        let cause = cause.downcast_ref::<io::Error>().unwrap();
        assert_eq!(cause.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(unanswered.unsent.unwrap().uri(), "http://catalog/items");
    }
    settle().await;
    let stats = connections.stats();
    assert_eq!((stats.dials, stats.pending, stats.tasks), (1, 0, 0));
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn i5_want_of_file_descriptors_is_no_fault_of_the_endpoint() {
    const EMFILE: i32 = 24;
    for protocol in BOTH {
        let server = Server::default();
        let connections = endpoint(
            settings(protocol),
            &World::new(move |number| {
                let server = server.clone();
                match (number, protocol) {
                    (0, _) => Dial::Fail(io::Error::from_raw_os_error(EMFILE)),
                    (_, Protocol::Http2) => Dial::accept(|io| drop(tokio::spawn(server.http2(io)))),
                    (_, _) => Dial::accept(|io| drop(tokio::spawn(server.http1(io)))),
                }
            }),
        );
        let unanswered = call(&connections).await.unwrap_err();
        assert!(is_exhausted(&unanswered.error));
        call(&connections).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_speaks_http1_only_is_named_as_a_cause() {
    let (world, mut dials) = handed();
    let connections = endpoint(settings(Protocol::Http2), &world);
    let call = start(&connections);
    let mut peer = dials.recv().await.unwrap();
    let mut preface = [0; 24];
    peer.read_exact(&mut preface).await.unwrap();
    peer.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    drop(peer);
    let unanswered = call.await.unwrap().unwrap_err();
    assert!(unanswered.error.is_connect() && !unanswered.error.is_timeout());
    let cause = unanswered.error.source().unwrap().to_string();
    assert!(cause.contains("HTTP/1.1"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn closing_hands_back_who_waits_and_ends_the_dial() {
    for protocol in BOTH {
        let connections = endpoint(settings(protocol), &World::new(|_| Dial::Hang));
        let call = start(&connections);
        settle().await;
        assert_eq!(connections.stats().pending, 1);
        connections.close();
        let unanswered = call.await.unwrap().unwrap_err();
        assert!(unanswered.error.is_draining() && unanswered.unsent.is_some());
        settle().await;
        let stats = connections.stats();
        assert_eq!((stats.dialling, stats.tasks), (0, 0));
        let late = connections.send(get(), ()).await.unwrap_err();
        assert!(late.error.is_draining());
    }
}

#[tokio::test(start_paused = true)]
async fn retiring_closes_idle_connections_and_lets_busy_ones_finish() {
    for protocol in BOTH {
        let server = Server::slow(Duration::from_secs(5));
        let world = match protocol {
            Protocol::Http2 => server.world2(),
            Protocol::Http1 | Protocol::SameAsRequest => server.world1(),
        };
        let connections = endpoint(settings(protocol), &world);
        call(&connections).await.unwrap();
        assert_eq!(connections.stats().connections, 1);
        let busy = start(&connections);
        settle().await;
        connections.retire();
        settle().await;
        assert_eq!(connections.stats().connections, 1, "{protocol:?}");
        busy.await.unwrap().unwrap();
        settle().await;
        let stats = connections.stats();
        assert_eq!((stats.connections, stats.tasks), (0, 0), "{protocol:?}");

        let idle = endpoint(settings(protocol), &world);
        call(&idle).await.unwrap();
        idle.retire();
        settle().await;
        let stats = idle.stats();
        assert_eq!((stats.connections, stats.tasks), (0, 0), "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn retiring_serves_who_waits_and_who_still_comes_and_keeps_nothing() {
    for protocol in BOTH {
        let server = Server::slow(Duration::from_secs(5));
        let world = match protocol {
            Protocol::Http2 => server.world2(),
            Protocol::Http1 | Protocol::SameAsRequest => server.world1(),
        };
        let connections = endpoint(settings(protocol), &world);
        let mut waiting = tokio_test::task::spawn(connections.send(get(), ()));
        assert!(waiting.poll().is_pending());
        assert_eq!(connections.stats().pending, 1, "{protocol:?}");
        connections.retire();
        let response = waiting.await.unwrap();
        drop(response);
        settle().await;
        let stats = connections.stats();
        assert_eq!((stats.connections, stats.tasks), (0, 0), "{protocol:?}");
        let (one, other) = (start(&connections), start(&connections));
        one.await.unwrap().unwrap();
        other.await.unwrap().unwrap();
        settle().await;
        let stats = connections.stats();
        assert_eq!((stats.connections, stats.tasks), (0, 0), "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_closes() {
    let (world, mut dials) = handed();
    let connections = endpoint(settings(Protocol::Http1), &world);
    let call = start(&connections);
    let mut peer = dials.recv().await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(peer.read_u8().await.unwrap());
    }
    peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    call.await.unwrap().unwrap();
    drop(connections);
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "the connection ended, nothing else came");
}

#[tokio::test]
async fn an_answering_endpoint_keeps_the_guard_until_the_body_ends() {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let connections = Connections::answering(Arc::new(|request| {
        assert_eq!(request.uri(), "http://catalog/items");
        Response::new(Body::from("hello"))
    }));
    let response = connections.send(get(), Told(ends.clone())).await.unwrap();
    assert!(ends.lock().unwrap().is_empty());
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "hello");
    assert_eq!(*ends.lock().unwrap(), [End::Complete]);
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_says_why() {
    let connections = endpoint(settings(Protocol::Http1), &World::new(|_| Dial::Hang));
    let request = http::Request::get("/items").body(Body::empty());
    let unanswered = connections.send(request.unwrap(), ()).await.unwrap_err();
    assert_eq!(
        unanswered.error.to_string(),
        "the request cannot be sent: it has neither an authority nor a Host header"
    );
    assert_eq!(connections.stats().dials, 0);
}

/// A connector with a bug.
#[derive(Debug, Default)]
struct Buggy(std::sync::atomic::AtomicUsize);

impl meshwork::transport::Connect for Buggy {
    fn connect(
        &self,
        _: &meshwork::model::endpoint::Address,
        _: &meshwork::transport::Settings,
    ) -> meshwork::transport::Connecting {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Box::pin(async { panic!("a bug of the connector") })
    }
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_panics_is_a_failed_connect_and_is_not_called_again_by_itself() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let buggy = Arc::new(Buggy::default());
        #[derive(Debug)]
        struct Shared(Arc<Buggy>);
        impl meshwork::transport::Connect for Shared {
            fn connect(
                &self,
                address: &meshwork::model::endpoint::Address,
                settings: &meshwork::transport::Settings,
            ) -> meshwork::transport::Connecting {
                self.0.connect(address, settings)
            }
        }
        let connections = meshwork::transport::Connections::new(
            meshwork::model::endpoint::Address::Socket(([10, 0, 0, 1], 80).into()),
            Arc::new(settings(protocol)),
            Arc::new(Shared(buggy.clone())),
            Arc::new(meshwork::transport::Unlimited),
        );
        for dials in 1..=3 {
            let request = http::Request::get("http://a/")
                .body(meshwork::Body::empty())
                .unwrap();
            let unanswered = connections.send(request, ()).await.unwrap_err();
            assert!(unanswered.error.is_connect(), "{}", unanswered.error);
            assert!(unanswered.unsent.is_some());
            let cause = std::error::Error::source(&unanswered.error)
                .unwrap()
                .to_string();
            assert!(cause.contains("panicked"), "{cause}");
            assert_eq!(buggy.0.load(std::sync::atomic::Ordering::SeqCst), dials);
        }
    }
}
