//! Endpoints.

use std::num::NonZeroU32;

use super::super::endpoints::{locality, socket};
use super::super::number;
use super::endpoints;
use crate::model::Fraction;
use crate::model::endpoint::{Address, Health};
use crate::source::xds::proto::endpoint::LocalityLbEndpoints as Wire;
use crate::source::xds::proto::{core, endpoint, percent};

fn resource(endpoints: Vec<Wire>) -> endpoint::ClusterLoadAssignment {
    endpoint::ClusterLoadAssignment {
        cluster_name: "a".into(),
        endpoints,
        ..Default::default()
    }
}

fn in_region(region: &str, all: Wire) -> Wire {
    Wire {
        locality: Some(core::Locality {
            region: region.into(),
            ..core::Locality::default()
        }),
        ..all
    }
}

/// Nobody serves, and it is said: another thing than silence (gRFC A27).
#[test]
fn d3_no_endpoints_are_a_good_resource() {
    let nobody = endpoints(&resource(Vec::new()));
    assert_eq!(&*nobody.name, "a");
    assert!(nobody.localities.is_empty());
    let empty = endpoints(&resource(vec![locality(0, &[])]));
    assert_eq!(empty.localities.len(), 1);
    assert_eq!(empty.localities[0].endpoints.len(), 0);
}

/// Of localities a weight of 0 is none; it gets no share where localities count by weight. It is read all
/// the same, since it counts where they do not (Envoy), and its priority is one.
#[test]
fn d3_a_locality_without_a_weight_is_kept_without_one() {
    for weight in [None, number(0)] {
        let light = Wire {
            load_balancing_weight: weight,
            ..in_region("b", locality(0, &[2]))
        };
        let read = endpoints(&resource(vec![locality(1, &[1]), light]));
        let weights: Vec<_> = read.localities.iter().map(|one| one.weight).collect();
        assert_eq!(weights, [NonZeroU32::new(1), None]);
    }
}

#[test]
fn d3_priorities_come_in_any_order_and_share_localities() {
    let read = endpoints(&resource(vec![
        locality(2, &[1]),
        locality(0, &[2]),
        locality(1, &[3]),
        in_region("b", locality(1, &[4])),
    ]));
    let priorities: Vec<u32> = read.localities.iter().map(|one| one.priority).collect();
    assert_eq!(priorities, [2, 0, 1, 1]);
}

/// The sums are those of one priority, and of one locality.
#[test]
fn d3_weights_may_sum_to_the_largest_number() {
    let heavy = |region: &str, priority: u32, port: u32, weight: u32| Wire {
        load_balancing_weight: number(weight),
        ..in_region(region, locality(priority, &[port]))
    };
    endpoints(&resource(vec![
        heavy("a", 0, 1, u32::MAX - 1),
        heavy("b", 0, 2, 1),
        heavy("a", 1, 3, u32::MAX),
    ]));
    let mut two = locality(0, &[1, 2]);
    two.lb_endpoints[0].load_balancing_weight = number(u32::MAX - 1);
    let mut other = in_region("b", locality(0, &[3]));
    other.lb_endpoints[0].load_balancing_weight = number(u32::MAX);
    endpoints(&resource(vec![two, other]));
}

#[test]
fn d3_an_endpoint_that_says_nothing_is_healthy_and_weighs_one() {
    use core::HealthStatus as Status;
    let read = endpoints(&resource(vec![locality(0, &[1])]));
    let first = read.localities[0].endpoints.iter().next().unwrap();
    assert_eq!(first.weight, NonZeroU32::MIN);
    assert_eq!(first.health, Health::Healthy);
    assert!(!first.meshed);
    assert!(first.labels.is_empty());
    for (status, expected) in [
        (Status::Unknown, Health::Healthy),
        (Status::Healthy, Health::Healthy),
        (Status::Unhealthy, Health::Unhealthy),
        (Status::Draining, Health::Draining),
        (Status::Timeout, Health::Unhealthy),
        (Status::Degraded, Health::Unhealthy),
    ] {
        let mut all = locality(0, &[1]);
        all.lb_endpoints[0].health_status = status.into();
        let read = endpoints(&resource(vec![all]));
        let first = read.localities[0].endpoints.iter().next().unwrap();
        assert_eq!(first.health, expected, "{status:?}");
    }
}

/// gRFC A61: one endpoint, whose first address is the first.
#[test]
fn d3_further_addresses_are_those_of_one_endpoint() {
    let mut all = locality(0, &[1]);
    all.lb_endpoints[0].host_identifier = Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
        endpoint::Endpoint {
            address: socket("10.0.0.1", 1),
            additional_addresses: vec![endpoint::endpoint::AdditionalAddress {
                address: socket("::1", 1),
            }],
            ..Default::default()
        },
    ));
    let read = endpoints(&resource(vec![all]));
    let Some(Address::Several(several)) = read.localities[0]
        .endpoints
        .iter()
        .next()
        .map(|one| one.address.clone())
    else {
        panic!("two addresses are not several");
    };
    let all: Vec<String> = several.all().map(|one| one.to_string()).collect();
    assert_eq!(all, ["10.0.0.1:1", "[::1]:1"]);
}

/// An absurd share is all of it; one that is not said is nothing.
#[test]
fn d9_shares_that_are_dropped_are_at_most_all() {
    use percent::fractional_percent::DenominatorType as Denominator;
    type Row = (Option<(u32, Denominator)>, u32);
    let shares: [Row; 10] = [
        (None, 0),
        (Some((0, Denominator::Hundred)), 0),
        (Some((1, Denominator::Hundred)), 10_000),
        (Some((100, Denominator::Hundred)), 1_000_000),
        (Some((101, Denominator::Hundred)), 1_000_000),
        (Some((u32::MAX, Denominator::Hundred)), 1_000_000),
        (Some((1, Denominator::TenThousand)), 100),
        (Some((u32::MAX, Denominator::TenThousand)), 1_000_000),
        (Some((1, Denominator::Million)), 1),
        (Some((u32::MAX, Denominator::Million)), 1_000_000),
    ];
    let drop = |(index, (share, _)): (usize, &Row)| {
        endpoint::cluster_load_assignment::policy::DropOverload {
            category: index.to_string(),
            drop_percentage: share.map(|(numerator, denominator)| percent::FractionalPercent {
                numerator,
                denominator: denominator.into(),
            }),
        }
    };
    let read = endpoints(&endpoint::ClusterLoadAssignment {
        policy: Some(endpoint::cluster_load_assignment::Policy {
            drop_overloads: shares.iter().enumerate().map(drop).collect(),
            // Of no effect (gRFC A27), whatever it is.
            overprovisioning_factor: number(0),
            ..Default::default()
        }),
        ..resource(Vec::new())
    });
    let found: Vec<Fraction> = read.overloads.iter().map(|one| one.share).collect();
    let expected: Vec<Fraction> = shares
        .iter()
        .map(|(_, parts)| Fraction::from_parts_per_million(*parts).unwrap())
        .collect();
    assert_eq!(found, expected);
}
