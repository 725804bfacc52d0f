//! `retries`: Istio's block as a retry policy.

use std::num::NonZeroU32;
use std::time::Duration;

use http::StatusCode;

use crate::model::retry::{Backoff, RetryOn, RetryPolicy};
use crate::source::istio::kinds::Retries;

/// What Istio retries when `retryOn` is not said. There are no status codes among it: a 503 of the
/// endpoint is not retried by default.
const DEFAULT_ON: &str =
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
/// How often, when there is no `retries` block.
const DEFAULT_RETRIES: u32 = 2;
/// Envoy's longest pause is this many times the first.
const BACKOFF_FACTOR: u32 = 10;

/// The policy of a host without a VirtualService; the mesh may say a `default`.
pub(super) fn default_policy(default: Option<&Retries>) -> Option<RetryPolicy> {
    policy(None, default).0
}

/// `retryRemoteLocalities` is Envoy's `previous_priorities` with this `update_frequency`.
const FREQUENCY: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// Istio's policy where nobody says one.
fn standard() -> RetryPolicy {
    RetryPolicy {
        on: parse_on(DEFAULT_ON).0,
        retries: DEFAULT_RETRIES,
        per_try_timeout: None,
        backoff: Backoff::default(),
        avoid_previous: true,
        hedge: None,
        leave_priorities: None,
    }
}

/// The policy of a route, and the tokens of `retryOn` that nobody knows (reading refuses those, so
/// there are none in objects that were read).
///
/// Absent: the `default` of the mesh, else Istio's. `attempts: 0`, also as `{}`: no retries. `attempts` counts retries, not
/// tries.
pub(super) fn policy(
    written: Option<&Retries>,
    default: Option<&Retries>,
) -> (Option<RetryPolicy>, Vec<String>) {
    let Some(written) = written.or(default) else {
        return (Some(standard()), Vec::new());
    };
    let Retries {
        attempts,
        per_try_timeout,
        retry_on,
        retry_remote_localities,
        retry_ignore_previous_hosts,
        backoff,
    } = written;
    if *attempts == 0 {
        return (None, Vec::new());
    }
    let tokens = retry_on
        .as_ref()
        .map(|text| text.value.as_str())
        .filter(|text| !text.is_empty());
    let (on, unknown) = parse_on(tokens.unwrap_or(DEFAULT_ON));
    let backoff = match backoff.map(Duration::from) {
        Some(base) if !base.is_zero() => Backoff {
            base,
            max: base.saturating_mul(BACKOFF_FACTOR),
        },
        Some(_) | None => Backoff::default(),
    };
    let policy = RetryPolicy {
        on,
        retries: *attempts,
        per_try_timeout: per_try_timeout
            .map(Duration::from)
            .filter(|limit| !limit.is_zero()),
        backoff,
        avoid_previous: retry_ignore_previous_hosts.unwrap_or(true),
        hedge: None,
        leave_priorities: (*retry_remote_localities == Some(true)).then_some(FREQUENCY),
    };
    (Some(policy), unknown)
}

/// Reads the tokens of Envoy's two retry headers and Istio's numbers, split at commas without
/// trimming, as Istio does.
pub(super) fn parse_on(text: &str) -> (RetryOn, Vec<String>) {
    let mut on = RetryOn::default();
    let mut unknown = Vec::new();
    for token in text.split(',') {
        match token {
            "5xx" => on.server_error = true,
            "gateway-error" => on.gateway_error = true,
            "reset" => on.reset = true,
            "reset-before-request" => on.reset_before_request = true,
            "connect-failure" => on.connect_failure = true,
            "refused-stream" => on.refused_stream = true,
            "retriable-4xx" => on.retriable_4xx = true,
            "envoy-ratelimited" => on.envoy_ratelimited = true,
            "http3-post-connect-failure" => on.http3_post_connect_failure = true,
            // They switch lists on that are empty unless codes are named; Istio has no field for
            // the headers of the second.
            "retriable-status-codes" | "retriable-headers" => {}
            "cancelled" => push_once(&mut on.grpc, 1),
            "deadline-exceeded" => push_once(&mut on.grpc, 4),
            "resource-exhausted" => push_once(&mut on.grpc, 8),
            "internal" => push_once(&mut on.grpc, 13),
            "unavailable" => push_once(&mut on.grpc, 14),
            number => match number.parse().map(StatusCode::from_u16) {
                Ok(Ok(status)) => push_once(&mut on.statuses, status),
                Ok(Err(_)) | Err(_) => unknown.push(number.to_owned()),
            },
        }
    }
    (on, unknown)
}

fn push_once<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::istio::kinds::GoDuration;
    use crate::source::istio::yaml::Located;

    fn retries(attempts: u32, on: Option<&str>) -> Retries {
        Retries {
            attempts,
            retry_on: on.map(|text| Located::from(text.to_owned())),
            ..Retries::default()
        }
    }

    #[test]
    fn absent_retries_are_two_without_status_codes() {
        let policy = policy(None, None).0.unwrap();
        assert_eq!(policy.retries, 2);
        assert!(policy.on.connect_failure && policy.on.refused_stream);
        assert_eq!(policy.on.grpc, [14, 1]);
        assert!(policy.on.statuses.is_empty() && !policy.on.server_error);
        assert!(policy.avoid_previous);
        assert_eq!(policy.per_try_timeout, None);
    }

    #[test]
    fn zero_attempts_are_no_policy_and_an_empty_retry_on_is_the_default() {
        assert_eq!(policy(Some(&Retries::default()), None).0, None);
        let three = policy(Some(&retries(3, None)), None).0.unwrap();
        assert_eq!((three.retries, &three.on), (3, &standard().on));
    }

    #[test]
    fn retry_on_tokens_and_numbers_are_read_and_blanks_are_not_trimmed() {
        let all = "5xx,gateway-error,reset,reset-before-request,connect-failure,refused-stream,\
                   retriable-4xx,envoy-ratelimited,http3-post-connect-failure,\
                   retriable-status-codes,retriable-headers,cancelled,deadline-exceeded,internal,\
                   resource-exhausted,unavailable,503,503,429";
        let (on, unknown) = parse_on(all);
        assert!(unknown.is_empty(), "{unknown:?}");
        assert_eq!(on.grpc, [1, 4, 13, 8, 14]);
        assert_eq!(
            on.statuses,
            [503, 429].map(|code| StatusCode::from_u16(code).unwrap())
        );
        assert!(on.server_error && on.gateway_error && on.reset && on.reset_before_request);
        assert!(on.retriable_4xx && on.envoy_ratelimited && on.http3_post_connect_failure);
        assert_eq!(parse_on("5xx, reset").1, [" reset"]);
        assert_eq!(parse_on("5xxx,99999").1, ["5xxx", "99999"]);
    }

    #[test]
    fn backoff_grows_to_ten_times_its_base_and_previous_hosts_may_be_reused() {
        let written = Retries {
            backoff: Some(GoDuration(Duration::from_millis(10))),
            per_try_timeout: Some(GoDuration(Duration::from_secs(2))),
            retry_ignore_previous_hosts: Some(false),
            ..retries(3, Some("5xx"))
        };
        let policy = policy(Some(&written), None).0.unwrap();
        assert_eq!(policy.backoff.max, Duration::from_millis(100));
        assert_eq!(policy.per_try_timeout, Some(Duration::from_secs(2)));
        assert!(!policy.avoid_previous);
    }
}
