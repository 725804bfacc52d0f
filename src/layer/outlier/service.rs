//! The tower service.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use tokio::time::Instant;
use tower_service::Service;

use super::sweeper::Sweeper;
use super::{Host, ResponseFuture};
use crate::error::{BoxError, Error};
use crate::layer::classify::Outcome;
use crate::model::Percent;
use crate::model::outlier::Outlier;
use crate::random::Random;

/// Fails fast while the inner service is ejected.
///
/// The inner service is one host. While it is out, `poll_ready` is *ready* without asking it, and
/// each call is an [`Error`] that says that there is no healthy endpoint (Envoy's `UH`). Being
/// pending instead would make callers wait for up to `max_ejection_time`, and a balancer above
/// could not try elsewhere.
///
/// There is no task: the ejection ends with the first `poll_ready` after its time, and intervals
/// without calls are made up for at the next one. A response future that is dropped counts neither
/// as a success nor as a failure.
#[derive(Debug)]
pub struct Ejecting<S> {
    inner: S,
    watch: Arc<Watch>,
    /// Whether the inner service has answered `poll_ready` since the last call. The ejection may
    /// end between `poll_ready` and `call`, and then the inner one must not be called unasked.
    readied: bool,
}

/// The one host and its detector.
#[derive(Debug)]
pub(super) struct Watch {
    sweeper: Sweeper,
    host: Host,
}

impl<S> Ejecting<S> {
    pub(super) fn new(inner: S, policy: Outlier, random: Random) -> Self {
        let policy = Outlier {
            max_ejection: Percent::HUNDRED,
            ..policy
        };
        let sweeper = Sweeper::new(policy, random);
        let host = Host::new();
        sweeper.detector.join(&host);
        Self {
            inner,
            watch: Arc::new(Watch { sweeper, host }),
            readied: false,
        }
    }

    /// Whether the inner service is in. An ejection whose time is over counts until the next
    /// `poll_ready`.
    #[must_use]
    pub fn admitted(&self) -> bool {
        self.watch.host.admitted()
    }
}

impl<S: Clone> Clone for Ejecting<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            watch: self.watch.clone(),
            readied: false,
        }
    }
}

impl<S, B, R> Service<Request<B>> for Ejecting<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<R>;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.watch.look(Instant::now());
        if self.watch.host.admitted() {
            ready!(self.inner.poll_ready(cx)).map_err(Error::from_inner)?;
            self.readied = true;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S::Future> {
        if std::mem::take(&mut self.readied) && self.watch.host.admitted() {
            ResponseFuture::admitted(self.inner.call(request), self.watch.clone())
        } else {
            ResponseFuture::ejected()
        }
    }
}

impl Watch {
    /// Lets time pass. An ejection is looked at each time, so that it ends when its time is over
    /// and not an interval later.
    fn look(&self, now: Instant) {
        let urgent = !self.host.admitted();
        self.sweeper.look(std::iter::once(&self.host), urgent, now);
    }

    pub(super) fn record(&self, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome {
            self.sweeper
                .detector
                .record(&self.host, outcome, Instant::now());
        }
    }
}
