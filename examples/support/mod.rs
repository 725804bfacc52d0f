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
    let mut slices = String::new();
    for (name, version) in [
        ("catalog-1", "v1"),
        ("catalog-2", "v1"),
        ("catalog-3", "v2"),
    ] {
        let port = backend(version).await?.port();
        slices.push_str(&pod_and_slice("catalog", name, version, port));
    }
    let article = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/article/canary");
    for entry in std::fs::read_dir(article)? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        // The article's own endpoints have fixed ports; these backends have whatever was free.
        if let (Some(name), false) = (path.file_name(), text.contains("kind: EndpointSlice")) {
            std::fs::write(folder.path().join(name), text)?;
        }
    }
    std::fs::write(folder.path().join("endpoints.yaml"), slices)?;
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
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: health, namespace: my-app}\n\
         spec: {selector: {app: health}, ports: [{name: grpc, port: 80, targetPort: 8080}]}\n";
    let slice = pod_and_slice("health", "health-1", "v1", port).replace("name: http", "name: grpc");
    std::fs::write(
        folder.path().join("health.yaml"),
        format!("{service}{slice}"),
    )?;
    Ok(folder)
}

/// One endpoint of a service, and the pod whose labels it has.
fn pod_and_slice(service: &str, pod: &str, version: &str, port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {pod}\n  namespace: my-app\n  \
         labels: {{app: {service}, version: {version}}}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {pod}\n  \
         namespace: my-app\n  labels: {{kubernetes.io/service-name: {service}}}\n\
         addressType: IPv4\nports: [{{name: http, port: {port}}}]\n\
         endpoints:\n- addresses: [127.0.0.1]\n  \
         targetRef: {{kind: Pod, name: {pod}, namespace: my-app}}\n"
    )
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
