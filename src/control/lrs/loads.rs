//! What is added up, and how much of it is kept.
//!
//! A client can name as many clusters and places as it likes, with names as long as a message, and can
//! invent others in each report. So there is a number of entries, and a length of names; what is beyond
//! either is counted with the others. Entries that nobody has reported for long make room for those that come:
//! else names that were invented once would be all that is counted until a restart.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use envoy_types::pb::envoy::config::endpoint::v3::ClusterStats;
use tokio::time::Instant;

use crate::control::lock::lock;

/// Clusters and localities that are counted apart.
const ENTRIES: usize = 10_000;
/// The most bytes of a name that is counted apart. Those of Istio's clusters have 400 at most.
const NAME: usize = 512;
/// Under which the others are counted.
const OTHERS: &str = "(others)";
/// After how long an entry that nobody reports makes room for another one.
const STALE: Duration = Duration::from_secs(600);
/// How often it is looked for entries that make room, however many names come that find none.
const SWEEP: Duration = Duration::from_secs(1);

/// What clients reported of one cluster in one locality since the server began. What nobody has reported for ten
/// minutes makes room for others if there are too many, and counts from zero when it is reported again.
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

/// By two names, so many and so long at most.
#[derive(Debug)]
struct Entries<V> {
    by_name: BTreeMap<(String, String), V>,
    /// The second name of the entry of all others.
    others: &'static str,
    /// When it was last looked for those that make room.
    swept: Option<Instant>,
}

impl<V: Default> Entries<V> {
    fn new(others: &'static str) -> Self {
        Self {
            by_name: BTreeMap::new(),
            others,
            swept: None,
        }
    }

    /// The entry of these names, or the one of all others. Entries that `stays` says no of make room.
    fn entry(
        &mut self,
        (one, other): (&str, &str),
        now: Instant,
        stays: impl Fn(&mut V) -> bool,
    ) -> &mut V {
        let key = match one.len().max(other.len()) {
            long if long > NAME => self.others(),
            _ => (one.to_owned(), other.to_owned()),
        };
        if self.by_name.contains_key(&key) || self.has_room(now, stays) {
            return self.by_name.entry(key).or_default();
        }
        self.by_name.entry(self.others()).or_default()
    }

    fn others(&self) -> (String, String) {
        (OTHERS.into(), self.others.into())
    }

    fn has_room(&mut self, now: Instant, stays: impl Fn(&mut V) -> bool) -> bool {
        if self.by_name.len() < ENTRIES {
            return true;
        }
        let lately = |at: Instant| now.duration_since(at) < SWEEP;
        if !self.swept.is_some_and(lately) {
            self.swept = Some(now);
            let others = self.others();
            self.by_name
                .retain(|key, value| *key == others || stays(value));
        }
        self.by_name.len() < ENTRIES
    }
}

/// A sum since the entry was made, and when something was last added to it.
#[derive(Clone, Copy, Debug, Default)]
struct Total {
    load: Load,
    last: Option<Instant>,
}

/// The loads of all clusters.
#[derive(Debug)]
pub(in crate::control) struct Loads {
    // Held for the sums of one report. By cluster and locality.
    totals: Mutex<Entries<Total>>,
    // By caller and cluster; the same.
    recent: Mutex<Entries<Seconds>>,
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
pub(in crate::control) struct Recent {
    issued: u64,
    succeeded: u64,
    failed: u64,
    /// Milliseconds, and of how many requests.
    latency: (f64, u64),
    /// How many seconds they are of.
    seconds: f64,
}

impl Recent {
    pub(in crate::control) fn finished(&self) -> u64 {
        self.succeeded.saturating_add(self.failed)
    }

    /// Requests per second.
    pub(in crate::control) fn rate(&self) -> f64 {
        let seconds = if self.seconds > 0.0 {
            self.seconds
        } else {
            1.0
        };
        self.issued as f64 / seconds
    }

    /// The share of those that have ended well, of those that have ended; 1 where none has.
    pub(in crate::control) fn success(&self) -> f64 {
        match self.finished() {
            0 => 1.0,
            finished => self.succeeded as f64 / finished as f64,
        }
    }

    /// The mean, where clients report it.
    pub(in crate::control) fn latency_ms(&self) -> Option<f64> {
        let (total, count) = self.latency;
        (count > 0).then(|| total / count as f64)
    }

    /// Takes in what others reported at the same time.
    pub(in crate::control) fn add(&mut self, other: &Self) {
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

impl Default for Loads {
    fn default() -> Self {
        Self {
            totals: Mutex::new(Entries::new("")),
            recent: Mutex::new(Entries::new(OTHERS)),
        }
    }
}

impl Loads {
    fn add(&self, stats: &ClusterStats, now: Instant) {
        let name = cluster(stats);
        let mut totals = lock(&self.totals);
        let mut load = |place: &str, add: &dyn Fn(&mut Load)| {
            let reported = |total: &mut Total| {
                let ago = total.last.map(|last| now.duration_since(last));
                ago.is_some_and(|ago| ago < STALE)
            };
            let total = totals.entry((name, place), now, reported);
            total.last = Some(now);
            add(&mut total.load);
        };
        if stats.total_dropped_requests > 0 {
            let dropped = stats.total_dropped_requests;
            load("", &|load| {
                load.dropped = load.dropped.saturating_add(dropped)
            });
        }
        for locality in &stats.upstream_locality_stats {
            let place = locality.locality.as_ref();
            let place = place.map_or_else(String::new, |place| {
                format!("{}/{}/{}", place.region, place.zone, place.sub_zone)
            });
            load(place.trim_end_matches('/'), &|load| {
                load.issued = load.issued.saturating_add(locality.total_issued_requests);
                let succeeded = locality.total_successful_requests;
                load.succeeded = load.succeeded.saturating_add(succeeded);
                load.failed = load.failed.saturating_add(locality.total_error_requests);
            });
        }
    }

    /// Takes in what a caller reports of a cluster.
    pub(in crate::control) fn report(&self, caller: &str, stats: &ClusterStats) {
        let now = Instant::now();
        self.add(stats, now);
        let took = stats.load_report_interval.as_ref().map(|interval| {
            let seconds = u64::try_from(interval.seconds).unwrap_or_default();
            Duration::from_secs(seconds.min(WINDOW.as_secs()))
        });
        let mut recent = lock(&self.recent);
        let spoken_of = |seconds: &mut Seconds| {
            seconds.forget(now);
            seconds.since.is_some()
        };
        let seconds = recent.entry((caller, cluster(stats)), now, spoken_of);
        seconds.add(now, took.unwrap_or_default(), &Recent::of(stats));
    }

    /// What was reported in the last half minute, by caller and cluster.
    pub(in crate::control) fn recent(&self) -> BTreeMap<(String, String), Recent> {
        let now = Instant::now();
        let mut recent = lock(&self.recent);
        recent.by_name.retain(|_, seconds| {
            seconds.forget(now);
            seconds.since.is_some()
        });
        let all = recent.by_name.iter();
        all.filter_map(|(key, seconds)| Some((key.clone(), seconds.sum(now)?)))
            .collect()
    }

    /// By cluster and locality (`region/zone/sub-zone`).
    pub(in crate::control) fn all(&self) -> BTreeMap<(String, String), Load> {
        let totals = lock(&self.totals);
        let all = totals.by_name.iter();
        all.map(|(key, total)| (key.clone(), total.load)).collect()
    }
}

/// What a report is about.
fn cluster(stats: &ClusterStats) -> &str {
    match stats.cluster_service_name.as_str() {
        "" => &stats.cluster_name,
        service => service,
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::Locality;
    use envoy_types::pb::envoy::config::endpoint::v3::UpstreamLocalityStats;

    use super::*;

    fn others() -> (String, String) {
        (OTHERS.into(), String::new())
    }

    fn stats(cluster: &str, region: &str, issued: u64) -> ClusterStats {
        ClusterStats {
            cluster_name: cluster.into(),
            total_dropped_requests: 1,
            upstream_locality_stats: vec![UpstreamLocalityStats {
                locality: Some(Locality {
                    region: region.into(),
                    ..Locality::default()
                }),
                total_issued_requests: issued,
                total_successful_requests: issued,
                ..UpstreamLocalityStats::default()
            }],
            ..ClusterStats::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reports_are_added_up_and_bounded() {
        let loads = Loads::default();
        loads.report("x", &stats("a", "r", 3));
        loads.report("x", &stats("a", "r", u64::MAX));
        let all = loads.all();
        assert_eq!(
            all[&("a".into(), "r".into())].issued,
            u64::MAX,
            "no overflow"
        );
        assert_eq!(all[&("a".into(), String::new())].dropped, 2);
        for at in 0..20_000 {
            loads.report("x", &stats(&format!("invented-{at}"), "r", 1));
        }
        let all = loads.all();
        assert!(all.len() <= ENTRIES + 1);
        assert!(all[&others()].issued > 10_000);
        assert!(loads.recent().len() <= ENTRIES + 1);
    }

    /// The bytes of all names that are kept.
    fn bytes<V>(of: &BTreeMap<(String, String), V>) -> usize {
        of.keys().map(|(one, other)| one.len() + other.len()).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn long_names_are_counted_together_wherever_they_stand() {
        let loads = Loads::default();
        for at in 0..100 {
            let long = at.to_string().repeat(1_000_000);
            loads.report("x", &stats(&long, "r", 1));
            loads.report("x", &stats("a", &long, 1));
            loads.report(&long, &stats("a", "r", 1));
        }
        let all = loads.all();
        assert!(bytes(&all) < 100 && bytes(&loads.recent()) < 100);
        assert_eq!(all[&others()].issued, 200);
        assert_eq!(all[&("a".into(), "r".into())].issued, 100);
    }

    /// Invented names are all that there is room for until they are ten minutes old, and no longer.
    #[tokio::test(start_paused = true)]
    async fn names_that_nobody_reports_any_more_make_room() {
        let loads = Loads::default();
        for at in 0..ENTRIES {
            loads.report("x", &stats(&format!("invented-{at}"), "", 1));
        }
        loads.report("x", &stats("late", "", 1));
        assert!(!loads.all().contains_key(&("late".into(), String::new())));
        tokio::time::advance(STALE / 2).await;
        loads.report("x", &stats("invented-7", "", 1));
        tokio::time::advance(STALE / 2).await;
        loads.report("x", &stats("late", "", 1));
        let all = loads.all();
        let of = |name: &str| {
            all.get(&(name.into(), String::new()))
                .map(|load| load.issued)
        };
        assert_eq!(
            (of("late"), of("invented-7"), of("invented-8")),
            (Some(1), Some(2), None)
        );
        assert_eq!(
            of(OTHERS),
            Some(1),
            "those are never taken for one that left"
        );
        assert!(loads.recent().contains_key(&("x".into(), "late".into())));
    }
}
