//! An axum service, `order`, that has an identity, knows who calls it, and calls another, `catalog`, under the
//! deadline of its own caller. Run with `cargo run --example axum_service`.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::routing::get;
use http_body_util::BodyExt;
use meshwork::inbound::Peer;
use meshwork::tls::{Authority, Clock, Credentials, Trust};
use meshwork::{Body, Client, Mesh, Workload};

mod support;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = support::catalog().await?;
    let mesh = Mesh::builder()
        .yaml(folder.path())
        .workload(Workload::new("my-app", "order-sa").label("app", "order"))
        .identity(identity()?)
        .start()
        .await?;

    let app = axum::Router::new()
        .route("/order", get(order))
        .with_state(mesh.client())
        // Takes in the caller's deadline, asks policies, and lets `shutdown` wait for this request.
        .layer(mesh.inbound_layer());
    // In place of `axum::serve`: mutual TLS as PeerAuthentication says. Without one that is PERMISSIVE.
    let listener = mesh.listen("127.0.0.1:0").await?;
    let address = listener.local_addr();
    tokio::spawn(listener.serve(app));

    // Somebody calls `order` by its address, which the mesh passes through in plaintext, and waits a second.
    let request = Request::get(format!("http://{address}/order"))
        .header("x-envoy-expected-rq-timeout-ms", "1000")
        .body(Body::empty())?;
    let response = mesh.client().request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    println!("{status}: {}", String::from_utf8_lossy(&body));
    assert!(body.starts_with(b"nobody ordered from v"));

    let left = mesh.shutdown(Duration::from_secs(5)).await;
    println!("ended with {left} calls under way");
    Ok(())
}

/// Who `order` is, and whom it believes. A service takes them from files (`tls::FileSource`), from an agent or from an
/// authority, and they rotate; here an authority in memory signs one.
fn identity() -> Result<Credentials, Box<dyn std::error::Error>> {
    let now = Clock::system().now();
    let day = Duration::from_secs(24 * 60 * 60);
    let authority = Authority::generate("cluster.local".parse()?, now)?;
    let id = "spiffe://cluster.local/ns/my-app/sa/order-sa".parse()?;
    let own = authority.issue(&id, &[], day, now)?;
    let domain = authority.trust_domain().clone();
    let trust = Trust::default().with_domain(domain, authority.bundle().clone());
    Ok(Credentials::new(Some(own), trust))
}

/// The outbound call inherits what is left of the caller's second.
async fn order(
    State(client): State<Client>,
    Extension(caller): Extension<Peer>,
) -> Result<String, (StatusCode, String)> {
    let failed = |error: meshwork::Error| (error.status(), error.to_string());
    let request = Request::get("http://catalog/items").body(Body::empty());
    let request = request.expect("a literal request is valid");
    let response = client.request(request).await.map_err(failed)?;
    let body = response.into_body().collect().await.map_err(failed)?;
    let who = caller.principal;
    let who = who.map_or("nobody".to_owned(), |id| id.to_string());
    Ok(format!(
        "{who} ordered from {}",
        String::from_utf8_lossy(&body.to_bytes())
    ))
}
