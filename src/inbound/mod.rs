//! How a request arrives.
//!
//! For now the door does three things: it takes in the deadline that the caller put on the wire,
//! so that calls made under this request inherit it; it counts the request, so that a shutdown can
//! wait for it; and while the mesh drains it turns new requests away with a status that callers
//! retry elsewhere (503, or UNAVAILABLE for gRPC).

mod future;
mod peer;

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::layer::deadline::{Asked, Deadline};
use crate::outbound::Drain;

pub use future::{InboundBody, ResponseFuture};
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
}

impl InboundLayer {
    pub(crate) fn new(drain: Arc<Drain>) -> Self {
        Self { drain }
    }
}

impl<S> Layer<S> for InboundLayer {
    type Service = Inbound<S>;

    fn layer(&self, inner: S) -> Inbound<S> {
        Inbound {
            inner,
            drain: self.drain.clone(),
        }
    }
}

/// A service behind the mesh's door.
#[derive(Clone, Debug)]
pub struct Inbound<S> {
    inner: S,
    drain: Arc<Drain>,
}

impl<S, B, R> Service<Request<B>> for Inbound<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
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
        ResponseFuture::serving(self.inner.call(request), deadline, work)
    }
}
