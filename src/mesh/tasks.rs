//! The tasks of a mesh: every one has this owner and ends with it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::event::Event;
use crate::model::Resources;
use crate::outbound::Core;
use crate::snapshot;

/// Runs the tasks; dropping it ends them.
#[derive(Default)]
pub(super) struct Tasks {
    // Locked to start and to end, never on the way of a request.
    running: Mutex<JoinSet<()>>,
}

impl Tasks {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .spawn(task);
    }

    pub(super) fn end(&self) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .abort_all();
    }
}

/// Links a set of resources and puts it in force.
pub(super) fn apply(core: &Core, resources: &Resources) -> u64 {
    // A sweep between linking and storing would readmit an endpoint in the old balancer only.
    let _one_at_a_time = core.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
    let before = core.live.load_full();
    let next = snapshot::link(&before, resources, &core.environment);
    let generation = next.generation;
    let after = core.live.store(next);
    snapshot::retire(&before, &after);
    let events = &core.environment.events;
    events.tell(|| Event::ConfigApplied { generation });
    snapshot::announce(&before, &after, events);
    tracing::debug!(
        generation,
        clusters = after.clusters().count(),
        "configuration in force"
    );
    core.generation.send_replace(generation);
    generation
}

/// Sweeps the clusters in force that are due; returns when the next one is.
fn sweep_once(core: &Core, now: Instant) -> Option<Instant> {
    let _one_at_a_time = core.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
    let snapshot = core.live.load();
    let clusters = snapshot.clusters();
    clusters
        .filter_map(|cluster| cluster.sweep(now, &core.environment.random))
        .min()
}

/// Runs the outlier detectors' sweeps when they are due.
///
/// One task for all clusters: a mesh of ten thousand clusters sleeps once, not ten thousand times.
pub(super) async fn sweep(core: Arc<Core>) {
    let mut changed = core.generation.subscribe();
    loop {
        let now = Instant::now();
        let next = sweep_once(&core, now);
        let due = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            // Cannot fail: `core` holds the sender.
            _ = changed.changed() => {}
        }
    }
}
