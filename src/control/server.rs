//! Connections, and which service a request on them is for.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::service::Routes;
use tower_service::Service as _;

use super::ca::{CREATE, Ca, Caller, Office};
use super::house::{House, Report};
use super::limits::Limits;
use super::services::{self, Health};
use super::store::Store;
use super::stream::{self, Method};
use crate::error::BoxError;
use crate::model::identity::SpiffeId;
use crate::model::security::MutualTls;
use crate::operator::Levels;
use crate::random::Random;
use crate::tls::{Acceptor, Clock, Credentials, Source};

/// A connection is asked for a sign of life this often.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// It is cut if none comes for so long.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams on one connection.
const STREAMS: u32 = 1_000;
/// What one stream may have written and not sent yet.
const SEND_BUFFER: usize = 64 << 10;
/// What everybody may ask for.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// How long to wait after a listener refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// An xDS server of one store.
///
/// [`serve`](super::serve) is the short way to one. Clones are handles on the same server.
///
/// ```no_run
/// use meshwork::control::{Limits, Server, Store};
///
/// # async fn example() -> std::io::Result<()> {
/// let server = Server::new(Store::new()).with_limits(Limits { streams: 1_000, ..Limits::default() });
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:15010").await?;
/// let left = server.serve(listener, std::future::pending()).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Server {
    house: Arc<House>,
    secured: Option<Arc<Secured>>,
    office: Option<Arc<Office>>,
    levels: Option<Arc<Levels>>,
}

/// What a port with TLS needs.
#[derive(Debug)]
struct Secured {
    acceptor: Acceptor,
    credentials: Credentials,
    _renewing: JoinSet<()>,
}

impl Server {
    /// A server with the default limits.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let random = Random::from_entropy();
        Self {
            house: House::new(store, Limits::default(), random),
            secured: None,
            office: None,
            levels: None,
        }
    }

    /// The same with other limits, before it serves.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        let random = Random::from_entropy();
        Self {
            house: House::new(self.house.store.clone(), limits, random),
            ..self
        }
    }

    /// The same with mutual TLS on its port: clients must present a certificate that is believed,
    /// and get the view of its identity; a node message that says otherwise ends its stream with
    /// `PERMISSION_DENIED`. Without it the port is plaintext.
    ///
    /// Files are looked at as long as the server lives; it must be called in a Tokio runtime.
    #[must_use]
    pub fn with_mutual_tls(self, source: impl Into<Source>) -> Self {
        let (credentials, upkeep) = source
            .into()
            .start(Clock::system(), &Random::from_entropy());
        let mut renewing = JoinSet::new();
        if let Some(upkeep) = upkeep {
            renewing.spawn(upkeep);
        }
        Self {
            secured: Some(Arc::new(Secured {
                acceptor: Acceptor::new(credentials.clone(), Clock::system()),
                credentials,
                _renewing: renewing,
            })),
            ..self
        }
    }

    /// The same with an authority beside it, whose certificate its port shows. Clients need none of
    /// their own to ask for one, and for nothing else; see [`Ca`].
    ///
    /// Its file is looked at as long as the server lives; it must be called in a Tokio runtime.
    ///
    /// # Errors
    /// If the authority cannot sign the server's own certificate.
    pub fn with_ca(self, ca: Ca) -> Result<Self, crate::tls::Unusable> {
        let clock = ca.clock();
        let (office, keeper) = ca.open()?;
        let credentials = keeper.credentials();
        let acceptor = Acceptor::new(credentials.clone(), clock).with_anonymous();
        let mut renewing = JoinSet::new();
        renewing.spawn(keeper.run());
        Ok(Self {
            secured: Some(Arc::new(Secured {
                acceptor,
                credentials,
                _renewing: renewing,
            })),
            office: Some(office),
            ..self
        })
    }

    /// The same with a way to change the program's levels of events at [`admin`](Self::admin), as
    /// [`Builder::log_levels`](crate::Builder::log_levels) has it.
    #[must_use]
    pub fn with_log_levels<F>(self, set: F) -> Self
    where
        F: Fn(&str) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        let levels = Some(Arc::new(Levels::new(Box::new(set))));
        Self { levels, ..self }
    }

    /// What it serves.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.house.store
    }

    /// What it has done so far.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::of(&self.house)
    }

    /// Who is there: the node and scope of every stream, in the order in which they came.
    #[must_use]
    pub fn clients(&self) -> Vec<super::Connected> {
        let clients = self.house.clients();
        clients
            .iter()
            .map(|client| super::Connected::of(client))
            .collect()
    }

    /// What clients reported of their requests, by cluster and locality (`region/zone/sub-zone`,
    /// empty for what was dropped before one was chosen).
    #[must_use]
    pub fn loads(&self) -> std::collections::BTreeMap<(String, String), super::Load> {
        self.house.loads.all()
    }

    /// Answers questions about the server over plain HTTP: a status page at `/`, `/status.json`,
    /// `/ready`, `/stats`, `/stats/prometheus`, `/clients`, `/clusters`, `/config_dump`, `/certs`,
    /// `/rejected`, `/logging`; and over gRPC client status (CSDS) and health. It has no authentication,
    /// so it belongs on a loopback address.
    ///
    /// It never ends; dropping the future closes its connections.
    pub async fn admin(&self, listener: TcpListener) {
        let secured = self.secured.as_ref();
        let credentials = secured.map(|secured| secured.credentials.clone());
        let desk = super::admin::Desk {
            house: self.house.clone(),
            office: self.office.clone(),
            credentials,
            levels: self.levels.clone(),
        };
        super::admin::serve(listener, desk).await;
    }

    /// Serves on `listener` until `shutdown` ends, then drains: health says so, streams end one by
    /// one with `UNAVAILABLE`, and what has not ended within [`Limits::drain`] is cut. Yields how
    /// many connections were cut.
    ///
    /// Every connection is a task of this future; dropping it cuts them all, without a drain.
    ///
    /// # Errors
    /// The listener has no address.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> std::io::Result<usize> {
        let address = listener.local_addr()?;
        let (health, routes) = services::all(&self.house);
        let mut door = Door {
            house: self.house.clone(),
            secured: self.secured.clone(),
            office: self.office.clone(),
            routes,
            ends: watch::Sender::new(false),
            places: Arc::new(Semaphore::new(
                self.house
                    .limits
                    .connections
                    .clamp(1, Semaphore::MAX_PERMITS),
            )),
            connections: JoinSet::new(),
        };
        tracing::info!(target: "meshwork::control", %address, "serving xDS");
        tokio::select! {
            () = shutdown => {}
            never = door.accept(&listener) => match never {},
        }
        drop(listener);
        Ok(door.drain(health).await)
    }
}

/// The connections of one listener.
struct Door {
    house: Arc<House>,
    secured: Option<Arc<Secured>>,
    office: Option<Arc<Office>>,
    routes: Routes,
    ends: watch::Sender<bool>,
    places: Arc<Semaphore>,
    connections: JoinSet<()>,
}

impl Door {
    /// Accepts for ever.
    async fn accept(&mut self, listener: &TcpListener) -> Infallible {
        loop {
            let place = self.places.clone().acquire_owned();
            let place = place.await.expect("nobody closes the semaphore");
            match listener.accept().await {
                Ok((stream, peer)) => {
                    while self.connections.try_join_next().is_some() {}
                    let connection = self.connection(stream, peer);
                    self.connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                // No file descriptor, or a client that left again: both pass.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    /// Serves one connection, behind a handshake if that is demanded.
    fn connection(&self, stream: TcpStream, peer: SocketAddr) -> impl Future<Output = ()> + use<> {
        // Without it, small answers wait for the client's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let answering = Answering {
            house: self.house.clone(),
            office: self.office.clone(),
            routes: self.routes.clone(),
            address: peer.ip(),
            principal: None,
        };
        let (secured, ends) = (self.secured.clone(), self.ends.subscribe());
        async move {
            let Some(secured) = secured else {
                return speak(stream, answering, peer, ends).await;
            };
            match secured.acceptor.accept(stream, MutualTls::Strict).await {
                Ok(stream) => {
                    let principal = stream.known().principal.clone();
                    let answering = Answering {
                        principal,
                        ..answering
                    };
                    speak(stream, answering, peer, ends).await;
                }
                Err(error) => {
                    tracing::info!(target: "meshwork::control", %peer, %error, "not accepted");
                }
            }
        }
    }

    async fn drain(mut self, health: Health) -> usize {
        health.ends().await;
        self.house.begin_drain();
        self.ends.send_replace(true);
        let all = async { while self.connections.join_next().await.is_some() {} };
        let cut = match tokio::time::timeout(self.house.limits.drain, all).await {
            Ok(()) => 0,
            Err(_) => self.connections.len(),
        };
        self.house.end();
        self.connections.shutdown().await;
        cut
    }
}

/// Serves HTTP/2 on a connection until it ends, gracefully once the server does.
async fn speak<S>(
    stream: S,
    answering: Answering,
    peer: SocketAddr,
    mut ends: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(move |request| answering.clone().answer(request));
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(SEND_BUFFER);
    let connection = builder.serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = async { drop(ends.wait_for(|ends| *ends).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(target: "meshwork::control", %peer, %error, "a connection failed");
    }
}

/// The answer to who has no certificate where one can be had.
fn unknown() -> tonic::Status {
    tonic::Status::permission_denied(
        "a certificate must be presented here; CreateCertificate issues one",
    )
}

/// What answers the requests of one connection.
#[derive(Clone)]
struct Answering {
    house: Arc<House>,
    office: Option<Arc<Office>>,
    routes: Routes,
    address: IpAddr,
    /// Who is at the other end, if it is proven.
    principal: Option<SpiffeId>,
}

impl Answering {
    /// Answers one request. A discovery stream's answer begins at once and ends with the stream.
    async fn answer(mut self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let path = request.uri().path();
        if let Some(office) = &self.office {
            if path == CREATE {
                let caller = Caller {
                    address: self.address,
                    certificate: self.principal,
                };
                return Ok(office.answer(request, caller).await);
            }
            if self.principal.is_none() && !path.starts_with(HEALTH) {
                return Ok(unknown().into_http());
            }
        }
        let Some(method) = Method::of(path) else {
            return self.routes.call(request).await;
        };
        let replies = stream::start(&self.house, method, self.principal, request.into_body());
        let mut response = Response::new(Body::new(replies));
        let grpc = HeaderValue::from_static("application/grpc");
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, grpc);
        Ok(response)
    }
}
