//! How a request arrives.
//!
//! The door stands around a server's handlers and asks, in this order:
//!
//! 1. Does the mesh drain? Then callers are sent elsewhere (503, or UNAVAILABLE for gRPC).
//! 2. Does PeerAuthentication demand mutual TLS (STRICT), and has the connection none? Then 403 or
//!    PERMISSION_DENIED.
//! 3. Has the request one reading? If not it is refused with 400; see [`layer::canonical`](crate::layer::canonical).
//! 4. Do external authorizers let it pass, where a policy says that they decide (Istio's `CUSTOM`)?
//! 5. Is the token that it bears valid, if it bears one (`RequestAuthentication`)? Else 401.
//! 6. Do the policies allow it (`AuthorizationPolicy`, RBAC of xDS)? Else 403 or PERMISSION_DENIED, with
//!    Envoy's words and nothing more: the reason is for the log and the counters.
//!
//! 7. Has it a token of each limit of requests in a time? Else 429 or UNAVAILABLE.
//!
//! Then the handler is called, under the deadline that the caller put on the wire, so that calls made under this
//! request inherit it, and under its trace, counted, so that a shutdown can wait for it, and measured, as the callee
//! (`reporter="destination"`).
//!
//! # One configuration, and its edits
//!
//! A request is judged by the configuration that is in force when it arrives, also on a connection
//! that was accepted long before. One that is still under way when the configuration changes, a
//! long stream for example, is judged again by the policies (not by authorizers and not
//! for its token's age); if they deny it by then it ends: before the response with the answer of step 6, in a
//! gRPC stream with trailers that say PERMISSION_DENIED, in another body with an error. So does a connection that
//! has switched to another protocol (WebSocket), at the ports of [`Mesh::listen`](crate::Mesh).
//!
//! # Who the caller is
//!
//! The [`Peer`] among the request's extensions says, which [`Mesh::listen`](crate::Mesh) puts there for each connection, or
//! a program's own accept loop. Without it nobody is known: policies that allow by caller do not,
//! those that deny by address do, and STRICT lets nobody in
//! (unless [`InboundLayer::trust_transport`] says otherwise).

mod answer;
mod audit;
mod authorizer;
mod body;
#[cfg(feature = "tls-core")]
mod connection;
mod door;
mod future;
#[cfg(feature = "tls-core")]
mod health;
mod judge;
mod lasting;
#[cfg(feature = "rate-limit")]
mod limits;
#[cfg(feature = "tls-core")]
mod listener;
#[cfg(feature = "tls-core")]
mod load;
mod peer;
#[cfg(any(feature = "jwt", feature = "rate-limit"))]
mod prepared;
mod recheck;
mod seen;
#[cfg_attr(
    not(feature = "tls-core"),
    allow(
        dead_code,
        reason = "only the mesh's own listeners have such connections"
    )
)]
mod served;
mod serving;
#[cfg(feature = "tls-core")]
mod switch;
#[cfg(feature = "tls-core")]
mod threshold;
#[cfg(feature = "jwt")]
mod token;

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::BoxError;
use crate::layer::deadline::{Asked, Deadline};
use crate::outbound::{Core, Dialect, Work};
use crate::telemetry::access::{self, Wanted};
use crate::telemetry::{Meter, Protocol, Span, trace};

pub use body::InboundBody;
use door::Door;
pub use future::ResponseFuture;
#[cfg(feature = "tls-core")]
pub(crate) use health::Health;
use judge::{Judgement, Transport};
use lasting::Offer;
#[cfg(feature = "tls-core")]
pub use listener::Listener;
pub use peer::{CertificateNames, Peer};
pub use serving::Serving;

/// Puts the inbound side of a mesh around a server; made by
/// [`Mesh::inbound_layer`](crate::Mesh::inbound_layer).
///
/// ```no_run
/// # async fn example(mesh: meshwork::Mesh) -> std::io::Result<()> {
/// let app: axum::Router = axum::Router::new()
///     .route("/", axum::routing::get(|| async { "hello" }))
///     .layer(mesh.inbound_layer());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct InboundLayer {
    door: Arc<Door>,
    transport: Transport,
}

impl InboundLayer {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            door: Arc::new(Door::new(core)),
            transport: Transport::default(),
        }
    }

    /// Says by which port the requests come, for a server that is not
    /// [`Mesh::listen`](crate::Mesh)'s: PeerAuthentication's `portLevelMtls` of that port counts for
    /// them. Without it the strictest mode of all ports does.
    #[must_use]
    pub fn on_port(mut self, port: u16) -> Self {
        self.transport.port = Some(port);
        self
    }

    /// Serves requests without a mutual [`Peer`] even where PeerAuthentication is STRICT.
    ///
    /// It is for who makes sure of mutual TLS by other means, such as a sidecar in front of a port on
    /// loopback. Policies still know no caller of such a request.
    #[must_use]
    pub fn trust_transport(mut self) -> Self {
        self.transport.trusted = true;
        self
    }
}

impl<S> Layer<S> for InboundLayer {
    type Service = Inbound<S>;

    fn layer(&self, inner: S) -> Inbound<S> {
        Inbound {
            inner,
            door: self.door.clone(),
            transport: self.transport,
        }
    }
}

/// A service behind the mesh's door.
#[derive(Clone, Debug)]
pub struct Inbound<S> {
    inner: S,
    door: Arc<Door>,
    transport: Transport,
}

impl<S, B, R> Service<Request<B>> for Inbound<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    R: HttpBody<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Response = Response<InboundBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let dialect = Dialect::of(request.headers());
        let Ok(work) = self.door.admit() else {
            return ResponseFuture::answered(answer::draining(dialect), None);
        };
        let tracing = self.door.telemetry().tracing();
        let span = tracing.is_on().then(|| {
            let told = self.door.telemetry().told();
            tracing.arrived(&request, &told.server.tracing)
        });
        let span = span.flatten();
        let parent = match &span {
            Some(span) => span.parent(),
            None => trace::Parent::of(request.headers()),
        };
        let meter = self.meter(&request, dialect, span);
        let held = Held {
            _work: work,
            meter,
            offer: Offer::to(&request),
        };
        let patience = Asked::of(request.headers()).patience;
        let deadline = patience.map_or(Deadline::NONE, Deadline::after);
        let under = (deadline, parent);
        match self.door.judge(&mut request, dialect, self.transport) {
            Judgement::Refused(answer) => ResponseFuture::answered(answer, held.meter),
            Judgement::Passed(passed) => {
                ResponseFuture::serving(self.inner.call(request), passed, under, held)
            }
            Judgement::Asking(asking) => {
                // The instance that was made ready is the one that is called, later.
                let next = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, next);
                ResponseFuture::asking(asking, ready, request.into_body(), under, held)
            }
        }
    }
}

/// What a request holds until its response has ended.
struct Held {
    /// Keeps it counted while it lives.
    _work: Work,
    /// Measures it, if that is wanted.
    meter: Option<Meter>,
    /// Whether it may switch protocols, and where all this goes then.
    offer: Offer,
}

impl<S> Inbound<S> {
    /// Begins to measure a request, if that is wanted. Of its body only a length that it announces is
    /// known: a body that is counted would have another type.
    fn meter<B>(
        &self,
        request: &Request<B>,
        dialect: Dialect,
        span: Option<Span>,
    ) -> Option<Meter> {
        let telemetry = self.door.telemetry();
        let told = telemetry.told_besides();
        let peer = request.extensions().get::<Peer>();
        let entry = told.as_ref().and_then(|told| {
            let make = |logs: &_| entry(logs, request, peer, span.as_ref());
            told.server.entry(span.as_ref(), make)
        });
        if !telemetry.measures() && span.is_none() && entry.is_none() {
            return None;
        }
        let principal = peer.and_then(|peer| peer.principal.as_ref());
        let series = telemetry.from(principal);
        let protocol = match dialect {
            Dialect::Grpc => Protocol::Grpc,
            Dialect::Http => Protocol::Http,
        };
        let mut meter = Meter::new(&series, Instant::now(), protocol);
        if protocol == Protocol::Grpc && telemetry.measures() {
            let method = telemetry.methods().of(request);
            series.begun(method);
            meter.calls(method);
        }
        if told.is_some_and(|told| told.methods) {
            meter.by_method(request.method());
        }
        meter.announced(request.headers());
        Some(meter.with(telemetry.measures(), entry, span))
    }
}

/// What lines of logs tell of a request that arrives.
fn entry<B>(
    logs: &Arc<[Wanted]>,
    request: &Request<B>,
    peer: Option<&Peer>,
    span: Option<&Span>,
) -> Box<access::Entry> {
    let mut entry = access::Entry::new(logs, request);
    if let Some(peer) = peer {
        entry.remote = peer.remote;
        entry.local = peer.local;
        entry.server_name.clone_from(&peer.sni);
        entry.proved = peer.principal.is_some();
    }
    let port = entry.local.map(|address| address.port());
    // As istiod calls the cluster that an inbound listener leads to.
    entry.cluster = port.map(|port| format!("inbound|{port}||").into());
    entry.trace = span
        .and_then(Span::parent)
        .map(|one| (one.trace, one.span, one.sampled == Some(true)));
    entry
}
