//! What the dialects of other clients cannot say.

use std::fmt;
use std::sync::Arc;

use super::Dialect;
use crate::source::xds::Kind;

/// Something that a dialect cannot say.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Loss {
    AddressKind,
    Audits,
    AutomaticTls,
    AuthorityRewrite,
    Backoff,
    BalancingPolicy,
    BodyOfAnswers,
    Conditions,
    Capacity,
    ConnectTimeout,
    ConnectionSettings,
    ConsecutiveErrors,
    DnsNames,
    ErrorStatuses,
    ExternalAuthorizers,
    HashSource,
    HeaderChanges,
    HeaderOrder,
    HealthCheck,
    Hedging,
    IdleTimeout,
    Labels,
    Limits,
    LocalLimits,
    MissingHeader,
    Mirrors,
    OnDemand,
    Overprovisioning,
    PanicThreshold,
    PathRewrite,
    PerTryTimeout,
    Permissive,
    Protocol,
    ProxyProtocol,
    QueryMatch,
    RedirectPort,
    RetryBudget,
    RetryConditions,
    RetryPriorities,
    RouteStatistics,
    SlowStart,
    StrictSession,
    Subset,
    TcpKeepalive,
    Tokens,
}

/// A loss, and the resource that it is of.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Lost {
    pub(crate) kind: Kind,
    pub(crate) name: Arc<str>,
    pub(crate) loss: Loss,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, text) = self.loss.row();
        write!(f, "{} {}: {text}", self.kind, self.name)
    }
}

impl Loss {
    /// All of them, for the table of the docs.
    #[cfg(test)]
    pub(crate) const ALL: &'static [Self] = &[
        Self::AddressKind,
        Self::Audits,
        Self::AutomaticTls,
        Self::AuthorityRewrite,
        Self::Backoff,
        Self::BalancingPolicy,
        Self::BodyOfAnswers,
        Self::Conditions,
        Self::Capacity,
        Self::ConnectTimeout,
        Self::ConnectionSettings,
        Self::ConsecutiveErrors,
        Self::DnsNames,
        Self::ErrorStatuses,
        Self::ExternalAuthorizers,
        Self::HashSource,
        Self::HeaderChanges,
        Self::HeaderOrder,
        Self::HealthCheck,
        Self::Hedging,
        Self::IdleTimeout,
        Self::Labels,
        Self::Limits,
        Self::LocalLimits,
        Self::MissingHeader,
        Self::Mirrors,
        Self::OnDemand,
        Self::Overprovisioning,
        Self::PanicThreshold,
        Self::PathRewrite,
        Self::PerTryTimeout,
        Self::Permissive,
        Self::Protocol,
        Self::ProxyProtocol,
        Self::QueryMatch,
        Self::RedirectPort,
        Self::RetryBudget,
        Self::RetryConditions,
        Self::RetryPriorities,
        Self::RouteStatistics,
        Self::SlowStart,
        Self::StrictSession,
        Self::Subset,
        Self::TcpKeepalive,
        Self::Tokens,
    ];

    /// The dialects that lose it, and what happens instead.
    pub(crate) fn row(self) -> (&'static [Dialect], &'static str) {
        use Dialect::{Envoy, Grpc};
        match self {
            Self::AddressKind => (&[Grpc], "endpoints without an IP address are left out"),
            Self::Audits => (&[Grpc], "decisions of policies are not written down"),
            Self::AutomaticTls => (
                &[Envoy, Grpc],
                "plain text is spoken where only some endpoints speak mutual TLS (gRPC) or the \
                 certificates are the mesh's own (Envoy)",
            ),
            Self::AuthorityRewrite => (
                &[Envoy, Grpc],
                "the authority is not rewritten (gRPC), or not for endpoints without a name of \
                 their own where the others send theirs (Envoy)",
            ),
            Self::Backoff => (
                &[Envoy, Grpc],
                "a pause of zero becomes the client's default",
            ),
            Self::BalancingPolicy => (&[Envoy, Grpc], "another policy balances"),
            Self::BodyOfAnswers => (
                &[Grpc],
                "requests that are answered by the mesh fail with UNAVAILABLE",
            ),
            Self::Conditions => (
                &[Grpc],
                "a condition that is not known there holds where it denies, and does not where it \
                 allows",
            ),
            Self::Capacity => (
                &[Grpc],
                "ports take as many connections and requests as come",
            ),
            Self::ConnectTimeout => (&[Grpc], "connecting takes as long as the client lets it"),
            Self::ConnectionSettings => (&[Grpc], "connections are kept as the client likes"),
            Self::ConsecutiveErrors => (
                &[Grpc],
                "errors in a row become a failure percentage: an endpoint is ejected when all of so \
                 many requests of one interval failed",
            ),
            Self::DnsNames => (&[Envoy, Grpc], "names are resolved in another way"),
            Self::ErrorStatuses => (&[Envoy, Grpc], "only 5xx counts as an error of an endpoint"),
            Self::ExternalAuthorizers => (
                &[Grpc],
                "requests that an external authorizer would decide about are denied",
            ),
            Self::HashSource => (&[Grpc], "this part of a hash key yields nothing"),
            Self::HeaderChanges => (&[Grpc], "headers are not changed"),
            Self::HeaderOrder => (&[Envoy], "headers are removed first and added then"),
            Self::HealthCheck => (
                &[Grpc],
                "endpoints are not asked for their health by the client",
            ),
            Self::Hedging => (&[Envoy, Grpc], "slow tries get no company"),
            Self::IdleTimeout => (&[Grpc], "idle requests are not ended"),
            Self::Labels => (
                &[Envoy, Grpc],
                "labels of endpoints are not told (gRPC), or one that is called hash_key (Envoy)",
            ),
            Self::Limits => (&[Grpc], "only requests in flight are limited"),
            Self::LocalLimits => (&[Grpc], "requests that arrive are not limited"),
            Self::MissingHeader => (&[Grpc], "an absent header is not matched as an empty one"),
            Self::Mirrors => (&[Grpc], "requests are not copied"),
            Self::OnDemand => (&[Grpc], "the cluster is missing: its requests fail"),
            Self::Overprovisioning => (&[Envoy, Grpc], "the client's own factor holds"),
            Self::PanicThreshold => (&[Grpc], "unhealthy endpoints are never used"),
            Self::PathRewrite => (&[Grpc], "the path is not rewritten"),
            Self::PerTryTimeout => (&[Grpc], "one try takes as long as the whole"),
            Self::Permissive => (
                &[Grpc],
                "mutual TLS only where the workload has the label tlsMode istio, else plain text only",
            ),
            Self::Protocol => (&[Grpc], "HTTP/2 is spoken"),
            Self::ProxyProtocol => (
                &[Envoy, Grpc],
                "connections begin without the PROXY protocol's header",
            ),
            Self::QueryMatch => (&[Grpc], "the route is left out"),
            Self::RedirectPort => (
                &[Envoy],
                "the port is the request's unless host or scheme change",
            ),
            Self::RetryBudget => (
                &[Envoy, Grpc],
                "retries in flight are bounded instead of a share of requests (Envoy), or only by \
                 the policy (gRPC)",
            ),
            Self::RetryConditions => (&[Grpc], "only the gRPC statuses are retried"),
            Self::RetryPriorities => (&[Grpc], "retries go by the shares of the priorities"),
            Self::RouteStatistics => (&[Grpc], "answers are not counted by route"),
            Self::SlowStart => (&[Envoy, Grpc], "new endpoints get their full share at once"),
            Self::StrictSession => (&[Grpc], "a session whose endpoint is gone goes elsewhere"),
            Self::Subset => (&[Envoy], "all endpoints are used"),
            Self::TcpKeepalive => (
                &[Envoy, Grpc],
                "fractions of seconds are rounded up (Envoy), or \
                 the client's own keepalive holds (gRPC)",
            ),
            Self::Tokens => (
                &[Grpc],
                "nobody verifies tokens: requests with one are denied",
            ),
        }
    }
}
