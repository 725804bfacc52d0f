//! The tower service.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use tower_service::Service;

use super::{Injector, ResponseFuture};
use crate::error::{BoxError, Error};
use crate::random::Random;

/// Holds requests back and answers some with an [`Error`] that [`is_fault`](Error::is_fault).
///
/// Readiness is the inner service's. A request that gets no fault goes straight through; one that
/// is held back keeps the inner instance that was made ready and leaves a clone behind; one that is
/// aborted never reaches the inner service.
#[derive(Clone, Debug)]
pub struct Faulty<S> {
    inner: S,
    injector: Arc<Injector>,
    random: Random,
}

impl<S> Faulty<S> {
    pub(super) fn new(inner: S, injector: Arc<Injector>, random: Random) -> Self {
        Self {
            inner,
            injector,
            random,
        }
    }
}

impl<S, B> Service<Request<B>> for Faulty<S>
where
    S: Service<Request<B>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = ResponseFuture<S, Request<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Error::from_inner)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let decision = self.injector.decide(request.headers(), &self.random);
        let error = decision.error();
        match (decision.delay, error) {
            (None, None) => ResponseFuture::unharmed(self.inner.call(request)),
            (None, Some(error)) => ResponseFuture::aborted(error),
            (Some(hold), Some(error)) => ResponseFuture::held(hold, Err(error)),
            (Some(hold), None) => {
                let clone = self.inner.clone();
                let readied = std::mem::replace(&mut self.inner, clone);
                ResponseFuture::held(hold, Ok((readied, request)))
            }
        }
    }
}
