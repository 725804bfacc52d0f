//! The Gateway API's routes and grants (`gateway.networking.k8s.io`), as far as they concern a
//! service mesh (the initiative is called GAMMA).
//!
//! The types have the names that the Gateway API's reference gives them, so that its pages can be
//! read beside these. Unlike the objects of Kubernetes itself they are read strictly: an unknown
//! field is a fault, as the API server's `--validate=strict` has it, since a route that is ignored
//! in part sends requests to the wrong place.

mod backend_policy;
mod duration;
mod filter;
mod grpc_route;
mod http_route;
mod reference_grant;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::source::istio::yaml::Located;

pub use backend_policy::{
    BackendTlsPolicySpec, BackendTlsValidation, BackendTrafficPolicySpec, CaCertificateReference,
    ConstraintBudget, PolicyTargetReference, RequestRate, RetryConstraint, SubjectAltName,
};
pub use duration::{GatewayDuration, NotAGatewayDuration};
pub use filter::{
    GrpcRouteFilter, GrpcRouteFilterType, HttpCorsFilter, HttpHeader, HttpHeaderFilter,
    HttpPathModifier, HttpPathModifierType, HttpRequestMirrorFilter, HttpRequestRedirectFilter,
    HttpRouteFilter, HttpRouteFilterType, HttpUrlRewriteFilter, LocalObjectReference,
    MirrorFraction,
};
pub use grpc_route::{
    GrpcBackendRef, GrpcMethodMatch, GrpcRouteMatch, GrpcRouteRule, GrpcRouteSpec,
};
pub use http_route::{
    CookieConfig, HttpBackendRef, HttpPathMatch, HttpQueryParamMatch, HttpRouteMatch,
    HttpRouteRetry, HttpRouteRule, HttpRouteSpec, HttpRouteTimeouts, PathMatchType,
    SessionPersistence,
};
pub use reference_grant::{ReferenceGrantFrom, ReferenceGrantSpec, ReferenceGrantTo};

/// What a route is attached to: for a mesh a Service or a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ParentReference {
    /// The API group; absent means `gateway.networking.k8s.io`, `""` is that of a Service.
    pub group: Option<String>,
    /// The kind; absent means `Gateway`.
    pub kind: Option<String>,
    /// The namespace; absent means that of the route.
    pub namespace: Option<String>,
    /// The name.
    pub name: Located<String>,
    /// The name of a port of the Service.
    pub section_name: Option<String>,
    /// The number of a port of the Service; absent means all of its ports.
    pub port: Option<u16>,
}

/// An object that a route sends requests to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct BackendObjectReference {
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
}

/// A condition on a header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpHeaderMatch {
    /// How `value` is compared.
    #[serde(rename = "type")]
    pub match_type: ValueMatchType,
    /// The header's name, which is not case sensitive.
    pub name: Located<String>,
    /// The value or the regular expression.
    pub value: Located<String>,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
pub enum ValueMatchType {
    /// Equal, case sensitive.
    #[default]
    Exact,
    /// The whole value matches this RE2 regular expression.
    RegularExpression,
}

/// The group of routes, grants and gateways.
pub(crate) const GROUP: &str = "gateway.networking.k8s.io";

impl ParentReference {
    /// The group, completed.
    pub(crate) fn group(&self) -> &str {
        self.group.as_deref().unwrap_or(GROUP)
    }

    /// The kind, completed.
    pub(crate) fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("Gateway")
    }

    /// Whether it is a gateway or a part of one, which no client is.
    pub(crate) fn is_gateway(&self) -> bool {
        self.group() == GROUP && matches!(self.kind(), "Gateway" | "ListenerSet" | "XListenerSet")
    }
}
