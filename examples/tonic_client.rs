//! Level two: a generated gRPC client on a mesh's channel; here the client of gRPC's own health
//! service. Run with `cargo run --features cli --example tonic_client`.

use std::time::Duration;

use meshwork::{Mesh, OutboundTraffic, Workload};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

mod support;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = support::grpc_health().await?;

    let mesh = Mesh::builder()
        .yaml(folder.path())
        .workload(Workload::new("my-app", "order-sa"))
        .outbound_traffic(OutboundTraffic::RegistryOnly)
        .start()
        .await?;
    let client = HealthClient::new(mesh.channel("health.my-app.svc.cluster.local")?);

    // Clones share everything, and a call can be made in a task of its own.
    let mut in_a_task = client.clone();
    let call = tokio::spawn(async move {
        let mut request = tonic::Request::new(HealthCheckRequest::default());
        request.set_timeout(Duration::from_secs(1));
        in_a_task.check(request).await
    });
    println!("health: {:?}", call.await??.into_inner().status());

    // What the mesh answers itself is a gRPC status, not an unknown error.
    let mut nobody = HealthClient::new(mesh.channel("nobody.my-app.svc.cluster.local:50051")?);
    let status = nobody
        .check(HealthCheckRequest::default())
        .await
        .unwrap_err();
    println!("nobody: {} ({})", status.code(), status.message());
    assert_eq!(status.code(), tonic::Code::Unavailable);

    mesh.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
