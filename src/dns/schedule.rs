//! When which name is asked for: a machine of `(now, input) -> outputs`, without IO.
//!
//! A name is in the table while a cluster watches it or while a connection has asked for it in the
//! last minutes. It is either being asked for or due at some instant; the queue of those instants
//! is ordered, so that a step costs O(log names).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, DEFAULT_REFRESH, MAX_ADDRESSES, MAX_TTL, MIN_TTL, Question, Target};
use crate::random::Random;

/// How long a name that a connection asked for is kept fresh after that.
const KEPT: Duration = Duration::from_secs(300);
/// How many names that only connections ask for are kept; the one asked for longest ago goes.
const MAX_ON_DEMAND: usize = 1_024;
/// How many questions are open at once.
const MAX_OPEN: usize = 64;
/// The pause after a first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause for a name that never had an answer: nobody can be served until it has one.
const LONGEST_PAUSE_WITHOUT_ANSWER: Duration = Duration::from_secs(5);

/// All names and when they are asked for.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    names: HashMap<Question, Entry>,
    /// Names that wait for their time.
    queue: BTreeSet<(Instant, Question)>,
    open: usize,
}

#[derive(Debug)]
struct Entry {
    /// The refresh rate of the clusters that watch it.
    watched: Option<Duration>,
    /// When a connection asked for it last.
    wanted: Option<Instant>,
    /// When it is asked for next; `None`: a question is open.
    due: Option<Instant>,
    answer: Option<Arc<[Target]>>,
    failures: u32,
    failure: Option<Arc<str>>,
}

/// What is known of a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Known {
    /// These addresses, also if a later question failed.
    Answer(Arc<[Target]>),
    /// Nothing but that the last question failed.
    Failure(Arc<str>),
    /// Nothing yet.
    Nothing,
}

impl Schedule {
    /// Says which names clusters watch, with their refresh rates, in place of those of before.
    pub(super) fn watch(&mut self, names: &BTreeMap<Question, Duration>, now: Instant) {
        for (name, entry) in &mut self.names {
            entry.watched = names.get(name).copied();
        }
        for (name, refresh) in names {
            if !self.names.contains_key(name) {
                self.add(name, Some(*refresh), None, now);
            }
        }
        self.forget(now);
    }

    /// Asks for a name on behalf of a connection.
    pub(super) fn want(&mut self, name: &Question, now: Instant) -> Known {
        match self.names.get_mut(name) {
            Some(entry) => {
                entry.wanted = Some(now);
                entry.known()
            }
            None => {
                self.make_room();
                self.add(name, None, Some(now), now);
                Known::Nothing
            }
        }
    }

    /// The addresses of a name, if there ever was an answer.
    pub(super) fn answer(&self, name: &Question) -> Option<Arc<[Target]>> {
        self.names.get(name)?.answer.clone()
    }

    /// The questions to ask as of now; each is open until [`answered`](Self::answered).
    pub(super) fn due(&mut self, now: Instant) -> Vec<Question> {
        let mut due = Vec::new();
        while self.open < MAX_OPEN {
            let Some((at, name)) = self.queue.first() else {
                break;
            };
            if *at > now {
                break;
            }
            let (at, name) = (*at, name.clone());
            self.queue.remove(&(at, name.clone()));
            let Some(entry) = self.names.get_mut(&name) else {
                continue;
            };
            if entry.used(now) {
                entry.due = None;
                self.open += 1;
                due.push(name);
            } else {
                self.names.remove(&name);
            }
        }
        due
    }

    /// When [`due`](Self::due) has something to say next, if no answer comes before.
    pub(super) fn next(&self) -> Option<Instant> {
        let (at, _) = self.queue.first()?;
        (self.open < MAX_OPEN).then_some(*at)
    }

    /// Takes the end of a question. Whether the members of a cluster have changed by that.
    pub(super) fn answered(
        &mut self,
        name: &Question,
        result: Result<Answer, String>,
        now: Instant,
        random: &Random,
    ) -> bool {
        self.open = self.open.saturating_sub(1);
        let Some(entry) = self.names.get_mut(name) else {
            return false;
        };
        let (pause, changed) = match result {
            Ok(answer) if !answer.targets.is_empty() => entry.succeed(answer),
            Ok(_) => (entry.fail(format!("{name} has no address")), false),
            Err(text) => (entry.fail(text), false),
        };
        // Up to a tenth later, never earlier: an answer is good for its TTL.
        let at = now + pause + pause.mul_f64(random.unit() / 10.0);
        entry.due = Some(at);
        self.queue.insert((at, name.clone()));
        changed && entry.watched.is_some()
    }

    fn add(
        &mut self,
        name: &Question,
        watched: Option<Duration>,
        wanted: Option<Instant>,
        now: Instant,
    ) {
        let entry = Entry {
            watched,
            wanted,
            due: Some(now),
            answer: None,
            failures: 0,
            failure: None,
        };
        self.names.insert(name.clone(), entry);
        self.queue.insert((now, name.clone()));
    }

    /// Drops the names that nobody uses; those with an open question go when it has ended.
    fn forget(&mut self, now: Instant) {
        let queue = &mut self.queue;
        self.names.retain(|name, entry| {
            let Some(due) = entry.due.filter(|_| !entry.used(now)) else {
                return true;
            };
            queue.remove(&(due, name.clone()));
            false
        });
    }

    fn make_room(&mut self) {
        let on_demand = self
            .names
            .iter()
            .filter(|(_, entry)| entry.watched.is_none() && entry.due.is_some());
        if self.names.len() < MAX_ON_DEMAND || on_demand.clone().count() < MAX_ON_DEMAND {
            return;
        }
        let oldest = on_demand
            .min_by_key(|(_, entry)| entry.wanted)
            .map(|(name, entry)| (name.clone(), entry.due));
        if let Some((name, due)) = oldest {
            self.names.remove(&name);
            if let Some(due) = due {
                self.queue.remove(&(due, name));
            }
        }
    }
}

impl Entry {
    fn used(&self, now: Instant) -> bool {
        self.watched.is_some() || self.wanted.is_some_and(|at| now.duration_since(at) < KEPT)
    }

    fn known(&self) -> Known {
        match (&self.answer, &self.failure) {
            (Some(answer), _) => Known::Answer(answer.clone()),
            (None, Some(failure)) => Known::Failure(failure.clone()),
            (None, None) => Known::Nothing,
        }
    }

    fn refresh(&self) -> Duration {
        self.watched.unwrap_or(DEFAULT_REFRESH)
    }

    /// Keeps an answer; returns how long, and whether it is another one than before.
    fn succeed(&mut self, answer: Answer) -> (Duration, bool) {
        let Answer { mut targets, ttl } = answer;
        // Servers rotate their answers; the order says nothing.
        targets.sort_unstable();
        targets.dedup();
        targets.truncate(MAX_ADDRESSES);
        self.failures = 0;
        self.failure = None;
        let changed = self.answer.as_deref() != Some(&*targets);
        if changed {
            self.answer = Some(targets.into());
        }
        let ttl = ttl.unwrap_or_else(|| self.refresh());
        (ttl.clamp(MIN_TTL, MAX_TTL), changed)
    }

    /// Notes a failure; returns the pause after it.
    fn fail(&mut self, text: String) -> Duration {
        self.failure = Some(text.into());
        let longest = match self.answer {
            Some(_) => self.refresh().clamp(MIN_TTL, MAX_TTL),
            None => LONGEST_PAUSE_WITHOUT_ANSWER,
        };
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        pause.min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    const SECOND: Duration = Duration::from_secs(1);

    fn name(text: &str) -> Question {
        Question::of(text)
    }

    fn answer(last: &[u8], ttl: Option<u64>) -> Result<Answer, String> {
        let targets = last
            .iter()
            .map(|last| IpAddr::from([10, 0, 0, *last]).into());
        Ok(Answer {
            targets: targets.collect(),
            ttl: ttl.map(Duration::from_secs),
        })
    }

    struct World {
        schedule: Schedule,
        now: Instant,
        random: Random,
    }

    impl World {
        fn watching(names: &[&str]) -> Self {
            let now = Instant::now();
            let mut schedule = Schedule::default();
            let wanted = names.iter().map(|text| (name(text), DEFAULT_REFRESH));
            schedule.watch(&wanted.collect(), now);
            Self {
                schedule,
                now,
                random: Random::seeded(3),
            }
        }

        /// Asks what is due and answers it; the pause until the next question.
        fn round(&mut self, result: Result<Answer, String>) -> (bool, Duration) {
            let due = self.schedule.due(self.now);
            assert_eq!(due.len(), 1);
            let changed = self
                .schedule
                .answered(&due[0], result, self.now, &self.random);
            let next = self.schedule.next().unwrap();
            let pause = next - self.now;
            self.now = next;
            (changed, pause)
        }
    }

    #[test]
    fn i1_ttl_is_clamped_and_refreshed_up_to_a_tenth_later() {
        let mut world = World::watching(&["a"]);
        for (ttl, expected) in [
            (Some(0), 5),
            (Some(30), 30),
            (Some(31_536_000), 3_600),
            (None, 60),
        ] {
            let (_, pause) = world.round(answer(&[1], ttl));
            let expected = Duration::from_secs(expected);
            assert!(
                pause >= expected && pause <= expected.mul_f64(1.1),
                "{ttl:?}: {pause:?}"
            );
        }
    }

    #[test]
    fn i1_failures_and_empty_answers_keep_the_last_good_set() {
        let mut world = World::watching(&["a"]);
        assert!(world.round(answer(&[2, 1, 2], None)).0);
        let good = world.schedule.answer(&name("a")).unwrap();
        assert_eq!(good.len(), 2);
        for bad in [
            Err("NXDOMAIN".to_owned()),
            answer(&[], Some(60)),
            Err("timeout".into()),
        ] {
            assert!(!world.round(bad).0);
            assert_eq!(world.schedule.answer(&name("a")), Some(good.clone()));
        }
        assert!(
            !world.round(answer(&[1, 2], None)).0,
            "another order is no change"
        );
        assert!(world.round(answer(&[3], None)).0);
    }

    #[test]
    fn pauses_after_failures_double_up_to_the_refresh_rate_or_five_seconds() {
        let pauses = |world: &mut World| -> Vec<u64> {
            let round = |_| world.round(Err("SERVFAIL".into())).1.as_secs();
            (0..8).map(round).collect()
        };
        let mut never = World::watching(&["a"]);
        assert_eq!(pauses(&mut never), [1, 2, 4, 5, 5, 5, 5, 5]);
        let mut once = World::watching(&["a"]);
        once.round(answer(&[1], None));
        let found = pauses(&mut once);
        assert_eq!(found[..4], [1, 2, 4, 8]);
        assert!(found[7] >= 60 && found[7] <= 66, "{found:?}");
    }

    #[test]
    fn i1_a_thousand_addresses_are_used_and_more_are_cut() {
        let mut world = World::watching(&["a"]);
        let targets = (0..3_000u32).map(|bits| IpAddr::from(bits.to_be_bytes()).into());
        let (_, _) = world.round(Ok(Answer {
            targets: targets.collect(),
            ttl: None,
        }));
        assert_eq!(
            world.schedule.answer(&name("a")).unwrap().len(),
            MAX_ADDRESSES
        );
    }

    #[test]
    fn names_on_demand_are_asked_once_and_forgotten_when_nobody_wants_them() {
        let mut world = World::watching(&[]);
        assert_eq!(world.schedule.want(&name("b"), world.now), Known::Nothing);
        assert_eq!(world.schedule.want(&name("B"), world.now), Known::Nothing);
        world.round(answer(&[1], Some(200)));
        let known = world.schedule.want(&name("b"), world.now);
        assert!(matches!(known, Known::Answer(targets) if targets.len() == 1));
        world.round(answer(&[1], Some(200)));
        world.now += KEPT;
        assert!(world.schedule.due(world.now).is_empty());
        assert_eq!(world.schedule.next(), None);
        assert!(world.schedule.names.is_empty() && world.schedule.queue.is_empty());
    }

    #[test]
    fn names_on_demand_and_open_questions_are_bounded() {
        let mut world = World::watching(&[]);
        for number in 0..3 * MAX_ON_DEMAND {
            world.now += SECOND / 100;
            world.schedule.want(&name(&format!("n{number}")), world.now);
        }
        assert_eq!(world.schedule.names.len(), MAX_ON_DEMAND);
        assert_eq!(world.schedule.queue.len(), MAX_ON_DEMAND);
        let due = world.schedule.due(world.now);
        assert_eq!((due.len(), world.schedule.next()), (MAX_OPEN, None));
        world
            .schedule
            .answered(&due[0], Err("no".into()), world.now, &world.random);
        assert_eq!(world.schedule.due(world.now).len(), 1);
    }

    #[test]
    fn a_name_that_no_cluster_watches_any_more_is_gone_after_its_question() {
        let mut world = World::watching(&["a", "b"]);
        let due = world.schedule.due(world.now);
        world.schedule.watch(&BTreeMap::new(), world.now);
        for question in due {
            let changed =
                world
                    .schedule
                    .answered(&question, answer(&[1], None), world.now, &world.random);
            assert!(!changed);
        }
        world.now += MAX_TTL;
        assert!(world.schedule.due(world.now).is_empty() && world.schedule.names.is_empty());
    }
}
