//! Backends in memory, and configurations that lead to them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
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
use meshwork::model::route::{
    Action, Destination, Destinations, Domain, Forward, HeaderChanges, Route, RouteConfiguration,
    VirtualHost,
};
use meshwork::model::{Origin, Percent, Resources};
use meshwork::transport::{Connect, Connecting, Io, Settings};
use meshwork::{Body, Mesh, Random};

/// What a backend does with a request.
pub(crate) type Handler = Arc<
    dyn Fn(Request<Incoming>) -> futures_core::future::BoxFuture<'static, Response<Full<Bytes>>>
        + Send
        + Sync,
>;

/// Backends by port; other ports refuse connections.
#[derive(Clone, Default)]
pub(crate) struct World {
    backends: Arc<Mutex<HashMap<u16, Handler>>>,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl World {
    /// Serves a port with a function of the request.
    pub(crate) fn serve<F, A>(&self, port: u16, answer: F)
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(answer(request)));
        self.backends.lock().unwrap().insert(port, handler);
    }

    /// Serves a port with its number as the body.
    pub(crate) fn named(&self, port: u16) {
        self.serve(port, move |_| async move { text(port.to_string()) });
    }

    /// Serves a port with a status.
    pub(crate) fn status(&self, port: u16, status: u16) {
        self.serve(port, move |_| async move {
            let mut response = text("");
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        });
    }

    /// Lets connections to a port be refused from now on.
    pub(crate) fn remove(&self, port: u16) {
        self.backends.lock().unwrap().remove(&port);
    }

    /// A mesh over this world, seeded.
    pub(crate) async fn mesh(&self, resources: Resources) -> (Mesh, meshwork::source::Publisher) {
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
        let Some(handler) = self.backends.lock().unwrap().get(&port).cloned() else {
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            return Box::pin(async move { Err(refused) });
        };
        self.connections.fetch_add(1, Ordering::SeqCst);
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            // Ends when the mesh lets go of the connection; its error is the mesh's to report.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(theirs), service)
                .await;
        });
        Box::pin(async move { Ok(Io::boxed(ours)) })
    }
}

pub(crate) fn text(text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::new(Full::new(text.into()))
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
    };
    Endpoints {
        name: name.into(),
        localities: vec![LocalityEndpoints {
            locality: Locality::default(),
            priority: 0,
            weight: None,
            endpoints: ports.iter().map(endpoint).collect(),
        }],
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
        connection: Connection::default(),
        limits: Limits::default(),
        outlier: None,
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
        affinity: Affinity::default(),
    }
}

pub(crate) fn route(name: &str, matcher: RouteMatcher, forward: Forward) -> Route {
    Route {
        name: name.into(),
        matcher,
        action: Action::Forward(Box::new(forward)),
        headers: HeaderChanges::default(),
        fault: None,
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
    });
    Destinations::weighted(destinations.collect()).unwrap()
}

pub(crate) fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::empty()).unwrap()
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
