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
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::service::Routes;
use tower_service::Service as _;

use super::ca::{CREATE, Caller, Office};
use super::calls::{Call, Calls, Quiet};
use super::csds::{self, Asker};
use super::house::House;
use super::limits::Limits;
use super::services::Health;
use super::stream::{self, Method};
use crate::layer::held::HeldBody;
use crate::model::identity::SpiffeId;
use crate::model::security::MutualTls;
use crate::operator::begin;
use crate::tls::{Acceptor, Credentials, Unaccepted};

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
/// What is answered at once, and whatever else there is.
const CHECK: &str = "/grpc.health.v1.Health/Check";
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
        let places = house.limits.connections;
        Self {
            house,
            secured,
            office,
            routes,
            ends: watch::Sender::new(false),
            places: Arc::new(Semaphore::new(places)),
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
                    self.begin(stream, peer, place);
                }
                // No file descriptor, or a client that left again: both pass.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    /// Serves one connection, behind a handshake if that is demanded. A connection in plaintext has a task no
    /// larger than it must be.
    fn begin(&mut self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        // Without it, small answers wait for the client's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let answering = Answering {
            house: self.house.clone(),
            office: self.office.clone(),
            routes: self.routes.clone(),
            calls: Calls::default(),
            address: peer.ip(),
            principal: None,
        };
        let ends = self.ends.subscribe();
        match self.secured.clone() {
            None => self.connections.spawn(async move {
                speak(stream, answering, peer, ends).await;
                drop(place);
            }),
            Some(secured) => self.connections.spawn(async move {
                secure(&secured, stream, answering, (peer, ends)).await;
                drop(place);
            }),
        };
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

/// Serves a connection behind a handshake.
async fn secure(
    secured: &Secured,
    stream: TcpStream,
    answering: Answering,
    (peer, ends): (SocketAddr, watch::Receiver<bool>),
) {
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
        // Strangers fail as often as they like; who shows a certificate is somebody's client.
        Err(Unaccepted::Refused(refusal)) if refusal.is_of_certificate() => {
            tracing::info!(target: "meshwork::control", %peer, error = %refusal, "not accepted");
        }
        Err(error) => {
            tracing::debug!(target: "meshwork::control", %peer, %error, "not accepted");
        }
    }
}

/// Serves HTTP/2 on a connection until it ends, gracefully once the server does or nobody has called for
/// a while.
async fn speak<S>(
    stream: S,
    answering: Answering,
    peer: SocketAddr,
    mut ends: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = answering.house.limits;
    let mut ended = std::pin::pin!(async move { drop(ends.wait_for(|ends| *ends).await) });
    // HTTP/1.1 gets HTTP/2's answer, which is an error.
    let begun = tokio::select! {
        begun = begin(stream, limits.hello) => begun,
        () = &mut ended => return,
    };
    let stream = match begun {
        Ok((_, stream)) => stream,
        Err(error) => {
            return tracing::debug!(target: "meshwork::control", %peer, %error, "not begun");
        }
    };
    let mut calls = answering.calls.watch();
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
    let over = tokio::select! {
        over = &mut connection => over,
        () = &mut ended => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        quiet = calls.quiet(limits.idle) => match quiet {
            Quiet::Idle => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    over = &mut connection => over,
                    // Whoever does not answer to the farewell, and does not call either.
                    _ = calls.quiet(limits.drain) => Ok(()),
                }
            }
            // Who does not take an answer does not take a farewell.
            Quiet::Overdue => Ok(()),
        }
    };
    if let Err(error) = over {
        tracing::debug!(target: "meshwork::control", %peer, %error, "a connection failed");
    }
}

/// The answer, if the request has come and been answered in time: an answer of one message waits for the whole
/// request.
async fn in_time(
    time: Duration,
    answering: impl Future<Output = Response<Body>>,
) -> Response<Body> {
    let answered = tokio::time::timeout(time, answering).await;
    answered.unwrap_or_else(|_| {
        let text = format!("the request did not come, or was not answered, within {time:?}");
        tonic::Status::deadline_exceeded(text).into_http()
    })
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
    calls: Calls,
    address: IpAddr,
    /// Who is at the other end, if it is proven.
    principal: Option<SpiffeId>,
}

impl Answering {
    /// Answers one request. A discovery stream's answer begins at once and ends with the stream.
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let call = self.calls.begin();
        let path = request.uri().path();
        if let Some(office) = &self.office {
            if path == CREATE {
                let office = office.clone();
                // Apart, so that the other answers, which last, are small.
                return Ok(Box::pin(self.issue(office, request, call)).await);
            }
            if self.principal.is_none() && !path.starts_with(HEALTH) {
                return Ok(unknown().into_http());
            }
        }
        let Some(method) = Method::of(path) else {
            return Ok(Box::pin(self.beside(request, call)).await);
        };
        let replies = stream::start(&self.house, method, self.principal, request.into_body());
        let mut response = Response::new(Body::new(HeldBody::new(replies, call)));
        let grpc = HeaderValue::from_static("application/grpc");
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, grpc);
        Ok(response)
    }

    /// Answers a request for a certificate, which anybody may make.
    async fn issue(
        self,
        office: Arc<Office>,
        request: Request<Incoming>,
        mut call: Call,
    ) -> Response<Body> {
        let address = self.address;
        let seat = office
            .admit(address)
            .and_then(|()| self.house.certificate_seat());
        let seat = match seat {
            Ok(seat) => seat,
            Err(refused) => return refused.into_http(),
        };
        let caller = Caller {
            address,
            certificate: self.principal,
        };
        call.must_end_within(of_one_message(&self.house.limits));
        let answering = office.answer(request, caller);
        let response = in_time(self.house.limits.hello, answering).await;
        held(response, (call, seat))
    }

    /// Answers a request to another service than discovery.
    async fn beside(mut self, mut request: Request<Incoming>, mut call: Call) -> Response<Body> {
        let path = request.uri().path();
        // Who asks whether a server is alive and is turned away takes it for dead.
        let seat = match path {
            CHECK => Ok(None),
            health if health.starts_with(HEALTH) => self.house.watch_seat().map(Some),
            _ => self.house.side_seat().map(Some),
        };
        let place = match path.starts_with(csds::PATH) {
            true => self.house.status_call().map(Some),
            false => Ok(None),
        };
        let places = match (seat, place) {
            (Ok(seat), Ok(place)) => (seat, place),
            (Err(full), _) | (_, Err(full)) => return full.into_http(),
        };
        let limits = self.house.limits;
        if path == CHECK || places.1.is_some() {
            // It ends by itself before, if it is read.
            call.must_end_within(of_one_message(&limits));
        }
        let asker = Asker(self.principal.take());
        request.extensions_mut().insert(asker);
        let answering = async {
            let Ok(response) = self.routes.call(request).await;
            response
        };
        let response = in_time(limits.hello, answering).await;
        held(response, (call, places))
    }
}

/// How long a call lasts at most that does not last by itself: until its request has come, and its answer has
/// been taken.
fn of_one_message(limits: &Limits) -> Duration {
    limits.hello.saturating_add(limits.write)
}

/// An answer that holds something until its last byte has gone out.
fn held<H: Send + 'static>(response: Response<Body>, what: H) -> Response<Body> {
    response.map(|body| Body::new(HeldBody::new(body, what)))
}

#[cfg(test)]
mod tests;
