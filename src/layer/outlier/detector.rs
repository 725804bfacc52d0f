//! The rules, for one cluster.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::host::{Host, Standing};
use super::rates::{Sample, by_failure_percentage, by_success_rate};
use super::rules::{count, effective, ejection_time, spend};
use super::{Cause, Event, Reason, Swept};
use crate::layer::classify::Outcome;
use crate::model::Percent;
use crate::model::outlier::Outlier;
use crate::random::Random;

/// Decides who is out; one for each cluster.
///
/// A cluster without a policy has one too: it counts hosts, so that a policy may come with an
/// edit. The module documentation has an example.
pub struct Detector {
    policy: ArcSwapOption<Outlier>,
    /// Hosts and how many of them are out. A lock and not atomics, because the cap compares both
    /// and two requests that fail at once must not both take the last place. Ejection attempts,
    /// changes of membership and sweeps take it; picks and counts do not.
    places: Mutex<Places>,
    /// How many are out, to be read without the lock.
    ejected: AtomicU32,
    ejections: AtomicU64,
    spared: AtomicU64,
}

/// How many hosts there are, and how many are out.
#[derive(Debug, Default)]
struct Places {
    hosts: u32,
    ejected: u32,
}

impl Detector {
    /// A detector without hosts; `None`, or a policy without any rule, ejects nobody.
    #[must_use]
    pub fn new(policy: Option<Arc<Outlier>>) -> Self {
        Self {
            policy: ArcSwapOption::new(effective(policy)),
            places: Mutex::default(),
            ejected: AtomicU32::new(0),
            ejections: AtomicU64::new(0),
            spared: AtomicU64::new(0),
        }
    }

    /// Changes the policy. Counters, ejections and multipliers stay; durations are those of the
    /// policy in force at the sweep. If the new policy ejects nobody, all `hosts` are let in at
    /// once, as in gRPC A50.
    pub fn set<'a>(
        &self,
        policy: Option<Arc<Outlier>>,
        hosts: impl IntoIterator<Item = &'a Host>,
    ) -> Vec<Swept> {
        let policy = effective(policy);
        let none = policy.is_none();
        self.policy.store(policy);
        if none {
            self.readmit_all(hosts)
        } else {
            Vec::new()
        }
    }

    /// How long between sweeps; `None` if there is no policy and nothing to sweep.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.policy.load().as_ref().map(|policy| policy.interval)
    }

    /// Counts `host` among the cluster's hosts. A second time changes nothing.
    ///
    /// A host that was out when it left comes back as it left.
    pub fn join(&self, host: &Host) {
        let mut places = self.places();
        let mut standing = host.standing();
        if standing.member {
            return;
        }
        standing.member = true;
        places.hosts += 1;
        places.ejected += u32::from(standing.ejected_at.is_some());
        self.publish(&places);
    }

    /// Counts `host` no more; if it is out, its place is free. A second time changes nothing.
    pub fn leave(&self, host: &Host) {
        let mut places = self.places();
        let mut standing = host.standing();
        if !standing.member {
            return;
        }
        standing.member = false;
        // Both were counted when it joined or was ejected, under the same lock.
        places.hosts -= 1;
        places.ejected -= u32::from(standing.ejected_at.is_some());
        self.publish(&places);
    }

    /// Counts the outcome of a request (of each try: retries count too) and ejects the host if it
    /// completes a run of errors.
    ///
    /// The common case, a success without a run before it, reads three atomics and writes none,
    /// or one if the policy has rates. [`Outcome::of`] says which results count.
    pub fn record(&self, host: &Host, outcome: Outcome, now: Instant) -> Option<Event> {
        self.record_by(host, outcome, || now)
    }

    /// As [`record`](Self::record), with a clock that is only looked at when there is an ejection.
    pub(crate) fn record_by(
        &self,
        host: &Host,
        outcome: Outcome,
        clock: impl FnOnce() -> Instant,
    ) -> Option<Event> {
        let policy = self.policy.load();
        let policy = policy.as_deref()?;
        let cause = count(policy, host, outcome);
        // Answers of requests that were under way when it was ejected find it out already.
        let cause = cause.filter(|_| host.admitted())?;
        let event = self.eject(host, policy, cause, clock());
        // Spent: kept in by the cap, the host has to fail n times more.
        spend(host, cause);
        event
    }

    /// Lets in those whose time is over, lowers the multiplier of those that stayed well, and
    /// ejects by the rates of the interval that ends now. To be called once each
    /// [`interval`](Detector::interval) with all hosts of the cluster.
    ///
    /// O(hosts), and allocates; it belongs into a task, not into a request.
    pub fn sweep<'a>(
        &self,
        hosts: impl IntoIterator<Item = &'a Host>,
        now: Instant,
        random: &Random,
    ) -> Vec<Swept> {
        let policy = self.policy.load();
        let Some(policy) = policy.as_deref() else {
            return self.readmit_all(hosts);
        };
        let hosts: Vec<_> = hosts.into_iter().collect();
        let mut swept = Vec::new();
        let mut samples = Vec::new();
        for (index, host) in hosts.iter().enumerate() {
            if let Some(event) = self.tick(host, policy, now) {
                swept.push(Swept { index, event });
            }
            let (successes, failures) = host.volume.take();
            if host.admitted() {
                samples.push(Sample {
                    index,
                    successes,
                    failures,
                });
            }
        }
        let mut judge = |outside: Vec<usize>, cause, enforcing: Percent| {
            for index in outside {
                // Out already by the rule before.
                if !hosts[index].admitted() {
                    continue;
                }
                let event = if random.below(100) < enforcing.value() {
                    self.eject(hosts[index], policy, cause, now)
                } else {
                    self.spare(cause, Reason::Enforcement)
                };
                swept.extend(event.map(|event| Swept { index, event }));
            }
        };
        if let Some(rule) = &policy.success_rate {
            let outside = by_success_rate(&samples, rule);
            judge(outside, Cause::SuccessRate, rule.enforcing);
        }
        if let Some(rule) = &policy.failure_percentage {
            let outside = by_failure_percentage(&samples, rule);
            judge(outside, Cause::FailurePercentage, rule.enforcing);
        }
        swept
    }

    /// How many hosts are out now.
    #[must_use]
    pub fn ejected(&self) -> u32 {
        self.ejected.load(Ordering::Relaxed)
    }

    /// How many ejections there have been.
    #[must_use]
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// How many detections did not eject; see [`Reason`].
    #[must_use]
    pub fn spared(&self) -> u64 {
        self.spared.load(Ordering::Relaxed)
    }

    /// The interval's look at one host: time over, or one interval in good health.
    fn tick(&self, host: &Host, policy: &Outlier, now: Instant) -> Option<Event> {
        let mut places = self.places();
        let mut standing = host.standing();
        let Some(since) = standing.ejected_at else {
            standing.multiplier = standing.multiplier.saturating_sub(1);
            return None;
        };
        if now.saturating_duration_since(since) < ejection_time(policy, standing.multiplier) {
            return None;
        }
        self.readmit(&mut places, host, &mut standing)
    }

    fn eject(&self, host: &Host, policy: &Outlier, cause: Cause, now: Instant) -> Option<Event> {
        let mut places = self.places();
        let mut standing = host.standing();
        // Another request was faster, or the host has left the cluster.
        if standing.ejected_at.is_some() || !standing.member {
            return None;
        }
        if !places.has_room(policy) {
            return self.spare(cause, Reason::Overflow);
        }
        places.ejected += 1;
        self.publish(&places);
        // Grows no further than the longest time needs (Envoy), lest it take hours to decay.
        let so_far = policy
            .base_ejection_time
            .saturating_mul(standing.multiplier);
        if so_far
            < policy
                .max_ejection_time
                .saturating_add(policy.base_ejection_time)
        {
            standing.multiplier = standing.multiplier.saturating_add(1);
        }
        host.eject(&mut standing, now);
        self.ejections.fetch_add(1, Ordering::Relaxed);
        let time = ejection_time(policy, standing.multiplier);
        Some(Event::Ejected { cause, time })
    }

    fn spare(&self, cause: Cause, reason: Reason) -> Option<Event> {
        self.spared.fetch_add(1, Ordering::Relaxed);
        Some(Event::Spared { cause, reason })
    }

    fn readmit_all<'a>(&self, hosts: impl IntoIterator<Item = &'a Host>) -> Vec<Swept> {
        let mut places = self.places();
        let readmitted = hosts.into_iter().enumerate().filter_map(|(index, host)| {
            let mut standing = host.standing();
            // Without a policy nothing is held against anybody.
            standing.multiplier = 0;
            let event = self.readmit(&mut places, host, &mut standing)?;
            Some(Swept { index, event })
        });
        readmitted.collect()
    }

    fn readmit(&self, places: &mut Places, host: &Host, standing: &mut Standing) -> Option<Event> {
        standing.ejected_at?;
        host.readmit(standing);
        places.ejected -= u32::from(standing.member);
        self.publish(places);
        Some(Event::Readmitted)
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, places: &Places) {
        self.ejected.store(places.ejected, Ordering::Relaxed);
    }
}

impl Places {
    /// Whether one more may be out.
    fn has_room(&self, policy: &Outlier) -> bool {
        let floor = policy.always_eject_one && self.ejected == 0 && self.hosts >= 2;
        let after = u64::from(self.ejected) + 1;
        floor || after * 100 <= u64::from(policy.max_ejection.value()) * u64::from(self.hosts)
    }
}

impl fmt::Debug for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detector")
            .field("policy", &self.policy.load())
            .field("places", &*self.places())
            .finish_non_exhaustive()
    }
}
