//! How a request leaves: the itinerary.
//!
//! ```text
//! channel()/client()
//!   └ route      the snapshot once, virtual host, route, destination     route.rs
//!     └ fault    injected delay and abort                                here
//!       └ deadline and retries around ...                                here, layer::retry
//!         └ attempt   limits, pick, send, classify, record               attempt.rs
//!           └ endpoint    a connection, the bytes                        transport
//! ```
//!
//! The whole way is one future, boxed once. A route's policies differ from request to request, so
//! they are values that the loop reads instead of layers that were stacked before the request was
//! known; the mechanisms behind them are those of [`layer`](crate::layer).

mod affinity;
pub(crate) mod answer;
mod attempt;
mod channel;
mod client;
mod discover;
mod drain;
mod lease;
mod mirror;
mod options;
mod passthrough;
mod report;
mod rewrite;
mod route;
mod upgrade;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::body::Body;
use crate::body::replay::Buffers;
use crate::error::{Error, Flag, Kind};
use crate::filter::{self, Running};
use crate::layer::deadline::{self, Asked, Deadline};
use crate::layer::fault::Injector;
use crate::layer::retry;
use crate::model::route::{Action, Forward};
use crate::random::Random;
use crate::snapshot::{Environment, InboundCounts, Live};
use crate::telemetry::{Meter, Method, Protocol, Span, access, trace};

use affinity::Bond;
pub(crate) use answer::Dialect;
#[cfg(feature = "inbound")]
pub(crate) use answer::{grpc_of_http, percent_encoded};
use attempt::Attempts;
pub use channel::{Channel, ResponseFuture};
pub use client::Client;
pub(crate) use drain::Drain;
#[cfg(feature = "inbound")]
pub(crate) use drain::Work;
use lease::Reader;
pub(crate) use mirror::Mirrors;
pub use options::CallOptions;
pub(crate) use passthrough::Passthrough;
pub use report::{Attempt, CallReport};
pub(crate) use route::{Chosen, Door, Entry, Scope, enter, no_route, view};
use upgrade::Upgrade;

/// What all requests of a mesh share.
pub(crate) struct Core {
    pub(crate) live: Live,
    pub(crate) environment: Environment,
    pub(crate) passthrough: Passthrough,
    pub(crate) drain: Arc<Drain>,
    pub(crate) buffers: Buffers,
    pub(crate) mirrors: Mirrors,
    /// What the door for inbound requests has counted.
    pub(crate) inbound: InboundCounts,
    /// The calendar, for the times in tokens.
    #[cfg(feature = "jwt")]
    pub(crate) clock: crate::tls::Clock,
    /// Where keys of tokens may be fetched beside the public network.
    #[cfg(feature = "jwt")]
    pub(crate) key_networks: Arc<[crate::model::authorization::Network]>,
    /// The configuration in force, told to whoever waits for the next.
    pub(crate) generation: watch::Sender<u64>,
    /// Held while a configuration is put in force and while outlier detectors sweep, so that
    /// neither works on what the other replaces. Never on the path of a request.
    pub(crate) upkeep: Mutex<()>,
}

/// Who owns a core and the tasks around it. Channels and clients hold an owner and so keep the
/// tasks alive, without knowing what else ranks above them.
pub(crate) trait Owner: Send + Sync + 'static {
    /// What requests need.
    fn core(&self) -> &Core;
}

impl Core {
    /// Ends copies of requests and lets go of all connections.
    pub(crate) fn close(&self) {
        self.mirrors.end();
        for cluster in self.live.load().clusters() {
            cluster.close();
        }
        self.passthrough.close();
        self.environment.telemetry.close();
    }

    fn random(&self) -> &Random {
        &self.environment.random
    }
}

/// Sends one request through the mesh.
///
/// The request stays where it is until a connection takes it; what is left in its place afterwards
/// has no meaning. A future holds what it awaits, so each function on the way that took the request
/// by value would make the future of a call larger by two requests.
pub(crate) async fn send(
    core: &Core,
    scope: Scope<'_>,
    dialect: Dialect,
    request: &mut Request<Body>,
) -> Result<Response<Body>, Error> {
    // Held until the call has its answer, also between tries; then the response's body is counted.
    let _work = core.drain.admit()?;
    let call = Call::take(core, scope, dialect, request);
    let span = call.trace(core, request);
    let mut meter = call.meter(core, request, span);
    let result = decide(core, scope, &call, request, &mut meter).await;
    conclude(result, meter)
}

/// Hands what is measured to the response, which is over with its last byte.
fn conclude(
    mut result: Result<Response<Body>, Error>,
    mut meter: Option<Meter>,
) -> Result<Response<Body>, Error> {
    match (&mut result, &mut meter) {
        (_, None) => {}
        (Err(error), Some(metering)) => metering.failed(error),
        (Ok(response), Some(metering)) => {
            metering.answered(response);
            response.body_mut().keep(&mut meter);
            if let Some(mut metering) = meter {
                // Nobody has to be waited for: the mesh's own answer, or an empty body.
                metering.received(response.body().size_hint().exact().unwrap_or_default());
                metering.ended();
            }
        }
    }
    result
}

/// Finds out what is to be done with a request, and does it.
async fn decide(
    core: &Core,
    scope: Scope<'_>,
    call: &Call,
    request: &mut Request<Body>,
    meter: &mut Option<Meter>,
) -> Result<Response<Body>, Error> {
    let chosen = discover::choose(core, scope, request, call.caller).await;
    let chosen = chosen.inspect_err(|error| {
        if let (Some(meter), true) = (meter.as_mut(), error.is_blocked()) {
            meter.serves(core.environment.telemetry.blocked());
        }
    })?;
    if let Some(meter) = meter {
        meter.decided(&chosen.route.model.name, chosen.cluster_name());
    }
    if let Some(report) = &call.report {
        report.decided(
            chosen.generation,
            &chosen.route.model.name,
            chosen.cluster_name(),
        );
    }
    let result = serve(core, &chosen, call, request, meter).await;
    if let Some(tally) = &chosen.route.tally {
        tally.count(&result);
    }
    result.map_err(|error| {
        let error = discover::annotate(core, &chosen, chosen.locate(error));
        if let (Some(report), Some(flag)) = (&call.report, error.flag()) {
            report.raise(flag);
        }
        error
    })
}

/// Does what the route says.
async fn serve(
    core: &Core,
    chosen: &Chosen,
    call: &Call,
    request: &mut Request<Body>,
    meter: &mut Option<Meter>,
) -> Result<Response<Body>, Error> {
    if let (Some(meter), Ok(cluster)) = (meter.as_mut(), chosen.cluster()) {
        meter.serves(&cluster.series);
    }
    // Before anything else, as Envoy's connection manager does before it makes its filters.
    if let (Some(upgrade), Action::Forward(to)) = (&call.upgrade, &chosen.route.model.action) {
        upgrade.permit(to)?;
    }
    if let Some(injector) = chosen.fault() {
        inject(core, injector, call, request.headers(), meter).await?;
    }
    for limit in &chosen.route.limits {
        limit.check(request, core.random())?;
    }
    let filters = &chosen.route.filters;
    if let Some(answer) = filtered(filters, request) {
        return Ok(answer);
    }
    let action = &chosen.route.model.action;
    if let (Some(meter), Action::Direct(_) | Action::Redirect(_)) = (meter.as_mut(), action) {
        meter.direct();
    }
    let mut response = match action {
        Action::Direct(direct) => call.dialect.direct(direct),
        Action::Forward(to) => {
            let mut response = forward(core, chosen, call, to, request, meter).await?;
            if let Some(upgrade) = &call.upgrade {
                upgrade.answer(&mut response)?;
            }
            response
        }
        Action::Redirect(redirect) => answer::redirect(redirect, request),
        Action::Serve | Action::Unknown => return Err(Error::new(Kind::NoCluster)),
    };
    chosen.change_response(response.headers_mut());
    if !filters.is_empty() {
        let (mut head, body) = response.into_parts();
        filter::response(filters, &mut head);
        response = Response::from_parts(head, body);
    }
    Ok(response)
}

/// Runs the program's filters over a request; the answer, if one of them has one.
fn filtered(filters: &[Arc<dyn Running>], request: &mut Request<Body>) -> Option<Response<Body>> {
    if filters.is_empty() {
        return None;
    }
    let whole = std::mem::replace(request, Request::new(Body::empty()));
    let (mut head, body) = whole.into_parts();
    let outcome = filter::request(filters, &mut head);
    *request = Request::from_parts(head, body);
    outcome.err().map(|answer| answer.map(Body::from))
}

/// Holds the request back or answers it, if the dice say so. The caller's deadline covers the
/// delay, the route's timeout and retries do not (Envoy's fault filter stands before its router).
async fn inject(
    core: &Core,
    injector: &Injector,
    call: &Call,
    headers: &HeaderMap,
    meter: &mut Option<Meter>,
) -> Result<(), Error> {
    let decision = injector.decide(headers, core.random());
    let abort = decision.error();
    if let Some(hold) = decision.delay {
        call.raise(Flag::DelayInjected);
        if let Some(meter) = meter {
            meter.raise(Flag::DelayInjected);
        }
        let held = tokio::time::sleep(hold.duration);
        match call.caller.at() {
            None => held.await,
            Some(at) => tokio::time::timeout_at(at, held)
                .await
                .map_err(|_| call.caller.error())?,
        }
    }
    abort.map_or(Ok(()), Err)
}

/// Sends the request to the chosen cluster: all tries within one deadline.
async fn forward(
    core: &Core,
    chosen: &Chosen,
    call: &Call,
    to: &Forward,
    request: &mut Request<Body>,
    meter: &mut Option<Meter>,
) -> Result<Response<Body>, Error> {
    // Where nothing can have been waited for, the begin of the call is a good enough clock.
    let waited = core.environment.demand.is_some() || chosen.route.fault.is_some();
    let now = if waited { Instant::now() } else { call.began };
    let deadline = call.deadline(now, to.timeout);
    chosen.prepare(to, request)?;
    // A copy could not carry what follows the switch.
    if !to.mirrors.is_empty() && call.upgrade.is_none() {
        core.mirrors.copy(core, chosen, to, request);
    }
    let bond = Bond::new(core, chosen, call, to, request)?;
    let span = meter.as_ref().and_then(|meter| meter.span()).cloned();
    let mut attempts = Attempts::new(core, chosen, call, to, deadline, bond)?.under(span);
    let armed = chosen.route.retry.as_ref();
    let policy = armed.filter(|_| call.options.retry);
    let cluster = attempts.cluster().clone();
    let terms = retry::Call {
        policy,
        // Where there is a policy the request is kept in any case.
        refusable: policy.is_none_or(|policy| policy.retries() == 0) && cluster.may_refuse(request),
        per_try_timeout: call
            .asked
            .per_try(armed.and_then(retry::Policy::per_try_timeout)),
        quota: &cluster.quota,
        active_requests: &|| cluster.running.limits.active_requests(),
        now,
        deadline,
        random: core.random(),
        buffers: &core.buffers,
    };
    let (result, summary) = retry::run(&terms, request, &mut attempts).await;
    if let Some(meter) = meter {
        meter.serves(attempts.series());
        meter.tried(attempts.number(), attempts.last());
        if let Some(began) = attempts.answered_since() {
            meter.tried_since(began);
        }
        summary
            .flag()
            .into_iter()
            .for_each(|flag| meter.raise(flag));
    }
    attempts.finish(result, &summary)
}

/// What a caller said about one call.
struct Call {
    began: Instant,
    options: CallOptions,
    asked: Asked,
    report: Option<CallReport>,
    dialect: Dialect,
    /// What it calls, if that is measured.
    method: Method,
    reader: Reader,
    /// When the caller stops waiting, as far as it is known before a route is.
    caller: Deadline,
    /// The protocol that it wants to switch to.
    upgrade: Option<Box<Upgrade>>,
}

impl Call {
    fn take(core: &Core, scope: Scope<'_>, dialect: Dialect, request: &mut Request<Body>) -> Self {
        let began = Instant::now();
        let extensions = request.extensions_mut();
        let options = extensions.remove::<CallOptions>().unwrap_or_default();
        let report = extensions.remove::<CallReport>();
        let telemetry = &core.environment.telemetry;
        let method = match dialect {
            Dialect::Grpc if telemetry.measures() => telemetry.methods().of(request),
            Dialect::Grpc | Dialect::Http => Method::OTHER,
        };
        let upgrade = Upgrade::take(request, core.random());
        let asked = Asked::take(request.headers_mut());
        let said = |after| Deadline::caller(began, after);
        let caller = options.timeout.map_or(Deadline::NONE, said);
        let caller = caller.min(asked.patience.map_or(Deadline::NONE, said));
        Self {
            began,
            dialect,
            method,
            reader: match (scope, dialect) {
                (Scope::Target(_), Dialect::Grpc) => Reader::Grpc,
                (Scope::Target(_), Dialect::Http) | (Scope::Authority, _) => Reader::Plain,
            },
            options,
            asked,
            report,
            caller: caller.min(deadline::Context::current()),
            upgrade,
        }
    }

    /// Carries on the trace that the call belongs to; its span, if it gets one.
    fn trace(&self, core: &Core, request: &mut Request<Body>) -> Option<Span> {
        let tracing = core.environment.telemetry.tracing();
        let inherited = trace::inherited();
        if !tracing.is_on() && inherited.is_none() {
            return None;
        }
        let told = core.environment.telemetry.told();
        let said = &told.client.tracing;
        let span = tracing.call(request, inherited.as_ref(), said);
        let reports = tracing.reports(said);
        if span.is_none() && said.propagation && (inherited.is_some() || reports) {
            let headers = request.headers_mut();
            // Nobody has told the callee; who decided against the trace tells that as well.
            if trace::Parent::of(headers).is_none() {
                let random = core.random();
                let undecided = inherited.filter(|parent| parent.sampled.is_some() || !reports);
                let parent = undecided.unwrap_or_else(|| {
                    let trace = u128::from(random.draw()) << 64 | u128::from(random.draw() | 1);
                    trace::Parent::new(trace, random.draw() | 1, false, None)
                });
                parent.write(headers);
            }
        }
        span
    }

    /// Begins to measure the call, if that is wanted.
    fn meter(&self, core: &Core, request: &mut Request<Body>, span: Option<Span>) -> Option<Meter> {
        let telemetry = &core.environment.telemetry;
        if !telemetry.is_on() {
            return None;
        }
        let told = telemetry.told_besides();
        let mut entry = told.as_ref().and_then(|told| {
            let make = |logs: &_| access::Entry::new(logs, request);
            told.client.entry(span.as_ref(), make)
        });
        if let (Some(entry), Some(span)) = (&mut entry, &span) {
            entry.trace = span
                .parent()
                .map(|one| (one.trace, one.span, one.sampled == Some(true)));
        }
        let protocol = match self.dialect {
            Dialect::Grpc => Protocol::Grpc,
            Dialect::Http => Protocol::Http,
        };
        let mut meter = Meter::new(telemetry.unknown(), self.began, protocol);
        meter.calls(self.method);
        if told.is_some_and(|told| told.methods) {
            meter.by_method(request.method());
        }
        meter.watch(request.body_mut());
        Some(meter.with(telemetry.measures(), entry, span))
    }

    /// The end of the call on a route with this timeout, which begins when the request is sent on.
    fn deadline(&self, now: Instant, route: Option<Duration>) -> Deadline {
        self.caller.min(self.asked.deadline(now, route))
    }

    /// Whether nothing that came with the call has changed the timeouts of its route.
    fn leaves_time_to_the_route(&self) -> bool {
        let Asked {
            patience,
            timeout,
            per_try,
        } = self.asked;
        self.caller == Deadline::NONE
            && patience.is_none()
            && timeout.is_none()
            && per_try.is_none()
    }

    fn raise(&self, flag: Flag) {
        if let Some(report) = &self.report {
            report.raise(flag);
        }
    }
}
