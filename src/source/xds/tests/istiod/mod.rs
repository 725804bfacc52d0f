//! What istiod sends proxyless clients, as it spells it: each test is one thing that it is known to send.

mod server;

use std::sync::Arc;

use super::decode;
use crate::model::cluster::{Balancing, Discovery};
use crate::model::endpoint::{Address, Health};
use crate::model::listener::Routes;
use crate::model::route::Action;
use crate::model::{Cluster, Endpoints, RouteConfiguration};
use crate::source::xds::extra::any;
use crate::source::xds::proto::{
    Any, BoolValue, Duration, UInt32Value, cluster, core, endpoint, fault, hcm, http_type,
    listener, route, router, session, session_cookie,
};
use crate::source::xds::resource::Resource;
use crate::source::xds::{Bootstrap, Kind};

const HOST: &str = "catalog.my-app.svc.cluster.local";
const NAME: &str = "outbound|80||catalog.my-app.svc.cluster.local";

fn ads() -> core::ConfigSource {
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource::default(),
        )),
        ..core::ConfigSource::default()
    }
}

fn socket(ip: &str, port: u32) -> Option<core::Address> {
    let socket = core::SocketAddress {
        address: ip.to_owned(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port)),
        ..core::SocketAddress::default()
    };
    Some(core::Address {
        address: Some(core::address::Address::SocketAddress(socket)),
    })
}

fn filter(name: &str, config: Any) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config)),
        ..hcm::HttpFilter::default()
    }
}

fn resource(kind: Kind, message: &impl prost::Message) -> Resource {
    let decoded = decode(kind, &message.encode_to_vec());
    decoded
        .map_err(|refused| refused.to_string())
        .unwrap()
        .resource
}

/// The file that its agent writes, and nobody but gRPC was meant to read.
#[test]
fn istio_3_1_the_file_of_an_agent_is_read_as_it_is() {
    let text = r#"{
        "xds_servers": [{"server_uri": "unix:///etc/istio/proxy/XDS",
          "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}],
        "node": {"id": "sidecar~10.0.0.7~order-1.my-app~my-app.svc.cluster.local",
          "metadata": {"GENERATOR": "grpc", "NAMESPACE": "my-app"}, "locality": {}},
        "certificate_providers": {"default": {"plugin_name": "file_watcher", "config": {
          "certificate_file": "/var/lib/istio/data/cert-chain.pem",
          "private_key_file": "/var/lib/istio/data/key.pem",
          "ca_certificate_file": "/var/lib/istio/data/root-cert.pem",
          "refresh_interval": "900s"}}},
        "server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s"}"#;
    let read = Bootstrap::from_json(text).unwrap();
    let [server] = &*read.servers else {
        panic!("{read:?}");
    };
    let socket = std::path::Path::new("/etc/istio/proxy/XDS");
    assert_eq!(server.address, Address::Unix(socket.into()));
    assert_eq!(read.node.metadata["GENERATOR"], "grpc");
    let provider = &read.certificate_providers["default"];
    assert_eq!(provider.refresh.as_secs(), 900);
    assert!(provider.identity.is_some() && provider.roots.is_some());
    let template = read.server_template.as_deref();
    assert_eq!(template, Some("xds.istio.io/grpc/lds/inbound/%s"));
}

/// A listener has the address of the service beside the API listener, and is a client's all the same.
#[test]
fn istio_3_3_a_listener_with_an_address_too_is_a_clients() {
    use hcm::http_connection_manager::RouteSpecifier;
    let cookie = session_cookie::CookieBasedSessionState {
        cookie: Some(http_type::Cookie {
            name: "session".to_owned(),
            ..http_type::Cookie::default()
        }),
    };
    let session = session::StatefulSession {
        session_state: Some(core::TypedExtensionConfig {
            name: "envoy.http.stateful_session.cookie".to_owned(),
            typed_config: Some(any(&cookie)),
        }),
        ..session::StatefulSession::default()
    };
    let manager = hcm::HttpConnectionManager {
        http_filters: vec![
            filter("envoy.filters.http.stateful_session", any(&session)),
            filter(
                "envoy.filters.http.fault",
                any(&fault::HttpFault::default()),
            ),
            filter("envoy.filters.http.router", any(&router::Router::default())),
        ],
        route_specifier: Some(RouteSpecifier::Rds(hcm::Rds {
            config_source: Some(ads()),
            route_config_name: NAME.to_owned(),
        })),
        ..hcm::HttpConnectionManager::default()
    };
    let message = listener::Listener {
        name: format!("{HOST}:80"),
        address: socket("10.96.0.1", 80),
        api_listener: Some(listener::ApiListener {
            api_listener: Some(any(&manager)),
        }),
        ..listener::Listener::default()
    };
    let Resource::Listener { listener, chain } = resource(Kind::Listener, &message) else {
        panic!("it is no client's");
    };
    assert_eq!(listener.routes, Routes::Named(NAME.into()));
    assert_eq!(
        chain.filters.len(),
        2,
        "a session, and a fault that routes may fill"
    );
}

fn routes(route: route::Route) -> Arc<RouteConfiguration> {
    let with_port = |host: &str| [host.to_owned(), format!("{host}:80")];
    let hosts = [
        HOST,
        "catalog.my-app.svc.cluster.local.",
        "catalog",
        "catalog.my-app.svc",
        "catalog.my-app",
        "10.96.0.1",
    ];
    let message = route::RouteConfiguration {
        name: NAME.to_owned(),
        virtual_hosts: vec![route::VirtualHost {
            name: format!("{HOST}:80"),
            domains: hosts.into_iter().flat_map(with_port).collect(),
            routes: vec![route],
            include_request_attempt_count: true,
            ..route::VirtualHost::default()
        }],
        validate_clusters: Some(BoolValue { value: false }),
        ..route::RouteConfiguration::default()
    };
    match resource(Kind::RouteConfiguration, &message) {
        Resource::RouteConfiguration { routes, .. } => routes,
        other => panic!("{other:?}"),
    }
}

fn forwarding(change: impl FnOnce(&mut route::RouteAction)) -> route::Route {
    let zero = Some(Duration::default());
    #[allow(deprecated, reason = "istiod writes it")]
    let mut action = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(
            NAME.to_owned(),
        )),
        timeout: zero,
        max_grpc_timeout: zero,
        ..route::RouteAction::default()
    };
    change(&mut action);
    route::Route {
        name: "default".to_owned(),
        r#match: Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".to_owned())),
            ..route::RouteMatch::default()
        }),
        action: Some(route::route::Action::Route(action)),
        decorator: Some(route::Decorator {
            operation: format!("{HOST}:80/*"),
            ..route::Decorator::default()
        }),
        ..route::Route::default()
    }
}

/// Every spelling of the host is a domain, and a timeout of zero is none.
#[test]
fn istio_3_4_every_spelling_of_a_host_is_a_domain_and_zero_is_no_timeout() {
    for bound in [None, Some(Duration::default())] {
        let route = forwarding(|action| {
            action.max_stream_duration =
                bound.map(|bound| route::route_action::MaxStreamDuration {
                    max_stream_duration: Some(bound),
                    ..Default::default()
                });
        });
        let read = routes(route);
        assert_eq!(&*read.name, NAME);
        assert_eq!(read.virtual_hosts[0].domains.len(), 12);
        let Action::Forward(forward) = &read.virtual_hosts[0].routes[0].action else {
            panic!("it does not forward");
        };
        assert_eq!(forward.timeout, None, "{bound:?}");
    }
}

/// What sidecars get and gRPC has not: paths by segments (the gateway API), and CORS, which is nothing to a
/// client.
#[test]
fn istio_3_4_segments_of_paths_and_cors_are_accepted() {
    let mut route = forwarding(|_| {});
    route.r#match = Some(route::RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::PathSeparatedPrefix(
            "/items".to_owned(),
        )),
        ..route::RouteMatch::default()
    });
    let cors = Any {
        type_url: "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy".to_owned(),
        value: Vec::new(),
    };
    route.typed_per_filter_config = [("envoy.filters.http.cors".to_owned(), cors)].into();
    let read = routes(route);
    let path = &read.virtual_hosts[0].routes[0].matcher.path;
    let expected = crate::model::matcher::PathMatcher::SegmentPrefix("/items".into());
    assert_eq!(*path, expected);
}

fn eds() -> cluster::Cluster {
    cluster::Cluster {
        name: NAME.to_owned(),
        alt_stat_name: format!("{NAME};"),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
            cluster::cluster::DiscoveryType::Eds.into(),
        )),
        eds_cluster_config: Some(cluster::cluster::EdsClusterConfig {
            eds_config: Some(ads()),
            service_name: NAME.to_owned(),
        }),
        ..cluster::Cluster::default()
    }
}

fn read_cluster(message: &cluster::Cluster) -> Arc<Cluster> {
    match resource(Kind::Cluster, message) {
        Resource::Cluster { cluster, .. } => cluster,
        other => panic!("{other:?}"),
    }
}

/// Of a DestinationRule istiod tells gRPC how to balance, and how many requests there may be.
#[test]
fn istio_3_5_a_cluster_says_how_to_balance_and_how_many_requests_there_may_be() {
    use cluster::circuit_breakers::Thresholds;
    use cluster::cluster::LbPolicy;
    type Is = fn(&Balancing) -> bool;
    let rows: [(LbPolicy, Is); 4] = [
        (LbPolicy::RoundRobin, |found| {
            matches!(found, Balancing::RoundRobin)
        }),
        (LbPolicy::LeastRequest, |found| {
            matches!(found, Balancing::LeastRequest)
        }),
        (LbPolicy::RingHash, |found| {
            matches!(found, Balancing::RingHash(_))
        }),
        (LbPolicy::Maglev, |found| {
            matches!(found, Balancing::Maglev(_))
        }),
    ];
    for (policy, is) in rows {
        let mut message = eds();
        message.lb_policy = policy.into();
        message.circuit_breakers = Some(cluster::CircuitBreakers {
            thresholds: vec![Thresholds {
                max_requests: Some(UInt32Value { value: 7 }),
                ..Thresholds::default()
            }],
            ..cluster::CircuitBreakers::default()
        });
        let read = read_cluster(&message);
        assert!(is(&read.balancing), "{policy:?}: {:?}", read.balancing);
        assert_eq!(read.limits.requests, 7);
        assert_eq!(read.discovery, Discovery::Endpoints(NAME.into()));
    }
}

fn texts(entries: &[(&str, &str)]) -> envoy_types::pb::google::protobuf::Struct {
    use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
    let value = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    Struct {
        fields: entries
            .iter()
            .map(|(key, text)| ((*key).to_owned(), value(text)))
            .collect(),
    }
}

fn read_endpoints(localities: Vec<endpoint::LocalityLbEndpoints>) -> Arc<Endpoints> {
    let message = endpoint::ClusterLoadAssignment {
        cluster_name: NAME.to_owned(),
        endpoints: localities,
        ..endpoint::ClusterLoadAssignment::default()
    };
    match resource(Kind::Endpoints, &message) {
        Resource::Endpoints(endpoints) => endpoints,
        other => panic!("{other:?}"),
    }
}

/// Unhealthy endpoints are sent, and which of all speak mutual TLS stands in their metadata.
#[test]
fn istio_3_6_endpoints_have_health_and_a_mode_of_tls_and_may_be_none() {
    let one = |ip: &str, health: core::HealthStatus, mode: Option<&str>| {
        let workload = texts(&[("workload", "catalog-v1;my-app;catalog;v1;Kubernetes")]);
        let mut metadata = core::Metadata {
            filter_metadata: [("istio".to_owned(), workload)].into(),
            ..core::Metadata::default()
        };
        if let Some(mode) = mode {
            let mode = texts(&[("tlsMode", mode)]);
            let key = "envoy.transport_socket_match".to_owned();
            metadata.filter_metadata.insert(key, mode);
        }
        endpoint::LbEndpoint {
            health_status: health.into(),
            metadata: Some(metadata),
            load_balancing_weight: Some(UInt32Value { value: 1 }),
            host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
                endpoint::Endpoint {
                    address: socket(ip, 8080),
                    ..endpoint::Endpoint::default()
                },
            )),
        }
    };
    let read = read_endpoints(vec![endpoint::LocalityLbEndpoints {
        locality: Some(core::Locality::default()),
        lb_endpoints: vec![
            one("10.0.0.1", core::HealthStatus::Healthy, Some("istio")),
            one("10.0.0.2", core::HealthStatus::Unhealthy, Some("istio")),
            one("10.0.0.3", core::HealthStatus::Draining, None),
        ],
        load_balancing_weight: Some(UInt32Value { value: 3 }),
        ..endpoint::LocalityLbEndpoints::default()
    }]);
    let all = read.localities[0].endpoints.iter();
    let found: Vec<(Health, bool)> = all.map(|one| (one.health, one.meshed)).collect();
    let expected = [
        (Health::Healthy, true),
        (Health::Unhealthy, true),
        (Health::Draining, false),
    ];
    assert_eq!(found, expected);
    // A ServiceEntry that is resolved by DNS.
    assert!(read_endpoints(Vec::new()).localities.is_empty());
}
