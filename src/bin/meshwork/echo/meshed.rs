//! An echo behind the door of a mesh: it asks callers who they are, as far as policies say, and tells it.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use meshwork::inbound::Listener;
use meshwork::{Body, Mesh};
use tower_layer::Layer as _;

use super::service::{Reset, Service};
use super::wire::Abort;
use crate::config::{self, Client, Identity, Reading};

/// Whose policies hold at the port.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Behind a mesh")]
pub(super) struct Flags {
    /// Folder (or file) of Istio and Kubernetes YAML: PeerAuthentication, AuthorizationPolicy and
    /// RequestAuthentication hold at the port, as far as they are for --workload and its labels
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,

    /// gRPC's bootstrap file of the control planes that configure the port [default: what
    /// GRPC_XDS_BOOTSTRAP or GRPC_XDS_BOOTSTRAP_CONFIG says, without --config]
    #[arg(long, value_name = "BOOTSTRAP.json", conflicts_with = "config")]
    xds: Option<PathBuf>,

    #[command(flatten)]
    workload: Client,

    #[command(flatten)]
    identity: Identity,

    #[command(flatten)]
    reading: Reading,
}

impl Flags {
    /// The mesh, if one is wanted.
    ///
    /// # Errors
    /// The configuration has faults, or the flags make no identity.
    pub(super) async fn mesh(&self) -> anyhow::Result<Option<Mesh>> {
        let mut builder = Mesh::builder().workload(self.workload.workload());
        if let Some(path) = &self.config {
            config::must_exist(path)?;
            builder = builder.yaml_with(path, self.reading.options());
        } else if let Some(bootstrap) = config::bootstrap(self.xds.as_deref())? {
            builder = builder.xds(bootstrap);
        } else if !self.identity.is_given() {
            return Ok(None);
        }
        if let Some(source) = self.identity.source(&self.workload)? {
            builder = builder.identity(source);
        }
        Ok(Some(builder.start().await?))
    }
}

/// Serves at a port of the mesh until `shutdown` ends, then drains; yields how many requests did not end in
/// time.
pub(super) async fn serve(
    mesh: &Mesh,
    listener: Listener,
    service: Service,
    drain: std::time::Duration,
    shutdown: impl Future<Output = ()>,
) -> usize {
    let echo = Meshed(Arc::new(service));
    let serving = listener.serve(mesh.inbound_layer().layer(echo));
    let ending = async {
        shutdown.await;
        mesh.shutdown(drain).await
    };
    let mut serving = std::pin::pin!(serving);
    let mut ending = std::pin::pin!(ending);
    tokio::select! {
        left = &mut ending => left,
        // It ends when the mesh drains, perhaps before the last request is counted.
        () = &mut serving => ending.await,
    }
}

/// The echo as a service of the mesh.
#[derive(Clone)]
struct Meshed(Arc<Service>);

type Answering = Pin<Box<dyn Future<Output = Result<Response<tonic::body::Body>, Reset>> + Send>>;

impl tower_service::Service<Request<Body>> for Meshed {
    type Response = Response<tonic::body::Body>;
    type Error = Reset;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Reset>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        let echo = self.0.clone();
        // The connection is the mesh's: it is not the echo that could end it with RST.
        Box::pin(async move { echo.answer(request, &Abort::default()).await })
    }
}
