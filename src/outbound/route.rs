//! Station one: which route a request takes, and to which cluster.

use std::sync::Arc;

use http::uri::{Authority, Scheme};
use http::{HeaderMap, Request, Uri};

use crate::body::Body;
use crate::error::{Error, Kind};
use crate::model::matcher::RequestView;
use crate::model::route::{Action, Destination, Forward, HeaderChanges};
use crate::name::Target;
use crate::random::Random;
use crate::snapshot::{Cluster, Route, VirtualHost};

use super::{Core, affinity, rewrite};

/// What decides about the virtual host.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'a> {
    /// The request's own authority: a plain client.
    Authority,
    /// The target of a channel.
    Target(&'a Target),
}

/// The decision: it holds all that the rest of the way needs, and nothing of the snapshot that
/// could change under it.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) generation: u64,
    pub(crate) route: Arc<Route>,
    /// Which destination of a forwarding route the dice chose.
    destination: usize,
    /// The endpoint that the request's session was with before.
    pub(crate) remembered: Option<Box<str>>,
    /// What is sent as the authority, unless the route rewrites it.
    authority: Authority,
    /// The port that the caller means.
    port: u16,
}

/// Loads the configuration once, finds the route and rolls the dice.
pub(crate) fn choose(
    core: &Core,
    scope: Scope<'_>,
    request: &Request<Body>,
) -> Result<Chosen, Error> {
    let authority = authority(scope, request)?;
    let snapshot = core.live.load();
    let host = match scope {
        Scope::Authority => snapshot.authority(&authority, default_port(request.uri())),
        Scope::Target(target) => snapshot.target(target),
    };
    let route = match host {
        Some(host) => find(host, request, &authority, core.random()).cloned(),
        None => match scope {
            Scope::Target(Target::Listener { .. }) => None,
            Scope::Authority | Scope::Target(Target::Host { .. }) => {
                let configured = snapshot.outbound_traffic;
                Some(core.passthrough.route(&authority, configured)?)
            }
        },
    };
    let route = route.ok_or_else(|| {
        Error::new(Kind::NoRoute {
            authority: authority.as_str().into(),
        })
    })?;
    let (destination, remembered) = match &route.model.action {
        Action::Forward(forward) => match affinity::remembered(forward, request) {
            Some((destination, endpoint)) => (destination, Some(endpoint)),
            None => (roll(forward, core.random()), None),
        },
        Action::Direct(_) | Action::Redirect(_) => (0, None),
    };
    Ok(Chosen {
        generation: snapshot.generation(),
        route,
        destination,
        port: authority.port_u16().unwrap_or(default_port(request.uri())),
        remembered,
        authority,
    })
}

fn authority(scope: Scope<'_>, request: &Request<Body>) -> Result<Authority, Error> {
    let refuse = |why| Error::new(Kind::Request { why });
    let uri = request.uri();
    if let Some(scheme) = uri.scheme().filter(|scheme| **scheme != Scheme::HTTP) {
        return Err(if *scheme == Scheme::HTTPS {
            refuse("https is not yet supported: the mesh decides about TLS; write http")
        } else {
            refuse("its scheme is not http")
        });
    }
    match (uri.authority(), scope) {
        (Some(authority), _) if authority.as_str().contains('@') => {
            Err(refuse("its authority contains user information"))
        }
        (Some(authority), _) => Ok(authority.clone()),
        (None, Scope::Target(target)) => Ok(target.authority().clone()),
        (None, Scope::Authority) => request
            .headers()
            .get(http::header::HOST)
            .and_then(|host| Authority::try_from(host.as_bytes()).ok())
            .ok_or(refuse(
                "neither its URI nor a Host header says to whom it goes",
            )),
    }
}

fn default_port(uri: &Uri) -> u16 {
    if uri.scheme() == Some(&Scheme::HTTPS) {
        443
    } else {
        80
    }
}

/// The first route that matches.
fn find<'a>(
    host: &'a VirtualHost,
    request: &Request<Body>,
    authority: &Authority,
    random: &Random,
) -> Option<&'a Arc<Route>> {
    let view = RequestView {
        method: request.method().as_str(),
        scheme: request.uri().scheme_str().unwrap_or("http"),
        authority: authority.as_str(),
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
    };
    host.routes.iter().find(|route| {
        route
            .model
            .matcher
            .matches(&view, || random.below(1_000_000))
    })
}

fn roll(forward: &Forward, random: &Random) -> usize {
    match forward.destinations.all() {
        [_] => 0,
        _ => forward
            .destinations
            .index(random.below(forward.destinations.total().get())),
    }
}

impl Chosen {
    fn destination(&self) -> Option<&Destination> {
        match &self.route.model.action {
            Action::Forward(forward) => forward.destinations.all().get(self.destination),
            Action::Direct(_) | Action::Redirect(_) => None,
        }
    }

    pub(crate) fn cluster_name(&self) -> Option<&Arc<str>> {
        self.destination().map(|destination| &destination.cluster)
    }

    /// The cluster that the dice chose.
    pub(crate) fn cluster(&self) -> Result<&Arc<Cluster>, Error> {
        self.route
            .clusters
            .get(self.destination)
            .and_then(Option::as_ref)
            .ok_or_else(|| Error::new(Kind::NoCluster))
    }

    /// The cluster itself, or for one whose endpoint is the host that is asked for, that host's.
    pub(crate) fn toward(&self, cluster: &Arc<Cluster>, core: &Core) -> Arc<Cluster> {
        cluster.toward(&self.authority, self.port, &core.environment)
    }

    /// Makes the request what the endpoint shall see.
    pub(crate) fn prepare(
        &self,
        forward: &Forward,
        request: &mut Request<Body>,
    ) -> Result<(), Error> {
        // The route has the last word, as with headers.
        let rewritten = forward.authority_rewrite.as_ref();
        let authority = rewritten
            .or_else(|| self.destination()?.authority_rewrite.as_ref())
            .unwrap_or(&self.authority);
        let uri = std::mem::take(request.uri_mut());
        *request.uri_mut() = rewrite::uri(uri, forward.path_rewrite.as_ref(), authority)?;
        let headers = request.headers_mut();
        headers.remove(http::header::HOST);
        // Envoy's order: the most specific first, so that the route has the last word.
        for changes in self.changes() {
            rewrite::headers(&changes.request, headers);
        }
        Ok(())
    }

    /// Changes the headers of the response.
    pub(crate) fn change_response(&self, headers: &mut HeaderMap) {
        for changes in self.changes() {
            rewrite::headers(&changes.response, headers);
        }
    }

    fn changes(&self) -> impl Iterator<Item = &HeaderChanges> {
        let destination = self.destination().map(|destination| &destination.headers);
        destination.into_iter().chain([&self.route.model.headers])
    }

    /// Adds where the request was on its way to.
    pub(crate) fn locate(&self, error: Error) -> Error {
        match self.cluster_name() {
            Some(cluster) => error.at_cluster(cluster),
            None => error,
        }
    }
}
