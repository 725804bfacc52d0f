//! `DestinationRule`: how the endpoints of a host are used (`networking.istio.io`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::load_balancer::LoadBalancer;
use super::{GoDuration, PortSelector};
use crate::source::istio::yaml::Located;

/// The policies and subsets of one host.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DestinationRule {
    /// The host; a name without a dot is completed with the namespace, `*.suffix` covers many.
    pub host: Located<String>,
    /// Policies for all of its traffic.
    pub traffic_policy: Option<Located<TrafficPolicy>>,
    /// Named parts of its endpoints.
    pub subsets: Vec<Located<Subset>>,
    /// Namespaces that see this rule: `.` (own), `*` (all), `~` (none) or names; empty means all.
    pub export_to: Vec<Located<String>>,
    /// Calling workloads that this rule is for; only in its own namespace.
    pub workload_selector: Option<LabelSelector>,
}

/// Workloads by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels that a workload must have; empty selects all.
    pub match_labels: BTreeMap<String, String>,
}

/// A named part of the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Subset {
    /// The name that destinations refer to.
    pub name: Located<String>,
    /// Labels that an endpoint must have; empty means all endpoints.
    pub labels: BTreeMap<String, String>,
    /// Policies that replace those of the host, block by block.
    pub traffic_policy: Option<Located<TrafficPolicy>>,
}

/// Policies, of which each block is replaced as a whole by a more specific one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TrafficPolicy {
    /// How an endpoint is chosen.
    pub load_balancer: Option<Located<LoadBalancer>>,
    /// Limits and times of connections and requests.
    pub connection_pool: Option<Located<ConnectionPool>>,
    /// When an endpoint is ejected.
    pub outlier_detection: Option<Located<OutlierDetection>>,
    /// How connections are secured; absent means automatic.
    pub tls: Option<Located<ClientTls>>,
    /// Policies of single ports, each of which replaces all four blocks above for its port.
    pub port_level_settings: Vec<Located<PortTrafficPolicy>>,
    /// Tunnels TCP through HTTP.
    pub tunnel: Option<Located<Tunnel>>,
    /// Announces the caller with the PROXY protocol.
    pub proxy_protocol: Option<Located<ProxyProtocol>>,
    /// Limits retries to a share of the requests in flight.
    pub retry_budget: Option<Located<RetryBudget>>,
}

/// Policies of one port.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PortTrafficPolicy {
    /// The port of the service.
    pub port: Option<Located<PortSelector>>,
    /// How an endpoint is chosen.
    pub load_balancer: Option<Located<LoadBalancer>>,
    /// Limits and times of connections and requests.
    pub connection_pool: Option<Located<ConnectionPool>>,
    /// When an endpoint is ejected.
    pub outlier_detection: Option<Located<OutlierDetection>>,
    /// How connections are secured.
    pub tls: Option<Located<ClientTls>>,
}

/// Limits and times of connections and requests, per calling process and per subset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ConnectionPool {
    /// Of connections.
    pub tcp: Option<TcpPool>,
    /// Of HTTP and gRPC requests.
    pub http: Option<HttpPool>,
}

/// Limits and times of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TcpPool {
    /// Connections at one time; absent means no limit.
    pub max_connections: Option<u32>,
    /// Limit of connecting; absent means 10s.
    pub connect_timeout: Option<GoDuration>,
    /// Keepalive probes of the operating system.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Age at which a connection is closed; absent means never.
    pub max_connection_duration: Option<GoDuration>,
    /// Idle time after which a connection is closed; `http.idleTimeout` has priority.
    pub idle_timeout: Option<GoDuration>,
}

/// Keepalive probes of the operating system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TcpKeepalive {
    /// Lost probes after which the connection is dead.
    pub probes: Option<u32>,
    /// Idle time before the first probe.
    pub time: Option<GoDuration>,
    /// Time between probes.
    pub interval: Option<GoDuration>,
}

/// Limits and times of HTTP and gRPC requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpPool {
    /// Requests that wait for a connection, also of HTTP/2; absent means no limit.
    pub http1_max_pending_requests: Option<u32>,
    /// Requests in flight, also of HTTP/1.1; absent means no limit.
    pub http2_max_requests: Option<u32>,
    /// Requests after which a connection is renewed; 0 or absent means never.
    pub max_requests_per_connection: Option<u32>,
    /// Retries in flight; absent means no limit.
    pub max_retries: Option<u32>,
    /// Idle time after which a connection is closed; absent means 1h.
    pub idle_timeout: Option<GoDuration>,
    /// Whether HTTP/1.1 ports are spoken to in HTTP/2.
    pub h2_upgrade_policy: Option<H2UpgradePolicy>,
    /// Speak the protocol version of the caller.
    pub use_client_protocol: Option<bool>,
    /// Requests at one time on one HTTP/2 connection.
    pub max_concurrent_streams: Option<u32>,
    /// Keepalive pings on HTTP/2 connections.
    #[serde(rename = "http2KeepAlive")]
    pub http2_keepalive: Option<Http2Keepalive>,
}

/// Whether HTTP/1.1 ports are spoken to in HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum H2UpgradePolicy {
    /// As the mesh says.
    Default,
    /// No.
    DoNotUpgrade,
    /// Yes.
    Upgrade,
}

/// Keepalive pings on HTTP/2 connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Http2Keepalive {
    /// Time between pings.
    pub interval: Option<GoDuration>,
    /// Time to wait for the answer.
    pub timeout: Option<GoDuration>,
}

/// When an endpoint is ejected and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OutlierDetection {
    /// Replaced by `consecutive5xxErrors`; has no effect (deprecated).
    pub consecutive_errors: Option<u32>,
    /// Count failures of this side (connect, reset, timeout) apart from answers.
    pub split_external_local_origin_errors: bool,
    /// Failures of this side in a row; absent means 5. Needs the split.
    pub consecutive_local_origin_failures: Option<u32>,
    /// 502, 503 and 504 in a row; absent or 0 means not counted.
    pub consecutive_gateway_errors: Option<u32>,
    /// 5xx in a row; absent means 5, 0 means not counted.
    pub consecutive_5xx_errors: Option<u32>,
    /// Time between looks at ejected endpoints; absent means 10s.
    pub interval: Option<GoDuration>,
    /// Time of the first ejection, which each further one lengthens; absent means 30s.
    pub base_ejection_time: Option<GoDuration>,
    /// Share of the endpoints that may be ejected; absent means 10.
    pub max_ejection_percent: Option<u32>,
    /// Share of healthy endpoints below which ejection is ignored; absent means never.
    pub min_health_percent: Option<u32>,
    /// Status codes that count as failures in place of 5xx.
    pub outlier_detection_http_error_codes: Vec<u16>,
}

/// How connections are secured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ClientTls {
    /// Whose certificates are shown and checked; absent means DISABLE.
    pub mode: TlsMode,
    /// File with the certificates to show.
    pub client_certificate: Option<String>,
    /// File with their key.
    pub private_key: Option<String>,
    /// File with the certificates to trust.
    pub ca_certificates: Option<String>,
    /// Secret with all of them.
    pub credential_name: Option<String>,
    /// File with revoked certificates.
    pub ca_crl: Option<String>,
    /// Names, of which the server's certificate must have one.
    pub subject_alt_names: Vec<String>,
    /// Server name to ask for.
    pub sni: Option<String>,
    /// Do not check the server's certificate.
    pub insecure_skip_verify: Option<bool>,
}

/// Whose certificates are shown and checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum TlsMode {
    /// Plain text.
    #[default]
    Disable,
    /// Check the server.
    Simple,
    /// Check the server and show a certificate from files.
    Mutual,
    /// Check the server and show the certificate of the mesh.
    IstioMutual,
}

/// Tunnels TCP through HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Tunnel {
    /// CONNECT or POST.
    pub protocol: Option<String>,
    /// Host at the far end.
    pub target_host: String,
    /// Port at the far end.
    pub target_port: u16,
}

/// Announces the caller with the PROXY protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ProxyProtocol {
    /// Its version.
    pub version: Option<ProxyProtocolVersion>,
}

/// Versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ProxyProtocolVersion {
    /// As text.
    V1,
    /// As bytes.
    V2,
}

/// Limits retries to a share of the requests in flight; overrides `maxRetries`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RetryBudget {
    /// The share, 0 to 100; absent means 20.
    pub percent: Option<f64>,
    /// Retries in flight that are always allowed; absent means 3.
    pub min_retry_concurrency: Option<u32>,
    /// Time over which requests count; absent or 0s means those in flight.
    pub budget_interval: Option<GoDuration>,
}
