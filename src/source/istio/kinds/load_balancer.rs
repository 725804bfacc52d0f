//! The load balancer block of a DestinationRule.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::GoDuration;
use crate::source::istio::yaml::Located;

/// How an endpoint is chosen: `simple` or `consistentHash`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LoadBalancer {
    /// A choice that knows nothing of the request; absent means LEAST_REQUEST.
    pub simple: Option<SimpleBalancer>,
    /// A choice by a property of the request, the same for the same value.
    pub consistent_hash: Option<Located<ConsistentHash>>,
    /// Preference of near endpoints.
    pub locality_lb_setting: Option<Located<LocalitySetting>>,
    /// Preference of the own zone by share.
    pub zone_aware_lb_setting: Option<Located<ZoneAwareSetting>>,
    /// Time in which a new endpoint's share grows (deprecated).
    pub warmup_duration_secs: Option<GoDuration>,
    /// How a new endpoint's share grows.
    pub warmup: Option<Located<Warmup>>,
}

/// A choice that knows nothing of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum SimpleBalancer {
    /// As LEAST_REQUEST.
    Unspecified,
    /// As LEAST_REQUEST (deprecated).
    LeastConn,
    /// At random.
    Random,
    /// To the address that the caller asked for.
    Passthrough,
    /// In turns.
    RoundRobin,
    /// The less busy of two endpoints picked at random.
    LeastRequest,
}

/// A choice by a property of the request: one key and at most one algorithm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ConsistentHash {
    /// Key: a header.
    pub http_header_name: Option<String>,
    /// Key: a cookie.
    pub http_cookie: Option<HashCookie>,
    /// Key: the address of the caller.
    pub use_source_ip: Option<bool>,
    /// Key: a query parameter.
    pub http_query_parameter_name: Option<String>,
    /// Algorithm: a ring (the default).
    pub ring_hash: Option<RingHash>,
    /// Algorithm: Maglev.
    pub maglev: Option<Maglev>,
    /// Size of the ring (deprecated).
    pub minimum_ring_size: Option<u64>,
}

/// A cookie that is the key of a hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HashCookie {
    /// Its name.
    pub name: String,
    /// Its path, when it is generated.
    pub path: Option<String>,
    /// Its life; present means that a missing cookie is generated.
    pub ttl: Option<GoDuration>,
    /// Further attributes of a generated cookie.
    pub attributes: Vec<CookieAttribute>,
}

/// One attribute of a generated cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CookieAttribute {
    /// Such as `SameSite`.
    pub name: String,
    /// Such as `Strict`.
    pub value: Option<String>,
}

/// The ring algorithm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RingHash {
    /// Entries of the ring at least; absent means 1024.
    pub minimum_ring_size: Option<u64>,
}

/// The Maglev algorithm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Maglev {
    /// Entries of the table, a prime number; absent means 65537.
    pub table_size: Option<u64>,
}

/// Preference of near endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LocalitySetting {
    /// Whether it is in force; absent means true.
    pub enabled: Option<bool>,
    /// Shares of localities.
    pub distribute: Vec<Distribute>,
    /// Regions to turn to when the own one fails.
    pub failover: Vec<Failover>,
    /// Labels, in order, whose equality makes an endpoint near.
    pub failover_priority: Vec<String>,
}

/// Shares of localities for callers of one locality.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Distribute {
    /// Locality of the caller: `region/zone/subzone`, with `*` at the end.
    pub from: String,
    /// Percent by locality, together 100.
    pub to: BTreeMap<String, u32>,
}

/// The region to turn to when the own one fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Failover {
    /// The own region.
    pub from: String,
    /// The other region.
    pub to: String,
}

/// Preference of the own zone by share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ZoneAwareSetting {
    /// Whether it is in force.
    pub enabled: Option<bool>,
    /// Regions to turn to when the own one fails.
    pub failover: Vec<Failover>,
    /// Labels, in order, whose equality makes an endpoint near.
    pub failover_priority: Vec<String>,
    /// Endpoints below which it does not act; absent means 6.
    pub min_cluster_size: Option<u64>,
}

/// How a new endpoint's share grows.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Warmup {
    /// Time until the full share.
    pub duration: Option<GoDuration>,
    /// Share at the start; absent means 10.
    pub minimum_percent: Option<f64>,
    /// Shape of the growth; absent means 1, which is linear.
    pub aggression: Option<f64>,
}
