//! Settings of clusters: connections, limits, outliers, protocols.

use super::clusters::{cluster_refused, good_cluster};
use super::{number, seconds, told};
use crate::source::xds::Kind;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{
    Any, Duration, UInt32Value, cluster, core, percent, router, upstream,
};

/// The key of protocol options, and the type of what stands there.
const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn negative() -> Option<Duration> {
    seconds(-1)
}

#[test]
fn d10_every_number_of_outlier_detection_is_checked() {
    type Change = fn(&mut cluster::OutlierDetection);
    let percents: [(Change, &str); 4] = [
        (
            |o| o.max_ejection_percent = number(101),
            "max_ejection_percent",
        ),
        (
            |o| o.enforcing_success_rate = number(101),
            "enforcing_success_rate",
        ),
        (
            |o| o.failure_percentage_threshold = number(101),
            "failure_percentage_threshold",
        ),
        (
            |o| o.enforcing_failure_percentage = number(101),
            "enforcing_failure_percentage",
        ),
    ];
    for (change, field) in percents {
        outlier_refused(change, &format!("{field}: 101 is not a percentage"));
    }
    let times: [(Change, &str); 3] = [
        (|o| o.interval = negative(), "interval"),
        (|o| o.base_ejection_time = negative(), "base_ejection_time"),
        (|o| o.max_ejection_time = negative(), "max_ejection_time"),
    ];
    for (change, field) in times {
        outlier_refused(change, &format!("{field}: -1 s and 0 ns is no duration"));
    }
    let long: [(Change, &str); 3] = [
        (|o| o.interval = nanoseconds(), "interval"),
        (
            |o| o.base_ejection_time = nanoseconds(),
            "base_ejection_time",
        ),
        (|o| o.max_ejection_time = nanoseconds(), "max_ejection_time"),
    ];
    for (change, field) in long {
        outlier_refused(change, &format!("{field}: 1 s and 1000000000 ns is no"));
    }
    outlier_refused(|o| o.interval = seconds(0), "interval: is zero");
    let dice: [(Change, &str); 3] = [
        (
            |o| o.enforcing_consecutive_5xx = number(50),
            "enforcing_consecutive_5xx",
        ),
        (
            |o| o.enforcing_consecutive_gateway_failure = number(50),
            "enforcing_consecutive_gateway_failure",
        ),
        (
            |o| o.enforcing_consecutive_local_origin_failure = number(50),
            "enforcing_consecutive_local_origin_failure",
        ),
    ];
    for (change, field) in dice {
        outlier_refused(change, &format!("{field}: is 50; 0 and 100 are allowed"));
    }
}

/// More nanoseconds than a second has.
fn nanoseconds() -> Option<Duration> {
    Some(Duration {
        seconds: 1,
        nanos: 1_000_000_000,
    })
}

#[track_caller]
fn outlier_refused(change: impl FnOnce(&mut cluster::OutlierDetection), expected: &str) {
    let mut outlier = cluster::OutlierDetection::default();
    change(&mut outlier);
    cluster_refused(
        |c| c.outlier_detection = Some(outlier),
        &format!("outlier_detection.{expected}"),
    );
}

#[test]
fn d8_limits_of_clusters_that_are_refused() {
    use cluster::circuit_breakers::{Thresholds, thresholds::RetryBudget};
    let high = || Thresholds {
        priority: core::RoutingPriority::High.into(),
        ..Thresholds::default()
    };
    let budget = |percent: f64, interval: Option<Duration>| Thresholds {
        retry_budget: Some(RetryBudget {
            budget_percent: Some(percent::Percent { value: percent }),
            budget_interval: interval,
            ..RetryBudget::default()
        }),
        ..Thresholds::default()
    };
    let breakers = |thresholds: Vec<Thresholds>| cluster::CircuitBreakers {
        thresholds,
        ..cluster::CircuitBreakers::default()
    };
    for (thresholds, expected) in [
        (
            vec![budget(101.0, None)],
            "[0].retry_budget.budget_percent: 101 is not a percentage",
        ),
        (
            vec![budget(f64::NAN, None)],
            "[0].retry_budget.budget_percent: NaN is not a percentage",
        ),
        // The path is that of the thresholds that are in force.
        (
            vec![high(), budget(1.0, negative())],
            "[1].retry_budget.budget_interval: -1 s and 0 ns",
        ),
    ] {
        cluster_refused(
            |c| c.circuit_breakers = Some(breakers(thresholds)),
            &format!("circuit_breakers.thresholds{expected}"),
        );
    }
    // All faults at once.
    let nobody = || Thresholds {
        max_connections: number(0),
        ..Thresholds::default()
    };
    let all = cluster::CircuitBreakers {
        thresholds: vec![budget(101.0, None)],
        per_host_thresholds: vec![nobody(), nobody()],
    };
    for expected in [
        "circuit_breakers.per_host_thresholds[0].max_connections: is 0; 1 or more is allowed",
        "circuit_breakers.per_host_thresholds[1].max_connections: is 0; 1 or more is allowed",
        "circuit_breakers.thresholds[0].retry_budget.budget_percent: 101",
    ] {
        cluster_refused(|c| c.circuit_breakers = Some(all.clone()), expected);
    }
}

#[test]
fn d8_other_settings_of_clusters_that_are_refused() {
    for panic in [101.0, -1.0, f64::NAN] {
        let common = cluster::cluster::CommonLbConfig {
            healthy_panic_threshold: Some(percent::Percent { value: panic }),
            ..cluster::cluster::CommonLbConfig::default()
        };
        cluster_refused(
            |c| c.common_lb_config = Some(common),
            &format!("common_lb_config.healthy_panic_threshold: {panic} is not a percentage"),
        );
    }
    type Change = fn(&mut cluster::Cluster);
    let rows: [(Change, &str); 7] = [
        (
            |c| c.connect_timeout = seconds(0),
            "connect_timeout: is zero",
        ),
        (|c| c.connect_timeout = negative(), "connect_timeout: -1 s"),
        (
            |c| c.lrs_server = Some(core::ConfigSource::default()),
            "lrs_server: names another server; only \"self\" is allowed",
        ),
        (
            |c| c.filters = vec![cluster::Filter::default()],
            "filters: are network filters, which are not supported",
        ),
        (
            |c| {
                c.lb_subset_config = Some(cluster::cluster::LbSubsetConfig {
                    subset_selectors: vec![Default::default()],
                    ..Default::default()
                });
            },
            "lb_subset_config: chooses endpoints by metadata",
        ),
        (
            |c| c.transport_socket_matcher = Some(Default::default()),
            "transport_socket_matcher: chooses a transport by a tree",
        ),
        (
            |c| c.upstream_config = Some(core::TypedExtensionConfig::default()),
            "upstream_config.typed_config: is missing",
        ),
    ];
    for (change, expected) in rows {
        cluster_refused(change, expected);
    }
    let idle = upstream::HttpProtocolOptions {
        common_http_protocol_options: Some(core::HttpProtocolOptions {
            idle_timeout: negative(),
            ..core::HttpProtocolOptions::default()
        }),
        ..upstream::HttpProtocolOptions::default()
    };
    let session = core::TypedExtensionConfig {
        name: "x".into(),
        typed_config: Some(any(&idle)),
    };
    cluster_refused(
        |c| c.upstream_config = Some(session),
        "upstream_config.typed_config.common_http_protocol_options.idle_timeout: -1 s",
    );
    let mut unnamed = good_cluster();
    unnamed.name = "a".repeat(4_097);
    let told = told(Kind::Cluster, &unnamed);
    assert!(
        told.contains("name: has 4097 bytes; 1 to 4096 are allowed"),
        "{told}"
    );
}

/// With these options of HTTP.
#[track_caller]
fn options_refused(options: Any, expected: &str) {
    let at = format!("typed_extension_protocol_options[{OPTIONS:?}]");
    cluster_refused(
        |c| {
            c.typed_extension_protocol_options = [(OPTIONS.to_owned(), options)].into();
        },
        &format!("{at}{expected}"),
    );
}

/// The only fault, at a field of the cluster itself: its path begins with it.
#[track_caller]
fn own_refused(change: impl FnOnce(&mut cluster::Cluster), expected: &str) {
    let mut cluster = good_cluster();
    change(&mut cluster);
    let told = told(Kind::Cluster, &cluster);
    assert!(
        told.starts_with(expected),
        "wanted {expected:?}, was told {told:?}"
    );
}

#[test]
fn d8_protocols_that_are_refused() {
    use upstream::http_protocol_options::explicit_http_config::ProtocolConfig as Explicit;
    use upstream::http_protocol_options::{
        AutoHttpConfig, ExplicitHttpConfig, UpstreamProtocolOptions as Chosen,
        UseDownstreamHttpConfig,
    };
    options_refused(
        any(&router::Router::default()),
        ": is of type \"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\"",
    );
    let of = |chosen: Chosen| {
        any(&upstream::HttpProtocolOptions {
            upstream_protocol_options: Some(chosen),
            ..upstream::HttpProtocolOptions::default()
        })
    };
    let explicit = |config: Option<Explicit>| {
        of(Chosen::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: config,
        }))
    };
    options_refused(
        explicit(None),
        ".explicit_http_config: is empty; http_protocol_options and http2_protocol_options",
    );
    options_refused(
        explicit(Some(Explicit::Http3ProtocolOptions(Default::default()))),
        ".explicit_http_config.http3_protocol_options: is not supported; HTTP/1.1 and HTTP/2 are",
    );
    let http2 =
        |interval: Option<Duration>, timeout: Option<Duration>| core::Http2ProtocolOptions {
            connection_keepalive: Some(core::KeepaliveSettings {
                interval,
                timeout,
                ..core::KeepaliveSettings::default()
            }),
            ..core::Http2ProtocolOptions::default()
        };
    let silent = || http2(seconds(1), seconds(0));
    let at = "http2_protocol_options.connection_keepalive.timeout: is zero";
    options_refused(
        explicit(Some(Explicit::Http2ProtocolOptions(silent()))),
        &format!(".explicit_http_config.{at}"),
    );
    options_refused(
        of(Chosen::UseDownstreamProtocolConfig(
            UseDownstreamHttpConfig {
                http2_protocol_options: Some(silent()),
                ..UseDownstreamHttpConfig::default()
            },
        )),
        &format!(".use_downstream_protocol_config.{at}"),
    );
    options_refused(
        of(Chosen::AutoConfig(AutoHttpConfig {
            http2_protocol_options: Some(silent()),
            ..AutoHttpConfig::default()
        })),
        &format!(".auto_config.{at}"),
    );
    let older = http2(negative(), None);
    own_refused(
        |c| c.http2_protocol_options = Some(older),
        "http2_protocol_options.connection_keepalive.interval: -1 s",
    );
    let kept = core::HttpProtocolOptions {
        idle_timeout: negative(),
        max_connection_duration: negative(),
        max_requests_per_connection: Some(UInt32Value { value: 1 }),
        ..core::HttpProtocolOptions::default()
    };
    for field in ["idle_timeout", "max_connection_duration"] {
        let options = upstream::HttpProtocolOptions {
            common_http_protocol_options: Some(kept),
            ..upstream::HttpProtocolOptions::default()
        };
        let at = format!("common_http_protocol_options.{field}: -1 s and 0 ns is no duration");
        options_refused(any(&options), &format!(".{at}"));
        own_refused(
            |c| {
                let mut one = kept;
                match field {
                    "idle_timeout" => one.max_connection_duration = None,
                    _ => one.idle_timeout = None,
                }
                c.common_http_protocol_options = Some(one);
            },
            &at,
        );
    }
}
