//! A cluster that runs: its endpoints and the machinery around them.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, Request};
use tokio::time::Instant;

use super::endpoint::{Commons, Endpoint, Member};
use super::health::Checks;
use super::on_demand::OnDemand;
use super::overload::Overloads;
use super::propagation::{Gathering, Propagation};
use super::reports::Reports;
use super::turns::{Detections, Turns};
use crate::event::{self, Announcer};
use crate::layer::balance::{Balancer, written};
use crate::layer::classify::Outcome;
use crate::layer::limit::Limits;
use crate::layer::outlier::{Detector, Event, Swept};
use crate::layer::retry::Quota;
use crate::model;
use crate::random::Random;
use crate::telemetry::Series;
use crate::transport::Secure;

/// One cluster of one snapshot.
pub(crate) struct Cluster {
    pub(crate) model: Arc<model::Cluster>,
    /// What the balancer's members were made of. Edits read and write it, requests do not.
    pub(crate) endpoints: ArcSwapOption<model::Endpoints>,
    pub(crate) balancer: Balancer<Member>,
    /// Its budget is shared with the cluster of this name in earlier and later snapshots.
    pub(crate) quota: Quota,
    /// Lives on in the next snapshot's cluster of this name.
    pub(crate) running: Arc<Running>,
    /// What requests count for that no endpoint was found for.
    pub(crate) series: Arc<Series>,
    /// The clusters that this one stands for, if it is an aggregate.
    pub(super) leaves: Vec<Arc<Self>>,
    /// What is dropped of its requests.
    pub(crate) overloads: Overloads,
    /// The hosts that were asked for, if they are this cluster's endpoints.
    pub(super) on_demand: Option<OnDemand>,
    /// What secures its connections, if anything does.
    pub(super) secure: Option<Arc<dyn Secure>>,
    /// How its endpoints are connected to.
    pub(super) commons: Commons,
}

/// What an edit of the cluster does not restart.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) limits: Arc<Limits>,
    pub(crate) detector: Detector,
    /// When the detector swept last. Locked by the one task that sweeps.
    pub(crate) swept: Mutex<Option<Instant>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) checks: Checks,
    pub(crate) reports: Reports,
    pub(crate) events: Announcer,
    /// Whether the last retry that was wanted was denied.
    pub(crate) starved: AtomicBool,
}

/// What a cluster has counted since the mesh began.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) attempts: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) retries_denied: AtomicU64,
    pub(crate) hedges: AtomicU64,
    pub(crate) overflows: AtomicU64,
    pub(crate) mirrored: AtomicU64,
    pub(crate) mirrors_dropped: AtomicU64,
    pub(crate) ejections: AtomicU64,
    pub(crate) readmissions: AtomicU64,
    pub(crate) turns: Turns,
    pub(crate) detections: Detections,
    /// What endpoints report of themselves, for load reports.
    pub(crate) reported: Propagation,
}

/// A locality of the endpoints that a try was begun with; nothing where nobody asks for it.
#[derive(Clone)]
pub(crate) struct Located {
    among: Option<Arc<model::Endpoints>>,
    number: u32,
}

impl Located {
    fn locality(&self) -> Option<&model::endpoint::Locality> {
        let all = &self.among.as_ref()?.localities;
        all.get(self.number as usize).map(|one| &one.locality)
    }
}

impl Cluster {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.model.name
    }

    /// Whether a peer may say that it has not looked at `request`, which is then safe to send again. Of the
    /// cluster that serves it: an aggregate has no endpoints.
    pub(crate) fn may_refuse<B>(&self, request: &Request<B>) -> bool {
        self.commons.may_refuse(request)
    }

    /// Records how a try ended and says so if that ejected the endpoint.
    pub(crate) fn record(&self, endpoint: &Endpoint, outcome: Outcome) {
        if matches!(outcome, Outcome::Local(_) | Outcome::Failure(500..)) {
            endpoint.record.failures.fetch_add(1, Ordering::Relaxed);
        }
        let detector = &self.running.detector;
        if let Some(event) = detector.record_by(&endpoint.record.host, outcome, Instant::now) {
            self.balancer.refresh_named([&*endpoint.record.label]);
            self.tell(&event, &endpoint.record.label);
        }
    }

    /// Whether somebody wants to know what endpoints report with their responses.
    pub(crate) fn watches_reports(&self) -> bool {
        self.balancer.watches_reports() || !self.model.load_metrics.is_empty()
    }

    /// Where a try goes, for what is reported of it later: the number of the member's locality, among the
    /// localities of now. An edit may give the number to another one before the answer ends.
    pub(crate) fn located(&self, number: u32) -> Located {
        let wanted = !self.model.load_metrics.is_empty();
        Located {
            among: wanted.then(|| self.endpoints.load_full()).flatten(),
            number,
        }
    }

    /// Takes what an endpoint there reports of its load, in the head or the trailers of a response.
    pub(crate) fn take_report(&self, endpoint: &Endpoint, at: &Located, headers: &HeaderMap) {
        if !self.watches_reports() {
            return;
        }
        let mut weighed = self.balancer.reading();
        let mut told = at.locality().map(|locality| {
            let gathering = Gathering::of(&self.model.load_metrics);
            (locality, gathering)
        });
        // Read once for both, each of which takes other numbers for damage.
        let whole = written(headers, &mut |metric, value| {
            let reading = weighed.as_mut().and_then(|own| own.take(metric, value));
            let gathering = told.as_mut().and_then(|(_, own)| own.take(metric, value));
            reading.or(gathering)
        });
        if let Some(report) = weighed.and_then(|reading| reading.end(whole)) {
            let signals = &endpoint.record.signals;
            self.balancer.weigh(signals, &report, Instant::now());
        }
        if let (Some((locality, gathering)), Some(())) = (told, whole) {
            let reported = &self.running.counters.reported;
            reported.add(locality, &gathering);
        }
    }

    /// Counts the retries of a call, and says so if one was denied for the first time.
    pub(crate) fn retried(&self, retries: u32, denied: bool) {
        if retries == 0 && !denied {
            return;
        }
        let Running {
            counters,
            starved,
            events,
            ..
        } = &*self.running;
        let retries = u64::from(retries);
        counters.retries.fetch_add(retries, Ordering::Relaxed);
        if retries > 0 {
            starved.store(false, Ordering::Relaxed);
        }
        if denied {
            counters.retries_denied.fetch_add(1, Ordering::Relaxed);
            if !starved.swap(true, Ordering::Relaxed) {
                events.tell(|| event::Event::BudgetEmpty {
                    cluster: self.name().clone(),
                });
            }
        }
    }

    /// Runs the detector's sweep if it is due; returns when the next one is, if it ever is.
    ///
    /// A new policy keeps the phase of the sweeps that went before (gRPC A50).
    pub(crate) fn sweep(&self, now: Instant, random: &Random) -> Option<Instant> {
        // What tokio's timer can tell apart: an interval of zero must not keep the sweeper spinning.
        let interval = self
            .running
            .detector
            .interval()?
            .max(Duration::from_millis(1));
        let mut swept = lock(&self.running.swept);
        let due = swept.get_or_insert(now).checked_add(interval)?;
        if due > now {
            return Some(due);
        }
        *swept = Some(now);
        drop(swept);
        let members = self.balancer.members();
        let hosts = members.iter().map(|member| &member.endpoint.record.host);
        let events = self.running.detector.sweep(hosts, now, random);
        let concerned = events.iter().filter_map(|swept| members.get(swept.index));
        let labels = concerned.map(|member| &*member.endpoint.record.label);
        self.balancer.refresh_named(labels);
        for Swept { index, event } in events {
            if let Some(member) = members.get(index) {
                self.tell(&event, &member.endpoint.record.label);
            }
        }
        now.checked_add(interval)
    }

    /// Replaces the encrypted connections that there are, behind their last requests.
    #[cfg(feature = "tls-core")]
    pub(crate) fn renew(&self) {
        let members = self.balancer.members();
        for member in members.iter().filter(|member| member.endpoint.secured()) {
            member.endpoint.connections.renew();
        }
        if let Some(on_demand) = &self.on_demand {
            on_demand.renew();
        }
    }

    /// Keeps no connection longer than a request needs it.
    pub(crate) fn retire(&self) {
        for member in self.balancer.members() {
            member.endpoint.connections.retire();
        }
        if let Some(on_demand) = &self.on_demand {
            on_demand.retire();
        }
    }

    /// Ends all connections with the requests that are under way; no new one is taken.
    pub(crate) fn close(&self) {
        self.running.checks.end();
        self.running.reports.end();
        for member in self.balancer.members() {
            member.endpoint.connections.close();
        }
        if let Some(on_demand) = &self.on_demand {
            on_demand.close();
        }
    }

    fn tell(&self, event: &Event, endpoint: &Arc<str>) {
        let cluster = &*self.model.name;
        let events = &self.running.events;
        let names = || (self.model.name.clone(), endpoint.clone());
        self.running.counters.detections.count(event);
        match event {
            Event::Ejected { cause, time } => {
                self.running
                    .counters
                    .ejections
                    .fetch_add(1, Ordering::Relaxed);
                events.tell(|| {
                    let (cluster, endpoint) = names();
                    let (cause, time) = (*cause, *time);
                    event::Event::Ejected {
                        cluster,
                        endpoint,
                        cause,
                        time,
                    }
                });
                tracing::info!(
                    cluster,
                    endpoint = &**endpoint,
                    ?cause,
                    ?time,
                    "endpoint ejected"
                );
            }
            Event::Readmitted => {
                self.running
                    .counters
                    .readmissions
                    .fetch_add(1, Ordering::Relaxed);
                events.tell(|| {
                    let (cluster, endpoint) = names();
                    event::Event::Readmitted { cluster, endpoint }
                });
                tracing::info!(cluster, endpoint = &**endpoint, "endpoint readmitted");
            }
            Event::Spared { cause, reason } => {
                tracing::debug!(
                    cluster,
                    endpoint = &**endpoint,
                    ?cause,
                    ?reason,
                    "failing endpoint spared"
                );
            }
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.model.name)
            .field("members", &self.balancer.len())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
