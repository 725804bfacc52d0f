//! What routes say of timeouts, retries, hashing and rewriting.

use std::collections::HashMap;

use super::routes::{action_refused, good_route, retry_refused, route_refused, routes_of};
use super::{number, seconds, told};
use crate::source::xds::Kind;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{Any, Duration, matcher, previous_priorities, route};

#[test]
fn d6_priorities_of_retries_that_are_refused() {
    use route::retry_policy::{RetryPriority, retry_priority::ConfigType};
    let rows = [
        (
            any(&previous_priorities::PreviousPrioritiesConfig {
                update_frequency: 0,
            }),
            "update_frequency: is not positive; Envoy's rule is 1 or more",
        ),
        (
            any(&previous_priorities::PreviousPrioritiesConfig {
                update_frequency: -1,
            }),
            "update_frequency: is not positive",
        ),
    ];
    for (config, expected) in rows {
        let priority = RetryPriority {
            name: "envoy.retry_priorities.previous_priorities".into(),
            config_type: Some(ConfigType::TypedConfig(config)),
        };
        retry_refused(
            route::RetryPolicy {
                retry_priority: Some(priority),
                ..route::RetryPolicy::default()
            },
            &format!("retry_priority.typed_config.{expected}"),
        );
    }
    let other = RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".into(),
        config_type: Some(ConfigType::TypedConfig(
            any(&route::FilterConfig::default()),
        )),
    };
    retry_refused(
        route::RetryPolicy {
            retry_priority: Some(other),
            ..route::RetryPolicy::default()
        },
        "retry_priority.typed_config: is of type",
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
