//! What is more than one message each way: trailers, interim answers, streams that last.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use meshwork::model::cluster::Protocol;
use meshwork::model::endpoint::Address;
use meshwork::model::route::Forward;
use meshwork::transport::{Connect, Connecting, Io, Settings};
use meshwork::{Body, Error, Mesh};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::world::{World, call, cluster, counted, millis, one, retries, seconds};

/// A body of these frames.
struct Frames(VecDeque<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// A body of what is sent to it.
struct Sent(mpsc::Receiver<Bytes>);

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0
            .poll_recv(cx)
            .map(|next| next.map(|chunk| Ok(Frame::data(chunk))))
    }
}

fn with_trailers(name: &'static str) -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert(name, HeaderValue::from_static("1"));
    let frames = [
        Frame::data(Bytes::from_static(b"data")),
        Frame::trailers(trailers),
    ];
    Body::new(Frames(frames.into()))
}

#[tokio::test(start_paused = true)]
async fn trailers_pass_both_ways_in_both_versions_also_where_retries_keep_the_body() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for retrying in [false, true] {
            let world = World::default();
            world.serve(1, |request: Request<Incoming>| async move {
                let body = request.into_body().collect().await.unwrap();
                let seen = body.trailers().is_some_and(|map| map["x-request"] == "1");
                let mut response = Response::new(with_trailers("x-response"));
                let headers = response.headers_mut();
                headers.insert("trailer", HeaderValue::from_static("x-response"));
                headers.insert(
                    "x-seen",
                    HeaderValue::from_static(if seen { "1" } else { "0" }),
                );
                response
            });
            let resources = one(cluster("c", protocol), &[1], |to| {
                to.retry = retrying.then(|| retries(1, None));
            });
            let (mesh, _publisher) = world.mesh(resources).await;
            let request = Request::post("http://catalog/")
                .header("te", "trailers")
                .header("trailer", "x-request")
                .body(with_trailers("x-request"))
                .unwrap();
            let response = mesh.client().request(request).await.unwrap();
            assert_eq!(response.headers()["x-seen"], "1", "{protocol:?} {retrying}");
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(
                body.trailers().unwrap()["x-response"],
                "1",
                "{protocol:?} {retrying}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_interim_100_continue_is_not_the_answer() {
    let world = World::default();
    world.serve(1, |request: Request<Incoming>| async move {
        // Reading the body makes the server send `100 Continue` first.
        Response::new(Body::from(
            request.into_body().collect().await.unwrap().to_bytes(),
        ))
    });
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http1), &[1], |_| {}))
        .await;
    let request = Request::post("http://catalog/")
        .header("expect", "100-continue")
        .body(Body::from("after the interim answer"))
        .unwrap();
    let (status, body) = call(&mesh, request).await.unwrap();
    assert_eq!((status, &*body), (200, "after the interim answer"));
}

#[tokio::test(start_paused = true)]
async fn g10_a_stream_of_an_hour_survives_edits_and_its_idle_timer_is_exact() {
    let world = World::default();
    world.serve(1, |request: Request<Incoming>| async move {
        Response::new(Body::new(request.into_body()))
    });
    world.named(2);
    let edited = |ports: &[u16], limit: u32| {
        let mut cluster = cluster("c", Protocol::Http2);
        cluster.limits.requests = limit;
        one(cluster, ports, |to| {
            to.retry = Some(retries(2, None));
            to.idle_timeout = Some(seconds(90));
        })
    };
    let (mesh, publisher) = world.mesh(edited(&[1], 100)).await;
    let (messages, receiver) = mpsc::channel(1);
    let request = Request::post("http://catalog/").body(Body::new(Sent(receiver)));
    let response = mesh.client().request(request.unwrap()).await.unwrap();
    let mut echo = response.into_body();
    for minute in 0..60_u32 {
        // The stream's endpoint leaves the cluster, the cluster's limits change, and so on.
        let ports: &[u16] = if minute % 2 == 0 { &[2] } else { &[1, 2] };
        publisher.publish(edited(ports, minute + 1)).await.unwrap();
        let message = Bytes::from(minute.to_string());
        messages.send(message.clone()).await.unwrap();
        let frame = echo.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), message);
        tokio::time::sleep(seconds(60)).await;
    }
    assert_eq!(
        counted(&mesh, "c").retries,
        0,
        "nothing is repeated after the head"
    );
    messages.send(Bytes::from_static(b"last")).await.unwrap();
    echo.frame().await.unwrap().unwrap();
    let silent = Instant::now();
    let error = echo.frame().await.unwrap().unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(silent.elapsed(), seconds(90));
    assert_eq!(counted(&mesh, "c").active_requests, 0);
}

/// Connections whose other ends a test holds.
#[derive(Debug)]
struct Raw(mpsc::UnboundedSender<DuplexStream>);

impl Connect for Raw {
    fn connect(&self, _: &Address, _: &Settings) -> Connecting {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let _ = self.0.send(theirs);
        Box::pin(async move { Ok(Io::boxed(ours)) })
    }
}

/// A mesh whose one endpoint is played by the test, byte by byte.
async fn raw(
    change: impl FnOnce(&mut Forward),
) -> (
    Mesh,
    meshwork::source::Publisher,
    mpsc::UnboundedReceiver<DuplexStream>,
) {
    let (accepted, peers) = mpsc::unbounded_channel();
    let (publisher, feed) =
        meshwork::source::feed(one(cluster("c", Protocol::Http1), &[1], change));
    let mesh = Mesh::builder().feed(feed).connector(Raw(accepted));
    (mesh.start().await.unwrap(), publisher, peers)
}

/// The head of a request, and not one byte more.
async fn head(peer: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(peer.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn expecting() -> Request<Body> {
    Request::put("http://catalog/")
        .header("expect", "100-continue")
        .body(Body::from("body"))
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_body_that_expects_100_waits_for_it_and_for_a_second_at_most() {
    for (row, asks_after, comes_after) in [("asked for", Some(300), 300), ("silence", None, 1_000)]
    {
        let (mesh, _publisher, mut peers) = raw(|_| {}).await;
        let calling = tokio::spawn(async move { call(&mesh, expecting()).await });
        let mut peer = peers.recv().await.unwrap();
        assert!(
            head(&mut peer).await.contains("expect: 100-continue"),
            "{row}"
        );
        let began = Instant::now();
        if let Some(after) = asks_after {
            let mut early = [0; 1];
            let read = tokio::time::timeout(millis(after), peer.read(&mut early)).await;
            assert!(
                read.is_err(),
                "{row}: the body came before it was asked for"
            );
            peer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .await
                .unwrap();
        }
        let mut body = [0; 4];
        peer.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"body", "{row}");
        assert_eq!(began.elapsed().as_millis(), comes_after, "{row}");
        peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await
            .unwrap();
        assert_eq!(
            calling.await.unwrap().unwrap(),
            (200, "ok".to_owned()),
            "{row}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_final_answer_in_place_of_100_is_delivered_and_the_body_stays_here() {
    let (mesh, _publisher, mut peers) = raw(|_| {}).await;
    let calling = mesh.clone();
    let calling = tokio::spawn(async move { call(&calling, expecting()).await });
    let mut peer = peers.recv().await.unwrap();
    head(&mut peer).await;
    peer.write_all(b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\nno")
        .await
        .unwrap();
    assert_eq!(calling.await.unwrap().unwrap(), (417, "no".to_owned()));
    // The connection cannot be used again: the peer would take the next head for the body.
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
    assert_eq!(counted(&mesh, "c").connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_never_asked_for_can_be_sent_to_another_try() {
    let (mesh, _publisher, mut peers) = raw(|to| to.retry = Some(retries(1, None))).await;
    let calling = tokio::spawn(async move { call(&mesh, expecting()).await });
    let mut first = peers.recv().await.unwrap();
    head(&mut first).await;
    first
        .write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    let mut second = peers.recv().await.unwrap();
    head(&mut second).await;
    second
        .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        .await
        .unwrap();
    let mut body = [0; 4];
    second.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"body");
    second
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(calling.await.unwrap().unwrap().0, 200);
}

/// Sends each chunk of the request back before it reads the next.
async fn mirror_chunks(request: Request<Incoming>) -> Result<Response<Body>, super::world::Break> {
    let (sender, body) = super::world::Fed::body();
    tokio::spawn(async move {
        let mut incoming = request.into_body();
        while let Some(Ok(frame)) = incoming.frame().await {
            if let Ok(data) = frame.into_data()
                && sender.send(Ok(Frame::data(data))).await.is_err()
            {
                return;
            }
        }
    });
    Ok(Response::new(body))
}

#[tokio::test]
async fn on_sockets_both_directions_stream_in_turns_in_both_versions() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(mirror_chunks);
                    let _ = hyper_util::server::conn::auto::Builder::new(
                        hyper_util::rt::TokioExecutor::new(),
                    )
                    .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
                    .await;
                });
            }
        });
        let mut resources = one(cluster("c", protocol), &[1], |to| {
            to.retry = Some(retries(1, None));
            to.idle_timeout = Some(seconds(60));
        });
        let mut endpoints = super::world::endpoints("c", &[1]);
        endpoints.localities[0].endpoints[0].address = Address::Socket(address);
        resources.insert_endpoints(endpoints);
        let (_publisher, feed) = meshwork::source::feed(resources);
        let mesh = Mesh::builder().feed(feed).start().await.unwrap();
        let (sender, chunks) = mpsc::channel(1);
        let request = Request::post("http://catalog/").body(Sent(chunks)).unwrap();
        let response = mesh.client().request(request).await.unwrap();
        let mut body = response.into_body();
        for turn in 0..200_u32 {
            let chunk = Bytes::from(turn.to_string());
            sender.send(chunk.clone()).await.unwrap();
            let back = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(back, chunk, "{protocol:?}");
        }
        drop(sender);
        let rest = body.collect().await.unwrap().to_bytes();
        assert!(rest.is_empty(), "{protocol:?}");
    }
}
