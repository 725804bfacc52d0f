//! Which DestinationRule is in force for a host, and what its policies become.

use std::time::Duration;

use meshwork::model::Percent;
use meshwork::model::cluster::{Balancing, Keepalive, Protocol};
use meshwork::model::limit::RetryLimit;

use super::*;

/// A rule that is told by its `maxConnections`.
fn rule(name: &str, connections: u32, more: &str) -> String {
    let policy = format!(
        "  host: {CATALOG}\n  trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: \
         {connections}}}}}}}\n{more}"
    );
    destination_rule(name, &policy)
}

fn connections_of(client: &Workload, texts: &[&str]) -> u32 {
    let compiled = compiled_as(client, &Options::default(), texts);
    cluster(&compiled.resources, &format!("outbound|80||{CATALOG}"))
        .limits
        .connections
}

#[test]
fn rule_of_the_clients_namespace_comes_before_the_services_and_that_before_the_root() {
    let client = Workload::new("shop", "cart");
    let own = rule("own.shop", 1, "");
    let service = rule("service.my-app", 2, "");
    let root = rule("root.istio-system", 3, "");
    let elsewhere = rule("elsewhere.other", 4, "");
    let catalog = catalog();
    let all = [&*catalog, &elsewhere, &root, &service, &own];
    assert_eq!(connections_of(&client, &all), 1);
    assert_eq!(connections_of(&client, &all[..4]), 2);
    assert_eq!(connections_of(&client, &all[..3]), 3);
    assert_eq!(connections_of(&client, &all[..2]), u32::MAX);
}

#[test]
fn nothing_is_merged_across_namespaces() {
    let subset = rule(
        "service.my-app",
        2,
        "  subsets: [{name: v1, labels: {version: v1}}]",
    );
    let client = Workload::new("shop", "cart");
    let texts = [&*catalog(), &rule("own.shop", 1, ""), &subset];
    let compiled = compiled_as(&client, &Options::default(), &texts);
    assert_eq!(
        compiled.resources.clusters.len(),
        1,
        "no subset of the other rule"
    );
}

#[test]
fn export_to_hides_a_rule_from_other_namespaces() {
    let client = Workload::new("shop", "cart");
    for export in ["[\".\"]", "[other]", "[\"~\"]"] {
        let hidden = rule("service.my-app", 2, &format!("  exportTo: {export}"));
        assert_eq!(
            connections_of(&client, &[&catalog(), &hidden]),
            u32::MAX,
            "{export}"
        );
    }
    for export in ["[shop]", "[\"*\"]"] {
        let seen = rule("service.my-app", 2, &format!("  exportTo: {export}"));
        assert_eq!(connections_of(&client, &[&catalog(), &seen]), 2, "{export}");
    }
}

#[test]
fn client_in_the_root_namespace_takes_only_private_rules_there_first() {
    let client = Workload::new("istio-system", "gateway");
    let public = rule("root.istio-system", 3, "");
    let service = rule("service.my-app", 2, "");
    assert_eq!(connections_of(&client, &[&catalog(), &public, &service]), 2);
    let private = rule("root.istio-system", 3, "  exportTo: [\".\"]");
    assert_eq!(
        connections_of(&client, &[&catalog(), &private, &service]),
        3
    );
}

#[test]
fn most_specific_host_wins_and_is_not_merged_with_a_wildcard() {
    let wildcard = |name: &str, host: &str, connections| {
        rule(name, connections, "  subsets: [{name: x, labels: {}}]")
            .replace(&format!("host: {CATALOG}"), &format!("host: \"{host}\""))
    };
    let all = wildcard("all.my-app", "*.local", 1);
    let longer = wildcard("longer.my-app", "*.my-app.svc.cluster.local", 2);
    let exact = rule("exact.my-app", 3, "");
    let catalog = catalog();
    let texts = [&*catalog, &all, &longer, &exact];
    assert_eq!(connections_of(&order(), &texts), 3);
    assert_eq!(connections_of(&order(), &texts[..3]), 2);
    assert_eq!(connections_of(&order(), &texts[..2]), 1);
    assert_eq!(
        resources(&texts).clusters.len(),
        1,
        "no subset of a wildcard"
    );
}

#[test]
fn rules_of_one_host_are_merged_and_the_first_policy_counts() {
    let one = rule(
        "one.my-app",
        1,
        "  subsets: [{name: v1, labels: {version: v1}}]",
    );
    let two = rule(
        "two.my-app",
        2,
        "  subsets: [{name: v2, labels: {version: v2}}, {name: v1, labels: {version: v9}}]",
    );
    let compiled = compiled(&[&catalog(), &one, &two]);
    assert_eq!(compiled.resources.clusters.len(), 3);
    for cluster in compiled.resources.clusters.values() {
        assert_eq!(cluster.limits.connections, 1);
    }
    let v1 = format!("outbound|80|v1|{CATALOG}");
    assert_eq!(
        addresses(&compiled.resources, &v1).len(),
        2,
        "of the first rule"
    );
    assert_warns(&compiled, "M045 2.yaml", "trafficPolicy: has no effect");
    assert_warns(&compiled, "M045 2.yaml", "subsets[1].name: has no effect");
}

#[test]
fn first_policy_is_the_first_that_is_there() {
    let spec = format!("  host: {CATALOG}\n  subsets: [{{name: v1, labels: {{version: v1}}}}]");
    let subsets = destination_rule("one.my-app", &spec);
    let resources = resources(&[&catalog(), &subsets, &rule("two.my-app", 2, "")]);
    assert_eq!(resources.clusters.len(), 2);
    assert!(
        resources
            .clusters
            .values()
            .all(|one| one.limits.connections == 2)
    );
}

#[test]
fn rules_with_different_export_stay_apart_and_the_last_counts() {
    let one = rule(
        "one.my-app",
        1,
        "  exportTo: [\".\"]\n  subsets: [{name: v1, labels: {}}]",
    );
    let two = rule("two.my-app", 2, "");
    let compiled = compiled(&[&catalog(), &one, &two]);
    assert_eq!(compiled.resources.clusters.len(), 1);
    let whole = cluster(&compiled.resources, &format!("outbound|80||{CATALOG}"));
    assert_eq!(whole.limits.connections, 2);
}

#[test]
fn rule_with_a_workload_selector_is_used_alone_by_the_workloads_that_it_selects() {
    let selected = rule(
        "selected.my-app",
        1,
        "  workloadSelector: {matchLabels: {app: order}}",
    );
    let general = rule(
        "general.my-app",
        2,
        "  subsets: [{name: v1, labels: {version: v1}}]",
    );
    let catalog = catalog();
    let texts = [&*catalog, &general, &selected];
    assert_eq!(connections_of(&order(), &texts), 1);
    assert_eq!(resources(&texts).clusters.len(), 1, "nothing is inherited");
    let other = Workload::new("my-app", "cart").label("app", "cart");
    assert_eq!(connections_of(&other, &texts), 2);
    let foreign = Workload::new("shop", "cart").label("app", "order");
    assert_eq!(
        connections_of(&foreign, &texts),
        2,
        "never seen outside of its namespace"
    );
}

const POLICY: &str = r"  host: catalog
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    connectionPool: {tcp: {maxConnections: 1}, http: {http2MaxRequests: 10}}
    outlierDetection: {}
    portLevelSettings:
    - port: {number: 81}
      connectionPool: {tcp: {maxConnections: 2}}
  subsets:
  - name: inherits
    labels: {version: v1}
  - name: overrides
    labels: {version: v1}
    trafficPolicy:
      connectionPool: {tcp: {maxConnections: 3}}
      portLevelSettings:
      - port: {number: 81}
        loadBalancer: {simple: RANDOM}";

fn policies() -> Resources {
    let two = service(
        "catalog.my-app",
        &[("http", 80), ("http-b", 81)],
        &[("10.0.0.1", "v1")],
    );
    resources(&[&two, &destination_rule("catalog.my-app", POLICY)])
}

#[test]
fn port_level_settings_replace_all_blocks_of_the_host() {
    let resources = policies();
    let of = |port: u16| cluster(&resources, &format!("outbound|{port}||{CATALOG}"));
    assert_eq!((of(80).limits.connections, of(80).limits.requests), (1, 10));
    assert_eq!(of(80).balancing, Balancing::RoundRobin);
    assert!(of(80).outlier.is_some());
    assert_eq!(
        (of(81).limits.connections, of(81).limits.requests),
        (2, u32::MAX)
    );
    assert_eq!(
        of(81).balancing,
        Balancing::LeastRequest,
        "back to the default"
    );
    assert_eq!(of(81).outlier, None);
}

#[test]
fn subset_policy_overrides_per_block_and_its_port_level_settings_replace_all() {
    let resources = policies();
    let of = |port: u16, subset: &str| {
        cluster(&resources, &format!("outbound|{port}|{subset}|{CATALOG}"))
    };
    let inherits = of(80, "inherits");
    assert_eq!(
        (inherits.limits.connections, inherits.limits.requests),
        (1, 10)
    );
    let overrides = of(80, "overrides");
    assert_eq!(
        (overrides.limits.connections, overrides.limits.requests),
        (3, u32::MAX)
    );
    assert_eq!(overrides.balancing, Balancing::RoundRobin, "another block");
    assert!(overrides.outlier.is_some());
    let of_port = of(81, "overrides");
    assert_eq!(of_port.balancing, Balancing::Random);
    assert_eq!(of_port.limits.connections, u32::MAX);
    assert_eq!(of(81, "inherits").limits.connections, 2);
}

fn with_policy(port: &str, policy: &str) -> Cluster {
    let texts = [
        service("catalog.my-app", &[(port, 80)], &[("10.0.0.1", "v1")]),
        destination_rule(
            "catalog.my-app",
            &format!("  host: catalog\n  trafficPolicy: {policy}"),
        ),
    ];
    let resources = resources(&[&texts[0], &texts[1]]);
    cluster(&resources, &format!("outbound|80||{CATALOG}")).clone()
}

#[test]
fn connection_pool_fields_are_in_force() {
    let cluster = with_policy(
        "http",
        "{connectionPool: {tcp: {maxConnections: 7, connectTimeout: 1s, \
         tcpKeepalive: {probes: 3, time: 10s, interval: 2s}, maxConnectionDuration: 5m, \
         idleTimeout: 7s}, http: {http1MaxPendingRequests: 8, http2MaxRequests: 9, maxRetries: 4, \
         maxRequestsPerConnection: 11, maxConcurrentStreams: 12, \
         http2KeepAlive: {interval: 20s, timeout: 3s}}}}",
    );
    assert_eq!(cluster.limits.connections, 7);
    assert_eq!((cluster.limits.pending, cluster.limits.requests), (8, 9));
    assert_eq!(cluster.limits.retries, RetryLimit::Concurrent(4));
    assert_eq!(cluster.connect_timeout, Duration::from_secs(1));
    let connection = &cluster.connection;
    assert_eq!(connection.max_requests.unwrap().get(), 11);
    assert_eq!(connection.max_concurrent_streams.unwrap().get(), 12);
    assert_eq!(connection.max_age, Some(Duration::from_secs(300)));
    assert_eq!(
        connection.idle_timeout,
        Some(Duration::from_secs(7)),
        "of tcp"
    );
    let keepalive = Keepalive {
        interval: Duration::from_secs(20),
        timeout: Duration::from_secs(3),
    };
    assert_eq!(connection.http2_keepalive, Some(keepalive));
    let tcp = connection.tcp_keepalive.unwrap();
    assert_eq!(
        (tcp.probes, tcp.time),
        (Some(3), Some(Duration::from_secs(10)))
    );
}

#[test]
fn http_idle_timeout_has_priority_and_an_hour_is_the_default() {
    let idle = |pool: &str| with_policy("http", pool).connection.idle_timeout;
    let both = "{connectionPool: {tcp: {idleTimeout: 7s}, http: {idleTimeout: 8s}}}";
    assert_eq!(idle(both), Some(Duration::from_secs(8)));
    let none = "{connectionPool: {tcp: {maxConnections: 1}}}";
    assert_eq!(idle(none), Some(Duration::from_secs(3_600)));
}

#[test]
fn protocol_is_that_of_the_port_unless_the_pool_says_otherwise() {
    let spoken = |port: &str, http: &str| {
        with_policy(port, &format!("{{connectionPool: {{http: {http}}}}}")).protocol
    };
    assert_eq!(spoken("http", "{maxRetries: 1}"), Protocol::Http1);
    assert_eq!(spoken("grpc", "{maxRetries: 1}"), Protocol::Http2);
    assert_eq!(
        spoken("http", "{h2UpgradePolicy: UPGRADE}"),
        Protocol::Http2
    );
    assert_eq!(
        spoken("grpc", "{h2UpgradePolicy: DO_NOT_UPGRADE}"),
        Protocol::Http2
    );
    assert_eq!(
        spoken("http", "{useClientProtocol: true}"),
        Protocol::SameAsRequest
    );
    assert_eq!(spoken("web", "{maxRetries: 1}"), Protocol::SameAsRequest);
}

#[test]
fn retry_budget_comes_before_max_retries_and_the_meshs_own_budget_is_the_default() {
    let retries = |policy: &str| with_policy("http", policy).limits.retries;
    let both = "{retryBudget: {percent: 25}, connectionPool: {http: {maxRetries: 4}}}";
    let share = |interval| RetryLimit::Share {
        percent: Percent::new(25).unwrap(),
        minimum: 3,
        interval,
    };
    assert_eq!(retries(both), share(Duration::ZERO));
    assert_eq!(
        retries("{retryBudget: {percent: 25, budgetInterval: 1500ms}}"),
        share(Duration::from_millis(1_500))
    );
    assert_eq!(
        retries("{loadBalancer: {simple: RANDOM}}"),
        RetryLimit::Budget
    );
    assert_eq!(
        retries("{connectionPool: {http: {maxRetries: 0}}}"),
        RetryLimit::Budget
    );
}

#[test]
fn simple_balancers() {
    let simple = |name: &str| {
        with_policy("http", &format!("{{loadBalancer: {{simple: {name}}}}}")).balancing
    };
    assert_eq!(simple("RANDOM"), Balancing::Random);
    assert_eq!(simple("ROUND_ROBIN"), Balancing::RoundRobin);
    for name in ["LEAST_REQUEST", "LEAST_CONN", "UNSPECIFIED"] {
        assert_eq!(simple(name), Balancing::LeastRequest, "{name}");
    }
}

#[test]
fn empty_outlier_detection_is_on_with_istios_defaults() {
    let cluster = with_policy("http", "{outlierDetection: {}}");
    let outlier = cluster.outlier.unwrap();
    assert_eq!(outlier.consecutive_5xx.unwrap().get(), 5);
    assert_eq!(outlier.consecutive_gateway, None);
    assert_eq!(outlier.local_origin, None);
    assert_eq!(outlier.interval, Duration::from_secs(10));
    assert_eq!(outlier.base_ejection_time, Duration::from_secs(30));
    assert_eq!(outlier.max_ejection.value(), 10);
    assert_eq!(cluster.panic_threshold.value(), 0);
    let without = with_policy("http", "{loadBalancer: {simple: RANDOM}}");
    assert_eq!(
        (without.outlier, without.panic_threshold.value()),
        (None, 50)
    );
}

#[test]
fn outlier_detection_fields_are_in_force_and_zero_turns_a_counter_off() {
    let cluster = with_policy(
        "http",
        "{outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 4, \
         splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 6, \
         baseEjectionTime: 10m, maxEjectionPercent: 50, minHealthPercent: 30, \
         outlierDetectionHttpErrorCodes: [429, 503]}}",
    );
    assert_eq!(cluster.panic_threshold.value(), 30);
    let outlier = cluster.outlier.unwrap();
    assert_eq!(outlier.consecutive_5xx, None);
    assert_eq!(outlier.consecutive_gateway.unwrap().get(), 4);
    assert_eq!(outlier.local_origin.unwrap().consecutive.unwrap().get(), 6);
    assert_eq!(
        outlier.max_ejection_time,
        Duration::from_secs(600),
        "at least the base"
    );
    assert_eq!(outlier.max_ejection.value(), 50);
    assert_eq!(outlier.error_statuses, [429, 503]);
}

#[test]
fn cluster_has_the_origin_of_the_policy_or_the_subset() {
    let resources = policies();
    let line = |name: &str| cluster(&resources, name).origin.to_string();
    let whole = line(&format!("outbound|80||{CATALOG}"));
    assert!(whole.starts_with("1.yaml:7 (destinationrule"), "{whole}");
    let subset = line(&format!("outbound|80|overrides|{CATALOG}"));
    assert!(subset.starts_with("1.yaml:16 "), "{subset}");
}
