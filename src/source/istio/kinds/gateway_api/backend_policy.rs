//! Policies of the Gateway API that are attached to backends: `BackendTLSPolicy` and
//! `XBackendTrafficPolicy`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{GatewayDuration, SessionPersistence};
use crate::source::istio::yaml::Located;

/// How callers know that a backend is the right one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct BackendTlsPolicySpec {
    /// The services, in the namespace of the policy.
    pub target_refs: Vec<Located<PolicyTargetReference>>,
    /// What is checked of their certificates.
    pub validation: Located<BackendTlsValidation>,
    /// What implementations add.
    pub options: BTreeMap<String, String>,
}

/// A service that a policy is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PolicyTargetReference {
    /// The API group; `""` is that of a Service.
    pub group: String,
    /// The kind: `Service`, or Istio's `ServiceEntry`.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The name of a port of the service; absent means all of its ports.
    pub section_name: Option<String>,
}

/// What is checked of a backend's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct BackendTlsValidation {
    /// Who signs it.
    #[serde(rename = "caCertificateRefs")]
    pub ca_certificate_refs: Vec<Located<CaCertificateReference>>,
    /// Who signs it: `System`, the authorities that the operating system knows.
    #[serde(rename = "wellKnownCACertificates")]
    pub well_known_ca_certificates: Option<String>,
    /// The name that is asked for, and that the certificate has, unless `subjectAltNames` are said.
    pub hostname: String,
    /// Names of which the certificate has one.
    pub subject_alt_names: Vec<Located<SubjectAltName>>,
}

/// An object with certificates of authorities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CaCertificateReference {
    /// The API group; `""`.
    pub group: String,
    /// The kind: `ConfigMap` or `Secret`.
    pub kind: String,
    /// The name.
    pub name: String,
}

/// A name in a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SubjectAltName {
    /// `Hostname` or `URI`; the field of that name must stand beside it.
    #[serde(rename = "type")]
    pub name_type: String,
    /// A DNS name.
    pub hostname: Option<String>,
    /// A URI, such as a SPIFFE ID.
    pub uri: Option<String>,
}

/// How callers treat a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct BackendTrafficPolicySpec {
    /// The services, in the namespace of the policy.
    pub target_refs: Vec<Located<PolicyTargetReference>>,
    /// How many retries they may get.
    pub retry_constraint: Option<Located<RetryConstraint>>,
    /// What keeps a client with one endpoint.
    pub session_persistence: Option<Located<SessionPersistence>>,
}

/// How many retries a backend may get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RetryConstraint {
    /// Retries as a share of requests.
    pub budget: Option<Located<ConstraintBudget>>,
    /// Retries that are always allowed.
    pub min_retry_rate: Option<Located<RequestRate>>,
}

/// Retries as a share of the requests of a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ConstraintBudget {
    /// The share, 0 to 100; absent means 20.
    pub percent: Option<u32>,
    /// The time, from 1s to 1h; absent means 10s.
    pub interval: Option<GatewayDuration>,
}

/// A number of requests in a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RequestRate {
    /// The number, 1 to 1,000,000; absent means 10.
    pub count: Option<u32>,
    /// The time, from 1s to 1h; absent means 1s.
    pub interval: Option<GatewayDuration>,
}
