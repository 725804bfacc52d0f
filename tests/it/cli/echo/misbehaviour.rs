//! Failures, resets, delays, and requests that are too long.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

use super::super::echo_proto::EchoRequest;
use super::super::echo_proto::echo_client::EchoClient;
use super::super::process::Echo;
use super::{body_of, channel, http1, http2, request, text};

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
