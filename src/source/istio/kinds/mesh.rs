//! The kinds that say what a client sees and what holds for the mesh as a whole: `Sidecar`
//! (`networking.istio.io`), `WorkloadGroup`, and the mesh configuration.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{
    ConnectionPool, Destination, ExtensionProvider, GoDuration, H2UpgradePolicy, LocalitySetting,
    Retries, TrafficPolicy, WorkloadEntry, WorkloadLabels,
};
use crate::source::istio::yaml::Located;

/// What some workloads of a namespace see of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Sidecar {
    /// Which workloads; absent means all of the namespace.
    pub workload_selector: Option<Located<WorkloadLabels>>,
    /// What they see; absent means everything.
    pub egress: Vec<Located<EgressListener>>,
    /// What happens to requests for other hosts; absent means what the mesh says.
    pub outbound_traffic_policy: Option<Located<OutboundTrafficPolicy>>,
    /// Listeners of a proxy for incoming requests.
    pub ingress: Vec<Located<Anything>>,
    /// How much of incoming connections and requests is taken at once, on each port.
    pub inbound_connection_pool: Option<Located<ConnectionPool>>,
}

/// Hosts that are seen.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct EgressListener {
    /// `namespace/host`, where the namespace may be `.` (own), `*` (any) or `~` (none) and the host
    /// `*`, `*.suffix` or a name.
    pub hosts: Vec<Located<String>>,
    /// The port of a proxy's listener.
    pub port: Option<Located<Anything>>,
    /// The address of a proxy's listener.
    pub bind: Option<String>,
    /// How a proxy captures traffic.
    pub capture_mode: Option<String>,
}

/// What happens to requests for hosts that nobody declared.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OutboundTrafficPolicy {
    /// Absent means REGISTRY_ONLY where the block is there.
    pub mode: OutboundMode,
    /// A service that gets these requests.
    pub egress_proxy: Option<Located<Destination>>,
}

/// What happens to requests for hosts that nobody declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum OutboundMode {
    /// They are refused.
    #[default]
    RegistryOnly,
    /// They are sent to where DNS says.
    AllowAny,
}

/// A template of `WorkloadEntry`s, from which a control plane registers machines.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct WorkloadGroup {
    /// Labels and annotations of the entries.
    pub metadata: Option<Located<GroupMetadata>>,
    /// The entries, without their addresses.
    pub template: Option<Located<WorkloadEntry>>,
    /// How the machines are probed.
    pub probe: Option<Located<Anything>>,
}

/// Labels and annotations of the entries of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct GroupMetadata {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What holds for the mesh as a whole: key `mesh` of the ConfigMap `istio`, or a document whose
/// only key is `mesh`. Its other fields are warnings by name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MeshConfig {
    /// The namespace whose policy is for the whole mesh; absent means `istio-system`.
    pub root_namespace: Option<Located<String>>,
    /// The trust domain of identities.
    pub trust_domain: Option<Located<String>>,
    /// Other trust domains whose identities count as those of the mesh.
    pub trust_domain_aliases: Vec<Located<String>>,
    /// Whether endpoints that speak mutual TLS are called by it where no DestinationRule says;
    /// absent means yes.
    pub enable_auto_mtls: Option<bool>,
    /// `exportTo` of services and ServiceEntries that have none; absent means `*`.
    pub default_service_export_to: Vec<Located<String>>,
    /// `exportTo` of VirtualServices that have none; absent means `*`.
    pub default_virtual_service_export_to: Vec<Located<String>>,
    /// `exportTo` of DestinationRules that have none; absent means `*`.
    pub default_destination_rule_export_to: Vec<Located<String>>,
    /// What happens to requests for unknown hosts; absent means ALLOW_ANY.
    pub outbound_traffic_policy: Option<Located<OutboundTrafficPolicy>>,
    /// How long connecting may take where no DestinationRule says; absent means 10 s.
    pub connect_timeout: Option<GoDuration>,
    /// The retries of routes that say nothing of them, in place of Istio's default.
    pub default_http_retry_policy: Option<Located<Retries>>,
    /// The policy under every DestinationRule, block by block.
    pub default_traffic_policy: Option<Located<TrafficPolicy>>,
    /// Whether near endpoints come first, where no DestinationRule says.
    pub locality_lb_setting: Option<Located<LocalitySetting>>,
    /// Whether HTTP/1.1 ports are called by HTTP/2, where no DestinationRule says.
    pub h2_upgrade_policy: Option<H2UpgradePolicy>,
    /// What is done with paths that can be read in two ways.
    pub path_normalization: Option<Located<PathNormalization>>,
    /// What the mesh works with outside of it; those that decide about requests are read.
    pub extension_providers: Vec<Located<ExtensionProvider>>,
    /// How often names are resolved whose answers have no TTL; absent means 60 s.
    pub dns_refresh_rate: Option<GoDuration>,
    /// The providers where no Telemetry names one.
    pub default_providers: Option<Located<DefaultProviders>>,
    /// The file of the provider `envoy`, to which lines go also without a Telemetry; absent means
    /// none, and `/dev/stdout` where a Telemetry names the provider.
    pub access_log_file: Option<Located<String>>,
    /// How its lines look, in Envoy's operators; absent means Istio's.
    pub access_log_format: Option<Located<String>>,
    /// Whether they are JSON; absent means TEXT.
    pub access_log_encoding: AccessLogEncoding,
}

/// The providers where no Telemetry names one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DefaultProviders {
    /// Of metrics.
    pub metrics: Vec<Located<String>>,
    /// Of spans; the first counts.
    pub tracing: Vec<Located<String>>,
    /// Of lines of logs.
    pub access_logging: Vec<Located<String>>,
}

/// How lines of a log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum AccessLogEncoding {
    /// As text.
    #[default]
    Text,
    /// As JSON.
    Json,
}

/// What is done with paths that can be read in two ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PathNormalization {
    /// Absent or DEFAULT: they are refused with 400.
    pub normalization: NormalizationKind,
}

/// How a path is brought into one form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum NormalizationKind {
    /// What has two readings is refused.
    #[default]
    Default,
    /// Paths stay as they are.
    None,
    /// Backslashes are slashes, letters are decoded, dots are resolved.
    Base,
    /// The same, and repeated slashes are one.
    MergeSlashes,
    /// The same, with encoded slashes decoded first.
    DecodeAndMergeSlashes,
}

/// A block that is known and has no effect here, whatever it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub struct Anything(#[schemars(with = "serde_json::Value")] ());

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|IgnoredAny| Self(()))
    }
}
