//! A limit of the configuration, with its buckets: the one mechanism of both sides.
//!
//! The door of a server and the routes of a client have the same limits (Envoy's `local_ratelimit`). They
//! differ in who the callers are: a server is told by each connection, and a client is its own only one.

#[cfg(feature = "inbound")]
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
#[cfg(feature = "inbound")]
use std::num::NonZeroU32;

use super::{Exhausted, Head, Rate, RateLimit};
use crate::model::Fraction;
use crate::model::rate::{Bucket, LocalLimit};
use crate::random::Random;

/// How many callers have a bucket of their own.
#[cfg(feature = "inbound")]
const CALLERS: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

/// Whose request it is, by an identity that was proven; `None`: nobody's.
type Identity = for<'a> fn(Head<'a>) -> Option<&'a str>;

/// One limit with its buckets.
pub(crate) struct Local {
    model: LocalLimit,
    identity: Identity,
    total: Option<RateLimit>,
    per_caller: Option<RateLimit>,
    /// As in the model.
    callers: Vec<RateLimit>,
    /// Which of them is whose. Its keys are the configuration's, so that nobody can choose keys that
    /// collide.
    by_identity: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
}

impl Local {
    /// That of a server, whose callers are told apart by their identities: at most 10,000 of them have a
    /// bucket of their own.
    #[cfg(feature = "inbound")]
    pub(crate) fn of_server(model: &LocalLimit, identity: Identity) -> Self {
        let keyed = |bucket: &Bucket| {
            RateLimit::new().per_key(
                move |head| Some(Cow::Borrowed(identity(head).unwrap_or_default().as_bytes())),
                rate(bucket),
                CALLERS,
            )
        };
        let mut by_identity = HashMap::default();
        for (index, one) in model.callers.iter().enumerate() {
            for identity in &one.identities {
                // Of two for the same caller the first counts.
                by_identity.entry(identity.clone()).or_insert(index);
            }
        }
        Self {
            identity,
            total: model.total.as_ref().map(all),
            per_caller: model.per_caller.as_ref().map(keyed),
            callers: model.callers.iter().map(|one| all(&one.bucket)).collect(),
            by_identity,
            model: model.clone(),
        }
    }

    /// That of a client's route, whose only caller is the process itself.
    pub(crate) fn of_client(model: &LocalLimit) -> Self {
        Self {
            identity: |_| None,
            total: model.total.as_ref().map(all),
            per_caller: model.per_caller.as_ref().map(all),
            callers: Vec::new(),
            by_identity: HashMap::default(),
            model: model.clone(),
        }
    }

    pub(crate) fn model(&self) -> &LocalLimit {
        &self.model
    }

    /// Takes the tokens of a request, if the dice say that it is counted.
    ///
    /// No lock but that of the callers' buckets, no allocation.
    ///
    /// # Errors
    /// If there is no token and the dice say that this counts. What is not enforced is told in the log.
    pub(crate) fn check(&self, head: Head<'_>, random: &Random) -> Result<(), Exhausted> {
        let drawn = |share: Fraction| random.below(1_000_000) < share.parts_per_million();
        if !drawn(self.model.enabled) {
            return Ok(());
        }
        self.take(head).or_else(|exhausted| {
            let enforced = drawn(self.model.enforced);
            let limit = &*self.model.scope;
            tracing::debug!(limit, enforced, "no token for a request");
            if enforced { Err(exhausted) } else { Ok(()) }
        })
    }

    /// The caller's first: one that is over its own limit must not use up what all have.
    fn take(&self, head: Head<'_>) -> Result<(), Exhausted> {
        let named = (self.identity)(head).and_then(|caller| self.by_identity.get(caller));
        let own = match named {
            Some(index) => self.callers.get(*index),
            None => self.per_caller.as_ref(),
        };
        let mut both = own.into_iter().chain(&self.total);
        both.try_for_each(|limit| limit.check(head))
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.model.fmt(f)
    }
}

/// A bucket of all requests together.
fn all(bucket: &Bucket) -> RateLimit {
    RateLimit::new().total(rate(bucket))
}

fn rate(bucket: &Bucket) -> Rate {
    let (most, fill) = (bucket.max_tokens(), bucket.tokens_per_fill());
    Rate::new(most, fill, bucket.fill_interval()).expect("a bucket has the bounds of a rate")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Request;

    use super::*;
    use crate::model::Origin;
    use crate::model::rate::{CallersBucket, Refusal};

    fn limit(total: u32, per_caller: u32) -> LocalLimit {
        let bucket = |tokens| Bucket::new(tokens, 1, Duration::from_secs(3_600)).ok();
        LocalLimit {
            scope: "a".into(),
            port: None,
            total: bucket(total),
            per_caller: bucket(per_caller),
            callers: Vec::new(),
            enabled: Fraction::ONE,
            enforced: Fraction::ONE,
            refusal: Refusal::default(),
            origin: Origin::built_in(),
        }
    }

    /// How many of ten requests pass.
    fn passed(local: &Local, caller: &str) -> usize {
        let random = Random::seeded(1);
        let request = Request::get("/").header("host", caller).body(()).unwrap();
        let passes = |_: &usize| local.check(Head::of(&request), &random).is_ok();
        (0..10).filter(passes).count()
    }

    #[cfg(feature = "inbound")]
    fn host(head: Head<'_>) -> Option<&str> {
        head.headers.get("host")?.to_str().ok()
    }

    #[cfg(feature = "inbound")]
    #[tokio::test(start_paused = true)]
    async fn a_server_knows_its_callers_and_those_that_are_named() {
        let mut model = limit(9, 2);
        model.callers = vec![CallersBucket {
            identities: vec!["spiffe://a".into(), "spiffe://b".into()],
            bucket: Bucket::new(4, 1, Duration::from_secs(3_600)).unwrap(),
        }];
        let local = Local::of_server(&model, host);
        assert_eq!(passed(&local, "spiffe://c"), 2);
        assert_eq!(
            passed(&local, "spiffe://a"),
            4,
            "its own, and not the others'"
        );
        assert_eq!(passed(&local, "spiffe://b"), 0, "both together");
        assert_eq!(passed(&local, "spiffe://d"), 2);
        assert_eq!(passed(&local, "spiffe://e"), 1, "all together");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_one_caller() {
        let local = Local::of_client(&limit(5, 3));
        assert_eq!(passed(&local, "a") + passed(&local, "b"), 3);
        let local = Local::of_client(&limit(3, 5));
        assert_eq!(passed(&local, "a") + passed(&local, "b"), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_enforced_or_not_counted_refuses_nothing() {
        let mut model = limit(1, 1);
        model.enforced = Fraction::from_parts_per_million(0).unwrap();
        assert_eq!(passed(&Local::of_client(&model), "a"), 10);
        let mut model = limit(1, 1);
        model.enabled = Fraction::from_parts_per_million(0).unwrap();
        let local = Local::of_client(&model);
        assert_eq!(passed(&local, "a"), 10);
        assert_eq!(
            local.take(Head::of(&Request::new(()))),
            Ok(()),
            "no token was taken"
        );
    }
}
