//! Policies of balancing.

use prost::Name;

use super::clusters::cluster_refused;
use super::{number, seconds};
use crate::source::xds::extra::any;
use crate::source::xds::proto::{
    Any, FloatValue, UInt32Value, UInt64Value, balancing as lb, cluster, core, percent,
};

pub(super) fn policy(config: Any) -> cluster::LoadBalancingPolicy {
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
        error_utilization_penalty: Some(FloatValue { value: -1.0 }),
        ..Default::default()
    };
    with(
        policy(any(&penalty)),
        "error_utilization_penalty: is -1; 0 or more is allowed",
    );
}

/// Where the only policy of a list stands.
const FIRST: &str = "load_balancing_policy.policies[0].typed_extension_config.typed_config";

#[track_caller]
fn policy_refused(config: Any, expected: &str) {
    let expected = format!("{FIRST}{expected}");
    cluster_refused(
        |c| c.load_balancing_policy = Some(policy(config)),
        &expected,
    );
}

fn unknown() -> Any {
    Any {
        type_url: "type.googleapis.com/x.Y".into(),
        value: Vec::new(),
    }
}

fn size(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

#[test]
fn d10_policies_around_others_are_refused_without_them() {
    use lb::random_subsetting::v3::RandomSubsetting;
    use lb::wrr_locality::v3::WrrLocality;
    policy_refused(
        any(&WrrLocality::default()),
        ".endpoint_picking_policy: is missing",
    );
    let around = WrrLocality {
        endpoint_picking_policy: Some(policy(unknown())),
    };
    policy_refused(
        any(&around),
        ".endpoint_picking_policy: has no policy that is known here (the first is \"x.Y\")",
    );
    let subsetting = |subset_size: Option<UInt32Value>, child_policy| RandomSubsetting {
        subset_size,
        child_policy,
    };
    policy_refused(any(&subsetting(None, None)), ".subset_size: is missing");
    policy_refused(
        any(&subsetting(number(3), None)),
        ".child_policy: is missing",
    );
    policy_refused(
        any(&subsetting(number(3), Some(policy(unknown())))),
        ".child_policy: has no policy that is known here",
    );
    let mut nothing = policy(unknown());
    nothing.policies[0].typed_extension_config = None;
    let expected = format!("{FIRST}: is missing");
    cluster_refused(|c| c.load_balancing_policy = Some(nothing), &expected);
}

#[test]
fn d10_a_known_policy_that_cannot_be_read_is_refused_whatever_follows_it() {
    use lb::cluster_provided::v3::ClusterProvided;
    use lb::round_robin::v3::RoundRobin;
    for (type_url, name) in [
        (RoundRobin::type_url(), RoundRobin::full_name()),
        (ClusterProvided::type_url(), ClusterProvided::full_name()),
    ] {
        let broken = Any {
            type_url,
            value: vec![0xff],
        };
        let mut list = policy(broken);
        list.policies
            .extend(policy(any(&RoundRobin::default())).policies);
        let expected = format!("{FIRST}: is no {name}");
        cluster_refused(|c| c.load_balancing_policy = Some(list), &expected);
    }
}

#[test]
fn d10_policies_by_hash_that_are_refused() {
    use lb::common::v3::ConsistentHashingLbConfig;
    use lb::{maglev::v3::Maglev, ring_hash::v3::RingHash};
    let other = RingHash {
        hash_function: 2,
        ..RingHash::default()
    };
    policy_refused(
        any(&other),
        ".hash_function: is 2; only XX_HASH (1) is allowed",
    );
    let ring = |minimum, maximum| {
        any(&RingHash {
            minimum_ring_size: minimum,
            maximum_ring_size: maximum,
            ..RingHash::default()
        })
    };
    for (config, found) in [
        (ring(size(9), size(8)), "9 to 8"),
        (ring(size(9_000_000), None), "9000000 to 8388608"),
        (ring(None, size(9_000_000)), "1024 to 9000000"),
        (ring(None, size(512)), "1024 to 512"),
        (
            ring(size(u64::MAX), None),
            "18446744073709551615 to 8388608",
        ),
    ] {
        policy_refused(
            config,
            &format!(": has a ring of {found} entries; at most 8388608 are allowed"),
        );
    }
    let table = Maglev {
        table_size: size(65_536),
        ..Maglev::default()
    };
    policy_refused(
        any(&table),
        ".table_size: is 65536; a prime number of at most 5000011 is allowed",
    );
    let low = Some(ConsistentHashingLbConfig {
        hash_balance_factor: number(99),
        ..ConsistentHashingLbConfig::default()
    });
    let at = ".consistent_hashing_lb_config.hash_balance_factor: is 99; 100 or more is allowed";
    let bounded = RingHash {
        consistent_hashing_lb_config: low.clone(),
        ..RingHash::default()
    };
    policy_refused(any(&bounded), at);
    let bounded = Maglev {
        consistent_hashing_lb_config: low,
        ..Maglev::default()
    };
    policy_refused(any(&bounded), at);
    let older = RingHash {
        hash_balance_factor: number(1),
        ..RingHash::default()
    };
    policy_refused(any(&older), ".hash_balance_factor: is 1; 100 or more");
}

#[test]
fn d10_numbers_of_policies_that_are_refused() {
    use lb::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin as Weighted;
    use lb::least_request::v3::LeastRequest;
    use lb::round_robin::v3::RoundRobin;
    let one = LeastRequest {
        choice_count: number(1),
        ..LeastRequest::default()
    };
    policy_refused(any(&one), ".choice_count: is 1; 2 or more is allowed");
    let early = || seconds(-1);
    let weighted = Weighted::default;
    for (config, field) in [
        (
            Weighted {
                blackout_period: early(),
                ..weighted()
            },
            "blackout_period",
        ),
        (
            Weighted {
                weight_expiration_period: early(),
                ..weighted()
            },
            "weight_expiration_period",
        ),
        (
            Weighted {
                weight_update_period: early(),
                ..weighted()
            },
            "weight_update_period",
        ),
        (
            Weighted {
                oob_reporting_period: early(),
                ..weighted()
            },
            "oob_reporting_period",
        ),
    ] {
        policy_refused(
            any(&config),
            &format!(".{field}: -1 s and 0 ns is no duration"),
        );
    }
    let never = Weighted {
        error_utilization_penalty: Some(FloatValue { value: f32::NAN }),
        ..weighted()
    };
    policy_refused(
        any(&never),
        ".error_utilization_penalty: is NaN; 0 or more is allowed",
    );
    let slow = |window, aggression: f64, least: f64| {
        any(&RoundRobin {
            slow_start_config: Some(lb::common::v3::SlowStartConfig {
                slow_start_window: window,
                aggression: Some(core::RuntimeDouble {
                    default_value: aggression,
                    runtime_key: String::new(),
                }),
                min_weight_percent: Some(percent::Percent { value: least }),
            }),
            ..RoundRobin::default()
        })
    };
    for (config, expected) in [
        (slow(None, 1.0, 10.0), "slow_start_window: is missing"),
        (slow(early(), 1.0, 10.0), "slow_start_window: -1 s"),
        (
            slow(seconds(1), 0.0, 10.0),
            "aggression.default_value: is 0; more than 0 is allowed",
        ),
        (
            slow(seconds(1), 1.0, 101.0),
            "min_weight_percent: 101 is not a percentage",
        ),
    ] {
        policy_refused(config, &format!(".slow_start_config.{expected}"));
    }
}

/// `lb_policy` with its settings, as it was before `load_balancing_policy`.
#[test]
fn d10_older_policies_that_are_refused() {
    use cluster::cluster::{LbConfig as Config, common_lb_config::ConsistentHashingLbConfig};
    let refused = |policy: i32, config: Option<Config>, expected: &str| {
        cluster_refused(
            |c| {
                c.lb_policy = policy;
                c.lb_config = config;
            },
            expected,
        );
    };
    refused(4, None, "lb_policy: 4 is unknown; ROUND_ROBIN (0)");
    refused(
        7,
        None,
        "load_balancing_policy: is missing, and lb_policy says LOAD_BALANCING_POLICY_CONFIG",
    );
    let table = cluster::cluster::MaglevLbConfig {
        table_size: size(4),
    };
    refused(
        5,
        Some(Config::MaglevLbConfig(table)),
        "maglev_lb_config.table_size: is 4; a prime number",
    );
    let slow = || Some(cluster::cluster::SlowStartConfig::default());
    let turns = cluster::cluster::RoundRobinLbConfig {
        slow_start_config: slow(),
    };
    refused(
        0,
        Some(Config::RoundRobinLbConfig(turns)),
        "round_robin_lb_config.slow_start_config.slow_start_window: is missing",
    );
    let least = cluster::cluster::LeastRequestLbConfig {
        slow_start_config: slow(),
        ..cluster::cluster::LeastRequestLbConfig::default()
    };
    refused(
        1,
        Some(Config::LeastRequestLbConfig(least)),
        "least_request_lb_config.slow_start_config.slow_start_window: is missing",
    );
    for policy in [2, 5] {
        let bound = ConsistentHashingLbConfig {
            hash_balance_factor: number(50),
            ..ConsistentHashingLbConfig::default()
        };
        let common = cluster::cluster::CommonLbConfig {
            consistent_hashing_lb_config: Some(bound),
            ..cluster::cluster::CommonLbConfig::default()
        };
        cluster_refused(
            |c| {
                c.lb_policy = policy;
                c.common_lb_config = Some(common);
            },
            "common_lb_config.consistent_hashing_lb_config.hash_balance_factor: is 50; 100 or more",
        );
    }
}
