//! The virtual hosts of servers that see requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use http::StatusCode;
use http::uri::Scheme;

use super::place::{Server, host_of};
use super::{Claim, Maker};
use crate::model::matcher::RouteMatcher;
use crate::model::route::{
    Action, Domain, HeaderChanges, Redirect, RedirectPort, Route, VirtualHost,
};
use crate::model::{Origin, RouteConfiguration};
use crate::source::istio::compile::host::covers;
use crate::source::istio::compile::route;
use crate::source::istio::kinds::{GatewayServer, Object};
use crate::source::istio::registry::{origin, place};

/// The name of the route of `httpsRedirect`.
const REDIRECT: &str = "https-redirect";

/// A virtual host while it is merged.
struct Draft {
    routes: Vec<Arc<Route>>,
    /// Whose rules are in it.
    owners: BTreeSet<*const Object>,
    /// The ports by which callers may name it.
    ports: BTreeSet<u16>,
    /// Where `httpsRedirect` says that all requests go to `https`.
    redirected: Option<Origin>,
    origin: Origin,
}

impl<'a> Maker<'_, 'a> {
    /// The route configuration of some servers, which share it.
    pub(super) fn routes(&mut self, name: Arc<str>, servers: &[Server<'a>]) -> RouteConfiguration {
        let mut drafts: BTreeMap<String, Draft> = BTreeMap::new();
        for server in servers {
            self.server(server, &mut drafts);
        }
        let whole = servers.first().map(|server| server.written());
        let drafts = drafts.into_iter();
        RouteConfiguration {
            name,
            virtual_hosts: drafts
                .filter_map(|(host, draft)| draft.settled(&host).map(Arc::new))
                .collect(),
            origin: whole.unwrap_or_else(Origin::built_in),
        }
    }

    fn server(&mut self, server: &Server<'a>, drafts: &mut BTreeMap<String, Draft>) {
        let redirects = server
            .spec
            .tls
            .as_ref()
            .is_some_and(|tls| tls.https_redirect);
        let mut made: HashMap<*const Object, Vec<Arc<Route>>> = HashMap::new();
        for claim in &*self.claims(server) {
            let hosts = shared(server.spec, server.object, claim.object, &claim.host);
            if hosts.is_empty() {
                continue;
            }
            let owner = std::ptr::from_ref(claim.object);
            let (scope, faults) = (self.scope, &mut self.edge.faults);
            let routes = made
                .entry(owner)
                .or_insert_with(|| route::routes(scope, claim, server.port, faults));
            for host in hosts {
                let draft = drafts.entry(host);
                let draft = draft.or_insert_with(|| Draft::new(origin(claim.object)));
                draft.ports.extend(server.ports());
                if draft.owners.insert(owner) {
                    draft.routes.extend(routes.iter().cloned());
                }
                if redirects {
                    draft.redirected.get_or_insert_with(|| server.written());
                }
            }
        }
        for host in server.spec.hosts.iter().filter(|_| redirects) {
            let draft = drafts.entry(host_of(host));
            let draft = draft.or_insert_with(|| Draft::new(server.written()));
            draft.ports.extend(server.ports());
            draft.redirected.get_or_insert_with(|| server.written());
        }
    }
}

impl Server<'_> {
    /// The ports by which callers may name a host: that of the server, and the one that is opened.
    pub(super) fn ports(&self) -> [u16; 2] {
        [self.port, self.opened]
    }

    fn written(&self) -> Origin {
        origin(self.object).at_line(place(self.spec).0.max(1))
    }
}

/// The names that a server and a claim have in common, the narrower of both where one is a pattern.
pub(in crate::source::istio::compile) fn shared(
    server: &GatewayServer,
    gateway: &Object,
    owner: &Object,
    claimed: &str,
) -> BTreeSet<String> {
    let own = &*gateway.meta.namespace;
    let hosts = server.hosts.iter().filter_map(|written| {
        let namespace = written
            .split_once('/')
            .map_or("*", |(namespace, _)| namespace);
        let namespace = if namespace == "." { own } else { namespace };
        if namespace != "*" && namespace != &*owner.meta.namespace {
            return None;
        }
        let host = host_of(written);
        if covers(&host, claimed) {
            return Some(claimed.to_owned());
        }
        covers(claimed, &host).then_some(host)
    });
    hosts.collect()
}

impl Draft {
    fn new(origin: Origin) -> Self {
        Self {
            routes: Vec::new(),
            owners: BTreeSet::new(),
            ports: BTreeSet::new(),
            redirected: None,
            origin,
        }
    }

    /// `None`: no rule is for requests.
    fn settled(self, host: &str) -> Option<VirtualHost> {
        let routes = match self.redirected {
            Some(origin) => vec![Arc::new(redirect(origin))],
            None => in_order(self.routes),
        };
        let port = self.ports.first().copied().unwrap_or_default();
        (!routes.is_empty()).then(|| VirtualHost {
            name: format!("{host}:{port}").into(),
            domains: domains(host, &self.ports),
            routes,
            origin: self.origin,
        })
    }
}

/// Several objects may each take every request in the end: the first of them does, behind all that
/// is more particular.
fn in_order(routes: Vec<Arc<Route>>) -> Vec<Arc<Route>> {
    let (last, mut all): (Vec<_>, Vec<_>) = routes
        .into_iter()
        .partition(|route| route.matcher.is_everything());
    all.extend(last.into_iter().next());
    all
}

/// A host with whatever port callers write behind it; behind a pattern, which cannot say so, with those
/// that are known.
fn domains(host: &str, ports: &BTreeSet<u16>) -> Vec<Domain> {
    let mut domains = vec![Domain::parse(host)];
    if host == "*" {
        return domains;
    }
    match host.starts_with('*') {
        true => domains.extend(
            ports
                .iter()
                .map(|port| Domain::parse(&format!("{host}:{port}"))),
        ),
        false => domains.push(Domain::Prefix(format!("{host}:").into())),
    }
    domains
}

fn redirect(origin: Origin) -> Route {
    Route {
        name: REDIRECT.into(),
        matcher: RouteMatcher::everything(),
        action: Action::Redirect(Redirect {
            status: StatusCode::MOVED_PERMANENTLY,
            scheme: Some(Scheme::HTTPS),
            host: None,
            port: RedirectPort::Unchanged,
            path: None,
        }),
        headers: HeaderChanges::default(),
        fault: None,
        filters: Vec::new(),
        limits: Vec::new(),
        stat_prefix: None,
        origin,
    }
}

/// The claims of one object, each once.
pub(super) fn owners<'c, 'a>(claims: &'c [Claim<'a>]) -> impl Iterator<Item = &'c Claim<'a>> {
    let mut last: Option<*const Object> = None;
    claims.iter().filter(move |claim| {
        let own = std::ptr::from_ref(claim.object);
        last.replace(own) != Some(own)
    })
}
