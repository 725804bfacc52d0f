//! How long a call may take, and how often it may be tried.

use std::time::Duration;

use tokio::time::Instant;

use crate::layer::deadline::{Asked, Context};
use crate::layer::retry::longest_pause;
use crate::model::route::Forward;

/// How long a call may take. `None` stands for "no limit" throughout.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Times {
    /// For all tries and pauses together: the route's timeout, or what the request's headers put
    /// in its place.
    pub timeout: Option<Duration>,
    /// For one try, until its response begins.
    pub per_try: Option<Duration>,
    /// Without any byte moving.
    pub idle: Option<Duration>,
    /// How long the caller waits, as its headers and the inbound request say that it works under.
    pub caller: Option<Duration>,
    /// How many tries the policy allows, the first included. A request that no peer has looked at
    /// is sent again without being one of them.
    pub attempts: u32,
    /// How many of them can begin if each takes its whole per-try timeout and all pauses are zero.
    pub attempts_if_slow: u32,
    /// When the caller has an answer at the latest, an injected delay included.
    pub worst_case: Option<Duration>,
}

impl Times {
    pub(super) fn of(to: &Forward, asked: Asked, held: Option<Duration>) -> Self {
        let now = Instant::now();
        // Without the caller's patience, which counts from the begin of the call and not from here.
        let route = Asked {
            patience: None,
            ..asked
        };
        let timeout = route.deadline(now, to.timeout).remaining_at(now);
        let caller = [asked.patience, Context::current().remaining_at(now)];
        let caller = caller.into_iter().flatten().min();
        let retry = to.retry.as_ref();
        let per_try = asked.per_try(retry.and_then(|retry| retry.per_try_timeout));
        let attempts = retry.map_or(1, |retry| retry.retries.saturating_add(1));
        let pauses = |number| {
            retry.map_or(Duration::ZERO, |retry| {
                longest_pause(&retry.backoff, number)
            })
        };
        // Pauses stop growing; a policy of four thousand million retries is summed up all the same.
        let paused = (0..attempts.saturating_sub(1).min(1_000))
            .map(pauses)
            .fold(Duration::ZERO, Duration::saturating_add);
        let tries = per_try.map(|one| one.saturating_mul(attempts).saturating_add(paused));
        let held = held.unwrap_or_default();
        let own = least(timeout, tries).map(|time| time.saturating_add(held));
        let left = least(timeout, caller.map(|time| time.saturating_sub(held)));
        Self {
            timeout,
            per_try,
            idle: to.idle_timeout,
            caller,
            attempts,
            attempts_if_slow: begun(attempts, per_try, left),
            worst_case: least(own, caller),
        }
    }
}

fn least(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    [one, other].into_iter().flatten().min()
}

/// How many tries of this length begin before the time is over.
fn begun(attempts: u32, per_try: Option<Duration>, left: Option<Duration>) -> u32 {
    let (Some(left), attempts) = (left, attempts) else {
        return attempts;
    };
    match per_try {
        // One try may take all of it.
        None => 1,
        Some(one) if one.is_zero() => attempts,
        Some(one) => {
            let begun = left.as_nanos().div_ceil(one.as_nanos()).max(1);
            u32::try_from(begun).unwrap_or(u32::MAX).min(attempts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_tries_fill_the_time_and_the_last_is_cut() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (attempts, per_try, left, expected) in [
            (4, seconds(2), seconds(5), 3),
            (4, seconds(2), seconds(4), 2),
            (4, seconds(2), None, 4),
            (4, None, seconds(5), 1),
            (4, None, None, 4),
            (4, seconds(9), seconds(5), 1),
            (4, seconds(0), seconds(5), 4),
            (1, seconds(1), seconds(5), 1),
        ] {
            let found = begun(attempts, per_try, left);
            assert_eq!(found, expected, "{attempts} {per_try:?} {left:?}");
        }
    }
}
