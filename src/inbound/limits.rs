//! Limits of requests in a time, at the door.
//!
//! They are asked last, when it is known that the request may come in: who is denied takes nobody's token.
//! The buckets are those of [`layer::rate_limit`](crate::layer::rate_limit), with its bound of memory: at
//! most 10,000 callers have a bucket of their own.

use std::sync::Arc;

use http::Request;

use super::answer::{self, Answer};
use super::judge::{Asked, caller_of};
use super::prepared::Kept;
use crate::layer::rate_limit::{Head, Local};
use crate::outbound::Dialect;
use crate::random::Random;

/// All limits, with their buckets.
pub(super) struct Limits {
    kept: Kept<Vec<Arc<Local>>>,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self { kept: Kept::new() }
    }

    /// The answer to a request that has no token, if it is refused for it.
    pub(super) fn check<B>(
        &self,
        asked: &Asked,
        request: &Request<B>,
        dialect: Dialect,
        random: &Random,
    ) -> Option<Answer> {
        let policies = &asked.policies;
        let entry = self.kept.of(policies, |others| {
            let before: Vec<&Arc<Local>> = others.flat_map(|entry| &entry.made).collect();
            let running = policies.limits.iter().map(|limit| {
                let same = before.iter().find(|running| running.model() == limit);
                let new = || Arc::new(Local::of_server(limit, identity));
                same.map_or_else(new, |same| (*same).clone())
            });
            running.collect()
        });
        entry.made.iter().find_map(|running| {
            let model = running.model();
            // Who does not know the port has not said that it is another one.
            let here = model
                .port
                .is_none_or(|port| asked.port.is_none_or(|own| own == port));
            let refused = here && running.check(Head::of(request), random).is_err();
            refused.then(|| answer::limited(dialect, &model.refusal))
        })
    }
}

fn identity(head: Head<'_>) -> Option<&str> {
    caller_of(head.extensions).principal
}
