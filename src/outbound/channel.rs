//! A channel to one target, for generated gRPC clients and other tower stacks.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower_service::Service;

use crate::body::Body;
use crate::error::{BoxError, Error};
use crate::name::Target;
use crate::snapshot::Held;

use super::Owner;
use super::answer::Dialect;
use super::route::Scope;

/// Sends requests to one target of the mesh, by the policies that apply to it.
///
/// Made by [`Mesh::channel`](crate::Mesh::channel). Clones are cheap and share everything; a
/// channel keeps the mesh's tasks alive. It is always ready: limits are those of the cluster that
/// a request goes to, and that is known only when the request is.
///
/// Failures are responses, HTTP or gRPC as the request was, with the status that a sidecar would
/// answer with: 404 for a missing route, 503 for a missing endpoint or a limit, 504 for a timeout;
/// in gRPC UNAVAILABLE and DEADLINE_EXCEEDED. A gRPC response that breaks off in its body ends with
/// trailers that say so. The error type is there for tower; only the body of a plain HTTP response
/// ever ends with an [`Error`]. Dropping the future cancels the call and gives back all
/// that it held.
///
/// ```no_run
/// # async fn example(mesh: meshwork::Mesh) -> Result<(), Box<dyn std::error::Error>> {
/// use tower::ServiceExt;
///
/// let channel = mesh.channel("catalog.my-app.svc.cluster.local")?;
/// let request = http::Request::get("/items").body(meshwork::Body::empty())?;
/// let response = channel.oneshot(request).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Channel {
    owner: Arc<dyn Owner>,
    target: Arc<Target>,
    /// Keeps the target asked for, where a source is asked for names.
    _held: Option<Arc<Held>>,
}

impl Channel {
    pub(crate) fn new(owner: Arc<dyn Owner>, target: Target, held: Option<Held>) -> Self {
        Self {
            owner,
            target: Arc::new(target),
            _held: held.map(Arc::new),
        }
    }
}

impl<B> Service<Request<B>> for Channel
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (owner, target) = (self.owner.clone(), self.target.clone());
        let mut request = request.map(Body::new);
        ResponseFuture::new(|| async move {
            let dialect = Dialect::of(request.headers());
            let scope = Scope::Target(&target);
            let result = super::send(owner.core(), scope, dialect, &mut request).await;
            Ok(result.unwrap_or_else(|error| dialect.failure(&error)))
        })
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel({})", self.target)
    }
}

/// The future of a call.
#[must_use = "futures do nothing unless they are awaited"]
pub struct ResponseFuture {
    inner: Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>,
}

impl ResponseFuture {
    /// The place is there before the future is: one that is made first is moved, all kilobytes of it.
    #[inline]
    pub(super) fn new<F>(make: impl FnOnce() -> F) -> Self
    where
        F: Future<Output = Result<Response<Body>, Error>> + Send + 'static,
    {
        let place = Box::<F>::new_uninit();
        let inner = Box::write(place, make());
        Self {
            inner: Box::into_pin(inner),
        }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
