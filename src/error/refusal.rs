//! How a request is answered that is one too many in a time.

use http::{HeaderName, HeaderValue, StatusCode};

/// The answer to a request without a token, in the words of Envoy's `local_ratelimit`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Refusal {
    /// The status, 400 or above; for gRPC it is UNAVAILABLE.
    pub status: StatusCode,
    /// Whether it is RESOURCE_EXHAUSTED for gRPC.
    pub exhausted: bool,
    /// Headers of the answer, appended to its own.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Default for Refusal {
    /// 429, and UNAVAILABLE for gRPC.
    fn default() -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            exhausted: false,
            headers: Vec::new(),
        }
    }
}
