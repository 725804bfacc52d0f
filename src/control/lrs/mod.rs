//! Load reports: clients tell how many requests went where.
//!
//! The server asks for all clusters every ten seconds and [adds up](loads) what it is told, per cluster and
//! locality, so that an operator sees the mesh's load without a metrics system.

mod loads;

use std::sync::Arc;

use envoy_types::pb::envoy::service::load_stats::v3 as pb;
use envoy_types::pb::google::protobuf::Duration as WireDuration;
use pb::load_reporting_service_server::LoadReportingService;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming, async_trait};

pub use self::loads::Load;
pub(super) use self::loads::{Loads, Recent};
use super::house::House;
use super::limits::beginning;
use super::node::Node;

/// How often clients report, in seconds.
const INTERVAL: i64 = 10;
/// The most of a part of a caller's name that is kept.
const CALLER: usize = 100;

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Lrs(pub(super) Arc<House>);

/// What a caller is called: as its service is, if its labels say it.
fn name(node: envoy_types::pb::envoy::config::core::v3::Node) -> String {
    let id = node.id.clone();
    let Ok(node) = Node::read(node, None) else {
        return beginning(&id, CALLER).to_owned();
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
        Some(name) => format!(
            "{}.{}",
            beginning(name, CALLER),
            beginning(workload.namespace(), CALLER)
        ),
        None => beginning(&id, CALLER).to_owned(),
    }
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
