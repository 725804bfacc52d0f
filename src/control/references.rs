//! What a resource refers to, as far as the order of pushes depends on it.
//!
//! It is read from the bytes that go out, whoever made them: our own encoder, a file of raw
//! resources, an embedder. Bytes that do not decode refer to nothing.

use std::collections::BTreeSet;
use std::hash::Hasher as _;
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::clusters::aggregate::v3::ClusterConfig as Aggregate;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as authz;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use twox_hash::XxHash64;

use super::kind::Kind;

/// Kinds and names, without repetition.
type References = BTreeSet<(Kind, Arc<str>)>;

/// What the message of that kind refers to.
pub(super) fn of(kind: Kind, body: &[u8]) -> Vec<(Kind, Arc<str>)> {
    let mut found = References::new();
    match kind {
        Kind::Cluster => decode(body, |cluster| of_cluster(cluster, &mut found)),
        Kind::Listener => decode(body, |listener| of_listener(listener, &mut found)),
        Kind::Routes => decode(body, |routes| of_routes(routes, &mut found)),
        Kind::ScopedRoutes => decode(body, |scoped: &route::ScopedRouteConfiguration| {
            add(&mut found, Kind::Routes, &scoped.route_configuration_name);
        }),
        Kind::VirtualHost => decode(body, |host| of_host(host, &mut found)),
        Kind::Endpoints | Kind::Secret | Kind::Extension | Kind::Runtime => {}
    }
    found.into_iter().collect()
}

/// The clusters that a virtual host refers to.
pub(super) fn clusters(host: &route::VirtualHost) -> BTreeSet<Arc<str>> {
    let mut found = References::new();
    of_host(host, &mut found);
    let clusters = found.into_iter();
    let clusters = clusters.filter(|(kind, _)| *kind == Kind::Cluster);
    clusters.map(|(_, name)| name).collect()
}

/// A hash for each cluster that a virtual host of a route configuration refers to, of both names, in
/// order; nothing for what is none.
pub(super) fn by_host(body: &[u8]) -> Box<[u64]> {
    let mut pairs = Vec::new();
    decode(body, |routes: &route::RouteConfiguration| {
        for host in &routes.virtual_hosts {
            let pair = |cluster: Arc<str>| {
                let mut hasher = XxHash64::with_seed(0);
                hasher.write(&(host.name.len() as u64).to_le_bytes());
                hasher.write(host.name.as_bytes());
                hasher.write(cluster.as_bytes());
                hasher.finish()
            };
            pairs.extend(clusters(host).into_iter().map(pair));
        }
    });
    pairs.sort_unstable();
    pairs.into()
}

fn decode<M: Message + Default>(body: &[u8], then: impl FnOnce(&M)) {
    if let Ok(message) = M::decode(body) {
        then(&message);
    }
}

fn decode_any<M: Message + Default>(any: &Any, name: &str, then: impl FnOnce(&M)) {
    if any.type_url.rsplit('/').next() == Some(name) {
        decode(&any.value, then);
    }
}

fn add(found: &mut References, kind: Kind, name: &str) {
    if !name.is_empty() {
        found.insert((kind, name.into()));
    }
}

fn of_cluster(cluster: &Cluster, found: &mut References) {
    match &cluster.cluster_discovery_type {
        Some(cluster::ClusterDiscoveryType::Type(kind))
            if *kind == cluster::DiscoveryType::Eds as i32 =>
        {
            let service = cluster
                .eds_cluster_config
                .as_ref()
                .map(|eds| &*eds.service_name);
            let name = service
                .filter(|name| !name.is_empty())
                .unwrap_or(&cluster.name);
            add(found, Kind::Endpoints, name);
        }
        Some(cluster::ClusterDiscoveryType::ClusterType(custom)) => {
            if let Some(config) = &custom.typed_config {
                let name = "envoy.extensions.clusters.aggregate.v3.ClusterConfig";
                decode_any(config, name, |aggregate: &Aggregate| {
                    for name in &aggregate.clusters {
                        add(found, Kind::Cluster, name);
                    }
                });
            }
        }
        _ => {}
    }
}

fn of_listener(listener: &Listener, found: &mut References) {
    let api = listener
        .api_listener
        .iter()
        .filter_map(|api| api.api_listener.as_ref());
    let chains = listener
        .filter_chains
        .iter()
        .chain(&listener.default_filter_chain);
    let filters = chains.flat_map(|chain| &chain.filters);
    let configs = filters.filter_map(|filter| match &filter.config_type {
        Some(envoy_types::pb::envoy::config::listener::v3::filter::ConfigType::TypedConfig(
            config,
        )) => Some(config),
        _ => None,
    });
    for config in api.chain(configs) {
        let name =
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
        decode_any(config, name, |manager| of_manager(manager, found));
        let name = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
        decode_any(config, name, |proxy: &tcp::TcpProxy| {
            match &proxy.cluster_specifier {
                Some(tcp::tcp_proxy::ClusterSpecifier::Cluster(name)) => {
                    add(found, Kind::Cluster, name);
                }
                Some(tcp::tcp_proxy::ClusterSpecifier::WeightedClusters(weighted)) => {
                    for cluster in &weighted.clusters {
                        add(found, Kind::Cluster, &cluster.name);
                    }
                }
                None => {}
            }
        });
    }
}

fn of_manager(manager: &hcm::HttpConnectionManager, found: &mut References) {
    use hcm::http_connection_manager::RouteSpecifier;
    match &manager.route_specifier {
        Some(RouteSpecifier::Rds(rds)) => add(found, Kind::Routes, &rds.route_config_name),
        Some(RouteSpecifier::RouteConfig(routes)) => of_routes(routes, found),
        Some(RouteSpecifier::ScopedRoutes(_)) | None => {}
    }
    for filter in &manager.http_filters {
        if let Some(hcm::http_filter::ConfigType::TypedConfig(config)) = &filter.config_type {
            let name = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz";
            decode_any(config, name, |asks| of_authorizer(asks, found));
        }
    }
}

/// The cluster of whom a filter asks: without it every request there is denied.
fn of_authorizer(asks: &authz::ExtAuthz, found: &mut References) {
    use authz::ext_authz::Services;
    use core::grpc_service::TargetSpecifier;
    use core::http_uri::HttpUpstreamType;
    match &asks.services {
        Some(Services::GrpcService(service)) => {
            if let Some(TargetSpecifier::EnvoyGrpc(grpc)) = &service.target_specifier {
                add(found, Kind::Cluster, &grpc.cluster_name);
            }
        }
        Some(Services::HttpService(service)) => {
            let uri = service.server_uri.as_ref();
            if let Some(HttpUpstreamType::Cluster(name)) =
                uri.and_then(|uri| uri.http_upstream_type.as_ref())
            {
                add(found, Kind::Cluster, name);
            }
        }
        None => {}
    }
}

fn of_routes(routes: &route::RouteConfiguration, found: &mut References) {
    for mirror in &routes.request_mirror_policies {
        add(found, Kind::Cluster, &mirror.cluster);
    }
    for host in &routes.virtual_hosts {
        of_host(host, found);
    }
}

fn of_host(host: &route::VirtualHost, found: &mut References) {
    for mirror in &host.request_mirror_policies {
        add(found, Kind::Cluster, &mirror.cluster);
    }
    for route in &host.routes {
        let Some(route::route::Action::Route(action)) = &route.action else {
            continue;
        };
        for mirror in &action.request_mirror_policies {
            add(found, Kind::Cluster, &mirror.cluster);
        }
        match &action.cluster_specifier {
            Some(route::route_action::ClusterSpecifier::Cluster(name)) => {
                add(found, Kind::Cluster, name);
            }
            Some(route::route_action::ClusterSpecifier::WeightedClusters(weighted)) => {
                for cluster in weighted.clusters.iter().filter(|one| weight(one) > 0) {
                    add(found, Kind::Cluster, &cluster.name);
                }
            }
            _ => {}
        }
    }
}

/// A cluster without a weight gets none of the traffic in Envoy; without the field, as with 0.
fn weight(cluster: &route::weighted_cluster::ClusterWeight) -> u32 {
    cluster.weight.as_ref().map_or(0, |weight| weight.value)
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::listener::v3::ApiListener;
    use envoy_types::pb::google::protobuf::UInt32Value;

    use super::*;

    fn names(kind: Kind, message: &impl Message) -> Vec<(Kind, String)> {
        let found = of(kind, &message.encode_to_vec());
        found
            .into_iter()
            .map(|(kind, name)| (kind, name.to_string()))
            .collect()
    }

    fn to(cluster: &str, weight: u32) -> route::weighted_cluster::ClusterWeight {
        route::weighted_cluster::ClusterWeight {
            name: cluster.into(),
            weight: Some(UInt32Value { value: weight }),
            ..Default::default()
        }
    }

    fn routes() -> route::RouteConfiguration {
        let weighted = route::WeightedCluster {
            clusters: vec![to("a", 1), to("b", 9), to("unused", 0)],
            ..Default::default()
        };
        let action = route::RouteAction {
            request_mirror_policies: vec![route::route_action::RequestMirrorPolicy {
                cluster: "mirror".into(),
                ..Default::default()
            }],
            cluster_specifier: Some(route::route_action::ClusterSpecifier::WeightedClusters(
                weighted,
            )),
            ..Default::default()
        };
        route::RouteConfiguration {
            name: "r".into(),
            virtual_hosts: vec![route::VirtualHost {
                routes: vec![route::Route {
                    action: Some(route::route::Action::Route(action)),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn routes_refer_to_clusters_with_a_weight_and_to_mirrors() {
        let found = names(Kind::Routes, &routes());
        let expected = ["a", "b", "mirror"].map(|name| (Kind::Cluster, name.to_string()));
        assert_eq!(found, expected);
    }

    #[test]
    fn clusters_refer_to_endpoints_by_service_name_or_their_own() {
        let mut cluster = Cluster {
            name: "c".into(),
            cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(
                cluster::DiscoveryType::Eds as i32,
            )),
            ..Default::default()
        };
        assert_eq!(
            names(Kind::Cluster, &cluster),
            [(Kind::Endpoints, "c".into())]
        );
        cluster.eds_cluster_config = Some(cluster::EdsClusterConfig {
            service_name: "s".into(),
            ..Default::default()
        });
        assert_eq!(
            names(Kind::Cluster, &cluster),
            [(Kind::Endpoints, "s".into())]
        );
        cluster.cluster_discovery_type = None;
        assert!(names(Kind::Cluster, &cluster).is_empty());
    }

    fn any(name: &str, message: &impl Message) -> Any {
        Any {
            type_url: format!("type.googleapis.com/envoy.extensions.filters.{name}"),
            value: message.encode_to_vec(),
        }
    }

    fn listener(manager: &hcm::HttpConnectionManager) -> Listener {
        let name = "network.http_connection_manager.v3.HttpConnectionManager";
        Listener {
            api_listener: Some(ApiListener {
                api_listener: Some(any(name, manager)),
            }),
            ..Default::default()
        }
    }

    #[test]
    fn listeners_refer_to_the_clusters_of_authorizers_that_are_asked_by_grpc_or_http() {
        use authz::ext_authz::Services;
        let grpc = core::grpc_service::EnvoyGrpc {
            cluster_name: "by-grpc".into(),
            ..Default::default()
        };
        let grpc = core::GrpcService {
            target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(grpc)),
            ..Default::default()
        };
        let uri = core::HttpUri {
            http_upstream_type: Some(core::http_uri::HttpUpstreamType::Cluster("by-http".into())),
            ..Default::default()
        };
        let http = authz::HttpService {
            server_uri: Some(uri),
            ..Default::default()
        };
        let asks = [
            Some(Services::GrpcService(grpc)),
            Some(Services::HttpService(http)),
            None,
        ];
        let filters = asks.map(|services| {
            let asks = authz::ExtAuthz {
                services,
                ..Default::default()
            };
            let config = any("http.ext_authz.v3.ExtAuthz", &asks);
            hcm::HttpFilter {
                config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config)),
                ..Default::default()
            }
        });
        let manager = hcm::HttpConnectionManager {
            http_filters: filters.into(),
            ..Default::default()
        };
        let expected = ["by-grpc", "by-http"].map(|name| (Kind::Cluster, name.to_string()));
        assert_eq!(names(Kind::Listener, &listener(&manager)), expected);
    }

    #[test]
    fn listeners_refer_to_routes_by_name_or_to_what_their_own_refer_to() {
        use hcm::http_connection_manager::RouteSpecifier;
        let listener = |specifier| {
            listener(&hcm::HttpConnectionManager {
                route_specifier: Some(specifier),
                ..Default::default()
            })
        };
        let named = listener(RouteSpecifier::Rds(hcm::Rds {
            route_config_name: "r".into(),
            ..Default::default()
        }));
        assert_eq!(names(Kind::Listener, &named), [(Kind::Routes, "r".into())]);
        let inline = listener(RouteSpecifier::RouteConfig(routes()));
        assert_eq!(names(Kind::Listener, &inline).len(), 3);
    }

    #[test]
    fn bytes_that_are_no_message_refer_to_nothing() {
        for kind in Kind::ALL {
            assert!(of(kind, b"\xff\xff\xff").is_empty());
        }
    }
}
