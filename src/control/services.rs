//! The services beside discovery: health, reflection, client status, load reports.

use std::sync::Arc;

use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_server::LoadReportingServiceServer;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_server::ClientStatusDiscoveryServiceServer;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::csds::Csds;
use super::house::House;
use super::lrs::Lrs;

/// The service that a client asks about when it asks for discovery's health.
const ADS: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";

/// What the server says of its health.
#[derive(Debug)]
pub(super) struct Health(HealthReporter);

impl Health {
    /// It serves no more.
    pub(super) async fn ends(&self) {
        for service in ["", ADS] {
            self.0
                .set_service_status(service, ServingStatus::NotServing)
                .await;
        }
    }
}

/// All of them. Health says "serving" from here on: a store always has a state in force.
pub(super) fn all(house: &Arc<House>) -> (Health, Routes) {
    let (reporter, health) = tonic_health::server::health_reporter();
    let ready = reporter.clone();
    house.spawn(async move { ready.set_service_status(ADS, ServingStatus::Serving).await });
    let mut routes = Routes::builder();
    routes
        .add_service(health)
        .add_service(ClientStatusDiscoveryServiceServer::new(Csds::for_clients(
            house.clone(),
        )))
        .add_service(LoadReportingServiceServer::new(Lrs(house.clone())));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Descriptors that come with a library are whole, or nobody would have published it.
    if let (Ok(v1), Ok(alpha)) = (reflection().build_v1(), reflection().build_v1alpha()) {
        routes.add_service(v1).add_service(alpha);
    }
    (Health(reporter), routes.routes().prepare())
}
