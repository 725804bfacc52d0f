//! The tower service.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use tower_service::Service;

use super::layer::Introduce;
use super::{Attributes, ResponseFuture, decide, external};
use crate::error::{BoxError, Error, Kind};
use crate::layer::canonical::{Normalization, canonicalize};
use crate::model::authorization::Authorization;

/// Refuses requests that the policies deny.
///
/// Before it is judged a request is made [canonical](crate::layer::canonical), so that the inner
/// service sees what the policies saw; one that is ambiguous is refused
/// ([`is_ambiguous`](Error::is_ambiguous)). A request that is denied does not reach the inner service, and its
/// [`Error`] [`is_denied`](Error::is_denied). A request that an external authorizer should decide about is
/// denied, because this layer has none.
///
/// Readiness is the inner service's.
#[derive(Clone)]
pub struct Authorized<S> {
    inner: S,
    policies: Arc<Authorization>,
    introduce: Arc<Introduce>,
}

impl<S> Authorized<S> {
    pub(super) fn new(inner: S, policies: Arc<Authorization>, introduce: Arc<Introduce>) -> Self {
        Self {
            inner,
            policies,
            introduce,
        }
    }

    fn judge<B>(&self, request: &mut Request<B>) -> Result<(), Error> {
        canonicalize(request, Normalization::Reject)?;
        let caller = (self.introduce)(request.extensions());
        let attributes = Attributes::of(request, caller);
        let asked = external(&self.policies, &attributes).next().is_some();
        let decision = decide(&self.policies, &attributes, &mut |seen| {
            let policy = seen.policy.map(|policy| &*policy.name);
            tracing::debug!(policy, allowed = seen.allowed, "authorization observed");
        });
        if decision.allowed && !asked {
            return Ok(());
        }
        let policy = decision.policy.map(|policy| &*policy.name);
        tracing::debug!(policy, "request denied");
        Err(Error::new(Kind::Denied))
    }
}

impl<S, B> Service<Request<B>> for Authorized<S>
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

    fn call(&mut self, mut request: Request<B>) -> ResponseFuture<S::Future> {
        // Here and not in the future: the inner service's `call` may already do work.
        match self.judge(&mut request) {
            Ok(()) => ResponseFuture::passed(self.inner.call(request)),
            Err(error) => ResponseFuture::refused(error),
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Authorized<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorized")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
