//! `meshwork echo` from outside.

mod drain;
mod flags;
mod grpc;
mod http;
mod misbehaviour;

use std::net::SocketAddr;

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;
use tonic::transport::Channel;

use super::echo_proto::EchoRequest;

pub(super) type Http1 = hyper::client::conn::http1::SendRequest<Full<Bytes>>;
pub(super) type Http2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

pub(super) async fn http1(address: SocketAddr) -> Http1 {
    let stream = TcpStream::connect(address).await.expect("the echo listens");
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("a handshake");
    tokio::spawn(connection);
    sender
}

pub(super) async fn http2(address: SocketAddr) -> Http2 {
    let stream = TcpStream::connect(address).await.expect("the echo listens");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("a handshake");
    tokio::spawn(connection);
    sender
}

pub(super) async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("a URI");
    endpoint.connect().await.expect("the echo listens")
}

pub(super) fn request(
    builder: ::http::request::Builder,
    body: &'static str,
) -> Request<Full<Bytes>> {
    builder
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .expect("a request")
}

pub(super) async fn body_of(response: Response<Incoming>) -> Value {
    let bytes = response
        .into_body()
        .collect()
        .await
        .expect("a whole body")
        .to_bytes();
    serde_json::from_slice(&bytes).expect("JSON")
}

pub(super) fn text(message: &str) -> EchoRequest {
    EchoRequest {
        message: message.to_owned(),
        ..EchoRequest::default()
    }
}
