//! `Telemetry`: what is told of requests (`telemetry.istio.io`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::authorization::PolicyTarget;
use super::{GoDuration, LabelSelector};
use crate::source::istio::yaml::Located;

/// What is told of the requests of some workloads.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Telemetry {
    /// Which workloads; absent or empty means all of the namespace, and in the root namespace all of
    /// the mesh.
    pub selector: Option<Located<LabelSelector>>,
    /// A gateway, waypoint or service that it is attached to.
    pub target_ref: Option<Located<PolicyTarget>>,
    /// Several of them.
    pub target_refs: Vec<Located<PolicyTarget>>,
    /// Spans.
    pub tracing: Vec<Located<TracingRule>>,
    /// Metrics.
    pub metrics: Vec<Located<MetricsRule>>,
    /// Lines of logs.
    pub access_logging: Vec<Located<LoggingRule>>,
}

/// A provider by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ProviderName {
    /// One of the mesh configuration's `extensionProviders`, or `envoy` or `prometheus`.
    pub name: Located<String>,
}

/// Which side of a call a rule is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum WorkloadMode {
    /// Both.
    #[default]
    ClientAndServer,
    /// Calls that the workload makes.
    Client,
    /// Requests that the workload gets.
    Server,
}

/// Which side of a call a rule is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ModeMatch {
    /// Absent means both.
    pub mode: WorkloadMode,
}

/// How spans are made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TracingRule {
    /// Which side of calls; absent means both.
    #[serde(rename = "match")]
    pub matches: Option<Located<ModeMatch>>,
    /// Where spans go; the first counts. Absent means what is said above it.
    pub providers: Vec<Located<ProviderName>>,
    /// Percent of the traces that begin here; absent means what is said above it.
    pub random_sampling_percentage: Option<Located<f64>>,
    /// Whether no spans are made; absent means what is said above it.
    pub disable_span_reporting: Option<bool>,
    /// Tags of spans, by name, in place of those that are said above it.
    pub custom_tags: BTreeMap<String, Located<CustomTag>>,
    /// Whether `x-request-id` takes part in sampling.
    pub use_request_id_for_trace_sampling: Option<bool>,
    /// Whether spans have Istio's tags; absent means what is said above it.
    pub enable_istio_tags: Option<bool>,
    /// Whether the callee is not told of the trace; absent means what is said above it.
    pub disable_context_propagation: Option<bool>,
}

/// Where the value of a tag comes from: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CustomTag {
    /// It is written here.
    pub literal: Option<Located<LiteralTag>>,
    /// From the environment of the process.
    pub environment: Option<Located<NamedTag>>,
    /// From a header of the request.
    pub header: Option<Located<NamedTag>>,
    /// A line of Envoy's operators, made when the request is over.
    pub formatter: Option<Located<LiteralTag>>,
}

/// A value of a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LiteralTag {
    /// The value.
    pub value: String,
}

/// A value of a tag that is looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NamedTag {
    /// Under which name.
    pub name: Located<String>,
    /// The value where there is none.
    pub default_value: Option<String>,
}

/// How metrics deviate from the standard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MetricsRule {
    /// Who is told.
    pub providers: Vec<Located<ProviderName>>,
    /// Changes, of which later ones count over earlier ones.
    pub overrides: Vec<Located<MetricsOverride>>,
    /// How often a proxy reports connections.
    pub reporting_interval: Option<GoDuration>,
}

/// One change of metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MetricsOverride {
    /// Which metrics; absent means all, on both sides.
    #[serde(rename = "match")]
    pub matches: Option<Located<MetricSelector>>,
    /// Whether they are not told; absent means what is said above it.
    pub disabled: Option<bool>,
    /// Changes of labels, by their names.
    pub tag_overrides: BTreeMap<String, Located<TagOverride>>,
}

/// Some metrics on one side or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MetricSelector {
    /// A metric of Istio's; absent means all.
    pub metric: Option<StandardMetric>,
    /// A metric of the user's.
    pub custom_metric: Option<Located<String>>,
    /// Absent means both.
    pub mode: WorkloadMode,
}

/// Istio's standard metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum StandardMetric {
    /// All of them.
    #[default]
    AllMetrics,
    /// `istio_requests_total`.
    RequestCount,
    /// `istio_request_duration_milliseconds`.
    RequestDuration,
    /// `istio_request_bytes`.
    RequestSize,
    /// `istio_response_bytes`.
    ResponseSize,
    /// Of a proxy for TCP.
    TcpOpenedConnections,
    /// Of a proxy for TCP.
    TcpClosedConnections,
    /// Of a proxy for TCP.
    TcpSentBytes,
    /// Of a proxy for TCP.
    TcpReceivedBytes,
    /// Messages of gRPC streams.
    GrpcRequestMessages,
    /// Messages of gRPC streams.
    GrpcResponseMessages,
}

/// A change of a label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TagOverride {
    /// Absent means UPSERT.
    pub operation: TagOperation,
    /// The value, as an expression of CEL.
    pub value: Option<Located<String>>,
}

/// What is done with a label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum TagOperation {
    /// It is added, or its value is replaced.
    #[default]
    Upsert,
    /// It is left out.
    Remove,
}

/// Who gets lines of logs, and of which requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LoggingRule {
    /// Which side of calls; absent means both.
    #[serde(rename = "match")]
    pub matches: Option<Located<ModeMatch>>,
    /// Where lines go; absent means what is said above it.
    pub providers: Vec<Located<ProviderName>>,
    /// Whether no lines are written; absent means no.
    pub disabled: Option<bool>,
    /// Which requests get a line; absent means all.
    pub filter: Option<Located<LoggingFilter>>,
}

/// Which requests get a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LoggingFilter {
    /// A condition in CEL.
    pub expression: Located<String>,
}
