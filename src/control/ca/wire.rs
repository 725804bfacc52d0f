//! The messages of `istio.v1.auth.IstioCertificateService`.

use envoy_types::pb::google::protobuf::Struct;

/// The path of its only method.
pub(in crate::control) const CREATE: &str =
    "/istio.v1.auth.IstioCertificateService/CreateCertificate";
/// The field of `metadata` by which ztunnel asks for a certificate of somebody else.
pub(super) const IMPERSONATED: &str = "ImpersonatedIdentity";

/// What is asked.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Asked {
    /// A certificate request in PEM.
    #[prost(string, tag = "1")]
    pub(super) csr: String,
    /// Seconds; 0: what the authority thinks right.
    #[prost(int64, tag = "3")]
    pub(super) validity_duration: i64,
    /// What the client says of itself.
    #[prost(message, optional, tag = "4")]
    pub(super) metadata: Option<Struct>,
}

/// The answer.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Answered {
    /// PEM texts: the certificate, and last the roots, of which there are two while one replaces the
    /// other.
    #[prost(string, repeated, tag = "1")]
    pub(super) cert_chain: Vec<String>,
}
