//! The tower service.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::{Limits, ResponseFuture};
use crate::error::{BoxError, Error};
use crate::layer::held::HeldBody;

/// Refuses requests while too many are in flight.
///
/// Readiness is the inner service's: the limit is looked at when a request is made. It is refused
/// at once with an [`Error`] that [`is_overloaded`](Error::is_overloaded), without a word to the
/// inner service. Waiting in `poll_ready` instead (tower's `ConcurrencyLimit`) would queue callers
/// without a bound.
///
/// The permit is held until the response body has ended or was dropped; hence the
/// [`HeldBody`]. Dropping the response future gives it back too.
#[derive(Clone, Debug)]
pub struct Limited<S> {
    inner: S,
    limits: Arc<Limits>,
}

impl<S> Limited<S> {
    /// Puts `limits` in front of `inner`.
    pub fn new(inner: S, limits: Arc<Limits>) -> Self {
        Self { inner, limits }
    }

    /// The limits, for their gauges and to change them.
    #[must_use]
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }
}

impl<S, B, R> Service<Request<B>> for Limited<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: http_body::Body,
{
    type Response = Response<HeldBody<R, super::Permit>>;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Error::from_inner)
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S::Future> {
        // Here and not in the future: a request over the limit must not reach the inner service,
        // whose `call` may already do work.
        match self.limits.request() {
            Ok(permit) => ResponseFuture::granted(self.inner.call(request), permit),
            Err(overloaded) => ResponseFuture::refused(overloaded),
        }
    }
}
