//! Level two: plain HTTP through a mesh that is configured by a folder of Istio YAML.
//! Run with `cargo run --example http_client`.

use http::Request;
use http_body_util::BodyExt;
use meshwork::{Body, Mesh, Workload};

mod support;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Three backends: catalog v1 twice, v2 once, and the article's canary in front of them.
    let folder = support::catalog().await?;

    let mesh = Mesh::builder()
        .yaml(folder.path())
        .workload(Workload::new("my-app", "order-sa").label("app", "order"))
        .start()
        .await?;
    let client = mesh.client();

    let mut v2 = 0;
    for _ in 0..200 {
        let request = Request::get("http://catalog/items").body(Body::empty())?;
        let response = client.request(request).await?;
        let body = response.into_body().collect().await?.to_bytes();
        v2 += u32::from(body.starts_with(b"v2"));
    }
    println!("200 requests, {v2} of them to v2 (the canary has 10 %)");

    let request = Request::get("http://catalog/items")
        .header("x-canary", "true")
        .body(Body::empty())?;
    let body = client
        .request(request)
        .await?
        .into_body()
        .collect()
        .await?
        .to_bytes();
    println!("with x-canary: true: {}", String::from_utf8_lossy(&body));
    assert!(body.starts_with(b"v2"));

    mesh.shutdown(std::time::Duration::from_secs(5)).await;
    Ok(())
}
