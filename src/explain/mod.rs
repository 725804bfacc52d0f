//! What the mesh would do with a request, without sending it.
//!
//! An operator who asks "why did this go to v1?" wants the decision itself, station by station, with
//! the object and line behind each of them: not a second opinion. So nothing is decided here. The
//! virtual host, the matchers, the weights, the session, the rewrites and the faults are asked for
//! through the functions that requests go through; what is rolled for a request is listed here as
//! shares of the whole. A simulator with rules of its own was rejected: it would agree with the
//! mesh until the day on which it matters.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), meshwork::Error> {
//! use meshwork::{Mesh, OutboundTraffic};
//!
//! let mesh = Mesh::builder().outbound_traffic(OutboundTraffic::RegistryOnly).start().await?;
//! let request = http::Request::get("http://catalog/items").body(()).unwrap();
//! let explained = mesh.explain(&request);
//! assert!(explained.to_string().contains("REGISTRY_ONLY"), "{explained}");
//! # Ok(()) }
//! ```

mod forward;
mod secured;
#[cfg(feature = "yaml")]
pub mod servers;
mod telling;
mod text;
mod time;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Request, StatusCode};

use crate::error::{Error, Flag, Kind};
use crate::model::matcher::{HeaderKey, Mismatch, RequestView};
use crate::model::route::{Action, Domain};
use crate::model::words::is_secret;
use crate::model::{Fraction, Origin};
use crate::outbound::{Chosen, Core, Door, Entry, Scope, answer, enter, no_route, view};
use crate::snapshot::{Route, VirtualHost};

pub use forward::{EndpointState, Forwarded, Gauge, Member, Mirrored, Retrying};
pub use telling::Telling;
pub use time::Times;

/// What a mesh would do with one request, as of the configuration in force.
///
/// `Display` tells it to people, in as many lines as it takes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The configuration that was asked.
    pub generation: u64,
    /// Method and URI.
    pub request: String,
    /// Whose routes were looked at.
    pub host: Host,
    /// The routes in their order, up to the last.
    pub routes: Vec<Considered>,
    /// What may become of the request; the shares sum up to 1.
    pub outcomes: Vec<Outcome>,
    /// What is told of it by logs and spans.
    pub told: Vec<Telling>,
}

/// The virtual host of a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Host {
    /// One of the configuration.
    Found {
        /// Its name, `host:port`.
        name: Arc<str>,
        /// The authorities that it answers for.
        domains: Vec<String>,
        /// Who wrote it.
        origin: Origin,
    },
    /// None; the request is refused, see the outcome.
    Refused,
    /// None; the host is passed through (`outboundTrafficPolicy`).
    Unknown,
}

/// A route that was looked at.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Considered {
    /// Its name.
    pub name: Arc<str>,
    /// What it asks of a request, in words.
    pub matcher: String,
    /// What came of it.
    pub verdict: Verdict,
    /// Who wrote it.
    pub origin: Origin,
}

/// Whether a route takes the request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// It does not: the request answers this question with no.
    Mismatch {
        /// What the route wants, such as `the path to begin with "/api"`.
        wanted: String,
        /// What the request has; values of `authorization` and of cookies are not shown.
        found: String,
    },
    /// It takes this share of all such requests, from above 0 to 1.
    Taken(f64),
    /// It was not asked: an earlier one takes every such request.
    Unreached,
}

/// One thing that may become of the request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// How often, from above 0 to 1.
    pub share: f64,
    /// The route that leads to it.
    pub route: Option<Arc<str>>,
    /// Who wrote the route.
    pub origin: Origin,
    /// How long the request may be held back first, and which share of the requests.
    pub delay: Option<(Duration, Fraction)>,
    /// Limits of requests in a time that it takes a token of first, in words: how many were taken before is
    /// not looked at.
    pub limits: Vec<String>,
    /// Headers of the response that are changed, in order, in words.
    pub response_changes: Vec<String>,
    /// What it is.
    pub end: End,
}

/// How a request ends.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum End {
    /// Answered by the route.
    Direct {
        /// The HTTP status.
        status: StatusCode,
        /// How many bytes the body has.
        bytes: usize,
    },
    /// Sent to a cluster.
    Forward(Box<Forwarded>),
    /// Answered with a redirect.
    Redirect {
        /// The HTTP status.
        status: StatusCode,
        /// Where to.
        location: String,
    },
    /// Answered by the mesh with an error.
    Refused(Refusal),
}

/// An error that the mesh answers with.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// The status for gRPC requests.
    pub grpc_status: u32,
    /// Envoy's response flag.
    pub flag: Option<Flag>,
    /// What is wrong and what to do.
    pub text: String,
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        Self {
            status: error.status(),
            grpc_status: error.grpc_status(),
            flag: error.flag(),
            text: answer::chain(error),
        }
    }
}

/// Explains a request.
pub(crate) fn explain<B>(core: &Core, scope: Scope<'_>, request: &Request<B>) -> Explanation {
    let request = head(request);
    let snapshot = core.live.load_full();
    let mut explained = Explanation {
        generation: snapshot.generation(),
        request: format!("{} {}", request.method(), request.uri()),
        host: Host::Refused,
        routes: Vec::new(),
        outcomes: Vec::new(),
        told: telling::telling(core),
    };
    let Entry { authority, door } = match enter(core, &snapshot, scope, &request) {
        Ok(entry) => entry,
        Err(error) => {
            explained.outcomes.push(refused(1.0, &error));
            return explained;
        }
    };
    let mut taken = Vec::new();
    match door {
        Door::Host(host) => {
            explained.host = found(host);
            let view = view(&request, &authority);
            (explained.routes, taken) = consider(host, &view);
        }
        Door::Nobody => {}
        Door::Stray(route) => {
            explained.host = Host::Unknown;
            taken.push((1.0, route));
        }
    }
    let mut left = 1.0;
    for (share, route) in &taken {
        left -= share;
        for (part, chosen) in Chosen::possible(&snapshot, route, &authority, &request) {
            let way = Way {
                core,
                chosen: &chosen,
                request: &request,
            };
            explained.outcomes.extend(way.outcomes(share * part));
        }
    }
    // Shares are parts per million; what is less is what sums of them leave over.
    if left > 1e-7 {
        explained
            .outcomes
            .push(refused(left, &no_route(&authority)));
    }
    explained
}

/// The request without its body, which nothing is decided by.
fn head<B>(request: &Request<B>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    head
}

fn found(host: &VirtualHost) -> Host {
    let text = |domain: &Domain| match domain {
        Domain::Any => "*".to_owned(),
        Domain::Exact(text) => text.to_string(),
        Domain::Prefix(text) => format!("{text}*"),
        Domain::Suffix(text) => format!("*{text}"),
    };
    Host::Found {
        name: host.model.name.clone(),
        domains: host.model.domains.iter().map(text).collect(),
        origin: host.model.origin.clone(),
    }
}

/// Asks the routes one after the other; also returns those that take a share, with it.
fn consider(
    host: &VirtualHost,
    view: &RequestView<'_>,
) -> (Vec<Considered>, Vec<(f64, Arc<Route>)>) {
    let mut left = 1.0;
    let mut taken = Vec::new();
    let considered = host.routes.iter().map(|route| {
        let matcher = &route.model.matcher;
        let verdict = match matcher.mismatch(view) {
            _ if left <= 0.0 => Verdict::Unreached,
            Some(mismatch) => Verdict::Mismatch {
                wanted: mismatch.to_string(),
                found: what_it_has(mismatch, view),
            },
            None => {
                let share = matcher.share.map_or(left, |share| left * part(share));
                left -= share;
                if share > 0.0 {
                    taken.push((share, route.clone()));
                }
                Verdict::Taken(share)
            }
        };
        Considered {
            name: route.model.name.clone(),
            matcher: matcher.to_string(),
            verdict,
            origin: route.model.origin.clone(),
        }
    });
    (considered.collect(), taken)
}

fn part(share: Fraction) -> f64 {
    f64::from(share.parts_per_million()) / f64::from(Fraction::ONE.parts_per_million())
}

/// What the request has where a route wants something else.
fn what_it_has(mismatch: Mismatch<'_>, view: &RequestView<'_>) -> String {
    match mismatch {
        Mismatch::Path(_) => format!("{:?}", view.path),
        Mismatch::Query(_) => match view.query {
            Some(query) => format!("the query {query:?}"),
            None => "no query".to_owned(),
        },
        Mismatch::Header(header) => match &header.key {
            HeaderKey::Authority => format!("{:?}", view.authority),
            HeaderKey::Method => format!("{:?}", view.method),
            HeaderKey::Scheme => format!("{:?}", view.scheme),
            HeaderKey::Field(name) => values(view.headers, name),
        },
    }
}

fn values(headers: &HeaderMap, name: &HeaderName) -> String {
    let all: Vec<_> = headers.get_all(name).iter().collect();
    if all.is_empty() {
        return "no such header".to_owned();
    }
    if is_secret(name) {
        return "a value that is not shown".to_owned();
    }
    let texts = all.iter().map(|value| format!("{value:?}"));
    texts.collect::<Vec<_>>().join(", ")
}

fn refused(share: f64, error: &Error) -> Outcome {
    Outcome {
        share,
        route: None,
        origin: Origin::built_in(),
        delay: None,
        limits: Vec::new(),
        response_changes: Vec::new(),
        end: End::Refused(Refusal::from(error)),
    }
}

/// One decision and the request that it is about.
struct Way<'a> {
    core: &'a Core,
    chosen: &'a Chosen,
    request: &'a Request<()>,
}

impl Way<'_> {
    /// What may happen on it: an injected abort, and what the route does.
    fn outcomes(&self, share: f64) -> Vec<Outcome> {
        let route = &self.chosen.route;
        let headers = self.request.headers();
        let faults = self.chosen.fault().map(|fault| fault.foresee(headers));
        let faults = faults.unwrap_or_default();
        let outcome = |share, end, limits, changes| Outcome {
            share,
            route: Some(route.model.name.clone()),
            origin: route.model.origin.clone(),
            delay: faults.delay,
            limits,
            response_changes: changes,
            end,
        };
        let mut outcomes = Vec::new();
        let mut rest = share;
        if let Some((error, hit)) = faults.error() {
            let aborted = share * part(hit);
            rest -= aborted;
            if aborted > 0.0 {
                let end = End::Refused(Refusal::from(&error));
                outcomes.push(outcome(aborted, end, Vec::new(), Vec::new()));
            }
        }
        if rest > 0.0 {
            let held = faults.delay.map(|(held, _)| held);
            let limits = route.model.limits.iter().map(ToString::to_string);
            let changes = self.response_changes();
            outcomes.push(outcome(rest, self.end(held), limits.collect(), changes));
        }
        outcomes
    }

    fn end(&self, held: Option<Duration>) -> End {
        match &self.chosen.route.model.action {
            Action::Direct(direct) => End::Direct {
                status: direct.status,
                bytes: direct.body.len(),
            },
            Action::Redirect(redirect) => {
                let response = answer::redirect(redirect, self.request);
                let location = response.headers().get(http::header::LOCATION);
                let location = location.map(|text| String::from_utf8_lossy(text.as_bytes()));
                End::Redirect {
                    status: response.status(),
                    location: location.unwrap_or_default().into_owned(),
                }
            }
            Action::Forward(to) => match self.forward(to, held) {
                Ok(forwarded) => End::Forward(Box::new(forwarded)),
                Err(error) => End::Refused(Refusal::from(&self.chosen.locate(error))),
            },
            Action::Serve | Action::Unknown => {
                let error = Error::new(Kind::NoCluster);
                End::Refused(Refusal::from(&self.chosen.locate(error)))
            }
        }
    }
}
