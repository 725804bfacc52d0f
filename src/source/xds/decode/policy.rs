//! Copies of requests, and hedging: policies that virtual hosts and routes both have.

use std::num::NonZeroU32;

use super::place::Place;
use super::value;
use crate::model::retry::{Hedge, RetryPolicy};
use crate::model::route::Mirror;
use crate::source::xds::proto::route as wire;

/// The mirrors that are valid; faults of the others are told.
pub(super) fn mirrors(
    place: &Place<'_>,
    policies: &[wire::route_action::RequestMirrorPolicy],
) -> Vec<Mirror> {
    let all = policies.iter().enumerate();
    all.filter_map(|(index, policy)| mirror(&place.index(index), policy))
        .collect()
}

fn mirror(place: &Place<'_>, message: &wire::route_action::RequestMirrorPolicy) -> Option<Mirror> {
    let wire::route_action::RequestMirrorPolicy {
        cluster,
        cluster_header,
        runtime_fraction,
        // Whether the copy's trace is sampled.
        trace_sampled: _,
        // The host of a copy stays as it is here in any case.
        disable_shadow_host_suffix_append: _,
        request_headers_mutations,
        host_rewrite_literal,
    } = message;
    if !cluster_header.is_empty() {
        return place
            .field("cluster_header")
            .fault("is not supported; name the cluster");
    }
    if !request_headers_mutations.is_empty() || !host_rewrite_literal.is_empty() {
        return place.fault(
            "changes headers or the host of the copy, which is not supported; a copy is sent as the \
             request is",
        );
    }
    let cluster = value::filled(&place.field("cluster"), cluster);
    let share = value::runtime_fraction(&place.field("runtime_fraction"), runtime_fraction.clone());
    Some(Mirror {
        cluster: cluster?.into(),
        share: share?,
    })
}

/// Envoy hedges when a try times out: the try goes on, and a retry joins it. So the per-try timeout
/// is the delay and the number of retries how many may join.
pub(super) fn hedged(
    place: &Place<'_>,
    mut policy: RetryPolicy,
    message: &wire::HedgePolicy,
) -> Option<RetryPolicy> {
    let wire::HedgePolicy {
        initial_requests,
        additional_request_chance,
        hedge_on_per_try_timeout,
    } = message;
    if value::number_or(*initial_requests, 1) != 1 {
        return place
            .field("initial_requests")
            .fault("is not 1; several tries at once from the start are not supported");
    }
    if additional_request_chance.is_some_and(|chance| chance.numerator > 0) {
        return place
            .field("additional_request_chance")
            .fault("is above 0, which is not supported");
    }
    if *hedge_on_per_try_timeout
        && let Some(delay) = policy.per_try_timeout
        && let Some(extra) = NonZeroU32::new(policy.retries)
    {
        policy.per_try_timeout = None;
        policy.hedge = Some(Hedge { delay, extra });
    }
    Some(policy)
}
