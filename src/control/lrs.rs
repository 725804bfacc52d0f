//! Load reports: clients tell how many requests went where.
//!
//! The server asks for all clusters every ten seconds and adds up what it is told, per cluster and
//! locality, so that an operator sees the mesh's load without a metrics system. A client can name
//! as many clusters as it likes; beyond a bound they are counted together.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use envoy_types::pb::envoy::config::endpoint::v3::ClusterStats;
use envoy_types::pb::envoy::service::load_stats::v3 as pb;
use envoy_types::pb::google::protobuf::Duration as WireDuration;
use pb::load_reporting_service_server::LoadReportingService;
use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::house::House;
use super::limits::beginning;
use super::node::Node;

/// How often clients report, in seconds.
const INTERVAL: i64 = 10;
/// Clusters and localities that are counted apart.
const ENTRIES: usize = 10_000;
/// Under which the others are counted.
const OTHERS: &str = "(others)";

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Lrs(pub(super) Arc<House>);

/// What clients reported of one cluster in one locality since the server began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Load {
    /// Requests that were sent.
    pub issued: u64,
    /// Requests that succeeded.
    pub succeeded: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that were dropped before an endpoint was chosen; counted in no locality.
    pub dropped: u64,
}

/// The loads of all clusters.
#[derive(Debug, Default)]
pub(super) struct Loads {
    // Held for the sums of one report.
    entries: Mutex<BTreeMap<(String, String), Load>>,
    // By caller and cluster; the same.
    recent: Mutex<BTreeMap<(String, String), Seconds>>,
}

/// How far back "now" reaches: three reports.
const WINDOW: Duration = Duration::from_secs(30);

/// The name of a load metric with the milliseconds that requests took.
const LATENCY: &str = "latency_ms";

/// What was reported in the last seconds.
#[derive(Debug, Default)]
struct Seconds {
    /// Since when there are reports.
    since: Option<Instant>,
    /// Sums, each of the reports of one second.
    sums: VecDeque<(Instant, Recent)>,
}

/// Sums of the last seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent {
    issued: u64,
    succeeded: u64,
    failed: u64,
    /// Milliseconds, and of how many requests.
    latency: (f64, u64),
    /// How many seconds they are of.
    seconds: f64,
}

impl Recent {
    pub(super) fn finished(&self) -> u64 {
        self.succeeded.saturating_add(self.failed)
    }

    /// Requests per second.
    pub(super) fn rate(&self) -> f64 {
        let seconds = if self.seconds > 0.0 {
            self.seconds
        } else {
            1.0
        };
        self.issued as f64 / seconds
    }

    /// The share of those that have ended well, of those that have ended; 1 where none has.
    pub(super) fn success(&self) -> f64 {
        match self.finished() {
            0 => 1.0,
            finished => self.succeeded as f64 / finished as f64,
        }
    }

    /// The mean, where clients report it.
    pub(super) fn latency_ms(&self) -> Option<f64> {
        let (total, count) = self.latency;
        (count > 0).then(|| total / count as f64)
    }

    /// Takes in what others reported at the same time.
    pub(super) fn add(&mut self, other: &Self) {
        self.issued = self.issued.saturating_add(other.issued);
        self.succeeded = self.succeeded.saturating_add(other.succeeded);
        self.failed = self.failed.saturating_add(other.failed);
        self.latency.0 += other.latency.0;
        self.latency.1 = self.latency.1.saturating_add(other.latency.1);
        self.seconds = self.seconds.max(other.seconds);
    }

    fn of(stats: &ClusterStats) -> Self {
        let mut recent = Self::default();
        for locality in &stats.upstream_locality_stats {
            let one = Self {
                issued: locality.total_issued_requests,
                succeeded: locality.total_successful_requests,
                failed: locality.total_error_requests,
                ..Self::default()
            };
            recent.add(&one);
            let named = locality.load_metric_stats.iter();
            for metric in named.filter(|metric| metric.metric_name == LATENCY) {
                let total = metric.total_metric_value;
                if total.is_finite() && total >= 0.0 {
                    recent.latency.0 += total;
                    let count = metric.num_requests_finished_with_metric;
                    recent.latency.1 = recent.latency.1.saturating_add(count);
                }
            }
        }
        recent
    }
}

impl Seconds {
    fn add(&mut self, now: Instant, took: Duration, one: &Recent) {
        let began = now.checked_sub(took).unwrap_or(now);
        self.since.get_or_insert(began);
        match self.sums.back_mut() {
            Some((at, sum)) if now.duration_since(*at).as_secs() == 0 => sum.add(one),
            Some(_) | None => self.sums.push_back((now, *one)),
        }
        self.forget(now);
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, _)) = self.sums.front()
            && now.duration_since(*at) >= WINDOW
        {
            self.sums.pop_front();
        }
        if self.sums.is_empty() {
            self.since = None;
        }
    }

    /// `None`: nothing was reported of late.
    fn sum(&self, now: Instant) -> Option<Recent> {
        let covered = now.duration_since(self.since?).min(WINDOW);
        let mut sum = Recent::default();
        self.sums.iter().for_each(|(_, one)| sum.add(one));
        sum.seconds = covered.as_secs_f64();
        Some(sum)
    }
}

impl Loads {
    pub(super) fn add(&self, stats: &ClusterStats) {
        let name = match stats.cluster_service_name.as_str() {
            "" => &stats.cluster_name,
            service => service,
        };
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if stats.total_dropped_requests > 0 {
            let load = entry(&mut entries, name, "");
            load.dropped = load.dropped.saturating_add(stats.total_dropped_requests);
        }
        for locality in &stats.upstream_locality_stats {
            let place = locality
                .locality
                .as_ref()
                .map_or_else(String::new, |place| {
                    format!("{}/{}/{}", place.region, place.zone, place.sub_zone)
                });
            let load = entry(&mut entries, name, place.trim_end_matches('/'));
            load.issued = load.issued.saturating_add(locality.total_issued_requests);
            load.succeeded = load
                .succeeded
                .saturating_add(locality.total_successful_requests);
            load.failed = load.failed.saturating_add(locality.total_error_requests);
        }
    }

    /// Takes in what a caller reports of a cluster.
    pub(super) fn report(&self, caller: &str, stats: &ClusterStats) {
        self.add(stats);
        let name = match stats.cluster_service_name.as_str() {
            "" => &stats.cluster_name,
            service => service,
        };
        let took = stats.load_report_interval.as_ref().map(|interval| {
            let seconds = u64::try_from(interval.seconds).unwrap_or_default();
            Duration::from_secs(seconds.min(WINDOW.as_secs()))
        });
        let now = Instant::now();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (caller.to_owned(), name.to_owned());
        if recent.len() >= ENTRIES && !recent.contains_key(&key) {
            // Those that nobody speaks of any more make room.
            recent.retain(|_, seconds| {
                seconds.forget(now);
                seconds.since.is_some()
            });
        }
        let known = recent.len() < ENTRIES || recent.contains_key(&key);
        let key = if known {
            key
        } else {
            (OTHERS.into(), OTHERS.into())
        };
        let seconds = recent.entry(key).or_default();
        seconds.add(now, took.unwrap_or_default(), &Recent::of(stats));
    }

    /// What was reported in the last half minute, by caller and cluster.
    pub(super) fn recent(&self) -> BTreeMap<(String, String), Recent> {
        let now = Instant::now();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|_, seconds| {
            seconds.forget(now);
            seconds.since.is_some()
        });
        let all = recent.iter();
        all.filter_map(|(key, seconds)| Some((key.clone(), seconds.sum(now)?)))
            .collect()
    }

    /// By cluster and locality (`region/zone/sub-zone`).
    pub(super) fn all(&self) -> BTreeMap<(String, String), Load> {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What a caller is called: as its service is, if its labels say it.
fn name(node: envoy_types::pb::envoy::config::core::v3::Node) -> String {
    let id = node.id.clone();
    let Ok(node) = Node::read(node, None) else {
        return id;
    };
    let workload = node.workload();
    let labels = workload.labels();
    let names = [
        "service.istio.io/canonical-name",
        "app.kubernetes.io/name",
        "app",
    ];
    let app = names.iter().find_map(|name| labels.get(*name));
    let account = Some(workload.service_account()).filter(|account| !account.is_empty());
    match app.map(String::as_str).or(account) {
        Some(name) => format!("{name}.{}", workload.namespace()),
        None => beginning(&id, 100).to_owned(),
    }
}

fn entry<'a>(
    entries: &'a mut BTreeMap<(String, String), Load>,
    cluster: &str,
    place: &str,
) -> &'a mut Load {
    let key = (cluster.to_owned(), place.to_owned());
    let known = entries.len() < ENTRIES || entries.contains_key(&key);
    entries
        .entry(if known {
            key
        } else {
            (OTHERS.into(), String::new())
        })
        .or_default()
}

#[async_trait]
impl LoadReportingService for Lrs {
    type StreamLoadStatsStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<pb::LoadStatsResponse, Status>> + Send>>;

    async fn stream_load_stats(
        &self,
        request: Request<Streaming<pb::LoadStatsRequest>>,
    ) -> Result<Response<Self::StreamLoadStatsStream>, Status> {
        let house = self.0.clone();
        let mut asked = false;
        let mut caller = String::from("unknown");
        // One answer to the first report, and none to the others: it says what is wanted.
        let answers = request.into_inner().filter_map(move |report| {
            let report = match report {
                Ok(report) => report,
                Err(status) => return Some(Err(status)),
            };
            // The first report says who it is of, the others need not.
            if let Some(node) = report.node {
                caller = name(node);
            }
            report
                .cluster_stats
                .iter()
                .for_each(|stats| house.loads.report(&caller, stats));
            (!std::mem::replace(&mut asked, true)).then(|| {
                Ok(pb::LoadStatsResponse {
                    send_all_clusters: true,
                    load_reporting_interval: Some(WireDuration {
                        seconds: INTERVAL,
                        nanos: 0,
                    }),
                    ..pb::LoadStatsResponse::default()
                })
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::Locality;
    use envoy_types::pb::envoy::config::endpoint::v3::UpstreamLocalityStats;

    use super::*;

    #[test]
    fn reports_are_added_up_and_bounded() {
        let loads = Loads::default();
        let stats = |cluster: &str, issued: u64| ClusterStats {
            cluster_name: cluster.into(),
            total_dropped_requests: 1,
            upstream_locality_stats: vec![UpstreamLocalityStats {
                locality: Some(Locality {
                    region: "r".into(),
                    ..Locality::default()
                }),
                total_issued_requests: issued,
                total_successful_requests: issued,
                ..UpstreamLocalityStats::default()
            }],
            ..ClusterStats::default()
        };
        loads.add(&stats("a", 3));
        loads.add(&stats("a", u64::MAX));
        let all = loads.all();
        assert_eq!(
            all[&("a".into(), "r".into())].issued,
            u64::MAX,
            "no overflow"
        );
        assert_eq!(all[&("a".into(), String::new())].dropped, 2);
        for at in 0..20_000 {
            loads.add(&stats(&format!("invented-{at}"), 1));
        }
        let all = loads.all();
        assert!(all.len() <= ENTRIES + 1);
        assert!(all[&(OTHERS.into(), String::new())].issued > 10_000);
    }
}
