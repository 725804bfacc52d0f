//! TLS as a server, and plaintext on the same port where a policy allows it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{Acceptor as Hello, NoServerSessionStorage};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::LazyConfigAcceptor;

use super::Verification;
use super::client::explain;
use super::clock::Clock;
use super::credentials::{Credentials, Present};
use super::handshake::Handshaken;
use super::provider::provider;
use super::refusal::Refusal;
use super::rewound::Rewound;
use super::sniff::{Begin, PREFIX, sniff};
use super::stream::{Registration, TlsStream};
use super::verifier::{PeerVerifier, Shown};
use super::verify::{Checks, Usage};
use crate::model::matcher::StringMatcher;
use crate::model::security::MutualTls;

/// How long a peer may take until it is known who it is.
const DEADLINE: Duration = Duration::from_secs(5);
/// How many bytes a peer may send until then: a ClientHello with keys of every kind, and a chain.
const ALLOWANCE: usize = 192 << 10;
/// What is agreed on with clients, in this order.
const PROTOCOLS: [&str; 2] = ["h2", "http/1.1"];

/// Accepts connections: mutual TLS, plaintext, or whichever the peer begins with.
#[derive(Clone)]
pub struct Acceptor {
    credentials: Credentials,
    verifier: PeerVerifier,
    /// For clients that offer a protocol of ours, or none.
    config: Arc<ServerConfig>,
    /// For clients that offer others only: no protocol is agreed on, as in BoringSSL, where rustls
    /// would end the handshake.
    silent: Arc<ServerConfig>,
    deadline: Duration,
}

/// Why a connection was not accepted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Unaccepted {
    /// It took longer than the deadline to say who it is.
    #[error("the peer took longer than {0:?} to say who it is")]
    Elapsed(Duration),
    /// The stream broke.
    #[error("the connection broke before it was known who it is")]
    Io(#[source] io::Error),
    /// It speaks plaintext, and the policy is STRICT.
    #[error("the peer speaks plaintext where mutual TLS is demanded (STRICT)")]
    Plaintext,
    /// It is not who it should be.
    #[error("the peer is not believed")]
    Refused(#[source] Refusal),
    /// It speaks TLS, and the policy is DISABLE.
    #[error("the peer speaks TLS where plaintext is demanded (DISABLE)")]
    Tls,
}

impl Unaccepted {
    /// A short word for counters.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Elapsed(_) => "deadline",
            Self::Io(_) => "io",
            Self::Plaintext => "plaintext",
            Self::Refused(refusal) => refusal.reason(),
            Self::Tls => "tls",
        }
    }
}

impl Acceptor {
    /// Accepts peers whose X509-SVIDs the trust of `credentials` believes, and presents its identity.
    #[must_use]
    pub fn new(credentials: Credentials, clock: Clock) -> Self {
        let verifier = PeerVerifier {
            trust: credentials.clone(),
            checks: checks(Verification::Svid, Vec::new(), clock),
            clock,
            shown: Shown::Required,
        };
        Self::of(credentials, verifier)
    }

    fn of(credentials: Credentials, verifier: PeerVerifier) -> Self {
        Self {
            config: config(&verifier, &credentials, &PROTOCOLS),
            silent: config(&verifier, &credentials, &[]),
            verifier,
            credentials,
            deadline: DEADLINE,
        }
    }

    /// Presents the identity of `own`, and accepts whom the roots of `callers` vouch for, with or
    /// without a SPIFFE identity (gRFC A29): who may call is for policies to say.
    pub(crate) fn presenting(own: Credentials, callers: Option<Callers>, clock: Clock) -> Self {
        let (trust, names, shown) = match callers {
            None => (Credentials::default(), Vec::new(), Shown::Nothing),
            Some(Callers {
                trust,
                names,
                required,
            }) => {
                let shown = match required {
                    true => Shown::Required,
                    false => Shown::Optional,
                };
                (trust, names, shown)
            }
        };
        let verifier = PeerVerifier {
            trust,
            checks: checks(Verification::Chain, names, clock),
            clock,
            shown,
        };
        Self::of(own, verifier)
    }

    /// Lets clients in that show no certificate, as nobody ([`Handshaken::is_certified`] is false). One
    /// that is shown must still be believed. It is for a port where identities are asked for.
    #[must_use]
    pub fn with_anonymous(self) -> Self {
        let verifier = PeerVerifier {
            shown: Shown::Optional,
            ..self.verifier
        };
        Self {
            deadline: self.deadline,
            ..Self::of(self.credentials, verifier)
        }
    }

    /// Sets how long a peer may take until it is known who it is; the default is 5 s.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long a peer may take until it is known who it is.
    #[cfg(feature = "inbound")]
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Accepts one connection under the policy `mode`.
    ///
    /// With [`MutualTls::Strict`] not one byte of a plaintext request is parsed. With
    /// [`MutualTls::Permissive`] a peer that begins with TLS must present a certificate and be
    /// believed: it is never taken for an anonymous one. With [`MutualTls::Disable`] the stream is
    /// handed on after a look at its first bytes.
    ///
    /// A dropped future drops the stream.
    ///
    /// # Errors
    /// Why the peer was not accepted. The stream is gone then; TLS peers were sent an alert.
    pub async fn accept<S>(&self, io: S, mode: MutualTls) -> Result<Accepted<S>, Unaccepted>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepting = self.accept_in_time(io, mode);
        let outcome = match tokio::time::timeout(self.deadline, accepting).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Unaccepted::Elapsed(self.deadline)),
        };
        let counters = self.credentials.counters();
        match &outcome {
            Ok(accepted) if accepted.known().tls => {
                counters.accepted.fetch_add(1, Relaxed);
            }
            Ok(_) => {}
            Err(why) => counters.refuse(why.reason()),
        }
        outcome
    }

    async fn accept_in_time<S>(&self, io: S, mode: MutualTls) -> Result<Accepted<S>, Unaccepted>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut io = Rewound::new(io);
        let begin = sniff(&mut io).await.map_err(Unaccepted::Io)?;
        match (begin, mode) {
            (Begin::Nothing, _) => Err(Unaccepted::Io(io::ErrorKind::UnexpectedEof.into())),
            (Begin::Other, MutualTls::Strict) => Err(Unaccepted::Plaintext),
            (Begin::Other, MutualTls::Disable | MutualTls::Permissive) => {
                Ok(Accepted(Kind::Plain(io, Handshaken::default())))
            }
            (Begin::Tls, MutualTls::Disable) => Err(Unaccepted::Tls),
            (Begin::Tls, MutualTls::Permissive | MutualTls::Strict) => {
                let stream = self.handshake(io).await?;
                Ok(Accepted(Kind::Tls(stream)))
            }
        }
    }

    async fn handshake<S>(
        &self,
        mut io: Rewound<S, PREFIX>,
    ) -> Result<TlsStream<Rewound<S, PREFIX>>, Unaccepted>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let now = self.verifier.clock.now();
        let own = self.credentials.state();
        own.presentable(now).map_err(Unaccepted::Refused)?;
        io.allow(Some(ALLOWANCE));
        let registration = Registration::new(&self.verifier);
        let hello = LazyConfigAcceptor::new(Hello::default(), io).await;
        let hello = hello.map_err(unaccepted)?;
        let known = |offered: &[u8]| PROTOCOLS.iter().any(|ours| ours.as_bytes() == offered);
        let (config, sni) = {
            let hello = hello.client_hello();
            let config = match hello.alpn().map(|mut offers| offers.any(known)) {
                Some(false) => &self.silent,
                Some(true) | None => &self.config,
            };
            (config.clone(), hello.server_name().map(str::to_owned))
        };
        let mut stream = hello.into_stream(config).await.map_err(unaccepted)?;
        stream.get_mut().0.allow(None);
        registration
            .finish(stream.into(), None, sni.as_deref())
            .map_err(Unaccepted::Refused)
    }
}

/// What the certificates of callers are asked, where it is not what the mesh asks.
#[derive(Debug)]
pub(crate) struct Callers {
    /// Whose roots have to vouch for them.
    pub(crate) trust: Credentials,
    /// Names of which they must have one, if there are any.
    pub(crate) names: Vec<StringMatcher>,
    /// Whether a caller has to show one at all.
    pub(crate) required: bool,
}

fn checks(verification: Verification, names: Vec<StringMatcher>, clock: Clock) -> Arc<Checks> {
    Arc::new(Checks {
        verification,
        names,
        usage: Usage::Client,
        skew: clock.skew(),
    })
}

fn unaccepted(error: io::Error) -> Unaccepted {
    let error = explain(error);
    let own = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Refusal>());
    match own {
        Some(refusal) => Unaccepted::Refused(refusal.clone()),
        None => Unaccepted::Io(error),
    }
}

fn config(
    verifier: &PeerVerifier,
    credentials: &Credentials,
    protocols: &[&str],
) -> Arc<ServerConfig> {
    // The only error is a provider that lacks a version; both providers have both.
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(verifier.clock))
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS 1.2 and 1.3")
        .with_client_cert_verifier(Arc::new(verifier.clone()))
        .with_cert_resolver(Arc::new(Present(credentials.clone())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    Arc::new(config)
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("credentials", &self.credentials)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// An accepted connection: a byte stream, and what is known of its peer.
#[derive(Debug)]
pub struct Accepted<S>(Kind<S>);

#[derive(Debug)]
enum Kind<S> {
    Plain(Rewound<S, PREFIX>, Handshaken),
    Tls(TlsStream<Rewound<S, PREFIX>>),
}

impl<S> Accepted<S> {
    /// What is known of the peer.
    #[must_use]
    pub fn known(&self) -> &Handshaken {
        match &self.0 {
            Kind::Plain(_, nothing) => nothing,
            Kind::Tls(stream) => stream.known(),
        }
    }
}

macro_rules! each {
    ($io:expr, $stream:ident => $call:expr) => {
        match &mut $io.0 {
            Kind::Plain($stream, _) => $call,
            Kind::Tls($stream) => $call,
        }
    };
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Accepted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Accepted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Kind::Plain(stream, _) => stream.is_write_vectored(),
            Kind::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }
}
