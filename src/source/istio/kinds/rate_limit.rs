//! `HTTPLocalRateLimitPolicy` and the `Server` that it is for (`policy.linkerd.io`).

use schemars::JsonSchema;
use serde::Deserialize;

use super::{LabelSelector, TargetPort};
use crate::source::istio::yaml::Located;

/// How many requests a port of a workload takes in a second, from all and from each caller.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpLocalRateLimitPolicy {
    /// The Server whose port it is.
    pub target_ref: Option<Located<RateLimitTarget>>,
    /// From all callers together; absent means any number.
    pub total: Option<Located<LocalRate>>,
    /// From each caller by its identity, where no override is for it; callers without an identity
    /// are one. Absent means any number.
    pub identity: Option<Located<LocalRate>>,
    /// From callers that are named.
    pub overrides: Vec<Located<RateLimitOverride>>,
}

/// What a policy is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RateLimitTarget {
    /// `policy.linkerd.io`.
    pub group: String,
    /// `Server`.
    pub kind: String,
    /// Its name, in the namespace of the policy.
    pub name: String,
}

/// A number of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LocalRate {
    /// From 1 to 1,000,000; as many may come at once.
    pub requests_per_second: u32,
}

/// A number of requests for some callers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RateLimitOverride {
    /// From all of them together, from 1 to 1,000,000; as many may come at once.
    pub requests_per_second: u32,
    /// Whose.
    pub client_refs: Vec<Located<RateLimitClient>>,
}

/// A caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RateLimitClient {
    /// Empty: Kubernetes' own.
    pub group: String,
    /// `ServiceAccount`.
    pub kind: String,
    /// Absent or empty means the policy's.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// A port of workloads, as Linkerd's policies name it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LinkerdServer {
    /// Which workloads of its namespace.
    pub pod_selector: Option<Located<LabelSelector>>,
    /// The port that they listen on.
    pub port: Option<TargetPort>,
    /// What is spoken there: `unknown`, `HTTP/1`, `HTTP/2` or `gRPC`; absent means `unknown`.
    pub proxy_protocol: Option<String>,
    /// Who may call: `all-unauthenticated` or `audit`, which let everybody.
    pub access_policy: Option<String>,
}
