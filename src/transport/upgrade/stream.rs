//! What is left of a request whose connection was switched: bytes in both directions.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use http::Response;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::body::Body;
use crate::error::{Error, Kind};
use crate::transport::lease::Lease;
use crate::transport::response::{End, Guard};

/// Waits for the stream of a response with status 101.
///
/// It is in the response until it is taken; dropping a response that nobody took it from ends the
/// connection. A response that did not switch gives an error that
/// [is upgrade](Error::is_upgrade).
///
/// ```no_run
/// # async fn example(mesh: meshwork::Mesh) -> Result<(), Box<dyn std::error::Error>> {
/// use meshwork::transport::upgrade;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// let request = http::Request::get("http://chat/room")
///     .header("connection", "upgrade")
///     .header("upgrade", "websocket")
///     .header("sec-websocket-version", "13")
///     .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
///     .body(meshwork::Body::empty())?;
/// let mut response = mesh.client().request(request).await?;
/// let mut stream = upgrade::on(&mut response).await?;
/// stream.write_all(b"frames of the other protocol").await?;
/// let mut answer = [0; 128];
/// let length = stream.read(&mut answer).await?;
/// # Ok(()) }
/// ```
pub fn on<B>(response: &mut Response<B>) -> OnUpgrade {
    let shared = response.extensions_mut().remove::<Shared>();
    OnUpgrade {
        waiting: shared.and_then(|shared| shared.take()),
    }
}

/// The future of an [`Upgraded`]; see [`on`].
///
/// Cancel-safe in that nothing leaks: dropping it ends the connection.
#[must_use = "futures do nothing unless they are awaited"]
pub struct OnUpgrade {
    waiting: Option<Waiting>,
}

/// A stream whose connection carries HTTP no more.
///
/// As long as it lives it counts as a request of its cluster: against the limits of requests and
/// connections, in the statistics, and for [`Mesh::shutdown`](crate::Mesh::shutdown). The timeouts
/// of route and caller ended with the switch; the route's idle timeout goes on and fails the reads
/// of a stream on which nothing moves in either direction. Dropping it closes the connection
/// (HTTP/1.1) or ends the stream (HTTP/2).
pub struct Upgraded {
    io: TokioIo<hyper::upgrade::Upgraded>,
    held: Held,
}

/// What a switched connection keeps alive.
struct Held {
    guard: Option<Pin<Box<dyn Guard>>>,
    _lease: Lease,
}

/// A switch that has happened, on its way to the caller.
struct Waiting {
    switch: hyper::upgrade::OnUpgrade,
    held: Held,
}

/// How it travels: extensions of a response have to be cloneable.
#[derive(Clone)]
struct Shared(Arc<Mutex<Option<Waiting>>>);

impl Shared {
    fn take(&self) -> Option<Waiting> {
        // Locked once by whoever takes it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Puts the stream of a switched connection, and all that it holds, into its response.
pub(in crate::transport) fn switched<B, G: Guard>(
    mut response: Response<B>,
    lease: Lease,
    mut guard: G,
) -> Response<Body> {
    let switch = hyper::upgrade::on(&mut response);
    guard.answered();
    guard.switched();
    let held = Held {
        guard: Some(Box::pin(guard)),
        _lease: lease,
    };
    let waiting = Arc::new(Mutex::new(Some(Waiting { switch, held })));
    response.extensions_mut().insert(Shared(waiting));
    response.map(|_| Body::empty())
}

impl OnUpgrade {
    /// Whether there is a stream to wait for.
    #[cfg(all(feature = "inbound", feature = "tls-core"))]
    pub(crate) fn has_switched(&self) -> bool {
        self.waiting.is_some()
    }
}

impl Future for OnUpgrade {
    type Output = Result<Upgraded, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(waiting) = &mut self.waiting else {
            let why = "the response did not switch, or its stream was taken already";
            return Poll::Ready(Err(Error::new(Kind::Upgrade { why })));
        };
        let switched = ready!(Pin::new(&mut waiting.switch).poll(cx));
        let held = self.waiting.take().map(|waiting| waiting.held);
        Poll::Ready(match (switched, held) {
            (Ok(io), Some(held)) => Ok(Upgraded {
                io: TokioIo::new(io),
                held,
            }),
            (Err(error), _) => {
                let why = "the connection broke";
                Err(Error::new(Kind::Upgrade { why }).caused_by(error))
            }
            (Ok(_), None) => unreachable!("it was there three lines above"),
        })
    }
}

impl Held {
    fn guard(&mut self) -> Option<Pin<&mut dyn Guard>> {
        self.guard.as_mut().map(Pin::as_mut)
    }

    /// Something moved; the idle time begins anew.
    fn moved(&mut self) {
        if let Some(guard) = self.guard() {
            guard.moved();
        }
    }

    fn end(&mut self, end: End) {
        if let Some(mut guard) = self.guard.take() {
            guard.as_mut().ended(end);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end(End::Dropped);
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, buffer) else {
            let Some(guard) = self.held.guard() else {
                return Poll::Pending;
            };
            let error = ready!(guard.poll_cut(cx));
            self.held.end(End::Dropped);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, error)));
        };
        match &read {
            Ok(()) if buffer.filled().len() > before => self.held.moved(),
            Ok(()) => {}
            Err(_) => self.held.end(End::Broken),
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes));
        if written.is_ok() {
            self.held.moved();
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices));
        if written.is_ok() {
            self.held.moved();
        }
        Poll::Ready(written)
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgraded")
    }
}

impl fmt::Debug for OnUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnUpgrade")
            .field("switched", &self.waiting.is_some())
            .finish()
    }
}
