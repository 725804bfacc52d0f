//! The tower service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use tokio::time::Instant;
use tower_service::Service;

use super::{Detector, Host, ResponseFuture};
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
    detector: Detector,
    host: Host,
    random: Random,
    started: Instant,
    /// When it was last swept, in nanoseconds since `started`.
    swept: AtomicU64,
}

impl<S> Ejecting<S> {
    pub(super) fn new(inner: S, policy: Outlier, random: Random) -> Self {
        let detector = Detector::new(Some(Outlier {
            max_ejection: Percent::HUNDRED,
            ..policy
        }));
        let host = Host::new();
        detector.join(&host);
        Self {
            inner,
            watch: Arc::new(Watch {
                detector,
                host,
                random,
                started: Instant::now(),
                swept: AtomicU64::new(0),
            }),
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
    /// Does what a timer would have done since the last look.
    fn look(&self, now: Instant) {
        let Some(interval) = self.detector.interval() else {
            return;
        };
        let elapsed = now.saturating_duration_since(self.started);
        let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let interval = u64::try_from(interval.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1);
        let swept = self.swept.load(Ordering::Relaxed);
        let missed = elapsed.saturating_sub(swept) / interval;
        if self.host.admitted() && missed == 0 {
            return;
        }
        // Only one of the callers that come at once sweeps.
        let won = self
            .swept
            .compare_exchange(swept, elapsed, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if !won {
            return;
        }
        // An ejection does not decay while it lasts. Otherwise each interval lowers the multiplier
        // by one; once that is zero, more sweeps change nothing.
        let sweeps = if self.host.admitted() {
            missed.min(u64::from(self.host.multiplier()) + 1)
        } else {
            1
        };
        for _ in 0..sweeps {
            self.detector.sweep([&self.host], now, &self.random);
        }
    }

    pub(super) fn record(&self, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome {
            self.detector.record(&self.host, outcome, Instant::now());
        }
    }
}
