//! A connection of HTTP/1.1 that becomes something else: WebSocket and its like.
//!
//! hyper lets go of a request at the moment of the switch and hands its bytes to whoever took them from the
//! request's extensions, which is the handler, or for a [channel](crate::Channel) nobody. Here the request goes
//! on: it counts for the drain of the mesh and against what the port takes, it is judged again by
//! each new policy, and its connection keeps its place, all until the stream is dropped or cut. Where the
//! handler is a channel, the two streams are joined.
//!
//! A stream is cut where any other request would be: when a policy denies it, and when its connection should
//! end (a shutdown, STRICT, an expired certificate) and it has not within the drain time of the port. A cut
//! closes the connection: no word of HTTP could be said on it any more.
//!
//! Over HTTP/2 a switch would be an extended CONNECT (RFC 8441). It is not offered: hyper gives its streams to the
//! handler past everything that is said above, and a browser that is not offered it comes by HTTP/1.1.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use http::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::connection::Connection;
use super::standing::{Standing, Standings};
use crate::body::Body;
use crate::layer::limit::Permit;
use crate::transport::upgrade::{self, OnUpgrade};

/// A request whose connection has switched.
pub(super) struct Switched {
    standings: Option<Standings>,
    _permit: Option<Permit>,
    /// The two streams to join, where the handler is a channel.
    joint: Option<(hyper::upgrade::OnUpgrade, OnUpgrade)>,
}

/// Where the connection finds it.
pub(super) type Slot = Arc<Mutex<Option<Switched>>>;

impl Switched {
    /// Takes what has to stay out of a response, if it switches.
    pub(super) fn of(
        response: &mut Response<Body>,
        ours: hyper::upgrade::OnUpgrade,
        permit: &mut Option<Permit>,
    ) -> Option<Self> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
        let standing = response.extensions_mut().remove::<Standing>();
        let theirs = upgrade::on(response);
        Some(Self {
            standings: standing.and_then(|standing| standing.take()),
            _permit: permit.take(),
            joint: theirs.has_switched().then_some((ours, theirs)),
        })
    }

    /// Stays until the stream is dropped, or is cut.
    pub(super) async fn stay(mut self, line: Line, connection: &Connection) {
        let joint = self.joint.take();
        let over = async {
            match joint {
                Some((ours, theirs)) => join(ours, theirs).await,
                None => line.closed.await.unwrap_or_default(),
            }
        };
        let mut nothing = Standings::default();
        let standings = self.standings.as_mut().unwrap_or(&mut nothing);
        let why = tokio::select! {
            biased;
            () = over => return,
            () = standings.denied() => "a new policy denies it",
            () = connection.outstayed() => "it took longer than the drain time",
        };
        standings.broke();
        line.cut.now();
        tracing::info!(remote = ?connection.peer.remote, "switched stream cut: {why}");
    }
}

/// Hands on what comes, in both directions, until both have ended or one has broken.
async fn join(ours: hyper::upgrade::OnUpgrade, theirs: OnUpgrade) {
    let (ours, theirs) = match tokio::join!(ours, theirs) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Err(error), _) => return tracing::debug!("the caller did not switch: {error}"),
        (Ok(_), Err(error)) => return tracing::debug!("the endpoint did not switch: {error}"),
    };
    let (mut ours, mut theirs) = (TokioIo::new(ours), theirs);
    if let Err(error) = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await {
        tracing::debug!("switched stream broke: {error}");
    }
}

/// What is kept of a connection's bytes while they are somebody else's.
pub(super) struct Line {
    cut: Arc<Cut>,
    closed: oneshot::Receiver<()>,
}

/// What arms it.
#[derive(Clone)]
pub(super) struct Arming(Arc<Cut>);

impl Arming {
    /// From here on the bytes are watched.
    pub(super) fn now(&self) {
        self.0.armed.store(true, Ordering::SeqCst);
    }
}

impl Line {
    pub(super) fn arming(&self) -> Arming {
        Arming(self.cut.clone())
    }
}

/// Ends a stream from outside.
#[derive(Debug, Default)]
struct Cut {
    /// Whether the connection has switched: before that hyper ends it, and nothing is locked.
    armed: AtomicBool,
    is_cut: AtomicBool,
    /// Of whoever reads, and of whoever writes. Locked when one of them waits.
    waiting: Mutex<[Option<Waker>; 2]>,
}

#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
}

impl Cut {
    fn now(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::SeqCst)
    }

    /// Whether it is cut; else the task is woken when it is.
    fn waits(&self, way: Way, cx: &Context<'_>) -> bool {
        let mut waiting = lock(&self.waiting);
        let own = match way {
            Way::In => &mut waiting[0],
            Way::Out => &mut waiting[1],
        };
        if !own.as_ref().is_some_and(|own| own.will_wake(cx.waker())) {
            *own = Some(cx.waker().clone());
        }
        self.is_cut()
    }
}

/// The bytes of a connection, which can be cut whoever has them.
pub(super) struct Cuttable<I> {
    /// Nothing once it is cut: the connection is closed then.
    io: Option<I>,
    cut: Arc<Cut>,
    _open: oneshot::Sender<()>,
}

impl<I> Cuttable<I> {
    pub(super) fn new(io: I) -> (Self, Line) {
        let cut = Arc::new(Cut::default());
        let (open, closed) = oneshot::channel();
        let line = Line {
            cut: cut.clone(),
            closed,
        };
        let io = Some(io);
        (
            Self {
                io,
                cut,
                _open: open,
            },
            line,
        )
    }
}

impl<I: Unpin> Cuttable<I> {
    fn poll<T>(
        &mut self,
        way: Way,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut I>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.cut.is_cut() {
            self.io = None;
        }
        let Some(io) = &mut self.io else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        let polled = poll(Pin::new(io), cx);
        let armed = self.cut.armed.load(Ordering::Relaxed);
        if polled.is_pending() && armed && self.cut.waits(way, cx) {
            self.io = None;
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        polled
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Cuttable<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(Way::In, cx, |io, cx| io.poll_read(cx, buffer))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Cuttable<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(Way::Out, cx, |io, cx| io.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(Way::Out, cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(Way::Out, cx, AsyncWrite::poll_shutdown)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(Way::Out, cx, |io, cx| io.poll_write_vectored(cx, slices))
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
