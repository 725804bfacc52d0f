//! TLS as a client.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::clock::Clock;
use super::credentials::{Credentials, Present};
use super::provider::provider;
use super::refusal::Refusal;
use super::stream::{Registration, TlsStream};
use super::verifier::{self, PeerVerifier, Shown};
use super::verify::{Checks, Usage};
use crate::model::security::{Alpn, ClientTls, Sni};

/// Which version of HTTP is to be spoken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Offer {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Makes encrypted connections of one kind.
///
/// It reads [`Credentials`] in each handshake, so it is made once and outlives rotations.
pub struct Connector {
    identity: Option<Credentials>,
    verifier: PeerVerifier,
    sni: Sni,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl Connector {
    /// A connector that does what `tls` says. Its `identity` and `trust` were looked up by the caller:
    /// an identity of `None` presents no certificate.
    #[must_use]
    pub fn new(
        tls: &ClientTls,
        identity: Option<Credentials>,
        trust: Credentials,
        clock: Clock,
    ) -> Self {
        let verifier = PeerVerifier {
            trust,
            checks: Arc::new(Checks {
                verification: tls.verification,
                names: tls.names.clone(),
                usage: Usage::Server,
                skew: clock.skew(),
            }),
            clock,
            shown: Shown::Required,
        };
        let config = |offers: [&[&str]; 2]| {
            let [plain, istio] = offers;
            let names = match tls.alpn {
                Alpn::Http => plain,
                Alpn::Istio => istio,
            };
            config(&verifier, identity.clone(), names, &tls.sni)
        };
        Self {
            http1: config([&["http/1.1"], &["istio-http/1.1", "istio", "http/1.1"]]),
            http2: config([&["h2"], &["istio-h2", "istio", "h2"]]),
            identity,
            verifier,
            sni: tls.sni.clone(),
        }
    }

    /// Secures a stream to the endpoint `host`, a name or an address. Cancel-safe in the sense that
    /// a dropped handshake drops the stream; set a deadline around it.
    ///
    /// # Errors
    /// An [`io::Error`] whose inner error is a [`Refusal`] if either side did not believe the other,
    /// or that of the stream. Nothing was sent that the caller wrote.
    pub async fn connect<S>(&self, io: S, host: &str, offer: Offer) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let outcome = self.handshake(io, host, offer).await;
        let counters = self.verifier.trust.counters();
        match &outcome {
            Ok(_) => {
                counters.connected.fetch_add(1, Relaxed);
            }
            Err(error) => counters.refuse(reason(error)),
        }
        outcome
    }

    async fn handshake<S>(&self, io: S, host: &str, offer: Offer) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if let Some(own) = &self.identity {
            let now = self.verifier.clock.now();
            own.state().presentable(now).map_err(refuse)?;
        }
        let asked = self.asked(host)?;
        let registration = Registration::new(&self.verifier);
        let config = match offer {
            Offer::Http1 => self.http1.clone(),
            Offer::Http2 => self.http2.clone(),
        };
        let connecting = TlsConnector::from(config).connect(asked.clone(), io);
        let stream = connecting.await.map_err(explain)?;
        registration
            .finish(stream.into(), Some(asked), None)
            .map_err(refuse)
    }

    /// The name that is sent and checked. An address is never sent, but may be checked.
    fn asked(&self, host: &str) -> io::Result<ServerName<'static>> {
        let own = host.trim_start_matches('[').trim_end_matches(']');
        let name = match &self.sni {
            Sni::Name(name) => &**name,
            Sni::EndpointOr(name) if own.parse::<IpAddr>().is_ok() => &**name,
            Sni::Endpoint | Sni::EndpointOr(_) | Sni::Nobody => own,
        };
        let invalid = |_| {
            let text = format!("{name:?} is no name that a server could be asked for");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        ServerName::try_from(name.to_owned()).map_err(invalid)
    }
}

fn config(
    verifier: &PeerVerifier,
    identity: Option<Credentials>,
    names: &[&str],
    sni: &Sni,
) -> Arc<ClientConfig> {
    // The only error is a provider that lacks a version; both providers have both.
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(verifier.clock))
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier.clone()));
    let mut config = match identity {
        Some(own) => builder.with_client_cert_resolver(Arc::new(Present(own))),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = *sni != Sni::Nobody;
    config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// The word for what a handshake failed for.
fn reason(error: &io::Error) -> &'static str {
    let own = error.get_ref();
    let own = own.and_then(|inner| inner.downcast_ref::<Refusal>());
    own.map_or("io", Refusal::reason)
}

pub(super) fn refuse(refusal: Refusal) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, refusal)
}

/// Puts a [`Refusal`] in the place of rustls' error.
pub(super) fn explain(error: io::Error) -> io::Error {
    let own = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .map(verifier::refusal);
    match own {
        Some(refusal) => refuse(refusal),
        None => error,
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("identity", &self.identity)
            .field("verification", &self.verifier.checks.verification)
            .finish_non_exhaustive()
    }
}
