//! reqwest through a mesh: a middleware that ends the chain, since the mesh is what sends.
//! Run with `cargo run --example reqwest`.

use http::Extensions;
use meshwork::{Client, Mesh, Workload};
use reqwest::{Body, Request, Response};
use reqwest_middleware::{ClientBuilder, Middleware, Next, Result};

mod support;

/// Sends every request of a reqwest client through the mesh.
struct Meshed(Client);

#[async_trait::async_trait]
impl Middleware for Meshed {
    async fn handle(&self, request: Request, _: &mut Extensions, _: Next<'_>) -> Result<Response> {
        let request = http::Request::<Body>::try_from(request)?;
        let response = self.0.request(request).await;
        let response = response.map_err(reqwest_middleware::Error::middleware)?;
        Ok(Response::from(response.map(Body::wrap)))
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = support::catalog().await?;
    let mesh = Mesh::builder()
        .yaml(folder.path())
        .workload(Workload::new("my-app", "order-sa"))
        .start()
        .await?;

    let client = ClientBuilder::new(reqwest::Client::new())
        .with(Meshed(mesh.client()))
        .build();
    let response = client
        .get("http://catalog.my-app/items?page=2")
        .header("x-canary", "true")
        .send()
        .await?;
    println!("{}: {}", response.status(), response.text().await?);

    mesh.shutdown(std::time::Duration::from_secs(5)).await;
    Ok(())
}
