//! Which failures of a request are tried again, how often, and with what pauses.

use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderName, StatusCode};

/// A route's retry policy (Envoy's `RetryPolicy`, Istio's `retries`).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RetryPolicy {
    /// What is tried again.
    pub on: RetryOn,
    /// How many retries follow the first try; Istio's `attempts`.
    pub retries: u32,
    /// How long one try may take; `None`: as long as the route's timeout leaves.
    pub per_try_timeout: Option<Duration>,
    /// The pauses between tries.
    pub backoff: Backoff,
    /// Whether a retry goes to an endpoint that was not tried yet, if there is one (Envoy's
    /// `previous_hosts`).
    pub avoid_previous: bool,
    /// Whether a slow try gets company; `None`: a retry follows a failure only. No YAML kind has a
    /// field for it, so it is for configurations that a program makes.
    pub hedge: Option<Hedge>,
    /// After each so many tries the priorities that were tried up to then are left out, as long as
    /// another one has somebody to pick (Envoy's `previous_priorities`; Istio's
    /// `retryRemoteLocalities` says 2). `None`: every try goes by the shares of the priorities.
    pub leave_priorities: Option<NonZeroU32>,
}

/// Further tries of a request whose first one is slow (gRPC A6's hedging, Envoy's
/// `hedge_policy`).
///
/// After `delay` without a final answer the request is also sent to another endpoint, if there is
/// one; the first answer that the policy would not retry is taken and the other tries are
/// cancelled. Each further try counts as a retry: for the policy's number, for the cluster's budget
/// and limits. A request whose body is not yet uploaded, or cannot be sent again, is not hedged.
///
/// The callee must bear that a request is carried out twice: hedge what only reads.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Hedge {
    /// How long a try may be without an answer before the next one begins; the 95th percentile of
    /// the latency is a good start.
    pub delay: Duration,
    /// How many tries may be begun in this way.
    pub extra: NonZeroU32,
}

/// Conditions under which a try is repeated.
///
/// The names are the tokens of Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct RetryOn {
    /// `5xx`: any 5xx answer, and no answer at all (disconnect, reset, timeout, connect failure).
    pub server_error: bool,
    /// `gateway-error`: 502, 503, 504, and no answer at all.
    pub gateway_error: bool,
    /// `reset`: no answer at all.
    pub reset: bool,
    /// `reset-before-request`: the connection broke before the request was sent.
    pub reset_before_request: bool,
    /// `connect-failure`: no connection to the endpoint.
    pub connect_failure: bool,
    /// `refused-stream`: the peer refused the stream unseen.
    pub refused_stream: bool,
    /// `retriable-4xx`: 409.
    pub retriable_4xx: bool,
    /// `envoy-ratelimited`: the answer carries `x-envoy-ratelimited`.
    pub envoy_ratelimited: bool,
    /// `http3-post-connect-failure` is accepted and can never happen here.
    pub http3_post_connect_failure: bool,
    /// `retriable-status-codes` and Istio's numeric tokens.
    pub statuses: Vec<StatusCode>,
    /// `retriable-headers`: the answer carries one of these.
    pub headers: Vec<HeaderName>,
    /// gRPC statuses in the answer's headers (`cancelled`, `deadline-exceeded`, `internal`,
    /// `resource-exhausted`, `unavailable`).
    pub grpc: Vec<u32>,
}

/// Exponential pauses with full jitter: the n-th pause is drawn from `0..=min(base * 2^n, max)`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Backoff {
    /// The longest first pause. Envoy's default is 25 ms.
    pub base: Duration,
    /// No pause is longer. Envoy's default is ten times `base`.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(25),
            max: Duration::from_millis(250),
        }
    }
}
