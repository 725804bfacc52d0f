//! Faults that are injected on purpose, to see how a caller takes them.

use std::num::NonZeroU32;
use std::time::Duration;

use http::StatusCode;

use super::Fraction;

/// Injected before the first try; retries and timeouts of the route do not cover it, as in Envoy.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Fault {
    /// Holds requests back.
    pub delay: Option<Delay>,
    /// Answers instead of the endpoint.
    pub abort: Option<Abort>,
    /// How many requests may be held back at once; more pass unharmed. `None`: any number.
    pub max_active: Option<NonZeroU32>,
}

/// How requests are held back.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Delay {
    /// For how long.
    pub duration: Amount<Duration>,
    /// Which share of them.
    pub share: Fraction,
}

/// How requests are answered with an error.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Abort {
    /// With what.
    pub status: Amount<AbortStatus>,
    /// Which share of them.
    pub share: Fraction,
}

/// A value that the policy fixes, or that the request says.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Amount<T> {
    /// Always this.
    Fixed(T),
    /// What the request's headers say (`x-envoy-fault-delay-request` in milliseconds,
    /// `x-envoy-fault-abort-request`, `x-envoy-fault-abort-grpc-request`, and their `-percentage`
    /// twins that lower the share); nothing happens to a request without them (gRFC A33).
    Header,
}

/// The answer of an abort.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum AbortStatus {
    /// A gRPC status code.
    Grpc(u32),
    /// An HTTP status.
    Http(StatusCode),
}
