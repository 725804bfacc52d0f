//! A port on which callers must say who they are, as far as the policy asks it of them.
//!
//! [`Listener::serve`] owns its connections from the first byte to the last, and does not hand them
//! to a framework's own server, because a policy is about connections: what is asked of callers is
//! decided before a request exists, who they are must reach the handler by a way that no header can
//! imitate, and when the policy changes, connections that it does not allow any more have to be told
//! so in their own language (GOAWAY, `connection: close`) while others go on.
//!
//! What a policy is at the moment is looked up for each accepted connection and for each request. A
//! plaintext connection that was accepted under PERMISSIVE is drained when STRICT comes, and a request
//! that still arrives on it is refused; a mutual TLS connection under DISABLE is drained, and its
//! requests are served until then, since nothing about them is less safe.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body as HttpBody;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower_service::Service;

use super::connection::{self, Connection};
use super::load::Load;
use super::peer::Peer;
use super::served::{Fate, Way, fate};
use super::serving::{Serving, State, Told};
use crate::body::Body;
use crate::error::BoxError;
use crate::layer::limit::{Overloaded, Permit};
use crate::model::capacity::Capacity;
use crate::model::security::MutualTls;
use crate::outbound::Owner;
use crate::snapshot::{Held, Snapshot};
use crate::tls::{Acceptor, Clock, Credentials, Handshaken, Unaccepted};

/// How many connections a listener holds at once, unless told otherwise.
const MAX_CONNECTIONS: usize = 10_000;
/// How long accepting pauses when the system cannot give another connection (EMFILE, ENOMEM).
const PAUSE: Duration = Duration::from_millis(50);
/// How long a caller may take to begin, and for the head of a request of HTTP/1.1.
const HEAD: Duration = Duration::from_secs(60);
/// The longest that the head of a request may take: ten years, which is never. hyper adds it to the
/// time without a check.
const LONGEST_HEAD: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// How long connections may take for their last requests (Istio's `drainDuration`).
const DRAIN: Duration = Duration::from_secs(45);

/// A port of a mesh; made by [`Mesh::listen`](crate::Mesh::listen).
///
/// It listens from the moment it is made, and serves when [`serve`](Self::serve) is awaited.
///
/// ```no_run
/// # async fn example(mesh: meshwork::Mesh) -> std::io::Result<()> {
/// use axum::{Extension, Router, routing::get};
/// use meshwork::inbound::Peer;
///
/// let app: Router = Router::new()
///     .route("/", get(|Extension(peer): Extension<Peer>| async move {
///         match peer.principal {
///             Some(principal) => format!("hello {principal}"),
///             None => "hello stranger".to_owned(),
///         }
///     }))
///     .layer(mesh.inbound_layer());
/// mesh.listen("0.0.0.0:8080").await?.serve(app).await;
/// # Ok(()) }
/// ```
///
/// It stands in place of `axum::serve`, which would not know who calls. What asks for axum's own `ConnectInfo`
/// is given it by a layer:
///
/// ```
/// use axum::extract::{ConnectInfo, Request};
/// use axum::middleware::map_request;
/// use meshwork::inbound::Peer;
///
/// let app: axum::Router = axum::Router::new();
/// let app = app.layer(map_request(async |mut request: Request| {
///     let peer = request.extensions().get::<Peer>();
///     if let Some(remote) = peer.and_then(|peer| peer.remote) {
///         request.extensions_mut().insert(ConnectInfo(remote));
///     }
///     request
/// }));
/// ```
///
/// A `hyper::service::Service` is served as a tower service that is always ready: `tower::service_fn(move |request|
/// service.call(request))`.
///
/// A request that [switches](crate::transport::upgrade) its connection (WebSocket) does so over HTTP/1.1, without a body, with `Connection:
/// upgrade` and a protocol in `Upgrade` that is not `h2c`, by `hyper::upgrade::on` in the handler as axum's `ws` does it, or by a
/// [channel](crate::Channel) that is the handler. It goes on to count for the drain and against what the port takes, and is cut by
/// a policy that denies it, whatever is done to the response on the way; a layer that makes the *request* anew has to keep its
/// extensions. It may be idle for as long as it likes. No other request gets its connection: not over HTTP/2, and not by
/// CONNECT; a handler that answers such a one with 101, or CONNECT with a 2xx, is answered for with 502. When the
/// connection is about to end (a shutdown, a policy that does not allow it) a switch is answered with 503.
///
/// tonic's services are served in the same way: `Routes::new(service).prepare()` is such an `app`. Its handlers
/// find the [`Peer`] in `request.extensions()`; there is no need of tonic's `Connected`.
pub struct Listener {
    tcp: TcpListener,
    port: Arc<Port>,
    connections: Arc<Semaphore>,
}

/// What the connections of one port share.
pub(super) struct Port {
    pub(super) owner: Arc<dyn Owner>,
    acceptor: Acceptor,
    pub(super) credentials: Credentials,
    pub(super) clock: Clock,
    pub(super) local: SocketAddr,
    pub(super) drain: Duration,
    /// How long a caller may take to say which HTTP it speaks, and for a head of HTTP/1.1.
    pub(super) head: Duration,
    /// The listener that a control plane is asked for, if one is.
    pub(super) asked: Option<Held>,
    /// Whom the program wants told whether it serves.
    pub(super) told: Option<Told>,
    /// What is under way here, and how much may be.
    pub(super) load: Load,
}

impl Port {
    /// What is asked of callers of this port at this moment.
    pub(super) fn policy(&self) -> MutualTls {
        self.now(|snapshot| snapshot.peers.on(self.local.port()))
    }

    /// Asks the configuration of this moment.
    fn now<R>(&self, ask: impl FnOnce(&Snapshot) -> R) -> R {
        ask(&self.owner.core().live.load())
    }

    fn capacity(&self) -> Capacity {
        self.now(|snapshot| snapshot.capacities.on(self.local.port()))
    }

    /// Takes up a connection, unless the configuration of this moment has no room for it.
    fn connect(&self) -> Result<Permit, Overloaded> {
        self.load.connection(self.capacity())
    }

    /// Takes up a request in the same way.
    pub(super) fn request(&self) -> Result<Option<Permit>, Overloaded> {
        let permit = self.load.request(self.capacity());
        permit.inspect_err(|_| self.owner.core().inbound.overloaded())
    }
}

impl Port {
    /// What a connection is accepted by: what its chain says, or else the mesh's own.
    fn terms(&self, way: Option<&Way>) -> (Credentials, Acceptor, MutualTls) {
        match way.map(|way| &way.chain.tls) {
            None => (
                self.credentials.clone(),
                self.acceptor.clone(),
                self.policy(),
            ),
            // Without certificates of its own it is in plaintext, and neither of these is asked.
            Some(None) => (
                self.credentials.clone(),
                self.acceptor.clone(),
                MutualTls::Disable,
            ),
            Some(Some(tls)) => (
                tls.own.clone(),
                tls.acceptor.clone().with_deadline(self.acceptor.deadline()),
                MutualTls::Strict,
            ),
        }
    }
}

impl Listener {
    /// Listens at `address`.
    pub(crate) async fn bind(
        address: impl tokio::net::ToSocketAddrs,
        owner: Arc<dyn Owner>,
    ) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let local = tcp.local_addr()?;
        let materials = &owner.core().environment.materials;
        let (clock, own) = (materials.clock(), materials.mesh().cloned());
        let credentials = own.unwrap_or_default();
        let acceptor = Acceptor::new(credentials.clone(), clock);
        let demand = owner.core().environment.demand.as_ref();
        let asked = demand.and_then(|demand| demand.serve(local));
        let port = Port {
            asked,
            told: None,
            load: Load::default(),
            acceptor,
            credentials,
            clock,
            local,
            drain: DRAIN,
            head: HEAD,
            owner,
        };
        tracing::info!(%local, mode = port.policy().as_str(), "listening");
        Ok(Self {
            tcp,
            port: Arc::new(port),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        })
    }

    /// Sets how many connections are held at once; the default is 10,000. Those above it are closed
    /// as soon as they are accepted, so that callers learn of it at once. So are those above what the
    /// configuration says ([`Capacity::connections`](crate::model::capacity::Capacity)).
    #[must_use]
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        let most = connections.min(Semaphore::MAX_PERMITS);
        self.connections = Arc::new(Semaphore::new(most));
        self
    }

    /// Sets how long a caller may take until it is known who it is; the default is 5 s.
    #[must_use]
    pub fn with_handshake_deadline(self, deadline: Duration) -> Self {
        self.with(|port| port.acceptor = port.acceptor.clone().with_deadline(deadline))
    }

    /// Sets how long a caller may take, once it is known who it is, until it is certain which version of
    /// HTTP it speaks, and for the head of each request of HTTP/1.1, the pause before it included; the
    /// default is 60 s (Envoy's `request_headers_timeout`, which it leaves off). Who takes longer is closed, so
    /// that a caller which says nothing does not hold a place among the
    /// [connections](Self::with_max_connections). HTTP/2 finds out by PINGs who is gone.
    /// Each of the two has so much time; zero closes everybody, and more than ten years are ten years.
    #[must_use]
    pub fn with_head_deadline(self, deadline: Duration) -> Self {
        self.with(|port| port.head = deadline.min(LONGEST_HEAD))
    }

    /// Sets how long connections may take for their last requests when the mesh ends or the policy
    /// does not allow them any more; the default is 45 s. They are cut then.
    #[must_use]
    pub fn with_drain(self, drain: Duration) -> Self {
        self.with(|port| port.drain = drain)
    }

    /// Calls `told` with how the port stands, when [`serve`](Self::serve) begins and whenever that
    /// changes, where a control plane configures the port (gRFC A36); otherwise never.
    ///
    /// It is called between two connections, and no other is accepted until it returns.
    ///
    /// ```no_run
    /// # async fn example(mesh: meshwork::Mesh) -> std::io::Result<()> {
    /// let listener = mesh.listen("0.0.0.0:8080").await?;
    /// let listener = listener.on_serving(|serving| eprintln!("port 8080 is {serving}"));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn on_serving(self, told: impl Fn(&Serving) + Send + Sync + 'static) -> Self {
        self.with(|port| port.told = Some(Arc::new(told)))
    }

    fn with(mut self, change: impl FnOnce(&mut Port)) -> Self {
        // Nobody shares the port before it serves.
        if let Some(port) = Arc::get_mut(&mut self.port) {
            change(port);
        }
        self
    }

    /// The address that it listens at, with the port that the system chose for port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.port.local
    }

    /// Serves requests until the mesh [shuts down](crate::Mesh::shutdown), then lets the connections
    /// finish what they are at. HTTP/1.1 and HTTP/2 (also without TLS, by prior knowledge) are told
    /// apart by their first bytes. Each request has the [`Peer`] among its extensions.
    ///
    /// Dropping the future cuts all connections.
    pub async fn serve<S, B>(self, service: S)
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: HttpBody<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Self {
            tcp,
            port,
            connections,
        } = self;
        let drain = port.owner.core().drain.clone();
        let mut tasks = JoinSet::new();
        let mut state = State::new(port.clone());
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.begun() => break,
                Some(_) = tasks.join_next() => continue,
                never = state.follow() => match never {},
                accepted = tcp.accept() => accepted,
            };
            match accepted {
                Ok((stream, remote)) => {
                    let own = connections.clone().try_acquire_owned().ok();
                    let Some(permits) = own.and_then(|own| Some((own, port.connect().ok()?)))
                    else {
                        tracing::warn!(%remote, "closed: the listener has as many connections as it may");
                        continue;
                    };
                    let serving = one(port.clone(), stream, remote, service.clone());
                    tasks.spawn(async move {
                        serving.await;
                        drop(permits);
                    });
                }
                Err(error) => {
                    // The next one is refused for the same reason until somebody lets go.
                    tracing::warn!("cannot accept: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        drop(tcp);
        while tasks.join_next().await.is_some() {}
    }
}

/// One connection, from its first byte to its last.
async fn one<S, B>(port: Arc<Port>, stream: TcpStream, remote: SocketAddr, service: S)
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    // Answers are written whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().ok();
    let here = local.unwrap_or(port.local);
    let way = match fate(port.owner.core(), port.asked.as_ref(), here, remote) {
        Fate::Chain(way) => Some(way),
        Fate::Closed(why) => {
            tracing::info!(%remote, %here, "connection closed, not serving: {why}");
            return;
        }
        Fate::Own => None,
    };
    let (credentials, acceptor, mode) = port.terms(way.as_ref());
    // Taken down before the handshake: what changes during it makes the connection an old one.
    let generation = credentials.generation();
    let accepted = match acceptor.accept(stream, mode).await {
        Ok(accepted) => accepted,
        Err(why) => {
            refused(&why, remote);
            return;
        }
    };
    let known = accepted.known().clone();
    let connection = Connection {
        expires: known.not_after,
        generation,
        leaving: Arc::default(),
        begun: Arc::default(),
        credentials,
        way,
        peer: peer(known, remote, local),
        port,
    };
    connection::serve(accepted, connection, service).await;
}

/// Tells why a connection was refused: at `info` who showed a certificate that is not believed, which is what an
/// operator looks for. Anybody can connect and say something else, as often as they like: that is at `debug`.
fn refused(why: &Unaccepted, remote: SocketAddr) {
    let reason = why.reason();
    let cause = std::error::Error::source(why).map(ToString::to_string);
    match why {
        Unaccepted::Refused(refusal) if refusal.is_of_certificate() => {
            tracing::info!(%remote, reason, cause, "connection refused: {why}");
        }
        Unaccepted::Elapsed(_)
        | Unaccepted::Io(_)
        | Unaccepted::Plaintext
        | Unaccepted::Refused(_)
        | Unaccepted::Tls => {
            tracing::debug!(%remote, reason, cause, "connection refused: {why}");
        }
    }
}

fn peer(known: Handshaken, remote: SocketAddr, local: Option<SocketAddr>) -> Peer {
    let certified = known.is_certified();
    let Handshaken {
        tls,
        principal,
        uris,
        dns,
        subject,
        serial,
        alpn,
        sni,
        ..
    } = known;
    Peer {
        remote: Some(remote),
        local,
        principal,
        certificate: certified.then(|| {
            Arc::new(super::CertificateNames {
                uris,
                dns,
                subject,
                serial,
            })
        }),
        alpn,
        sni,
        tls,
    }
}

/// The answer of a service, once it takes a request.
pub(super) async fn answer<S, B>(
    mut service: S,
    request: Request<Body>,
) -> Result<Response<Body>, BoxError>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    poll_fn(|cx| service.poll_ready(cx))
        .await
        .map_err(Into::into)?;
    let response = service.call(request).await.map_err(Into::into)?;
    Ok(response.map(Body::new))
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("local", &self.port.local)
            .field("mode", &self.port.policy())
            .finish_non_exhaustive()
    }
}
