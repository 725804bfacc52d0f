//! Station one: which route a request takes, and to which cluster.

use std::sync::Arc;

use http::uri::{Authority, Scheme};
use http::{HeaderMap, Request, Uri};

use crate::body::Body;
use crate::error::{Error, Kind};
use crate::layer::fault::Injector;
use crate::model::matcher::RequestView;
use crate::model::route::{Action, Destination, Forward, HeaderChanges};
use crate::name::Target;
use crate::random::Random;
use crate::snapshot::{Cluster, Endpoint, Route, Snapshot, VirtualHost};

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

/// Whose routes a request is looked up in.
#[derive(Debug)]
pub(crate) struct Entry<'s> {
    pub(crate) authority: Authority,
    pub(crate) door: Door<'s>,
}

/// What stands behind the authority or target of a request.
#[derive(Debug)]
pub(crate) enum Door<'s> {
    /// A virtual host of the configuration.
    Host(&'s Arc<VirtualHost>),
    /// A channel's listener that the configuration does not have.
    Nobody,
    /// An unknown host, which is passed through.
    Stray(Arc<Route>),
}

/// The authority of a request and its virtual host, if the configuration has one.
fn host<'s, B>(
    snapshot: &'s Snapshot,
    scope: Scope<'_>,
    request: &Request<B>,
) -> Result<(Authority, Option<&'s Arc<VirtualHost>>), Error> {
    let authority = authority(scope, request)?;
    let host = match scope {
        Scope::Authority => snapshot.authority(&authority, default_port(request.uri())),
        Scope::Target(target) => snapshot.target(target),
    };
    Ok((authority, host))
}

/// The listener that a plain request asks the source for: its host and port.
pub(super) fn asked<B>(request: &Request<B>) -> Result<Target, Error> {
    let authority = authority(Scope::Authority, request)?;
    let port = port(&authority, request.uri());
    Target::listener(&authority, port)
}

/// Finds the virtual host of a request.
pub(crate) fn enter<'s, B>(
    core: &Core,
    snapshot: &'s Snapshot,
    scope: Scope<'_>,
    request: &Request<B>,
) -> Result<Entry<'s>, Error> {
    let (authority, host) = host(snapshot, scope, request)?;
    let door = match (host, scope) {
        (Some(host), _) => Door::Host(host),
        (None, Scope::Target(Target::Listener { .. })) => Door::Nobody,
        (None, Scope::Authority | Scope::Target(Target::Host { .. })) => {
            let configured = snapshot.outbound_traffic;
            let passed = core.passthrough.route(&authority, configured)?;
            Door::Stray(snapshot.egress.clone().unwrap_or(passed))
        }
    };
    Ok(Entry { authority, door })
}

/// What becomes of a request whose host the configuration does not know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unknown {
    /// The source may know it when it is asked: there is no choice yet.
    Ask,
    /// It is passed through or refused.
    Decide,
}

/// Loads the configuration once, finds the route and rolls the dice. `None` for an unknown host of
/// which the source is asked.
pub(crate) fn choose(
    core: &Core,
    scope: Scope<'_>,
    request: &Request<Body>,
    unknown: Unknown,
) -> Result<Option<Chosen>, Error> {
    let snapshot = core.live.load();
    if unknown == Unknown::Ask && host(&snapshot, scope, request)?.1.is_none() {
        return Ok(None);
    }
    let Entry { authority, door } = enter(core, &snapshot, scope, request)?;
    let route = match door {
        Door::Host(host) => find(host, request, &authority, core.random()).cloned(),
        Door::Nobody => None,
        Door::Stray(route) => Some(route),
    };
    let route = route.ok_or_else(|| no_route(&authority))?;
    let (destination, remembered) = match &route.model.action {
        Action::Forward(forward) => match affinity::remembered(forward, request) {
            Some((destination, endpoint)) => (destination, Some(endpoint)),
            None => (roll(forward, core.random()), None),
        },
        Action::Direct(_) | Action::Redirect(_) | Action::Serve | Action::Unknown => (0, None),
    };
    let port = port(&authority, request.uri());
    Ok(Some(Chosen {
        generation: snapshot.generation(),
        route,
        destination,
        port,
        remembered,
        authority,
    }))
}

/// The error of a request that no route takes.
pub(crate) fn no_route(authority: &Authority) -> Error {
    Error::new(Kind::NoRoute {
        authority: authority.as_str().into(),
    })
}

fn authority<B>(scope: Scope<'_>, request: &Request<B>) -> Result<Authority, Error> {
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

fn port(authority: &Authority, uri: &Uri) -> u16 {
    authority.port_u16().unwrap_or(default_port(uri))
}

fn default_port(uri: &Uri) -> u16 {
    if uri.scheme() == Some(&Scheme::HTTPS) {
        443
    } else {
        80
    }
}

/// What the matchers of routes look at.
pub(crate) fn view<'r, B>(request: &'r Request<B>, authority: &'r Authority) -> RequestView<'r> {
    RequestView {
        method: request.method().as_str(),
        scheme: request.uri().scheme_str().unwrap_or("http"),
        authority: authority.as_str(),
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
    }
}

/// The first route that matches.
fn find<'a>(
    host: &'a VirtualHost,
    request: &Request<Body>,
    authority: &Authority,
    random: &Random,
) -> Option<&'a Arc<Route>> {
    let view = view(request, authority);
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
    /// Every decision that the dice may make about a request on this route, each with its share of
    /// the whole; a session has one. A route that forwards nothing has one too.
    pub(crate) fn possible<B>(
        snapshot: &Snapshot,
        route: &Arc<Route>,
        authority: &Authority,
        request: &Request<B>,
    ) -> Vec<(f64, Self)> {
        let chosen = |destination, remembered| Self {
            generation: snapshot.generation(),
            route: route.clone(),
            destination,
            remembered,
            authority: authority.clone(),
            port: port(authority, request.uri()),
        };
        let Action::Forward(forward) = &route.model.action else {
            return vec![(1.0, chosen(0, None))];
        };
        if let Some((destination, endpoint)) = affinity::remembered(forward, request) {
            return vec![(1.0, chosen(destination, Some(endpoint)))];
        }
        let total = f64::from(forward.destinations.total().get());
        let share = |one: &Destination| f64::from(one.weight) / total;
        let all = forward.destinations.all().iter().enumerate();
        all.map(|(index, one)| (share(one), chosen(index, None)))
            .collect()
    }

    fn destination(&self) -> Option<&Destination> {
        match &self.route.model.action {
            Action::Forward(forward) => forward.destinations.all().get(self.destination),
            Action::Direct(_) | Action::Redirect(_) | Action::Serve | Action::Unknown => None,
        }
    }

    pub(crate) fn cluster_name(&self) -> Option<&Arc<str>> {
        self.destination().map(|destination| &destination.cluster)
    }

    /// What injects faults into the request, by the destination that the dice chose.
    pub(crate) fn fault(&self) -> Option<&Injector> {
        match self.route.own_faults.get(self.destination) {
            Some(own) => own.as_ref(),
            None => self.route.fault.as_ref(),
        }
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

    /// What is sent as the authority, unless an endpoint says what.
    fn sent<'a>(&'a self, forward: &'a Forward) -> &'a Authority {
        // The route has the last word, as with headers.
        let rewritten = forward.authority_rewrite.as_ref();
        rewritten
            .or_else(|| self.destination()?.authority_rewrite.as_ref())
            .unwrap_or(&self.authority)
    }

    /// Addresses the request to this endpoint by its name, if it has one.
    pub(super) fn name<B>(
        &self,
        forward: &Forward,
        endpoint: &Endpoint,
        request: &mut Request<B>,
    ) -> Result<(), Error> {
        let own = endpoint.authority();
        let authority = own.as_ref().unwrap_or_else(|| self.sent(forward));
        let uri = std::mem::take(request.uri_mut());
        *request.uri_mut() = rewrite::uri(uri, None, authority)?;
        Ok(())
    }

    /// Makes the request what the endpoint shall see.
    pub(crate) fn prepare<B>(
        &self,
        forward: &Forward,
        request: &mut Request<B>,
    ) -> Result<(), Error> {
        let (uri, authority) = (std::mem::take(request.uri_mut()), self.sent(forward));
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

    pub(crate) fn changes(&self) -> impl Iterator<Item = &HeaderChanges> {
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
