//! One try of a request: take a permit, pick an endpoint, send, see how it went.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::body::Body;
use crate::error::{Error, Kind};
use crate::layer::balance::Candidate;
use crate::layer::classify::{Outcome, grpc_status};
use crate::layer::deadline::{Announcement, Deadline};
use crate::layer::limit::Permit;
use crate::layer::retry::{Failed, Summary, Tries, Try};
use crate::model::route::Forward;
use crate::snapshot::{Cluster, Endpoint, InFlight, Located, Member};
use crate::telemetry::{Method, Repeats, Series, Span};
use crate::transport::{self, Lost};

use super::drain::Work;
use super::lease::{Admitted, Cut, Lease};
use super::report::CallReport;
use super::{Bond, Call, Chosen, Core, Dialect};

/// How long gRPC waits for a connection before it tries another address beside it.
const CONNECTION_DELAY: Duration = Duration::from_millis(250);
const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// All tries of one request.
pub(super) struct Attempts<'a> {
    core: &'a Core,
    cluster: Arc<Cluster>,
    /// What the try that was begun last counts for.
    series: Arc<Series>,
    method: Method,
    /// The span that those of the tries are children of.
    span: Option<Span>,
    report: Option<CallReport>,
    announced: Option<&'a Announcement>,
    dialect: Dialect,
    cut: Cut,
    bond: Bond<'a>,
    avoid_previous: bool,
    /// Whether a try would switch its connection: two of them would be two conversations.
    switches: bool,
    /// After how many tries the priorities of those before are left out.
    leave_priorities: Option<NonZeroU32>,
    /// The priorities that tries went to, in their order; kept only for that.
    priorities: SmallVec<[u32; 4]>,
    /// The number of the try that was begun last.
    number: u32,
    /// The tries that are under way: one, or several if the policy hedges.
    running: SmallVec<[Running; 1]>,
    /// How many endpoints were passed by because they could not be connected to.
    passed: usize,
    /// What the answer that came last said of its endpoint.
    outcome: Option<Outcome>,
    /// The endpoint of the try that ended last, if that try got as far.
    last: Option<Arc<Endpoint>>,
    /// When the call began, if its tries are measured: those of gRPC, where there are metrics.
    watched: Option<Instant>,
    /// How many tries had an endpoint, and how many of them were hedges.
    begun: (u32, u32),
    /// The try that has ended last: the answer, unless another one follows.
    judged: Option<Judged>,
    /// Sends each endpoint its own name, where the route wants that.
    names: Option<(&'a Chosen, &'a Forward)>,
    /// The endpoints tried before; four fit without an allocation, Istio's default makes three.
    tried: SmallVec<[Arc<Endpoint>; 4]>,
}

/// A try that is under way.
struct Running {
    number: u32,
    endpoint: Arc<Endpoint>,
    /// Its locality, for what it reports.
    located: Located,
    /// When it began, if the balancer wants to know how long it took, or how long it waited in vain.
    began: Option<Instant>,
    /// The same, if tries are measured: of the first it is the begin of the call.
    since: Option<Instant>,
    span: Option<Span>,
}

/// A measured try that has ended.
#[derive(Clone, Copy)]
struct Judged {
    since: Instant,
    /// When it ended, if it failed; a success is mostly the answer, which the call's end times.
    until: Option<Instant>,
    /// gRPC's.
    status: u8,
}

/// gRPC's words for tries that nobody waits for any more, and for what is no answer of gRPC.
const CANCELLED: u8 = 1;
const UNKNOWN: u8 = 2;

impl<'a> Attempts<'a> {
    pub(super) fn new(
        core: &'a Core,
        chosen: &'a Chosen,
        call: &Call,
        forward: &'a Forward,
        deadline: Deadline,
        bond: Bond<'a>,
    ) -> Result<Self, Error> {
        let cluster = chosen.toward(chosen.cluster()?, core);
        count(&cluster.running.counters.requests, 1);
        let measured = call.dialect == Dialect::Grpc && core.environment.telemetry.measures();
        Ok(Self {
            core,
            series: cluster.series.clone(),
            method: call.method,
            span: None,
            cluster,
            report: call.report.clone(),
            // Valid only while the route alone says how long the call and its tries may take.
            announced: chosen
                .route
                .announced
                .as_ref()
                .filter(|_| call.leaves_time_to_the_route()),
            dialect: call.dialect,
            cut: Cut::new(deadline, forward.idle_timeout, call.reader),
            bond,
            avoid_previous: forward
                .retry
                .as_ref()
                .is_some_and(|retry| retry.avoid_previous),
            switches: call.upgrade.is_some(),
            leave_priorities: forward
                .retry
                .as_ref()
                .and_then(|retry| retry.leave_priorities),
            priorities: SmallVec::new(),
            number: 0,
            running: SmallVec::new(),
            passed: 0,
            outcome: None,
            last: None,
            watched: measured.then_some(call.began),
            begun: (0, 0),
            judged: None,
            names: forward.endpoint_authority.then_some((chosen, forward)),
            tried: SmallVec::new(),
        })
    }

    /// Makes a span for each try, under that of the call.
    pub(super) fn under(self, span: Option<Span>) -> Self {
        Self { span, ..self }
    }

    /// How many tries were begun.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// The address that the last try went to, if it got as far.
    pub(super) fn last(&self) -> Option<&Arc<str>> {
        // One that the call's deadline cuts short has not ended.
        let running = self.running.last().map(|own| &own.endpoint);
        self.last
            .as_ref()
            .or(running)
            .map(|endpoint| endpoint.label())
    }

    /// What the call counts for: who served it, or the cluster that it was meant for.
    pub(super) fn series(&self) -> &Arc<Series> {
        &self.series
    }

    /// When the try that answered began, if others went before it and tries are measured.
    pub(super) fn answered_since(&self) -> Option<Instant> {
        let (begun, _) = self.begun;
        self.judged.filter(|_| begun > 1).map(|judged| judged.since)
    }

    /// The try that ended last was not the answer.
    fn give_up(&mut self) {
        if let Some(judged) = self.judged.take() {
            let until = judged.until.unwrap_or_else(Instant::now);
            let took = until.saturating_duration_since(judged.since);
            self.series.tried(self.method, judged.status, took);
        }
    }

    /// A measured try has ended with this status; `None`: nobody waits for it any more.
    fn judge(&mut self, number: u32, status: Option<u8>, failed: bool) {
        let running = self.running.iter().find(|own| own.number == number);
        let Some(since) = running.and_then(|own| own.since) else {
            return;
        };
        let Some(status) = status else {
            let took = Instant::now().saturating_duration_since(since);
            return self.series.tried(self.method, CANCELLED, took);
        };
        self.give_up();
        self.judged = Some(Judged {
            since,
            until: failed.then(Instant::now),
            status,
        });
    }

    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    fn admit(&mut self, span: Option<Span>) -> Result<Admitted, Error> {
        let running = &self.cluster.running;
        // Before the limits, as in gRPC; what nobody could answer is not dropped.
        let overloads = &self.cluster.overloads;
        if overloads.any() && self.cluster.balancer.admitted() > 0 {
            overloads.draw(self.core.random())?;
        }
        let permit: Permit = running.limits.request()?;
        let member = self.pick()?;
        let endpoint = member.endpoint.clone();
        if self.leave_priorities.is_some() {
            self.priorities.push(member.placement.priority);
        }
        self.series = member.series.clone();
        count(&running.counters.attempts, 1);
        let balancer = &self.cluster.balancer;
        let began = (balancer.watches_latency() || balancer.is_ordered()).then(Instant::now);
        let located = self.cluster.located(member.placement.locality);
        let watched = self.cluster.watches_reports();
        let reporter = watched.then(|| (self.cluster.clone(), located.clone()));
        let since = self.watched.map(|call| match self.begun {
            (0, _) => call,
            _ => Instant::now(),
        });
        if since.is_some() {
            self.series.begun(self.method);
            self.begun.0 += 1;
        }
        self.running.push(Running {
            number: self.number,
            endpoint: endpoint.clone(),
            located,
            began,
            since,
            span,
        });
        let work = Work::uncounted(&self.core.drain);
        Ok(Admitted {
            in_flight: InFlight::new(endpoint),
            permit,
            work,
            cut: self.cut,
            reporter,
        })
    }

    fn pick(&self) -> Result<Arc<Member>, Error> {
        let avoid = |endpoint: &Arc<Endpoint>| {
            let tried = |one: &Arc<Endpoint>| Arc::ptr_eq(one, endpoint);
            self.tried.iter().any(tried) || self.is_busy(endpoint)
        };
        let balancer = &self.cluster.balancer;
        // All tries of a session go to its endpoint, as long as that is admitted (gRPC A55).
        let remembered = self.bond.endpoint(&self.cluster)?;
        let mut ask = self.bond.ask(&self.cluster);
        ask.leave = self.left_out();
        remembered
            .or_else(|| {
                balancer.pick_for(ask, self.core.random(), |member| avoid(&member.endpoint))
            })
            .ok_or_else(|| Error::new(Kind::NoEndpoint))
    }

    /// The priorities that are not tried again, as bits.
    fn left_out(&self) -> u64 {
        let Some(frequency) = self.leave_priorities else {
            return 0;
        };
        let frequency = frequency.get() as usize;
        let before = self.priorities.len() / frequency * frequency;
        let bits = self.priorities[..before].iter();
        bits.fold(0, |bits, priority| bits | 1 << (*priority).min(63))
    }

    /// Whether a try of this request is under way there.
    fn is_busy(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.running
            .iter()
            .any(|busy| Arc::ptr_eq(&busy.endpoint, endpoint))
    }

    /// Tells the callee how long it has: the shorter of what one try may take and what is left.
    fn tell_time(&self, this: Try, headers: &mut HeaderMap) {
        match (this.number, self.announced) {
            (1, Some(announced)) => announced.write(self.dialect == Dialect::Grpc, headers),
            _ => this.deadline.announce(headers),
        }
    }

    /// Whether the time of a try was over while its endpoint had no connection yet: it swallows packets, and
    /// where no call waits for as long as connecting may take, nobody else would find out. A caller with hardly
    /// any time says nothing; who waited for as long as gRPC waits before it tries another address does (A61),
    /// or for a tenth of what connecting may take.
    fn waited_in_vain(&self, error: &Error, own: &Running, began: Instant) -> bool {
        let patience = self.cluster.model.connect_timeout / 10;
        error.is_timeout()
            && began.elapsed() >= patience.min(CONNECTION_DELAY)
            && own.endpoint.connections.stats().connections == 0
    }

    /// Records how a try that is under way ended; one that was not admitted is not among them.
    fn settle(&mut self, number: u32, outcome: Option<Outcome>, text: impl FnOnce() -> String) {
        let Some(index) = self.running.iter().position(|own| own.number == number) else {
            return;
        };
        let Running {
            endpoint,
            began,
            span,
            ..
        } = self.running.swap_remove(index);
        if let Some(outcome) = outcome {
            if let Some(began) = began.filter(|_| self.cluster.balancer.watches_latency()) {
                let now = Instant::now();
                let failed = !matches!(outcome, Outcome::Success | Outcome::Failure(..500));
                let took = now.saturating_duration_since(began);
                let balancer = &self.cluster.balancer;
                balancer.observe(&endpoint.record.signals, took, failed, now);
            }
            self.cluster.record(&endpoint, outcome);
        }
        if self.report.is_some() || span.is_some() {
            let text = text();
            if let Some(span) = span {
                let failed = !matches!(outcome, Some(Outcome::Success | Outcome::Failure(..500)));
                span.note("peer.address", &**endpoint.label());
                span.end(failed.then_some(&*text));
            }
            if let Some(report) = &self.report {
                report.tried(endpoint.label(), text);
            }
        }
        if self.avoid_previous {
            self.tried.push(endpoint.clone());
        }
        self.last = Some(endpoint);
    }

    /// Counts how the request ended and completes its error.
    pub(super) fn finish(
        mut self,
        result: Result<Response<Body>, Error>,
        summary: &Summary,
    ) -> Result<Response<Body>, Error> {
        let counters = &self.cluster.running.counters;
        self.cluster.retried(summary.retries, summary.denied);
        if self.watched.is_some() {
            let (_, hedges) = self.begun;
            let repeats = Repeats {
                retries: summary.retries.saturating_sub(hedges),
                transparent: summary.resends,
                hedges,
                delay: summary.paused,
            };
            self.series.repeated(self.method, repeats);
        }
        let failed = result.is_err() || matches!(self.outcome, Some(Outcome::Failure(500..)));
        count(&counters.failures, u32::from(failed));
        if let Some(report) = &self.report {
            report.ended(summary);
        }
        match result {
            Ok(mut response) => {
                self.bond.remember(response.headers_mut());
                Ok(response)
            }
            Err(error) => {
                let error = error.after_attempts(self.number);
                // A try that was cut short, by its own timeout or the call's, could not say where.
                Err(match &self.last {
                    Some(endpoint) => error.at_endpoint(endpoint.label()),
                    None => error,
                })
            }
        }
    }
}

impl<'a> Tries<Body> for Attempts<'a> {
    type Begun = Result<Admitted, Error>;

    fn begin(&mut self, request: &mut Request<Body>, this: Try) -> Self::Begun {
        self.number = this.number;
        self.last = None;
        self.begun.1 += u32::from(this.hedge);
        if self.running.is_empty() {
            self.give_up();
        }
        count(&self.cluster.running.counters.hedges, u32::from(this.hedge));
        let headers = request.headers_mut();
        headers.insert(ATTEMPT_COUNT, small_number(this.number));
        let span = self.span.as_ref().map(|span| span.attempt(this.number));
        if let Some(span) = &span {
            span.write(headers);
        }
        self.tell_time(this, headers);
        let admitted = self.admit(span)?;
        if let Some((chosen, forward)) = self.names {
            // Each try anew: the next endpoint has another name (gRFC A81).
            chosen.name(forward, &admitted.endpoint(), request)?;
        }
        Ok(admitted)
    }

    async fn finish(
        begun: Self::Begun,
        request: &mut Request<Body>,
    ) -> Result<Response<Body>, Failed> {
        let admitted = begun?;
        let endpoint = admitted.endpoint();
        match endpoint.connections.exchange(request).await {
            Ok(answered) => Ok(answered.guarded(Lease::new(admitted))),
            Err(Lost { error, unsent }) => Err(Failed {
                error: error.at_endpoint(endpoint.label()),
                unsent: unsent.then(|| Box::new(std::mem::take(request))),
            }),
        }
    }

    fn ended(&mut self, this: Try, result: &Result<Response<Body>, Failed>) {
        let number = this.number;
        if self.watched.is_some() {
            let status = match result {
                Ok(response) => grpc_status(response.headers()).unwrap_or_default(),
                Err(Failed { error, .. }) => error.grpc_status(),
            };
            let failed =
                status != 0 || !matches!(result, Ok(response) if response.status().is_success());
            let status = match (status, failed) {
                (0, true) => UNKNOWN,
                (status, _) => u8::try_from(status).unwrap_or(UNKNOWN),
            };
            self.judge(number, Some(status), failed);
        }
        match result {
            Ok(response) => {
                if let Some(own) = self.running.iter().find(|own| own.number == number) {
                    let (endpoint, headers) = (&own.endpoint, response.headers());
                    self.cluster.take_report(endpoint, &own.located, headers);
                    let balancer = &self.cluster.balancer;
                    if balancer.is_ordered() {
                        balancer.reached(&endpoint.record.signals, Instant::now());
                    }
                    self.bond.served_by(&own.endpoint);
                }
                let status = response.status();
                let outcome = Outcome::of_response(response);
                self.outcome = Some(outcome);
                self.settle(number, Some(outcome), || status.to_string());
            }
            Err(Failed { error, .. }) => {
                let overflow = u32::from(error.limit().is_some());
                count(&self.cluster.running.counters.overflows, overflow);
                let balancer = &self.cluster.balancer;
                if balancer.is_ordered()
                    && let Some(own) = self.running.iter().find(|own| own.number == number)
                    && let Some(began) = own.began
                    && (is_lost(error) || self.waited_in_vain(error, own, began))
                {
                    balancer.lost(&own.endpoint.record.signals, began, Instant::now());
                }
                self.settle(number, told(error), || error.to_string());
            }
        }
    }

    /// Where one endpoint is used for all, a call that finds it lost goes on to the next one, past each
    /// of them once (gRPC A62), as long as there is one that was not found lost before: where all were, a
    /// call asks one of them, and not all in turn.
    fn onward(&mut self, result: &mut Result<Response<Body>, Failed>) -> Option<Request<Body>> {
        let failed = result.as_mut().err()?;
        let balancer = &self.cluster.balancer;
        if !balancer.is_ordered() || !is_lost(&failed.error) {
            return None;
        }
        self.passed += 1;
        // Whoever is lost is picked behind the others.
        let is_left = |next: Arc<Member>| !balancer.was_lost(&next.endpoint.record.signals);
        if self.passed >= balancer.len() || !self.pick().is_ok_and(is_left) {
            return None;
        }
        failed.unsent.take().map(|request| *request)
    }

    /// A loser says nothing about its endpoint.
    fn cancelled(&mut self, this: Try) {
        self.judge(this.number, None, true);
        self.settle(this.number, None, || {
            "cancelled, another try was faster".into()
        });
    }

    /// Counted only when a hedge is due, so it may look at members one by one.
    /// A session has one endpoint, so it has nobody else; an upgrade is made once.
    fn can_hedge(&self) -> bool {
        let balancer = &self.cluster.balancer;
        let bound = self.bond.remembered.and_then(|key| balancer.named(key));
        if bound.is_some() || self.switches {
            return false;
        }
        balancer.any(|member| member.admitted() && !self.is_busy(&member.endpoint))
    }
}

/// Whether the endpoint could not be connected to, and that is not for want of what this side needs.
fn is_lost(error: &Error) -> bool {
    error.is_connect() && !transport::is_exhausted(error)
}

/// What an error says of its endpoint: nothing, if this side lacked what connecting takes.
fn told(error: &Error) -> Option<Outcome> {
    match transport::is_exhausted(error) {
        true => None,
        false => Outcome::of_error(error),
    }
}

/// Adds to a counter; a zero costs nothing.
fn count(counter: &AtomicU64, by: u32) {
    if by > 0 {
        counter.fetch_add(u64::from(by), Ordering::Relaxed);
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
