//! What each client has, in the words of Envoy's client status discovery service.
//!
//! The server's side of it: what was sent, acknowledged, refused, and with which words. Every
//! stream is a client of its own (gRPC opens one for each target), told apart by `client_scope`.

use std::sync::Arc;

use envoy_types::pb::envoy::admin::v3::{ClientResourceStatus, UpdateFailureState};
use envoy_types::pb::envoy::config::core::v3::Node as WireNode;
use envoy_types::pb::envoy::service::status::v3 as pb;
use envoy_types::pb::google::protobuf::Any;
use pb::client_config::GenericXdsConfig;
use pb::client_status_discovery_service_server::ClientStatusDiscoveryService;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::ads::Held;
use super::house::{Client, House};
use super::kind::Kind;
use super::variant;
use crate::source::xds::json::conceal;

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Csds(pub(super) Arc<House>);

impl Csds {
    fn answer(
        &self,
        request: &pb::ClientStatusRequest,
    ) -> Result<pb::ClientStatusResponse, Status> {
        if !request.node_matchers.is_empty() {
            return Err(Status::invalid_argument(
                "node_matchers are not understood: all clients are told",
            ));
        }
        let contents = !request.exclude_resource_contents;
        let clients = self.0.clients();
        Ok(pb::ClientStatusResponse {
            config: clients
                .iter()
                .map(|client| config(client, contents))
                .collect(),
        })
    }
}

fn config(client: &Client, contents: bool) -> pb::ClientConfig {
    let stream = client
        .stream
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let configs = stream
        .held()
        .map(|(kind, held)| status(kind, &held, contents));
    pb::ClientConfig {
        node: Some(WireNode {
            id: client.node.id().to_string(),
            cluster: client.node.cluster().to_string(),
            user_agent_name: client.node.user_agent().to_string(),
            ..WireNode::default()
        }),
        generic_xds_configs: configs.collect(),
        client_scope: client.scope(),
        ..pb::ClientConfig::default()
    }
}

fn status(kind: Kind, held: &Held<'_>, contents: bool) -> GenericXdsConfig {
    let status = match (held.sent, held.acked, held.error) {
        (None, ..) => ClientResourceStatus::DoesNotExist,
        (Some(_), true, _) => ClientResourceStatus::Acked,
        (Some(_), false, Some(_)) => ClientResourceStatus::Nacked,
        (Some(_), false, None) => ClientResourceStatus::Requested,
    };
    let refused = held
        .error
        .filter(|_| status == ClientResourceStatus::Nacked);
    // Keys and certificates are nobody's to look at, nor are secrets inside of other messages.
    let shown = contents && kind != Kind::Secret;
    GenericXdsConfig {
        type_url: kind.type_url().into(),
        name: variant::name(held.name).to_owned(),
        version_info: held
            .sent
            .map_or_else(String::new, |sent| sent.version().to_string()),
        xds_config: held.sent.filter(|_| shown).map(|sent| Any {
            type_url: kind.type_url().into(),
            value: conceal(kind.type_url(), sent.body()).unwrap_or_else(|| sent.body().to_vec()),
        }),
        client_status: status as i32,
        error_state: refused.map(|(version, error)| UpdateFailureState {
            version_info: version.to_string(),
            details: error.to_string(),
            ..UpdateFailureState::default()
        }),
        ..GenericXdsConfig::default()
    }
}

#[async_trait]
impl ClientStatusDiscoveryService for Csds {
    type StreamClientStatusStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<pb::ClientStatusResponse, Status>> + Send>>;

    async fn stream_client_status(
        &self,
        request: Request<Streaming<pb::ClientStatusRequest>>,
    ) -> Result<Response<Self::StreamClientStatusStream>, Status> {
        let csds = self.clone();
        let answers = request
            .into_inner()
            .map(move |request| request.and_then(|request| csds.answer(&request)));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fetch_client_status(
        &self,
        request: Request<pb::ClientStatusRequest>,
    ) -> Result<Response<pb::ClientStatusResponse>, Status> {
        self.answer(request.get_ref()).map(Response::new)
    }
}
