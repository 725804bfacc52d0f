//! `VirtualService`: which requests go where (`networking.istio.io`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::http_action::{
    CorsPolicy, Delegate, DirectResponse, FaultInjection, HeaderOperations, Mirror, Percent,
    Redirect, Retries, Rewrite,
};
use super::{GoDuration, PortSelector};
use crate::source::istio::yaml::Located;

/// The routing rules of one or more hosts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct VirtualService {
    /// The hosts whose requests these rules own; a name without a dot is completed with the
    /// namespace of this object.
    pub hosts: Vec<Located<String>>,
    /// Gateways and `mesh` (the services themselves) that these rules apply to; empty means `mesh`.
    pub gateways: Vec<Located<String>>,
    /// HTTP and gRPC rules in order; the first that matches wins.
    pub http: Vec<Located<HttpRoute>>,
    /// Rules by TLS server name.
    pub tls: Vec<Located<TlsRoute>>,
    /// Rules for other TCP connections.
    pub tcp: Vec<Located<TcpRoute>>,
    /// Namespaces that see these rules: `.` (own), `*` (all), `~` (none) or names; empty means all.
    pub export_to: Vec<Located<String>>,
}

/// One HTTP rule: conditions and what happens to the requests that fulfil them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpRoute {
    /// Name of the route in logs and metrics.
    pub name: Option<String>,
    /// Alternatives, of which one must hold; empty matches every request.
    #[serde(rename = "match")]
    pub matches: Vec<Located<HttpMatch>>,
    /// Where the requests go; several destinations share them by weight.
    pub route: Vec<Located<HttpRouteDestination>>,
    /// Answer with a redirect.
    pub redirect: Option<Located<Redirect>>,
    /// Answer with a fixed response.
    pub direct_response: Option<Located<DirectResponse>>,
    /// Another VirtualService that holds the rules.
    pub delegate: Option<Located<Delegate>>,
    /// Changes of the path and authority on the way out.
    pub rewrite: Option<Located<Rewrite>>,
    /// Limit of the whole call, retries included; absent or 0s means none.
    pub timeout: Option<GoDuration>,
    /// How failed tries are repeated; absent means the default policy, `{}` means never.
    pub retries: Option<Located<Retries>>,
    /// Delays and failures to inject.
    pub fault: Option<Located<FaultInjection>>,
    /// A destination that gets a copy of each request.
    pub mirror: Option<Located<Destination>>,
    /// Share of requests to mirror, as a whole number of percent (deprecated).
    pub mirror_percent: Option<u32>,
    /// Share of requests to mirror.
    pub mirror_percentage: Option<Percent>,
    /// Several destinations that get copies.
    pub mirrors: Vec<Located<Mirror>>,
    /// Rules for browsers of other origins.
    pub cors_policy: Option<Located<CorsPolicy>>,
    /// Headers to change for every destination.
    pub headers: Option<Headers>,
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpMatch {
    /// Name that is added to the name of the route.
    pub name: Option<String>,
    /// The path without the query.
    pub uri: Option<StringMatch>,
    /// `http` or `https`.
    pub scheme: Option<StringMatch>,
    /// The method, in capitals.
    pub method: Option<StringMatch>,
    /// The authority or `host` header, with the port when it was written.
    pub authority: Option<StringMatch>,
    /// Headers by name, which is not case sensitive; an empty matcher means "is present".
    pub headers: BTreeMap<String, StringMatch>,
    /// The port of the service that the client addresses.
    pub port: Option<u16>,
    /// Labels that the calling workload must have.
    pub source_labels: BTreeMap<String, String>,
    /// Gateways and `mesh` for which this block counts, instead of those of the object.
    pub gateways: Vec<Located<String>>,
    /// Query parameters by name.
    pub query_params: BTreeMap<String, StringMatch>,
    /// Compare `exact` and `prefix` of `uri` without regard to case.
    pub ignore_uri_case: bool,
    /// Headers that must not match.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Namespace of the calling workload.
    pub source_namespace: Option<String>,
    /// Prefix of the route's metrics.
    pub stat_prefix: Option<String>,
}

/// How a text is compared: at most one of the three, none means "is present".
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct StringMatch {
    /// Equal, case sensitive.
    pub exact: Option<String>,
    /// Begins with this text, case sensitive.
    pub prefix: Option<String>,
    /// The whole text matches this RE2 regular expression.
    pub regex: Option<Located<String>>,
}

/// One destination with its share and its header operations.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpRouteDestination {
    /// Where the requests go.
    pub destination: Option<Located<Destination>>,
    /// Share relative to the other destinations; ignored when there is only one.
    pub weight: u32,
    /// Headers to change for this destination.
    pub headers: Option<Headers>,
}

/// A service, one of its subsets, and its port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Destination {
    /// The host of the service; a name without a dot is completed with the namespace.
    pub host: Located<String>,
    /// Name of a subset in the DestinationRule of the host.
    pub subset: Option<Located<String>>,
    /// The port of the service; may be absent when it has only one.
    pub port: Option<Located<PortSelector>>,
}

/// Header operations on the request and on the response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Headers {
    /// Before the request leaves.
    pub request: Option<HeaderOperations>,
    /// Before the caller sees the response.
    pub response: Option<HeaderOperations>,
}

/// Connections by their TLS server name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TlsRoute {
    /// Alternatives, of which one must hold.
    #[serde(rename = "match")]
    pub matches: Vec<TlsMatch>,
    /// Where the connections go.
    pub route: Vec<RouteDestination>,
}

/// Conditions on a TLS connection.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TlsMatch {
    /// Server names, of which one must be asked for.
    pub sni_hosts: Vec<Located<String>>,
    /// Networks or addresses of the destination.
    pub destination_subnets: Vec<String>,
    /// The port of the service.
    pub port: Option<u16>,
    /// Labels of the calling workload.
    pub source_labels: BTreeMap<String, String>,
    /// Gateways and `mesh` for which this block counts.
    pub gateways: Vec<Located<String>>,
    /// Namespace of the calling workload.
    pub source_namespace: Option<String>,
}

/// Connections by address and port.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TcpRoute {
    /// Alternatives, of which one must hold; empty matches every connection.
    #[serde(rename = "match")]
    pub matches: Vec<TcpMatch>,
    /// Where the connections go.
    pub route: Vec<RouteDestination>,
}

/// Conditions on a TCP connection.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TcpMatch {
    /// Networks or addresses of the destination.
    pub destination_subnets: Vec<String>,
    /// The port of the service.
    pub port: Option<u16>,
    /// Network of the caller; Istio never implemented it.
    pub source_subnet: Option<String>,
    /// Labels of the calling workload.
    pub source_labels: BTreeMap<String, String>,
    /// Gateways and `mesh` for which this block counts.
    pub gateways: Vec<Located<String>>,
    /// Namespace of the calling workload.
    pub source_namespace: Option<String>,
}

/// One destination of connections with its share.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RouteDestination {
    /// Where the connections go.
    pub destination: Option<Located<Destination>>,
    /// Share relative to the other destinations.
    pub weight: u32,
}
