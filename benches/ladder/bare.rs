//! What the mesh is compared with: nothing, hyper, and tonic's channel.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshwork::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use crate::call::{Client, HOST_NAME, RequestBody};
use crate::identity::{self, Pems};
use crate::wire::{self, Speaks};

/// An endpoint that answers at once. What it costs is what a call costs before there is a mesh: the
/// making of the request and of the response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoOp;

impl<B> Service<Request<B>> for NoOp {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(wire::message().map(Body::from)))
    }
}

/// hyper's HTTP/1.1 connection.
pub(crate) struct Http1(http1::SendRequest<RequestBody>);

/// hyper's HTTP/2 connection.
pub(crate) struct Http2(http2::SendRequest<RequestBody>);

impl Http1 {
    pub(crate) async fn new(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let handshake = http1::handshake(TokioIo::new(io));
        let (sender, connection) = handshake.await.expect("the server is up");
        tokio::spawn(connection);
        Self(sender)
    }
}

impl Http2 {
    pub(crate) async fn new(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io))
            .await
            .expect("the server is up");
        tokio::spawn(connection);
        Self(sender)
    }
}

impl Client for Http1 {
    type Body = Incoming;

    async fn call(&mut self, request: Request<RequestBody>) -> Response<Incoming> {
        self.0.ready().await.expect("the connection is up");
        let response = self.0.send_request(request).await;
        response.expect("nothing on the ladder fails")
    }
}

impl Client for Http2 {
    type Body = Incoming;

    async fn call(&mut self, request: Request<RequestBody>) -> Response<Incoming> {
        self.0.ready().await.expect("the connection is up");
        let response = self.0.send_request(request).await;
        response.expect("nothing on the ladder fails")
    }
}

/// A connection in memory with mutual TLS, as rustls makes it.
pub(crate) async fn secured(
    speaks: Speaks,
) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
    let pems = Pems::make().expect("rcgen makes certificates");
    let acceptor = pems.acceptor(speaks.protocol()).expect("they fit");
    let connector = pems.connector(speaks.protocol()).expect("they fit");
    let securing = identity::secure(&connector, wire::secured(speaks, &acceptor));
    securing.await.expect("the server is up")
}

/// tonic's channel, as `connect` makes it, over memory.
pub(crate) async fn channel_in_memory() -> Channel {
    let connector = tower::service_fn(|_: Uri| async {
        Ok::<_, Infallible>(TokioIo::new(wire::memory(Speaks::Http2)))
    });
    endpoint(HOST_NAME)
        .connect_with_connector(connector)
        .await
        .expect("the server is up")
}

/// tonic's channel to a server on the loopback interface.
pub(crate) async fn channel(address: SocketAddr) -> Channel {
    endpoint(&address.to_string())
        .connect()
        .await
        .expect("the server is up")
}

fn endpoint(authority: &str) -> Endpoint {
    Endpoint::from_shared(format!("http://{authority}")).expect("it is a host or an address")
}
