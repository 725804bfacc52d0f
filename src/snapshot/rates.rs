//! Limits of requests in a time, of routes (Envoy's `local_ratelimit` in a client's listener).
//!
//! A bucket belongs to the limit and not to the configuration that it was read from: an edit of something
//! else must give nobody a new burst. So buckets are found again by the limit that they are of, for as
//! long as a route in force has them, and two routes that one filter stands over share its bucket, as in
//! Envoy.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use http::Request;

#[cfg(feature = "rate-limit")]
use crate::error::Refusal;
use crate::error::{Error, Kind};
#[cfg(feature = "rate-limit")]
use crate::layer::rate_limit::{Head, Local};
use crate::model::rate::LocalLimit;
use crate::random::Random;

/// The limits that run, by their scope. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Rates {
    // Locked while a configuration is linked, never by a request.
    inner: Arc<Mutex<Scopes>>,
}

/// Limits of one scope differ where the configuration has just changed.
type Scopes = HashMap<Arc<str>, Vec<Weak<Limit>>>;

/// One limit with its buckets.
pub(crate) struct Limit {
    #[cfg(not(feature = "rate-limit"))]
    model: LocalLimit,
    #[cfg(feature = "rate-limit")]
    buckets: Local,
    #[cfg(feature = "rate-limit")]
    refusal: Arc<Refusal>,
}

impl Rates {
    /// The running limits of a route.
    pub(super) fn run(&self, models: &[LocalLimit]) -> Vec<Arc<Limit>> {
        if models.is_empty() {
            return Vec::new();
        }
        let mut scopes = self.scopes();
        let mut one = |model: &LocalLimit| {
            let known = scopes.entry(model.scope.clone()).or_default();
            let same = known.iter().filter_map(Weak::upgrade);
            let same = same.into_iter().find(|limit| limit.model() == model);
            same.unwrap_or_else(|| {
                let limit = Arc::new(Limit::new(model));
                known.push(Arc::downgrade(&limit));
                limit
            })
        };
        models.iter().map(&mut one).collect()
    }

    /// Forgets limits that no route has any more: O(limits).
    pub(super) fn prune(&self) {
        self.scopes().retain(|_, known| {
            known.retain(|limit| limit.strong_count() > 0);
            !known.is_empty()
        });
    }

    fn scopes(&self) -> MutexGuard<'_, Scopes> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scopes = self.scopes().len();
        f.debug_struct("Rates").field("scopes", &scopes).finish()
    }
}

#[cfg(feature = "rate-limit")]
impl Limit {
    fn new(model: &LocalLimit) -> Self {
        Self {
            buckets: Local::of_client(model),
            refusal: Arc::new(model.refusal.clone()),
        }
    }

    fn model(&self) -> &LocalLimit {
        self.buckets.model()
    }

    /// Takes a token for a request.
    ///
    /// No lock, no allocation unless it is refused.
    ///
    /// # Errors
    /// If there is none and the dice say that this counts: it
    /// [is rate limited](Error::is_rate_limited).
    pub(crate) fn check<B>(&self, request: &Request<B>, random: &Random) -> Result<(), Error> {
        let taken = self.buckets.check(Head::of(request), random);
        taken.map_err(|exhausted| {
            Error::new(Kind::RateLimited {
                wait: exhausted.wait(),
                refusal: Some(self.refusal.clone()),
            })
        })
    }
}

/// What nobody can count is not let through.
#[cfg(not(feature = "rate-limit"))]
impl Limit {
    fn new(model: &LocalLimit) -> Self {
        Self {
            model: model.clone(),
        }
    }

    fn model(&self) -> &LocalLimit {
        &self.model
    }

    /// # Errors
    /// If the dice say that the request is counted and that this counts.
    pub(crate) fn check<B>(&self, _request: &Request<B>, random: &Random) -> Result<(), Error> {
        let shares = [self.model.enabled, self.model.enforced];
        let drawn =
            |share: &crate::model::Fraction| random.below(1_000_000) < share.parts_per_million();
        match shares.iter().all(drawn) {
            false => Ok(()),
            true => Err(Error::new(Kind::Config {
                text: "limits of requests in a time need the feature `rate-limit`".into(),
            })),
        }
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.model().fmt(f)
    }
}

#[cfg(all(test, feature = "rate-limit"))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::rate::Bucket;
    use crate::model::{Fraction, Origin};

    fn limit(scope: &str, tokens: u32) -> LocalLimit {
        LocalLimit {
            scope: scope.into(),
            port: None,
            total: Some(Bucket::new(tokens, 1, Duration::from_secs(3_600)).unwrap()),
            per_caller: None,
            callers: Vec::new(),
            enabled: Fraction::ONE,
            enforced: Fraction::ONE,
            refusal: Refusal::default(),
            origin: Origin::built_in(),
        }
    }

    fn passes(limits: &[Arc<Limit>]) -> bool {
        let random = Random::seeded(1);
        let request = Request::new(());
        limits
            .iter()
            .all(|one| one.check(&request, &random).is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn an_equal_limit_is_the_same_bucket_and_another_is_a_new_one() {
        let rates = Rates::default();
        let first = rates.run(&[limit("a", 1)]);
        assert!(passes(&first) && !passes(&first));
        let again = rates.run(&[limit("a", 1)]);
        assert!(!passes(&again), "an edit of something else is no new burst");
        let other = rates.run(&[limit("b", 1), limit("a", 2)]);
        assert!(passes(&other));
        drop((first, again, other));
        rates.prune();
        assert!(rates.scopes().is_empty());
        assert!(passes(&rates.run(&[limit("a", 1)])));
    }
}
