//! How much a port takes at once, on real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::Request;
use meshwork::{Body, Mesh, Workload};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower::ServiceExt;

const SIDECAR: &str = "\
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: order, namespace: my-app}
spec:
  inboundConnectionPool: {tcp: {maxConnections: 2}, http: {http2MaxRequests: 1}}
";

fn to(address: SocketAddr, headers: &[(&str, &str)]) -> Request<Body> {
    let request = Request::get(format!("http://{address}/"));
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_port_takes_as_many_connections_and_requests_as_its_pool_says() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sidecar.yaml"), SIDECAR).unwrap();
    let workload = Workload::new("my-app", "order-sa");
    let builder = Mesh::builder().yaml(folder.path()).workload(workload);
    let server = builder.start().await.unwrap();
    let listener = server.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr();
    let (gate, calls) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let app = {
        let (gate, calls) = (gate.clone(), calls.clone());
        Router::new().route(
            "/",
            get(async move || {
                calls.fetch_add(1, Ordering::Relaxed);
                gate.acquire().await.unwrap().forget();
            }),
        )
    };
    tokio::spawn(listener.serve(app));

    let callers = Mesh::builder().start().await.unwrap();
    let client = callers.client();
    let held = tokio::spawn(client.clone().oneshot(to(address, &[])));
    while calls.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    // On a second connection: one request is under way.
    let refused = client.clone().oneshot(to(address, &[])).await.unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["x-envoy-overloaded"], "true");
    drop(refused);
    let grpc = to(address, &[("content-type", "application/grpc")]);
    let grpc = client.clone().oneshot(grpc).await.unwrap();
    assert_eq!(
        (grpc.status(), &grpc.headers()["grpc-status"]),
        (200.try_into().unwrap(), &"14".parse().unwrap())
    );
    drop(grpc);
    assert_eq!(server.stats().inbound.overloaded, 2);
    // The third connection is closed before a byte.
    let mut third = TcpStream::connect(address).await.unwrap();
    let read = third.read(&mut [0]).await;
    assert!(matches!(&read, Ok(0) | Err(_)), "{read:?}");
    // What was under way is served, and then the next.
    gate.add_permits(2);
    assert_eq!(held.await.unwrap().unwrap().status(), 200);
    let next = client.clone().oneshot(to(address, &[])).await.unwrap();
    assert_eq!(next.status(), 200);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    callers.shutdown(Duration::ZERO).await;
    server.shutdown(Duration::ZERO).await;
}
