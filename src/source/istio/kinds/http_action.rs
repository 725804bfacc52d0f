//! What a VirtualService's HTTP rule does besides choosing a destination.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::GoDuration;
use super::virtual_service::{Destination, StringMatch};
use crate::source::istio::yaml::Located;

/// How failed tries are repeated (Istio `HTTPRetry`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Retries {
    /// Tries after the first; 0 means none.
    pub attempts: u32,
    /// Limit of each try; absent means the limit of the whole call.
    pub per_try_timeout: Option<GoDuration>,
    /// Conditions, separated by commas without blanks: Envoy's names, gRPC status names, and
    /// status codes from 200 to 599.
    pub retry_on: Option<Located<String>>,
    /// Prefer endpoints of other localities for later tries.
    pub retry_remote_localities: Option<bool>,
    /// Avoid the endpoints that were tried; absent means true.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// Base of the back-off between tries; absent means 25 ms.
    pub backoff: Option<GoDuration>,
}

/// Failures to inject, for tests of the caller.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct FaultInjection {
    /// Wait before the request leaves.
    pub delay: Option<FaultDelay>,
    /// Answer instead of sending the request.
    pub abort: Option<FaultAbort>,
}

/// A delay for a share of the requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct FaultDelay {
    /// How long, at least 1ms.
    pub fixed_delay: Option<GoDuration>,
    /// A mean of random delays; Istio never implemented it.
    pub exponential_delay: Option<GoDuration>,
    /// The share; absent, together with `percent`, means 0 %, so that nothing is delayed.
    pub percentage: Option<Percent>,
    /// The share as a whole number of percent (deprecated).
    pub percent: Option<u32>,
}

/// An answer in place of the request, for a share of the requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct FaultAbort {
    /// Status of the HTTP answer, 200 to 599.
    pub http_status: Option<u16>,
    /// Status of the gRPC answer, by its name in capitals.
    pub grpc_status: Option<Located<String>>,
    /// An HTTP/2 error code; Istio never implemented it.
    pub http2_error: Option<String>,
    /// The share; absent means 0 %, so that nothing is aborted.
    pub percentage: Option<Percent>,
}

/// A share of 100, with up to four digits after the point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Percent {
    /// 0, or from 0.0001 to 100.
    pub value: f64,
}

/// Changes of the path and authority on the way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Rewrite {
    /// Replaces the matched prefix, or the whole path when it was matched as a whole.
    pub uri: Option<String>,
    /// Replaces the authority.
    pub authority: Option<String>,
    /// Replaces what a regular expression finds in the path.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// A replacement by regular expression.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RegexRewrite {
    /// What to replace, in RE2 syntax.
    #[serde(rename = "match")]
    pub matches: Option<Located<String>>,
    /// The replacement; `\1` stands for the first group.
    pub rewrite: Option<Located<String>>,
}

/// Answer with a redirect instead of sending the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Redirect {
    /// The new path; replaces the whole one.
    pub uri: Option<String>,
    /// Replaces the matched prefix only.
    pub prefix_rewrite: Option<String>,
    /// The new authority.
    pub authority: Option<String>,
    /// The new port.
    pub port: Option<u16>,
    /// How the port is found when `port` is absent.
    pub derive_port: Option<RedirectPort>,
    /// The new scheme, `http` or `https`.
    pub scheme: Option<String>,
    /// 301 (also when absent), 302, 303, 307 or 308.
    pub redirect_code: Option<u16>,
}

/// How the port of a redirect is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum RedirectPort {
    /// 80 for http, 443 for https.
    FromProtocolDefault,
    /// The port of the request.
    FromRequestPort,
}

/// Answer with a fixed response instead of sending the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DirectResponse {
    /// Status of the answer, 200 to 599.
    pub status: u16,
    /// Its body, at most 1 MiB.
    pub body: Option<ResponseBody>,
}

/// The body of a direct response: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ResponseBody {
    /// As text.
    pub string: Option<String>,
    /// As bytes in base64.
    pub bytes: Option<Located<String>>,
}

/// A VirtualService that holds the rules for the requests of this one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Delegate {
    /// Its name.
    pub name: Located<String>,
    /// Its namespace; absent means the namespace of this object.
    pub namespace: Option<Located<String>>,
}

/// A destination that gets copies of requests, whose answers are thrown away.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Mirror {
    /// Where the copies go.
    pub destination: Option<Located<Destination>>,
    /// The share of requests; absent means all.
    pub percentage: Option<Percent>,
}

/// Rules for browsers of other origins. A browser never talks to this client, so they have no
/// effect here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CorsPolicy {
    /// Origins, compared as a whole (deprecated).
    pub allow_origin: Vec<String>,
    /// Origins that may call.
    pub allow_origins: Vec<StringMatch>,
    /// Methods that they may use.
    pub allow_methods: Vec<String>,
    /// Headers that they may send.
    pub allow_headers: Vec<String>,
    /// Headers that they may read.
    pub expose_headers: Vec<String>,
    /// How long a preflight answer holds, in whole seconds.
    pub max_age: Option<GoDuration>,
    /// Whether they may send credentials.
    pub allow_credentials: Option<bool>,
    /// What happens to preflights of other origins.
    pub unmatched_preflights: Option<UnmatchedPreflights>,
}

/// What happens to preflight requests of origins that match none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum UnmatchedPreflights {
    /// As FORWARD.
    Unspecified,
    /// They go to the service.
    Forward,
    /// They are answered without CORS headers.
    Ignore,
}

/// Changes of one message's headers, applied in the order remove, set, add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HeaderOperations {
    /// Overwrite or create.
    pub set: BTreeMap<String, String>,
    /// Append a value.
    pub add: BTreeMap<String, String>,
    /// Take away.
    pub remove: Vec<String>,
}
