//! The kinds of objects, as structs that mirror the files.
//!
//! The structs are plain: no tagged, untagged or flattened serde forms, because each of them makes
//! serde buffer values and lose the place they came from. A number has the range of its meaning (a
//! port is a `u16`), a duration is a [`GoDuration`], and everything that a later check can complain
//! about is [`Located`](super::Located). What the types cannot say (exclusive fields, weights that
//! must not all be zero) the `validate` module has checked before an [`Object`] exists.
//!
//! `Option` and emptiness mean what they mean in the file: an absent block (`None`) takes the
//! default, an empty one (`{}`) is a statement.

mod authorization;
pub(crate) mod catalog;
mod destination_rule;
mod duration;
mod gateway;
pub mod gateway_api;
mod http_action;
mod kubernetes;
mod load_balancer;
mod mesh;
mod object;
mod peer_authentication;
mod provider;
mod rate_limit;
mod request_authentication;
mod service_entry;
mod telemetry;
mod virtual_service;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

pub use authorization::{
    AccessAction, AccessRule, AuthorizationPolicy, PolicyTarget, ProviderReference, RuleCondition,
    RuleFrom, RuleOperation, RuleSource, RuleTo,
};
pub use destination_rule::{
    ClientTls, ConnectionPool, DestinationRule, H2UpgradePolicy, Http2Keepalive, HttpPool,
    LabelSelector, OutlierDetection, PortTrafficPolicy, ProxyProtocol, ProxyProtocolVersion,
    RetryBudget, Subset, TcpKeepalive, TcpPool, TlsMode, TrafficPolicy, Tunnel,
};
pub use duration::{GoDuration, NotADuration};
pub(crate) use gateway::ServerProtocol;
pub use gateway::{
    Gateway, GatewayPort, GatewayServer, ServerCertificate, ServerTls, ServerTlsMode, TlsVersion,
};
pub use http_action::{
    CorsPolicy, Delegate, DirectResponse, FaultAbort, FaultDelay, FaultInjection, HeaderOperations,
    Mirror, Percent, Redirect, RedirectPort, RegexRewrite, ResponseBody, Retries, Rewrite,
    UnmatchedPreflights,
};
pub use kubernetes::{
    Container, ContainerPort, Controller, EndpointAddress, EndpointConditions, EndpointGroup,
    EndpointPort, EndpointSlice, Endpoints, IpAddress, Namespace, Pod, PodCondition, PodMetadata,
    PodSelector, PodSpec, PodStatus, PodTemplate, Probe, ProbeRequest, Service, ServiceAccount,
    ServicePort, SliceEndpoint, TargetPort, TargetRef, Workload,
};
pub use load_balancer::{
    ConsistentHash, CookieAttribute, Distribute, Failover, HashCookie, LoadBalancer,
    LocalitySetting, Maglev, RingHash, SimpleBalancer, Warmup, ZoneAwareSetting,
};
pub use mesh::{
    AccessLogEncoding, Anything, DefaultProviders, EgressListener, GroupMetadata, MeshConfig,
    NormalizationKind, OutboundMode, OutboundTrafficPolicy, PathNormalization, Sidecar,
    WorkloadGroup,
};
pub use object::{Kind, Meta, Object};
pub use peer_authentication::{PeerAuthentication, PeerTls, PeerTlsMode};
pub use provider::{
    ExtAuthzGrpc, ExtAuthzHttp, ExtensionProvider, FileAccessLog, FileLogFormat, OtelAccessLog,
    OtelLogFormat,
};
pub use rate_limit::{
    HttpLocalRateLimitPolicy, LinkerdServer, LocalRate, RateLimitClient, RateLimitOverride,
    RateLimitTarget,
};
pub use request_authentication::{ClaimToHeader, JwtHeader, JwtRule, RequestAuthentication};
pub use service_entry::{
    Location, Resolution, ServiceEntry, ServiceEntryPort, WorkloadEntry, WorkloadLabels,
};
pub use telemetry::{
    CustomTag, LiteralTag, LoggingFilter, LoggingRule, MetricSelector, MetricsOverride,
    MetricsRule, ModeMatch, NamedTag, ProviderName, StandardMetric, TagOperation, TagOverride,
    Telemetry, TracingRule, WorkloadMode,
};
pub use virtual_service::{
    Destination, Headers, HttpMatch, HttpRoute, HttpRouteDestination, RouteDestination,
    StringMatch, TcpMatch, TcpRoute, TlsMatch, TlsRoute, VirtualService,
};

/// A port of a service by its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PortSelector {
    /// The number, from 1.
    pub number: u16,
}

/// Reads a list or map that must have an entry where it is written: an empty one would mean what its absence
/// means, and be written for the opposite.
fn filled<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + PartialEq,
{
    let found = T::deserialize(deserializer)?;
    match found == T::default() {
        true => Err(serde::de::Error::custom(
            "must have at least one entry where it is written; leave it out otherwise",
        )),
        false => Ok(found),
    }
}
