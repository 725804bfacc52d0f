//! What the plane is asked over gRPC.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_server::LoadReportingService;
use envoy_types::pb::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use envoy_types::pb::google::protobuf::Duration;
use futures_core::Stream;
use meshwork::source::xds::Kind;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Asked, Out, Plane, Subscription};

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Plane {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        requests: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let (out, responses) = mpsc::channel(1_024);
        let (plane, line) = (self.clone(), self.begin(Out::Sotw(out)));
        let weak = Arc::downgrade(&line);
        let mut requests = requests.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let Some(line) = weak.upgrade() else {
                    return;
                };
                let asked = Asked {
                    kind: Kind::of_type_url(&request.type_url),
                    names: request.resource_names.clone(),
                    node: request.node.map(|node| node.id).unwrap_or_default(),
                    nonce: request.response_nonce,
                    version: request.version_info,
                    error: request.error_detail.map(|status| status.message),
                    known: BTreeMap::new(),
                };
                plane.take(&line, asked, Subscription::All(request.resource_names));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    async fn delta_aggregated_resources(
        &self,
        requests: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (out, responses) = mpsc::channel(1_024);
        let (plane, line) = (self.clone(), self.begin(Out::Delta(out)));
        let weak = Arc::downgrade(&line);
        let mut requests = requests.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let Some(line) = weak.upgrade() else {
                    return;
                };
                let asked = Asked {
                    kind: Kind::of_type_url(&request.type_url),
                    names: request.resource_names_subscribe.clone(),
                    node: request.node.map(|node| node.id).unwrap_or_default(),
                    nonce: request.response_nonce,
                    version: String::new(),
                    error: request.error_detail.map(|status| status.message),
                    known: request.initial_resource_versions.into_iter().collect(),
                };
                let change = Subscription::Change(
                    request.resource_names_subscribe,
                    request.resource_names_unsubscribe,
                );
                plane.take(&line, asked, change);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}

/// All clusters, every five seconds.
#[tonic::async_trait]
impl LoadReportingService for Plane {
    type StreamLoadStatsStream = Responses<LoadStatsResponse>;

    async fn stream_load_stats(
        &self,
        requests: Request<Streaming<LoadStatsRequest>>,
    ) -> Result<Response<Self::StreamLoadStatsStream>, Status> {
        let plane = self.clone();
        let mut requests = requests.into_inner();
        let (out, responses) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut first = true;
            while let Some(Ok(request)) = requests.next().await {
                plane.state.lock().unwrap().reports.push(request);
                if std::mem::take(&mut first) {
                    let wanted = LoadStatsResponse {
                        send_all_clusters: true,
                        load_reporting_interval: Some(Duration {
                            seconds: 5,
                            nanos: 0,
                        }),
                        ..LoadStatsResponse::default()
                    };
                    let _ = out.send(Ok(wanted)).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}
