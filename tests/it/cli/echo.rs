//! `meshwork echo` from outside: each protocol, each misbehaviour, the drain.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Sender;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::echo_proto::echo_client::EchoClient;
use super::echo_proto::{EchoRequest, EchoResponse};
use super::process::{Echo, run};

type Http1 = hyper::client::conn::http1::SendRequest<Full<Bytes>>;
type Http2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn http1(address: SocketAddr) -> Http1 {
    let stream = TcpStream::connect(address).await.expect("the echo listens");
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("a handshake");
    tokio::spawn(connection);
    sender
}

async fn http2(address: SocketAddr) -> Http2 {
    let stream = TcpStream::connect(address).await.expect("the echo listens");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("a handshake");
    tokio::spawn(connection);
    sender
}

async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("a URI");
    endpoint.connect().await.expect("the echo listens")
}

fn request(builder: http::request::Builder, body: &'static str) -> Request<Full<Bytes>> {
    builder
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .expect("a request")
}

async fn body_of(response: Response<Incoming>) -> Value {
    let bytes = response
        .into_body()
        .collect()
        .await
        .expect("a whole body")
        .to_bytes();
    serde_json::from_slice(&bytes).expect("JSON")
}

fn text(message: &str) -> EchoRequest {
    EchoRequest {
        message: message.to_owned(),
        ..EchoRequest::default()
    }
}

#[tokio::test]
async fn http1_is_answered_with_what_arrived() {
    let echo = Echo::start(&["--name", "v1"]).await;
    let get = Request::post("/items?q=1")
        .header("host", "catalog")
        .header("x-canary", "true")
        .header("x-two", "b")
        .header("x-two", "a")
        .header("x-envoy-attempt-count", "2");
    let mut sender = http1(echo.address).await;
    let response = sender
        .send_request(request(get, "hello"))
        .await
        .expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.version(), Version::HTTP_11);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(
        body_of(response).await,
        json!({
            "name": "v1",
            "protocol": "HTTP/1.1",
            "method": "POST",
            "path": "/items?q=1",
            "authority": "catalog",
            "headers": {
                "content-length": ["5"],
                "host": ["catalog"],
                "x-canary": ["true"],
                "x-envoy-attempt-count": ["2"],
                "x-two": ["b", "a"],
            },
            "attempt": 2,
            "body_bytes": 5,
        })
    );
    // The connection is kept.
    let again = request(Request::get("/").header("host", "catalog"), "");
    let response = sender.send_request(again).await.expect("a second answer");
    assert_eq!(body_of(response).await["attempt"], 1);
}

#[tokio::test]
async fn http2_is_answered_on_the_same_port() {
    let echo = Echo::start(&["--name", "v2"]).await;
    let mut sender = http2(echo.address).await;
    let put = request(Request::put("http://catalog.shop/items"), "hello");
    let response = sender.send_request(put).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let body = body_of(response).await;
    assert_eq!(body["protocol"], "HTTP/2.0");
    assert_eq!(body["name"], "v2");
    assert_eq!(body["method"], "PUT");
    assert_eq!(body["authority"], "catalog.shop");
    assert_eq!(body["body_bytes"], 5);

    let head = request(Request::head("http://catalog.shop/items"), "");
    let response = sender.send_request(head).await.expect("an answer");
    assert_ne!(response.headers()["content-length"], "0");
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a whole body")
        .to_bytes();
    assert!(body.is_empty());
}

#[tokio::test]
async fn echo_service_tells_what_arrived() {
    let echo = Echo::start(&["--name", "v1"]).await;
    let mut client = EchoClient::new(channel(echo.address).await);
    let mut call = tonic::Request::new(EchoRequest {
        payload: vec![1, 2],
        ..text("hello")
    });
    call.metadata_mut()
        .insert("x-canary", "true".parse().expect("ASCII"));
    let answer = client.unary(call).await.expect("OK").into_inner();
    assert_eq!(answer.name, "v1");
    assert_eq!(answer.protocol, "HTTP/2.0");
    assert_eq!(answer.method, "POST");
    assert_eq!(answer.path, "/meshwork.echo.v1.Echo/Unary");
    assert_eq!(answer.authority, echo.address.to_string());
    assert_eq!(answer.attempt, 1);
    assert_eq!(answer.body_bytes, 5 + 7 + 4);
    assert_eq!(
        (answer.message.as_str(), answer.payload.as_slice()),
        ("hello", [1, 2].as_slice())
    );
    let canary = answer
        .headers
        .iter()
        .find(|header| header.name == "x-canary");
    assert_eq!(canary.expect("x-canary arrived").values, ["true"]);
}

#[tokio::test]
async fn echo_service_streams_in_each_direction() {
    let echo = Echo::start(&[]).await;
    let mut client = EchoClient::new(channel(echo.address).await);

    let ask = EchoRequest {
        count: 3,
        pause_ms: 1,
        ..text("down")
    };
    let stream = client.server_stream(ask).await.expect("OK").into_inner();
    let down: Vec<EchoResponse> = stream.map(|item| item.expect("OK")).collect().await;
    let indexes: Vec<u32> = down.iter().map(|answer| answer.index).collect();
    assert_eq!(indexes, [1, 2, 3]);
    assert!(down.iter().all(|answer| answer.message == "down"));

    let asks = tokio_stream::iter(["a", "b", "c"].map(text));
    let up = client.client_stream(asks).await.expect("OK").into_inner();
    assert_eq!(
        (up.index, up.message.as_str(), up.body_bytes),
        (3, "c", 3 * (5 + 3))
    );

    // Each answer is awaited before the next question is asked.
    let (ask, asks) = tokio::sync::mpsc::channel(1);
    let mut both = client
        .bidi_stream(ReceiverStream::new(asks))
        .await
        .expect("OK")
        .into_inner();
    for (index, word) in (1..).zip(["x", "y", "z"]) {
        ask.send(text(word)).await.expect("the stream is open");
        let answer = both.message().await.expect("OK").expect("an answer");
        assert_eq!((answer.index, answer.message.as_str()), (index, word));
    }
    drop(ask);
    assert!(both.message().await.expect("OK").is_none());
}

#[tokio::test]
async fn stream_requests_are_bounded() {
    let echo = Echo::start(&[]).await;
    let mut client = EchoClient::new(channel(echo.address).await);
    for (ask, why) in [
        (
            EchoRequest {
                count: 100_001,
                ..text("")
            },
            "count 100001 is more than 100000",
        ),
        (
            EchoRequest {
                pause_ms: 60_001,
                ..text("")
            },
            "pause_ms 60001 is more than 60000",
        ),
    ] {
        let status = client.server_stream(ask).await.expect_err(why);
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, why)
        );
    }
}

#[tokio::test]
async fn any_grpc_method_is_answered_with_the_name_in_field_1() {
    let echo = Echo::start(&["--name", "v1"]).await;
    let mut client = tonic::client::Grpc::new(channel(echo.address).await);
    client.ready().await.expect("connected");
    let path = http::uri::PathAndQuery::from_static("/shop.catalog.v2.Catalog/ListItems");
    let codec = tonic_prost::ProstCodec::<EchoRequest, EchoResponse>::default();
    let call = tonic::Request::new(text("hello"));
    let answer = client
        .unary(call, path, codec)
        .await
        .expect("OK")
        .into_inner();
    assert_eq!(answer.name, "v1");
    assert_eq!(answer.path, "/shop.catalog.v2.Catalog/ListItems");
    assert_eq!(answer.body_bytes, 5 + 7);

    // An unknown method of the echo's own service is what it is everywhere.
    client.ready().await.expect("connected");
    let path = http::uri::PathAndQuery::from_static("/meshwork.echo.v1.Echo/Nothing");
    let codec = tonic_prost::ProstCodec::<EchoRequest, EchoResponse>::default();
    let status = client
        .unary(tonic::Request::new(text("")), path, codec)
        .await
        .expect_err("none");
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn health_is_serving_whatever_happens_to_calls() {
    let echo = Echo::start(&["--status", "503"]).await;
    let mut client = HealthClient::new(channel(echo.address).await);
    for service in ["", "meshwork.echo.v1.Echo"] {
        let check = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = client.check(check).await.expect("OK").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let check = HealthCheckRequest {
        service: "other".to_owned(),
    };
    assert_eq!(
        client.check(check).await.expect_err("unknown").code(),
        Code::NotFound
    );
}

/// Asks a reflection service of one version for the list of services and for the echo's file.
macro_rules! reflect {
    ($version:ident, $address:expr) => {{
        use pb::server_reflection_request::MessageRequest;
        use pb::server_reflection_response::MessageResponse;
        use tonic_reflection::pb::$version as pb;

        let ask = |message| pb::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message),
        };
        let mut client =
            pb::server_reflection_client::ServerReflectionClient::new(channel($address).await);
        let asks = tokio_stream::iter([
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol(
                "meshwork.echo.v1.Echo".to_owned(),
            )),
        ]);
        let mut answers = client
            .server_reflection_info(asks)
            .await
            .expect("OK")
            .into_inner();
        let mut next = async || {
            let answer = answers.message().await.expect("OK").expect("an answer");
            answer.message_response.expect("an answer of a kind")
        };
        let MessageResponse::ListServicesResponse(list) = next().await else {
            panic!("not a list");
        };
        let names: Vec<String> = list
            .service
            .into_iter()
            .map(|service| service.name)
            .collect();
        let MessageResponse::FileDescriptorResponse(file) = next().await else {
            panic!("not a file");
        };
        (names, file.file_descriptor_proto)
    }};
}

#[tokio::test]
async fn reflection_describes_the_echo_in_both_versions() {
    use prost::Message as _;

    let echo = Echo::start(&["--reset-rate", "1"]).await;
    for (names, files) in [reflect!(v1, echo.address), reflect!(v1alpha, echo.address)] {
        for service in ["meshwork.echo.v1.Echo", "grpc.health.v1.Health"] {
            assert!(
                names.iter().any(|name| name == service),
                "{service} is not in {names:?}"
            );
        }
        let file = prost_types::FileDescriptorProto::decode(files[0].as_slice()).expect("a file");
        assert_eq!(file.name(), "meshwork/echo/v1/echo.proto");
        assert_eq!(file.service[0].method.len(), 4);
    }
}

#[tokio::test]
async fn failing_share_gets_the_status() {
    let echo = Echo::start(&["--status", "429", "--fail-rate", "0.3", "--seed", "11"]).await;
    let mut sender = http1(echo.address).await;
    let mut failed = 0;
    for _ in 0..300 {
        let get = request(Request::get("/").header("host", "e"), "");
        let response = sender.send_request(get).await.expect("an answer");
        if response.status() != StatusCode::OK {
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            failed += 1;
        }
        assert_eq!(body_of(response).await["name"], "echo");
    }
    // Three standard deviations of a binomial of 300 at 0.3 are 24; the seed keeps it there.
    assert!((66..=114).contains(&failed), "{failed} of 300 failed");
}

#[tokio::test]
async fn status_without_a_share_fails_all_calls_of_both_kinds() {
    let echo = Echo::start(&["--name", "v1", "--status", "503"]).await;
    let get = request(Request::get("http://e/"), "");
    let response = http2(echo.address)
        .await
        .send_request(get)
        .await
        .expect("an answer");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body_of(response).await["name"], "v1");

    let mut client = EchoClient::new(channel(echo.address).await);
    let status = client.unary(text("")).await.expect_err("it fails");
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "v1 fails as told")
    );
    let asks = tokio_stream::pending::<EchoRequest>();
    let status = client
        .bidi_stream(asks)
        .await
        .expect_err("it fails before a message is sent");
    assert_eq!(status.code(), Code::Unavailable);

    // Trailers-only: the status is in the only header block.
    let post = Request::post("http://e/a.B/C").header("content-type", "application/grpc");
    let mut sender = http2(echo.address).await;
    let response = sender
        .send_request(request(post, ""))
        .await
        .expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["grpc-status"], "14");
    let end = response.into_body().collect().await.expect("a whole body");
    assert!(end.trailers().is_none());
}

#[tokio::test]
async fn grpc_status_can_be_told() {
    let echo = Echo::start(&["--status", "503", "--grpc-status", "8"]).await;
    let mut client = EchoClient::new(channel(echo.address).await);
    let status = client.unary(text("")).await.expect_err("it fails");
    assert_eq!(status.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn reset_share_gets_no_response() {
    let echo = Echo::start(&["--reset-rate", "1"]).await;

    // HTTP/1.1: the connection ends with RST, not with FIN.
    let mut stream = TcpStream::connect(echo.address)
        .await
        .expect("the echo listens");
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: e\r\n\r\n")
        .await
        .expect("it is sent");
    let mut answer = Vec::new();
    let error = stream.read_to_end(&mut answer).await.expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(answer.is_empty());

    // HTTP/2: the stream ends, the connection stays.
    let mut sender = http2(echo.address).await;
    for _ in 0..2 {
        let get = request(Request::get("http://e/"), "");
        let error = sender.send_request(get).await.expect_err("a reset");
        assert!(!error.is_closed() && !error.is_canceled(), "{error:?}");
        sender.ready().await.expect("the connection is still there");
    }

    let mut client = EchoClient::new(channel(echo.address).await);
    client.unary(text("")).await.expect_err("a reset");
}

#[tokio::test]
async fn delay_holds_every_answer() {
    let echo = Echo::start(&["--delay", "60ms"]).await;
    let mut sender = http1(echo.address).await;
    let started = tokio::time::Instant::now();
    let get = request(Request::get("/").header("host", "e"), "");
    sender.send_request(get).await.expect("an answer");
    assert!(started.elapsed().as_millis() >= 60);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let echo = Echo::start(&[]).await;
    // One byte too long, so that nothing is left unread when the answer is sent.
    let body = Full::new(Bytes::from(vec![0_u8; (64 << 20) + 1]));
    let plain = Request::post("/")
        .header("host", "e")
        .body(body.clone())
        .expect("a request");
    let response = http1(echo.address)
        .await
        .send_request(plain)
        .await
        .expect("an answer");
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);

    let call = Request::post("http://e/a.B/C").header("content-type", "application/grpc");
    let call = call.body(body).expect("a request");
    let response = http2(echo.address)
        .await
        .send_request(call)
        .await
        .expect("an answer");
    assert_eq!(response.headers()["grpc-status"], "8");
}

/// A call whose stream is open on both sides: one message went each way.
async fn open_call(address: SocketAddr) -> (Sender<EchoRequest>, tonic::Streaming<EchoResponse>) {
    let (ask, asks) = tokio::sync::mpsc::channel(1);
    let mut client = EchoClient::new(channel(address).await);
    ask.send(text("before")).await.expect("there is room");
    let answers = client
        .bidi_stream(ReceiverStream::new(asks))
        .await
        .expect("OK");
    let mut answers = answers.into_inner();
    let answer = answers.message().await.expect("OK").expect("an answer");
    assert_eq!(answer.message, "before");
    (ask, answers)
}

#[cfg(unix)]
#[tokio::test]
async fn sigterm_finishes_what_is_in_flight_and_ends() {
    let echo = Echo::start(&["--name", "v1"]).await;
    let address = echo.address;
    let mut idle = TcpStream::connect(address).await.expect("the echo listens");
    let (ask, mut answers) = open_call(address).await;
    // The interim response proves that the request is being served: the echo waits for its body.
    let mut halfway = TcpStream::connect(address).await.expect("the echo listens");
    let head = b"POST / HTTP/1.1\r\nhost: e\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";
    halfway.write_all(head).await.expect("it is sent");
    let mut interim = *b"HTTP/1.1 100 Continue\r\n\r\n";
    halfway
        .read_exact(&mut interim)
        .await
        .expect("an interim response");
    assert!(interim.starts_with(b"HTTP/1.1 100"));

    echo.terminate().await;
    let mut rest = Vec::new();
    let _ = idle.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "an idle connection just ends");
    TcpStream::connect(address)
        .await
        .expect_err("the port is closed");

    halfway.write_all(b"ok").await.expect("it is sent");
    let mut answer = String::new();
    halfway
        .read_to_string(&mut answer)
        .await
        .expect("an answer, and the end");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    ask.send(text("after")).await.expect("the stream is open");
    let last = answers.message().await.expect("OK").expect("an answer");
    assert_eq!(last.message, "after");
    drop(ask);
    assert!(answers.message().await.expect("OK").is_none());

    let (status, said) = echo.end().await;
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[cfg(unix)]
#[tokio::test]
async fn sigterm_cuts_what_does_not_end() {
    let echo = Echo::start(&["--drain", "50ms"]).await;
    let (_ask, mut answers) = open_call(echo.address).await;
    echo.terminate().await;
    answers.message().await.expect_err("it was cut");
    let (status, said) = echo.end().await;
    assert_eq!(status.code(), Some(0));
    assert!(said.contains("cut 1 connections"), "{said}");
}

#[tokio::test]
async fn wrong_flags_are_refused_with_what_is_allowed() {
    for (flags, why) in [
        (
            &["--status", "700"],
            "expected an HTTP status from 200 to 599",
        ),
        (
            &["--grpc-status", "17"],
            "expected a gRPC status from 1 to 16",
        ),
        (
            &["--fail-rate", "30"],
            "expected a share from 0 (none) to 1 (all)",
        ),
        (&["--delay", "20"], "\"20\" has no unit"),
        (&["--listen", "localhost"], "invalid socket address"),
    ] {
        let mut args = vec!["echo"];
        if flags[0] != "--listen" {
            args.extend(["--listen", "127.0.0.1:0"]);
        }
        args.extend(flags);
        let output = run(&args).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
        assert!(said.contains(why), "{flags:?}: {said}");
    }
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let echo = Echo::start(&[]).await;
    let output = run(&["echo", "--listen", &echo.address.to_string()]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let start = format!(
        "meshwork: cannot listen on {}; choose another",
        echo.address
    );
    assert!(said.starts_with(&start), "{said}");
}
