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

mod answer;
mod attempt;
mod channel;
mod client;
mod drain;
mod lease;
mod options;
mod passthrough;
mod report;
mod rewrite;
mod route;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Request, Response};
use tokio::time::Instant;

use crate::body::Body;
use crate::error::{Error, Flag, Kind, Whose};
use crate::layer::deadline::{self, Deadline};
use crate::layer::retry;
use crate::model::route::{Action, Forward};
use crate::random::Random;
use crate::snapshot::{Environment, Live};

use answer::Dialect;
use attempt::Attempts;
pub use channel::{Channel, ResponseFuture};
pub use client::Client;
pub(crate) use drain::Drain;
use lease::Cut;
pub use options::CallOptions;
pub(crate) use passthrough::Passthrough;
pub use report::{Attempt, CallReport};
use route::{Chosen, Scope};

/// What all requests of a mesh share.
pub(crate) struct Core {
    pub(crate) live: Live,
    pub(crate) environment: Environment,
    pub(crate) passthrough: Passthrough,
    pub(crate) drain: Arc<Drain>,
    pub(crate) replay: retry::Replays,
}

impl Core {
    fn random(&self) -> &Random {
        &self.environment.random
    }
}

/// Sends one request through the mesh.
async fn send(core: &Core, scope: Scope<'_>, request: Request<Body>) -> Result<Response<Body>, Error> {
    core.drain.check()?;
    let mut request = request;
    let call = Call::take(&mut request);
    let chosen = route::choose(core, scope, &mut request)?;
    if let Some(report) = &call.report {
        report.decided(chosen.generation, &chosen.route.model.name, chosen.cluster_name());
    }
    match call.caller.at() {
        None => serve(core, &chosen, &call, request).await,
        Some(at) => match tokio::time::timeout_at(at, serve(core, &chosen, &call, request)).await {
            Ok(result) => result,
            Err(_) => Err(call.caller.elapsed()),
        },
    }
    .map_err(|error| chosen.locate(error))
}

/// What a caller said about one call.
struct Call {
    options: CallOptions,
    report: Option<CallReport>,
    /// When the caller stops waiting.
    caller: Deadline,
    dialect: Dialect,
}

const UPSTREAM_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
const PER_TRY_TIMEOUT: HeaderName =
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms");

impl Call {
    fn take(request: &mut Request<Body>) -> Self {
        let options = request.extensions_mut().remove::<CallOptions>();
        let report = request.extensions_mut().remove::<CallReport>();
        let options = options.unwrap_or_default();
        let headers = request.headers_mut();
        let now = Instant::now();
        let caller = Deadline::after(options.timeout, now)
            .min(Deadline::after(deadline::from_headers(headers), now))
            .min(deadline::Context::current());
        Self {
            dialect: Dialect::of(headers),
            options,
            report,
            caller,
        }
    }

    fn raise(&self, flag: Flag) {
        if let Some(report) = &self.report {
            report.raise(flag);
        }
    }
}

/// Does what the route says.
async fn serve(
    core: &Core,
    chosen: &Chosen,
    call: &Call,
    request: Request<Body>,
) -> Result<Response<Body>, Error> {
    if let Some(injector) = &chosen.route.fault {
        let decision = injector.decide(request.headers(), core.random());
        if let Some((delay, _held)) = decision.delay {
            call.raise(Flag::DelayInjected);
            tokio::time::sleep(delay).await;
        }
        if let Some(abort) = decision.abort {
            call.raise(Flag::FaultInjected);
            return Err(Error::from(abort));
        }
    }
    let result = match &chosen.route.model.action {
        Action::Direct(direct) => Ok(call.dialect.direct(direct)),
        Action::Forward(forward) => forward_in_time(core, chosen, call, forward, request).await,
        Action::Redirect(redirect) => Ok(answer::redirect(redirect, &request)),
    };
    result.map(|mut response| {
        chosen.change_response(response.headers_mut());
        response
    })
}

/// Sends the request on, within the route's timeout.
async fn forward_in_time(
    core: &Core,
    chosen: &Chosen,
    call: &Call,
    forward: &Forward,
    request: Request<Body>,
) -> Result<Response<Body>, Error> {
    let timeout = call.options.timeout.is_none().then_some(forward.timeout).flatten();
    let route = Deadline::route(timeout, Instant::now());
    match route.at().filter(|at| call.caller.at().is_none_or(|caller| *at < caller)) {
        // The caller's timer stands around all of this already.
        None => forward_with_retries(core, chosen, call, forward, call.caller.clone(), request).await,
        Some(at) => {
            let all = forward_with_retries(core, chosen, call, forward, route.clone(), request);
            match tokio::time::timeout_at(at, all).await {
                Ok(result) => result,
                Err(_) => Err(route.elapsed()),
            }
        }
    }
}

async fn forward_with_retries(
    core: &Core,
    chosen: &Chosen,
    call: &Call,
    forward: &Forward,
    deadline: Deadline,
    mut request: Request<Body>,
) -> Result<Response<Body>, Error> {
    let cluster = chosen.cluster()?;
    chosen.prepare(forward, &deadline, &mut request)?;
    let _ = cluster;
    let mut attempts = Attempts::new(core, chosen, call, forward, &deadline)?;
    let policy = chosen.route.retry.as_ref().filter(|_| call.options.retry);
    let (result, summary) = retry::run(
        policy,
        &attempts.cluster().running.quota,
        &deadline,
        core.random(),
        &core.replay,
        request,
        |request, this| attempts.start(request, this.number),
    )
    .await;
    attempts.finish(&summary, result)
}
