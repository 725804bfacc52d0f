//! Who is at the other end of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::identity::SpiffeId;

/// The other end of an accepted connection, found among the extensions of each of its requests.
///
/// All of it comes from the connection, nothing from headers: what a caller writes about itself is
/// no evidence. It is as of the moment at which the connection was accepted.
///
/// ```
/// use meshwork::inbound::Peer;
///
/// fn caller<B>(request: &http::Request<B>) -> String {
///     let peer = request.extensions().get::<Peer>();
///     match peer.and_then(|peer| peer.principal.as_ref()) {
///         Some(principal) => principal.to_string(),
///         None => "nobody that could be verified".to_owned(),
///     }
/// }
/// assert_eq!(caller(&http::Request::new(())), "nobody that could be verified");
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Peer {
    /// Its address; `None` for Unix sockets and streams in memory.
    pub remote: Option<SocketAddr>,
    /// The address that it connected to.
    pub local: Option<SocketAddr>,
    /// Its identity, verified in the handshake. `None` for plaintext and for TLS without a client
    /// certificate: such a peer has no identity at all, not an empty one.
    pub principal: Option<SpiffeId>,
    /// What its verified certificate says besides; `None` without a certificate.
    pub certificate: Option<Arc<CertificateNames>>,
    /// The protocol that was agreed on in the handshake (ALPN), such as `h2`.
    pub alpn: Option<Arc<str>>,
    /// The server name that it asked for in the handshake (SNI).
    pub sni: Option<Arc<str>>,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// The names in a verified certificate, for policies that ask for other than SPIFFE identities
/// (gRPC A41: URI names, else DNS names, else the subject).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CertificateNames {
    /// The URI names (SAN).
    pub uris: Vec<Box<str>>,
    /// The DNS names (SAN).
    pub dns: Vec<Box<str>>,
    /// The subject, as RFC 2253 writes it.
    pub subject: Box<str>,
    /// The serial number, in hexadecimal digits with colons.
    pub serial: Box<str>,
}

impl Peer {
    /// A peer without encryption: it has addresses and no identity.
    #[must_use]
    pub fn plaintext(remote: Option<SocketAddr>, local: Option<SocketAddr>) -> Self {
        Self {
            remote,
            local,
            ..Self::default()
        }
    }

    /// Whether the connection is encrypted and the other end has shown a certificate that was
    /// verified, which is what STRICT demands.
    #[must_use]
    pub fn is_mutual(&self) -> bool {
        self.tls && (self.principal.is_some() || self.certificate.is_some())
    }
}
