//! An axum service, `order`, that calls another, `catalog`, under the deadline of its own caller.
//! Run with `cargo run --example axum_service`.

use std::time::Duration;

use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::routing::get;
use http_body_util::BodyExt;
use meshwork::{Body, Client, Mesh, Workload};
use tokio::net::TcpListener;

mod support;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = support::catalog().await?;
    let mesh = Mesh::builder()
        .yaml(folder.path())
        .workload(Workload::new("my-app", "order-sa").label("app", "order"))
        .start()
        .await?;

    let app = axum::Router::new()
        .route("/order", get(order))
        .with_state(mesh.client())
        // Takes in the caller's deadline and lets `shutdown` wait for this request.
        .layer(mesh.inbound_layer());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });

    // Somebody calls `order` by its address, which the mesh passes through, and waits a second.
    let request = Request::get(format!("http://{address}/order"))
        .header("x-envoy-expected-rq-timeout-ms", "1000")
        .body(Body::empty())?;
    let response = mesh.client().request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    println!("{status}: {}", String::from_utf8_lossy(&body));
    assert!(body.starts_with(b"ordered from v"));

    let left = mesh.shutdown(Duration::from_secs(5)).await;
    println!("ended with {left} calls under way");
    Ok(())
}

/// The outbound call inherits what is left of the caller's second.
async fn order(State(client): State<Client>) -> Result<String, (StatusCode, String)> {
    let failed = |error: meshwork::Error| (error.status(), error.to_string());
    let request = Request::get("http://catalog/items").body(Body::empty());
    let request = request.expect("a literal request is valid");
    let response = client.request(request).await.map_err(failed)?;
    let body = response.into_body().collect().await.map_err(failed)?;
    Ok(format!(
        "ordered from {}",
        String::from_utf8_lossy(&body.to_bytes())
    ))
}
