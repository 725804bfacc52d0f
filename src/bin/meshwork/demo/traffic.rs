//! Steady traffic through the mesh, and what came of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meshwork::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::call::{Answer, Template, send};

/// How many callers share the rate.
const CALLERS: u32 = 6;

/// What the callers do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Calls {
    /// With the header `x-canary: true`.
    Canary,
    None,
    Plain,
}

/// Callers that keep calling; they end with this.
#[derive(Debug)]
pub(super) struct Traffic {
    scene: watch::Sender<Scene>,
    ledger: Arc<Mutex<Ledger>>,
    _callers: JoinSet<()>,
}

/// Calls are counted for the scene they began in, however late they end.
#[derive(Clone, Copy, Debug)]
struct Scene {
    number: u64,
    calls: Calls,
}

#[derive(Debug, Default)]
struct Ledger {
    scene: u64,
    of_scene: Counts,
    all: Counts,
}

/// What came of calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) retries: u64,
    pub(super) by_name: BTreeMap<String, u64>,
    pub(super) last_error: Option<String>,
}

impl Counts {
    /// How many calls this backend answered.
    pub(super) fn of(&self, name: &str) -> u64 {
        self.by_name.get(name).copied().unwrap_or(0)
    }

    fn count(&mut self, answer: &Answer) {
        self.calls += 1;
        self.failed += u64::from(!answer.ok());
        self.retries += u64::from(answer.report.retries());
        if let Some(echo) = &answer.echo {
            *self.by_name.entry(echo.name.clone()).or_default() += 1;
        }
        if answer.error.is_some() {
            self.last_error.clone_from(&answer.error);
        }
    }
}

impl Traffic {
    /// Callers that wait for the first scene.
    pub(super) fn new(client: &Client, plain: &Template, rate: u32) -> Self {
        let scene = watch::Sender::new(Scene {
            number: 0,
            calls: Calls::None,
        });
        let ledger = Arc::<Mutex<Ledger>>::default();
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let caller = Caller {
                client: client.clone(),
                plain: plain.clone(),
                canary: plain.clone().with_header("x-canary", "true"),
                scene: scene.subscribe(),
                ledger: ledger.clone(),
            };
            callers.spawn(caller.run(Duration::from_secs(1) * CALLERS / rate));
        }
        Self {
            scene,
            ledger,
            _callers: callers,
        }
    }

    /// Begins a scene: counts start from zero.
    pub(super) fn begin(&self, calls: Calls) {
        let mut ledger = lock(&self.ledger);
        ledger.scene += 1;
        ledger.of_scene = Counts::default();
        let number = ledger.scene;
        drop(ledger);
        self.scene.send_replace(Scene { number, calls });
    }

    /// What came of the calls that began in this scene.
    pub(super) fn scene(&self) -> Counts {
        lock(&self.ledger).of_scene.clone()
    }

    /// What came of all calls.
    pub(super) fn all(&self) -> Counts {
        lock(&self.ledger).all.clone()
    }
}

struct Caller {
    client: Client,
    plain: Template,
    canary: Template,
    scene: watch::Receiver<Scene>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Caller {
    async fn run(mut self, pause: Duration) {
        let mut ticks = interval(pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let scene = *self.scene.borrow_and_update();
            let template = match scene.calls {
                Calls::Canary => &self.canary,
                Calls::Plain => &self.plain,
                Calls::None => {
                    if self.scene.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let answer = send(&self.client, template, Instant::now()).await;
            let mut ledger = lock(&self.ledger);
            ledger.all.count(&answer);
            if ledger.scene == scene.number {
                ledger.of_scene.count(&answer);
            }
        }
    }
}

/// Held for a few additions.
fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
