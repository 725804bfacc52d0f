//! The rules again, slowly: whole histories instead of counters, and every answer recomputed from
//! them. Traces of random inputs must have the same events in both.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const HOSTS: usize = 6;

#[derive(Clone, Debug)]
enum Step {
    Join(usize),
    Leave(usize),
    Policy(usize),
    Record(usize, Outcome, usize),
    Sweep(Duration),
}

/// One host, as told by everything that happened to it.
#[derive(Clone, Debug, Default)]
struct Story {
    member: bool,
    /// All outcomes since it was last readmitted.
    outcomes: Vec<Outcome>,
    /// Up to where each rule's runs are spent.
    spent: [usize; 3],
    /// Answers of this interval while the policy had rates: whether each was a failure.
    interval: Vec<bool>,
    ejected_at: Option<Duration>,
    multiplier: u32,
}

struct Reference {
    policy: Option<Outlier>,
    now: Duration,
    stories: Vec<Story>,
}

fn is_error(policy: &Outlier, outcome: Outcome) -> bool {
    match outcome {
        Outcome::Success => false,
        Outcome::Failure(status) if policy.error_statuses.is_empty() => status / 100 == 5,
        Outcome::Failure(status) => policy.error_statuses.contains(&status),
        Outcome::Local(_) => true,
    }
}

fn is_gateway(policy: &Outlier, outcome: Outcome) -> bool {
    is_error(policy, outcome) && matches!(outcome, Outcome::Local(_) | Outcome::Failure(502..=504))
}

fn is_local(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Local(_))
}

/// How many of the last outcomes are of a kind, past those that are none of its business.
fn run(
    outcomes: &[Outcome],
    counts: impl Fn(Outcome) -> bool,
    ignores: impl Fn(Outcome) -> bool,
) -> u32 {
    let relevant = outcomes.iter().rev().filter(|outcome| !ignores(**outcome));
    relevant.take_while(|outcome| counts(**outcome)).count() as u32
}

impl Reference {
    fn may_eject(&self, policy: &Outlier) -> bool {
        let members = self.stories.iter().filter(|story| story.member);
        let hosts = members.clone().count() as f64;
        let out = members.filter(|story| story.ejected_at.is_some()).count() as f64;
        let floor = policy.always_eject_one && out == 0.0 && hosts > 1.5;
        floor || 100.0 * (out + 1.0) / hosts <= f64::from(policy.max_ejection.value())
    }

    fn eject(&mut self, host: usize, policy: &Outlier, cause: Cause) -> Option<Event> {
        let story = &self.stories[host];
        if !story.member || story.ejected_at.is_some() {
            return None;
        }
        if !self.may_eject(policy) {
            let reason = Reason::Overflow;
            return Some(Event::Spared { cause, reason });
        }
        let now = self.now;
        let story = &mut self.stories[host];
        if policy.base_ejection_time * story.multiplier
            < policy.max_ejection_time + policy.base_ejection_time
        {
            story.multiplier += 1;
        }
        story.ejected_at = Some(now);
        let time = Self::time(policy, story);
        Some(Event::Ejected { cause, time })
    }

    fn time(policy: &Outlier, story: &Story) -> Duration {
        let longest = policy.max_ejection_time.max(policy.base_ejection_time);
        (policy.base_ejection_time * story.multiplier).min(longest)
    }

    fn record(&mut self, host: usize, outcome: Outcome) -> Option<Event> {
        let policy = self.policy.clone()?;
        let split = policy.local_origin.is_some();
        let story = &mut self.stories[host];
        story.outcomes.push(outcome);
        if !(split && is_local(outcome))
            && (policy.success_rate.is_some() || policy.failure_percentage.is_some())
        {
            story.interval.push(is_error(&policy, outcome));
        }
        let ignores = |outcome| split && is_local(outcome);
        let since = |rule: usize| &story.outcomes[story.spent[rule]..];
        let reached = |run: u32, limit: Option<NonZeroU32>| limit.is_some_and(|n| run >= n.get());
        let counted = |outcome| !ignores(outcome);
        let gateway = run(since(0), |outcome| is_gateway(&policy, outcome), ignores);
        let errors = run(since(1), |outcome| is_error(&policy, outcome), ignores);
        let local = run(since(2), is_local, |_| false);
        let (rule, cause) = if counted(outcome)
            && is_gateway(&policy, outcome)
            && reached(gateway, policy.consecutive_gateway)
        {
            (0, Cause::ConsecutiveGateway)
        } else if counted(outcome)
            && is_error(&policy, outcome)
            && reached(errors, policy.consecutive_5xx)
        {
            (1, Cause::Consecutive5xx)
        } else if split
            && is_local(outcome)
            && reached(local, policy.local_origin.unwrap().consecutive)
        {
            (2, Cause::ConsecutiveLocal)
        } else {
            return None;
        };
        if story.ejected_at.is_some() {
            return None;
        }
        story.spent[rule] = story.outcomes.len();
        self.eject(host, &policy, cause)
    }

    fn readmit(&mut self, host: usize) {
        let story = &mut self.stories[host];
        story.outcomes.clear();
        story.spent = [0; 3];
        story.ejected_at = None;
    }

    fn set(&mut self, policy: Outlier) {
        let without = policy.consecutive_5xx.is_none()
            && policy.consecutive_gateway.is_none()
            && policy.local_origin.is_none()
            && policy.success_rate.is_none()
            && policy.failure_percentage.is_none();
        self.policy = Some(policy).filter(|_| !without);
        if without {
            for host in 0..HOSTS {
                if self.stories[host].ejected_at.is_some() {
                    self.readmit(host);
                }
                self.stories[host].multiplier = 0;
            }
        }
    }

    fn sweep(&mut self, time: Duration) -> Vec<(usize, Event)> {
        self.now += time;
        let Some(policy) = self.policy.clone() else {
            return Vec::new();
        };
        let mut events = Vec::new();
        for host in 0..HOSTS {
            let story = &mut self.stories[host];
            match story.ejected_at {
                None => story.multiplier = story.multiplier.saturating_sub(1),
                Some(at) if self.now - at >= Self::time(&policy, story) => {
                    self.readmit(host);
                    events.push((host, Event::Readmitted));
                }
                Some(_) => {}
            }
        }
        let rated: Vec<(usize, f64, usize)> = (0..HOSTS)
            .filter_map(|host| {
                let story = &mut self.stories[host];
                let answers = std::mem::take(&mut story.interval);
                let failed = answers.iter().filter(|failed| **failed).count() as f64;
                (story.ejected_at.is_none() && !answers.is_empty()).then_some((
                    host,
                    100.0 * failed / answers.len() as f64,
                    answers.len(),
                ))
            })
            .collect();
        if let Some(rule) = &policy.failure_percentage {
            let volume = rule.request_volume as usize;
            let rated: Vec<_> = rated
                .iter()
                .filter(|(_, _, count)| *count >= volume)
                .collect();
            if rated.len() >= rule.minimum_hosts as usize {
                for (host, failed, _) in rated {
                    if *failed >= f64::from(rule.threshold.value()) {
                        let event = self.eject(*host, &policy, Cause::FailurePercentage);
                        events.extend(event.map(|event| (*host, event)));
                    }
                }
            }
        }
        events
    }
}

fn policies() -> Vec<Outlier> {
    let short = Outlier {
        consecutive_5xx: NonZeroU32::new(3),
        base_ejection_time: 2 * SECOND,
        max_ejection_time: 7 * SECOND,
        max_ejection: Percent::new(50).unwrap(),
        ..Default::default()
    };
    vec![
        short.clone(),
        Outlier {
            consecutive_gateway: NonZeroU32::new(2),
            max_ejection: Percent::TEN,
            ..short.clone()
        },
        Outlier {
            local_origin: Some(LocalOrigin {
                consecutive: NonZeroU32::new(2),
            }),
            always_eject_one: false,
            ..short.clone()
        },
        Outlier {
            error_statuses: vec![429, 503],
            consecutive_gateway: NonZeroU32::new(4),
            max_ejection: Percent::HUNDRED,
            ..short.clone()
        },
        Outlier {
            failure_percentage: Some(FailurePercentage {
                threshold: Percent::new(60).unwrap(),
                enforcing: Percent::HUNDRED,
                minimum_hosts: 2,
                request_volume: 3,
            }),
            consecutive_5xx: None,
            ..short.clone()
        },
        Outlier {
            consecutive_5xx: None,
            ..short
        },
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        2 => Just(Outcome::Success),
        1 => Just(Outcome::Failure(404)),
        1 => Just(Outcome::Failure(429)),
        4 => Just(BAD),
        4 => Just(GATEWAY),
        2 => Just(RESET),
        1 => Just(Outcome::Local(Local::Connect)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..HOSTS).prop_map(Step::Join),
        1 => (0..HOSTS).prop_map(Step::Leave),
        1 => (0..policies().len()).prop_map(Step::Policy),
        20 => (0..HOSTS, outcome(), 1_usize..4).prop_map(|(host, outcome, times)| {
            Step::Record(host, outcome, times)
        }),
        4 => (0_u64..4_000).prop_map(|time| Step::Sweep(Duration::from_millis(time))),
    ]
}

proptest! {
    #![proptest_config(crate::random::properties(512))]

    #[test]
    fn f9_every_trace_has_the_events_of_the_reference(
        first in 0..policies().len(),
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let policies = policies();
        let mut cluster = Cluster::new(policies[first].clone(), HOSTS);
        let story = Story { member: true, ..Default::default() };
        let mut reference = Reference {
            policy: None,
            now: Duration::ZERO,
            stories: vec![story; HOSTS],
        };
        reference.set(policies[first].clone());
        for step in steps {
            match step.clone() {
                Step::Join(host) => {
                    cluster.detector.join(&cluster.hosts[host]);
                    reference.stories[host].member = true;
                }
                Step::Leave(host) => {
                    cluster.detector.leave(&cluster.hosts[host]);
                    reference.stories[host].member = false;
                }
                Step::Policy(policy) => {
                    // Runs are told apart by the rules in force when they grew, so the reference,
                    // which reads them afterwards, takes a change with a clean slate only.
                    (0..HOSTS).for_each(|host| {
                        cluster.record(host, Outcome::Success);
                        reference.record(host, Outcome::Success);
                    });
                    cluster.detector.set(Some(policies[policy].clone().into()), &cluster.hosts);
                    reference.set(policies[policy].clone());
                }
                Step::Record(host, outcome, times) => for _ in 0..times {
                    let event = cluster.record(host, outcome);
                    prop_assert_eq!(event, reference.record(host, outcome), "{:?}", step);
                }
                Step::Sweep(time) => {
                    let swept = cluster.sweep_after(time);
                    let events: Vec<_> =
                        swept.iter().map(|swept| (swept.index, swept.event)).collect();
                    prop_assert_eq!(events, reference.sweep(time), "{:?}", step);
                }
            }
            let out = |story: &Story| story.ejected_at.is_some();
            let expected: BTreeSet<_> =
                (0..HOSTS).filter(|host| out(&reference.stories[*host])).collect();
            prop_assert_eq!(cluster.out().into_iter().collect::<BTreeSet<_>>(), expected);
            let members = reference.stories.iter().filter(|story| story.member && out(story));
            prop_assert_eq!(cluster.detector.ejected() as usize, members.count());
        }
    }
}
