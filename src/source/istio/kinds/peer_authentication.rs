//! `PeerAuthentication`: what is asked of callers (`security.istio.io`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{LabelSelector, filled};
use crate::source::istio::yaml::Located;

/// Whether callers must prove who they are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PeerAuthentication {
    /// Which workloads; absent or empty means all of the namespace, and in the root namespace all of
    /// the mesh.
    pub selector: Option<Located<LabelSelector>>,
    /// What holds for all ports; absent means what the namespace, then the mesh says.
    pub mtls: Option<Located<PeerTls>>,
    /// What holds for single ports of the workload (not of its service), by number. Only with a
    /// selector.
    #[serde(deserialize_with = "filled")]
    pub port_level_mtls: BTreeMap<String, Located<PeerTls>>,
}

/// What is asked of callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PeerTls {
    /// Absent means UNSET.
    pub mode: PeerTlsMode,
}

/// What is asked of callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum PeerTlsMode {
    /// What is said above it.
    #[default]
    Unset,
    /// Plain text.
    Disable,
    /// Mutual TLS or plain text.
    Permissive,
    /// Mutual TLS.
    Strict,
}
