//! Level one: layers in any tower stack, here around hyper's HTTP/1.1 client. No mesh, no
//! configuration files. Run with `cargo run --example layers`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use meshwork::Body;
use meshwork::layer::limit::{LimitLayer, Limits};
use meshwork::layer::retry::RetryLayer;
use meshwork::layer::timeout::TimeoutLayer;
use tokio::net::{TcpListener, TcpStream};
use tower::{Service, ServiceBuilder, ServiceExt};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = flaky_server().await?;

    // The inner service: one connection for each request is enough for an example.
    let inner = tower::service_fn(move |request: Request<Body>| async move {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        Ok::<_, BoxError>(response.map(Body::new))
    });

    let mut client = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(5))) // for all tries together
        .layer(LimitLayer::new(Limits::default().into())) // how much is under way at once
        .layer(RetryLayer::standard()) // two retries, within a budget
        .service(inner);

    for number in 1..=3 {
        let request = Request::get("/")
            .header("host", "example")
            .body(Body::empty())?;
        let client = ServiceExt::<Request<Body>>::ready(&mut client).await?;
        let response = client.call(request).await?;
        println!("request {number}: {}", response.status());
        assert_eq!(response.status(), StatusCode::OK, "the retry saved it");
        response.into_body().collect().await?;
    }
    Ok(())
}

/// Answers every second request with 503.
async fn flaky_server() -> std::io::Result<SocketAddr> {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|_| async {
                let mut response = Response::new(Empty::<bytes::Bytes>::new());
                if SEEN.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                }
                Ok::<_, Infallible>(response)
            });
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(address)
}
