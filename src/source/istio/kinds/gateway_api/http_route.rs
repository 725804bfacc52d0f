//! `HTTPRoute`: which requests of a service go where.

use schemars::JsonSchema;
use serde::Deserialize;

use super::filter::HttpRouteFilter;
use super::{GatewayDuration, HttpHeaderMatch, ParentReference, ValueMatchType};
use crate::source::istio::yaml::Located;

/// The routing rules of one or more services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpRouteSpec {
    /// The services whose requests these rules own.
    pub parent_refs: Vec<Located<ParentReference>>,
    /// Whether gateways without a `parentRef` take the route too.
    pub use_default_gateways: Option<String>,
    /// Authorities, for gateways; they have no effect for a service.
    pub hostnames: Vec<Located<String>>,
    /// The rules; the most specific match wins, whatever their order.
    pub rules: Vec<Located<HttpRouteRule>>,
}

/// One rule: conditions and what happens to the requests that fulfil them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpRouteRule {
    /// Name of the rule, unique in the route.
    pub name: Option<Located<String>>,
    /// Alternatives, of which one must hold; empty matches every request.
    pub matches: Vec<Located<HttpRouteMatch>>,
    /// What is changed on the way, or answered instead.
    pub filters: Vec<Located<HttpRouteFilter>>,
    /// Where the requests go; several share them by weight.
    pub backend_refs: Vec<Located<HttpBackendRef>>,
    /// Limits of time.
    pub timeouts: Option<Located<HttpRouteTimeouts>>,
    /// How failed tries are repeated; absent means Istio's default of two retries.
    pub retry: Option<Located<HttpRouteRetry>>,
    /// Keeps a client with one endpoint.
    pub session_persistence: Option<SessionPersistence>,
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpRouteMatch {
    /// The path without the query; absent means the prefix `/`.
    pub path: Option<Located<HttpPathMatch>>,
    /// Headers.
    pub headers: Vec<Located<HttpHeaderMatch>>,
    /// Query parameters.
    pub query_params: Vec<Located<HttpQueryParamMatch>>,
    /// The method, in capitals.
    pub method: Option<Located<String>>,
}

/// A condition on the path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpPathMatch {
    /// How `value` is compared; absent means PathPrefix.
    #[serde(rename = "type")]
    pub match_type: PathMatchType,
    /// The path, the prefix or the regular expression; absent means `/`.
    pub value: Option<Located<String>>,
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// Equal, case sensitive.
    Exact,
    /// Begins with these segments: `/foo` takes `/foo/bar` and not `/foobar`.
    #[default]
    PathPrefix,
    /// The whole path matches this RE2 regular expression.
    RegularExpression,
}

/// A condition on a query parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpQueryParamMatch {
    /// How `value` is compared.
    #[serde(rename = "type")]
    pub match_type: ValueMatchType,
    /// The parameter's name.
    pub name: Located<String>,
    /// The value or the regular expression.
    pub value: Located<String>,
}

/// One destination with its share and its filters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpBackendRef {
    /// The API group; absent means `""`, that of a Service.
    pub group: Option<String>,
    /// The kind: `Service` (also when absent), or Istio's `Hostname`.
    pub kind: Option<String>,
    /// The name.
    pub name: Located<String>,
    /// The namespace; absent means that of the route. Another one needs a ReferenceGrant.
    pub namespace: Option<String>,
    /// The port of the Service.
    pub port: Option<u16>,
    /// Share relative to the other destinations; absent means 1.
    pub weight: Option<u32>,
    /// What is changed for this destination.
    pub filters: Vec<Located<HttpRouteFilter>>,
}

/// Limits of time; `0s` means none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpRouteTimeouts {
    /// Of the whole call, retries included.
    pub request: Option<GatewayDuration>,
    /// Of one try.
    pub backend_request: Option<GatewayDuration>,
}

/// How failed tries are repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpRouteRetry {
    /// Statuses from 400 to 599 that are repeated, besides failures of the connection.
    pub codes: Vec<Located<u16>>,
    /// Tries after the first; absent means 2, 0 means none.
    pub attempts: Option<u32>,
    /// The shortest pause between tries; absent means 25 ms.
    pub backoff: Option<GatewayDuration>,
}

/// Keeps a client with one endpoint; known, not yet supported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SessionPersistence {
    /// Name of the session, such as that of its cookie.
    pub session_name: Option<String>,
    /// How long a session may last.
    pub absolute_timeout: Option<GatewayDuration>,
    /// How long a session may rest.
    pub idle_timeout: Option<GatewayDuration>,
    /// `Cookie` or `Header`.
    #[serde(rename = "type")]
    pub persistence_type: Option<String>,
    /// The cookie.
    pub cookie_config: Option<CookieConfig>,
}

/// The cookie of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CookieConfig {
    /// `Permanent` or `Session`.
    pub lifetime_type: Option<String>,
}
