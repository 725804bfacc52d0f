//! When an endpoint is ejected (gRFC A50, and Envoy's detectors of errors in a row).

use std::num::NonZeroU32;

use super::place::Place;
use super::value;
use crate::model::Percent;
use crate::model::outlier::{FailurePercentage, LocalOrigin, Outlier, SuccessRate};
use crate::source::xds::extra::ClusterExtra;
use crate::source::xds::proto::{UInt32Value, cluster as wire};

/// `Some(None)`: nothing is detected, so there is no policy.
pub(super) fn outlier(
    place: &Place<'_>,
    message: &wire::OutlierDetection,
    extra: &ClusterExtra,
) -> Option<Option<Outlier>> {
    let standard = Outlier::default();
    let consecutive = consecutive(place, message);
    let interval = value::positive_or(
        &place.field("interval"),
        message.interval,
        standard.interval,
    );
    let base = value::duration_or(
        &place.field("base_ejection_time"),
        message.base_ejection_time,
        standard.base_ejection_time,
    );
    let longest = base.map_or(standard.max_ejection_time, |base| {
        base.max(standard.max_ejection_time)
    });
    let max = value::duration_or(
        &place.field("max_ejection_time"),
        message.max_ejection_time,
        longest,
    );
    let max_ejection = value::percent_or(
        &place.field("max_ejection_percent"),
        message.max_ejection_percent,
        standard.max_ejection,
    );
    let success_rate = success_rate(place, message);
    let failure_percentage = failure_percentage(place, message);
    let error_statuses = extra
        .error_statuses
        .iter()
        .map(|status| u16::try_from(*status).ok());
    let (consecutive_5xx, consecutive_gateway, local_origin) = consecutive?;
    Some(Some(Outlier {
        consecutive_5xx,
        consecutive_gateway,
        local_origin,
        error_statuses: error_statuses.flatten().collect(),
        success_rate: success_rate?,
        failure_percentage: failure_percentage?,
        interval: interval?,
        base_ejection_time: base?,
        max_ejection_time: max?,
        max_ejection: max_ejection?,
        // gRPC's rule (A50) unless Envoy's is asked for.
        always_eject_one: message.always_eject_one_host.is_none_or(|flag| flag.value),
    }))
}

type Consecutive = (Option<NonZeroU32>, Option<NonZeroU32>, Option<LocalOrigin>);

fn consecutive(place: &Place<'_>, message: &wire::OutlierDetection) -> Option<Consecutive> {
    let server = enforced(
        &place.field("enforcing_consecutive_5xx"),
        message.enforcing_consecutive_5xx,
        true,
    );
    let gateway = enforced(
        &place.field("enforcing_consecutive_gateway_failure"),
        message.enforcing_consecutive_gateway_failure,
        false,
    );
    let local = enforced(
        &place.field("enforcing_consecutive_local_origin_failure"),
        message.enforcing_consecutive_local_origin_failure,
        true,
    );
    let (server, gateway, local) = (server?, gateway?, local?);
    let number = |enforced: bool, value: Option<UInt32Value>| {
        NonZeroU32::new(value::number_or(value, 5)).filter(|_| enforced)
    };
    let local_origin = message
        .split_external_local_origin_errors
        .then(|| LocalOrigin {
            consecutive: number(local, message.consecutive_local_origin_failure),
        });
    Some((
        number(server, message.consecutive_5xx),
        number(gateway, message.consecutive_gateway_failure),
        local_origin,
    ))
}

/// Detectors of errors in a row eject always or never; Envoy could roll dice.
fn enforced(place: &Place<'_>, value: Option<UInt32Value>, default: bool) -> Option<bool> {
    match value.map(|value| value.value) {
        None => Some(default),
        Some(0) => Some(false),
        Some(100) => Some(true),
        Some(other) => place.fault(format_args!("is {other}; 0 and 100 are allowed")),
    }
}

fn success_rate(
    place: &Place<'_>,
    message: &wire::OutlierDetection,
) -> Option<Option<SuccessRate>> {
    let enforcing = value::percent_or(
        &place.field("enforcing_success_rate"),
        message.enforcing_success_rate,
        Percent::HUNDRED,
    )?;
    let said = message.success_rate_stdev_factor.is_some()
        || message.success_rate_minimum_hosts.is_some()
        || message.success_rate_request_volume.is_some();
    if enforcing == Percent::ZERO && !said {
        return Some(None);
    }
    Some(Some(SuccessRate {
        stdev_factor: value::number_or(message.success_rate_stdev_factor, 1_900),
        enforcing,
        minimum_hosts: value::number_or(message.success_rate_minimum_hosts, 5),
        request_volume: value::number_or(message.success_rate_request_volume, 100),
    }))
}

fn failure_percentage(
    place: &Place<'_>,
    message: &wire::OutlierDetection,
) -> Option<Option<FailurePercentage>> {
    let enforcing = value::percent_or(
        &place.field("enforcing_failure_percentage"),
        message.enforcing_failure_percentage,
        Percent::ZERO,
    );
    let threshold = value::percent_or(
        &place.field("failure_percentage_threshold"),
        message.failure_percentage_threshold,
        Percent::new(85).unwrap_or(Percent::HUNDRED),
    );
    let (enforcing, threshold) = (enforcing?, threshold?);
    let said = message.failure_percentage_threshold.is_some()
        || message.failure_percentage_minimum_hosts.is_some()
        || message.failure_percentage_request_volume.is_some();
    if enforcing == Percent::ZERO && !said {
        return Some(None);
    }
    Some(Some(FailurePercentage {
        threshold,
        enforcing,
        minimum_hosts: value::number_or(message.failure_percentage_minimum_hosts, 5),
        request_volume: value::number_or(message.failure_percentage_request_volume, 50),
    }))
}
