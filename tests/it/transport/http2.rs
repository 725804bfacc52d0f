//! HTTP/2: streams, their limits, and how connections end.

use std::error::Error as _;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Version;
use http_body::Body as _;
use http_body_util::BodyExt;
use meshwork::model::cluster::{Keepalive, Protocol};
use meshwork::transport::{Connections, End};
use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::peer::{
    CANCEL, DATA, ENHANCE_YOUR_CALM, NO_ERROR, PING, Peer, REFUSED_STREAM, RST_STREAM,
};
use super::world::{
    Server, Told, World, call, endpoint, get, handed, settings, settle, start, upload,
    used_up_after,
};

fn http2(world: &Arc<World>) -> Arc<Connections> {
    endpoint(settings(Protocol::Http2), world)
}

/// The peer of the next dial.
async fn next(dials: &mut mpsc::UnboundedReceiver<DuplexStream>) -> Peer {
    Peer::accept(dials.recv().await.unwrap(), 100).await
}

#[tokio::test(start_paused = true)]
async fn sixty_four_first_requests_share_one_dial() {
    let server = Server::default();
    let connections = http2(&server.world2());
    let calls: Vec<_> = (0..64).map(|_| start(&connections)).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "hello");
    }
    let stats = connections.stats();
    assert_eq!((stats.dials, stats.connections, stats.active), (1, 1, 0));
    assert_eq!(server.seen(), 64);
    let heads = server.heads.lock().unwrap();
    assert!(
        heads
            .iter()
            .all(|head| { head.version == Version::HTTP_2 && head.uri == "http://catalog/items" })
    );
}

#[tokio::test(start_paused = true)]
async fn a_next_connection_is_made_when_the_peers_limit_of_streams_is_reached() {
    let held = Arc::new(Notify::new());
    let connections = http2(&Server::held(&held).streams(10).world2());
    let calls: Vec<_> = (0..25).map(|_| start(&connections)).collect();
    settle().await;
    let stats = connections.stats();
    assert_eq!((stats.connections, stats.active, stats.pending), (3, 25, 0));
    held.notify_waiters();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn own_limit_of_streams_holds_if_it_is_lower() {
    let held = Arc::new(Notify::new());
    let mut settings = settings(Protocol::Http2);
    settings.connection.max_concurrent_streams = NonZeroU32::new(2);
    let connections = endpoint(settings, &Server::held(&held).streams(10).world2());
    let calls: Vec<_> = (0..5).map(|_| start(&connections)).collect();
    settle().await;
    assert_eq!(connections.stats().connections, 3);
    held.notify_waiters();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn h1_goaway_lets_requests_finish_and_the_next_one_dials() {
    let (world, mut dials) = handed();
    let connections = http2(&world);
    let first = start(&connections);
    let mut old = next(&mut dials).await;
    let stream = old.request().await;
    old.go_away(stream, NO_ERROR).await;
    settle().await;

    let second = start(&connections);
    let mut new = next(&mut dials).await;
    let other = new.request().await;
    new.respond(other).await;
    second.await.unwrap().unwrap();
    assert_eq!(
        connections.stats().active,
        1,
        "the first is still under way"
    );

    old.respond(stream).await;
    first.await.unwrap().unwrap();
    settle().await;
    let stats = connections.stats();
    assert_eq!(
        (stats.connections, stats.dials),
        (1, 2),
        "the old one closed"
    );
}

#[tokio::test(start_paused = true)]
async fn h1_goaway_after_every_third_request_loses_none() {
    let (world, mut dials) = handed();
    let connections = http2(&world);
    tokio::spawn(async move {
        while let Some(io) = dials.recv().await {
            tokio::spawn(async move {
                let mut peer = Peer::accept(io, 100).await;
                let mut last = 0;
                for _ in 0..3 {
                    last = peer.request().await;
                    peer.respond(last).await;
                }
                peer.go_away(last, NO_ERROR).await;
                peer.linger().await;
            });
        }
    });
    for _ in 0..300 {
        call(&connections).await.unwrap();
        settle().await;
    }
    assert_eq!(connections.stats().dials, 100);
}

#[tokio::test(start_paused = true)]
async fn h2_goaway_below_a_stream_says_that_it_was_not_processed() {
    for code in [NO_ERROR, ENHANCE_YOUR_CALM] {
        let (world, mut dials) = handed();
        let connections = http2(&world);
        let call = start(&connections);
        let mut peer = next(&mut dials).await;
        peer.request().await;
        peer.go_away(0, code).await;
        // CVE-2021-32780: again, and then no streams at all.
        peer.go_away(0, code).await;
        peer.settings(0).await;
        let unanswered = call.await.unwrap().unwrap_err();
        assert!(unanswered.error.is_reset() && unanswered.error.is_unprocessed());
        assert_eq!(
            unanswered.error.to_string(),
            "the peer refused the request unseen"
        );
        assert!(unanswered.error.source().is_some());
        peer.linger().await;
        settle().await;
        let stats = connections.stats();
        assert_eq!((stats.connections, stats.tasks), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn resets_are_told_apart_by_their_reason() {
    for (code, unprocessed) in [(REFUSED_STREAM, true), (CANCEL, false)] {
        let (world, mut dials) = handed();
        let connections = http2(&world);
        let refused = start(&connections);
        let mut peer = next(&mut dials).await;
        let stream = peer.request().await;
        peer.reset(stream, code).await;
        let unanswered = refused.await.unwrap().unwrap_err();
        assert!(unanswered.error.is_reset(), "{code}");
        assert_eq!(unanswered.error.is_unprocessed(), unprocessed, "{code}");
        assert!(unanswered.unsent.is_none(), "{code}");

        let answered = start(&connections);
        let stream = peer.request().await;
        peer.respond(stream).await;
        answered.await.unwrap().unwrap();
        assert_eq!(connections.stats().dials, 1, "{code}: the connection lives");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_after_the_request_is_a_reset() {
    let (world, mut dials) = handed();
    let connections = http2(&world);
    let call = start(&connections);
    let mut peer = next(&mut dials).await;
    peer.request().await;
    drop(peer);
    let unanswered = call.await.unwrap().unwrap_err();
    assert!(unanswered.error.is_reset() && !unanswered.error.is_unprocessed());
    settle().await;
    assert_eq!(connections.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn h3_limit_of_streams_that_changes_at_run_time_refuses_nothing() {
    let (world, mut dials) = handed();
    let mut settings = settings(Protocol::Http2);
    // The peer is silent while the test looks at it.
    settings.connection.http2_keepalive = None;
    let connections = endpoint(settings, &world);
    let first = start(&connections);
    let mut peer = next(&mut dials).await;
    let stream = peer.request().await;

    peer.settings(1).await;
    settle().await;
    let second = start(&connections);
    let mut other = next(&mut dials).await;
    let other_stream = other.request().await;

    peer.settings(0).await;
    other.settings(0).await;
    peer.respond(stream).await;
    other.respond(other_stream).await;
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();

    // Nothing fits on either; what comes now waits for a third connection that never gets ready.
    let waiting: Vec<_> = (0..50).map(|_| start(&connections)).collect();
    settle().await;
    let stats = connections.stats();
    assert_eq!((stats.pending, stats.active, stats.dials), (50, 0, 3));

    peer.settings(1_000).await;
    for _ in &waiting {
        let stream = peer.request().await;
        peer.respond(stream).await;
    }
    for call in waiting {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn f5_a_peer_that_falls_silent_is_found_out_by_pings() {
    for under_way in [false, true] {
        let (world, mut dials) = handed();
        let mut settings = settings(Protocol::Http2);
        settings.connection.http2_keepalive = Some(Keepalive {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
        });
        let connections = endpoint(settings, &world);
        let call = start(&connections);
        let mut peer = next(&mut dials).await;
        let stream = peer.request().await;
        if !under_way {
            peer.respond(stream).await;
            settle().await;
        }
        let since = Instant::now();
        assert!(peer.expect_without_answers(PING).await.is_some());
        assert!(since.elapsed() <= Duration::from_secs(10));
        let outcome = call.await.unwrap();
        settle().await;
        tokio::time::sleep_until(since + Duration::from_secs(16)).await;
        assert_eq!(connections.stats().connections, 0, "{under_way}");
        assert_eq!(outcome.is_err(), under_way);
        if let Err(unanswered) = outcome {
            assert!(unanswered.error.is_reset());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_replaced_after_its_last_request() {
    for at_once in [1, 7] {
        let server = Server::slow(Duration::from_millis(5));
        let connections = endpoint(used_up_after(Protocol::Http2, 10), &server.world2());
        for _ in 0..(140 / at_once) {
            let calls: Vec<_> = (0..at_once).map(|_| start(&connections)).collect();
            for call in calls {
                call.await.unwrap().unwrap();
            }
        }
        settle().await;
        let stats = connections.stats();
        assert_eq!((stats.dials, stats.connections), (14, 0), "{at_once}");
        assert_eq!(server.seen(), 140);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_closes_and_a_busy_one_does_not() {
    let held = Arc::new(Notify::new());
    let mut settings = settings(Protocol::Http2);
    settings.connection.idle_timeout = Some(Duration::from_secs(60));
    let connections = endpoint(settings, &Server::held(&held).world2());
    let call = start(&connections);
    tokio::time::sleep(Duration::from_secs(100)).await;
    held.notify_waiters();
    call.await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(connections.stats().connections, 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stats = connections.stats();
    assert_eq!((stats.connections, stats.tasks), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_finishes_its_requests_and_takes_no_more() {
    let held = Arc::new(Notify::new());
    let mut settings = settings(Protocol::Http2);
    settings.connection.max_age = Some(Duration::from_secs(30));
    let connections = endpoint(settings, &Server::held(&held).world2());
    let old = start(&connections);
    tokio::time::sleep(Duration::from_secs(31)).await;
    let new = start(&connections);
    settle().await;
    let stats = connections.stats();
    assert_eq!((stats.connections, stats.active, stats.dials), (2, 2, 2));
    held.notify_waiters();
    old.await.unwrap().unwrap();
    new.await.unwrap().unwrap();
    settle().await;
    assert_eq!(connections.stats().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn g9_a_body_that_breaks_off_is_an_error_and_the_guard_hears_of_it() {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let (world, mut dials) = handed();
    let connections = http2(&world);
    let sending = {
        let (connections, told) = (connections.clone(), Told(ends.clone()));
        tokio::spawn(async move { connections.send(get(), told).await })
    };
    let mut peer = next(&mut dials).await;
    let stream = peer.request().await;
    peer.respond_head(stream).await;
    peer.write(DATA, 0, stream, b"half").await;
    let mut body = sending.await.unwrap().unwrap().into_body();
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "half");
    assert!(ends.lock().unwrap().is_empty());
    peer.reset(stream, CANCEL).await;
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(error.is_body() && error.source().is_some());
    drop(body);
    assert_eq!(*ends.lock().unwrap(), [End::Broken]);
    assert_eq!(connections.stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn the_guard_hears_of_a_whole_body_and_of_a_dropped_one() {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let connections = http2(&Server::default().world2());
    let send = async || connections.send(get(), Told(ends.clone())).await.unwrap();
    let mut whole = send().await.into_body();
    while whole.frame().await.is_some() {}
    assert!(whole.is_end_stream());
    assert_eq!(
        *ends.lock().unwrap(),
        [End::Complete],
        "before it is dropped"
    );
    drop(whole);
    drop(send().await);
    assert_eq!(*ends.lock().unwrap(), [End::Complete, End::Dropped]);
}

#[tokio::test(start_paused = true)]
async fn trailers_are_the_end_even_if_nobody_asks_for_more() {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let (world, mut dials) = handed();
    let connections = http2(&world);
    let sending = {
        let (connections, told) = (connections.clone(), Told(ends.clone()));
        tokio::spawn(async move { connections.send(get(), told).await })
    };
    let mut peer = next(&mut dials).await;
    let stream = peer.request().await;
    peer.respond_head(stream).await;
    peer.write(DATA, 0, stream, b"message").await;
    peer.trailers(stream, "grpc-status", "0").await;
    let mut body = sending.await.unwrap().unwrap().into_body();
    assert!(body.frame().await.unwrap().unwrap().is_data());
    let trailers = body.frame().await.unwrap().unwrap();
    assert_eq!(trailers.into_trailers().unwrap()["grpc-status"], "0");
    assert_eq!(*ends.lock().unwrap(), [End::Complete]);
    assert_eq!(connections.stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn an_empty_response_ends_with_its_head() {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let (world, mut dials) = handed();
    let connections = http2(&world);
    let sending = {
        let (connections, told) = (connections.clone(), Told(ends.clone()));
        tokio::spawn(async move { connections.send(get(), told).await })
    };
    let mut peer = next(&mut dials).await;
    let stream = peer.request().await;
    peer.respond(stream).await;
    let response = sending.await.unwrap().unwrap();
    assert!(response.body().is_end_stream());
    assert_eq!(*ends.lock().unwrap(), [End::Complete]);
    assert_eq!(connections.stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn an_upload_ends_when_its_response_is_dropped() {
    let (world, mut dials) = handed();
    let connections = http2(&world);
    let (_frames, request) = upload();
    let sending = {
        let connections = connections.clone();
        tokio::spawn(async move { connections.send(request, ()).await })
    };
    let mut peer = next(&mut dials).await;
    let stream = peer.request().await;
    peer.respond_head(stream).await;
    drop(sending.await.unwrap().unwrap());
    let reset = peer.expect(RST_STREAM).await.unwrap();
    assert_eq!(reset.stream, stream);
    settle().await;
    assert_eq!(connections.stats().tasks, 1, "the connection's own");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_resets_its_stream_only() {
    let (world, mut dials) = handed();
    let connections = http2(&world);
    let dropped = start(&connections);
    let mut peer = next(&mut dials).await;
    let stream = peer.request().await;
    dropped.abort();
    let reset = peer.expect(RST_STREAM).await.unwrap();
    assert_eq!((reset.stream, reset.code()), (stream, CANCEL));
    let other = start(&connections);
    let stream = peer.request().await;
    peer.respond(stream).await;
    other.await.unwrap().unwrap();
    assert_eq!(connections.stats().dials, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_body_that_fails_is_the_callers_failure() {
    let connections = http2(&Server::default().world2());
    let (frames, request) = upload();
    frames.send(Ok("x".into())).await.unwrap();
    frames.send(Err("disk on fire".into())).await.unwrap();
    let unanswered = connections.send(request, ()).await.unwrap_err();
    assert!(unanswered.error.is_body(), "{:?}", unanswered.error);
}
