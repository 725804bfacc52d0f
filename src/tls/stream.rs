//! An encrypted byte stream whose peer stays believed only as long as the trust in force believes it.
//!
//! A new trust that does not believe the peer has one of two meanings. If a revocation list names it,
//! somebody else may hold its key, and the stream breaks at its next byte. Otherwise roots were
//! replaced, perhaps a step too early, or a federation has ended: both sides then replace the
//! connection behind its last requests (servers by GOAWAY, clients by dialling anew), and the stream
//! only bounds how long that may take.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::credentials::{Credentials, State};
use super::handshake::Handshaken;
use super::refusal::Refusal;
use super::verifier::PeerVerifier;

/// A connection over TLS, from either side.
///
/// Dropping it closes the stream below without TLS's goodbye; `shutdown` says it.
pub struct TlsStream<S> {
    inner: Box<tokio_rustls::TlsStream<S>>,
    known: Handshaken,
    watched: Option<Watched>,
}

/// How long a connection may go on whose peer a new trust does not accept, unless it was revoked:
/// as long as requests under way are given elsewhere.
const GRACE: Duration = Duration::from_secs(45);

/// The peer's certificates, held against each new trust.
struct Watched {
    chain: Arc<Evidence>,
    changes: watch::Receiver<Arc<State>>,
    /// Ready when the trust has changed. Boxed once for a connection, since it borrows what it
    /// watches.
    changed: Pin<Box<dyn Future<Output = ()> + Send>>,
    standing: Standing,
}

/// Whether the peer is believed at this moment.
enum Standing {
    Believed,
    /// Not any more, and its requests have until then to end.
    Disbelieved(Refusal, Pin<Box<Sleep>>),
    Refused(Refusal),
}

/// What the peer has shown, and when.
struct Evidence {
    certificates: Vec<CertificateDer<'static>>,
    asked: Option<ServerName<'static>>,
    verifier: PeerVerifier,
    /// A connection that is up outlives its certificate, so time is that of the handshake.
    at: UnixTime,
}

impl Watched {
    /// Whether the connection may go on.
    fn check(&mut self, mut cx: Option<&mut Context<'_>>) -> Result<(), Refusal> {
        if let Standing::Refused(refused) = &self.standing {
            return Err(refused.clone());
        }
        let mut look = self.changes.has_changed().unwrap_or(false);
        if let Some(cx) = cx.as_deref_mut() {
            while self.changed.as_mut().poll(cx).is_ready() {
                self.changed = changed(self.chain.verifier.trust.clone());
                look = true;
            }
        }
        if look {
            self.changes.mark_unchanged();
            self.judge();
        }
        if let Standing::Disbelieved(refusal, end) = &mut self.standing {
            let over = match cx {
                Some(cx) => end.as_mut().poll(cx).is_ready(),
                None => end.deadline() <= Instant::now(),
            };
            if over {
                self.standing = self.chain.cut(refusal.clone());
            }
        }
        match &self.standing {
            Standing::Refused(refused) => Err(refused.clone()),
            Standing::Believed | Standing::Disbelieved(..) => Ok(()),
        }
    }

    /// Holds the peer against the trust of this moment.
    fn judge(&mut self) {
        let Evidence {
            certificates,
            asked,
            verifier,
            at,
        } = &*self.chain;
        match verifier.judge(certificates, asked.as_ref(), *at) {
            // Also when a trust was taken back that was a mistake.
            Ok(_) => self.standing = Standing::Believed,
            Err(revoked @ Refusal::Revoked) => self.standing = self.chain.cut(revoked),
            Err(refusal) => {
                if let Standing::Believed = self.standing {
                    let counters = verifier.trust.counters();
                    counters.disbelieved.fetch_add(1, Relaxed);
                    tracing::warn!(
                        reason = refusal.reason(),
                        "a connection is to end: its peer is not believed any more: {refusal}"
                    );
                    let end = Box::pin(tokio::time::sleep(GRACE));
                    self.standing = Standing::Disbelieved(refusal, end);
                }
            }
        }
    }
}

impl Evidence {
    fn cut(&self, refusal: Refusal) -> Standing {
        let counters = self.verifier.trust.counters();
        counters.cut.fetch_add(1, Relaxed);
        tracing::warn!(
            reason = refusal.reason(),
            "a connection was cut: its peer is not believed any more: {refusal}"
        );
        Standing::Refused(refusal)
    }
}

/// Ready when identity or trust change after this call.
fn changed(credentials: Credentials) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let mut changes = credentials.watch();
    Box::pin(async move {
        // The evidence holds a sender, so there is always one.
        let _ = changes.changed().await;
    })
}

/// What is taken down before a handshake, so that a change during it is not missed.
pub(super) struct Registration {
    verifier: PeerVerifier,
    changes: watch::Receiver<Arc<State>>,
    changed: Pin<Box<dyn Future<Output = ()> + Send>>,
    at: UnixTime,
}

impl Registration {
    pub(super) fn new(verifier: &PeerVerifier) -> Self {
        Self {
            changes: verifier.trust.watch(),
            changed: changed(verifier.trust.clone()),
            at: verifier.clock.unix(),
            verifier: verifier.clone(),
        }
    }

    /// The stream of a handshake that succeeded.
    ///
    /// # Errors
    /// If the trust has changed during the handshake so that the peer is not believed.
    pub(super) fn finish<S>(
        self,
        inner: tokio_rustls::TlsStream<S>,
        asked: Option<ServerName<'static>>,
        sni: Option<&str>,
    ) -> Result<TlsStream<S>, Refusal> {
        let (_, session) = inner.get_ref();
        let certificates: Vec<CertificateDer<'static>> = session
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|one| one.clone().into_owned())
            .collect();
        let alpn = session.alpn_protocol();
        if certificates.is_empty() {
            return Ok(TlsStream {
                known: Handshaken::new(None, alpn, sni),
                inner: Box::new(inner),
                watched: None,
            });
        }
        let proven = self
            .verifier
            .judge(&certificates, asked.as_ref(), self.at)?;
        let known = Handshaken::new(Some(proven), alpn, sni);
        let mut watched = Watched {
            chain: Arc::new(Evidence {
                certificates,
                asked,
                verifier: self.verifier,
                at: self.at,
            }),
            changes: self.changes,
            changed: self.changed,
            standing: Standing::Believed,
        };
        watched.check(None)?;
        // There is nothing under way yet that time should be given to.
        if let Standing::Disbelieved(refusal, _) = watched.standing {
            return Err(refusal);
        }
        Ok(TlsStream {
            inner: Box::new(inner),
            known,
            watched: Some(watched),
        })
    }
}

impl<S> TlsStream<S> {
    /// What the handshake has established.
    #[must_use]
    pub fn known(&self) -> &Handshaken {
        &self.known
    }

    fn check(&mut self, cx: Option<&mut Context<'_>>) -> io::Result<()> {
        match &mut self.watched {
            Some(watched) => watched
                .check(cx)
                .map_err(|refusal| io::Error::new(io::ErrorKind::PermissionDenied, refusal)),
            None => Ok(()),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(None)?;
        match Pin::new(&mut *self.inner).poll_read(cx, buffer) {
            Poll::Pending => {
                // Whoever waits for bytes is woken by a new trust too.
                self.check(Some(cx))?;
                Poll::Pending
            }
            ready => ready,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(None)?;
        Pin::new(&mut *self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(None)?;
        Pin::new(&mut *self.inner).poll_write_vectored(cx, slices)
    }
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}
