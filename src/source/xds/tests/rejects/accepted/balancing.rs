//! Policies of balancing.

use super::super::balancing::policy;
use super::super::{number, seconds};
use super::cluster;
use crate::model::balancing::{
    LocalityWeights, PickFirst, Ratio, RingHash, Spread, WeightedRoundRobin,
};
use crate::model::cluster::Balancing;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{
    Any, BoolValue, UInt32Value, UInt64Value, balancing as lb, cluster as wire,
};

/// A list of these policies, read.
#[track_caller]
fn listed(configs: Vec<Any>) -> (Balancing, Spread) {
    let mut list = wire::LoadBalancingPolicy::default();
    list.policies
        .extend(configs.into_iter().flat_map(|one| policy(one).policies));
    let cluster = cluster(|c| c.load_balancing_policy = Some(list));
    (cluster.balancing.clone(), cluster.spread)
}

fn unknown(name: &str) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{name}"),
        // No bytes of any message: what is not known is not read.
        value: vec![0xff],
    }
}

fn random() -> Any {
    any(&lb::random::v3::Random::default())
}

/// gRFC A52: the first that is known, whatever stands before and behind it.
#[test]
fn d10_the_first_known_policy_of_a_list_holds() {
    let round = any(&lb::round_robin::v3::RoundRobin::default());
    for (configs, expected) in [
        (vec![random(), round.clone()], Balancing::Random),
        (vec![round.clone(), random()], Balancing::RoundRobin),
        (
            vec![
                unknown("x.Y"),
                unknown("xds.type.v3.TypedStruct"),
                unknown("udpa.type.v1.TypedStruct"),
                random(),
                round,
            ],
            Balancing::Random,
        ),
        // What follows the chosen one is not read.
        (vec![random(), unknown("x.Y")], Balancing::Random),
    ] {
        assert_eq!(listed(configs).0, expected);
    }
    // The list stands in front of `lb_policy`, which may say anything then.
    let list = policy(random());
    let both = cluster(|c| {
        c.lb_policy = 9;
        c.load_balancing_policy = Some(list);
    });
    assert_eq!(both.balancing, Balancing::Random);
}

/// gRFC A52: sixteen lists within each other, counted with the outermost.
#[test]
fn d10_sixteen_policies_may_be_nested() {
    let mut nested = random();
    for _ in 0..15 {
        nested = any(&lb::wrr_locality::v3::WrrLocality {
            endpoint_picking_policy: Some(policy(nested)),
        });
    }
    let (balancing, spread) = listed(vec![nested.clone()]);
    assert_eq!(balancing, Balancing::Random);
    assert_eq!(spread.localities, LocalityWeights::InForce);
    let seventeen = any(&lb::wrr_locality::v3::WrrLocality {
        endpoint_picking_policy: Some(policy(nested)),
    });
    super::super::clusters::cluster_refused(
        |c| c.load_balancing_policy = Some(policy(seventeen)),
        "endpoint_picking_policy: is nested deeper than 16 policies",
    );
}

/// gRFC A42: 1,024 to 8 Mi entries, where nothing else is said.
#[test]
fn d10_rings_have_grpcs_sizes() {
    let ring = |minimum, maximum| RingHash::new(minimum, maximum).map(Balancing::RingHash);
    let size = |value: u64| Some(UInt64Value { value });
    for (minimum, maximum, expected) in [
        (None, None, (1_024, 8 << 20)),
        (size(8 << 20), None, (8 << 20, 8 << 20)),
        (size(7), size(9), (7, 9)),
        (None, size(1_024), (1_024, 1_024)),
    ] {
        let expected = ring(expected.0, expected.1);
        let typed = lb::ring_hash::v3::RingHash {
            minimum_ring_size: minimum,
            maximum_ring_size: maximum,
            ..Default::default()
        };
        assert_eq!(Some(listed(vec![any(&typed)]).0), expected);
        let older = wire::cluster::RingHashLbConfig {
            minimum_ring_size: minimum,
            maximum_ring_size: maximum,
            hash_function: 0,
        };
        let cluster = cluster(|c| {
            c.lb_policy = 2;
            c.lb_config = Some(wire::cluster::LbConfig::RingHashLbConfig(older));
        });
        assert_eq!(Some(cluster.balancing.clone()), expected);
    }
    let silent = cluster(|c| c.lb_policy = 2);
    assert_eq!(Some(silent.balancing.clone()), ring(1_024, 8 << 20));
    // Both words for the same hash; settings of another policy are not looked at.
    for hash_function in [0, 1] {
        let typed = lb::ring_hash::v3::RingHash {
            hash_function,
            ..Default::default()
        };
        assert_eq!(Some(listed(vec![any(&typed)]).0), ring(1_024, 8 << 20));
    }
    let foreign = wire::cluster::LeastRequestLbConfig {
        choice_count: number(1),
        ..Default::default()
    };
    let other = cluster(|c| {
        c.lb_policy = 2;
        c.lb_config = Some(wire::cluster::LbConfig::LeastRequestLbConfig(foreign));
    });
    assert_eq!(Some(other.balancing.clone()), ring(1_024, 8 << 20));
}

/// gRFC A48: 2 where nothing is said, and any larger number; two are drawn here.
#[test]
fn d10_choices_of_least_request_are_two_or_more() {
    for count in [None, number(2), number(10), number(u32::MAX)] {
        let typed = lb::least_request::v3::LeastRequest {
            choice_count: count,
            ..Default::default()
        };
        assert_eq!(listed(vec![any(&typed)]).0, Balancing::LeastRequest);
    }
}

/// gRFC A58.
#[test]
fn d10_weights_that_endpoints_report_have_grpcs_times() {
    use lb::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin as Weighted;
    let read = |message: Weighted| match listed(vec![any(&message)]).0 {
        Balancing::WeightedRoundRobin(found) => found,
        other => panic!("weights became {other:?}"),
    };
    let time = |seconds| std::time::Duration::from_secs(seconds);
    let standard = WeightedRoundRobin {
        blackout: time(10),
        expiration: time(180),
        update: time(1),
        error_penalty: Ratio::ONE,
        out_of_band: None,
        utilization: [].into(),
    };
    assert_eq!(read(Weighted::default()), standard);
    // A period without the switch is none; the switch alone has the default.
    let period = Weighted {
        oob_reporting_period: seconds(3),
        ..Weighted::default()
    };
    assert_eq!(read(period.clone()), standard);
    let on = Some(BoolValue { value: true });
    let aside = |message: Weighted| {
        read(Weighted {
            enable_oob_load_report: on,
            ..message
        })
        .out_of_band
    };
    assert_eq!(aside(Weighted::default()), Some(time(10)));
    assert_eq!(aside(period), Some(time(3)));
    // Metrics that no report has are left alone (A114).
    let metrics = Weighted {
        metric_names_for_computing_utilization: vec!["x".into(), "cpu_utilization".into()],
        ..Weighted::default()
    };
    assert_eq!(read(metrics).utilization.len(), 1);
}

/// gRFC A62 and A68.
#[test]
fn d10_other_policies_are_what_they_say() {
    for shuffle in [false, true] {
        let first = lb::pick_first::v3::PickFirst {
            shuffle_address_list: shuffle,
        };
        assert_eq!(
            listed(vec![any(&first)]).0,
            Balancing::PickFirst(PickFirst { shuffle })
        );
    }
    let subset = lb::random_subsetting::v3::RandomSubsetting {
        subset_size: Some(UInt32Value { value: 3 }),
        child_policy: Some(policy(random())),
    };
    let (balancing, spread) = listed(vec![any(&subset)]);
    assert_eq!(balancing, Balancing::Random);
    assert_eq!(spread.subset.map(std::num::NonZeroU32::get), Some(3));
}
