//! HTTP/2 peers that do what no decent peer does (rows H4 to H7 of the catalogue).
//!
//! What is asked of the client each time: it does not panic, it keeps a bounded amount, the call
//! ends when the peer does, and whoever calls somebody else at that time notices nothing.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use meshwork::Body;
use meshwork::model::cluster::Protocol;
use tokio::time::{Instant, timeout};

use super::peer::{DATA, HEADERS, NO_ERROR, PING, Peer, RST_STREAM, SETTINGS};
use super::world::{Dial, Server, World, call, endpoint, handed, settings, settle, start, upload};

const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// A header field that is not put into the table (RFC 7541 §6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0];
    for text in [name, value] {
        length(text.len(), &mut block);
        block.extend(text.as_bytes());
    }
    block
}

/// A length with a prefix of seven bits (RFC 7541 §5.1).
fn length(length: usize, block: &mut Vec<u8>) {
    if length < 127 {
        block.push(length as u8);
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// `:status`, written out.
fn status(code: u16) -> Vec<u8> {
    let mut block = vec![8, 3];
    block.extend(code.to_string().bytes());
    block
}

/// The frames of one kind of flood, one after the other, for a call on `stream`.
type Flood = fn(u32, u32) -> (u8, u8, u32, Vec<u8>);

#[tokio::test(start_paused = true)]
async fn h4_floods_end_with_their_connection_and_are_not_felt_elsewhere() {
    let floods: [(&str, Flood); 7] = [
        ("resets of the stream", |stream, _| {
            (RST_STREAM, 0, stream, vec![0, 0, 0, 8])
        }),
        ("pings", |_, number| {
            (PING, 0, 0, u64::from(number).to_be_bytes().to_vec())
        }),
        ("settings", |_, _| (SETTINGS, 0, 0, Vec::new())),
        ("empty data", |stream, _| (DATA, 0, stream, Vec::new())),
        ("windows of zero", |_, _| (WINDOW_UPDATE, 0, 0, vec![0; 4])),
        ("continuations", |stream, number| match number {
            0 => (HEADERS, 0, stream, status(200)),
            _ => (CONTINUATION, 0, stream, field("x", "y")),
        }),
        ("resets of streams that never were", |_, number| {
            (RST_STREAM, 0, number * 2 + 1_001, vec![0, 0, 0, 8])
        }),
    ];
    for (row, flood) in floods {
        let (world, mut dials) = handed();
        let victim = endpoint(settings(Protocol::Http2), &world);
        let server = Server::default();
        let serving = server.clone();
        let peaceful = World::new(move |_| {
            let server = serving.clone();
            Dial::accept(move |io| drop(tokio::spawn(server.http2(io))))
        });
        let elsewhere = endpoint(settings(Protocol::Http2), &peaceful);
        call(&elsewhere).await.unwrap();

        let calling = start(&victim);
        let mut peer = Peer::accept(dials.recv().await.unwrap(), 100).await;
        let stream = peer.request().await;
        if row == "empty data" {
            peer.respond_head(stream).await;
        }
        let began = Instant::now();
        for number in 0..20_000 {
            let (kind, flags, stream, payload) = flood(stream, number);
            // A client that has stopped reading holds the flood back; one that has hung up ends it.
            let written = peer.write(kind, flags, stream, &payload);
            if timeout(Duration::from_millis(1), written).await.is_err() {
                break;
            }
            if number % 1_000 == 0 {
                call(&elsewhere).await.unwrap();
            }
        }
        call(&elsewhere).await.unwrap();
        drop(peer);
        // However it ended, it did.
        let ended = timeout(Duration::from_secs(60), calling).await;
        assert!(ended.is_ok(), "{row}: the call still hangs");
        settle().await;
        let stats = victim.stats();
        assert_eq!(
            (stats.connections, stats.active, stats.tasks),
            (0, 0, 0),
            "{row}"
        );
        assert!(began.elapsed() < Duration::from_secs(60), "{row}");
        assert_eq!(elsewhere.stats().dials, 1, "{row}");
    }
}

#[tokio::test(start_paused = true)]
async fn h4_a_header_block_that_unpacks_to_a_thousand_times_its_size_is_refused() {
    let (world, mut dials) = handed();
    let connections = endpoint(settings(Protocol::Http2), &world);
    let calling = start(&connections);
    let mut peer = Peer::accept(dials.recv().await.unwrap(), 100).await;
    let stream = peer.request().await;
    // One entry of 3 KiB goes into the table, and then a byte for each repetition of it.
    let mut block = status(200);
    block.push(0x40);
    length(1, &mut block);
    block.push(b'x');
    length(3_000, &mut block);
    block.extend([b'y'; 3_000]);
    block.extend([0x80 | 62; 4_000]);
    peer.write(HEADERS, END_HEADERS | END_STREAM, stream, &block)
        .await;
    let unanswered = timeout(Duration::from_secs(60), calling)
        .await
        .unwrap()
        .unwrap();
    assert!(unanswered.unwrap_err().error.is_reset());
    // The connection may carry on: the next call is served, there or on another one.
    let next = start(&connections);
    let same = tokio::spawn(async move {
        while let Some(frame) = peer.read().await {
            if frame.kind == HEADERS {
                peer.respond(frame.stream).await;
            }
        }
    });
    let another = tokio::spawn(async move {
        while let Some(io) = dials.recv().await {
            let mut other = Peer::accept(io, 100).await;
            let stream = other.request().await;
            other.respond(stream).await;
            other.linger().await;
        }
    });
    next.await.unwrap().unwrap();
    same.abort();
    another.abort();
}

#[tokio::test(start_paused = true)]
async fn h5_a_stream_whose_window_is_shut_holds_up_no_other() {
    let (world, mut dials) = handed();
    let mut settings = settings(Protocol::Http2);
    settings.connection.http2_keepalive = None;
    let connections = endpoint(settings, &world);
    let opening = start(&connections);
    let mut peer = Peer::accept(dials.recv().await.unwrap(), 100).await;
    let stream = peer.request().await;
    peer.respond(stream).await;
    opening.await.unwrap().unwrap();
    // SETTINGS_INITIAL_WINDOW_SIZE = 0: no byte of a body may be sent.
    peer.write(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).await;
    settle().await;

    let (chunks, request) = upload();
    let uploading = connections.clone();
    let uploading = tokio::spawn(async move { uploading.send(request, ()).await });
    chunks.send(Ok(vec![1; 100_000].into())).await.unwrap();
    let blocked = peer.request().await;
    for _ in 0..10 {
        let other = start(&connections);
        let stream = peer.request().await;
        assert_ne!(stream, blocked);
        peer.respond(stream).await;
        other.await.unwrap().unwrap();
    }
    assert!(!uploading.is_finished());
    assert_eq!(connections.stats().dials, 1, "all on one connection");
    // Whoever gives up resets the stream, and its place is free.
    uploading.abort();
    let reset = peer.expect(RST_STREAM).await.unwrap();
    assert_eq!(reset.stream, blocked);
    settle().await;
    assert_eq!(connections.stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn h5_a_body_in_frames_of_one_byte_arrives_whole_while_others_are_served() {
    let (world, mut dials) = handed();
    let connections = endpoint(settings(Protocol::Http2), &world);
    let slow = start(&connections);
    let mut peer = Peer::accept(dials.recv().await.unwrap(), 100).await;
    let stream = peer.request().await;
    peer.respond_head(stream).await;
    for number in 0..5_000_u32 {
        peer.write(DATA, 0, stream, b"x").await;
        if number % 1_000 == 0 {
            let other = start(&connections);
            let stream = peer.request().await;
            peer.respond(stream).await;
            other.await.unwrap().unwrap();
        }
    }
    peer.write(DATA, END_STREAM, stream, &[]).await;
    assert_eq!(slow.await.unwrap().unwrap().len(), 5_000);
}

#[tokio::test(start_paused = true)]
async fn h6_interim_answers_are_skipped_and_none_may_follow_the_final_one() {
    let (world, mut dials) = handed();
    let connections = endpoint(settings(Protocol::Http2), &world);
    let answered = start(&connections);
    let mut peer = Peer::accept(dials.recv().await.unwrap(), 100).await;
    let stream = peer.request().await;
    for _ in 0..20 {
        peer.write(HEADERS, END_HEADERS, stream, &status(103)).await;
    }
    peer.respond(stream).await;
    answered.await.unwrap().unwrap();

    let connection = connections.clone();
    let request = Request::get("http://catalog/").body(Body::empty()).unwrap();
    let calling = tokio::spawn(async move { connection.send(request, ()).await });
    let stream = peer.request().await;
    peer.respond_head(stream).await;
    let response = calling.await.unwrap().unwrap();
    peer.write(HEADERS, END_HEADERS, stream, &status(103)).await;
    let broken = response.into_body().collect().await.unwrap_err();
    assert!(broken.is_body(), "{broken}");
}

#[tokio::test(start_paused = true)]
async fn h6_a_flood_of_interim_answers_ends() {
    let (world, mut dials) = handed();
    let connections = endpoint(settings(Protocol::Http2), &world);
    let calling = start(&connections);
    let mut peer = Peer::accept(dials.recv().await.unwrap(), 100).await;
    let stream = peer.request().await;
    for _ in 0..20_000 {
        let block = status(103);
        let written = peer.write(HEADERS, END_HEADERS, stream, &block);
        if timeout(Duration::from_millis(1), written).await.is_err() {
            break;
        }
    }
    drop(peer);
    let ended = timeout(Duration::from_secs(60), calling)
        .await
        .unwrap()
        .unwrap();
    assert!(ended.unwrap_err().error.is_reset());
    settle().await;
    assert_eq!(connections.stats().tasks, 0);
}

#[tokio::test(start_paused = true)]
async fn h7_heads_up_to_64_kib_pass_and_larger_ones_are_refused_without_harm() {
    for (row, fields, size, passes) in [
        ("8 KiB", 1, 8 << 10, true),
        ("60 KiB", 1, 60 << 10, true),
        ("many small ones", 1_000, 8, true),
        ("1 MiB", 16, 64 << 10, false),
        ("10,000 headers", 10_000, 8, false),
    ] {
        let (world, mut dials) = handed();
        let connections = endpoint(settings(Protocol::Http2), &world);
        let calling = start(&connections);
        let mut peer = Peer::accept(dials.recv().await.unwrap(), 100).await;
        let stream = peer.request().await;
        let mut block = status(200);
        for number in 0..fields {
            block.extend(field(&format!("x{number}"), &"v".repeat(size)));
        }
        let mut frames = block.chunks(16_000).peekable();
        let mut kind = HEADERS;
        while let Some(frame) = frames.next() {
            let last = if frames.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            let end = if kind == HEADERS { END_STREAM } else { 0 };
            peer.write(kind, last | end, stream, frame).await;
            kind = CONTINUATION;
        }
        let answered = timeout(Duration::from_secs(60), calling)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answered.is_ok(), passes, "{row}: {answered:?}");
        if let Err(unanswered) = answered {
            assert!(unanswered.error.is_reset(), "{row}: {}", unanswered.error);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn h7_http1_heads_are_bounded_too() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for (row, fields, size, passes) in [
        ("90 headers", 90, 8, true),
        ("8 KiB", 1, 8 << 10, true),
        ("10,000 headers", 10_000, 8, false),
        ("1 MiB", 1, 1 << 20, false),
    ] {
        let (world, mut dials) = handed();
        let connections = endpoint(settings(Protocol::Http1), &world);
        let calling = start(&connections);
        let mut peer = dials.recv().await.unwrap();
        let mut request = [0; 1_024];
        assert!(peer.read(&mut request).await.unwrap() > 0);
        let mut head = String::from("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n");
        for number in 0..fields {
            head.push_str(&format!("x{number}: {}\r\n", "v".repeat(size)));
        }
        head.push_str("\r\n");
        // A client that has had enough hangs up in the middle of it.
        let _ = timeout(Duration::from_secs(1), peer.write_all(head.as_bytes())).await;
        let answered = timeout(Duration::from_secs(60), calling)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answered.is_ok(), passes, "{row}");
        if let Err(unanswered) = answered {
            assert!(unanswered.error.is_reset(), "{row}: {}", unanswered.error);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn h2_goaway_of_a_peer_that_answered_all_costs_no_call() {
    let (world, mut dials) = handed();
    let connections = endpoint(settings(Protocol::Http2), &world);
    let serving = tokio::spawn(async move {
        for _ in 0..5 {
            let mut peer = Peer::accept(dials.recv().await.unwrap(), 100).await;
            let stream = peer.request().await;
            // Twice, as graceful servers do: "soon", and then "this was the last".
            peer.go_away(u32::MAX >> 1, NO_ERROR).await;
            peer.go_away(stream, NO_ERROR).await;
            peer.respond(stream).await;
            tokio::spawn(peer.linger());
        }
    });
    for _ in 0..5 {
        call(&connections).await.unwrap();
        settle().await;
    }
    serving.await.unwrap();
}
