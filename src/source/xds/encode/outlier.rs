//! When an endpoint is ejected.

use std::num::NonZeroU32;

use super::loss::Loss;
use super::{Pen, value};
use crate::model::outlier::{FailurePercentage, LocalOrigin, Outlier, SuccessRate};
use crate::source::xds::extra::ClusterExtra;
use crate::source::xds::proto::cluster as wire;

pub(super) fn outlier(
    pen: &mut Pen<'_>,
    model: &Outlier,
    extra: &mut ClusterExtra,
) -> wire::OutlierDetection {
    let Outlier {
        consecutive_5xx,
        consecutive_gateway,
        local_origin,
        error_statuses,
        success_rate,
        failure_percentage,
        interval,
        base_ejection_time,
        max_ejection_time,
        max_ejection,
        always_eject_one,
    } = model;
    let mut message = wire::OutlierDetection {
        interval: Some(value::limit(*interval)),
        base_ejection_time: Some(value::duration(*base_ejection_time)),
        max_ejection_time: Some(value::duration(*max_ejection_time)),
        max_ejection_percent: Some(value::whole_percent(*max_ejection)),
        always_eject_one_host: Some(value::flag(*always_eject_one)),
        ..wire::OutlierDetection::default()
    };
    consecutive(
        &mut message,
        *consecutive_5xx,
        *consecutive_gateway,
        *local_origin,
    );
    match success_rate {
        None => message.enforcing_success_rate = Some(value::number(0)),
        Some(model) => rate(&mut message, model),
    }
    if let Some(model) = failure_percentage {
        percentage(&mut message, model);
    }
    if pen.is_meshwork() {
        extra.error_statuses = error_statuses
            .iter()
            .map(|status| u32::from(*status))
            .collect();
    } else {
        pen.lose_if(!error_statuses.is_empty(), Loss::ErrorStatuses);
    }
    if pen.is_grpc() {
        approximate(pen, model, &mut message);
    }
    message
}

fn consecutive(
    message: &mut wire::OutlierDetection,
    server: Option<NonZeroU32>,
    gateway: Option<NonZeroU32>,
    local: Option<LocalOrigin>,
) {
    let number = |value: Option<NonZeroU32>| value.map(|value| value::number(value.get()));
    let enforced =
        |value: Option<NonZeroU32>| Some(value::number(if value.is_some() { 100 } else { 0 }));
    message.consecutive_5xx = number(server);
    message.enforcing_consecutive_5xx = enforced(server);
    message.consecutive_gateway_failure = number(gateway);
    message.enforcing_consecutive_gateway_failure = enforced(gateway);
    if let Some(LocalOrigin { consecutive }) = local {
        message.split_external_local_origin_errors = true;
        message.consecutive_local_origin_failure = number(consecutive);
        message.enforcing_consecutive_local_origin_failure = enforced(consecutive);
    }
}

fn rate(message: &mut wire::OutlierDetection, model: &SuccessRate) {
    let SuccessRate {
        stdev_factor,
        enforcing,
        minimum_hosts,
        request_volume,
    } = model;
    message.enforcing_success_rate = Some(value::whole_percent(*enforcing));
    message.success_rate_stdev_factor = Some(value::number(*stdev_factor));
    message.success_rate_minimum_hosts = Some(value::number(*minimum_hosts));
    message.success_rate_request_volume = Some(value::number(*request_volume));
}

fn percentage(message: &mut wire::OutlierDetection, model: &FailurePercentage) {
    let FailurePercentage {
        threshold,
        enforcing,
        minimum_hosts,
        request_volume,
    } = model;
    message.failure_percentage_threshold = Some(value::whole_percent(*threshold));
    message.enforcing_failure_percentage = Some(value::whole_percent(*enforcing));
    message.failure_percentage_minimum_hosts = Some(value::number(*minimum_hosts));
    message.failure_percentage_request_volume = Some(value::number(*request_volume));
}

/// gRPC knows no errors in a row (A50). Where no failure percentage is configured, it is given one
/// that comes near: so many requests within an interval, and more than 99 % of them failed.
fn approximate(pen: &mut Pen<'_>, model: &Outlier, message: &mut wire::OutlierDetection) {
    let local = model.local_origin.and_then(|local| local.consecutive);
    let rows = [model.consecutive_5xx, model.consecutive_gateway, local];
    let Some(volume) = rows.into_iter().flatten().min() else {
        return;
    };
    pen.lose(Loss::ConsecutiveErrors);
    if model.failure_percentage.is_none() {
        message.failure_percentage_threshold = Some(value::number(99));
        message.enforcing_failure_percentage = Some(value::number(100));
        message.failure_percentage_minimum_hosts = Some(value::number(1));
        message.failure_percentage_request_volume = Some(value::number(volume.get()));
    }
}
