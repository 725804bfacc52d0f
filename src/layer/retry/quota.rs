//! What a cluster allows its callers to retry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Budget;
use super::recent::Recent;
use crate::model::limit::RetryLimit;

/// How many retries a cluster allows, by one of the three rules of [`RetryLimit`].
///
/// ```
/// use meshwork::layer::retry::Quota;
/// use meshwork::model::limit::RetryLimit;
///
/// let quota = Quota::new(RetryLimit::Concurrent(1));
/// let permit = quota.retry(0).expect("one is allowed");
/// assert!(quota.retry(0).is_none());
/// drop(permit);
/// assert!(quota.retry(0).is_some());
/// ```
#[derive(Debug)]
pub struct Quota {
    limit: RetryLimit,
    state: Arc<State>,
    /// The tries that began a short time ago, if the rule asks for them.
    recent: Option<Arc<Recent>>,
}

#[derive(Debug)]
struct State {
    /// Fed whatever the rule is, so that an edit that turns to it finds it filled.
    budget: Budget,
    in_flight: AtomicU32,
}

/// Counts a retry as in flight until it is dropped; from [`Quota::retry`].
#[derive(Debug)]
#[must_use = "the retry counts as in flight only while the permit lives"]
pub struct RetryPermit<'a> {
    in_flight: &'a AtomicU32,
}

impl Quota {
    /// A quota with a fresh [`Budget`].
    #[must_use]
    pub fn new(limit: RetryLimit) -> Self {
        Self::with_budget(limit, Budget::new(super::Allowance::default()))
    }

    /// A quota with this budget, which counts if `limit` is [`RetryLimit::Budget`].
    #[must_use]
    pub fn with_budget(limit: RetryLimit, budget: Budget) -> Self {
        Self {
            limit,
            state: Arc::new(State {
                budget,
                in_flight: AtomicU32::new(0),
            }),
            recent: interval(limit).map(|interval| Arc::new(Recent::new(interval))),
        }
    }

    /// The same retries in flight and the same budget under another rule: what an edit of the
    /// configuration needs. Tries that began before count on where the time in which they do is the
    /// same.
    #[must_use]
    pub fn with_limit(&self, limit: RetryLimit) -> Self {
        let kept = self.recent.as_ref();
        let recent = interval(limit).map(|interval| {
            let kept = kept.filter(|recent| recent.interval() == interval);
            kept.map_or_else(|| Arc::new(Recent::new(interval)), Arc::clone)
        });
        Self {
            limit,
            state: self.state.clone(),
            recent,
        }
    }

    /// Counts a first try; on the path of each request.
    pub fn first_try(&self) {
        self.state.budget.deposit();
        self.begun();
    }

    fn begun(&self) {
        if let Some(recent) = &self.recent {
            recent.begin(Instant::now());
        }
    }

    /// Asks to retry, while `active_requests` requests are in flight or wait for a connection;
    /// `None` if the retry must not be made. One that is allowed counts as a request that begins.
    pub fn retry(&self, active_requests: u32) -> Option<RetryPermit<'_>> {
        let in_flight = &self.state.in_flight;
        let below = |limit: u32| {
            in_flight
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                    (count < limit).then(|| count + 1)
                })
                .is_ok()
        };
        let granted = match self.limit {
            RetryLimit::Budget => self.state.budget.withdraw() && below(u32::MAX),
            RetryLimit::Concurrent(limit) => below(limit),
            RetryLimit::Share {
                percent, minimum, ..
            } => {
                let recent = self.recent.as_ref();
                let counted = recent.map(|recent| recent.count(Instant::now()));
                let counted = counted.unwrap_or(active_requests);
                let share = u64::from(counted) * u64::from(percent.value()) / 100;
                // A share of a u32 is one.
                below((share as u32).max(minimum))
            }
        };
        granted.then(|| {
            self.begun();
            RetryPermit { in_flight }
        })
    }

    /// How many retries are in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.state.in_flight.load(Ordering::Relaxed)
    }

    /// How many retries the budget would allow at this moment, whether it is the rule or not.
    #[must_use]
    pub fn budget_remaining(&self) -> u32 {
        self.state.budget.remaining()
    }
}

/// The time in which requests count, if that is a rule.
fn interval(limit: RetryLimit) -> Option<Duration> {
    match limit {
        RetryLimit::Share { interval, .. } => Some(interval).filter(|interval| !interval.is_zero()),
        RetryLimit::Budget | RetryLimit::Concurrent(_) => None,
    }
}

impl Drop for RetryPermit<'_> {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Percent;

    /// More than any of these quotas allows, so that one without end fails its test.
    const MANY: usize = 1_000;

    fn granted(quota: &Quota, active: u32) -> Vec<RetryPermit<'_>> {
        let all = std::iter::from_fn(|| quota.retry(active));
        all.take(MANY).collect()
    }

    #[test]
    fn each_rule_allows_what_it_says_and_a_permit_gives_back() {
        let share = RetryLimit::Share {
            percent: Percent::new(20).unwrap(),
            minimum: 3,
            interval: Duration::ZERO,
        };
        for (limit, active, allowed) in [
            (RetryLimit::Concurrent(0), 1_000, 0),
            (RetryLimit::Concurrent(3), 1_000, 3),
            (share, 0, 3),
            (share, 19, 3),
            (share, 100, 20),
        ] {
            let quota = Quota::new(limit);
            let permits = granted(&quota, active);
            assert_eq!(permits.len(), allowed, "{limit:?} {active}");
            assert_eq!(quota.in_flight() as usize, allowed);
            drop(permits);
            assert_eq!(quota.in_flight(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_is_spent_not_returned() {
        let quota = Quota::new(RetryLimit::Budget);
        for _ in 0..10 {
            quota.first_try();
        }
        // Two by the share, thirty by the floor.
        assert_eq!(quota.budget_remaining(), 32);
        let spent = granted(&quota, 0).len();
        assert_eq!(
            (spent, quota.in_flight(), quota.budget_remaining()),
            (32, 0, 0)
        );
    }

    #[test]
    fn another_rule_keeps_the_count() {
        let quota = Quota::new(RetryLimit::Concurrent(2));
        let permit = quota.retry(0);
        let edited = quota.with_limit(RetryLimit::Concurrent(1));
        assert!(permit.is_some() && edited.retry(0).is_none());
        drop(permit);
        assert!(edited.retry(0).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn requests_count_for_the_interval_whether_they_have_ended_or_not() {
        let over = |seconds| RetryLimit::Share {
            percent: Percent::new(20).unwrap(),
            minimum: 1,
            interval: Duration::from_secs(seconds),
        };
        let quota = Quota::new(over(10));
        let count = |quota: &Quota| granted(quota, u32::MAX).len();
        assert_eq!(count(&quota), 1, "what is in flight does not count");
        (0..100).for_each(|_| quota.first_try());
        // A hundred, the retry above, and each that is allowed meanwhile: 20 % of 126.
        let permits = granted(&quota, 0);
        assert_eq!(permits.len(), 25);
        drop(permits);
        // An edit of something else forgets nothing, one of the interval begins anew.
        assert!(count(&quota.with_limit(over(10))) >= 25);
        assert_eq!(count(&quota.with_limit(over(11))), 1);
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(count(&quota), 1);
    }
}
