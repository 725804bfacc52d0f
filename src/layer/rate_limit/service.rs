//! The tower service of the calling side.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use tower_service::Service;

use super::{Head, RateLimit, ResponseFuture};
use crate::error::{BoxError, Error};

/// Refuses requests for which there is no token.
///
/// Readiness is the inner service's; the token is taken when a request is made. A refused request
/// does not reach the inner service, and its [`Error`]
/// [`is_rate_limited`](Error::is_rate_limited). Waiting for a token in `poll_ready` (tower's
/// `RateLimit`) would queue callers without a bound, and readiness knows no keys.
#[derive(Clone, Debug)]
pub struct RateLimited<S> {
    inner: S,
    limit: Arc<RateLimit>,
}

impl<S> RateLimited<S> {
    /// Puts `limit` in front of `inner`.
    pub fn new(inner: S, limit: Arc<RateLimit>) -> Self {
        Self { inner, limit }
    }

    /// The limit, to read it.
    #[must_use]
    pub fn limit(&self) -> &Arc<RateLimit> {
        &self.limit
    }
}

impl<S, B> Service<Request<B>> for RateLimited<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Error::from_inner)
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S::Future> {
        // Here and not in the future: the inner service's `call` may already do work.
        match self.limit.check(Head::of(&request)) {
            Ok(()) => ResponseFuture::passed(self.inner.call(request)),
            Err(exhausted) => ResponseFuture::refused(exhausted),
        }
    }
}
