use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use http::Request;
use tokio::time::Instant;
use tower_service::Service;

use super::{Asked, Context, Deadline, ResponseFuture};
use crate::error::{BoxError, Error};

/// A client that keeps to the caller's deadline and tells the callee what is left of it; made by
/// [`DeadlineLayer`](super::DeadlineLayer).
///
/// A call's deadline is the earliest of: a [`Deadline`] among the request's extensions, the one of
/// the inbound request being served ([`Context::current`]), what the request's own headers ask for
/// ([`Asked::patience`]), and what the layer allows. It is put on the wire and among the
/// extensions, where a [`Retry`](crate::layer::retry::Retry) below finds it. A call whose deadline
/// is over fails without reaching the inner service; one that is under way is dropped when it
/// comes, unless its headers are there already.
#[derive(Clone, Copy, Debug)]
pub struct WithDeadline<S> {
    inner: S,
    at_most: Option<Duration>,
}

impl<S> WithDeadline<S> {
    /// Wraps `inner`; `None` adds no deadline to those that a call inherits.
    pub fn new(inner: S, at_most: Option<Duration>) -> Self {
        Self { inner, at_most }
    }

    fn deadline<B>(&self, start: Instant, request: &Request<B>) -> Deadline {
        let own = self
            .at_most
            .map_or(Deadline::NONE, |after| Deadline::caller(start, after));
        let given: Deadline = request.extensions().get().copied().unwrap_or_default();
        let asked = Asked::of(request.headers())
            .patience
            .map_or(Deadline::NONE, |after| Deadline::caller(start, after));
        given.min(Context::current()).min(asked).min(own)
    }
}

impl<S, B> Service<Request<B>> for WithDeadline<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Error::from_inner)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let now = Instant::now();
        let deadline = self.deadline(now, &request);
        if deadline.remaining_at(now) == Some(Duration::ZERO) {
            return ResponseFuture::over(deadline);
        }
        if deadline != Deadline::NONE {
            deadline.announce_at(now, request.headers_mut());
            request.extensions_mut().insert(deadline);
        }
        ResponseFuture::under(deadline, self.inner.call(request))
    }
}
