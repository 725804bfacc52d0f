//! Faults that a request asks for (`x-envoy-fault-*`, gRFC A33).

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::model::Fraction;
use crate::model::fault::AbortStatus;

const DELAY: &str = "x-envoy-fault-delay-request";
pub(super) const DELAY_PERCENTAGE: &str = "x-envoy-fault-delay-request-percentage";
const ABORT: &str = "x-envoy-fault-abort-request";
const ABORT_GRPC: &str = "x-envoy-fault-abort-grpc-request";
pub(super) const ABORT_PERCENTAGE: &str = "x-envoy-fault-abort-request-percentage";

/// How long the request wants to be held back; the header is in milliseconds.
pub(super) fn delay(headers: &HeaderMap) -> Option<Duration> {
    number(headers, DELAY).map(Duration::from_millis)
}

/// The answer that the request wants; HTTP goes before gRPC, as in Envoy.
pub(super) fn abort(headers: &HeaderMap) -> Option<AbortStatus> {
    let http = number(headers, ABORT)
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (200..600).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok())
        .map(AbortStatus::Http);
    let grpc = || {
        let code = u32::try_from(number(headers, ABORT_GRPC)?).ok()?;
        Some(AbortStatus::Grpc(code))
    };
    http.or_else(grpc)
}

/// The policy's share, lowered to the whole percentage that the request says.
pub(super) fn share(headers: &HeaderMap, name: &str, share: Fraction) -> Fraction {
    number(headers, name)
        .and_then(|percent| u32::try_from(percent).ok()?.checked_mul(10_000))
        .and_then(|parts| Fraction::from_parts_per_million(parts).ok())
        .map_or(share, |asked| asked.min(share))
}

/// The number in a header: digits and nothing else.
fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?;
    // `parse` would take a plus sign.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(())?;
    text.parse().ok()
}
