//! What is reported of a client's load (LRS, gRFC A27, A64 and A85), without IO.
//!
//! Endpoints count for themselves; a report is the difference to the one before, added up by
//! locality. An endpoint that has left is read until its last request has ended, so that nothing is
//! lost between two reports.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterStats, EndpointLoadMetricStats, UnnamedEndpointLoadMetricStats, UpstreamLocalityStats,
    cluster_stats::DroppedRequests,
};
use envoy_types::pb::envoy::service::load_stats::v3::LoadStatsResponse;
use tokio::time::Instant;

use crate::model::cluster::LoadMetric;
use crate::model::endpoint::Locality;
use crate::snapshot::{ClusterLoad, Record, Reported, Sum};
use crate::source::xds::proto::{self, core};

/// The name of the load metric with the milliseconds that calls took, from the call to the last byte of its
/// response. LRS has no field for it; a server that does not know the name adds it up unread.
const LATENCY: &str = "latency_ms";
/// How often is reported where the server says nothing sensible.
const USUAL: Duration = Duration::from_secs(10);
/// More often than this nobody needs it.
const SHORTEST: Duration = Duration::from_millis(100);
/// Protobuf's longest duration would never come.
const LONGEST: Duration = Duration::from_secs(3_600);

/// What a server wants to know, by its last response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Wanted {
    /// `None`: all clusters.
    clusters: Option<BTreeSet<Arc<str>>>,
    pub(crate) every: Duration,
}

impl Wanted {
    pub(crate) fn of(response: LoadStatsResponse) -> Self {
        let LoadStatsResponse {
            clusters,
            send_all_clusters,
            load_reporting_interval,
            report_endpoint_granularity: _,
        } = response;
        let every = load_reporting_interval.and_then(|interval| {
            let seconds = u64::try_from(interval.seconds).ok()?;
            let nanos = u32::try_from(interval.nanos).ok()?;
            Some(Duration::new(seconds, nanos.min(999_999_999)))
        });
        let names = || clusters.iter().map(|name| name.as_str().into()).collect();
        Self {
            clusters: (!send_all_clusters).then(names),
            every: every
                .filter(|every| !every.is_zero())
                .map_or(USUAL, |every| every.clamp(SHORTEST, LONGEST)),
        }
    }

    fn wants(&self, cluster: &Arc<str>) -> bool {
        let named = self.clusters.as_ref();
        named.is_none_or(|clusters| clusters.contains(cluster))
    }
}

/// What was reported before.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    clusters: BTreeMap<Arc<str>, Known>,
}

#[derive(Debug)]
struct Known {
    since: Instant,
    /// By the addresses of their records, which tell endpoints apart while the records are held.
    endpoints: HashMap<usize, Counted>,
    dropped: BTreeMap<Arc<str>, u64>,
    overflows: u64,
    reported: Reported,
}

#[derive(Debug)]
struct Counted {
    locality: Locality,
    record: Arc<Record>,
    issued: u64,
    failed: u64,
    succeeded: u64,
    timed: u64,
    micros: u64,
    /// Whether it was among the endpoints of the last report.
    present: bool,
}

#[derive(Default)]
struct Load {
    issued: u64,
    failed: u64,
    succeeded: u64,
    active: u64,
    timed: u64,
    micros: u64,
    /// What endpoints reported themselves, by metric.
    reported: BTreeMap<Box<str>, Sum>,
}

impl Reporter {
    /// Begins to count: what was before is not reported.
    pub(crate) fn begin(&mut self, loads: Vec<ClusterLoad>, now: Instant) {
        for load in loads {
            let known = self.known(&load, now);
            known.take(load);
        }
    }

    /// What has happened since the last report of each cluster that is wanted.
    pub(crate) fn report(
        &mut self,
        loads: Vec<ClusterLoad>,
        wanted: &Wanted,
        now: Instant,
    ) -> Vec<ClusterStats> {
        let names: BTreeSet<Arc<str>> = loads.iter().map(|load| load.name.clone()).collect();
        let mut all = Vec::new();
        for load in loads {
            if wanted.wants(&load.name) {
                let name = load.name.to_string();
                let service = load.service.as_ref().map(ToString::to_string);
                let known = self.known(&load, now);
                let mut stats = known.take(load);
                stats.cluster_name = name;
                stats.cluster_service_name = service.unwrap_or_default();
                stats.load_report_interval = Some(duration(now - known.since));
                known.since = now;
                all.push(stats);
            }
        }
        self.clusters.retain(|name, _| names.contains(name));
        all
    }

    fn known(&mut self, load: &ClusterLoad, now: Instant) -> &mut Known {
        self.clusters
            .entry(load.name.clone())
            .or_insert_with(|| Known {
                since: now,
                endpoints: HashMap::new(),
                dropped: BTreeMap::new(),
                overflows: 0,
                reported: Reported::default(),
            })
    }
}

impl Known {
    fn take(&mut self, load: ClusterLoad) -> ClusterStats {
        for counted in self.endpoints.values_mut() {
            counted.present = false;
        }
        for (locality, record) in load.endpoints {
            let entry = self.endpoints.entry(Arc::as_ptr(&record).addr());
            let counted = entry.or_insert_with(|| Counted {
                locality: locality.clone(),
                record,
                issued: 0,
                failed: 0,
                succeeded: 0,
                timed: 0,
                micros: 0,
                present: true,
            });
            counted.locality = locality;
            counted.present = true;
        }
        let mut sums: BTreeMap<Locality, Load> = BTreeMap::new();
        self.endpoints.retain(|_, counted| {
            let sum = sums.entry(counted.locality.clone()).or_default();
            let active = counted.add_to(sum);
            counted.present || active > 0
        });
        for (locality, metrics) in difference(&load.reported, &self.reported) {
            sums.entry(locality).or_default().reported = metrics;
        }
        self.reported = load.reported;
        let localities = sums.into_iter().filter(|(_, sum)| {
            let requests = sum.issued + sum.active + sum.timed + sum.failed;
            requests > 0 || !sum.reported.is_empty()
        });
        let mut total = load.overflows.saturating_sub(self.overflows);
        self.overflows = load.overflows;
        let mut dropped = Vec::new();
        for (category, count) in load.dropped {
            let before = self.dropped.insert(category.clone(), count);
            let count = count.saturating_sub(before.unwrap_or_default());
            total += count;
            if count > 0 {
                dropped.push(DroppedRequests {
                    category: category.to_string(),
                    dropped_count: count,
                });
            }
        }
        ClusterStats {
            upstream_locality_stats: localities.map(stats).collect(),
            // Those that a limit refused have no category (gRFC A32).
            total_dropped_requests: total,
            dropped_requests: dropped,
            ..ClusterStats::default()
        }
    }
}

impl Counted {
    /// Adds what is new, and returns how many requests are under way.
    fn add_to(&mut self, sum: &mut Load) -> u64 {
        let (issued, failed, active) = self.record.counts();
        // A request that failed may still be under way with its body, so what succeeded is never
        // counted back.
        let done = issued.saturating_sub(active).saturating_sub(failed);
        let succeeded = done.max(self.succeeded);
        sum.issued += issued.saturating_sub(self.issued);
        sum.failed += failed.saturating_sub(self.failed);
        sum.succeeded += succeeded - self.succeeded;
        sum.active += active;
        (self.issued, self.failed, self.succeeded) = (issued, failed, succeeded);
        let (timed, micros) = self.record.timed();
        sum.timed += timed.saturating_sub(self.timed);
        sum.micros += micros.saturating_sub(self.micros);
        (self.timed, self.micros) = (timed, micros);
        active
    }
}

fn stats((locality, sum): (Locality, Load)) -> UpstreamLocalityStats {
    let latency = (sum.timed > 0).then(|| EndpointLoadMetricStats {
        metric_name: LATENCY.to_owned(),
        num_requests_finished_with_metric: sum.timed,
        total_metric_value: sum.micros as f64 / 1_000.0,
    });
    let unnamed = |metric: &LoadMetric| {
        let sum = sum.reported.get(&*metric.to_string())?;
        Some(UnnamedEndpointLoadMetricStats {
            num_requests_finished_with_metric: sum.requests,
            total_metric_value: sum.total,
        })
    };
    // With the prefix that the control plane asked for them by (gRFC A85).
    let named = sum
        .reported
        .iter()
        .filter(|(name, _)| name.starts_with("named_metrics."));
    let named = named.map(|(name, sum)| EndpointLoadMetricStats {
        metric_name: name.to_string(),
        num_requests_finished_with_metric: sum.requests,
        total_metric_value: sum.total,
    });
    UpstreamLocalityStats {
        locality: Some(core::Locality {
            region: locality.region.into(),
            zone: locality.zone.into(),
            sub_zone: locality.sub_zone.into(),
        }),
        total_issued_requests: sum.issued,
        total_successful_requests: sum.succeeded,
        total_error_requests: sum.failed,
        total_requests_in_progress: sum.active,
        cpu_utilization: unnamed(&LoadMetric::Cpu),
        mem_utilization: unnamed(&LoadMetric::Memory),
        application_utilization: unnamed(&LoadMetric::Application),
        load_metric_stats: latency.into_iter().chain(named).collect(),
        ..UpstreamLocalityStats::default()
    }
}

/// What was reported since, without what nothing was reported of.
fn difference(after: &Reported, before: &Reported) -> Reported {
    let since = |(locality, metrics): (&Locality, &BTreeMap<Box<str>, Sum>)| {
        let before = before.get(locality);
        let metrics = metrics.iter().filter_map(|(name, sum)| {
            let was = before
                .and_then(|before| before.get(name))
                .copied()
                .unwrap_or_default();
            let requests = sum.requests.saturating_sub(was.requests);
            let total = sum.total - was.total;
            (requests > 0).then(|| (name.clone(), Sum { requests, total }))
        });
        let metrics: BTreeMap<_, _> = metrics.collect();
        (!metrics.is_empty()).then(|| (locality.clone(), metrics))
    };
    after.iter().filter_map(since).collect()
}

fn duration(value: Duration) -> proto::Duration {
    proto::Duration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        // Less than a thousand million.
        nanos: value.subsec_nanos().cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    fn load(endpoints: &[(&str, &Arc<Record>)], dropped: u64) -> Vec<ClusterLoad> {
        let endpoints = endpoints.iter().map(|(region, record)| {
            let locality = Locality {
                region: (*region).into(),
                ..Locality::default()
            };
            (locality, Arc::clone(record))
        });
        vec![ClusterLoad {
            name: "c".into(),
            service: Some("s".into()),
            endpoints: endpoints.collect(),
            dropped: vec![("lb".into(), dropped)],
            overflows: 2,
            reported: Reported::default(),
        }]
    }

    fn all() -> Wanted {
        Wanted::of(LoadStatsResponse {
            send_all_clusters: true,
            ..LoadStatsResponse::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_is_the_difference_to_the_one_before_and_loses_nobody_who_left() {
        let record = |port| Arc::new(Record::new(&SocketAddr::from(([10, 0, 0, 1], port)).into()));
        let (here, there) = (record(1), record(2));
        let mut reporter = Reporter::default();
        here.requests.store(100, Relaxed);
        reporter.begin(load(&[("a", &here), ("b", &there)], 5), Instant::now());
        tokio::time::advance(Duration::from_secs(7)).await;
        here.requests.store(110, Relaxed);
        here.failures.store(3, Relaxed);
        here.active.store(2, Relaxed);
        here.timed.store(4, Relaxed);
        here.micros.store(6_500, Relaxed);
        let loads = load(&[("a", &here), ("b", &there)], 6);
        let first = reporter.report(loads, &all(), Instant::now()).remove(0);
        assert_eq!(first.cluster_service_name, "s");
        assert_eq!(first.load_report_interval.unwrap().seconds, 7);
        assert_eq!(first.total_dropped_requests, 1);
        assert_eq!(first.dropped_requests[0].dropped_count, 1);
        let [one] = first.upstream_locality_stats.as_slice() else {
            panic!("one locality had requests: {first:?}")
        };
        assert_eq!(one.total_issued_requests, 10);
        assert_eq!(one.total_error_requests, 3);
        assert_eq!(one.total_successful_requests, 5);
        assert_eq!(one.total_requests_in_progress, 2);
        let [latency] = &one.load_metric_stats[..] else {
            panic!("one metric: {one:?}")
        };
        assert_eq!(latency.metric_name, LATENCY);
        assert_eq!(latency.num_requests_finished_with_metric, 4);
        assert_eq!(latency.total_metric_value, 6.5);
        // It leaves, and its last requests end.
        here.active.store(0, Relaxed);
        let loads = load(&[("b", &there)], 6);
        let second = reporter.report(loads, &all(), Instant::now()).remove(0);
        assert_eq!(second.total_dropped_requests, 0);
        assert!(second.upstream_locality_stats.is_empty(), "{second:?}");
        drop(here);
        assert_eq!(reporter.clusters["c"].endpoints.len(), 1);
    }

    #[test]
    fn a_server_names_the_clusters_and_the_time() {
        let interval = |seconds| Some(proto::Duration { seconds, nanos: 0 });
        let named = Wanted::of(LoadStatsResponse {
            clusters: vec!["c".into()],
            load_reporting_interval: interval(3),
            ..LoadStatsResponse::default()
        });
        assert!(named.wants(&"c".into()) && !named.wants(&"d".into()));
        assert_eq!(named.every, Duration::from_secs(3));
        for (seconds, every) in [(-1, USUAL), (0, USUAL), (i64::MAX, LONGEST)] {
            let wanted = Wanted::of(LoadStatsResponse {
                load_reporting_interval: interval(seconds),
                ..LoadStatsResponse::default()
            });
            assert_eq!(wanted.every, every);
        }
    }
}
