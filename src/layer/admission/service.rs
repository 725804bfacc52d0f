//! The tower service.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::{ResponseFuture, Throttle};
use crate::error::{BoxError, Error};

/// Rejects a share of the requests while the inner service fails too many.
///
/// Readiness is the inner service's; the dice are thrown when a request is made. A rejected request
/// does not reach the inner service, and its [`Error`] [`is_overloaded`](Error::is_overloaded).
/// How a request ended is known at its response headers.
#[derive(Clone, Debug)]
pub struct Throttled<S> {
    inner: S,
    throttle: Arc<Throttle>,
}

impl<S> Throttled<S> {
    /// Puts `throttle` in front of `inner`.
    pub fn new(inner: S, throttle: Arc<Throttle>) -> Self {
        Self { inner, throttle }
    }

    /// The throttle, to read it.
    #[must_use]
    pub fn throttle(&self) -> &Arc<Throttle> {
        &self.throttle
    }
}

impl<S, B, R> Service<Request<B>> for Throttled<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<R>;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Error::from_inner)
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S::Future> {
        // Here and not in the future: the inner service's `call` may already do work.
        match self.throttle.admit() {
            Ok(ticket) => ResponseFuture::admitted(self.inner.call(request), ticket),
            Err(rejected) => ResponseFuture::rejected(rejected),
        }
    }
}
