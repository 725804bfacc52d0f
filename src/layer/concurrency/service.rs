//! The tower service.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::{Concurrency, ResponseFuture};
use crate::error::{BoxError, Error};
use crate::layer::held::HeldBody;
use crate::layer::limit::Permit;

/// Refuses requests above a limit that follows the response times of the inner service.
///
/// Readiness is the inner service's; a request over the limit is refused in `call`, without a word
/// to the inner service, with an [`Error`] that [`is_overloaded`](Error::is_overloaded).
///
/// A request is in flight until its response body has ended or was dropped, but its sample is
/// taken at the response headers: how long a stream lasts is up to what it carries.
#[derive(Clone, Debug)]
pub struct Adaptive<S> {
    inner: S,
    concurrency: Arc<Concurrency>,
}

impl<S> Adaptive<S> {
    /// Puts an adaptive limit in front of `inner`.
    pub fn new(inner: S, concurrency: Arc<Concurrency>) -> Self {
        Self { inner, concurrency }
    }

    /// The limit, to read it.
    #[must_use]
    pub fn concurrency(&self) -> &Arc<Concurrency> {
        &self.concurrency
    }
}

impl<S, B, R> Service<Request<B>> for Adaptive<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: http_body::Body,
{
    type Response = Response<HeldBody<R, Permit>>;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Error::from_inner)
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S::Future> {
        // Here and not in the future: a request over the limit must not reach the inner service,
        // whose `call` may already do work.
        match self.concurrency.start() {
            Ok(flight) => ResponseFuture::granted(self.inner.call(request), flight),
            Err(overloaded) => ResponseFuture::refused(overloaded),
        }
    }
}
