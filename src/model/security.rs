//! How connections are secured: what is presented, who is believed, what is asked of callers.
//!
//! Values only: which files and providers are meant, not what is in them. What is in them changes
//! without an edit of the configuration, and is no part of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::matcher::StringMatcher;

/// How connections to the endpoints of a cluster are secured.
///
/// There is no way from the last two to plaintext: a handshake that fails is a connection that
/// fails.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Security {
    /// Not at all (`DISABLE`).
    #[default]
    Plaintext,
    /// With TLS to the endpoints that [speak it](super::endpoint::Endpoint::meshed), without to the
    /// others (Istio's auto mTLS; xDS `transport_socket_matches`).
    Automatic(Arc<ClientTls>),
    /// With TLS to all of them.
    Tls(Arc<ClientTls>),
}

/// TLS as a client.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ClientTls {
    /// Which certificate is presented; `None`: none.
    pub identity: Option<Material>,
    /// Whose word counts for the server.
    pub trust: Material,
    /// What is checked of the server's certificate.
    pub verification: Verification,
    /// Names of which the certificate must have one (`subjectAltNames`). Empty: as
    /// [`verification`](Self::verification) says. An exact matcher also matches a wildcard DNS name
    /// of the certificate.
    pub names: Vec<StringMatcher>,
    /// Which server is asked for (SNI).
    pub sni: Sni,
    /// Which protocols are offered.
    pub alpn: Alpn,
}

/// Where certificates come from.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Material {
    /// From files, which are read again when they change.
    Files(Files),
    /// The mesh's own: what the program gave to the builder of the mesh.
    Mesh,
    /// From a provider of this name (xDS certificate providers and secrets).
    Named(Arc<str>),
    /// The roots of the operating system.
    System,
}

/// Paths of PEM files; those that a use does not need are `None`.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Files {
    /// The chain, leaf first (`clientCertificate`).
    pub certificate: Option<Arc<Path>>,
    /// The key of the leaf (`privateKey`).
    pub key: Option<Arc<Path>>,
    /// Roots (`caCertificates`).
    pub roots: Option<Arc<Path>>,
    /// Revocation lists (`caCrl`).
    pub revocations: Option<Arc<Path>>,
}

/// What is checked of a peer's certificate.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Verification {
    /// The chain to a root of [`trust`](ClientTls::trust), and [`names`](ClientTls::names) if there
    /// are any (gRPC A29).
    Chain,
    /// The chain, and that the certificate is for the server that was asked for, unless there are
    /// [`names`](ClientTls::names).
    Name,
    /// The chain, and that the certificate is for the name that was asked for; of a server that has
    /// no name to ask for, [`names`](ClientTls::names) instead (gRFC A101: `auto_sni_san_validation` with names
    /// beside it).
    NameOr,
    /// Nothing (`insecureSkipVerify`).
    Nothing,
    /// All rules of X509-SVIDs, the chain to a root of the peer's own trust domain, and
    /// [`names`](ClientTls::names) if there are any.
    #[default]
    Svid,
}

/// Which server is asked for in the handshake.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub enum Sni {
    /// The [host name](super::endpoint::Endpoint::hostname) of the endpoint, without its port; where
    /// it has none, the host of its address, if that is a name and no IP address.
    #[default]
    Endpoint,
    /// The same, and this name where the endpoint has none (gRFC A101: `auto_host_sni` beside `sni`).
    EndpointOr(Arc<str>),
    /// This name.
    Name(Arc<str>),
    /// None.
    Nobody,
}

/// Which protocols are offered in the handshake.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Alpn {
    /// `h2` or `http/1.1`.
    #[default]
    Http,
    /// The same with Istio's words before: a sidecar in mode PERMISSIVE takes what comes without
    /// them for TLS of the application and hands the ciphertext on.
    Istio,
}

/// What is asked of callers (PeerAuthentication's `mtls.mode`).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum MutualTls {
    /// Plaintext only.
    Disable,
    /// Mutual TLS, or plaintext without an identity (Istio's default).
    #[default]
    Permissive,
    /// Mutual TLS only.
    Strict,
}

impl MutualTls {
    /// As YAML writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
        }
    }
}

/// What is asked of the callers of this process (PeerAuthentication, as far as it concerns one
/// workload).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PeerPolicy {
    /// What holds for ports that are not listed.
    pub mode: MutualTls,
    /// What holds for single ports that this process listens on.
    pub ports: BTreeMap<u16, MutualTls>,
}

impl PeerPolicy {
    /// What holds for a port.
    ///
    /// ```
    /// use meshwork::model::security::{MutualTls, PeerPolicy};
    ///
    /// let policy = PeerPolicy {
    ///     mode: MutualTls::Strict,
    ///     ports: [(8_081, MutualTls::Disable)].into(),
    /// };
    /// assert_eq!(policy.on(8_080), MutualTls::Strict);
    /// assert_eq!(policy.on(8_081), MutualTls::Disable);
    /// ```
    #[must_use]
    pub fn on(&self, port: u16) -> MutualTls {
        self.ports.get(&port).copied().unwrap_or(self.mode)
    }

    /// The most that holds for any port: what is asked of a caller whose port is not known.
    ///
    /// ```
    /// use meshwork::model::security::{MutualTls, PeerPolicy};
    ///
    /// let policy = PeerPolicy {
    ///     mode: MutualTls::Permissive,
    ///     ports: [(8_443, MutualTls::Strict)].into(),
    /// };
    /// assert_eq!(policy.strictest(), MutualTls::Strict);
    /// ```
    #[must_use]
    pub fn strictest(&self) -> MutualTls {
        let ports = self.ports.values().copied();
        ports.fold(self.mode, MutualTls::max)
    }
}
