//! What each client has, in the words of Envoy's client status discovery service.
//!
//! The server's side of it: what was sent, acknowledged, refused, and with which words. Every
//! stream is a client of its own (gRPC opens one for each target), told apart by `client_scope`.
//!
//! The operator's port tells of all clients. On the server's own port a caller with a certificate is told of
//! the clients with the same identity: what others have, resources for certain nodes among it, is theirs.
//! Where callers prove nothing there is nothing to go by, and all are told of all, as all can ask for the
//! view of any namespace. An answer is as large as everything that these clients have, so two calls at a
//! time are answered there, and none for longer than [`Limits::write`](super::Limits::write).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use envoy_types::pb::envoy::admin::v3::{ClientResourceStatus, UpdateFailureState};
use envoy_types::pb::envoy::config::core::v3::Node as WireNode;
use envoy_types::pb::envoy::service::status::v3 as pb;
use envoy_types::pb::google::protobuf::Any;
use pb::client_config::GenericXdsConfig;
use pb::client_status_discovery_service_server::ClientStatusDiscoveryService;
use tokio::time::{Sleep, sleep};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Extensions, Request, Response, Status, Streaming, async_trait};

use super::ads::Held;
use super::house::{Client, House};
use super::kind::Kind;
use super::lock::lock;
use super::variant;
use crate::model::identity::SpiffeId;
use crate::source::xds::json::conceal;

/// Where the methods of the service begin.
pub(super) const PATH: &str = "/envoy.service.status.v3.ClientStatusDiscoveryService/";

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Csds {
    house: Arc<House>,
    port: Port,
}

#[derive(Clone, Copy, Debug)]
enum Port {
    Operator,
    Server,
}

/// Who calls on the server's port, as an extension of the request: whoever is proven by a certificate.
#[derive(Clone, Debug)]
pub(super) struct Asker(pub(super) Option<SpiffeId>);

impl Csds {
    /// The service of the operator's port.
    pub(super) fn for_operator(house: Arc<House>) -> Self {
        Self {
            house,
            port: Port::Operator,
        }
    }

    /// The service of the server's port, which says in each request [who asks](Asker).
    pub(super) fn for_clients(house: Arc<House>) -> Self {
        Self {
            house,
            port: Port::Server,
        }
    }

    /// Whose clients a caller is told of; `None`: of all.
    fn whose(&self, extensions: &Extensions) -> Result<Option<SpiffeId>, Status> {
        match (self.port, extensions.get::<Asker>()) {
            (Port::Operator, _) => Ok(None),
            (Port::Server, Some(Asker(principal))) => Ok(principal.clone()),
            (Port::Server, None) => Err(Status::permission_denied("it is not known who asks")),
        }
    }

    fn answer(
        &self,
        request: &pb::ClientStatusRequest,
        whose: Option<&SpiffeId>,
    ) -> Result<pb::ClientStatusResponse, Status> {
        if !request.node_matchers.is_empty() {
            return Err(Status::invalid_argument(
                "node_matchers are not understood: all clients are told",
            ));
        }
        let contents = !request.exclude_resource_contents;
        let clients = self.house.clients();
        let told = clients
            .iter()
            .filter(|client| whose.is_none_or(|whose| client.principal.as_ref() == Some(whose)));
        Ok(pb::ClientStatusResponse {
            config: told.map(|client| config(client, contents)).collect(),
        })
    }
}

/// The answers of a call until it has lasted long enough.
struct Until<S> {
    answers: S,
    end: Pin<Box<Sleep>>,
    ended: bool,
}

impl<S> Stream for Until<S>
where
    S: Stream<Item = Result<pb::ClientStatusResponse, Status>> + Unpin,
{
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.end.as_mut().poll(cx).is_ready() {
            self.ended = true;
            let text = "a call of client status lasts no longer on this port";
            return Poll::Ready(Some(Err(Status::deadline_exceeded(text))));
        }
        Pin::new(&mut self.answers).poll_next(cx)
    }
}

fn config(client: &Client, contents: bool) -> pb::ClientConfig {
    let stream = lock(&client.stream);
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
        Pin<Box<dyn Stream<Item = Result<pb::ClientStatusResponse, Status>> + Send>>;

    async fn stream_client_status(
        &self,
        request: Request<Streaming<pb::ClientStatusRequest>>,
    ) -> Result<Response<Self::StreamClientStatusStream>, Status> {
        let (csds, whose) = (self.clone(), self.whose(request.extensions())?);
        let answers = request
            .into_inner()
            .map(move |request| request.and_then(|request| csds.answer(&request, whose.as_ref())));
        Ok(Response::new(match self.port {
            Port::Operator => Box::pin(answers),
            Port::Server => Box::pin(Until {
                answers,
                end: Box::pin(sleep(self.house.limits.write)),
                ended: false,
            }),
        }))
    }

    async fn fetch_client_status(
        &self,
        request: Request<pb::ClientStatusRequest>,
    ) -> Result<Response<pb::ClientStatusResponse>, Status> {
        let whose = self.whose(request.extensions())?;
        self.answer(request.get_ref(), whose.as_ref())
            .map(Response::new)
    }
}
