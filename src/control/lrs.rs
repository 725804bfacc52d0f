//! Load reports: clients tell how many requests went where.
//!
//! The server asks for all clusters every ten seconds and adds up what it is told, per cluster and
//! locality, so that an operator sees the mesh's load without a metrics system. A client can name
//! as many clusters as it likes; beyond a bound they are counted together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use envoy_types::pb::envoy::config::endpoint::v3::ClusterStats;
use envoy_types::pb::envoy::service::load_stats::v3 as pb;
use envoy_types::pb::google::protobuf::Duration;
use pb::load_reporting_service_server::LoadReportingService;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::house::House;

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

    /// By cluster and locality (`region/zone/sub-zone`).
    pub(super) fn all(&self) -> BTreeMap<(String, String), Load> {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
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
        // One answer to the first report, and none to the others: it says what is wanted.
        let answers = request.into_inner().filter_map(move |report| {
            let report = match report {
                Ok(report) => report,
                Err(status) => return Some(Err(status)),
            };
            report
                .cluster_stats
                .iter()
                .for_each(|stats| house.loads.add(stats));
            (!std::mem::replace(&mut asked, true)).then(|| {
                Ok(pb::LoadStatsResponse {
                    send_all_clusters: true,
                    load_reporting_interval: Some(Duration {
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
