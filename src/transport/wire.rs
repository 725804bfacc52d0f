//! hyper's two connection types behind one face.
//!
//! hyper splits an HTTP/2 connection into two tasks: one that takes requests and one that moves
//! frames. Here both are polled by one driver, for two reasons. The peer's SETTINGS and GOAWAY
//! arrive in the second, but can only be seen through the first: polled together, they are in
//! force before the next request, where hyper alone would notice with the next one. And a
//! connection is one task, whose end is the end of the connection.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::connect::Io;
use super::outgoing::Outgoing;
use crate::model::cluster::Connection;

/// The least time between PINGs, and for an answer to one: what tokio's timer can tell apart.
const SHORTEST_PING: Duration = Duration::from_millis(1);
/// The most of both.
const LONGEST_PING: Duration = Duration::from_secs(86_400);
/// How many bytes of one response may be under way (HTTP/2 flow control).
const STREAM_WINDOW: u32 = 2 << 20;
/// How many bytes of all responses of a connection may be under way.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// The longest header list that is taken from a peer; Envoy's default is 60 KiB.
const HEADER_LIST: u32 = 64 << 10;
/// How many streams that this side reset are remembered, so that what is still on its way to them
/// is dropped in peace. A storm of cancellations needs more than h2's 10.
const RESET_STREAMS: usize = 1_024;

/// The receiving end of requests: what the driver polls.
pub(super) enum Wire {
    /// hyper keeps the name of this type to itself.
    One(Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>),
    Two(Box<Http2>),
}

/// The two halves of hyper's HTTP/2 connection.
pub(super) struct Http2 {
    requests: Option<http2::Connection<TokioIo<Io>, Outgoing, Tasks>>,
    frames: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// The sending end of requests.
#[derive(Debug)]
pub(super) enum Sender {
    One(http1::SendRequest<Outgoing>),
    Two(http2::SendRequest<Outgoing>),
}

pub(super) async fn http1(io: Io) -> hyper::Result<(Sender, Wire)> {
    let (sender, wire) = http1::Builder::new().handshake(TokioIo::new(io)).await?;
    let wire = Box::pin(wire.with_upgrades());
    Ok((Sender::One(sender), Wire::One(wire)))
}

/// Sends the preface. The peer's limit of streams counts as zero until its SETTINGS arrive, so
/// that no stream is opened that it would have to refuse.
pub(super) async fn http2(
    io: Io,
    connection: &Connection,
    count: Arc<AtomicUsize>,
) -> hyper::Result<(Sender, Wire)> {
    let tasks = Tasks::new(count);
    let mut builder = http2::Builder::new(tasks.clone());
    builder
        .timer(TokioTimer::new())
        .initial_max_send_streams(0)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST)
        .max_concurrent_reset_streams(RESET_STREAMS);
    if let Some(keepalive) = connection.http2_keepalive {
        // hyper adds them to the clock, which panics where the sum is beyond what that can say; and
        // an interval of zero would do nothing but ping.
        let bounded = |time: Duration| time.clamp(SHORTEST_PING, LONGEST_PING);
        builder
            .keep_alive_interval(bounded(keepalive.interval))
            .keep_alive_timeout(bounded(keepalive.timeout))
            .keep_alive_while_idle(true);
    }
    let (sender, requests) = builder.handshake(TokioIo::new(io)).await?;
    let wire = Wire::Two(Box::new(Http2 {
        requests: Some(requests),
        frames: tasks.frames(),
    }));
    Ok((Sender::Two(sender), wire))
}

impl Wire {
    /// Moves bytes; ready when the connection is gone.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        match self {
            Self::One(wire) => wire.as_mut().poll(cx),
            Self::Two(wire) => wire.poll(cx),
        }
    }

    /// How many requests the peer takes at once: 0 until its SETTINGS are here, and after it said
    /// GOAWAY.
    pub(super) fn capacity(&self) -> u32 {
        match self {
            Self::One(_) => 1,
            Self::Two(wire) => wire.requests.as_ref().map_or(0, |requests| {
                u32::try_from(requests.current_max_send_streams()).unwrap_or(u32::MAX)
            }),
        }
    }

    /// Whether the peer takes extended CONNECT, as far as its SETTINGS have said (RFC 8441 §3).
    pub(super) fn takes_tunnels(&self) -> bool {
        match self {
            Self::One(_) => false,
            Self::Two(wire) => wire
                .requests
                .as_ref()
                .is_some_and(http2::Connection::is_extended_connect_protocol_enabled),
        }
    }

    /// Whether new requests may still be sent.
    pub(super) fn takes_requests(&self) -> bool {
        match self {
            Self::One(_) => true,
            Self::Two(wire) => wire.requests.is_some(),
        }
    }
}

impl Http2 {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        // Frames first: a GOAWAY that is read here makes `requests` end just below.
        if let Some(frames) = &mut self.frames
            && frames.as_mut().poll(cx).is_ready()
        {
            self.frames = None;
        }
        let mut outcome = Ok(());
        if let Some(requests) = &mut self.requests
            && let Poll::Ready(result) = Pin::new(requests).poll(cx)
        {
            outcome = result;
            self.requests = None;
        }
        if self.frames.is_some() {
            // Without `requests` the streams that are under way go on until they end.
            return Poll::Pending;
        }
        // What is still queued is handed back to its callers when this is dropped.
        self.requests = None;
        Poll::Ready(outcome)
    }
}

/// A counted task of an endpoint; the count falls when the task ends, however it ends.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub(super) fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pin_project_lite::pin_project! {
    /// A future and its count. An `async` block would hold the future twice: as what it captured
    /// and as what it awaits.
    struct CountedTask<F> {
        #[pin]
        future: F,
        _counted: Counted,
    }
}

impl<F: Future<Output = ()>> Future for CountedTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.project().future.poll(cx)
    }
}

/// Where hyper puts its futures: the first is the one that moves frames and goes to the driver,
/// the others belong to one stream each, end with it, and are spawned.
#[derive(Clone)]
pub(super) struct Tasks {
    first: Arc<First>,
    count: Arc<AtomicUsize>,
}

struct First {
    seen: AtomicBool,
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

impl Tasks {
    fn new(count: Arc<AtomicUsize>) -> Self {
        let first = Arc::new(First {
            seen: AtomicBool::new(false),
            future: Mutex::new(None),
        });
        Self { first, count }
    }

    fn frames(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        // Locked twice in the life of a connection, never across an await.
        let mut future = self
            .first
            .future
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        future.take()
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, future: F) {
        if self.first.seen.swap(true, Ordering::Relaxed) {
            // hyper's type has room for the task of a whole connection, which a stream's is not. A task
            // is moved several times until it is in its place; a pointer is moved for nothing.
            let place = Box::new_uninit();
            tokio::spawn(CountedTask {
                future: Box::into_pin(Box::write(place, future)),
                _counted: Counted::new(self.count.clone()),
            });
        } else {
            let mut first = self
                .first
                .future
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *first = Some(Box::pin(future));
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(_) => f.write_str("Wire(HTTP/1.1)"),
            Self::Two(_) => f.write_str("Wire(HTTP/2)"),
        }
    }
}
