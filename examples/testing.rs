//! A service's own test: when `catalog` fails, `order` answers 503 within two seconds. In a service
//! it is a `#[tokio::test(start_paused = true)]`, with the crate's feature `test-util`.
//! Run with `cargo run --example testing --features test-util`.

use std::time::Duration;

use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::routing::get;
use http_body_util::BodyExt;
use meshwork::testing::{Backend, World};
use meshwork::{Body, CallOptions, Client, Mesh, Workload};
use tokio::time::Instant;
use tower::ServiceExt;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    order_answers_503_within_2_s_when_catalog_fails().await;
    println!("order answered 503 each time");
}

async fn order_answers_503_within_2_s_when_catalog_fails() {
    let world = World::seeded(7);
    let catalog = world.backend("catalog").subset("v1");
    let workload = Workload::new("my-app", "order-sa").label("app", "order");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/article/resilience");
    let order = order(&world.mesh(folder, workload).await.unwrap());

    for fail in [Backend::hang, Backend::reset, Backend::down] {
        fail(&catalog);
        let began = Instant::now();
        let request = Request::get("/order").body(Body::empty()).unwrap();
        let response = order.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(began.elapsed() <= Duration::from_secs(2));
        catalog.recover();
    }
}

/// The service under test.
fn order(mesh: &Mesh) -> axum::Router {
    axum::Router::new()
        .route("/order", get(ordered))
        .with_state(mesh.client())
}

async fn ordered(State(catalog): State<Client>) -> Result<String, (StatusCode, String)> {
    let failed = |error: meshwork::Error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = axum::http::Uri::from_static("http://catalog/items");
    let patience = CallOptions::new().timeout(Duration::from_millis(1_500));
    request.extensions_mut().insert(patience);
    let response = catalog.request(request).await.map_err(failed)?;
    if response.status().is_server_error() {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "catalog failed".into()));
    }
    let body = response.into_body().collect().await.map_err(failed)?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}
