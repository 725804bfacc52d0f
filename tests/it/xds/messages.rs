//! Resources as a control plane sends them.

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::clusters::aggregate::v3::ClusterConfig;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::{Any, Duration, UInt32Value};
use meshwork::source::xds::Kind;
use prost::{Message, Name};

const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// A resource under its name.
pub(crate) struct Made {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) any: Any,
}

fn made(kind: Kind, name: &str, message: &impl Message) -> Made {
    Made {
        kind,
        name: name.into(),
        any: any(kind.type_url(), message),
    }
}

fn any(type_url: &str, message: &impl Message) -> Any {
    Any {
        type_url: type_url.into(),
        value: message.encode_to_vec(),
    }
}

pub(crate) fn ads() -> core::ConfigSource {
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource::default(),
        )),
        ..core::ConfigSource::default()
    }
}

/// A filter of a listener.
pub(crate) fn filter(name: &str, message: &impl Name) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.into(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(packed(message))),
        ..hcm::HttpFilter::default()
    }
}

/// A message with its type.
pub(crate) fn packed(message: &impl Name) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{}", full_name(message)),
        value: message.encode_to_vec(),
    }
}

fn full_name<M: Name>(_of: &M) -> String {
    M::full_name()
}

/// A listener whose routes are a resource.
pub(crate) fn listener(name: &str, routes: &str) -> Made {
    listener_with(name, routes, |_| {})
}

/// The same, changed: its last filter is the router.
pub(crate) fn listener_with(
    name: &str,
    routes: &str,
    change: impl FnOnce(&mut hcm::HttpConnectionManager),
) -> Made {
    let mut manager = hcm::HttpConnectionManager {
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::Rds(
            hcm::Rds {
                config_source: Some(ads()),
                route_config_name: routes.into(),
            },
        )),
        http_filters: vec![filter("router", &Router::default())],
        ..hcm::HttpConnectionManager::default()
    };
    change(&mut manager);
    let message = listener::Listener {
        name: name.into(),
        api_listener: Some(listener::ApiListener {
            api_listener: Some(any(MANAGER, &manager)),
        }),
        ..listener::Listener::default()
    };
    made(Kind::Listener, name, &message)
}

/// The listener of a server at an address, with one chain that takes all, changed.
pub(crate) fn server_listener(
    name: &str,
    address: std::net::SocketAddr,
    change: impl FnOnce(&mut listener::Listener),
) -> Made {
    let mut message = listener::Listener {
        name: name.into(),
        address: Some(core::Address {
            address: Some(core::address::Address::SocketAddress(core::SocketAddress {
                address: address.ip().to_string(),
                port_specifier: Some(core::socket_address::PortSpecifier::PortValue(
                    address.port().into(),
                )),
                ..core::SocketAddress::default()
            })),
        }),
        filter_chains: vec![chain(Vec::new(), Some("served"))],
        ..listener::Listener::default()
    };
    change(&mut message);
    made(Kind::Listener, name, &message)
}

/// A chain with these filters before its router, and the routes of this name or inline ones that
/// serve everything.
pub(crate) fn chain(
    mut filters: Vec<hcm::HttpFilter>,
    routes: Option<&str>,
) -> listener::FilterChain {
    use hcm::http_connection_manager::RouteSpecifier;
    filters.push(filter("router", &Router::default()));
    let specifier = match routes {
        Some(name) => RouteSpecifier::Rds(hcm::Rds {
            config_source: Some(ads()),
            route_config_name: name.into(),
        }),
        None => RouteSpecifier::RouteConfig(serving(&["/"])),
    };
    let manager = hcm::HttpConnectionManager {
        route_specifier: Some(specifier),
        http_filters: filters,
        ..hcm::HttpConnectionManager::default()
    };
    listener::FilterChain {
        filters: vec![listener::Filter {
            name: "http".into(),
            config_type: Some(listener::filter::ConfigType::TypedConfig(packed(&manager))),
        }],
        ..listener::FilterChain::default()
    }
}

/// Changes the connection manager of a chain.
pub(crate) fn with_manager(
    chain: &mut listener::FilterChain,
    change: impl FnOnce(&mut hcm::HttpConnectionManager),
) {
    use listener::filter::ConfigType;
    let Some(ConfigType::TypedConfig(any)) = &mut chain.filters[0].config_type else {
        panic!("it is made above");
    };
    let mut manager = hcm::HttpConnectionManager::decode(&*any.value).unwrap();
    change(&mut manager);
    *any = packed(&manager);
}

/// Routes inside of a listener that serve these prefixes.
pub(crate) fn inline(prefixes: &[&str]) -> hcm::http_connection_manager::RouteSpecifier {
    hcm::http_connection_manager::RouteSpecifier::RouteConfig(serving(prefixes))
}

/// Routes that serve these prefixes.
pub(crate) fn serving(prefixes: &[&str]) -> route::RouteConfiguration {
    let mut message = with_path("served", "/", None);
    let route = |prefix: &&str| route::Route {
        r#match: Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::Prefix((*prefix).into())),
            ..route::RouteMatch::default()
        }),
        action: Some(route::route::Action::NonForwardingAction(
            route::NonForwardingAction::default(),
        )),
        ..route::Route::default()
    };
    message.virtual_hosts[0].routes = prefixes.iter().map(route).collect();
    message
}

/// The same as a resource, changed.
pub(crate) fn served(
    prefixes: &[&str],
    change: impl FnOnce(&mut route::RouteConfiguration),
) -> Made {
    let mut message = serving(prefixes);
    change(&mut message);
    made(Kind::RouteConfiguration, "served", &message)
}

/// Everything goes to these clusters, by weight.
pub(crate) fn routes(name: &str, clusters: &[(&str, u32)]) -> Made {
    routes_with(name, clusters, |_| {})
}

/// The same, changed: one virtual host with one route to weighted clusters.
pub(crate) fn routes_with(
    name: &str,
    clusters: &[(&str, u32)],
    change: impl FnOnce(&mut route::RouteConfiguration),
) -> Made {
    let weight = |(name, weight): &(&str, u32)| route::weighted_cluster::ClusterWeight {
        name: (*name).into(),
        weight: Some(UInt32Value { value: *weight }),
        ..route::weighted_cluster::ClusterWeight::default()
    };
    let weighted = route::WeightedCluster {
        clusters: clusters.iter().map(weight).collect(),
        ..route::WeightedCluster::default()
    };
    let action = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::WeightedClusters(
            weighted,
        )),
        timeout: Some(Duration {
            seconds: 0,
            nanos: 0,
        }),
        ..route::RouteAction::default()
    };
    let mut message = with_path(name, "/", Some(route::route::Action::Route(action)));
    change(&mut message);
    made(Kind::RouteConfiguration, name, &message)
}

/// Routes that are refused: their regular expression is none.
pub(crate) fn bad_routes(name: &str) -> Made {
    made(Kind::RouteConfiguration, name, &with_path(name, "", None))
}

fn with_path(
    name: &str,
    prefix: &str,
    action: Option<route::route::Action>,
) -> route::RouteConfiguration {
    let matcher = route::RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::Prefix(prefix.into())),
        ..route::RouteMatch::default()
    };
    route::RouteConfiguration {
        name: name.into(),
        virtual_hosts: vec![route::VirtualHost {
            name: "all".into(),
            domains: vec!["*".into()],
            routes: vec![route::Route {
                r#match: action.is_some().then_some(matcher),
                action,
                ..route::Route::default()
            }],
            ..route::VirtualHost::default()
        }],
        ..route::RouteConfiguration::default()
    }
}

/// A cluster with endpoints of its own name.
pub(crate) fn cluster(name: &str) -> Made {
    cluster_with(name, |_| {})
}

/// The same, changed.
pub(crate) fn cluster_with(name: &str, change: impl FnOnce(&mut cluster::Cluster)) -> Made {
    let mut message = cluster::Cluster {
        name: name.into(),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
            cluster::cluster::DiscoveryType::Eds.into(),
        )),
        eds_cluster_config: Some(cluster::cluster::EdsClusterConfig {
            eds_config: Some(ads()),
            service_name: String::new(),
        }),
        ..cluster::Cluster::default()
    };
    change(&mut message);
    made(Kind::Cluster, name, &message)
}

/// A cluster that is a list of others.
pub(crate) fn aggregate(name: &str, members: &[&str]) -> Made {
    use cluster::cluster::{ClusterDiscoveryType, CustomClusterType};
    let config = ClusterConfig {
        clusters: members.iter().map(ToString::to_string).collect(),
    };
    cluster_with(name, |message| {
        message.eds_cluster_config = None;
        message.lb_policy = cluster::cluster::LbPolicy::ClusterProvided.into();
        message.cluster_discovery_type =
            Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
                name: "envoy.clusters.aggregate".into(),
                typed_config: Some(packed(&config)),
            }));
    })
}

/// Endpoints at these ports.
pub(crate) fn endpoints(name: &str, ports: &[u16]) -> Made {
    endpoints_with(name, &[("here", 0, 1, ports)], |_| {})
}

/// Endpoints by region, priority, weight and ports, changed.
pub(crate) fn endpoints_with(
    name: &str,
    localities: &[(&str, u32, u32, &[u16])],
    change: impl FnOnce(&mut endpoint::ClusterLoadAssignment),
) -> Made {
    let localities = localities.iter().map(|one| locality(*one));
    let mut message = endpoint::ClusterLoadAssignment {
        cluster_name: name.into(),
        endpoints: localities.collect(),
        ..endpoint::ClusterLoadAssignment::default()
    };
    change(&mut message);
    made(Kind::Endpoints, name, &message)
}

fn locality(
    (region, priority, weight, ports): (&str, u32, u32, &[u16]),
) -> endpoint::LocalityLbEndpoints {
    let member = |port: &u16| endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
            endpoint::Endpoint {
                address: Some(core::Address {
                    address: Some(core::address::Address::SocketAddress(core::SocketAddress {
                        address: "10.0.0.1".into(),
                        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(
                            (*port).into(),
                        )),
                        ..core::SocketAddress::default()
                    })),
                }),
                ..endpoint::Endpoint::default()
            },
        )),
        ..endpoint::LbEndpoint::default()
    };
    endpoint::LocalityLbEndpoints {
        locality: Some(core::Locality {
            region: region.into(),
            ..core::Locality::default()
        }),
        priority,
        load_balancing_weight: (weight > 0).then_some(UInt32Value { value: weight }),
        lb_endpoints: ports.iter().map(member).collect(),
        ..endpoint::LocalityLbEndpoints::default()
    }
}

/// Listener `name`, routes, a cluster and endpoints at these ports.
pub(crate) fn service(name: &str, cluster_name: &str, ports: &[u16]) -> Vec<Made> {
    let routes_name = format!("{name} routes");
    vec![
        listener(name, &routes_name),
        routes(&routes_name, &[(cluster_name, 1)]),
        cluster(cluster_name),
        endpoints(cluster_name, ports),
    ]
}
