//! How many calls, how many at a time, how fast.
//!
//! Without a rate, workers call one after the other: a closed loop, which slows down with its
//! target. With a rate, calls begin on schedule whatever became of the ones before, and their
//! latency counts from the schedule: a loop that waits for slow answers would hide exactly the time
//! that its callers spend waiting (coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meshwork::Client;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::answer::{Answer, send};
use super::request::Template;

/// How many calls of an open loop may be under way.
const OPEN_LIMIT: u32 = 10_000;
/// Answers that wait to be counted; more make the callers wait.
const UNCOUNTED: usize = 1_024;

/// How much to send.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    /// `None`: 1, or no limit with a duration.
    pub(super) requests: Option<u64>,
    /// `None`: 1, or [`OPEN_LIMIT`] with a rate.
    pub(super) concurrency: Option<u32>,
    /// Per second.
    pub(super) rate: Option<f64>,
    pub(super) duration: Option<Duration>,
}

impl Load {
    /// How many calls it is at most.
    pub(super) fn total(&self) -> u64 {
        match (self.requests, self.duration) {
            (Some(requests), _) => requests,
            (None, Some(_)) => u64::MAX,
            (None, None) => 1,
        }
    }

    /// Begins to send; the answers come out of what it returns, which ends after the last one.
    ///
    /// Dropping that cancels what is under way.
    pub(super) fn start(self, client: &Client, template: Template) -> Answers {
        let (sender, receiver) = mpsc::channel(UNCOUNTED);
        let until = self
            .duration
            .and_then(|time| Instant::now().checked_add(time));
        let run = Run {
            client: client.clone(),
            template: Arc::new(template),
            begun: Arc::default(),
            total: self.total(),
            until,
            sender,
        };
        let mut tasks = JoinSet::new();
        match self.rate {
            Some(rate) => {
                let limit = self.concurrency.unwrap_or(OPEN_LIMIT);
                tasks.spawn(run.on_schedule(rate, limit));
            }
            None => {
                let workers = u64::from(self.concurrency.unwrap_or(1)).min(run.total);
                for _ in 0..workers {
                    tasks.spawn(run.clone().one_by_one());
                }
            }
        }
        Answers {
            receiver,
            _tasks: tasks,
        }
    }
}

/// The answers of a load, in the order they arrive.
#[derive(Debug)]
pub(super) struct Answers {
    receiver: mpsc::Receiver<Answer>,
    /// Ends with this.
    _tasks: JoinSet<()>,
}

impl Answers {
    /// The next answer; `None` after the last one. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Answer> {
        self.receiver.recv().await
    }
}

/// What the tasks of one load share.
#[derive(Clone)]
struct Run {
    client: Client,
    template: Arc<Template>,
    /// Calls that were begun, and attempts to begin one more.
    begun: Arc<AtomicU64>,
    total: u64,
    until: Option<Instant>,
    sender: mpsc::Sender<Answer>,
}

impl Run {
    /// Whether one more call may begin at this time; counts it if so.
    fn take(&self, at: Instant) -> bool {
        self.until.is_none_or(|until| at < until)
            && self.begun.fetch_add(1, Ordering::Relaxed) < self.total
    }

    /// The closed loop of one worker.
    async fn one_by_one(self) {
        while self.take(Instant::now()) {
            if !self.call(Instant::now()).await {
                return;
            }
        }
    }

    /// The open loop.
    async fn on_schedule(self, rate: f64, limit: u32) {
        let room = Arc::new(Semaphore::new(limit as usize));
        let mut calls = JoinSet::new();
        let start = Instant::now();
        let mut number = 0_u64;
        while let Some(due) = due(start, number, rate) {
            if !self.take(due.max(Instant::now())) {
                break;
            }
            tokio::time::sleep_until(due).await;
            // The semaphore is never closed.
            let Ok(permit) = room.clone().acquire_owned().await else {
                break;
            };
            while calls.try_join_next().is_some() {}
            let run = self.clone();
            calls.spawn(async move {
                run.call(due).await;
                drop(permit);
            });
            number += 1;
        }
        calls.join_all().await;
    }

    /// One call; false if nobody counts its answer.
    async fn call(&self, began: Instant) -> bool {
        let answer = send(&self.client, &self.template, began).await;
        self.sender.send(answer).await.is_ok()
    }
}

/// When the call of this number begins; `None` beyond the end of the clock.
fn due(start: Instant, number: u64, rate: f64) -> Option<Instant> {
    let after = Duration::try_from_secs_f64(number as f64 / rate).ok()?;
    start.checked_add(after)
}
