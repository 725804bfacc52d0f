//! `GRPCRoute`: which gRPC calls of a service go where.

use schemars::JsonSchema;
use serde::Deserialize;

use super::filter::GrpcRouteFilter;
use super::http_route::SessionPersistence;
use super::{HttpHeaderMatch, ParentReference, ValueMatchType};
use crate::source::istio::yaml::Located;

/// The routing rules of one or more services, for gRPC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct GrpcRouteSpec {
    /// The services whose calls these rules own.
    pub parent_refs: Vec<Located<ParentReference>>,
    /// Whether gateways without a `parentRef` take the route too.
    pub use_default_gateways: Option<String>,
    /// Authorities, for gateways; they have no effect for a service.
    pub hostnames: Vec<Located<String>>,
    /// The rules; the most specific match wins, whatever their order.
    pub rules: Vec<Located<GrpcRouteRule>>,
}

/// One rule: conditions and what happens to the calls that fulfil them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct GrpcRouteRule {
    /// Name of the rule, unique in the route.
    pub name: Option<Located<String>>,
    /// Alternatives, of which one must hold; empty matches every call.
    pub matches: Vec<Located<GrpcRouteMatch>>,
    /// What is changed on the way.
    pub filters: Vec<Located<GrpcRouteFilter>>,
    /// Where the calls go; several share them by weight.
    pub backend_refs: Vec<Located<GrpcBackendRef>>,
    /// Keeps a client with one endpoint.
    pub session_persistence: Option<SessionPersistence>,
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct GrpcRouteMatch {
    /// The gRPC service and method; absent means all.
    pub method: Option<Located<GrpcMethodMatch>>,
    /// Metadata, as headers.
    pub headers: Vec<Located<HttpHeaderMatch>>,
}

/// A condition on the gRPC service and method, of which at least one must be given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct GrpcMethodMatch {
    /// How both are compared.
    #[serde(rename = "type")]
    pub match_type: ValueMatchType,
    /// The service with its package, such as `shop.v1.Catalog`.
    pub service: Option<Located<String>>,
    /// The method, such as `List`.
    pub method: Option<Located<String>>,
}

/// One destination with its share and its filters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct GrpcBackendRef {
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
    pub filters: Vec<Located<GrpcRouteFilter>>,
}

impl GrpcMethodMatch {
    /// The expression that the path must match as a whole, unless service or method are compared
    /// as they are.
    pub(crate) fn pattern(&self) -> Option<String> {
        let text = |part: &Option<Located<String>>| part.as_ref().map(|text| text.value.clone());
        let (service, method) = (text(&self.service), text(&self.method));
        match self.match_type {
            ValueMatchType::Exact => None,
            ValueMatchType::RegularExpression => {
                let any = || "[^/]+".to_owned();
                let service = service.map_or_else(any, |text| format!("(?:{text})"));
                let method = method.map_or_else(any, |text| format!("(?:{text})"));
                Some(format!("/{service}/{method}"))
            }
        }
    }
}
