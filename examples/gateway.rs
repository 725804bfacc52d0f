//! An edge: whatever arrives at one port leaves through the mesh, with its routes, retries and limits.
//! Requests and responses stream through as they come, gRPC and trailers among them, and so do WebSockets of callers that
//! speak HTTP/1.1.
//!
//! `cargo run --example gateway` sends itself a few requests and ends;
//! `cargo run --example gateway -- LISTEN TARGET FOLDER` serves until it is told to stop: at that
//! address (`127.0.0.1:8080`), for that host of the mesh (`catalog.my-app`), by the YAML of that folder.

use std::error::Error;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use meshwork::{Body, Mesh, Workload};
use tower::Layer;

mod support;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => show().await,
        [listen, target, folder] => {
            let mesh = mesh(folder.as_ref()).await?;
            tokio::select! {
                served = serve(&mesh, listen, target) => served?,
                stopped = tokio::signal::ctrl_c() => stopped?,
            }
            mesh.shutdown(Duration::from_secs(5)).await;
            Ok(())
        }
        _ => Err("usage: gateway [LISTEN TARGET FOLDER]".into()),
    }
}

async fn mesh(folder: &std::path::Path) -> Result<Mesh, meshwork::Error> {
    let workload = Workload::new("my-app", "gateway-sa").label("app", "gateway");
    Mesh::builder()
        .yaml(folder)
        .workload(workload)
        .start()
        .await
}

/// The whole gateway: a door, and behind it a channel.
async fn serve(mesh: &Mesh, listen: &str, target: &str) -> Result<(), Box<dyn Error>> {
    let app = mesh.inbound_layer().layer(mesh.channel(target)?);
    mesh.listen(listen).await?.serve(app).await;
    Ok(())
}

async fn show() -> Result<(), Box<dyn Error>> {
    let folder = support::catalog().await?;
    let mesh = mesh(folder.path()).await?;
    let app = mesh.inbound_layer().layer(mesh.channel("catalog.my-app")?);
    let door = mesh.listen("127.0.0.1:0").await?;
    let address = door.local_addr();
    tokio::spawn(door.serve(app));

    // Somebody outside, who knows nothing of the mesh.
    let outside = Mesh::builder().start().await?;
    for canary in ["false", "true"] {
        let request = Request::get(format!("http://{address}/items"))
            .header("x-canary", canary)
            .body(Body::empty())?;
        let response = outside.client().request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        println!(
            "x-canary: {canary} → {status} {}",
            String::from_utf8_lossy(&body)
        );
        assert!(status.is_success());
    }
    mesh.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
