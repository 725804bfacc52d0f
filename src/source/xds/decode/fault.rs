//! Faults that are injected on purpose (gRFC A33).

use std::num::NonZeroU32;

use super::place::Place;
use super::value;
use crate::model::Fraction;
use crate::model::fault::{Abort, AbortStatus, Amount, Delay, Fault};
use crate::source::xds::proto::{fault as wire, fault_delay, percent};

pub(super) fn fault(place: &Place<'_>, message: &wire::HttpFault) -> Option<Fault> {
    let restricted = [
        ("upstream_cluster", !message.upstream_cluster.is_empty()),
        ("headers", !message.headers.is_empty()),
        ("downstream_nodes", !message.downstream_nodes.is_empty()),
        ("response_rate_limit", message.response_rate_limit.is_some()),
    ];
    let mut fine = Some(());
    for (field, set) in restricted {
        if set {
            fine = place
                .field(field)
                .fault("is not supported; delay, abort and max_active_faults are");
        }
    }
    let delay = match &message.delay {
        None => Some(None),
        Some(message) => delay(&place.field("delay"), message).map(Some),
    };
    let abort = match &message.abort {
        None => Some(None),
        Some(message) => abort(&place.field("abort"), message).map(Some),
    };
    fine?;
    let (delay, abort) = (delay?, abort?);
    Some(
        match message
            .max_active_faults
            .map(|max| NonZeroU32::new(max.value))
        {
            None => Fault {
                delay,
                abort,
                max_active: None,
            },
            Some(Some(max)) => Fault {
                delay,
                abort,
                max_active: Some(max),
            },
            // None may be active, so none is injected.
            Some(None) => Fault {
                delay: None,
                abort: None,
                max_active: None,
            },
        },
    )
}

/// Without a percentage nothing is hit, as in Envoy.
fn share(place: &Place<'_>, value: Option<percent::FractionalPercent>) -> Option<Fraction> {
    value.map_or(Some(Fraction::ZERO), |value| {
        value::fraction(&place.field("percentage"), value)
    })
}

fn delay(place: &Place<'_>, message: &fault_delay::FaultDelay) -> Option<Delay> {
    use fault_delay::fault_delay::FaultDelaySecifier as Specifier;
    let share = share(place, message.percentage);
    let duration = match &message.fault_delay_secifier {
        None => place.fault("has no length; fixed_delay and header_delay are allowed"),
        Some(Specifier::FixedDelay(length)) => {
            value::duration(&place.field("fixed_delay"), *length).map(Amount::Fixed)
        }
        Some(Specifier::HeaderDelay(_)) => Some(Amount::Header),
    };
    Some(Delay {
        duration: duration?,
        share: share?,
    })
}

fn abort(place: &Place<'_>, message: &wire::FaultAbort) -> Option<Abort> {
    use wire::fault_abort::ErrorType;
    let share = share(place, message.percentage);
    if !message.response_body.is_empty() {
        return place
            .field("response_body")
            .fault("is not supported; leave it out");
    }
    let status = match &message.error_type {
        None => place.fault("has no status; http_status, grpc_status and header_abort are allowed"),
        Some(ErrorType::HttpStatus(code)) => value::status(&place.field("http_status"), *code)
            .map(|status| Amount::Fixed(AbortStatus::Http(status))),
        Some(ErrorType::GrpcStatus(code)) => Some(Amount::Fixed(AbortStatus::Grpc(*code))),
        Some(ErrorType::HeaderAbort(_)) => Some(Amount::Header),
    };
    Some(Abort {
        status: status?,
        share: share?,
    })
}
