//! Limits of requests in a time: the filter `local_ratelimit`.
//!
//! A filter has one bucket of all requests, on servers and on clients. Buckets of descriptors are refused: what a descriptor is
//! made of is said by actions of routes, which are not read here.

use std::sync::Arc;
use std::time::Duration;

use super::place::Place;
use super::{Scope, headers, value};
use crate::model::Fraction;
use crate::model::rate::{Bucket, LocalLimit, Refusal};
use crate::model::route::HeaderChange;
use crate::source::xds::proto::{core, local_rate as wire, percent};

/// The shortest interval in which a bucket may get tokens (Envoy's).
const SHORTEST: Duration = Duration::from_millis(50);

/// `Some(None)`: it limits nothing.
pub(super) fn limit(
    scope: Scope<'_>,
    place: &Place<'_>,
    owner: &str,
    message: &wire::LocalRateLimit,
) -> Option<Option<LocalLimit>> {
    let fine = restrictions(place, message);
    let total = match &message.token_bucket {
        None => Some(None),
        Some(bucket) => self::bucket(&place.field("token_bucket"), bucket).map(Some),
    };
    let status = match &message.status {
        None => Some(Refusal::default().status),
        Some(status) => {
            let place = place.field("status.code");
            // Envoy: a status that is no error is none at all.
            match u32::try_from(status.code) {
                Ok(code) if code >= 400 => value::status(&place, code),
                _ => Some(Refusal::default().status),
            }
        }
    };
    let headers = headers::added(
        &place.field("response_headers_to_add"),
        &message.response_headers_to_add,
    );
    let enabled = share(
        &place.field("filter_enabled"),
        message.filter_enabled.as_ref(),
    );
    let enforced = share(
        &place.field("filter_enforced"),
        message.filter_enforced.as_ref(),
    );
    fine?;
    let (total, status, headers) = (total?, status?, headers?);
    let (enabled, enforced) = (enabled?, enforced?);
    if total.is_none() || enabled == Fraction::ZERO {
        return Some(None);
    }
    let written = |change| match change {
        HeaderChange::Add(name, value)
        | HeaderChange::AddIfAbsent(name, value)
        | HeaderChange::Set(name, value) => Some((name, value)),
        // The answer has none that could be replaced.
        HeaderChange::Remove(_) | HeaderChange::SetIfPresent(..) => None,
    };
    Some(Some(LocalLimit {
        scope: Arc::from(format!(
            "{} {} {owner} {}",
            scope.kind, scope.name, message.stat_prefix
        )),
        total,
        per_caller: None,
        callers: Vec::new(),
        enabled,
        enforced,
        refusal: Refusal {
            status,
            exhausted: message.rate_limited_as_resource_exhausted,
            headers: headers.into_iter().filter_map(written).collect(),
        },
        origin: scope.origin(owner),
    }))
}

/// None, unless it is said: so Envoy has it.
fn share(place: &Place<'_>, message: Option<&core::RuntimeFractionalPercent>) -> Option<Fraction> {
    match message.and_then(|share| share.default_value) {
        None => Some(Fraction::ZERO),
        Some(share) => value::fraction(&place.field("default_value"), share),
    }
}

fn restrictions(place: &Place<'_>, message: &wire::LocalRateLimit) -> Option<()> {
    let refused = [
        ("descriptors", !message.descriptors.is_empty()),
        ("rate_limits", !message.rate_limits.is_empty()),
        (
            "local_rate_limit_per_downstream_connection",
            message.local_rate_limit_per_downstream_connection,
        ),
        (
            "local_cluster_rate_limit",
            message.local_cluster_rate_limit.is_some(),
        ),
        (
            "request_headers_to_add_when_not_enforced",
            !message.request_headers_to_add_when_not_enforced.is_empty(),
        ),
        (
            "enable_x_ratelimit_headers",
            message.enable_x_ratelimit_headers != 0,
        ),
    ];
    let mut fine = Some(());
    for (field, set) in refused {
        if set {
            fine = place.field(field).fault("is not supported; leave it out");
        }
    }
    if !cfg!(feature = "rate-limit") {
        fine =
            place.fault("limits requests, which needs the feature \"rate-limit\" of this library");
    }
    fine
}

fn bucket(place: &Place<'_>, message: &percent::TokenBucket) -> Option<Bucket> {
    let interval = place.field("fill_interval");
    let length = value::duration(&interval, interval.required(message.fill_interval)?)?;
    if length < SHORTEST {
        return interval.fault(format_args!(
            "is {length:?}; {SHORTEST:?} and more is allowed"
        ));
    }
    let tokens = value::number_or(message.tokens_per_fill, 1);
    match Bucket::new(message.max_tokens, tokens, length) {
        Ok(bucket) => Some(bucket),
        Err(invalid) => place.fault(invalid),
    }
}
