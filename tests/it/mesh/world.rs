//! Backends in memory, and configurations that lead to them.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use meshwork::model::affinity::Affinity;
use meshwork::model::balancing::Spread;
use meshwork::model::cluster::{Balancing, Cluster, Connection, Discovery, Protocol};
use meshwork::model::endpoint::{
    Address, Endpoint, Endpoints, Health, Locality, LocalityEndpoints,
};
use meshwork::model::limit::Limits;
use meshwork::model::matcher::RouteMatcher;
use meshwork::model::retry::{Backoff, RetryOn, RetryPolicy};
use meshwork::model::route::{
    Action, Destination, Destinations, Domain, Forward, HeaderChanges, OwnFault, Route,
    RouteConfiguration, VirtualHost,
};
use meshwork::model::security::Security;
use meshwork::model::upgrade::Upgrades;
use meshwork::model::{Origin, Percent, Resources};
use meshwork::source::Publisher;
use meshwork::transport::{Connect, Connecting, Io, Settings};
use meshwork::{Body, BoxError, ClusterStats, Mesh, Random};
use tokio::sync::mpsc;

/// Breaks the connection (HTTP/1.1) or resets the stream for this reason (HTTP/2).
#[derive(Debug, thiserror::Error)]
#[error("this backend breaks")]
pub(crate) struct Break(#[source] h2::Error);

impl Break {
    /// In the middle of things.
    pub(crate) fn reset() -> Self {
        Self(h2::Reason::INTERNAL_ERROR.into())
    }

    /// The stream was not looked at (HTTP/2 only).
    pub(crate) fn refused() -> Self {
        Self(h2::Reason::REFUSED_STREAM.into())
    }
}

/// A body whose frames a test sends; it breaks with an error.
pub(crate) struct Fed(mpsc::Receiver<Result<Frame<Bytes>, BoxError>>);

impl Fed {
    pub(crate) fn body() -> (mpsc::Sender<Result<Frame<Bytes>, BoxError>>, Body) {
        let (sender, frames) = mpsc::channel(4);
        (sender, Body::new(Self(frames)))
    }
}

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx)
    }
}

/// What a backend does with a request.
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;
type Answering = BoxFuture<'static, Result<Response<Body>, Break>>;

/// What is at a port.
#[derive(Clone)]
enum Place {
    Serving(Handler),
    /// Connecting to it never ends.
    Silent,
}

/// Backends by port; other ports refuse connections.
#[derive(Clone, Default)]
pub(crate) struct World {
    places: Arc<Mutex<HashMap<u16, Place>>>,
    dials: Arc<Mutex<HashMap<u16, usize>>>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl World {
    /// Serves a port with a function of the request that may fail.
    pub(crate) fn serve_or_break<F, A>(&self, port: u16, answer: F)
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Response<Body>, Break>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(answer(request)));
        let place = Place::Serving(handler);
        self.places.lock().unwrap().insert(port, place);
    }

    /// Serves a port with a function of the request.
    pub(crate) fn serve<F, A>(&self, port: u16, answer: F)
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        self.serve_or_break(port, move |request| {
            let answer = answer(request);
            async move { Ok(answer.await) }
        });
    }

    /// Serves a port with its number as the body.
    pub(crate) fn named(&self, port: u16) {
        self.serve(port, move |_| async move { text(port.to_string()) });
    }

    /// Serves a port with a status.
    pub(crate) fn status(&self, port: u16, status: u16) {
        self.serve(port, move |_| async move { answer(status) });
    }

    /// Serves a port with its number, after a while.
    pub(crate) fn slow(&self, port: u16, pause: Duration) {
        self.serve(port, move |_| async move {
            tokio::time::sleep(pause).await;
            text(port.to_string())
        });
    }

    /// Takes requests at a port and never answers.
    pub(crate) fn hung(&self, port: u16) {
        self.serve(port, |_| std::future::pending());
    }

    /// Breaks each request at a port before the answer.
    pub(crate) fn broken(&self, port: u16) {
        self.serve_or_break(port, |_| async { Err(Break::reset()) });
    }

    /// Lets connecting to a port hang from now on.
    pub(crate) fn silent(&self, port: u16) {
        self.places.lock().unwrap().insert(port, Place::Silent);
    }

    /// Lets connections to a port be refused from now on.
    pub(crate) fn remove(&self, port: u16) {
        self.places.lock().unwrap().remove(&port);
    }

    /// What is at a port at this moment also decides on connections that were made before.
    fn answer(&self, port: u16, request: Request<Incoming>) -> Answering {
        match self.places.lock().unwrap().get(&port) {
            Some(Place::Serving(handler)) => handler(request),
            Some(Place::Silent) => Box::pin(std::future::pending()),
            None => Box::pin(async { Err(Break::reset()) }),
        }
    }

    /// How often a port was dialled, refused ones included.
    pub(crate) fn dials(&self, port: u16) -> usize {
        self.dials.lock().unwrap().get(&port).copied().unwrap_or(0)
    }

    /// A mesh over this world, seeded.
    pub(crate) async fn mesh(&self, resources: Resources) -> (Mesh, Publisher) {
        let (publisher, feed) = meshwork::source::feed(resources);
        let mesh = Mesh::builder()
            .feed(feed)
            .connector(self.clone())
            .random(Random::seeded(7))
            .start()
            .await
            .unwrap();
        (mesh, publisher)
    }
}

impl Connect for World {
    fn connect(&self, address: &Address, _: &Settings) -> Connecting {
        let port = match address {
            Address::Socket(address) => address.port(),
            Address::Name { port, .. } => *port,
            other => panic!("{other} is not in this world"),
        };
        *self.dials.lock().unwrap().entry(port).or_default() += 1;
        match self.places.lock().unwrap().get(&port) {
            Some(Place::Serving(_)) => {}
            Some(Place::Silent) => return Box::pin(std::future::pending()),
            None => {
                let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
                return Box::pin(async move { Err(refused) });
            }
        }
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let places = self.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| places.answer(port, request));
            // Ends when the mesh lets go of the connection; its error is the mesh's to report.
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http2().enable_connect_protocol();
            let _ = server
                .serve_connection_with_upgrades(TokioIo::new(theirs), service)
                .await;
        });
        Box::pin(async move { Ok(Io::boxed(ours)) })
    }
}

pub(crate) fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Body::from(text.into()))
}

pub(crate) fn answer(status: u16) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// A configuration under construction.
#[derive(Clone, Default)]
pub(crate) struct Plan {
    pub(crate) resources: Resources,
    routes: Vec<Arc<VirtualHost>>,
}

impl Plan {
    /// Adds a virtual host for `host` on port 80.
    pub(crate) fn host(mut self, host: &str, routes: Vec<Route>) -> Self {
        self.routes.push(Arc::new(VirtualHost {
            name: format!("{host}:80").into(),
            domains: vec![Domain::parse(host), Domain::parse(&format!("{host}:80"))],
            routes: routes.into_iter().map(Arc::new).collect(),
            origin: Origin::built_in(),
        }));
        self
    }

    /// Adds a cluster with endpoints on these ports.
    pub(crate) fn cluster(mut self, cluster: Cluster, ports: &[u16]) -> Self {
        self.resources
            .insert_endpoints(endpoints(&cluster.name, ports));
        self.resources.insert_cluster(cluster);
        self
    }

    pub(crate) fn build(mut self) -> Resources {
        self.resources.insert_routes(RouteConfiguration {
            name: "80".into(),
            virtual_hosts: self.routes,
            origin: Origin::built_in(),
        });
        self.resources
    }
}

pub(crate) fn endpoints(name: &str, ports: &[u16]) -> Endpoints {
    let endpoint = |port: &u16| Endpoint {
        address: Address::Socket(([10, 0, 0, 1], *port).into()),
        weight: NonZeroU32::MIN,
        health: Health::Healthy,
        labels: Arc::default(),
        meshed: false,
        hostname: None,
    };
    Endpoints {
        name: name.into(),
        localities: vec![LocalityEndpoints {
            locality: Locality::default(),
            priority: 0,
            weight: None,
            endpoints: ports.iter().map(endpoint).collect(),
        }],
        overloads: Vec::new(),
        origin: Origin::built_in(),
    }
}

pub(crate) fn cluster(name: &str, protocol: Protocol) -> Cluster {
    Cluster {
        name: name.into(),
        discovery: Discovery::Endpoints(name.into()),
        balancing: Balancing::RoundRobin,
        spread: Spread::default(),
        panic_threshold: Percent::ZERO,
        connect_timeout: Duration::from_secs(10),
        protocol,
        security: Security::default(),
        connection: Connection::default(),
        limits: Limits::default(),
        outlier: None,
        health_check: None,
        load_metrics: Vec::new(),
        origin: Origin::built_in(),
    }
}

pub(crate) fn forward(destinations: Destinations) -> Forward {
    Forward {
        destinations,
        timeout: None,
        idle_timeout: None,
        retry: None,
        path_rewrite: None,
        authority_rewrite: None,
        endpoint_authority: false,
        mirrors: Vec::new(),
        affinity: Affinity::default(),
        upgrades: Upgrades::default(),
    }
}

pub(crate) fn route(name: &str, matcher: RouteMatcher, forward: Forward) -> Route {
    Route {
        name: name.into(),
        matcher,
        action: Action::Forward(Box::new(forward)),
        headers: HeaderChanges::default(),
        fault: None,
        filters: Vec::new(),
        limits: Vec::new(),
        stat_prefix: None,
        origin: Origin::built_in(),
    }
}

/// Everything to one cluster.
pub(crate) fn all_to(cluster: &str) -> Route {
    route(
        "all",
        RouteMatcher::everything(),
        forward(Destinations::single(cluster)),
    )
}

pub(crate) fn weighted(weights: &[(&str, u32)]) -> Destinations {
    let destinations = weights.iter().map(|(cluster, weight)| Destination {
        cluster: (*cluster).into(),
        weight: *weight,
        authority_rewrite: None,
        headers: HeaderChanges::default(),
        fault: OwnFault::AsRoute,
    });
    Destinations::weighted(destinations.collect()).unwrap()
}

pub(crate) fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::empty()).unwrap()
}

/// A route to one cluster whose terms the test changes.
pub(crate) fn to(cluster: &str, change: impl FnOnce(&mut Forward)) -> Route {
    let mut terms = forward(Destinations::single(cluster));
    change(&mut terms);
    route("all", RouteMatcher::everything(), terms)
}

/// A world of one cluster `c` behind host `catalog`, with these terms and endpoints.
pub(crate) fn one(cluster: Cluster, ports: &[u16], change: impl FnOnce(&mut Forward)) -> Resources {
    let route = to(&cluster.name.clone(), change);
    Plan::default()
        .cluster(cluster, ports)
        .host("catalog", vec![route])
        .build()
}

/// The retry policy of the article: three tries of two seconds.
pub(crate) fn retries(count: u32, per_try: Option<Duration>) -> RetryPolicy {
    RetryPolicy {
        on: RetryOn {
            server_error: true,
            reset: true,
            connect_failure: true,
            ..RetryOn::default()
        },
        retries: count,
        per_try_timeout: per_try,
        backoff: Backoff::default(),
        avoid_previous: true,
        hedge: None,
        leave_priorities: None,
    }
}

/// The counters of one cluster.
pub(crate) fn counted(mesh: &Mesh, cluster: &str) -> ClusterStats {
    let stats = mesh.stats();
    let found = stats.clusters.into_iter().find(|one| &*one.name == cluster);
    found.unwrap_or_else(|| panic!("no cluster {cluster}"))
}

/// Lets all that can run run, until nothing but timers are left; takes no time.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The status and the body of a call.
pub(crate) async fn call(
    mesh: &Mesh,
    request: Request<Body>,
) -> Result<(u16, String), meshwork::Error> {
    let response = mesh.client().request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8(body.to_vec()).unwrap()))
}
