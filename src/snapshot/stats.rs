//! What a running mesh has counted, as plain numbers.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Cluster, ConnectionStats, DetectionStats, Member, RouteStats, Snapshot};
use crate::layer::health::Health;

/// Counters and gauges of a mesh at one moment.
///
/// Counters grow from the start of the mesh and survive edits that do not remove their cluster.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// The configuration in force, counted from 1.
    pub generation: u64,
    /// Bytes of request bodies that are kept now for retries.
    pub buffered_bytes: usize,
    /// Requests that arrived at the door.
    pub inbound: InboundStats,
    /// One for each cluster, by name.
    pub clusters: Vec<ClusterStats>,
    /// One for each prefix of statistics that routes have, by prefix.
    pub routes: Vec<RouteStats>,
}

/// Counters of the door for inbound requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct InboundStats {
    /// Requests that were judged.
    pub requests: u64,
    /// Requests that could be read in two ways, answered with 400.
    pub ambiguous: u64,
    /// Requests with a token that is not valid, answered with 401.
    pub unauthenticated: u64,
    /// Requests that policies or authorizers denied.
    pub denied: u64,
    /// Requests that may come in and were one too many for a limit.
    pub limited: u64,
    /// Requests that a port of the mesh's own refused because as many were under way as it takes.
    pub overloaded: u64,
    /// Requests under way that a new policy denied.
    pub cut: u64,
    /// Requests that an audit policy matched.
    pub audited: u64,
    /// Decisions of dry-run policies that would have denied.
    pub dry_run_denied: u64,
}

#[cfg(feature = "inbound")]
impl InboundStats {
    /// Those of requests that were refused, by the word for what.
    pub(crate) fn refused(&self) -> [(&'static str, u64); 5] {
        [
            ("ambiguous", self.ambiguous),
            ("denied", self.denied),
            ("limited", self.limited),
            ("overloaded", self.overloaded),
            ("unauthenticated", self.unauthenticated),
        ]
    }

    /// The others, by name.
    pub(crate) fn told(&self) -> [(&'static str, &'static str, u64); 4] {
        [
            ("requests", "Requests that were judged.", self.requests),
            (
                "cut",
                "Requests under way that a new policy denied.",
                self.cut,
            ),
            (
                "audited",
                "Requests that an audit policy matched.",
                self.audited,
            ),
            (
                "dry_run_denied",
                "Decisions of dry-run policies that would have denied.",
                self.dry_run_denied,
            ),
        ]
    }
}

/// The same, as they are counted.
#[derive(Debug, Default)]
pub(crate) struct InboundCounts {
    requests: AtomicU64,
    ambiguous: AtomicU64,
    unauthenticated: AtomicU64,
    denied: AtomicU64,
    limited: AtomicU64,
    overloaded: AtomicU64,
    cut: AtomicU64,
    audited: AtomicU64,
    dry_run_denied: AtomicU64,
    /// Whether the ports that a control plane configures serve. Locked when that changes.
    ports: Mutex<BTreeMap<SocketAddr, bool>>,
}

#[cfg_attr(
    not(feature = "inbound"),
    allow(dead_code, reason = "only who listens has ports")
)]
impl InboundCounts {
    /// Takes down whether a port serves; `None`: it is gone.
    pub(crate) fn port(&self, address: SocketAddr, serves: Option<bool>) {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        match serves {
            Some(serves) => drop(ports.insert(address, serves)),
            None => drop(ports.remove(&address)),
        }
    }

    /// The ports, and whether they serve.
    pub(crate) fn ports(&self) -> BTreeMap<SocketAddr, bool> {
        let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.clone()
    }
}

/// One counting method per counter: who counts names what.
macro_rules! counting {
    ($($name:ident => $field:ident;)*) => {
        #[cfg_attr(
            not(feature = "jwt"),
            allow(dead_code, reason = "who counts needs the features")
        )]
        impl InboundCounts {
            $(pub(crate) fn $name(&self) {
                self.$field.fetch_add(1, Ordering::Relaxed);
            })*

            pub(crate) fn stats(&self) -> InboundStats {
                let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                InboundStats { $($field: read(&self.$field),)* }
            }
        }
    };
}

counting! {
    request => requests;
    ambiguous => ambiguous;
    unauthenticated => unauthenticated;
    denied => denied;
    limited => limited;
    overloaded => overloaded;
    cut => cut;
    audited => audited;
    dry_run_denied => dry_run_denied;
}

/// Counters and gauges of one cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ClusterStats {
    /// The cluster's name.
    pub name: Arc<str>,
    /// Requests that were sent to it.
    pub requests: u64,
    /// Requests whose last answer was an error of this side or a 5xx.
    pub failures: u64,
    /// Tries, including first ones.
    pub attempts: u64,
    /// Tries after the first one.
    pub retries: u64,
    /// Retries that the budget or a limit denied.
    pub retries_denied: u64,
    /// Tries that were begun while an earlier one was under way; they count as retries too.
    pub hedges: u64,
    /// Requests that a limit refused.
    pub overflows: u64,
    /// Requests that were dropped because the control plane wants a share of them dropped.
    pub dropped: u64,
    /// Copies of other clusters' requests that were sent to it; they count as its requests too.
    pub mirrored: u64,
    /// Copies that were not sent: too many under way, a body over the bounds, or a limit of the
    /// cluster.
    pub mirrors_dropped: u64,
    /// Endpoints that were ejected.
    pub ejections: u64,
    /// Endpoints that came back.
    pub readmissions: u64,
    /// Endpoints that were found failing, by the rule that found them.
    pub detections: DetectionStats,
    /// Active health checks that have ended.
    pub checks: u64,
    /// Those among them that did not pass.
    pub checks_failed: u64,
    /// How many retries the mesh's budget has left, also where another rule limits them.
    pub retry_budget: u32,
    /// Requests in flight now.
    pub active_requests: u32,
    /// Connections now, those being dialled included.
    pub connections: u32,
    /// What became of its connections.
    pub turns: ConnectionStats,
    /// Requests that wait for a connection now.
    pub pending: u32,
    /// Its endpoints, in the order of the registry.
    pub endpoints: Vec<EndpointStats>,
}

/// Counters and gauges of one endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Its address.
    pub address: Arc<str>,
    /// Tries that went to it.
    pub requests: u64,
    /// Tries that failed: no answer, or a 5xx.
    pub failures: u64,
    /// Requests in flight now.
    pub active_requests: u32,
    /// Connections now.
    pub connections: usize,
    /// Requests whose answer was read to its end, as far as they were timed: not without
    /// [metrics](crate::Builder::metrics).
    pub timed: u64,
    /// How long they took, all together.
    pub time: Duration,
    /// Whether it is ejected now.
    pub ejected: bool,
    /// What active checks say; `None`: it is not checked, or no check has ended yet.
    pub checked: Option<Health>,
}

impl Snapshot {
    /// What has been counted up to now.
    pub(crate) fn stats(
        &self,
        buffered_bytes: usize,
        inbound: InboundStats,
        routes: Vec<RouteStats>,
    ) -> Stats {
        let mut clusters: Vec<_> = self.clusters().map(|cluster| cluster.stats()).collect();
        clusters.sort_by(|one, other| one.name.cmp(&other.name));
        Stats {
            generation: self.generation(),
            buffered_bytes,
            routes,
            inbound,
            clusters,
        }
    }
}

impl Cluster {
    /// The members in the order of the registry: O(members x log members).
    pub(crate) fn members_in_order(&self) -> Vec<Arc<Member>> {
        let endpoints = self.endpoints.load();
        let localities = endpoints.iter().flat_map(|all| &all.localities);
        let addresses = localities
            .flat_map(|one| &one.endpoints)
            .map(|one| &one.address);
        let places: HashMap<_, usize> = addresses.zip(0..).collect();
        let mut members = self.balancer.members();
        members.sort_by_key(|member| places.get(member.endpoint.address()).copied());
        members
    }

    fn stats(&self) -> ClusterStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.running.counters;
        let limits = &self.running.limits;
        let (checks, checks_failed) = self.running.checks.counted();
        let members = self.members_in_order();
        let endpoints = members.iter().map(|member| {
            let record = &member.endpoint.record;
            let (timed, micros) = record.timed();
            EndpointStats {
                address: record.label.clone(),
                requests: read(&record.requests),
                failures: read(&record.failures),
                active_requests: record.active.load(Ordering::Relaxed),
                connections: member.endpoint.connections.stats().connections,
                timed,
                time: Duration::from_micros(micros),
                ejected: !record.host.admitted(),
                checked: record.checked.health(),
            }
        });
        ClusterStats {
            name: self.name().clone(),
            requests: read(&counters.requests),
            failures: read(&counters.failures),
            attempts: read(&counters.attempts),
            retries: read(&counters.retries),
            retries_denied: read(&counters.retries_denied),
            hedges: read(&counters.hedges),
            overflows: read(&counters.overflows),
            dropped: self.overloads.counts().iter().map(|(_, count)| count).sum(),
            mirrored: read(&counters.mirrored),
            mirrors_dropped: read(&counters.mirrors_dropped),
            ejections: read(&counters.ejections),
            readmissions: read(&counters.readmissions),
            detections: counters.detections.read(),
            checks,
            checks_failed,
            retry_budget: self.quota.budget_remaining(),
            active_requests: limits.active_requests(),
            connections: limits.connections(),
            turns: counters.turns.read(),
            pending: limits.pending_requests(),
            endpoints: endpoints.collect(),
        }
    }
}
