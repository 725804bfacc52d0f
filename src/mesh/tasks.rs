//! The tasks of a mesh: every one has this owner and ends with it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

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
    let before = core.live.load_full();
    let next = snapshot::link(&before, resources, &core.environment);
    let generation = next.generation;
    let after = core.live.store(next);
    snapshot::retire(&before, &after);
    tracing::debug!(
        generation,
        clusters = after.clusters().count(),
        "configuration in force"
    );
    core.generation.send_replace(generation);
    generation
}

/// Runs the outlier detectors' sweeps when they are due.
///
/// One task for all clusters: a mesh of ten thousand clusters sleeps once, not ten thousand times.
pub(super) async fn sweep(core: Arc<Core>) {
    let mut changed = core.generation.subscribe();
    loop {
        let now = tokio::time::Instant::now();
        let snapshot = core.live.load_full();
        let next = snapshot
            .clusters()
            .filter_map(|cluster| cluster.sweep(now, &core.environment.random))
            .min();
        drop(snapshot);
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
