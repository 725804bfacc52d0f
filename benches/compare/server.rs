//! The server of all runs: gRPC over HTTP/2 on eleven ports, with or without mutual TLS, on one thread.
//!
//! It says what it was told. It is hyper's and not one of the compared, so that all get the same.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::path::Path;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::folder;

/// Ten endpoints of the stable version, and one of the canary.
pub(crate) const ENDPOINTS: usize = 10;
const PORTS: usize = ENDPOINTS + 1;

/// Serves until the process is ended; the first line says all addresses.
pub(crate) fn run(identity: Option<&str>) -> Result<(), String> {
    let acceptor = identity.map(|files| folder::read(Path::new(files))?.acceptor(b"h2"));
    let acceptor = acceptor.transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut addresses = Vec::new();
        for _ in 0..PORTS {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await;
            let listener = listener.map_err(|error| error.to_string())?;
            let address = listener.local_addr().map_err(|error| error.to_string())?;
            addresses.push(address.to_string());
            tokio::spawn(accept(listener, acceptor.clone()));
        }
        println!("{}", addresses.join(","));
        std::future::pending().await
    })
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // Whoever measures sees calls that fail; how a connection ends is of no interest.
            let _ = stream.set_nodelay(true);
            match acceptor {
                None => serve(stream).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
    let _ = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await;
}

type Trailers = Ready<Option<Result<HeaderMap, Infallible>>>;
type Answer = http_body_util::combinators::WithTrailers<Full<Bytes>, Trailers>;

async fn answer(request: Request<Incoming>) -> Result<Response<Answer>, hyper::Error> {
    let message = request.into_body().collect().await?.to_bytes();
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(message).with_trailers(ready(Some(Ok(trailers))));
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    Ok(response)
}
