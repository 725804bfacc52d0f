//! `Gateway`: where Envoys at the edge of a mesh listen (`networking.istio.io`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::source::istio::yaml::Located;

/// Listeners of the Envoys that the selector selects. VirtualServices name it in their `gateways`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Gateway {
    /// The listeners; at least one.
    pub servers: Vec<Located<GatewayServer>>,
    /// Labels that an Envoy must have, of whatever namespace; empty means every one whose id begins
    /// with `router~`.
    pub selector: BTreeMap<String, String>,
}

/// One listener, or a part of one that it shares with others.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct GatewayServer {
    /// The port; required.
    pub port: Option<Located<GatewayPort>>,
    /// The address; absent means all of IPv4.
    pub bind: Option<Located<String>>,
    /// `host` or `namespace/host`, where the host may begin with `*` and the namespace be `.` (that of
    /// the Gateway) or `*`: which hosts of VirtualServices (of which namespaces) are served.
    pub hosts: Vec<Located<String>>,
    /// TLS of the listener; required for `HTTPS` and `TLS`.
    pub tls: Option<Located<ServerTls>>,
    /// Where a sidecar's listener sends everything.
    pub default_endpoint: Option<String>,
    /// Name of the server.
    pub name: Option<String>,
}

/// The port of a listener.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct GatewayPort {
    /// The number, from 1.
    pub number: u16,
    /// `HTTP`, `HTTP2`, `GRPC`, `GRPC-WEB`, `HTTPS` or `TLS`, whatever the case; others are not served.
    pub protocol: Option<String>,
    /// Name of the port; required, and unique among the servers of a Gateway.
    pub name: Option<String>,
    /// Without effect.
    pub target_port: Option<u16>,
}

/// How a listener secures its connections. Paths are those of the machine that the Envoy runs on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ServerTls {
    /// Answers every plaintext request with 301 to `https`.
    pub https_redirect: bool,
    /// Who ends the encryption, and what is asked of callers.
    pub mode: ServerTlsMode,
    /// File of the chain, leaf first (PEM).
    pub server_certificate: Option<String>,
    /// File of its key (PEM).
    pub private_key: Option<String>,
    /// File of the roots that callers' certificates lead to (PEM).
    pub ca_certificates: Option<String>,
    /// File of certificates that are revoked (PEM).
    pub ca_crl: Option<String>,
    /// A Kubernetes secret.
    pub credential_name: Option<String>,
    /// Kubernetes secrets.
    pub credential_names: Vec<String>,
    /// Several chains and keys, such as one of RSA and one of ECDSA.
    pub tls_certificates: Vec<Located<ServerCertificate>>,
    /// Names of which a caller's certificate must have one: DNS names, or URIs.
    pub subject_alt_names: Vec<String>,
    /// Hashes (SHA-256, base64) of the keys that callers may have.
    pub verify_certificate_spki: Vec<String>,
    /// Hashes (SHA-256, hex) of the certificates that callers may have.
    pub verify_certificate_hash: Vec<String>,
    /// The oldest version that is spoken; absent means TLS 1.2.
    pub min_protocol_version: TlsVersion,
    /// The newest version that is spoken.
    pub max_protocol_version: TlsVersion,
    /// Ciphers of TLS 1.2 and older; absent means Envoy's.
    pub cipher_suites: Vec<Located<String>>,
}

/// A chain and its key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ServerCertificate {
    /// File of the chain, leaf first (PEM).
    pub server_certificate: Option<String>,
    /// File of its key (PEM).
    pub private_key: Option<String>,
    /// File of roots; those of the server count.
    pub ca_certificates: Option<String>,
}

/// Who ends the encryption of a server, and what is asked of callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ServerTlsMode {
    /// The service behind it: connections go where the `tls` rules of VirtualServices say.
    #[default]
    Passthrough,
    /// The Envoy.
    Simple,
    /// The Envoy, for callers who show a certificate.
    Mutual,
    /// The service behind it, which the server name says.
    AutoPassthrough,
    /// The Envoy with certificates of the mesh.
    IstioMutual,
    /// The Envoy; callers who show a certificate must show a good one.
    OptionalMutual,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[non_exhaustive]
pub enum TlsVersion {
    /// What Envoy takes for good.
    #[default]
    #[serde(rename = "TLS_AUTO")]
    Auto,
    /// 1.0.
    #[serde(rename = "TLSV1_0")]
    V1_0,
    /// 1.1.
    #[serde(rename = "TLSV1_1")]
    V1_1,
    /// 1.2.
    #[serde(rename = "TLSV1_2")]
    V1_2,
    /// 1.3.
    #[serde(rename = "TLSV1_3")]
    V1_3,
}

impl GatewayServer {
    /// What is spoken at its port.
    pub(crate) fn protocol(&self) -> ServerProtocol {
        let port = self.port.as_ref().and_then(|port| port.protocol.as_deref());
        match port.map(str::to_ascii_uppercase).as_deref() {
            Some("GRPC" | "HTTP" | "HTTP2") => ServerProtocol::Http,
            Some("GRPC-WEB") => ServerProtocol::GrpcWeb,
            Some("HTTPS") => ServerProtocol::Https,
            Some("TLS") => ServerProtocol::Tls,
            Some(_) | None => ServerProtocol::Other,
        }
    }

    /// Whether the service behind it ends the encryption.
    pub(crate) fn passes_through(&self) -> bool {
        let mode = self.tls.as_ref().map(|tls| tls.mode);
        mode == Some(ServerTlsMode::Passthrough)
    }
}

/// What a server speaks, as far as it matters here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ServerProtocol {
    /// gRPC of browsers, which is translated.
    GrpcWeb,
    /// HTTP in any version, without encryption.
    Http,
    /// HTTP within TLS.
    Https,
    /// Bytes that are not looked into.
    Other,
    /// Bytes within TLS.
    Tls,
}
