//! An accepted connection: HTTP over it, and the end of it. What becomes of its requests is in
//! [`threshold`](super::threshold), what it may switch to in [`switch`](super::switch).

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tower_service::Service;

use super::listener::Port;
use super::peer::Peer;
use super::served::Way;
use super::switch::{Cuttable, Slot, lock};
use super::threshold::Threshold;
use crate::body::Body;
use crate::error::BoxError;
use crate::model::security::MutualTls;
use crate::operator::{Version, begin};
use crate::tls::Credentials;

/// How many requests a connection carries at once; callers open a further one above it.
const STREAMS: u32 = 1_024;
/// The longest header list, as Envoy's 60 KiB and a little.
const HEADER_LIST: u32 = 64 << 10;
/// PINGs that find out whether the caller is still there.
const PING: Duration = Duration::from_secs(10);
/// How long its answer may take.
const PONG: Duration = Duration::from_secs(5);
/// How long a connection that is to end waits for the request that it was made for: a caller that has
/// just connected would take a connection that ends without a word for one that failed.
const GREETING: Duration = Duration::from_secs(1);

/// What is known of a connection.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) port: Arc<Port>,
    pub(super) peer: Peer,
    /// When the peer's certificate expires, as time since 1970: it must show the next one then.
    pub(super) expires: Option<Duration>,
    /// What it was encrypted with, if it was.
    pub(super) credentials: Credentials,
    /// The chain that it belongs to, where a control plane configures the port.
    pub(super) way: Option<Way>,
    /// The generation of the credentials that it was made with.
    pub(super) generation: u64,
    /// Whether an HTTP/1.1 connection is to be closed behind its next response.
    pub(super) leaving: Arc<AtomicBool>,
    pub(super) begun: Arc<Begun>,
}

/// Whether a connection has had a request.
#[derive(Debug, Default)]
pub(super) struct Begun {
    has: AtomicBool,
    told: Notify,
}

impl Begun {
    pub(super) fn tell(&self) {
        if !self.has.load(Relaxed) && !self.has.swap(true, Relaxed) {
            self.told.notify_waiters();
        }
    }

    /// Ready when it has. Cancel-safe.
    async fn met(&self) {
        // Made first: it hears of what is told from here on.
        let told = self.told.notified();
        if !self.has.load(Relaxed) {
            told.await;
        }
    }
}

/// Whether the policy of this moment goes with a connection that was accepted under another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    Good,
    /// It is drained, and what it asks meanwhile is refused.
    Refused,
    /// It is drained, and what it asks meanwhile is served.
    Unwanted,
}

impl Connection {
    pub(super) fn standing(&self) -> Standing {
        if let Some(way) = &self.way {
            return match way.holds(self.port.owner.core()) {
                true => Standing::Good,
                false => Standing::Unwanted,
            };
        }
        match (self.port.policy(), self.peer.tls) {
            (MutualTls::Strict, false) => Standing::Refused,
            (MutualTls::Disable, true) => Standing::Unwanted,
            (MutualTls::Disable | MutualTls::Permissive | MutualTls::Strict, _) => Standing::Good,
        }
    }

    /// Ready when the connection should be replaced, since identity or trust have changed: it is as
    /// good as before, but what it shows is old.
    ///
    /// HTTP/2 says so in its own words, and no request is lost by it. An idle HTTP/1.1 connection
    /// cannot be closed without a race against the next request, so it is told to close with the next
    /// response.
    async fn outdated(&self) {
        if !self.peer.tls {
            std::future::pending::<()>().await;
        }
        self.credentials.changed(self.generation).await;
        if self.peer.alpn.as_deref() != Some("h2") {
            self.leaving.store(true, Relaxed);
            std::future::pending::<()>().await;
        }
    }

    /// Ready when it should, and has not begun for a while.
    async fn left(&self) {
        self.ended().await;
        tokio::time::sleep(GREETING).await;
    }

    /// Ready when it should have come to its end, and has not within the drain time. Cancel-safe.
    pub(super) async fn outstayed(&self) {
        self.ended().await;
        tokio::time::sleep(self.port.drain).await;
    }

    /// Whether the connection should come to its end, at this moment.
    pub(super) fn is_ending(&self) -> bool {
        self.port.owner.core().drain.is_draining()
            || self.standing() != Standing::Good
            || self.left_to_expiry() == Some(Duration::ZERO)
    }

    /// For how long the certificate of the peer is still believed; `None` without one.
    fn left_to_expiry(&self) -> Option<Duration> {
        let clock = self.port.clock;
        let until = self.expires?.saturating_add(clock.skew());
        Some(until.saturating_sub(clock.now()))
    }

    /// Ready when the connection should come to its end: the mesh drains, the policy has changed, or
    /// the certificate of the peer has expired.
    async fn ended(&self) {
        let core = self.port.owner.core();
        let mut changes = core.generation.subscribe();
        let expiry = async {
            match self.left_to_expiry() {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        let policy = async {
            while self.standing() == Standing::Good {
                // Cannot fail: the core holds the sender.
                let _ = changes.changed().await;
            }
        };
        tokio::select! {
            () = core.drain.begun() => {}
            () = expiry => {}
            () = policy => {}
            () = self.outdated() => {}
        }
    }
}

/// Serves a connection until it ends, or has been asked to and has finished its requests.
pub(super) async fn serve<I, S, B>(io: I, connection: Connection, service: S)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (io, line) = Cuttable::new(io);
    let switched = Slot::default();
    let threshold = Threshold {
        connection: connection.clone(),
        service,
        switched: switched.clone(),
        arming: line.arming(),
    };
    converse(io, &connection, threshold).await;
    let switched = lock(&switched).take();
    match switched {
        Some(switched) => switched.stay(line, &connection).await,
        // Whoever asked for the connection and did not switch it may have been given it by now.
        None => line.cut(),
    }
}

/// Speaks HTTP until the connection has ended or switched.
async fn converse<I, S, B>(io: I, connection: &Connection, threshold: Threshold<S>)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let head = connection.port.head;
    let begun = tokio::select! {
        biased;
        begun = begin(io, head) => begun,
        () = connection.left() => return,
    };
    let (version, io) = match begun {
        Ok(begun) => begun,
        Err(error) => return told(Err(error.into()), &connection.peer),
    };
    let (_end, ended) = watch::channel(());
    let builder = auto::Builder::new(Tasks(ended));
    let mut builder = match version {
        Version::Http1 => builder.http1_only(),
        Version::Http2 => builder.http2_only(),
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    let mut http = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), threshold));
    tokio::select! {
        biased;
        outcome = http.as_mut() => return told(outcome, &connection.peer),
        () = connection.ended() => {}
    }
    tokio::select! {
        biased;
        outcome = http.as_mut() => return told(outcome, &connection.peer),
        () = connection.begun.met() => {}
        () = tokio::time::sleep(GREETING) => {}
    }
    http.as_mut().graceful_shutdown();
    match tokio::time::timeout(connection.port.drain, http).await {
        Ok(outcome) => told(outcome, &connection.peer),
        Err(_) => tracing::info!(
            remote = ?connection.peer.remote,
            "connection cut: its requests took longer than the drain time"
        ),
    }
}

fn told(outcome: Result<(), BoxError>, peer: &Peer) {
    if let Err(error) = outcome {
        tracing::debug!(remote = ?peer.remote, "connection ended: {error}");
    }
}

/// Spawns what HTTP/2 needs tasks for; they end with the connection.
#[derive(Clone)]
struct Tasks(watch::Receiver<()>);

impl<F: Future + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut ended = self.0.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = task => {}
                // The sender is never used: this is its end.
                _ = ended.changed() => {}
            }
        });
    }
}
