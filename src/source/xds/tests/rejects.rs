//! What is refused, with path and text: one row for each rule (catalogue D; gRFC A27 to A83).

use std::collections::HashMap;

use prost::{Message, Name};

use super::decode;
use crate::source::xds::Kind;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{
    Any, Duration, UInt32Value, UInt64Value, balancing as lb, cluster, core, endpoint, fault, hcm,
    listener, matcher, percent, raw_buffer, route, router, tls,
};

/// What is told of the message; empty if it is accepted.
fn told(kind: Kind, message: &impl Message) -> String {
    match decode(kind, &message.encode_to_vec()) {
        Ok(_) => String::new(),
        Err(rejection) => rejection.to_string(),
    }
}

#[track_caller]
fn refused(kind: Kind, message: &impl Message, expected: &str) {
    let told = told(kind, message);
    assert!(
        told.contains(expected),
        "wanted {expected:?}, was told {told:?}"
    );
}

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

// === Listeners ===

fn filter(name: &str, config: Any) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config)),
        ..hcm::HttpFilter::default()
    }
}

fn manager() -> hcm::HttpConnectionManager {
    use hcm::http_connection_manager::RouteSpecifier;
    hcm::HttpConnectionManager {
        http_filters: vec![filter("router", any(&router::Router::default()))],
        route_specifier: Some(RouteSpecifier::Rds(hcm::Rds {
            config_source: Some(ads()),
            route_config_name: "routes".to_owned(),
        })),
        ..hcm::HttpConnectionManager::default()
    }
}

fn ads() -> core::ConfigSource {
    core::ConfigSource {
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource::default(),
        )),
        ..core::ConfigSource::default()
    }
}

fn listener_of(manager: &hcm::HttpConnectionManager) -> listener::Listener {
    listener::Listener {
        name: "catalog:80".to_owned(),
        api_listener: Some(listener::ApiListener {
            api_listener: Some(any(manager)),
        }),
        ..listener::Listener::default()
    }
}

#[track_caller]
fn listener_refused(change: impl FnOnce(&mut hcm::HttpConnectionManager), expected: &str) {
    let mut manager = manager();
    change(&mut manager);
    refused(Kind::Listener, &listener_of(&manager), expected);
}

#[test]
fn d7_d11_listeners_that_are_refused() {
    use hcm::http_connection_manager::RouteSpecifier;
    assert_eq!(told(Kind::Listener, &listener_of(&manager())), "");
    let unnamed = listener::Listener::default();
    refused(
        Kind::Listener,
        &unnamed,
        "name: has 0 bytes; 1 to 4096 are allowed",
    );
    refused(Kind::Listener, &unnamed, "has no api_listener");
    let mut foreign = listener_of(&manager());
    foreign.api_listener = Some(listener::ApiListener {
        api_listener: Some(any(&router::Router::default())),
    });
    refused(
        Kind::Listener,
        &foreign,
        "api_listener.api_listener: is of type",
    );
    listener_refused(|m| m.route_specifier = None, "has no route_specifier");
    let scoped = RouteSpecifier::ScopedRoutes(hcm::ScopedRoutes::default());
    listener_refused(
        |m| m.route_specifier = Some(scoped),
        "scoped_routes: is not supported",
    );
    let unnamed = hcm::Rds {
        config_source: Some(ads()),
        route_config_name: String::new(),
    };
    listener_refused(
        |m| m.route_specifier = Some(RouteSpecifier::Rds(unnamed)),
        "rds.route_config_name: is empty",
    );
    let elsewhere = hcm::Rds {
        config_source: Some(core::ConfigSource {
            config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Path(
                "/x".into(),
            )),
            ..core::ConfigSource::default()
        }),
        route_config_name: "routes".to_owned(),
    };
    listener_refused(
        |m| m.route_specifier = Some(RouteSpecifier::Rds(elsewhere)),
        "rds.config_source: names another source; \"ads\" and \"self\" are allowed",
    );
    listener_refused(
        |m| m.xff_num_trusted_hops = 2,
        "xff_num_trusted_hops: is 2; only 0 is supported",
    );
    listener_refused(
        |m| m.original_ip_detection_extensions = vec![core::TypedExtensionConfig::default()],
        "original_ip_detection_extensions: is not supported",
    );
    listener_refused(|m| m.http_filters.clear(), "http_filters: is empty");
    let router = filter("router", any(&router::Router::default()));
    listener_refused(
        |m| m.http_filters.push(router.clone()),
        "http_filters[1].name: \"router\" stands twice",
    );
    listener_refused(
        |m| m.http_filters.push(router),
        "http_filters[0].typed_config: is the router, and filters follow it",
    );
    let fault = filter("fault", any(&fault::HttpFault::default()));
    listener_refused(
        |m| m.http_filters = vec![fault.clone()],
        "is the last filter and no",
    );
    listener_refused(
        |m| m.http_filters[0].name.clear(),
        "http_filters[0].name: is empty",
    );
    let unknown = Any {
        type_url: "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz".into(),
        value: Vec::new(),
    };
    listener_refused(
        |m| {
            m.http_filters
                .insert(0, filter("ext_authz", unknown.clone()))
        },
        "http_filters[0].typed_config: \"envoy.extensions.filters.http.ext_authz.v3.ExtAuthz\" is no filter",
    );
    let mut optional = manager();
    optional.http_filters.insert(
        0,
        hcm::HttpFilter {
            is_optional: true,
            ..filter("ext_authz", unknown)
        },
    );
    assert_eq!(told(Kind::Listener, &listener_of(&optional)), "");
    let broken = Any {
        type_url: fault::HttpFault::type_url(),
        value: vec![0xff],
    };
    listener_refused(
        |m| m.http_filters.insert(0, filter("f", broken)),
        "http_filters[0].typed_config: is no envoy",
    );
}

// === Routes ===

fn action() -> route::RouteAction {
    route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster("a".into())),
        ..route::RouteAction::default()
    }
}

fn good_route() -> route::Route {
    route::Route {
        r#match: Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".into())),
            ..route::RouteMatch::default()
        }),
        action: Some(route::route::Action::Route(action())),
        ..route::Route::default()
    }
}

fn routes_of(route: route::Route) -> route::RouteConfiguration {
    route::RouteConfiguration {
        name: "routes".to_owned(),
        virtual_hosts: vec![route::VirtualHost {
            domains: vec!["*".to_owned()],
            routes: vec![good_route(), route],
            ..route::VirtualHost::default()
        }],
        ..route::RouteConfiguration::default()
    }
}

#[track_caller]
fn route_refused(change: impl FnOnce(&mut route::Route), expected: &str) {
    let mut route = good_route();
    change(&mut route);
    let expected = format!("virtual_hosts[0].routes[1].{expected}");
    refused(Kind::RouteConfiguration, &routes_of(route), &expected);
}

#[track_caller]
fn match_refused(change: impl FnOnce(&mut route::RouteMatch), expected: &str) {
    let change = |route: &mut route::Route| change(route.r#match.get_or_insert_default());
    route_refused(change, &format!("match{expected}"));
}

#[track_caller]
fn action_refused(change: impl FnOnce(&mut route::RouteAction), expected: &str) {
    let mut action = action();
    change(&mut action);
    let change =
        |route: &mut route::Route| route.action = Some(route::route::Action::Route(action));
    route_refused(change, &format!("route{expected}"));
}

#[track_caller]
fn retry_refused(policy: route::RetryPolicy, expected: &str) {
    let policy = route::RetryPolicy {
        retry_on: "5xx".into(),
        ..policy
    };
    action_refused(
        |a| a.retry_policy = Some(policy),
        &format!(".retry_policy.{expected}"),
    );
}

#[test]
fn d4_a_route_without_an_action_is_refused() {
    let route = route::Route {
        action: None,
        ..good_route()
    };
    refused(
        Kind::RouteConfiguration,
        &routes_of(route),
        "virtual_hosts[0].routes[1]: has no action",
    );
}

#[test]
fn d4_d5_matches_that_are_refused() {
    use route::header_matcher::HeaderMatchSpecifier as Header;
    use route::route_match::PathSpecifier as Path;
    route_refused(|r| r.r#match = None, "match: is missing");
    match_refused(|m| m.path_specifier = None, ": has no path specifier");
    let connect = Path::ConnectMatcher(Default::default());
    match_refused(
        |m| m.path_specifier = Some(connect),
        ".connect_matcher: is not supported",
    );
    let regex = |regex: &str| matcher::RegexMatcher {
        regex: regex.into(),
        engine_type: None,
    };
    let broken = Path::SafeRegex(regex("("));
    match_refused(
        |m| m.path_specifier = Some(broken),
        ".safe_regex.regex: not a regular expression",
    );
    let long = Path::SafeRegex(regex(&"a".repeat(1_025)));
    match_refused(
        |m| m.path_specifier = Some(long),
        ".safe_regex.regex: the regular expression has 1025 bytes; at most 1024 are allowed",
    );
    let segments = Path::PathSeparatedPrefix("/a/".into());
    match_refused(
        |m| m.path_specifier = Some(segments),
        ".path_separated_prefix: \"/a/\" is no prefix",
    );
    let header = |specifier: Option<Header>| route::HeaderMatcher {
        name: "x-a".into(),
        header_match_specifier: specifier,
        ..Default::default()
    };
    match_refused(
        |m| m.headers = vec![header(None)],
        ".headers[0]: has no specifier",
    );
    let empty = header(Some(Header::PrefixMatch(String::new())));
    match_refused(
        |m| m.headers = vec![empty],
        ".headers[0].prefix_match: is empty",
    );
    let unset = header(Some(Header::StringMatch(Default::default())));
    match_refused(
        |m| m.headers = vec![unset],
        ".headers[0].string_match: has no pattern",
    );
    let broken = header(Some(Header::SafeRegexMatch(regex("["))));
    match_refused(
        |m| m.headers = vec![broken],
        ".headers[0].safe_regex_match.regex: not a regular",
    );
    let present = || Some(Header::PresentMatch(true));
    let nameless = route::HeaderMatcher {
        name: "a b".into(),
        ..header(present())
    };
    match_refused(
        |m| m.headers = vec![nameless],
        ".headers[0].name: \"a b\" is not the name of a header",
    );
    let path = route::HeaderMatcher {
        name: ":path".into(),
        ..header(present())
    };
    match_refused(
        |m| m.headers = vec![path],
        ".headers[0].name: \":path\" cannot be matched",
    );
    match_refused(
        |m| m.tls_context = Some(Default::default()),
        ".tls_context: is a condition",
    );
    match_refused(
        |m| m.dynamic_metadata = vec![Default::default()],
        ".dynamic_metadata: is a condition",
    );
    let share = core::RuntimeFractionalPercent {
        default_value: Some(percent::FractionalPercent {
            numerator: 1,
            denominator: 9,
        }),
        runtime_key: String::new(),
    };
    match_refused(
        |m| m.runtime_fraction = Some(share),
        ".runtime_fraction.default_value.denominator: 9 is unknown",
    );
}

#[test]
fn d3_d6_policies_that_are_refused() {
    use route::retry_policy::RetryBackOff;
    let policy = route::RetryPolicy::default;
    let pauses = |base: Option<Duration>, max: Option<Duration>| route::RetryPolicy {
        retry_back_off: Some(RetryBackOff {
            base_interval: base,
            max_interval: max,
        }),
        ..policy()
    };
    retry_refused(
        route::RetryPolicy {
            num_retries: number(0),
            ..policy()
        },
        "num_retries: is 0; 1 or more is allowed",
    );
    retry_refused(
        pauses(seconds(0), None),
        "retry_back_off.base_interval: is zero",
    );
    retry_refused(
        pauses(None, None),
        "retry_back_off.base_interval: is missing",
    );
    retry_refused(
        pauses(seconds(1), seconds(-1)),
        "retry_back_off.max_interval: -1 s and 0 ns is no duration",
    );
    retry_refused(
        pauses(seconds(2), seconds(1)),
        "retry_back_off.max_interval: 1s is shorter than base_interval, 2s",
    );
    action_refused(
        |a| a.timeout = seconds(-5),
        ".timeout: -5 s and 0 ns is no duration",
    );
    action_refused(
        |a| a.timeout = seconds(315_576_000_001),
        ".timeout: 315576000001 s and 0 ns",
    );
    let nanos = Some(Duration {
        seconds: 1,
        nanos: 1_000_000_000,
    });
    action_refused(|a| a.timeout = nanos, ".timeout: 1 s and 1000000000 ns");
    let weighted = |weights: &[u32]| {
        let clusters = weights
            .iter()
            .map(|weight| route::weighted_cluster::ClusterWeight {
                name: "a".into(),
                weight: number(*weight),
                ..Default::default()
            });
        Some(route::route_action::ClusterSpecifier::WeightedClusters(
            route::WeightedCluster {
                clusters: clusters.collect(),
                ..Default::default()
            },
        ))
    };
    action_refused(
        |a| a.cluster_specifier = weighted(&[0, 0]),
        ".weighted_clusters.clusters: have weights whose sum is 0 or above",
    );
    action_refused(
        |a| a.cluster_specifier = weighted(&[u32::MAX, 1]),
        ".weighted_clusters.clusters: have weights",
    );
    let hash = route::route_action::HashPolicy {
        policy_specifier: Some(route::route_action::hash_policy::PolicySpecifier::Header(
            route::route_action::hash_policy::Header {
                header_name: "x-a".into(),
                regex_rewrite: Some(matcher::RegexMatchAndSubstitute {
                    pattern: Some(matcher::RegexMatcher {
                        regex: "(".into(),
                        engine_type: None,
                    }),
                    substitution: String::new(),
                }),
            },
        )),
        terminal: false,
    };
    action_refused(
        |a| a.hash_policy = vec![hash],
        ".hash_policy[0].header.regex_rewrite.pattern.regex: not a regular",
    );
    let unknown = Any {
        type_url: "type.googleapis.com/x.Y".into(),
        value: Vec::new(),
    };
    route_refused(
        |r| r.typed_per_filter_config = HashMap::from([("f".to_owned(), unknown.clone())]),
        "typed_per_filter_config[\"f\"]: \"x.Y\" is no filter that is known here",
    );
    let optional = any(&route::FilterConfig {
        config: Some(unknown),
        is_optional: true,
        disabled: false,
    });
    let mut fine = good_route();
    fine.typed_per_filter_config = HashMap::from([("f".to_owned(), optional)]);
    assert_eq!(told(Kind::RouteConfiguration, &routes_of(fine)), "");
}

#[test]
fn domains_that_are_refused() {
    let with = |domains: &[&str]| {
        let mut routes = routes_of(good_route());
        routes.virtual_hosts[0].domains = domains.iter().map(|text| (*text).to_owned()).collect();
        routes
    };
    refused(
        Kind::RouteConfiguration,
        &with(&[]),
        "virtual_hosts[0].domains: is empty",
    );
    refused(
        Kind::RouteConfiguration,
        &with(&["a*b"]),
        "virtual_hosts[0].domains[0]: \"a*b\" is no domain",
    );
    refused(
        Kind::RouteConfiguration,
        &with(&["a", "A"]),
        "virtual_hosts[0].domains[1]: stands also in virtual_hosts[0]",
    );
}

// === Clusters ===

fn good_cluster() -> cluster::Cluster {
    cluster::Cluster {
        name: "a".to_owned(),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(3)),
        eds_cluster_config: Some(cluster::cluster::EdsClusterConfig {
            eds_config: Some(ads()),
            service_name: String::new(),
        }),
        ..cluster::Cluster::default()
    }
}

#[track_caller]
fn cluster_refused(change: impl FnOnce(&mut cluster::Cluster), expected: &str) {
    let mut cluster = good_cluster();
    change(&mut cluster);
    refused(Kind::Cluster, &cluster, expected);
}

#[test]
fn d8_d10_clusters_that_are_refused() {
    use cluster::cluster::{ClusterDiscoveryType as Type, LbConfig};
    assert_eq!(told(Kind::Cluster, &good_cluster()), "");
    cluster_refused(
        |c| c.cluster_discovery_type = Some(Type::Type(9)),
        "type: 9 is unknown",
    );
    cluster_refused(
        |c| c.eds_cluster_config = None,
        "eds_cluster_config: is missing",
    );
    cluster_refused(
        |c| c.eds_cluster_config = Some(Default::default()),
        "eds_cluster_config.eds_config: is missing",
    );
    cluster_refused(
        |c| c.name = "xdstp://a/b".into(),
        "eds_cluster_config.service_name: is empty",
    );
    cluster_refused(
        |c| c.cluster_discovery_type = Some(Type::Type(2)),
        "load_assignment: is missing",
    );
    cluster_refused(|c| c.lb_policy = 9, "lb_policy: 9 is unknown");
    let ring = |minimum: u64, maximum: u64, hash_function: i32| {
        LbConfig::RingHashLbConfig(cluster::cluster::RingHashLbConfig {
            minimum_ring_size: Some(UInt64Value { value: minimum }),
            maximum_ring_size: Some(UInt64Value { value: maximum }),
            hash_function,
        })
    };
    let with_ring = |config: LbConfig, expected: &str| {
        cluster_refused(
            |c| {
                c.lb_policy = 2;
                c.lb_config = Some(config);
            },
            expected,
        );
    };
    with_ring(
        ring(9, 8, 0),
        "ring_hash_lb_config: has a ring of 9 to 8 entries",
    );
    with_ring(ring(1, 9_000_000, 0), "at most 8388608 are allowed");
    with_ring(
        ring(1, 2, 1),
        "ring_hash_lb_config.hash_function: is 1; only XX_HASH (0) is allowed",
    );
    let least = LbConfig::LeastRequestLbConfig(cluster::cluster::LeastRequestLbConfig {
        choice_count: number(1),
        ..Default::default()
    });
    cluster_refused(
        |c| {
            c.lb_policy = 1;
            c.lb_config = Some(least);
        },
        "least_request_lb_config.choice_count: is 1; 2 or more is allowed",
    );
    let outlier = |outlier: cluster::OutlierDetection, expected: &str| {
        cluster_refused(|c| c.outlier_detection = Some(outlier), expected);
    };
    let plain = cluster::OutlierDetection::default;
    outlier(
        cluster::OutlierDetection {
            max_ejection_percent: number(101),
            ..plain()
        },
        "outlier_detection.max_ejection_percent: 101 is not a percentage",
    );
    outlier(
        cluster::OutlierDetection {
            enforcing_success_rate: number(101),
            ..plain()
        },
        "outlier_detection.enforcing_success_rate: 101",
    );
    outlier(
        cluster::OutlierDetection {
            interval: seconds(-1),
            ..plain()
        },
        "outlier_detection.interval: -1 s",
    );
    outlier(
        cluster::OutlierDetection {
            enforcing_consecutive_5xx: number(50),
            ..plain()
        },
        "is 50; 0 and 100 are allowed",
    );
    cluster_refused(
        |c| c.lrs_server = Some(ads()),
        "lrs_server: names another server; only \"self\" is allowed",
    );
    cluster_refused(
        |c| c.transport_socket = Some(Default::default()),
        "transport_socket.typed_config: is missing",
    );
    cluster_refused(
        |c| c.transport_socket_matches = vec![Default::default()],
        "transport_socket_matches: chooses transports in another way",
    );
    let breakers = cluster::CircuitBreakers {
        per_host_thresholds: vec![cluster::circuit_breakers::Thresholds {
            max_connections: number(0),
            ..Default::default()
        }],
        ..Default::default()
    };
    cluster_refused(
        |c| c.circuit_breakers = Some(breakers),
        "circuit_breakers.per_host_thresholds[0].max_connections: is 0",
    );
    let upstream = core::TypedExtensionConfig {
        name: "x".into(),
        typed_config: Some(any(&router::Router::default())),
    };
    cluster_refused(
        |c| c.upstream_config = Some(upstream),
        "upstream_config.typed_config: is of type",
    );
}

fn policy(config: Any) -> cluster::LoadBalancingPolicy {
    cluster::LoadBalancingPolicy {
        policies: vec![cluster::load_balancing_policy::Policy {
            typed_extension_config: Some(core::TypedExtensionConfig {
                name: "x".into(),
                typed_config: Some(config),
            }),
        }],
    }
}

#[test]
fn d10_balancing_policies_that_are_refused() {
    let with = |policy: cluster::LoadBalancingPolicy, expected: &str| {
        cluster_refused(|c| c.load_balancing_policy = Some(policy), expected);
    };
    with(
        Default::default(),
        "load_balancing_policy: has no policy that is known here (the first is \"missing\")",
    );
    let unknown = Any {
        type_url: "type.googleapis.com/x.Y".into(),
        value: Vec::new(),
    };
    with(policy(unknown), "(the first is \"x.Y\")");
    let mut deep = policy(any(&lb::round_robin::v3::RoundRobin::default()));
    for _ in 0..17 {
        deep = policy(any(&lb::wrr_locality::v3::WrrLocality {
            endpoint_picking_policy: Some(deep),
        }));
    }
    with(deep, "is nested deeper than 16 policies");
    let subset = lb::random_subsetting::v3::RandomSubsetting {
        subset_size: number(0),
        child_policy: None,
    };
    with(
        policy(any(&subset)),
        "subset_size: is 0; 1 or more is allowed",
    );
    let penalty = lb::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin {
        error_utilization_penalty: Some(crate::source::xds::proto::FloatValue { value: -1.0 }),
        ..Default::default()
    };
    with(
        policy(any(&penalty)),
        "error_utilization_penalty: is -1; 0 or more is allowed",
    );
}

// === Endpoints ===

fn lb_endpoint(port: u32) -> endpoint::LbEndpoint {
    endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
            endpoint::Endpoint {
                address: Some(core::Address {
                    address: Some(core::address::Address::SocketAddress(core::SocketAddress {
                        address: "10.0.0.1".into(),
                        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port)),
                        ..Default::default()
                    })),
                }),
                ..Default::default()
            },
        )),
        ..Default::default()
    }
}

fn locality(priority: u32, ports: &[u32]) -> endpoint::LocalityLbEndpoints {
    endpoint::LocalityLbEndpoints {
        locality: Some(core::Locality::default()),
        lb_endpoints: ports.iter().map(|port| lb_endpoint(*port)).collect(),
        load_balancing_weight: number(1),
        priority,
        ..Default::default()
    }
}

#[track_caller]
fn endpoints_refused(endpoints: Vec<endpoint::LocalityLbEndpoints>, expected: &str) {
    let message = endpoint::ClusterLoadAssignment {
        cluster_name: "a".into(),
        endpoints,
        ..Default::default()
    };
    refused(Kind::Endpoints, &message, expected);
}

#[test]
fn d3_d9_endpoints_that_are_refused() {
    let nowhere = endpoint::LocalityLbEndpoints {
        locality: None,
        ..locality(0, &[1])
    };
    endpoints_refused(vec![nowhere], "endpoints[0].locality: is missing");
    endpoints_refused(
        vec![locality(0, &[1]), locality(0, &[2])],
        "endpoints[1].locality: \"//\" stands twice in priority 0",
    );
    endpoints_refused(
        vec![locality(0, &[1]), locality(2, &[2])],
        "endpoints: have priority 2 and none of priority 1",
    );
    endpoints_refused(
        vec![locality(0, &[1, 1])],
        "endpoints[0].lb_endpoints[1].endpoint.address: \"10.0.0.1:1\" stands twice",
    );
    endpoints_refused(
        vec![locality(0, &[0])],
        "socket_address.port_value: 0 is no port; 1 to 65535 is allowed",
    );
    endpoints_refused(vec![locality(0, &[70_000])], "port_value: 70000 is no port");
    let mut heavy = locality(0, &[1, 2]);
    heavy.lb_endpoints[0].load_balancing_weight = number(u32::MAX);
    endpoints_refused(
        vec![heavy],
        "endpoints[0].lb_endpoints: have weights whose sum is 4294967296",
    );
    let mut weightless = locality(0, &[1]);
    weightless.lb_endpoints[0].load_balancing_weight = number(0);
    endpoints_refused(
        vec![weightless],
        "lb_endpoints[0].load_balancing_weight: is 0; 1 or more is allowed",
    );
    let mut other = locality(0, &[2]);
    other.locality = Some(core::Locality {
        region: "b".into(),
        ..Default::default()
    });
    other.load_balancing_weight = number(u32::MAX);
    endpoints_refused(
        vec![locality(0, &[1]), other],
        "endpoints: of priority 0 have weights whose sum is 4294967296",
    );
    let drop = endpoint::cluster_load_assignment::policy::DropOverload {
        category: "lb".into(),
        drop_percentage: Some(percent::FractionalPercent {
            numerator: 1,
            denominator: 7,
        }),
    };
    let dropping = endpoint::ClusterLoadAssignment {
        cluster_name: "a".into(),
        policy: Some(endpoint::cluster_load_assignment::Policy {
            drop_overloads: vec![drop],
            ..Default::default()
        }),
        ..Default::default()
    };
    refused(
        Kind::Endpoints,
        &dropping,
        "policy.drop_overloads[0].drop_percentage.denominator: 7 is unknown",
    );
}

#[test]
fn d1_bytes_that_are_no_message_are_refused() {
    for kind in Kind::ALL {
        assert!(decode(kind, &[0xff, 0xff, 0xff]).is_err(), "{kind}");
    }
    // A message that is nested deeper than prost allows: matchers in matchers would be one.
    let mut deep = Vec::new();
    for _ in 0..200 {
        let mut outer = vec![0x12];
        prost::encoding::encode_varint(deep.len() as u64, &mut outer);
        outer.extend_from_slice(&deep);
        deep = outer;
    }
    for kind in Kind::ALL {
        assert!(decode(kind, &deep).is_err(), "{kind}");
    }
}

// === Security ===

fn provider(name: &str) -> Option<tls::CertificateProviderPluginInstance> {
    Some(tls::CertificateProviderPluginInstance {
        instance_name: name.to_owned(),
        certificate_name: "default".to_owned(),
    })
}

fn trusting(context: tls::CertificateValidationContext) -> tls::UpstreamTlsContext {
    use tls::common_tls_context::ValidationContextType as Validation;
    tls::UpstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            tls_certificate_provider_instance: provider("default"),
            validation_context_type: Some(Validation::ValidationContext(context)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn good_trust() -> tls::CertificateValidationContext {
    tls::CertificateValidationContext {
        ca_certificate_provider_instance: provider("default"),
        ..Default::default()
    }
}

fn socket(config: Any) -> Option<core::TransportSocket> {
    Some(core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(config)),
    })
}

#[track_caller]
fn tls_refused(context: &tls::UpstreamTlsContext, expected: &str) {
    let expected = format!("transport_socket.typed_config{expected}");
    cluster_refused(|c| c.transport_socket = socket(any(context)), &expected);
}

#[track_caller]
fn trust_refused(change: impl FnOnce(&mut tls::CertificateValidationContext), expected: &str) {
    let mut trust = good_trust();
    change(&mut trust);
    let expected = format!(".common_tls_context.validation_context{expected}");
    tls_refused(&trusting(trust), &expected);
}

#[test]
fn d8_security_that_is_refused() {
    let empty = tls::UpstreamTlsContext::default();
    tls_refused(&empty, ".common_tls_context: is missing");
    let mut nobody = trusting(good_trust());
    nobody
        .common_tls_context
        .as_mut()
        .unwrap()
        .validation_context_type = None;
    tls_refused(
        &nobody,
        ".common_tls_context.validation_context: is missing",
    );
    let mut params = trusting(good_trust());
    params.common_tls_context.as_mut().unwrap().tls_params = Some(Default::default());
    tls_refused(&params, ".common_tls_context.tls_params: is not supported");
    let mut unknown = trusting(good_trust());
    unknown
        .common_tls_context
        .as_mut()
        .unwrap()
        .tls_certificate_provider_instance = provider("x");
    tls_refused(
        &unknown,
        ".common_tls_context.tls_certificate_provider_instance.instance_name: \"x\" is none of the bootstrap's",
    );
    let long = tls::UpstreamTlsContext {
        sni: "a".repeat(256),
        ..trusting(good_trust())
    };
    tls_refused(&long, ".sni: has 256 bytes; at most 255 are allowed");
    trust_refused(
        |t| t.ca_certificate_provider_instance = None,
        ": trusts nobody",
    );
    trust_refused(
        |t| t.ca_certificate_provider_instance = provider("y"),
        ".ca_certificate_provider_instance.instance_name: \"y\" is none of",
    );
    trust_refused(
        |t| t.verify_certificate_hash = vec!["a".into()],
        ".verify_certificate_hash: is not supported",
    );
    trust_refused(
        |t| t.verify_certificate_spki = vec!["a".into()],
        ".verify_certificate_spki: is not supported",
    );
    trust_refused(
        |t| t.crl = Some(Default::default()),
        ".crl: is not supported",
    );
    trust_refused(
        |t| t.custom_validator_config = Some(Default::default()),
        ".custom_validator_config: is not supported",
    );
    trust_refused(
        |t| t.match_subject_alt_names = vec![Default::default()],
        ".match_subject_alt_names[0]: has no pattern",
    );
    let other = tls::SubjectAltNameMatcher {
        san_type: tls::subject_alt_name_matcher::SanType::OtherName.into(),
        matcher: Some(matcher::StringMatcher {
            match_pattern: Some(matcher::string_matcher::MatchPattern::Exact("a".into())),
            ignore_case: false,
        }),
        oid: String::new(),
    };
    trust_refused(
        |t| t.match_typed_subject_alt_names = vec![other],
        ".match_typed_subject_alt_names[0]: is of a type that is not supported",
    );
    cluster_refused(
        |c| c.transport_socket = socket(any(&router::Router::default())),
        "transport_socket.typed_config: \"envoy.extensions.filters.http.router.v3.Router\" is no transport",
    );
}

/// What istiod sends proxyless clients for `ISTIO_MUTUAL`, and Envoys for automatic mutual TLS.
#[test]
fn security_as_istiod_spells_it_is_understood() {
    use crate::model::security::{Alpn, Material, Security, Sni};
    use crate::source::xds::resource::Resource;
    let read = |cluster: &cluster::Cluster| {
        let decoded = decode(Kind::Cluster, &cluster.encode_to_vec()).unwrap();
        let Resource::Cluster { cluster, .. } = decoded.resource else {
            panic!("a cluster came back as another kind");
        };
        cluster.security.clone()
    };
    let mut istio = good_cluster();
    istio.name = "outbound|80|v1|catalog.my-app.svc.cluster.local".to_owned();
    istio.transport_socket = socket(any(&trusting(good_trust())));
    let Security::Tls(tls) = read(&istio) else {
        panic!("a cluster with a transport socket is not secured");
    };
    let sni = "outbound_.80_.v1_.catalog.my-app.svc.cluster.local";
    assert_eq!(tls.sni, Sni::Name(sni.into()));
    assert_eq!(tls.alpn, Alpn::Istio);
    assert_eq!(tls.identity, Some(Material::Named("default".into())));
    let mode = envoy_types::pb::google::protobuf::Value {
        kind: Some(envoy_types::pb::google::protobuf::value::Kind::StringValue(
            "istio".into(),
        )),
    };
    let meshed = cluster::cluster::TransportSocketMatch {
        name: "tlsMode-istio".to_owned(),
        r#match: Some(envoy_types::pb::google::protobuf::Struct {
            fields: HashMap::from([("tlsMode".to_owned(), mode)]),
        }),
        transport_socket: istio.transport_socket.take(),
    };
    let other = cluster::cluster::TransportSocketMatch {
        name: "tlsMode-disabled".to_owned(),
        r#match: Some(Default::default()),
        transport_socket: socket(any(&raw_buffer::RawBuffer::default())),
    };
    istio.transport_socket_matches = vec![meshed, other];
    assert_eq!(read(&istio), Security::Automatic(tls));
}
