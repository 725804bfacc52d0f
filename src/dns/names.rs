//! The table of names and the one task that keeps it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::schedule::{Known, Schedule};
use super::{Answer, Question, Resolve, Target};
use crate::random::Random;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// All names of a mesh, shared by those who need addresses and the task that asks for them.
#[derive(Debug)]
pub(crate) struct Names {
    // Locked for a lookup in a map, and only where a connection is made.
    schedule: Mutex<Schedule>,
    /// Something is due that was not before.
    stirred: Notify,
    /// Counts ended questions, for those who wait for one.
    ended: watch::Sender<u64>,
    random: Random,
}

/// The questions that are open, by the task that asks.
struct Open {
    asking: JoinSet<io::Result<Answer>>,
    questions: HashMap<Id, Question>,
}

impl Names {
    pub(crate) fn new(random: Random) -> Self {
        Self {
            schedule: Mutex::default(),
            stirred: Notify::new(),
            ended: watch::Sender::new(0),
            random,
        }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which names clusters watch.
    pub(crate) fn watch(&self, names: &BTreeMap<Question, Duration>) {
        self.schedule().watch(names, Instant::now());
        self.stirred.notify_one();
    }

    /// The addresses of a name that is watched, if there ever was an answer.
    pub(crate) fn answer(&self, name: &Question) -> Option<Arc<[Target]>> {
        self.schedule().answer(name)
    }

    /// The addresses of a name; waits for the first answer.
    ///
    /// Cancel-safe: the question goes on for the next who asks.
    ///
    /// # Errors
    ///
    /// If the question failed and no earlier answer is known.
    pub(crate) async fn lookup(&self, name: &Question) -> io::Result<Arc<[Target]>> {
        let mut ended = self.ended.subscribe();
        loop {
            ended.mark_unchanged();
            let known = self.schedule().want(name, Instant::now());
            match known {
                Known::Answer(targets) => return Ok(targets),
                Known::Failure(text) => return Err(io::Error::other(text.to_string())),
                Known::Nothing => {}
            }
            self.stirred.notify_one();
            // The sender lives in `self`.
            let _ = ended.changed().await;
        }
    }

    /// Asks what is due for as long as it is polled, and calls `changed` when the addresses of
    /// watched names have changed: once for all answers that arrived together.
    pub(crate) async fn run(&self, resolver: &dyn Resolve, changed: impl Fn()) {
        let mut open = Open {
            asking: JoinSet::new(),
            questions: HashMap::new(),
        };
        loop {
            let due = self.schedule().due(Instant::now());
            due.into_iter().for_each(|name| open.ask(name, resolver));
            let next = self.schedule().next();
            let sleep = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                () = self.stirred.notified() => {}
                Some(end) = open.asking.join_next_with_id() => {
                    let mut news = self.take(open.end(end));
                    while let Some(end) = open.asking.try_join_next_with_id() {
                        news |= self.take(open.end(end));
                    }
                    self.ended.send_modify(|count| *count += 1);
                    if news {
                        changed();
                    }
                }
            }
        }
    }

    fn take(&self, end: Option<(Question, Result<Answer, String>)>) -> bool {
        let Some((name, result)) = end else {
            return false;
        };
        if let Err(error) = &result {
            tracing::warn!(%name, error, "name not resolved, the last good answer stays");
        }
        let now = Instant::now();
        self.schedule().answered(&name, result, now, &self.random)
    }
}

impl Open {
    fn ask(&mut self, name: Question, resolver: &dyn Resolve) {
        let resolution = resolver.resolve(&name);
        let task = self.asking.spawn(async move {
            let timeout = tokio::time::timeout(PATIENCE, resolution);
            timeout.await.unwrap_or_else(|_| {
                let text = format!("no answer within {} s", PATIENCE.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            })
        });
        self.questions.insert(task.id(), name);
    }

    /// Which question has ended and how; a resolver that panics has failed.
    fn end(
        &mut self,
        end: Result<(Id, io::Result<Answer>), tokio::task::JoinError>,
    ) -> Option<(Question, Result<Answer, String>)> {
        let (id, result) = match end {
            Ok((id, result)) => (id, result.map_err(|error| error.to_string())),
            Err(error) => (error.id(), Err(error.to_string())),
        };
        let name = self.questions.remove(&id)?;
        let result = result.map_err(|text| format!("{name} cannot be resolved: {text}"));
        Some((name, result))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::dns::Resolution;

    /// Panics for one name, never answers for another, fails for a third.
    #[derive(Debug, Default)]
    struct Moody {
        asked: Arc<AtomicUsize>,
    }

    impl Resolve for Moody {
        fn resolve(&self, question: &Question) -> Resolution {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let name = question.name().to_owned();
            Box::pin(async move {
                match &*name {
                    "panics" => panic!("a resolver's bug"),
                    "silent" => std::future::pending().await,
                    "missing" => Err(io::Error::other("NXDOMAIN")),
                    _ => {
                        let address = std::net::IpAddr::from([10, 0, 0, 1]);
                        Ok(Answer {
                            targets: vec![address.into()],
                            ttl: None,
                        })
                    }
                }
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_a_silence_and_a_failure_of_one_name_do_not_touch_another() {
        let names = Arc::new(Names::new(Random::seeded(1)));
        let resolver = Moody::default();
        let asked = resolver.asked.clone();
        let running = names.clone();
        let task = tokio::spawn(async move { running.run(&resolver, || ()).await });
        for (name, said) in [
            ("panics", "panicked"),
            ("silent", "no answer within 10 s"),
            ("missing", "missing cannot be resolved: NXDOMAIN"),
        ] {
            let error = names
                .lookup(&Question::of(name))
                .await
                .unwrap_err()
                .to_string();
            assert!(error.contains(said), "{error}");
        }
        let before = asked.load(Ordering::SeqCst);
        let question = Question::of("good");
        let (one, two) = tokio::join!(names.lookup(&question), names.lookup(&question));
        assert_eq!(one.unwrap(), two.unwrap());
        assert_eq!(asked.load(Ordering::SeqCst) - before, 1);
        task.abort();
    }
}
