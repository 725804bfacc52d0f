//! What is served: 50 clusters of ten endpoints. A push moves the endpoints of the first one.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
};
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress, address,
    config_source, socket_address,
};
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use meshwork::control::{Content, Encoded, Kind};
use prost::Message as _;

pub(crate) const CLUSTERS: usize = 50;
const ENDPOINTS: u32 = 10;

pub(crate) fn name(number: usize) -> String {
    format!("outbound|80||service-{number}.my-app.svc.cluster.local")
}

/// The mesh after so many pushes.
pub(crate) fn content(push: u32) -> Content {
    Content::default().with_resources(resources(push))
}

/// What is in it; the first endpoints are those that move.
pub(crate) fn resources(push: u32) -> impl Iterator<Item = Encoded> {
    (0..CLUSTERS).flat_map(move |number| {
        let moved = if number == 0 { push } else { 0 };
        let (cluster, members) = (cluster(number), assignment(number, moved));
        [
            Encoded::new(Kind::Cluster, name(number), &cluster.encode_to_vec()),
            Encoded::new(Kind::Endpoints, name(number), &members.encode_to_vec()),
        ]
    })
}

fn cluster(number: usize) -> Cluster {
    let source = ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(
            AggregatedConfigSource {},
        )),
        ..ConfigSource::default()
    };
    Cluster {
        name: name(number),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(source),
            ..EdsClusterConfig::default()
        }),
        ..Cluster::default()
    }
}

fn assignment(number: usize, moved: u32) -> endpoint::ClusterLoadAssignment {
    let one = |port: u32| {
        let address = SocketAddress {
            address: "10.0.0.1".into(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port)),
            ..SocketAddress::default()
        };
        let address = Address {
            address: Some(address::Address::SocketAddress(address)),
        };
        let endpoint = endpoint::Endpoint {
            address: Some(address),
            ..endpoint::Endpoint::default()
        };
        endpoint::LbEndpoint {
            host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
            ..endpoint::LbEndpoint::default()
        }
    };
    endpoint::ClusterLoadAssignment {
        cluster_name: name(number),
        endpoints: vec![endpoint::LocalityLbEndpoints {
            lb_endpoints: (0..ENDPOINTS).map(|at| one(1_000 + moved + at)).collect(),
            ..endpoint::LocalityLbEndpoints::default()
        }],
        ..endpoint::ClusterLoadAssignment::default()
    }
}
