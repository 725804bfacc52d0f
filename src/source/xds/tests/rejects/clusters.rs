//! Clusters.

use super::listeners::ads;
use super::{number, refused, seconds, told};
use crate::source::xds::Kind;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{UInt64Value, cluster, core, router};

pub(super) fn good_cluster() -> cluster::Cluster {
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
pub(super) fn cluster_refused(change: impl FnOnce(&mut cluster::Cluster), expected: &str) {
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
