//! Backends for the examples: what a cluster would run, in this process, on real sockets.
#![allow(dead_code, reason = "each example uses its part")]

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use http::{Request, Response};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// The article's canary with three backends behind it: v1, v1, v2.
pub async fn catalog() -> io::Result<TempDir> {
    let folder = TempDir::new()?;
    let article = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/article/canary");
    let mut endpoints = std::fs::read_to_string(article.join("catalog.yaml"))?;
    // The article's endpoints have fixed ports; these backends have whatever is free.
    for (fixed, version) in [("18081", "v1"), ("18082", "v1"), ("18083", "v2")] {
        let port = backend(version).await?.port().to_string();
        endpoints = endpoints.replace(fixed, &port);
    }
    std::fs::write(folder.path().join("catalog.yaml"), endpoints)?;
    let routing = folder.path().join("routing.yaml");
    std::fs::copy(article.join("routing.yaml"), routing)?;
    Ok(folder)
}

/// A gRPC server that knows nothing but its own health.
pub async fn grpc_health() -> io::Result<TempDir> {
    let (_, service) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming),
    );
    let folder = TempDir::new()?;
    std::fs::write(
        folder.path().join("health.yaml"),
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: health, namespace: my-app}}\n\
             spec: {{ports: [{{name: grpc, port: 80}}]}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  \
             name: health-1\n  namespace: my-app\n  labels: {{kubernetes.io/service-name: health}}\n\
             addressType: IPv4\nports: [{{name: grpc, port: {port}}}]\n\
             endpoints: [{{addresses: [127.0.0.1]}}]\n"
        ),
    )?;
    Ok(folder)
}

/// Answers every request with its name and the path.
async fn backend(name: &'static str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(move |request: Request<_>| async move {
                let _: &hyper::body::Incoming = request.body();
                let text = format!("{name} {}", request.uri());
                Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::from(text)))
            });
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(address)
}
