//! What this client has, in the words of Envoy's client status discovery service (gRFC A40).
//!
//! A service for the program's own server, beside its others, and of the admin endpoint: `grpcdebug` asks it
//! which resources a process has, in which versions, and why one was refused. It tells everything that a
//! control plane has sent but secrets, so it belongs on a port for operators. Where files or a feed are
//! the source nobody has sent anything; there the admin endpoint tells what is in force in the same words,
//! in the dialect that loses nothing, with the number of the configuration as the version.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use envoy_types::pb::envoy::admin::v3::{ClientResourceStatus, UpdateFailureState};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::status::v3 as wire;
use envoy_types::pb::google::protobuf::{Any, Timestamp};
use futures_core::future::BoxFuture;
use http::{Request, Response};
use tokio_stream::{Stream, StreamExt as _};
use tonic::server::NamedService;
use tonic::{Status, Streaming, async_trait};
use tower_service::Service;
use wire::client_config::GenericXdsConfig;
use wire::client_status_discovery_service_server::{
    ClientStatusDiscoveryService, ClientStatusDiscoveryServiceServer,
};

use super::dump::{ResourceDump, ResourceState};
use super::encode::{Dialect, encode};
use super::json::conceal;
use super::stream::Driver;
use crate::error::BoxError;
use crate::model::Resources;
use crate::tls::Clock;
#[cfg(feature = "inbound")]
use crate::workload::Workload;

/// `envoy.service.status.v3.ClientStatusDiscoveryService` of a mesh; made by
/// [`Mesh::client_status`](crate::Mesh::client_status).
///
/// ```no_run
/// # async fn example(mesh: meshwork::Mesh) -> Result<(), Box<dyn std::error::Error>> {
/// if let Some(status) = mesh.client_status() {
///     let routes = tonic::service::Routes::new(status);
///     let listener = tokio::net::TcpListener::bind("127.0.0.1:15014").await?;
///     axum::serve(listener, routes.into_axum_router()).await?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ClientStatus {
    server: ClientStatusDiscoveryServiceServer<Answers>,
}

#[cfg_attr(
    not(feature = "inbound"),
    allow(dead_code, reason = "nobody is asked without a port")
)]
/// Tells what is in force, and which configuration it is; `None` when there is nobody to tell.
pub(crate) type InForce = Arc<dyn Fn() -> Option<(u64, Resources)> + Send + Sync>;

#[cfg_attr(
    not(feature = "inbound"),
    allow(dead_code, reason = "nobody is asked without a port")
)]
#[derive(Clone)]
enum Answers {
    /// What control planes have sent.
    Planes { driver: Arc<Driver>, clock: Clock },
    /// What came from elsewhere.
    Model { node: Arc<Node>, in_force: InForce },
}

impl ClientStatus {
    pub(crate) fn new(driver: Arc<Driver>, clock: Clock) -> Self {
        Self::answering(Answers::Planes { driver, clock })
    }

    /// Of a process without a control plane.
    #[cfg(feature = "inbound")]
    pub(crate) fn of_model(workload: &Workload, in_force: InForce) -> Self {
        let (namespace, account) = (workload.namespace(), workload.service_account());
        let node = Arc::new(Node {
            id: format!("{namespace}/{account}"),
            cluster: namespace.to_owned(),
            user_agent_name: "meshwork".to_owned(),
            ..Node::default()
        });
        Self::answering(Answers::Model { node, in_force })
    }

    fn answering(answers: Answers) -> Self {
        Self {
            server: ClientStatusDiscoveryServiceServer::new(answers),
        }
    }
}

impl NamedService for ClientStatus {
    const NAME: &'static str = <ClientStatusDiscoveryServiceServer<Answers> as NamedService>::NAME;
}

impl<B> Service<Request<B>> for ClientStatus
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError> + Send + 'static,
{
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<B>>::poll_ready(&mut self.server, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.server.call(request)
    }
}

impl fmt::Debug for ClientStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStatus").finish_non_exhaustive()
    }
}

impl Answers {
    fn answer(
        &self,
        request: &wire::ClientStatusRequest,
    ) -> Result<wire::ClientStatusResponse, Status> {
        if !request.node_matchers.is_empty() {
            return Err(Status::invalid_argument(
                "node_matchers are not understood: this process has one node",
            ));
        }
        let contents = !request.exclude_resource_contents;
        let (node, configs) = match self {
            Self::Planes { driver, clock } => {
                let dump = driver.dump();
                let configs = dump.resources.iter();
                let configs = configs.map(|resource| received(resource, *clock, contents));
                (driver.node(), configs.collect())
            }
            Self::Model { node, in_force } => {
                let (generation, resources) =
                    in_force().ok_or_else(|| Status::unavailable("the mesh is gone"))?;
                (&**node, in_use(generation, &resources, contents))
            }
        };
        Ok(wire::ClientStatusResponse {
            config: vec![wire::ClientConfig {
                node: Some(node.clone()),
                generic_xds_configs: configs,
                ..wire::ClientConfig::default()
            }],
        })
    }
}

/// What is in force, as if it had been sent.
fn in_use(generation: u64, resources: &Resources, contents: bool) -> Vec<GenericXdsConfig> {
    let encoding = encode(resources, Dialect::Meshwork);
    let configs = encoding.resources.iter().map(|one| GenericXdsConfig {
        type_url: one.kind.type_url().into(),
        name: one.name.to_string(),
        version_info: generation.to_string(),
        xds_config: contents.then(|| shown(one.kind.type_url(), &one.bytes)),
        client_status: ClientResourceStatus::Acked.into(),
        ..GenericXdsConfig::default()
    });
    configs.collect()
}

/// A message without its secrets.
fn shown(type_url: &str, bytes: &[u8]) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: conceal(type_url, bytes).unwrap_or_else(|| bytes.to_vec()),
    }
}

/// What a control plane has sent, and what became of it.
fn received(resource: &ResourceDump, clock: Clock, contents: bool) -> GenericXdsConfig {
    let value = resource.value.as_ref();
    let received = value.map(|value| clock.now().saturating_sub(value.age));
    let refused = resource.trouble.as_ref().map(|text| UpdateFailureState {
        version_info: resource
            .refused_version
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        details: text.to_string(),
        ..UpdateFailureState::default()
    });
    GenericXdsConfig {
        type_url: resource.kind.type_url().into(),
        name: resource.name.to_string(),
        version_info: value.map_or_else(String::new, |value| value.version.to_string()),
        xds_config: value
            .filter(|_| contents)
            .map(|value| shown(&value.type_url, &value.bytes)),
        last_updated: received.map(|at| Timestamp {
            seconds: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
            // Less than a thousand million.
            nanos: at.subsec_nanos().cast_signed(),
        }),
        client_status: status(resource.state).into(),
        error_state: refused,
        ..GenericXdsConfig::default()
    }
}

fn status(state: ResourceState) -> ClientResourceStatus {
    match state {
        ResourceState::Acked => ClientResourceStatus::Acked,
        ResourceState::DoesNotExist => ClientResourceStatus::DoesNotExist,
        ResourceState::Nacked => ClientResourceStatus::Nacked,
        ResourceState::ReceivedError => ClientResourceStatus::ReceivedError,
        ResourceState::Requested => ClientResourceStatus::Requested,
        ResourceState::Timeout => ClientResourceStatus::Timeout,
    }
}

type Answering =
    std::pin::Pin<Box<dyn Stream<Item = Result<wire::ClientStatusResponse, Status>> + Send>>;

#[async_trait]
impl ClientStatusDiscoveryService for Answers {
    type StreamClientStatusStream = Answering;

    async fn stream_client_status(
        &self,
        request: tonic::Request<Streaming<wire::ClientStatusRequest>>,
    ) -> Result<tonic::Response<Answering>, Status> {
        let answers = self.clone();
        let asked = request.into_inner();
        let told = asked.map(move |request| request.and_then(|request| answers.answer(&request)));
        Ok(tonic::Response::new(Box::pin(told)))
    }

    async fn fetch_client_status(
        &self,
        request: tonic::Request<wire::ClientStatusRequest>,
    ) -> Result<tonic::Response<wire::ClientStatusResponse>, Status> {
        self.answer(request.get_ref()).map(tonic::Response::new)
    }
}
