//! Retry policies (gRFC A44 with Envoy's tokens).

use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderName, StatusCode};

use super::action::Parts;
use super::place::Place;
use super::{policy, value};
use crate::model::retry::{Backoff, Hedge, RetryOn, RetryPolicy};
use crate::source::xds::extra::RetryExtra;
use crate::source::xds::proto::route as wire;

/// Envoy's and gRPC's first pause.
const BASE: Duration = Duration::from_millis(25);
/// Without a longest pause it is so many times the first.
const MAX_FACTOR: u32 = 10;

/// The tokens of `retry_on` that stand for a gRPC status.
pub(in crate::source::xds) const GRPC_TOKENS: [(&str, u32); 5] = [
    ("cancelled", 1),
    ("deadline-exceeded", 4),
    ("internal", 13),
    ("resource-exhausted", 8),
    ("unavailable", 14),
];

/// The route's policy, else the virtual host's. An empty policy of the route still stands in front
/// of the virtual host's.
pub(super) fn of_route(
    place: &Place<'_>,
    message: &wire::RouteAction,
    parts: &Parts<'_>,
) -> Option<Option<RetryPolicy>> {
    let own = place.field("retry_policy");
    let found = match (&message.retry_policy, &parts.around.retry) {
        (Some(message), _) => self::policy(&own, message, parts.extra.retry.as_ref()),
        (None, Some((place, message))) => self::policy(place, message, None),
        (None, None) => return Some(None),
    }?;
    let hedge = message
        .hedge_policy
        .as_ref()
        .or(parts.around.hedge.as_ref());
    match (found, hedge) {
        (Some(found), Some(hedge)) => {
            policy::hedged(&place.field("hedge_policy"), found, hedge).map(Some)
        }
        (found, _) => Some(found),
    }
}

/// `Some(None)`: nothing is tried again.
fn policy(
    place: &Place<'_>,
    message: &wire::RetryPolicy,
    extra: Option<&RetryExtra>,
) -> Option<Option<RetryPolicy>> {
    let retries = value::nonzero_or(
        &place.field("num_retries"),
        message.num_retries,
        NonZeroU32::MIN,
    );
    let per_try_timeout = value::limit(&place.field("per_try_timeout"), message.per_try_timeout);
    let backoff = backoff(&place.field("retry_back_off"), message, extra);
    let on = retry_on(place, message);
    let avoid_previous = avoid_previous(place, message);
    let refused = unsupported(place, message);
    let retries = match extra {
        Some(extra) if extra.no_retries => 0,
        _ => retries?.get(),
    };
    let hedge = match extra.and_then(|extra| extra.hedge.as_ref()) {
        None => Some(None),
        Some(hedge) => {
            let delay = value::duration_or(place, hedge.delay, Duration::ZERO);
            delay.map(|delay| NonZeroU32::new(hedge.extra).map(|extra| Hedge { delay, extra }))
        }
    };
    refused?;
    let (on, hedge) = (on?, hedge?);
    let policy = RetryPolicy {
        retries,
        per_try_timeout: per_try_timeout?,
        backoff: backoff?,
        avoid_previous: avoid_previous?,
        hedge,
        on,
    };
    // Of a policy of nothing but what is unknown nothing is left (gRFC A44), unless it is ours.
    Some((extra.is_some() || policy.on != RetryOn::default()).then_some(policy))
}

fn backoff(
    place: &Place<'_>,
    message: &wire::RetryPolicy,
    extra: Option<&RetryExtra>,
) -> Option<Backoff> {
    if let Some(extra) = extra
        && extra.base_interval.is_some()
    {
        let base = value::duration_or(place, extra.base_interval, BASE);
        let max = value::duration_or(place, extra.max_interval, BASE);
        return Some(Backoff {
            base: base?,
            max: max?,
        });
    }
    let Some(wire::retry_policy::RetryBackOff {
        base_interval,
        max_interval,
    }) = message.retry_back_off
    else {
        return Some(Backoff {
            base: BASE,
            max: BASE * MAX_FACTOR,
        });
    };
    let base_place = place.field("base_interval");
    let base = base_place
        .required(base_interval)
        .and_then(|base| value::positive_or(&base_place, Some(base), BASE));
    let longest = base.map_or(BASE, |base| base.saturating_mul(MAX_FACTOR));
    let max_place = place.field("max_interval");
    let max = value::positive_or(&max_place, max_interval, longest);
    let (base, max) = (base?, max?);
    if max < base {
        return max_place.fault(format_args!(
            "{max:?} is shorter than base_interval, {base:?}; as long or longer is allowed"
        ));
    }
    Some(Backoff { base, max })
}

/// Tokens that are not known are left out, as gRPC A44 and Envoy do.
fn retry_on(place: &Place<'_>, message: &wire::RetryPolicy) -> Option<RetryOn> {
    let mut on = RetryOn::default();
    let mut statuses = false;
    let mut headers = false;
    for token in message.retry_on.split(',').map(str::trim) {
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
            "retriable-status-codes" => statuses = true,
            "retriable-headers" => headers = true,
            other => {
                let status = GRPC_TOKENS.iter().find(|(token, _)| *token == other);
                on.grpc.extend(status.map(|(_, status)| *status));
            }
        }
    }
    let listed = statuses_of(&place.field("retriable_status_codes"), message);
    let named = headers_of(&place.field("retriable_headers"), message);
    let (listed, named) = (listed?, named?);
    if statuses {
        on.statuses = listed;
    }
    if headers {
        on.headers = named;
    }
    Some(on)
}

fn statuses_of(place: &Place<'_>, message: &wire::RetryPolicy) -> Option<Vec<StatusCode>> {
    let all: Vec<Option<StatusCode>> = message
        .retriable_status_codes
        .iter()
        .enumerate()
        .map(|(index, code)| {
            let place = place.index(index);
            let status = u16::try_from(*code).ok();
            match status.and_then(|code| StatusCode::from_u16(code).ok()) {
                Some(status) => Some(status),
                None => place.fault(format_args!("{code} is no status; 100 to 999 is allowed")),
            }
        })
        .collect();
    all.into_iter().collect()
}

fn headers_of(place: &Place<'_>, message: &wire::RetryPolicy) -> Option<Vec<HeaderName>> {
    use wire::header_matcher::HeaderMatchSpecifier as Specifier;
    let all: Vec<Option<HeaderName>> = message
        .retriable_headers
        .iter()
        .enumerate()
        .map(|(index, matcher)| {
            let place = place.index(index);
            let present = matches!(
                matcher.header_match_specifier,
                None | Some(Specifier::PresentMatch(true))
            );
            if !present || matcher.invert_match {
                return place
                    .fault("matches a value, which is not supported; present_match: true is");
            }
            value::header_name(&place.field("name"), &matcher.name)
        })
        .collect();
    all.into_iter().collect()
}

fn avoid_previous(place: &Place<'_>, message: &wire::RetryPolicy) -> Option<bool> {
    let predicates = place.field("retry_host_predicate");
    let mut avoid = false;
    for (index, predicate) in message.retry_host_predicate.iter().enumerate() {
        match predicate.name.as_str() {
            "envoy.retry_host_predicates.previous_hosts" => avoid = true,
            // Canaries are told by metadata that is not kept; as no endpoint has it, none is
            // left out.
            "envoy.retry_host_predicates.omit_canary_hosts" => {}
            _ => {
                return predicates
                    .index(index)
                    .field("name")
                    .fault("is not supported; envoy.retry_host_predicates.previous_hosts is");
            }
        }
    }
    Some(avoid)
}

/// Fields that would change what is retried, and are not here.
fn unsupported(place: &Place<'_>, message: &wire::RetryPolicy) -> Option<()> {
    let refused = [
        (
            "retriable_request_headers",
            !message.retriable_request_headers.is_empty(),
        ),
        (
            "retry_options_predicates",
            !message.retry_options_predicates.is_empty(),
        ),
        (
            "per_try_idle_timeout",
            message.per_try_idle_timeout.is_some(),
        ),
    ];
    let mut fine = Some(());
    for (field, set) in refused {
        if set {
            fine = place.field(field).fault("is not supported; leave it out");
        }
    }
    fine
}
