//! What happens to a request that is sent on.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request};

use super::secured::secured;
use super::{Refusal, Times, Way};
use crate::error::{Error, Kind};
use crate::layer::balance::Candidate;
use crate::layer::deadline::Asked;
use crate::model::cluster::{Balancing, Protocol};
use crate::model::endpoint::Health;
use crate::model::limit::{Limits, RetryLimit};
use crate::model::route::{Forward, HeaderChange, HeaderChanges};
use crate::model::{Fraction, Origin};
use crate::snapshot;

/// What is told of a route that sends endpoints their own names.
const ENDPOINT_AUTHORITY: &str = "authority: the name of the endpoint, if it has one";

/// How a request is sent to a cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Forwarded {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// Who wrote its policy.
    pub origin: Origin,
    /// The URI that the endpoint sees.
    pub uri: String,
    /// The headers that the endpoint sees, but for those that a mesh adds (how often it was tried, how long it
    /// may take). They are marked as sensitive, so that `Debug` does not show values.
    pub headers: HeaderMap,
    /// Headers of the request that are changed, in order, in words.
    pub request_changes: Vec<String>,
    /// The endpoint that a session cookie names, if that still serves.
    pub session: Option<String>,
    /// How long it may take and how often it may be tried.
    pub times: Times,
    /// What is tried again; `None`: nothing.
    pub retry: Option<Retrying>,
    /// Who gets copies.
    pub mirrors: Vec<Mirrored>,
    /// How an endpoint is picked.
    pub balancing: &'static str,
    /// Which version of HTTP is spoken.
    pub protocol: Protocol,
    /// How connections are secured, in words.
    pub security: String,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// Requests, waiting requests and connections: how many there are and may be.
    pub limits: Vec<Gauge>,
    /// When endpoints are ejected, in words; `None`: never.
    pub ejection: Option<String>,
    /// The endpoints, in the order of the registry.
    pub endpoints: Vec<Member>,
    /// Who wrote the endpoints.
    pub endpoints_origin: Origin,
    /// Whether health is ignored because too few endpoints are admitted.
    pub panicking: bool,
    /// The answer if the request were sent at this moment and no endpoint can be picked.
    pub failure: Option<Refusal>,
}

/// What is tried again.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Retrying {
    /// The conditions, in the words of `retryOn`.
    pub on: String,
    /// How many retries may follow the first try.
    pub retries: u32,
    /// What limits retries of all requests to the cluster together, in words.
    pub limit: String,
    /// The delay after which a slow try gets company; `None`: never.
    pub hedge: Option<Duration>,
}

/// A cluster that gets copies.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Mirrored {
    /// Its name.
    pub cluster: Arc<str>,
    /// Of which share of the requests.
    pub share: Fraction,
    /// Whether there is such a cluster.
    pub exists: bool,
}

/// How much there is of something, and how much there may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Gauge {
    /// Of what.
    pub name: &'static str,
    /// How much there is now.
    pub now: u32,
    /// How much there may be; `None`: any number.
    pub limit: Option<u32>,
}

/// One endpoint of a cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Member {
    /// Its address.
    pub address: Arc<str>,
    /// The name that it is known by, as it is asked for by TLS and sent as the authority where the
    /// configuration wants that; `None`: that of its address, if any.
    pub hostname: Option<String>,
    /// Its share among its locality.
    pub weight: u32,
    /// 0 is used first.
    pub priority: u32,
    /// Whether it is used.
    pub state: EndpointState,
}

/// Whether an endpoint is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum EndpointState {
    /// It is.
    Admitted,
    /// Outlier detection took it out for a while.
    Ejected,
    /// The registry says that it does not serve.
    Unhealthy,
}

impl Way<'_> {
    pub(super) fn forward(&self, to: &Forward, held: Option<Duration>) -> Result<Forwarded, Error> {
        let chosen = self.chosen;
        let cluster = chosen.toward(chosen.cluster()?, self.core);
        let mut sent: Request<()> = self.request.clone();
        chosen.prepare(to, &mut sent)?;
        let model = &cluster.model;
        let balancer = &cluster.balancer;
        let members = cluster.members_in_order();
        let named = chosen.remembered.as_deref();
        let session = named.and_then(|key| balancer.named(key));
        let panicking = balancer.panicking();
        let anybody = panicking || members.iter().any(|member| member.admitted());
        let strict = to.affinity.session.as_ref().is_some_and(|own| own.strict);
        let usable = anybody && !(strict && named.is_some() && session.is_none());
        let none = || chosen.locate(Error::new(Kind::NoEndpoint));
        let endpoints = cluster.endpoints.load();
        Ok(Forwarded {
            cluster: model.name.clone(),
            origin: model.origin.clone(),
            uri: sent.uri().to_string(),
            headers: hidden(sent.headers()),
            request_changes: self.request_changes(to),
            session: session.map(|member| member.endpoint.label().to_string()),
            times: Times::of(to, Asked::of(self.request.headers()), held),
            retry: to.retry.as_ref().map(|retry| Retrying {
                on: retry.on.to_string(),
                retries: retry.retries,
                limit: retries(&cluster),
                hedge: retry.hedge.map(|hedge| hedge.delay),
            }),
            mirrors: self.mirrors(to),
            balancing: balancing(&model.balancing),
            protocol: model.protocol,
            security: secured(&model.security),
            connect_timeout: model.connect_timeout,
            limits: gauges(&cluster),
            ejection: model.outlier.as_ref().map(ToString::to_string),
            endpoints: members.iter().map(look).collect(),
            endpoints_origin: endpoints
                .as_ref()
                .map_or(Origin::built_in(), |one| one.origin.clone()),
            panicking,
            failure: (!usable).then(|| Refusal::from(&none())),
        })
    }

    fn mirrors(&self, to: &Forward) -> Vec<Mirrored> {
        let linked = self.chosen.route.mirrors.iter();
        let mirrors = to.mirrors.iter().zip(linked);
        let look = |(mirror, cluster): (&crate::model::route::Mirror, &Option<_>)| Mirrored {
            cluster: mirror.cluster.clone(),
            share: mirror.share,
            exists: cluster.is_some(),
        };
        mirrors.map(look).collect()
    }

    fn request_changes(&self, to: &Forward) -> Vec<String> {
        let all = self.chosen.changes().flat_map(|changes| &changes.request);
        let named = to.endpoint_authority.then(|| ENDPOINT_AUTHORITY.to_owned());
        all.map(ToString::to_string).chain(named).collect()
    }

    pub(super) fn response_changes(&self) -> Vec<String> {
        let response = |changes: &HeaderChanges| changes.response.clone();
        let all = self.chosen.changes().flat_map(response);
        all.map(|change: HeaderChange| change.to_string()).collect()
    }
}

fn hidden(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for value in headers.values_mut() {
        value.set_sensitive(true);
    }
    headers
}

fn look(member: &Arc<snapshot::Member>) -> Member {
    let state = match (member.health, member.endpoint.record.host.admitted()) {
        (Health::Unhealthy | Health::Draining, _) => EndpointState::Unhealthy,
        (Health::Healthy, true) => EndpointState::Admitted,
        (Health::Healthy, false) => EndpointState::Ejected,
    };
    Member {
        address: member.endpoint.label().clone(),
        hostname: member.endpoint.hostname().map(ToString::to_string),
        weight: member.weight.get(),
        priority: member.placement.priority,
        state,
    }
}

fn gauges(cluster: &snapshot::Cluster) -> Vec<Gauge> {
    let Limits {
        connections,
        pending,
        requests,
        retries: _,
    } = cluster.model.limits;
    let running = &cluster.running.limits;
    let gauge = |name, now, limit| Gauge {
        name,
        now,
        limit: (limit < u32::MAX).then_some(limit),
    };
    vec![
        gauge("requests", running.active_requests(), requests),
        gauge("pending requests", running.pending_requests(), pending),
        gauge("connections", running.connections(), connections),
    ]
}

fn retries(cluster: &snapshot::Cluster) -> String {
    match cluster.model.limits.retries {
        RetryLimit::Budget => format!(
            "the mesh's budget: a fifth of the requests plus 3 per second; {} retries are left now",
            cluster.quota.budget_remaining()
        ),
        RetryLimit::Concurrent(most) => {
            let now = cluster.quota.in_flight();
            format!("at most {most} at a time (maxRetries); {now} now")
        }
        RetryLimit::Share {
            percent,
            minimum,
            interval,
        } => {
            let of = match interval.is_zero() {
                true => "under way".to_owned(),
                false => format!("that began within {interval:?}"),
            };
            format!(
                "at most {percent} of the requests {of}, {minimum} in any case (retryBudget); {} now",
                cluster.quota.in_flight()
            )
        }
    }
}

fn balancing(balancing: &Balancing) -> &'static str {
    match balancing {
        Balancing::LeastRequest => "least request",
        Balancing::Maglev(_) => "Maglev hash",
        Balancing::PeakEwma(_) => "peak EWMA",
        Balancing::PickFirst(_) => "the first that can be connected to",
        Balancing::Random => "random",
        Balancing::RingHash(_) => "ring hash",
        Balancing::RoundRobin => "round robin",
        Balancing::WeightedRoundRobin(_) => "round robin by reported weights",
    }
}
