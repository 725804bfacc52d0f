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

use super::ca::{CREATE, Caller, Office};
use super::house::House;
use super::services::Health;
use super::stream::{self, Method};
use crate::model::identity::SpiffeId;
use crate::model::security::MutualTls;
use crate::tls::{Acceptor, Credentials};

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

/// What a port with TLS needs.
#[derive(Debug)]
pub(super) struct Secured {
    acceptor: Acceptor,
    pub(super) credentials: Credentials,
    _renewing: JoinSet<()>,
}

impl Secured {
    /// `renewing` are the tasks that keep the credentials fresh.
    pub(super) fn new(acceptor: Acceptor, credentials: Credentials, renewing: JoinSet<()>) -> Self {
        Self {
            acceptor,
            credentials,
            _renewing: renewing,
        }
    }
}

/// The connections of one listener.
pub(super) struct Door {
    house: Arc<House>,
    secured: Option<Arc<Secured>>,
    office: Option<Arc<Office>>,
    routes: Routes,
    ends: watch::Sender<bool>,
    places: Arc<Semaphore>,
    connections: JoinSet<()>,
}

impl Door {
    pub(super) fn new(
        house: Arc<House>,
        secured: Option<Arc<Secured>>,
        office: Option<Arc<Office>>,
        routes: Routes,
    ) -> Self {
        let most = house.limits.connections.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            house,
            secured,
            office,
            routes,
            ends: watch::Sender::new(false),
            places: Arc::new(Semaphore::new(most)),
            connections: JoinSet::new(),
        }
    }

    /// Accepts for ever.
    pub(super) async fn accept(&mut self, listener: &TcpListener) -> Infallible {
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
                // Apart, as below: a connection in plaintext is no larger than it must be.
                return Box::pin(speak(stream, answering, peer, ends)).await;
            };
            let accepting = Box::pin(secured.acceptor.accept(stream, MutualTls::Strict));
            match accepting.await {
                Ok(stream) => {
                    let principal = stream.known().principal.clone();
                    let answering = Answering {
                        principal,
                        ..answering
                    };
                    Box::pin(speak(stream, answering, peer, ends)).await;
                }
                Err(error) => {
                    tracing::info!(target: "meshwork::control", %peer, %error, "not accepted");
                }
            }
        }
    }

    pub(super) async fn drain(mut self, health: Health) -> usize {
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
                // Apart, so that the other answers, which last, are small.
                return Ok(Box::pin(office.answer(request, caller)).await);
            }
            if self.principal.is_none() && !path.starts_with(HEALTH) {
                return Ok(unknown().into_http());
            }
        }
        let Some(method) = Method::of(path) else {
            return Box::pin(self.routes.call(request)).await;
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
