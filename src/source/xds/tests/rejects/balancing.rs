//! Policies of balancing.

use super::clusters::cluster_refused;
use super::number;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{Any, balancing as lb, cluster, core};

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
        error_utilization_penalty: Some(crate::source::xds::proto::FloatValue { value: -1.0 }),
        ..Default::default()
    };
    with(
        policy(any(&penalty)),
        "error_utilization_penalty: is -1; 0 or more is allowed",
    );
}
