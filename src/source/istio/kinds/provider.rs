//! `extensionProviders` of the mesh configuration, as far as they decide about requests or are
//! told of them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::GoDuration;
use super::mesh::Anything;
use crate::source::istio::yaml::Located;

/// Something outside of the mesh that it works with, by its name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ExtensionProvider {
    /// The name that policies refer to.
    pub name: Located<String>,
    /// An authorizer that is asked by HTTP.
    pub envoy_ext_authz_http: Option<Located<ExtAuthzHttp>>,
    /// An authorizer that is asked by gRPC (`envoy.service.auth.v3.Authorization`).
    pub envoy_ext_authz_grpc: Option<Located<ExtAuthzGrpc>>,
    /// A file, for lines of logs.
    pub envoy_file_access_log: Option<Located<FileAccessLog>>,
    /// A collector of OpenTelemetry, for lines of logs.
    pub envoy_otel_als: Option<Located<OtelAccessLog>>,
    /// Prometheus, for metrics.
    pub prometheus: Option<Located<Anything>>,
    /// A collector of OpenTelemetry, for spans.
    pub opentelemetry: Option<Located<Anything>>,
    /// Zipkin, for spans.
    pub zipkin: Option<Located<Anything>>,
    /// Jaeger, as older meshes call it.
    pub jaeger: Option<Located<Anything>>,
    /// Datadog, for spans.
    pub datadog: Option<Located<Anything>>,
    /// SkyWalking, for spans.
    pub skywalking: Option<Located<Anything>>,
    /// Lightstep, for spans.
    pub lightstep: Option<Located<Anything>>,
    /// OpenCensus, for spans.
    pub opencensus: Option<Located<Anything>>,
    /// Stackdriver, for spans, metrics and logs.
    pub stackdriver: Option<Located<Anything>>,
}

impl ExtensionProvider {
    /// Whether it takes spans. What of them it is, is the program's to say, which makes the tracer.
    pub(crate) fn traces(&self) -> bool {
        let all = [
            &self.opentelemetry,
            &self.zipkin,
            &self.jaeger,
            &self.datadog,
            &self.skywalking,
            &self.lightstep,
            &self.opencensus,
            &self.stackdriver,
        ];
        all.iter().any(|one| one.is_some())
    }
}

/// A file that gets a line for each request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct FileAccessLog {
    /// Its path; `/dev/stdout` and `/dev/stderr` are those of the process.
    pub path: Option<Located<String>>,
    /// How lines look; absent means Istio's text.
    pub log_format: Option<Located<FileLogFormat>>,
}

/// How lines of a file look: `text` or `labels`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct FileLogFormat {
    /// Envoy's operators between other text.
    pub text: Option<Located<String>>,
    /// The same for each field of a JSON object.
    pub labels: BTreeMap<String, String>,
}

/// A collector that gets a record for each request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OtelAccessLog {
    /// Its host; records go through the logger of the program, which knows its exporter.
    pub service: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// The name of the log.
    pub log_name: Option<String>,
    /// What records hold.
    pub log_format: Option<Located<OtelLogFormat>>,
}

/// What records hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OtelLogFormat {
    /// The body; absent means Istio's text.
    pub text: Option<Located<String>>,
    /// Attributes, as texts with Envoy's operators.
    pub labels: BTreeMap<String, String>,
}

/// An authorizer that is asked by HTTP: a status of 200 lets the request pass.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ExtAuthzHttp {
    /// Its host, perhaps with a namespace and a slash before it.
    pub service: Located<String>,
    /// Its port.
    pub port: u16,
    /// How long it may take; absent means 600 s.
    pub timeout: Option<GoDuration>,
    /// What is put before the path of the request.
    pub path_prefix: Option<Located<String>>,
    /// Whether a request passes when it cannot be asked; absent means no.
    pub fail_open: bool,
    /// The status when it cannot be asked; absent means 403.
    pub status_on_error: Option<Located<String>>,
    /// Whether a proxy chooses the route anew.
    pub clear_route_cache: Option<bool>,
    /// Headers of the request that it is shown, beside method, path and host.
    pub include_request_headers_in_check: Vec<Located<String>>,
    /// The same, under the name that is deprecated.
    pub include_headers_in_check: Vec<Located<String>>,
    /// Headers that it is shown besides.
    pub include_additional_headers_in_check: BTreeMap<String, String>,
    /// Whether it is shown the body.
    pub include_request_body_in_check: Option<Located<Anything>>,
    /// Headers of its answer that the service gets.
    pub headers_to_upstream_on_allow: Vec<Located<String>>,
    /// Headers of its answer that the caller gets when the request is denied.
    pub headers_to_downstream_on_deny: Vec<Located<String>>,
    /// Headers of its answer that the caller gets when the request passes.
    pub headers_to_downstream_on_allow: Vec<Located<String>>,
}

/// An authorizer that is asked by gRPC.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ExtAuthzGrpc {
    /// Its host, perhaps with a namespace and a slash before it.
    pub service: Located<String>,
    /// Its port.
    pub port: u16,
    /// How long it may take; absent means 600 s.
    pub timeout: Option<GoDuration>,
    /// Whether a request passes when it cannot be asked; absent means no.
    pub fail_open: bool,
    /// The status when it cannot be asked; absent means 403.
    pub status_on_error: Option<Located<String>>,
    /// Whether a proxy chooses the route anew.
    pub clear_route_cache: Option<bool>,
    /// Whether it is shown the body.
    pub include_request_body_in_check: Option<Located<Anything>>,
}
