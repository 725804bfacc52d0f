//! The end: what is in flight is finished, what does not finish is cut.
#![cfg(unix)]

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Sender;
use tokio_stream::wrappers::ReceiverStream;

use super::super::echo_proto::echo_client::EchoClient;
use super::super::echo_proto::{EchoRequest, EchoResponse};
use super::super::process::Echo;
use super::{channel, text};

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

    // That it ends here, without being cut, is the drain; `connection: close` is only promised to
    // answers that begin after the connection has heard of it, which this one may just miss.
    halfway.write_all(b"ok").await.expect("it is sent");
    let mut answer = String::new();
    halfway
        .read_to_string(&mut answer)
        .await
        .expect("an answer, and the end");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    ask.send(text("after")).await.expect("the stream is open");
    let last = answers.message().await.expect("OK").expect("an answer");
    assert_eq!(last.message, "after");
    drop(ask);
    assert!(answers.message().await.expect("OK").is_none());

    let (status, said) = echo.end().await;
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

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
