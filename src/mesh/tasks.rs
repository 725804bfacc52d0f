//! The tasks of a mesh: every one has this owner and ends with it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::dns;
#[cfg(feature = "yaml")]
use crate::event::Announcer;
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

/// Puts configurations in force, one after the other: the source's, and the same one again when a
/// name has other addresses.
pub(super) struct Applier {
    core: Arc<Core>,
    names: Arc<dns::Names>,
    /// The configuration as it came, with names in it. Locked while one is put in force: never on
    /// the way of a request.
    last: Mutex<Arc<Resources>>,
}

impl Applier {
    pub(super) fn new(core: Arc<Core>, names: Arc<dns::Names>) -> Self {
        Self {
            core,
            names,
            last: Mutex::default(),
        }
    }

    /// Puts a set of resources in force; returns its generation.
    pub(super) fn apply(&self, resources: &Arc<Resources>) -> u64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone_from(resources);
        self.names.watch(&dns::questions(resources));
        self.link(resources)
    }

    /// Puts in force that nothing is known, if nothing is in force: a mesh has a first generation.
    #[cfg(feature = "xds")]
    pub(super) fn start(&self) {
        if self.core.live.load().generation == 0 {
            self.apply(&Arc::default());
        }
    }

    /// To whom it is told what happens.
    #[cfg(feature = "yaml")]
    pub(super) fn events(&self) -> &Announcer {
        &self.core.environment.events
    }

    /// Counts a configuration that was rejected.
    #[cfg(feature = "yaml")]
    pub(super) fn rejected(&self) {
        self.core.environment.telemetry.rejected().add(1);
    }

    /// Puts the last set in force again, with the addresses that its names have by this time.
    pub(super) fn renew(&self) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.link(&last);
    }

    fn link(&self, resources: &Arc<Resources>) -> u64 {
        let core = &*self.core;
        let resources = dns::expand(resources, |name| self.names.answer(name));
        // A sweep between linking and storing would readmit an endpoint in the old balancer only.
        let _one_at_a_time = core.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        let before = core.live.load_full();
        let next = snapshot::link(&before, &resources, &core.environment);
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
        drop(before);
        core.environment.telemetry.prune();
        generation
    }
}

/// Brings the balancers in force up to date when active checks have changed their mind about an
/// endpoint.
pub(super) async fn heed_checks(core: Arc<Core>) {
    loop {
        core.environment.checked.notified().await;
        let _one_at_a_time = core.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        for cluster in core.live.load().clusters() {
            if cluster.running.checks.take_mark() {
                cluster.balancer.refresh();
            }
        }
    }
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

/// Replaces encrypted connections whenever the identity of the mesh or its trust has changed, so that
/// none is left that shows an old certificate when the roots that vouch for it are withdrawn.
#[cfg(feature = "tls-core")]
pub(super) async fn renew(core: Arc<Core>, credentials: crate::tls::Credentials) {
    let mut generation = credentials.generation();
    loop {
        generation = credentials.changed(generation).await;
        for cluster in core.live.load().clusters() {
            cluster.renew();
        }
        tracing::debug!(
            generation,
            "connections are replaced: identity or trust has changed"
        );
    }
}
