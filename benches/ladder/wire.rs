//! Servers, and ways to connect to them.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshwork::model::endpoint::Address;
use meshwork::transport::{Connect, Connecting, Io, Settings};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::call::{GRPC, MESSAGE};

/// Which version of HTTP a server speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

impl Speaks {
    /// Its name in a TLS handshake (ALPN).
    pub(crate) fn protocol(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// Connects every address to a new server in memory, on the same runtime.
pub(crate) struct Memory {
    pub(crate) speaks: Speaks,
    /// What secures the servers' ends, if anything does.
    pub(crate) tls: Option<TlsAcceptor>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({:?})", self.speaks)
    }
}

impl Connect for Memory {
    fn connect(&self, _: &Address, _: &Settings) -> Connecting {
        let end = match &self.tls {
            None => memory(self.speaks),
            Some(acceptor) => secured(self.speaks, acceptor),
        };
        Box::pin(async move { Ok(Io::boxed(end)) })
    }
}

/// The client's end of a connection in memory.
pub(crate) fn memory(speaks: Speaks) -> DuplexStream {
    let (client, server) = tokio::io::duplex(1 << 16);
    serve(server, speaks);
    client
}

/// The client's end of a connection in memory, whose server waits for TLS.
pub(crate) fn secured(speaks: Speaks, acceptor: &TlsAcceptor) -> DuplexStream {
    let (client, server) = tokio::io::duplex(1 << 16);
    let accepting = acceptor.accept(server);
    tokio::spawn(async move {
        serve(
            accepting.await.expect("the client has a certificate"),
            speaks,
        );
    });
    client
}

/// A server on the loopback interface; it ends with the runtime.
pub(crate) async fn listen(speaks: Speaks) -> SocketAddr {
    listen_at(SocketAddr::from(([127, 0, 0, 1], 0)), speaks).await
}

/// A server at this address; it ends with the runtime.
pub(crate) async fn listen_at(address: SocketAddr, speaks: Speaks) -> SocketAddr {
    let listener = TcpListener::bind(address)
        .await
        .expect("there is a loopback interface, and the port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("it is a TCP socket");
            serve(stream, speaks);
        }
    });
    address
}

/// The client's end of a TCP connection.
pub(crate) async fn dial(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, speaks: Speaks) {
    let stream = TokioIo::new(stream);
    tokio::spawn(async move {
        // How a connection ends when its runtime does is of no interest.
        let _ = match speaks {
            Speaks::Http1 => {
                http1::Builder::new()
                    .serve_connection(stream, service_fn(answer_plainly))
                    .await
            }
            Speaks::Http2 => {
                http2::Builder::new(TokioExecutor::new())
                    .serve_connection(stream, service_fn(answer_with_trailers))
                    .await
            }
        };
    });
}

async fn answer_plainly(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    request.into_body().collect().await?;
    Ok(message().map(Full::new))
}

type Trailers = Ready<Option<Result<HeaderMap, Infallible>>>;
type WithTrailers = http_body_util::combinators::WithTrailers<Full<Bytes>, Trailers>;

/// As a gRPC server does.
async fn answer_with_trailers(
    request: Request<Incoming>,
) -> Result<Response<WithTrailers>, hyper::Error> {
    request.into_body().collect().await?;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    Ok(message().map(|message| Full::new(message).with_trailers(ready(Some(Ok(trailers))))))
}

/// What every server answers.
pub(crate) fn message() -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(MESSAGE));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}
