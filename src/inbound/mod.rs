//! How a request arrives.
//!
//! For now the door does five things: it takes in the deadline that the caller put on the wire,
//! so that calls made under this request inherit it; it counts the request, so that a shutdown can
//! wait for it; it carries its trace on to the calls that are made under it; it measures it, as the callee (`reporter="destination"`); and while the mesh drains it turns new requests away with a status that callers
//! retry elsewhere (503, or UNAVAILABLE for gRPC).

#[cfg(feature = "tls-core")]
mod connection;
mod future;
#[cfg(feature = "tls-core")]
mod health;
#[cfg(feature = "tls-core")]
mod listener;
mod peer;

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use crate::layer::deadline::{Asked, Deadline};
use crate::outbound::{Dialect, Drain};
use crate::telemetry::{Meter, Protocol, Registry, Span, trace};

pub use future::{InboundBody, ResponseFuture};
#[cfg(feature = "tls-core")]
pub(crate) use health::Health;
#[cfg(feature = "tls-core")]
pub use listener::Listener;
pub use peer::{CertificateNames, Peer};

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
    drain: Arc<Drain>,
    telemetry: Registry,
}

impl InboundLayer {
    pub(crate) fn new(drain: Arc<Drain>, telemetry: Registry) -> Self {
        Self { drain, telemetry }
    }
}

impl<S> Layer<S> for InboundLayer {
    type Service = Inbound<S>;

    fn layer(&self, inner: S) -> Inbound<S> {
        Inbound {
            inner,
            drain: self.drain.clone(),
            telemetry: self.telemetry.clone(),
        }
    }
}

/// A service behind the mesh's door.
#[derive(Clone, Debug)]
pub struct Inbound<S> {
    inner: S,
    drain: Arc<Drain>,
    telemetry: Registry,
}

impl<S, B, R> Service<Request<B>> for Inbound<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default + http_body::Body,
{
    type Response = Response<InboundBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Ok(work) = self.drain.admit() else {
            return ResponseFuture::refused(&request);
        };
        let patience = Asked::of(request.headers()).patience;
        let deadline = patience.map_or(Deadline::NONE, Deadline::after);
        let span = self.telemetry.tracing().arrived(&request);
        let parent = match &span {
            Some(span) => span.parent(),
            None => trace::Parent::of(request.headers()),
        };
        let meter = self.meter(&request, span);
        ResponseFuture::serving(self.inner.call(request), (deadline, parent), work, meter)
    }
}

impl<S> Inbound<S> {
    /// Begins to measure a request, if that is wanted. Of its body only a length that it announces is
    /// known: a body that is counted would have another type.
    fn meter<B>(&self, request: &Request<B>, span: Option<Span>) -> Option<Meter> {
        if !self.telemetry.measures() && span.is_none() {
            return None;
        }
        let peer = request.extensions().get::<Peer>();
        let principal = peer.and_then(|peer| peer.principal.as_ref());
        let series = self.telemetry.from(principal);
        let headers = request.headers();
        let protocol = match Dialect::of(headers) {
            Dialect::Grpc => Protocol::Grpc,
            Dialect::Http => Protocol::Http,
        };
        let mut meter = Meter::new(&series, Instant::now(), protocol);
        meter.announced(headers);
        Some(meter.with(self.telemetry.measures(), None, span))
    }
}
