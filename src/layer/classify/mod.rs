//! Tells success from failure.
//!
//! Retries and outlier detection ask the same question of the same answer, so it is answered once,
//! here. Two distinctions matter to both:
//!
//! - *Remote or local.* An answer with a status comes from the peer. No answer at all (no
//!   connection, a reset, a timeout) was noticed on this side and is a [`Local`] failure, which
//!   outlier detection can count apart (`splitExternalLocalOriginErrors`).
//! - *The endpoint's doing or not.* A limit of this process, an injected fault or a missing route
//!   say nothing about the endpoint. They have no [`Outcome`]: [`Outcome::of_error`] is `None`.
//!
//! A gRPC server that fails before its first message answers with HTTP 200 and `grpc-status` in
//! the headers ("trailers-only"). As in Envoy's router that status counts, mapped to HTTP by
//! [`http_of_grpc`]. A status that follows later, in the trailers, does not: at the time of the
//! decision the headers have been handed on, and both Envoy and linkerd count such a call as a
//! success. Reading the trailers was rejected because the same server would then be ejected
//! by us and kept by every sidecar beside us.
//!
//! ```
//! use meshwork::layer::classify::Outcome;
//!
//! let trailers_only = http::Response::builder().header("grpc-status", "14").body(()).unwrap();
//! assert_eq!(Outcome::of_response(&trailers_only), Outcome::Failure(503));
//! ```

use http::{HeaderMap, Response};

use crate::error::{Error, Kind};

/// How a try ended, as far as it tells something about the endpoint.
///
/// Exhaustive on purpose: whoever counts outcomes must decide about each.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Outcome {
    /// The peer answered with a status below 400.
    Success,
    /// The peer answered with this status, 400 or above; a trailers-only gRPC status is mapped.
    ///
    /// That includes 4xx, which by default is no error of the endpoint: outlier detection counts
    /// 500 to 599, or exactly the statuses of its policy.
    Failure(u16),
    /// There was no answer; this side noticed.
    Local(Local),
}

/// Why there was no answer.
///
/// Exhaustive on purpose, as [`Outcome`] is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Local {
    /// No connection could be made.
    Connect,
    /// The connection broke, or the peer reset or refused the stream.
    Reset,
    /// Time ran out: connecting, the try, the route or the caller.
    Timeout,
}

impl Outcome {
    /// What a response says of its endpoint.
    #[must_use]
    pub fn of_response<B>(response: &Response<B>) -> Self {
        let status = match response.status().as_u16() {
            status @ 400.. => status,
            status => grpc_status(response.headers()).map_or(status, http_of_grpc),
        };
        match status {
            400.. => Self::Failure(status),
            _ => Self::Success,
        }
    }

    /// What an error says of the endpoint; `None` if nothing, because the request never got there
    /// or this process stopped it.
    #[must_use]
    pub fn of_error(error: &Error) -> Option<Self> {
        match error.kind() {
            Kind::Connect | Kind::Secure => Some(Self::Local(Local::Connect)),
            // A failed connect by time is a timeout in Envoy's pool too (`LocalOriginTimeout`).
            Kind::ConnectTimeout { .. }
            | Kind::Timeout { .. }
            | Kind::PerTryTimeout { .. }
            | Kind::Idle { .. } => Some(Self::Local(Local::Timeout)),
            Kind::Body | Kind::Inner | Kind::Reset | Kind::Refused => {
                Some(Self::Local(Local::Reset))
            }
            Kind::NoRoute { .. }
            | Kind::Blocked { .. }
            | Kind::Discovery { .. }
            | Kind::NoCluster
            | Kind::NoEndpoint
            | Kind::Overflow { .. }
            | Kind::RateLimited { .. }
            | Kind::Dropped { .. }
            | Kind::Throttled
            | Kind::Fault { .. }
            | Kind::Draining
            | Kind::Upgrade { .. }
            | Kind::UpgradeForbidden { .. }
            | Kind::Denied
            | Kind::Ambiguous { .. }
            | Kind::Request { .. }
            | Kind::Config { .. } => None,
        }
    }

    /// What the result of a try says of its endpoint; see [`Outcome::of_error`] for `None`.
    #[must_use]
    pub fn of<B>(result: &Result<Response<B>, Error>) -> Option<Self> {
        match result {
            Ok(response) => Some(Self::of_response(response)),
            Err(error) => Self::of_error(error),
        }
    }
}

const GRPC_STATUS: http::HeaderName = http::HeaderName::from_static("grpc-status");
/// Up to so many headers, comparing all names is less work than hashing one.
const FEW: usize = 8;

/// The gRPC status in the headers, which makes them "trailers-only"; 2 UNKNOWN if it is there but
/// no number, as in gRPC.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    if headers.len() <= FEW && !headers.keys().any(|name| *name == GRPC_STATUS) {
        return None;
    }
    let value = headers.get(GRPC_STATUS)?;
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    Some(number.unwrap_or(2))
}

/// The HTTP status that Envoy counts for a gRPC status (`Grpc::Utility::grpcToHttpStatus`).
///
/// ```
/// use meshwork::layer::classify::http_of_grpc;
///
/// assert_eq!((http_of_grpc(0), http_of_grpc(5), http_of_grpc(13)), (200, 404, 500));
/// ```
#[must_use]
pub fn http_of_grpc(status: u32) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        // UNKNOWN, INTERNAL, DATA_LOSS, and numbers that gRPC does not know.
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::{Limit, Whose};

    fn answer(status: u16, grpc: Option<&str>) -> Response<()> {
        let mut response = Response::builder().status(status);
        if let Some(grpc) = grpc {
            response = response.header("grpc-status", grpc);
        }
        response.body(()).unwrap()
    }

    #[test]
    fn answers_are_told_apart_by_status_and_trailers_only_grpc_status() {
        for (status, grpc, outcome) in [
            (200, None, Outcome::Success),
            (304, None, Outcome::Success),
            (404, None, Outcome::Failure(404)),
            (503, None, Outcome::Failure(503)),
            (200, Some("0"), Outcome::Success),
            (200, Some("14"), Outcome::Failure(503)),
            (200, Some("4"), Outcome::Failure(504)),
            (200, Some("5"), Outcome::Failure(404)),
            (200, Some("4294967296"), Outcome::Failure(500)),
            (200, Some("x"), Outcome::Failure(500)),
            (502, Some("0"), Outcome::Failure(502)),
        ] {
            let found = Outcome::of_response(&answer(status, grpc));
            assert_eq!(found, outcome, "{status} {grpc:?}");
        }
    }

    #[test]
    fn only_failures_of_the_endpoint_have_an_outcome() {
        let after = Duration::from_secs(1);
        let whose = Whose::Route;
        for (kind, outcome) in [
            (Kind::Connect, Some(Local::Connect)),
            (Kind::ConnectTimeout { after }, Some(Local::Timeout)),
            (Kind::PerTryTimeout { after }, Some(Local::Timeout)),
            (Kind::Timeout { after, whose }, Some(Local::Timeout)),
            (Kind::Reset, Some(Local::Reset)),
            (Kind::Refused, Some(Local::Reset)),
            (Kind::NoEndpoint, None),
            (Kind::Draining, None),
            (
                Kind::Overflow {
                    limit: Limit::Requests,
                },
                None,
            ),
        ] {
            let name = format!("{kind:?}");
            let result: Result<Response<()>, _> = Err(Error::new(kind));
            assert_eq!(Outcome::of(&result), outcome.map(Outcome::Local), "{name}");
        }
    }
}
