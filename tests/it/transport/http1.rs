//! HTTP/1.1: one request at a time, the idle list, and how connections end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Version};
use http_body_util::BodyExt;
use meshwork::Body;
use meshwork::model::cluster::Protocol;
use meshwork::transport::{Connections, End};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;

use super::world::{
    Server, Told, World, call, endpoint, get, handed, settings, settle, start, upload,
    used_up_after,
};

fn http1(world: &Arc<World>) -> Arc<Connections> {
    endpoint(settings(Protocol::Http1), world)
}

/// Reads one request without a body.
async fn request(peer: &mut DuplexStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(peer.read_u8().await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test(start_paused = true)]
async fn one_connection_carries_requests_one_after_the_other() {
    let server = Server::default();
    let connections = http1(&server.world1());
    for _ in 0..100 {
        assert_eq!(call(&connections).await.unwrap(), "hello");
    }
    let stats = connections.stats();
    assert_eq!((stats.dials, stats.idle, stats.active), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn requests_at_once_have_a_connection_each_and_the_last_used_is_used_next() {
    let held = Arc::new(Notify::new());
    let mut settings = settings(Protocol::Http1);
    settings.connection.idle_timeout = Some(Duration::from_secs(60));
    let connections = endpoint(settings, &Server::held(&held).world1());
    let calls: Vec<_> = (0..8).map(|_| start(&connections)).collect();
    settle().await;
    assert_eq!(connections.stats().active, 8);
    held.notify_waiters();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(connections.stats().idle, 8);
    // One caller keeps one connection warm; the other seven go cold and close.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let call = start(&connections);
        settle().await;
        held.notify_waiters();
        call.await.unwrap().unwrap();
    }
    let stats = connections.stats();
    assert_eq!((stats.dials, stats.connections, stats.idle), (8, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_request_made_as_http2_arrives_as_http1() {
    let (world, mut dials) = handed();
    let connections = http1(&world);
    let made = Request::get("http://user@catalog:8080/items?a=b")
        .version(Version::HTTP_2)
        .header("host", "elsewhere")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("te", "trailers")
        .body(Body::empty())
        .unwrap();
    let sending = {
        let connections = connections.clone();
        tokio::spawn(async move { connections.send(made, ()).await.unwrap() })
    };
    let mut peer = dials.recv().await.unwrap();
    let text = request(&mut peer).await;
    assert_eq!(
        text,
        "GET /items?a=b HTTP/1.1\r\nhost: catalog:8080\r\nte: trailers\r\n\r\n"
    );
    peer.write_all(OK).await.unwrap();
    let body = sending.await.unwrap().into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_dropped_early_closes_its_connection() {
    let (world, mut dials) = handed();
    let connections = http1(&world);
    let ends = Arc::new(Mutex::new(Vec::new()));
    let sending = {
        let (connections, told) = (connections.clone(), Told(ends.clone()));
        tokio::spawn(async move { connections.send(get(), told).await.unwrap() })
    };
    let mut peer = dials.recv().await.unwrap();
    request(&mut peer).await;
    peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
        .await
        .unwrap();
    drop(sending.await.unwrap());
    assert_eq!(*ends.lock().unwrap(), [End::Dropped]);
    assert_eq!(peer.read(&mut [0]).await.unwrap(), 0, "closed");
    settle().await;
    let stats = connections.stats();
    assert_eq!((stats.connections, stats.tasks, stats.active), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn g9_a_body_that_breaks_off_is_an_error_and_the_guard_hears_of_it() {
    let (world, mut dials) = handed();
    let connections = http1(&world);
    let ends = Arc::new(Mutex::new(Vec::new()));
    let sending = {
        let (connections, told) = (connections.clone(), Told(ends.clone()));
        tokio::spawn(async move { connections.send(get(), told).await.unwrap() })
    };
    let mut peer = dials.recv().await.unwrap();
    request(&mut peer).await;
    peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
        .await
        .unwrap();
    drop(peer);
    let error = sending.await.unwrap().into_body().collect().await;
    assert!(error.unwrap_err().is_body());
    assert_eq!(*ends.lock().unwrap(), [End::Broken]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_closes_its_connection() {
    let (world, mut dials) = handed();
    let connections = http1(&world);
    let call = start(&connections);
    let mut peer = dials.recv().await.unwrap();
    request(&mut peer).await;
    call.abort();
    assert_eq!(peer.read(&mut [0]).await.unwrap(), 0, "closed");
    settle().await;
    assert_eq!(connections.stats().tasks, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_closes_its_connection_even_if_the_peer_reads_nothing() {
    let (world, mut dials) = handed();
    let connections = http1(&world);
    let (frames, request) = upload();
    frames.send(Ok(vec![0; 1 << 20].into())).await.unwrap();
    let sending = {
        let connections = connections.clone();
        tokio::spawn(async move { connections.send(request, ()).await })
    };
    let _stalled = dials.recv().await.unwrap();
    settle().await;
    assert_eq!(connections.stats().active, 1);
    sending.abort();
    settle().await;
    let stats = connections.stats();
    assert_eq!((stats.connections, stats.tasks), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_closed_while_idle_costs_no_request() {
    let (world, mut dials) = handed();
    let connections = http1(&world);
    for round in 1..=5 {
        let (answer, peer) = tokio::join!(call(&connections), async {
            let mut peer = dials.recv().await.unwrap();
            request(&mut peer).await;
            peer.write_all(OK).await.unwrap();
            peer
        });
        assert_eq!(answer.unwrap(), "ok");
        let stats = connections.stats();
        assert_eq!((stats.dials, stats.idle), (round, 1));
        // Closed; the next request takes the connection before its driver can notice, because
        // this task does not yield in between.
        drop(peer);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_read_to_its_length_is_whole_even_if_nobody_asks_for_more() {
    let connections = http1(&Server::default().world1());
    let response = connections.send(get(), ()).await.unwrap();
    let mut body = response.into_body();
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "hello");
    drop(body);
    assert_eq!(connections.stats().idle, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_body_that_fails_is_the_callers_failure() {
    let connections = http1(&Server::default().world1());
    let (frames, request) = upload();
    frames.send(Ok("x".into())).await.unwrap();
    frames.send(Err("disk on fire".into())).await.unwrap();
    let unanswered = connections.send(request, ()).await.unwrap_err();
    assert!(unanswered.error.is_body(), "{:?}", unanswered.error);
}

#[tokio::test(start_paused = true)]
async fn a_connection_closed_after_the_request_was_sent_is_a_reset() {
    let (world, mut dials) = handed();
    let connections = http1(&world);
    let first = start(&connections);
    let mut peer = dials.recv().await.unwrap();
    request(&mut peer).await;
    peer.write_all(OK).await.unwrap();
    first.await.unwrap().unwrap();

    let second = start(&connections);
    request(&mut peer).await;
    drop(peer);
    let unanswered = second.await.unwrap().unwrap_err();
    assert!(unanswered.error.is_reset() && !unanswered.error.is_unprocessed());
    assert!(unanswered.unsent.is_none());
    assert_eq!(connections.stats().dials, 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_http_is_a_reset() {
    let (world, mut dials) = handed();
    let connections = http1(&world);
    let call = start(&connections);
    let mut peer = dials.recv().await.unwrap();
    request(&mut peer).await;
    peer.write_all(b"\0\0\0\0 what?\r\n\r\n").await.unwrap();
    assert!(call.await.unwrap().unwrap_err().error.is_reset());
}

#[tokio::test(start_paused = true)]
async fn connection_close_is_respected() {
    let (world, mut dials) = handed();
    let connections = http1(&world);
    for _ in 0..3 {
        let call = start(&connections);
        let mut peer = dials.recv().await.unwrap();
        request(&mut peer).await;
        peer.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        call.await.unwrap().unwrap();
    }
    settle().await;
    assert_eq!(connections.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_end_of_the_upload_ends_both_and_the_connection() {
    let (world, mut dials) = handed();
    let connections = http1(&world);
    let (frames, request) = upload();
    frames.send(Ok("x".into())).await.unwrap();
    let sending = {
        let connections = connections.clone();
        tokio::spawn(async move { connections.send(request, ()).await.unwrap() })
    };
    let mut peer = dials.recv().await.unwrap();
    peer.read_u8().await.unwrap();
    peer.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(sending.await.unwrap().status(), 413);
    settle().await;
    assert!(frames.is_closed(), "nobody reads the body any more");
    let stats = connections.stats();
    assert_eq!((stats.connections, stats.tasks), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_replaced_after_its_last_request() {
    for requests in [1, 10] {
        let server = Server::default();
        let connections = endpoint(used_up_after(Protocol::Http1, requests), &server.world1());
        for _ in 0..100 {
            call(&connections).await.unwrap();
        }
        settle().await;
        let stats = connections.stats();
        assert_eq!(stats.dials, u64::from(100 / requests));
        assert_eq!((stats.connections, stats.tasks), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_is_replaced_idle_or_not() {
    let held = Arc::new(Notify::new());
    let mut settings = settings(Protocol::Http1);
    settings.connection.max_age = Some(Duration::from_secs(30));
    let connections = endpoint(settings, &Server::held(&held).world1());
    let busy = start(&connections);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(connections.stats().active, 1, "requests under way finish");
    held.notify_waiters();
    busy.await.unwrap().unwrap();
    settle().await;
    assert_eq!(connections.stats().connections, 0);

    let next = start(&connections);
    settle().await;
    held.notify_waiters();
    next.await.unwrap().unwrap();
    assert_eq!(connections.stats().idle, 1);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(connections.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_128_idle_connections_are_kept() {
    let held = Arc::new(Notify::new());
    let connections = http1(&Server::held(&held).world1());
    let calls: Vec<_> = (0..150).map(|_| start(&connections)).collect();
    settle().await;
    assert_eq!(connections.stats().connections, 150);
    held.notify_waiters();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    settle().await;
    let stats = connections.stats();
    assert_eq!(
        (stats.connections, stats.idle, stats.tasks),
        (128, 128, 128)
    );
}

#[tokio::test(start_paused = true)]
async fn zero_and_a_century_are_times_like_any_other() {
    let century = Duration::from_secs(100 * 365 * 86_400);
    for (idle, age, kept) in [
        (Duration::ZERO, century, 0),
        (century, Duration::ZERO, 0),
        (Duration::MAX, Duration::MAX, 1),
    ] {
        let mut settings = settings(Protocol::Http1);
        settings.connection.idle_timeout = Some(idle);
        settings.connection.max_age = Some(age);
        settings.connect_timeout = century;
        let server = Server::default();
        let connections = endpoint(settings, &server.world1());
        let _ = call(&connections).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(connections.stats().connections, kept, "{idle:?} {age:?}");
    }
}
