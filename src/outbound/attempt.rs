//! One try of a request: take a permit, pick an endpoint, send, see how it went.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{HeaderName, HeaderValue, Request, Response};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::body::Body;
use crate::error::{Error, Flag, Kind, Limit};
use crate::layer::classify::Outcome;
use crate::layer::deadline::Deadline;
use crate::layer::limit::Permit;
use crate::layer::retry::{Failed, Summary};
use crate::model::route::Forward;
use crate::random::Random;
use crate::snapshot::{Cluster, Endpoint, InFlight};

use super::drain::Work;
use super::lease::{Cut, Lease};
use super::report::CallReport;
use super::{Call, Chosen, Core};

const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// All tries of one request.
pub(super) struct Attempts<'a> {
    core: &'a Core,
    cluster: Arc<Cluster>,
    report: Option<CallReport>,
    cut: Cut,
    avoid_previous: bool,
    /// The endpoints tried so far; four fit without an allocation, Istio's default makes three.
    tried: SmallVec<[Arc<Endpoint>; 4]>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(
        core: &'a Core,
        chosen: &Chosen,
        call: &Call,
        forward: &Forward,
        deadline: &Deadline,
    ) -> Result<Self, Error> {
        let cluster = chosen.cluster()?.clone();
        cluster.running.counters.requests.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            core,
            cluster,
            report: call.report.clone(),
            cut: Cut::new(deadline, forward.idle_timeout, call.dialect),
            avoid_previous: forward.retry.as_ref().is_some_and(|retry| retry.avoid_previous),
            tried: SmallVec::new(),
        })
    }

    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Begins a try. The decision is made here and now; the future only carries it out, so that it
    /// borrows nothing.
    pub(super) fn start(
        &mut self,
        mut request: Request<Body>,
        number: u32,
    ) -> impl Future<Output = Result<Response<Body>, Failed>> + Send + use<> {
        request.headers_mut().insert(ATTEMPT_COUNT, small_number(number));
        let admitted = self.admit();
        let cluster = self.cluster.clone();
        let report = self.report.clone();
        let lease = admitted.map(|(permit, work, endpoint)| {
            if self.avoid_previous {
                self.tried.push(endpoint.clone());
            }
            Lease::new(InFlight::new(endpoint), permit, work, self.cut.clone())
        });
        async move {
            match lease {
                Ok(lease) => carry_out(&cluster, report.as_ref(), lease, request).await,
                Err(error) => Err(Failed {
                    error,
                    unsent: None,
                }),
            }
        }
    }

    fn admit(&self) -> Result<(Permit, Work, Arc<Endpoint>), Error> {
        let running = &self.cluster.running;
        running.counters.attempts.fetch_add(1, Ordering::Relaxed);
        let permit = running.limits.request().map_err(|overloaded| {
            running.counters.overflows.fetch_add(1, Ordering::Relaxed);
            Error::from(overloaded)
        })?;
        let endpoint = self.pick(self.core.random())?;
        Ok((permit, self.core.drain.enter(), endpoint))
    }

    fn pick(&self, random: &Random) -> Result<Arc<Endpoint>, Error> {
        self.cluster
            .balancer
            .pick(random, |member| {
                self.tried.iter().any(|tried| Arc::ptr_eq(tried, &member.endpoint))
            })
            .map(|member| member.endpoint.clone())
            .ok_or_else(|| Error::new(Kind::NoEndpoint))
    }

    /// Counts how the request ended and completes its error.
    pub(super) fn finish(
        &self,
        summary: &Summary,
        result: Result<Response<Body>, Error>,
    ) -> Result<Response<Body>, Error> {
        let counters = &self.cluster.running.counters;
        let add = |counter: &std::sync::atomic::AtomicU64, count: u32| {
            if count > 0 {
                counter.fetch_add(u64::from(count), Ordering::Relaxed);
            }
        };
        add(&counters.retries, summary.attempts.saturating_sub(1));
        add(&counters.retries_denied, summary.retries_denied);
        let failed = match &result {
            Ok(response) => matches!(Outcome::of_response(response), Outcome::Failure(500..)),
            Err(_) => true,
        };
        add(&counters.failures, u32::from(failed));
        if let Some(report) = &self.report {
            if let Err(error) = &result {
                if let Some(flag) = error.flag() {
                    report.raise(flag);
                }
            }
            if summary.retries_exhausted {
                report.raise(Flag::UpstreamRetryLimitExceeded);
            }
            let limit = (summary.retries_denied > 0).then_some(Limit::Retries);
            report.denied(summary.retries_denied, limit);
        }
        result.map_err(|error| error.after_attempts(summary.attempts))
    }
}

async fn carry_out(
    cluster: &Cluster,
    report: Option<&CallReport>,
    lease: Lease,
    request: Request<Body>,
) -> Result<Response<Body>, Failed> {
    let endpoint = lease.endpoint().clone();
    let watch = Watch {
        cluster,
        endpoint: &endpoint,
        report,
        seen: false,
    };
    match endpoint.connections.send(request, lease).await {
        Ok(response) => {
            watch.saw(Some(Outcome::of_response(&response)), || response.status().to_string());
            Ok(response)
        }
        Err(unanswered) => {
            let error = unanswered.error.at_endpoint(&endpoint.label);
            watch.saw(Outcome::of_error(&error), || error.to_string());
            Err(Failed {
                error,
                unsent: unanswered.unsent,
            })
        }
    }
}

/// Sees to it that a try that is cut short by a timer counts against its endpoint.
///
/// The timers of tries and requests drop the future of the try; whether time ran out or the caller
/// went away cannot be told from here, so only those who know tell: see [`Attempts::timed_out`].
struct Watch<'a> {
    cluster: &'a Cluster,
    endpoint: &'a Arc<Endpoint>,
    report: Option<&'a CallReport>,
    seen: bool,
}

impl Watch<'_> {
    fn saw(mut self, outcome: Option<Outcome>, text: impl FnOnce() -> String) {
        self.seen = true;
        if let Some(outcome) = outcome {
            self.cluster.record(self.endpoint, outcome, Instant::now());
        }
        if let Some(report) = self.report {
            report.tried(&self.endpoint.label, text());
        }
    }
}

/// The attempt's number as a header value; the first nine cost no allocation.
fn small_number(number: u32) -> HeaderValue {
    const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    match DIGITS.get(number as usize) {
        Some(digit) => HeaderValue::from_static(digit),
        None => HeaderValue::from(number),
    }
}
