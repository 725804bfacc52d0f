//! Limits of requests in a time, at the door.
//!
//! They are asked last, when it is known that the request may come in: who is denied takes nobody's token.
//! The buckets are those of [`layer::rate_limit`](crate::layer::rate_limit), with its bound of memory: at
//! most 10,000 callers have a bucket of their own.

use std::borrow::Cow;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use http::Request;

use super::answer::{self, Answer};
use super::judge::{Asked, caller_of};
use super::prepared::Kept;
use crate::layer::rate_limit::{Head, Rate, RateLimit};
use crate::model::rate::{Bucket, LocalLimit};
use crate::outbound::Dialect;
use crate::random::Random;

/// How many callers have a bucket of their own.
const CALLERS: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

/// All limits, with their buckets.
pub(super) struct Limits {
    kept: Kept<Vec<Arc<Running>>>,
}

/// One limit with its buckets.
struct Running {
    model: LocalLimit,
    total: Option<RateLimit>,
    per_caller: Option<RateLimit>,
    /// As in the model.
    callers: Vec<RateLimit>,
    /// Which of them is whose. Its keys are the configuration's, so that nobody can choose keys that
    /// collide.
    by_identity: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
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
            let before: Vec<&Arc<Running>> = others.flat_map(|entry| &entry.made).collect();
            let running = policies.limits.iter().map(|limit| {
                let same = before.iter().find(|running| running.model == *limit);
                same.map_or_else(|| Arc::new(Running::new(limit)), |same| (*same).clone())
            });
            running.collect()
        });
        entry.made.iter().find_map(|running| {
            let model = &running.model;
            let drawn =
                |share: crate::model::Fraction| random.below(1_000_000) < share.parts_per_million();
            // Who does not know the port has not said that it is another one.
            let here = model
                .port
                .is_none_or(|port| asked.port.is_none_or(|own| own == port));
            if !here || !drawn(model.enabled) || running.has_token(request) {
                return None;
            }
            let enforced = drawn(model.enforced);
            tracing::debug!(limit = &*model.scope, enforced, "no token for a request");
            enforced.then(|| answer::limited(dialect, &model.refusal))
        })
    }
}

impl Running {
    fn new(model: &LocalLimit) -> Self {
        let total = |bucket: &Bucket| RateLimit::new().total(rate(bucket));
        let keyed = |bucket: &Bucket| RateLimit::new().per_key(identity, rate(bucket), CALLERS);
        let callers = model.callers.iter();
        let mut by_identity = HashMap::default();
        for (index, one) in callers.clone().enumerate() {
            for identity in &one.identities {
                // Of two for the same caller the first counts.
                by_identity.entry(identity.clone()).or_insert(index);
            }
        }
        Self {
            total: model.total.as_ref().map(total),
            per_caller: model.per_caller.as_ref().map(keyed),
            callers: callers.map(|one| total(&one.bucket)).collect(),
            by_identity,
            model: model.clone(),
        }
    }

    /// Takes the tokens that a request needs, the caller's first: one that is over its own limit must not
    /// use up what all have.
    fn has_token<B>(&self, request: &Request<B>) -> bool {
        let head = Head::of(request);
        let caller = caller_of(request.extensions()).principal;
        let named = caller.and_then(|caller| self.by_identity.get(caller));
        let own = match named {
            Some(index) => self.callers.get(*index),
            None => self.per_caller.as_ref(),
        };
        let passes = |limit: &RateLimit| limit.check(head).is_ok();
        own.is_none_or(passes) && self.total.as_ref().is_none_or(passes)
    }
}

fn identity(head: Head<'_>) -> Option<Cow<'_, [u8]>> {
    let caller = caller_of(head.extensions).principal;
    Some(Cow::Borrowed(caller.unwrap_or_default().as_bytes()))
}

fn rate(bucket: &Bucket) -> Rate {
    let (most, fill) = (bucket.max_tokens(), bucket.tokens_per_fill());
    Rate::new(most, fill, bucket.fill_interval()).expect("a bucket has the bounds of a rate")
}
