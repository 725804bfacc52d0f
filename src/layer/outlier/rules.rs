//! What a policy says of one outcome, and of time.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::{Cause, Host};
use crate::layer::classify::Outcome;
use crate::model::outlier::Outlier;

/// What an outcome means under a policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    /// A failure of this side, counted apart.
    Apart,
    /// A 5xx error, perhaps a gateway error too.
    Error { gateway: bool },
    /// Ends every run of errors.
    Success,
}

/// A policy that can eject somebody; `None` if it has no rule at all.
pub(super) fn effective(policy: Option<Arc<Outlier>>) -> Option<Arc<Outlier>> {
    policy.filter(|policy| {
        policy.consecutive_5xx.is_some()
            || policy.consecutive_gateway.is_some()
            || consecutive_local(policy).is_some()
            || has_rates(policy)
    })
}

/// How long the ejection with this multiplier lasts.
pub(super) fn ejection_time(policy: &Outlier, multiplier: u32) -> Duration {
    let longest = policy.max_ejection_time.max(policy.base_ejection_time);
    policy
        .base_ejection_time
        .saturating_mul(multiplier)
        .min(longest)
}

/// Counts an outcome; the rule that it completes a run of, if any.
pub(super) fn count(policy: &Outlier, host: &Host, outcome: Outcome) -> Option<Cause> {
    let runs = &host.in_a_row;
    let reached = |run: u32, limit: Option<NonZeroU32>| limit.is_some_and(|n| run >= n.get());
    match verdict(policy, outcome) {
        Verdict::Success => {
            runs.errors.end();
            runs.gateway.end();
            runs.local.end();
            if has_rates(policy) {
                host.volume.success();
            }
            None
        }
        Verdict::Error { gateway } => {
            // An answer, if a bad one: the way to the host is fine.
            runs.local.end();
            if has_rates(policy) {
                host.volume.failure();
            }
            let errors = runs.errors.extend();
            let gateways = if gateway {
                runs.gateway.extend()
            } else {
                runs.gateway.end();
                0
            };
            // The narrower rule names the cause if both are met.
            if reached(gateways, policy.consecutive_gateway) {
                Some(Cause::ConsecutiveGateway)
            } else {
                reached(errors, policy.consecutive_5xx).then_some(Cause::Consecutive5xx)
            }
        }
        Verdict::Apart => {
            let run = runs.local.extend();
            reached(run, consecutive_local(policy)).then_some(Cause::ConsecutiveLocal)
        }
    }
}

/// Starts the run anew that led to an ejection, or to one that the cap prevented.
pub(super) fn spend(host: &Host, cause: Cause) {
    match cause {
        Cause::Consecutive5xx => host.in_a_row.errors.end(),
        Cause::ConsecutiveGateway => host.in_a_row.gateway.end(),
        Cause::ConsecutiveLocal => host.in_a_row.local.end(),
        // Made of the volume, which each sweep takes.
        Cause::FailurePercentage | Cause::SuccessRate => {}
    }
}

fn consecutive_local(policy: &Outlier) -> Option<NonZeroU32> {
    policy.local_origin.and_then(|local| local.consecutive)
}

fn has_rates(policy: &Outlier) -> bool {
    policy.success_rate.is_some() || policy.failure_percentage.is_some()
}

fn verdict(policy: &Outlier, outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Success => Verdict::Success,
        Outcome::Failure(status) => {
            let error = if policy.error_statuses.is_empty() {
                (500..=599).contains(&status)
            } else {
                policy.error_statuses.contains(&status)
            };
            if error {
                let gateway = (502..=504).contains(&status);
                Verdict::Error { gateway }
            } else {
                Verdict::Success
            }
        }
        Outcome::Local(_) if policy.local_origin.is_some() => Verdict::Apart,
        // Envoy counts a failed connection or a reset as 503 and a timeout as 504.
        Outcome::Local(_) => Verdict::Error { gateway: true },
    }
}
