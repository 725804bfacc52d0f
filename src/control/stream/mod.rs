//! One discovery stream on a connection: the only IO between the machine and a client.
//!
//! A stream is one task. It has at most one response on its way; the next one is made when the
//! connection has taken the last byte of that, so a client that reads slowly is sent the latest
//! state when it is ready, and one that does not read at all is ended after a while. Everything it
//! waits for is an arm of one `select!`; none of the arms waits for a third party.
//!
//! A stream's first state is the dear part: its view may have to be compiled, and everything in it is sent. So
//! that is done in turns, which are taken before anything is made. A turn ends when all that there is to send was
//! acknowledged, when what was sent is not answered for a tenth of the time of a turn, or with that time. It does
//! not end with the write: a client asks for its state in steps (clusters, then the endpoints of these), and if
//! all were let in after their first one, all would be late.

mod grpc;
mod line;
mod turn;

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http_body::Body;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Status;

pub(super) use self::grpc::Replies;
use self::grpc::Requests;
use self::line::Speaker;
use self::turn::Turn;
use super::ads::{self, Outcome, Reason, Refusal, Stream, Variant};
use super::house::{Client, House};
use super::kind::Kind;
use super::limits::{FAR, after};
use super::lock::lock;
use super::node::Node;
use super::seats::Seat;
use super::snapshot::Snapshot;
use super::store::{Generation, View};
use super::wire::{self, Request};
use crate::model::identity::SpiffeId;

/// What a method serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Method {
    pub(super) variant: Variant,
    /// The kind of a service that has only one.
    pub(super) only: Option<Kind>,
}

impl Method {
    /// The method of a path.
    pub(super) fn of(path: &str) -> Option<Self> {
        let (service, method) = path.strip_prefix("/envoy.service.")?.split_once('/')?;
        let (only, name) = match service {
            "discovery.v3.AggregatedDiscoveryService" => (None, "AggregatedResources"),
            "cluster.v3.ClusterDiscoveryService" => (Some(Kind::Cluster), "Clusters"),
            "endpoint.v3.EndpointDiscoveryService" => (Some(Kind::Endpoints), "Endpoints"),
            "extension.v3.ExtensionConfigDiscoveryService" => {
                (Some(Kind::Extension), "ExtensionConfigs")
            }
            "listener.v3.ListenerDiscoveryService" => (Some(Kind::Listener), "Listeners"),
            "route.v3.RouteDiscoveryService" => (Some(Kind::Routes), "Routes"),
            "route.v3.ScopedRoutesDiscoveryService" => (Some(Kind::ScopedRoutes), "ScopedRoutes"),
            "route.v3.VirtualHostDiscoveryService" => (Some(Kind::VirtualHost), "VirtualHosts"),
            "runtime.v3.RuntimeDiscoveryService" => (Some(Kind::Runtime), "Runtime"),
            "secret.v3.SecretDiscoveryService" => (Some(Kind::Secret), "Secrets"),
            _ => return None,
        };
        let variant = match method.strip_suffix(name)? {
            "Stream" if only != Some(Kind::VirtualHost) => Variant::Sotw,
            "Delta" => Variant::Delta,
            _ => return None,
        };
        Some(Self { variant, only })
    }
}

/// Starts the task of a stream; the answer's body is what it says. The task ends with the stream,
/// and with `house` at the latest.
pub(super) fn start<B>(
    house: &Arc<House>,
    method: Method,
    peer: Option<SpiffeId>,
    body: B,
) -> Replies
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display,
{
    let (speaker, listener) = line::line();
    let mut requests = Requests::new(body, house.limits.message_bytes);
    let task_house = house.clone();
    house.spawn(async move {
        // Apart, so that the task, which lasts, has no room for what is over soon.
        let admitted = Box::pin(admit(&task_house, method, peer, (&mut requests, &speaker)));
        let end = match admitted.await {
            Ok(mut session) => session.serve(&mut requests, &speaker).await,
            Err(end) => end,
        };
        speaker.end(end);
    });
    Replies::new(listener)
}

/// Waits for the first request and for a turn, and takes the request in.
///
/// # Errors
/// The stream ends before that, with this.
async fn admit<B>(
    house: &Arc<House>,
    method: Method,
    peer: Option<SpiffeId>,
    (requests, replies): (&mut Requests<B>, &Speaker),
) -> Result<Session, Status>
where
    B: Body<Data = Bytes> + Send + Unpin,
    B::Error: std::fmt::Display,
{
    let seat = house.seat()?;
    let mut drained = house.drained();
    let first = tokio::select! {
        first = timeout(house.limits.hello, requests.next()) => first,
        () = drained.begun() => return Err(going()),
    };
    let first = match first {
        Ok(first) => first?.ok_or_else(|| Status::ok(""))?,
        Err(_) => return Err(Status::deadline_exceeded("no request came on the stream")),
    };
    let (node, first) = hello(method, peer.as_ref(), first).map_err(status)?;
    let permit = tokio::select! {
        permit = house.turn() => permit,
        () = drained.begun() => return Err(going()),
        () = replies.deserted() => return Err(Status::cancelled("the client has left")),
    };
    let turn = Turn::begin(permit, house.limits.initial_sync);
    let session = Session::open(house, method, (node, peer), (seat, turn)).await;
    let mut session = session.map_err(status)?;
    session.take(first).map_err(status)?;
    Ok(session)
}

/// Reads the first request, which says who asks.
fn hello(
    method: Method,
    peer: Option<&SpiffeId>,
    first: Bytes,
) -> Result<(Node, Request), Refusal> {
    let mut request = wire::read(method.variant, method.only, first)?;
    match request.node.take() {
        Some(node) if !node.id.is_empty() => Ok((Node::read(node, peer)?, request)),
        _ => Err(Refusal::invalid(
            "the first request of a stream has no node.id",
        )),
    }
}

fn status(refusal: Refusal) -> Status {
    match refusal.reason {
        Reason::Denied => Status::permission_denied(refusal.message),
        Reason::Exhausted => Status::resource_exhausted(refusal.message),
        Reason::Invalid => Status::invalid_argument(refusal.message),
    }
}

fn going() -> Status {
    Status::unavailable("the control plane is shutting down")
}

/// A stream whose client is known.
struct Session {
    house: Arc<House>,
    method: Method,
    client: Arc<Client>,
    /// The state in force, and whoever makes the next one.
    generations: tokio::sync::watch::Receiver<Arc<Generation>>,
    view: Arc<View>,
    snapshot: Arc<Snapshot>,
    turn: Turn,
    /// Until when the connection has to take the response that it has not taken yet.
    sending: Option<Instant>,
    _seat: Seat,
}

/// What a session waited for.
enum Event {
    Changed,
    Drained,
    Made(Arc<View>, Arc<Snapshot>),
    Request(Result<Option<Bytes>, Status>),
    Taken,
    Time,
}

impl Session {
    /// # Errors
    /// It needs a view of its own, and there are as many as there may be.
    async fn open(
        house: &Arc<House>,
        method: Method,
        (node, peer): (Node, Option<SpiffeId>),
        (seat, turn): (Seat, Turn),
    ) -> Result<Self, Refusal> {
        let mut generations = house.store.generations();
        let generation = generations.borrow_and_update().clone();
        let key = generation.key(&node);
        let most = house.limits.views;
        let Some(view) = generation.joined(&key, most) else {
            return Err(Refusal::exhausted(format!(
                "{most} views of the mesh are in use, which is the limit, and none of them is that of this node: \
                 its namespace, labels, service account and locality"
            )));
        };
        let (view, snapshot) = generation.filled(view, key, &Arc::default()).await;
        let client = ads::Client {
            variant: method.variant,
            errors: tells_errors(&node),
            introduces: introduces(&node),
            aggregated: method.only.is_none(),
            names: house.limits.names,
        };
        let stream = Stream::new(client, snapshot.clone());
        Ok(Self {
            client: house.register((node, peer), method, stream),
            house: house.clone(),
            method,
            generations,
            view,
            snapshot,
            turn,
            sending: None,
            _seat: seat,
        })
    }

    /// The machine. Held for one step, by the task or by somebody who looks.
    fn stream(&self) -> MutexGuard<'_, Stream> {
        lock(&self.client.stream)
    }

    async fn serve<B>(&mut self, requests: &mut Requests<B>, replies: &Speaker) -> Status
    where
        B: Body<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        let mut drained = self.house.drained();
        let mut making = None;
        loop {
            let wake = match self.send(replies) {
                Ok(wake) => wake,
                Err(refusal) => return status(refusal),
            };
            let event = tokio::select! {
                () = drained.reached() => Event::Drained,
                request = requests.next() => Event::Request(request),
                made = poll_some(&mut making) => Event::Made(made.0, made.1),
                Ok(()) = self.generations.changed(), if making.is_none() => Event::Changed,
                () = replies.taken(), if self.sending.is_some() => Event::Taken,
                () = sleep_until(wake.unwrap_or_else(far)), if wake.is_some() => Event::Time,
            };
            match event {
                Event::Drained => return going(),
                Event::Changed => making = self.changed(),
                Event::Made(view, snapshot) => {
                    making = None;
                    self.serves(view, snapshot);
                }
                Event::Request(Ok(Some(request))) => {
                    let read = wire::read(self.method.variant, self.method.only, request);
                    if let Err(refusal) = read.and_then(|request| self.take(request)) {
                        return status(refusal);
                    }
                }
                Event::Request(Ok(None)) => return Status::ok(""),
                Event::Request(Err(status)) => return status,
                Event::Taken => self.sending = None,
                Event::Time if self.is_stuck() => {
                    self.house.counts.stuck();
                    return Status::deadline_exceeded("the stream was not read for too long");
                }
                Event::Time => {}
            }
        }
    }

    /// Another state is in force: takes its view over, or yields how it is made. Of many streams that
    /// are alike one makes it, and most find it there.
    fn changed(&mut self) -> Option<Making> {
        let generation = self.generations.borrow_and_update().clone();
        let key = generation.key(&self.client.node);
        if let Some((view, snapshot)) = generation.made(&key) {
            self.serves(view, snapshot);
            return None;
        }
        let before = self.snapshot.clone();
        Some(Box::pin(async move { generation.view(key, &before).await }))
    }

    fn serves(&mut self, view: Arc<View>, snapshot: Arc<Snapshot>) {
        (self.view, self.snapshot) = (view, snapshot.clone());
        self.stream().update(snapshot, Instant::now());
    }

    /// Sends what can be sent; yields when to look again.
    ///
    /// # Errors
    /// What there is to send exceeds a limit.
    fn send(&mut self, replies: &Speaker) -> Result<Option<Instant>, Refusal> {
        let now = Instant::now();
        if let Some(end) = self.turn.end()
            && (end <= now || self.stream().is_settled())
        {
            self.turn = Turn::Done;
        }
        if self.sending.is_some() {
            return Ok(self.sending.into_iter().chain(self.turn.end()).min());
        }
        let (response, wake) = {
            let mut stream = self.stream();
            (stream.next(now)?, stream.wake())
        };
        let Some(response) = response else {
            self.turn.waits(now);
            return Ok([wake, self.turn.end()].into_iter().flatten().min());
        };
        self.turn.goes_on();
        let pieces = wire::write(self.method.variant, &response)?;
        let bytes = pieces.iter().map(Bytes::len).sum();
        self.house.counts.pushed(response.kind, bytes);
        // The one before was taken. If nobody listens, the next request says so.
        replies.send(pieces);
        let until = after(now, self.house.limits.write);
        self.sending = Some(until);
        Ok(self.turn.end().into_iter().chain([until]).min())
    }

    fn is_stuck(&self) -> bool {
        let now = Instant::now();
        self.sending.is_some_and(|until| until <= now)
    }

    fn take(&mut self, request: Request) -> Result<(), Refusal> {
        let now = Instant::now();
        let (kind, outcome) = match request.body {
            Some(wire::Body::Sotw(body)) => (body.kind, self.stream().sotw(&body, now)?),
            Some(wire::Body::Delta(body)) => (body.kind, self.stream().delta(&body, now)?),
            None => return Ok(()),
        };
        match outcome {
            Outcome::Acknowledged => {
                self.turn.goes_on();
                self.house.counts.acknowledged(kind);
            }
            Outcome::Refused { version, error } => {
                self.house.counts.refused(kind);
                tracing::warn!(
                    target: "meshwork::control",
                    node = %self.client.node.id(), %kind, %version, %error,
                    "a client refused a response",
                );
            }
            Outcome::Subscribed => {}
            Outcome::Stale => self.house.counts.stale(),
        }
        Ok(())
    }
}

/// Who understands `resource_errors` (xRFC TP3): clients of gRPC and of this library, which skip
/// what they do not know. Envoy takes a response without resources for more than it is.
fn tells_errors(node: &Node) -> bool {
    node.dialect() != super::Dialect::Envoy
}

/// Who puts routes in force before it knows their clusters: grpc-go, up to the version that the table
/// of peers names at least.
fn introduces(node: &Node) -> bool {
    node.user_agent().starts_with("gRPC Go")
}

type Making = std::pin::Pin<Box<dyn Future<Output = (Arc<View>, Arc<Snapshot>)> + Send>>;

async fn poll_some(making: &mut Option<Making>) -> (Arc<View>, Arc<Snapshot>) {
    match making {
        Some(making) => making.await,
        None => std::future::pending().await,
    }
}

/// For a timer that is not armed.
fn far() -> Instant {
    after(Instant::now(), FAR)
}

/// Only for its type: what the registry shares.
pub(super) type SharedStream = Mutex<Stream>;

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::Node as WireNode;
    use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
    use prost::Message as _;

    use super::*;

    #[test]
    fn methods_of_all_services_are_known() {
        let ads = "/envoy.service.discovery.v3.AggregatedDiscoveryService/";
        for (path, expected) in [
            (
                format!("{ads}StreamAggregatedResources"),
                Some((Variant::Sotw, None)),
            ),
            (
                format!("{ads}DeltaAggregatedResources"),
                Some((Variant::Delta, None)),
            ),
            (
                "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters".into(),
                Some((Variant::Sotw, Some(Kind::Cluster))),
            ),
            (
                "/envoy.service.route.v3.VirtualHostDiscoveryService/DeltaVirtualHosts".into(),
                Some((Variant::Delta, Some(Kind::VirtualHost))),
            ),
            (
                "/envoy.service.route.v3.VirtualHostDiscoveryService/StreamVirtualHosts".into(),
                None,
            ),
            (
                "/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters".into(),
                None,
            ),
            ("/grpc.health.v1.Health/Check".into(), None),
        ] {
            let found = Method::of(&path).map(|method| (method.variant, method.only));
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn s13_s22_the_first_request_says_who_asks() {
        let method = Method {
            variant: Variant::Sotw,
            only: None,
        };
        let request = |node: Option<&str>, type_url: &str| {
            let request = DiscoveryRequest {
                node: node.map(|id| WireNode {
                    id: id.into(),
                    ..WireNode::default()
                }),
                type_url: type_url.into(),
                ..DiscoveryRequest::default()
            };
            Bytes::from(request.encode_to_vec())
        };
        let cds = Kind::Cluster.type_url();
        assert!(hello(method, None, request(Some("n"), cds)).is_ok());
        for bad in [
            request(None, cds),
            request(Some(""), cds),
            request(Some("n"), ""),
        ] {
            let refusal = hello(method, None, bad).expect_err("refused");
            assert_eq!(status(refusal).code(), tonic::Code::InvalidArgument);
        }
    }
}
