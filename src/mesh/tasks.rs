//! The tasks of a mesh: every one has this owner and ends with it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::dns;
#[cfg(feature = "yaml")]
use crate::event::Announcer;
use crate::event::Event;
use crate::model::{Endpoints, Resources};
use crate::outbound::Core;
use crate::snapshot::{self, Moves};

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

/// After how many edits of endpoints alone it is looked for series that nobody counts for any more.
const PRUNED: u64 = 64;

/// Puts configurations in force, one after the other: the source's, and the same one again when a
/// name has other addresses.
pub(super) struct Applier {
    core: Arc<Core>,
    names: Arc<dns::Names>,
    /// Locked while one is put in force: never on the way of a request.
    last: Mutex<Last>,
}

/// The configuration in force, as it can be compared with the next one.
#[derive(Default)]
struct Last {
    /// As it came, with names in it.
    resources: Arc<Resources>,
    /// With addresses in place of names, if that is not the same.
    expanded: Option<Arc<Resources>>,
    /// The endpoints in which names are resolved.
    resolved: HashSet<Arc<str>>,
    /// Whether there is one.
    in_force: bool,
}

impl Last {
    fn linked(&self) -> Option<&Resources> {
        self.in_force
            .then(|| &**self.expanded.as_ref().unwrap_or(&self.resources))
    }
}

impl Applier {
    pub(super) fn new(core: Arc<Core>, names: Arc<dns::Names>) -> Self {
        Self {
            core,
            names,
            last: Mutex::default(),
        }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a set of resources in force; returns its generation.
    pub(super) fn apply(&self, resources: Arc<Resources>) -> u64 {
        let mut last = self.last();
        self.names.watch(&dns::questions(&resources));
        self.link(&mut last, resources)
    }

    /// Puts the endpoints of one name in force, in place of those that it had; returns the
    /// generation. Costs what has changed among them, whatever else there is.
    pub(super) fn apply_endpoints(&self, endpoints: Arc<Endpoints>) -> u64 {
        let mut last = self.last();
        let name = endpoints.name.clone();
        if !last.in_force || last.resolved.contains(&name) {
            let mut resources = Resources::clone(&last.resources);
            resources.endpoints.insert(name, endpoints);
            self.names.watch(&dns::questions(&resources));
            return self.link(&mut last, Arc::new(resources));
        }
        // Copied only if somebody else holds the set.
        let Last {
            resources,
            expanded,
            ..
        } = &mut *last;
        for set in [Some(resources), expanded.as_mut()].into_iter().flatten() {
            let all = &mut Arc::make_mut(set).endpoints;
            all.insert(name.clone(), endpoints.clone());
        }
        self.replace(&[&endpoints])
    }

    /// Puts in force that nothing is known, if nothing is in force: a mesh has a first generation.
    #[cfg(feature = "xds")]
    pub(super) fn start(&self) {
        if self.core.live.load().generation() == 0 {
            self.apply(Arc::default());
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
        let mut last = self.last();
        let resources = last.resources.clone();
        self.link(&mut last, resources);
    }

    fn link(&self, last: &mut Last, resources: Arc<Resources>) -> u64 {
        let all = dns::expand(&resources, |name| self.names.answer(name));
        let endpoints = last
            .linked()
            .and_then(|before| before.changed_endpoints(&all));
        let generation = match endpoints {
            Some(endpoints) => self.replace(&endpoints),
            None => self.link_all(&all),
        };
        *last = Last {
            resolved: dns::resolved(&resources),
            expanded: (!Arc::ptr_eq(&all, &resources)).then_some(all),
            resources,
            in_force: true,
        };
        generation
    }

    fn link_all(&self, resources: &Arc<Resources>) -> u64 {
        let core = &*self.core;
        // A sweep between linking and storing would readmit an endpoint in the old balancer only.
        let _one_at_a_time = core.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        core.environment.telemetry.tell(&resources.telemetry);
        let before = core.live.load_full();
        let linking = || snapshot::link(&before, resources, &core.environment);
        let (next, moves) = tracing::debug_span!("link").in_scope(linking);
        let after = tracing::debug_span!("swap").in_scope(|| core.live.store(next));
        snapshot::retire(&before, &after, &moves);
        drop(before);
        core.environment.telemetry.prune();
        self.announce(after.generation(), &moves)
    }

    /// Puts endpoints in force in the clusters that there are.
    fn replace(&self, endpoints: &[&Arc<Endpoints>]) -> u64 {
        let core = &*self.core;
        let _one_at_a_time = core.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        let current = core.live.load_full();
        let swapping = || snapshot::replace_endpoints(&current, endpoints, &core.environment);
        let moves = tracing::debug_span!("swap").in_scope(swapping);
        let generation = current.generation();
        // What those count for that have left is looked for now and then: it takes a look at all.
        if generation.is_multiple_of(PRUNED) {
            core.environment.telemetry.prune();
        }
        self.announce(generation, &moves)
    }

    fn announce(&self, generation: u64, moves: &Moves) -> u64 {
        let core = &*self.core;
        let events = &core.environment.events;
        events.tell(|| Event::ConfigApplied { generation });
        snapshot::announce(moves, events);
        tracing::debug!(generation, "configuration in force");
        core.generation.send_replace(generation);
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

/// What these clusters were loaded with, for a control plane.
#[cfg(feature = "xds")]
pub(super) fn loads(
    core: &Core,
    names: &std::collections::BTreeSet<Arc<str>>,
) -> Vec<snapshot::ClusterLoad> {
    core.live.load().loads(names)
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
