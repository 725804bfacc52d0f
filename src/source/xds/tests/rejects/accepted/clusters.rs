//! Clusters.

use std::num::NonZeroU32;
use std::time::Duration;

use super::super::discovery::{assignment, custom};
use super::super::endpoints::locality;
use super::super::listeners::ads;
use super::super::{number, seconds};
use super::{cluster, whole};
use crate::model::Percent;
use crate::model::balancing::Spread;
use crate::model::cluster::{Balancing, Discovery, Families, LoadMetric, Lookup, Protocol};
use crate::model::limit::{Limits, RetryLimit};
use crate::model::outlier::{FailurePercentage, Outlier, SuccessRate};
use crate::model::security::Security;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{aggregate, cluster as wire, core, dns, upstream};

fn percent(value: u32) -> Percent {
    Percent::new(value).unwrap()
}

#[test]
fn d8_a_cluster_that_says_nothing_has_the_defaults() {
    let (cluster, reports) = whole(|_| {});
    assert_eq!(cluster.discovery, Discovery::Endpoints("a".into()));
    assert_eq!(cluster.balancing, Balancing::RoundRobin);
    assert_eq!(cluster.panic_threshold, percent(50));
    assert_eq!(cluster.connect_timeout, Duration::from_secs(5));
    assert_eq!(cluster.protocol, Protocol::SameAsRequest);
    assert_eq!(cluster.security, Security::Plaintext);
    assert_eq!(cluster.outlier, None);
    assert_eq!(cluster.health_check, None);
    assert_eq!(cluster.connection.max_per_endpoint, None);
    assert!(cluster.load_metrics.is_empty());
    assert!(!reports);
    // gRFC A32: always in force.
    assert_eq!(
        cluster.limits,
        Limits {
            connections: 1_024,
            pending: 1_024,
            requests: 1_024,
            retries: RetryLimit::Budget,
        }
    );
}

#[test]
fn d8_endpoints_come_under_the_name_that_is_said() {
    use core::config_source::ConfigSourceSpecifier as Specifier;
    let own = |specifier: Specifier, name: &str| {
        cluster(|c| {
            c.eds_cluster_config = Some(wire::cluster::EdsClusterConfig {
                eds_config: Some(core::ConfigSource {
                    config_source_specifier: Some(specifier),
                    ..core::ConfigSource::default()
                }),
                service_name: name.to_owned(),
            });
        })
    };
    let by = |cluster: std::sync::Arc<crate::model::Cluster>| cluster.discovery.clone();
    // gRFC A47: "self" is the same as "ads".
    for specifier in [
        Specifier::Ads(Default::default()),
        Specifier::Self_(Default::default()),
    ] {
        assert_eq!(
            by(own(specifier.clone(), "")),
            Discovery::Endpoints("a".into())
        );
        assert_eq!(by(own(specifier, "b")), Discovery::Endpoints("b".into()));
    }
    let federated = cluster(|c| {
        c.name = "xdstp://x/envoy.config.cluster.v3.Cluster/a".into();
        c.eds_cluster_config = Some(wire::cluster::EdsClusterConfig {
            eds_config: Some(ads()),
            service_name: "b".into(),
        });
    });
    assert_eq!(by(federated), Discovery::Endpoints("b".into()));
}

#[test]
fn d8_names_are_looked_up_as_the_cluster_says() {
    use wire::cluster::ClusterDiscoveryType as Type;
    let named = |change: &dyn Fn(&mut wire::Cluster)| {
        let cluster = cluster(|c| {
            c.eds_cluster_config = None;
            let mut one = locality(0, &[1]);
            // No locality need be said of what stands in its cluster.
            one.locality = None;
            c.load_assignment = assignment(vec![one]);
            change(c);
        });
        match &cluster.discovery {
            Discovery::Dns(dns) => (dns.lookup, dns.families, dns.refresh),
            other => panic!("a cluster of names became {other:?}"),
        }
    };
    let five = Duration::from_secs(5);
    assert_eq!(
        named(&|c| c.cluster_discovery_type = Some(Type::Type(1))),
        (Lookup::Each, Families::Both, five)
    );
    assert_eq!(
        named(&|c| {
            c.cluster_discovery_type = Some(Type::Type(2));
            c.dns_refresh_rate = seconds(7);
            c.dns_lookup_family = wire::cluster::DnsLookupFamily::V4Only.into();
        }),
        (Lookup::One, Families::V4, Duration::from_secs(7))
    );
    let extension = |single: bool| {
        any(&dns::DnsCluster {
            all_addresses_in_single_endpoint: single,
            dns_refresh_rate: seconds(7),
            ..dns::DnsCluster::default()
        })
    };
    for (single, lookup) in [(false, Lookup::Each), (true, Lookup::One)] {
        assert_eq!(
            named(&|c| c.cluster_discovery_type = custom(extension(single))),
            (lookup, Families::Both, Duration::from_secs(7))
        );
    }
}

/// gRFC A37 and A75: policies are those of the members, and the aggregate's own is not looked at.
#[test]
fn d8_an_aggregate_is_a_list_of_names() {
    let config = aggregate::ClusterConfig {
        clusters: vec!["b".into(), "c".into(), "b".into()],
    };
    let aggregate = cluster(|c| {
        c.cluster_discovery_type = custom(any(&config));
        c.eds_cluster_config = None;
        c.lb_policy = 9;
        c.load_balancing_policy = Some(wire::LoadBalancingPolicy::default());
    });
    let members = ["b", "c", "b"].map(Into::into).to_vec();
    assert_eq!(aggregate.discovery, Discovery::Aggregate(members));
    assert_eq!(aggregate.balancing, Balancing::default());
    assert_eq!(aggregate.spread, Spread::default());
}

/// gRFC A32: the first thresholds of the default priority; nothing else is gRPC's, Envoy's fields are.
#[test]
fn d8_limits_are_the_first_of_the_default_priority() {
    use wire::circuit_breakers::Thresholds;
    let of = |priority: core::RoutingPriority, requests: u32| Thresholds {
        priority: priority.into(),
        max_requests: number(requests),
        ..Thresholds::default()
    };
    let limited = |thresholds: Vec<Thresholds>, per_host: Vec<Thresholds>| {
        cluster(|c| {
            c.circuit_breakers = Some(wire::CircuitBreakers {
                thresholds,
                per_host_thresholds: per_host,
            });
        })
    };
    let default = || of(core::RoutingPriority::Default, 7);
    let high = || of(core::RoutingPriority::High, 9);
    let requests = |thresholds| limited(thresholds, Vec::new()).limits.requests;
    assert_eq!(requests(vec![]), 1_024);
    assert_eq!(requests(vec![high()]), 1_024);
    assert_eq!(requests(vec![high(), default()]), 7);
    let second = of(core::RoutingPriority::Default, 8);
    assert_eq!(requests(vec![default(), second]), 7);
    assert_eq!(requests(vec![Thresholds::default()]), 1_024);
    assert_eq!(requests(vec![of(core::RoutingPriority::Default, 0)]), 0);
    let retries = |thresholds: Thresholds| limited(vec![thresholds], Vec::new()).limits.retries;
    let some = Thresholds {
        max_retries: number(2),
        ..Thresholds::default()
    };
    assert_eq!(retries(some), RetryLimit::Concurrent(2));
    let share = Thresholds {
        max_retries: number(2),
        retry_budget: Some(Default::default()),
        ..Thresholds::default()
    };
    assert_eq!(
        retries(share),
        RetryLimit::Share {
            percent: percent(20),
            minimum: 3,
            interval: Duration::ZERO,
        }
    );
    // gRFC A105.
    let per_host = |priority: core::RoutingPriority, connections: u32| Thresholds {
        priority: priority.into(),
        max_connections: number(connections),
        ..Thresholds::default()
    };
    let most = |all| limited(Vec::new(), all).connection.max_per_endpoint;
    assert_eq!(most(vec![]), None);
    assert_eq!(most(vec![per_host(core::RoutingPriority::High, 3)]), None);
    let both = vec![
        per_host(core::RoutingPriority::High, 3),
        per_host(core::RoutingPriority::Default, 4),
    ];
    assert_eq!(most(both), NonZeroU32::new(4));
}

/// gRFC A50.
#[test]
fn d10_outlier_detection_has_grpcs_numbers() {
    let outlier = |message: wire::OutlierDetection| -> Outlier {
        let cluster = cluster(|c| c.outlier_detection = Some(message));
        Outlier::clone(cluster.outlier.as_ref().unwrap())
    };
    let standard = outlier(wire::OutlierDetection::default());
    let time = Duration::from_secs;
    assert_eq!(standard.interval, time(10));
    assert_eq!(standard.base_ejection_time, time(30));
    assert_eq!(standard.max_ejection_time, time(300));
    assert_eq!(standard.max_ejection, percent(10));
    assert!(standard.always_eject_one);
    assert_eq!(
        standard.success_rate,
        Some(SuccessRate {
            stdev_factor: 1_900,
            enforcing: percent(100),
            minimum_hosts: 5,
            request_volume: 100,
        })
    );
    assert_eq!(standard.failure_percentage, None);
    // Without a longest time it is not shorter than the first.
    let long = wire::OutlierDetection {
        base_ejection_time: seconds(400),
        ..Default::default()
    };
    assert_eq!(outlier(long).max_ejection_time, time(400));
    let off = wire::OutlierDetection {
        enforcing_success_rate: number(0),
        enforcing_failure_percentage: number(0),
        ..Default::default()
    };
    let off = outlier(off);
    assert_eq!((off.success_rate, off.failure_percentage), (None, None));
    let failures = wire::OutlierDetection {
        enforcing_failure_percentage: number(100),
        ..Default::default()
    };
    assert_eq!(
        outlier(failures).failure_percentage,
        Some(FailurePercentage {
            threshold: percent(85),
            enforcing: percent(100),
            minimum_hosts: 5,
            request_volume: 50,
        })
    );
    // The bounds are percentages themselves.
    let bounds = wire::OutlierDetection {
        max_ejection_percent: number(100),
        failure_percentage_threshold: number(0),
        ..Default::default()
    };
    let bounds = outlier(bounds);
    assert_eq!(bounds.max_ejection, percent(100));
    assert_eq!(
        bounds.failure_percentage.map(|found| found.threshold),
        Some(percent(0))
    );
}

/// gRFC A27 and A85.
#[test]
fn d8_loads_are_reported_to_the_same_server() {
    use core::config_source::ConfigSourceSpecifier as Specifier;
    let (cluster, reports) = whole(|c| {
        c.lrs_server = Some(core::ConfigSource {
            config_source_specifier: Some(Specifier::Self_(Default::default())),
            ..core::ConfigSource::default()
        });
        c.lrs_report_endpoint_metrics = ["x", "cpu_utilization", "", "named_metrics.a"]
            .map(str::to_owned)
            .to_vec();
    });
    assert!(reports);
    let metrics = ["cpu_utilization", "named_metrics.a"].map(LoadMetric::parse);
    assert_eq!(
        cluster.load_metrics,
        metrics.into_iter().flatten().collect::<Vec<_>>()
    );
}

/// Without effect here, and no reason to refuse (gRFC A27 and A83).
#[test]
fn d8_what_a_client_here_does_not_read_is_left_alone() {
    let metadata = core::Metadata {
        // A type that is not known, with bytes that are none.
        typed_filter_metadata: [(
            "x".to_owned(),
            crate::source::xds::proto::Any {
                type_url: "type.googleapis.com/x.Y".into(),
                value: vec![0xff],
            },
        )]
        .into(),
        ..core::Metadata::default()
    };
    let config = any(&upstream::HttpProtocolOptions::default());
    let left = cluster(|c| {
        c.metadata = Some(metadata);
        c.upstream_config = Some(core::TypedExtensionConfig {
            name: "x".into(),
            typed_config: Some(config),
        });
        c.common_lb_config = Some(wire::cluster::CommonLbConfig {
            override_host_status: Some(core::HealthStatusSet { statuses: vec![9] }),
            ..Default::default()
        });
        // Endpoints of a cluster whose endpoints come by themselves.
        let mut stray = locality(9, &[0]);
        stray.lb_endpoints[0].host_identifier = None;
        c.load_assignment = assignment(vec![stray]);
        c.dns_lookup_family = 9;
    });
    assert_eq!(left, cluster(|_| {}));
    // A logical name may be an address.
    let address = cluster(|c| {
        c.eds_cluster_config = None;
        c.cluster_discovery_type = Some(wire::cluster::ClusterDiscoveryType::Type(2));
        c.load_assignment = assignment(vec![locality(0, &[1])]);
    });
    assert!(matches!(address.discovery, Discovery::Dns(_)));
}
