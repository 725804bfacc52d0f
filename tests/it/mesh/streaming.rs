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
use meshwork::{Body, Error};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::world::{World, call, cluster, counted, one, retries, seconds};

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
