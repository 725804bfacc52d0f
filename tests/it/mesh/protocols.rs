//! HTTP/1.1, HTTP/2 and gRPC.

use http::{HeaderMap, HeaderValue, Method, Request, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use meshwork::Body;
use meshwork::model::cluster::Protocol;
use tokio::time::Instant;

use super::world::{Fed, World, answer, call, cluster, get, millis, one, seconds, text};

#[tokio::test(start_paused = true)]
async fn each_protocol_is_spoken_where_it_is_asked_for() {
    for (protocol, version, content, expected) in [
        (Protocol::Http1, Version::HTTP_11, "text/plain", "HTTP/1.1"),
        (Protocol::Http1, Version::HTTP_2, "text/plain", "HTTP/1.1"),
        (Protocol::Http2, Version::HTTP_11, "text/plain", "HTTP/2.0"),
        (
            Protocol::SameAsRequest,
            Version::HTTP_11,
            "text/plain",
            "HTTP/1.1",
        ),
        (
            Protocol::SameAsRequest,
            Version::HTTP_2,
            "text/plain",
            "HTTP/2.0",
        ),
        (
            Protocol::SameAsRequest,
            Version::HTTP_11,
            "application/grpc",
            "HTTP/2.0",
        ),
    ] {
        let world = World::default();
        world.serve(1, |request| async move {
            let authority = match request.uri().authority() {
                Some(authority) => authority.to_string(),
                None => request.headers()["host"].to_str().unwrap().to_owned(),
            };
            let hop = request.headers().contains_key("keep-alive");
            let path = request.uri().path_and_query().unwrap();
            text(format!("{:?} {authority} {path} {hop}", request.version()))
        });
        let (mesh, _publisher) = world.mesh(one(cluster("c", protocol), &[1], |_| {})).await;
        let request = Request::get("http://catalog/a%20b?c=d")
            .version(version)
            .header("content-type", content)
            .header("keep-alive", "timeout=5")
            .body(Body::empty())
            .unwrap();
        let (_, seen) = call(&mesh, request).await.unwrap();
        let hop = expected == "HTTP/1.1" && seen.ends_with("true");
        assert_eq!(
            seen,
            format!("{expected} catalog /a%20b?c=d {hop}"),
            "{protocol:?} {version:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn large_bodies_pass_in_both_directions_with_little_memory_between() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::default();
        world.serve(1, |request| async {
            let (sender, body) = Fed::body();
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
            http::Response::new(body)
        });
        let (mesh, _publisher) = world.mesh(one(cluster("c", protocol), &[1], |_| {})).await;
        let (sender, body) = Fed::body();
        let upload = tokio::spawn(async move {
            for turn in 0..256u32 {
                let chunk = vec![turn as u8; 16 << 10];
                sender.send(Ok(Frame::data(chunk.into()))).await.unwrap();
            }
        });
        let request = Request::post("http://catalog/").body(body).unwrap();
        let response = mesh.client().request(request).await.unwrap();
        tokio::time::sleep(seconds(1)).await;
        assert!(!upload.is_finished(), "nobody reads, so the writer waits");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), 4 << 20, "{protocol:?}");
        let intact = body.chunks(16 << 10).zip(0u32..);
        assert!(
            intact
                .into_iter()
                .all(|(chunk, turn)| chunk.iter().all(|byte| *byte == turn as u8))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn answers_without_a_body_end_at_once_and_keep_the_connection() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::default();
        world.serve(1, |request| async move {
            match request.uri().path() {
                "/204" => answer(204),
                "/304" => answer(304),
                // What hyper does not do for HTTP/2 servers.
                _ if request.method() == Method::HEAD => answer(200),
                _ => text("for GET only"),
            }
        });
        let (mesh, _publisher) = world.mesh(one(cluster("c", protocol), &[1], |_| {})).await;
        for (method, path, status, body) in [
            (Method::HEAD, "/", 200, ""),
            (Method::GET, "/204", 204, ""),
            (Method::GET, "/304", 304, ""),
            (Method::GET, "/", 200, "for GET only"),
            (Method::OPTIONS, "/204", 204, ""),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(format!("http://catalog{path}"))
                .body(Body::empty())
                .unwrap();
            let found = call(&mesh, request).await.unwrap();
            assert_eq!(found, (status, body.to_owned()), "{protocol:?} {path}");
        }
        assert_eq!(world.dials(1), 1, "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_and_repeated_headers_pass() {
    let world = World::default();
    world.serve(1, |request| async move {
        let values = request.headers().get_all("x-many").iter().count();
        let trailers = request.into_body().collect().await.unwrap();
        let trailers = trailers.trailers().cloned().unwrap_or_default();
        let (sender, body) = Fed::body();
        tokio::spawn(async move {
            sender.send(Ok(Frame::data("x".into()))).await.unwrap();
            sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
        });
        let mut response = http::Response::new(body);
        for value in 0..values {
            response
                .headers_mut()
                .append("x-many", HeaderValue::from(value));
        }
        response
    });
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http2), &[1], |_| {}))
        .await;
    let (sender, body) = Fed::body();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
    drop(sender);
    let request = Request::post("http://catalog/")
        .header("x-many", "a")
        .header("x-many", "b")
        .body(body)
        .unwrap();
    let response = mesh.client().request(request).await.unwrap();
    assert_eq!(response.headers().get_all("x-many").iter().count(), 2);
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "42");
}

#[tokio::test(start_paused = true)]
async fn g10_a_stream_of_an_hour_survives_a_flip_and_its_idle_time_is_exact() {
    let world = World::default();
    world.serve(1, |_| async {
        let (sender, body) = Fed::body();
        tokio::spawn(async move {
            for _ in 0..3_600 / 50 {
                tokio::time::sleep(seconds(50)).await;
                sender.send(Ok(Frame::data("tick".into()))).await.unwrap();
            }
            sender.closed().await;
        });
        http::Response::new(body)
    });
    let edition = |timeout| {
        one(cluster("c", Protocol::Http2), &[1], |terms| {
            terms.idle_timeout = Some(seconds(60));
            terms.timeout = timeout;
        })
    };
    let (mesh, publisher) = world.mesh(edition(None)).await;
    let start = Instant::now();
    let response = mesh.client().request(get("http://catalog/")).await.unwrap();
    let mut body = response.into_body();
    let mut ticks = 0;
    let error = loop {
        match body.frame().await.unwrap() {
            Ok(_) => ticks += 1,
            Err(error) => break error,
        }
        if ticks == 30 {
            // What the next calls get, this one does not.
            publisher.publish(edition(Some(seconds(1)))).await.unwrap();
        }
    };
    assert_eq!(ticks, 72);
    let took = start.elapsed();
    let exact = seconds(72 * 50 + 60);
    // Each tick may be late by the millisecond that a timer can tell apart.
    assert!(took >= exact && took <= exact + millis(80), "{took:?}");
    assert!(error.is_timeout());
}

#[cfg(feature = "cli")]
mod grpc {
    use tokio_stream::wrappers::ReceiverStream;
    use tokio_stream::{Stream, StreamExt};
    use tonic::{Request, Response, Status, Streaming};
    use tower::ServiceExt;

    use super::*;
    use crate::cli::echo_proto::echo_client::EchoClient;
    use crate::cli::echo_proto::echo_server::{Echo, EchoServer};
    use crate::cli::echo_proto::{EchoRequest, EchoResponse};

    struct Echoing;

    fn echoed(index: u32, request: EchoRequest) -> EchoResponse {
        EchoResponse {
            index,
            message: request.message,
            ..EchoResponse::default()
        }
    }

    type Responses = std::pin::Pin<Box<dyn Stream<Item = Result<EchoResponse, Status>> + Send>>;

    #[tonic::async_trait]
    impl Echo for Echoing {
        type ServerStreamStream = Responses;
        type BidiStreamStream = Responses;

        async fn unary(
            &self,
            request: Request<EchoRequest>,
        ) -> Result<Response<EchoResponse>, Status> {
            match request.into_inner() {
                request if request.message.is_empty() => Err(Status::not_found("no message")),
                request => Ok(Response::new(echoed(1, request))),
            }
        }

        async fn server_stream(
            &self,
            request: Request<EchoRequest>,
        ) -> Result<Response<Responses>, Status> {
            let request = request.into_inner();
            let all = (1..=request.count).map(move |index| Ok(echoed(index, request.clone())));
            Ok(Response::new(Box::pin(tokio_stream::iter(all))))
        }

        async fn client_stream(
            &self,
            request: Request<Streaming<EchoRequest>>,
        ) -> Result<Response<EchoResponse>, Status> {
            let (mut all, mut count, mut last) = (request.into_inner(), 0, EchoRequest::default());
            while let Some(request) = all.message().await? {
                (count, last) = (count + 1, request);
            }
            Ok(Response::new(echoed(count, last)))
        }

        async fn bidi_stream(
            &self,
            request: Request<Streaming<EchoRequest>>,
        ) -> Result<Response<Responses>, Status> {
            let mut index = 0;
            let each = request.into_inner().map(move |request| {
                index += 1;
                Ok(echoed(index, request?))
            });
            Ok(Response::new(Box::pin(each)))
        }
    }

    fn said(message: impl Into<String>) -> EchoRequest {
        EchoRequest {
            message: message.into(),
            ..EchoRequest::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tonic_clients_and_servers_speak_all_four_kinds_through_a_channel() {
        let world = World::default();
        world.serve(1, |request| async {
            let response = EchoServer::new(Echoing).oneshot(request).await.unwrap();
            response.map(Body::new)
        });
        let (mesh, _publisher) = world
            .mesh(one(cluster("c", Protocol::SameAsRequest), &[1], |_| {}))
            .await;
        let mut client = EchoClient::new(mesh.channel("catalog").unwrap());

        let unary = client.unary(said("one")).await.unwrap().into_inner();
        assert_eq!(unary.message, "one");
        let refused = client.unary(said("")).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (tonic::Code::NotFound, "no message")
        );

        let mut request = said("many");
        request.count = 500;
        let stream = client.server_stream(request).await.unwrap().into_inner();
        assert_eq!(
            stream
                .map(|one| one.unwrap().index)
                .collect::<Vec<_>>()
                .await
                .len(),
            500
        );

        let upload = tokio_stream::iter((0..500).map(|turn| said(turn.to_string())));
        let last = client.client_stream(upload).await.unwrap().into_inner();
        assert_eq!((last.index, last.message.as_str()), (500, "499"));

        // Each message is sent when the answer to the one before is here.
        let (sender, requests) = tokio::sync::mpsc::channel(1);
        let answers = client.bidi_stream(ReceiverStream::new(requests));
        sender.send(said("0")).await.unwrap();
        let mut answers = answers.await.unwrap().into_inner();
        for turn in 0..200u32 {
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!((answer.index, answer.message), (turn + 1, turn.to_string()));
            sender.send(said((turn + 1).to_string())).await.unwrap();
        }
        drop(sender);
        assert_eq!(answers.message().await.unwrap().unwrap().index, 201);
        assert!(answers.message().await.unwrap().is_none());
        assert_eq!(world.dials(1), 1);
    }
}
