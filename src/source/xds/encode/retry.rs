//! Retry policies.

use super::loss::Loss;
use super::{Pen, value};
use crate::model::retry::{Backoff, Hedge, RetryOn, RetryPolicy};
use crate::source::xds::decode::GRPC_TOKENS;
use crate::source::xds::extra::{HedgeExtra, RetryExtra, RouteExtra};
use crate::source::xds::proto::{Any, route as wire};

/// Without its type Envoy refuses the whole route configuration.
const PREVIOUS_HOSTS: &str =
    "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";

type Messages = (Option<wire::RetryPolicy>, Option<wire::HedgePolicy>);

pub(super) fn policy(pen: &mut Pen<'_>, model: &RetryPolicy, extra: &mut RouteExtra) -> Messages {
    let RetryPolicy {
        on,
        retries,
        per_try_timeout,
        backoff,
        avoid_previous,
        hedge,
    } = model;
    let mut own = RetryExtra::default();
    let mut message = wire::RetryPolicy {
        retry_on: tokens(on),
        num_retries: Some(value::number((*retries).max(1))),
        per_try_timeout: per_try_timeout.map(value::limit),
        retriable_status_codes: on
            .statuses
            .iter()
            .map(|status| u32::from(status.as_u16()))
            .collect(),
        retriable_headers: on.headers.iter().map(present).collect(),
        ..wire::RetryPolicy::default()
    };
    if *avoid_previous {
        message.retry_host_predicate = vec![wire::retry_policy::RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: Some(
                wire::retry_policy::retry_host_predicate::ConfigType::TypedConfig(Any {
                    type_url: PREVIOUS_HOSTS.to_owned(),
                    value: Vec::new(),
                }),
            ),
        }];
        message.host_selection_retry_max_attempts = 5;
    }
    message.retry_back_off = self::backoff(pen, *backoff, &mut own);
    if pen.is_meshwork() {
        own.no_retries = *retries == 0;
        own.hedge = hedge.map(|hedge| HedgeExtra {
            delay: Some(value::duration(hedge.delay)),
            extra: hedge.extra.get(),
        });
        own.no_conditions = *on == RetryOn::default();
        if own != RetryExtra::default() {
            extra.retry = Some(own);
        }
        return (Some(message), None);
    }
    if *retries == 0 {
        pen.lose_if(hedge.is_some(), Loss::Hedging);
        return (None, None);
    }
    let hedge = hedge.and_then(|hedge| hedging(pen, hedge, &mut message));
    if pen.is_grpc() {
        grpc(pen, on, &mut message);
    }
    (Some(message), hedge)
}

/// Envoy hedges when a try times out, and its retries are the further tries.
fn hedging(
    pen: &mut Pen<'_>,
    hedge: Hedge,
    message: &mut wire::RetryPolicy,
) -> Option<wire::HedgePolicy> {
    let retries = message.num_retries.map(|retries| retries.value);
    let sayable = message.per_try_timeout.is_none() && retries == Some(hedge.extra.get());
    if pen.is_grpc() || !sayable {
        pen.lose(Loss::Hedging);
        return None;
    }
    message.per_try_timeout = Some(value::limit(hedge.delay));
    Some(wire::HedgePolicy {
        hedge_on_per_try_timeout: true,
        ..wire::HedgePolicy::default()
    })
}

/// gRPC reads the tokens of gRPC statuses, the number and the pauses (A44).
fn grpc(pen: &mut Pen<'_>, on: &RetryOn, message: &mut wire::RetryPolicy) {
    let only = RetryOn {
        grpc: on.grpc.clone(),
        ..RetryOn::default()
    };
    pen.lose_if(*on != only, Loss::RetryConditions);
    pen.lose_if(message.per_try_timeout.is_some(), Loss::PerTryTimeout);
    *message = wire::RetryPolicy {
        retry_on: tokens(&only),
        num_retries: message.num_retries,
        retry_back_off: message.retry_back_off,
        ..wire::RetryPolicy::default()
    };
}

/// Messages allow no pause of zero, and none whose longest is shorter than the first.
fn backoff(
    pen: &mut Pen<'_>,
    model: Backoff,
    own: &mut RetryExtra,
) -> Option<wire::retry_policy::RetryBackOff> {
    let Backoff { base, max } = model;
    if base.is_zero() || max < base {
        match pen.is_meshwork() {
            true => {
                own.base_interval = Some(value::duration(base));
                own.max_interval = Some(value::duration(max));
            }
            false => pen.lose(Loss::Backoff),
        }
        return None;
    }
    Some(wire::retry_policy::RetryBackOff {
        base_interval: Some(value::duration(base)),
        max_interval: Some(value::duration(max)),
    })
}

fn tokens(on: &RetryOn) -> String {
    let RetryOn {
        server_error,
        gateway_error,
        reset,
        reset_before_request,
        connect_failure,
        refused_stream,
        retriable_4xx,
        envoy_ratelimited,
        http3_post_connect_failure,
        statuses,
        headers,
        grpc,
    } = on;
    let flags = [
        (*server_error, "5xx"),
        (*gateway_error, "gateway-error"),
        (*reset, "reset"),
        (*reset_before_request, "reset-before-request"),
        (*connect_failure, "connect-failure"),
        (*refused_stream, "refused-stream"),
        (*retriable_4xx, "retriable-4xx"),
        (*envoy_ratelimited, "envoy-ratelimited"),
        (*http3_post_connect_failure, "http3-post-connect-failure"),
        (!statuses.is_empty(), "retriable-status-codes"),
        (!headers.is_empty(), "retriable-headers"),
    ];
    let flags = flags.into_iter().filter(|(set, _)| *set);
    let statuses = grpc.iter().filter_map(|status| {
        let known = GRPC_TOKENS.iter().find(|(_, code)| code == status);
        known.map(|(token, _)| *token)
    });
    let all: Vec<&str> = flags.map(|(_, token)| token).chain(statuses).collect();
    all.join(",")
}

fn present(name: &http::HeaderName) -> wire::HeaderMatcher {
    use wire::header_matcher::HeaderMatchSpecifier as Specifier;
    wire::HeaderMatcher {
        name: name.as_str().to_owned(),
        header_match_specifier: Some(Specifier::PresentMatch(true)),
        ..wire::HeaderMatcher::default()
    }
}
