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
//! closes the connection at once, whoever has its bytes and whether or not they look at them: no word of HTTP could
//! be said on it any more.
//!
//! hyper offers its bytes for more than that: for each request of HTTP/1.1 with the header `Upgrade`, whatever
//! `Connection` says, for each CONNECT, and once they were asked for also when the connection ends after an answer
//! that switches nothing. A stream that was had in such a way would be one that nobody counts, judges or cuts. So
//! only requests that [ask for a switch](crate::transport::upgrade) are offered them (`h2c` is none), an answer that
//! switches what was not asked for is replaced by a 502, and where nothing has switched the connection is closed when
//! HTTP is over on it. A connection that is about to end is not switched any more (503): the stream would be cut
//! within the rest of the drain time, and the caller is better served elsewhere.
//!
//! Over HTTP/2 a switch would be an extended CONNECT (RFC 8441). It is not offered: hyper gives its streams to the
//! handler past everything that is said above, and a browser that is not offered it comes by HTTP/1.1. No other
//! CONNECT is served either.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use http::{Method, Request, Response, Version};
use http_body::Body as HttpBody;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::connection::Connection;
use super::lasting::{Keeper, Lasting, Unoffered, denied};
use crate::body::Body;
use crate::layer::limit::Permit;
use crate::transport::upgrade::{self, OnUpgrade};

/// What the connection of a request can be switched by.
pub(super) struct Switching {
    ours: hyper::upgrade::OnUpgrade,
    keeper: Keeper,
    pub(super) connection: Connection,
}

impl Switching {
    /// Of a request that asks for a switch; any other is not offered the connection. Boxed, since most ask for none.
    ///
    /// One with a body is none: hyper hands the connection over when the body has ended, and until then nobody
    /// would judge again what is written behind the answer.
    pub(super) fn of<B: HttpBody>(
        request: &mut Request<B>,
        connection: &Connection,
    ) -> Option<Box<Self>> {
        let asks = request.version() == Version::HTTP_11
            && request.method() != Method::CONNECT
            && request.body().is_end_stream()
            && upgrade::protocol(request.headers()).is_some();
        let extensions = request.extensions_mut();
        if !asks {
            extensions.remove::<hyper::upgrade::OnUpgrade>();
            extensions.insert(Unoffered);
            return None;
        }
        let Some(ours) = extensions.get::<hyper::upgrade::OnUpgrade>().cloned() else {
            extensions.insert(Unoffered);
            return None;
        };
        let keeper = Keeper::default();
        extensions.insert(keeper.clone());
        Some(Box::new(Self {
            ours,
            keeper,
            connection: connection.clone(),
        }))
    }

    /// Lets go of what the request holds, which `answer` is given to in place of one that switches, and says why.
    pub(super) fn refused(self, why: &'static str, answer: &Response<Body>) {
        for mut lasting in self.keeper.take() {
            lasting.refused(why, answer);
        }
    }

    /// Takes what has to stay out of a response that switches.
    pub(super) fn switched(
        self,
        response: &mut Response<Body>,
        permit: Option<Permit>,
    ) -> Switched {
        let theirs = upgrade::on(response);
        Switched {
            lasting: self.keeper.take(),
            _permit: permit,
            joint: theirs.has_switched().then_some((self.ours, theirs)),
        }
    }
}

/// A request whose connection has switched.
pub(super) struct Switched {
    lasting: Vec<Lasting>,
    _permit: Option<Permit>,
    /// The two streams to join, where the handler is a channel.
    joint: Option<(hyper::upgrade::OnUpgrade, OnUpgrade)>,
}

/// Where the connection finds it.
pub(super) type Slot = Arc<Mutex<Option<Switched>>>;

impl Switched {
    /// Stays until the stream is dropped, or is cut.
    pub(super) async fn stay<I>(mut self, mut line: Line<I>, connection: &Connection) {
        let joint = self.joint.take();
        let closed = &mut line.closed;
        let over = async {
            match joint {
                Some((ours, theirs)) => join(ours, theirs).await,
                None => closed.await.unwrap_or_default(),
            }
        };
        let why = tokio::select! {
            biased;
            () = over => return,
            () = denied(&mut self.lasting) => "a new policy denies it",
            () = connection.outstayed() => "it took longer than the drain time",
        };
        self.lasting.iter_mut().for_each(Lasting::broke);
        line.cut();
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
pub(super) struct Line<I> {
    cut: Arc<Cut<I>>,
    closed: oneshot::Receiver<()>,
}

/// What arms it.
#[derive(Clone)]
pub(super) struct Arming(Arc<AtomicBool>);

impl Arming {
    /// From here on the bytes are where they can be cut.
    pub(super) fn now(&self) {
        // Set and read by the task that speaks HTTP.
        self.0.store(true, Relaxed);
    }
}

impl<I> Line<I> {
    pub(super) fn arming(&self) -> Arming {
        Arming(self.cut.armed.clone())
    }

    /// Closes the connection, and wakes whoever waits for it.
    pub(super) fn cut(&self) {
        let mut shared = lock(&self.cut.shared);
        shared.is_cut = true;
        let io = shared.io.take();
        let waiting = std::mem::take(&mut shared.waiting);
        drop(shared);
        drop(io);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

/// Ends a stream from outside.
struct Cut<I> {
    /// Whether the connection may switch: before that hyper ends it, and nothing is locked.
    armed: Arc<AtomicBool>,
    /// Locked by whoever reads or writes, and by who cuts; never across a wait.
    shared: Mutex<Shared<I>>,
}

struct Shared<I> {
    /// Once it is armed and until it is cut or dropped.
    io: Option<I>,
    is_cut: bool,
    /// Of whoever reads, and of whoever writes.
    waiting: [Option<Waker>; 2],
}

#[derive(Clone, Copy)]
enum Half {
    Read,
    Write,
}

impl<I> Shared<I> {
    /// Lets a task be woken by the cut.
    fn wait(&mut self, half: Half, cx: &Context<'_>) {
        let own = match half {
            Half::Read => &mut self.waiting[0],
            Half::Write => &mut self.waiting[1],
        };
        if !own.as_ref().is_some_and(|own| own.will_wake(cx.waker())) {
            *own = Some(cx.waker().clone());
        }
    }
}

/// The bytes of a connection, which can be cut whoever has them.
///
/// They are its own until the connection may switch, and shared with the [`Line`] from the next look at them on,
/// which is at the latest the one that writes the answer.
pub(super) struct Cuttable<I> {
    own: Option<I>,
    is_vectored: bool,
    cut: Arc<Cut<I>>,
    _open: oneshot::Sender<()>,
}

impl<I: AsyncWrite> Cuttable<I> {
    pub(super) fn new(io: I) -> (Self, Line<I>) {
        let shared = Shared {
            io: None,
            is_cut: false,
            waiting: [None, None],
        };
        let cut = Arc::new(Cut {
            armed: Arc::default(),
            shared: Mutex::new(shared),
        });
        let (open, closed) = oneshot::channel();
        let line = Line {
            cut: cut.clone(),
            closed,
        };
        let is_vectored = io.is_write_vectored();
        let cuttable = Self {
            own: Some(io),
            is_vectored,
            cut,
            _open: open,
        };
        (cuttable, line)
    }
}

impl<I: Unpin> Cuttable<I> {
    fn poll<T>(
        &mut self,
        half: Half,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut I>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Some(own) = &mut self.own
            && !self.cut.armed.load(Relaxed)
        {
            return poll(Pin::new(own), cx);
        }
        let mut shared = lock(&self.cut.shared);
        if let Some(own) = self.own.take()
            && !shared.is_cut
        {
            shared.io = Some(own);
        }
        let Some(io) = &mut shared.io else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        let polled = poll(Pin::new(io), cx);
        if polled.is_pending() {
            shared.wait(half, cx);
        }
        polled
    }
}

impl<I> Drop for Cuttable<I> {
    /// The line has the bytes too: they are let go of here.
    fn drop(&mut self) {
        let io = lock(&self.cut.shared).io.take();
        drop(io);
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Cuttable<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(Half::Read, cx, |io, cx| io.poll_read(cx, buffer))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Cuttable<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(Half::Write, cx, |io, cx| io.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(Half::Write, cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(Half::Write, cx, AsyncWrite::poll_shutdown)
    }

    fn is_write_vectored(&self) -> bool {
        self.is_vectored
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(Half::Write, cx, |io, cx| io.poll_write_vectored(cx, slices))
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
