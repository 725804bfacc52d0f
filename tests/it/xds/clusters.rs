//! Kinds of clusters and what control planes say of their endpoints, through the front door.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as wire;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::google::protobuf::{Duration as Seconds, UInt32Value};
use http::StatusCode;
use meshwork::{CallOptions, Flag, Mesh};
use prost::{Message as _, Name as _};

use super::calls::{get, port};
use super::messages::{
    Made, aggregate, cluster, cluster_with, endpoints, endpoints_with, listener, routes,
};
use super::plane::{Plane, bootstrap, mesh};
use crate::mesh::world::World;

/// A plane whose `catalog:80` is the cluster `all`, over endpoints at these ports that answer.
fn start(ports: &[u16], made: Vec<Made>) -> (World, Plane) {
    let world = World::default();
    ports.iter().for_each(|port| world.named(*port));
    let plane = Plane::new(&world);
    plane.put([listener("catalog:80", "r"), routes("r", &[("all", 1)])]);
    plane.put(made);
    (world, plane)
}

/// The cluster's balancing is `pick_first`.
fn first_of_all(message: &mut wire::Cluster) {
    use envoy_types::pb::envoy::extensions::load_balancing_policies::pick_first::v3::PickFirst;
    let config = envoy_types::pb::google::protobuf::Any {
        type_url: PickFirst::type_url(),
        value: PickFirst::default().encode_to_vec(),
    };
    message.load_balancing_policy = Some(wire::LoadBalancingPolicy {
        policies: vec![wire::load_balancing_policy::Policy {
            typed_extension_config: Some(core::TypedExtensionConfig {
                name: "pick_first".into(),
                typed_config: Some(config),
            }),
        }],
    });
}

/// Calls until this port answers.
async fn until(mesh: &Mesh, expected: &str) {
    let began = tokio::time::Instant::now();
    loop {
        let found = port(mesh).await;
        if found.as_ref().is_ok_and(|found| found == expected) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{found:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_aggregate_goes_to_its_first_member_that_has_anybody_and_returns_to_it() {
    let (_world, plane) = start(
        &[1, 2],
        vec![
            aggregate("all", &["near", "far"]),
            cluster("near"),
            cluster("far"),
            endpoints("near", &[1]),
            endpoints("far", &[2]),
        ],
    );
    let mesh = mesh(&_world, bootstrap()).await;
    for _ in 0..20 {
        assert_eq!(port(&mesh).await.unwrap(), "1");
    }
    plane.put([endpoints("near", &[])]);
    until(&mesh, "2").await;
    let unhealthy = endpoints_with("near", &[("here", 0, 1, &[1])], |message| {
        message.endpoints[0].lb_endpoints[0].health_status = core::HealthStatus::Unhealthy.into();
    });
    plane.put([unhealthy]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(port(&mesh).await.unwrap(), "2");
    plane.put([endpoints("near", &[1])]);
    until(&mesh, "1").await;
    // The members come in another order.
    plane.put([aggregate("all", &["far", "near"])]);
    until(&mesh, "2").await;
}

#[tokio::test(start_paused = true)]
async fn aggregates_nest_skip_what_is_missing_and_end_in_circles() {
    let (world, plane) = start(
        &[1],
        vec![
            aggregate("all", &["missing", "inner"]),
            aggregate("inner", &["all", "inner", "leaf"]),
            cluster("leaf"),
            endpoints("leaf", &[1]),
        ],
    );
    let mesh = mesh(&world, bootstrap()).await;
    assert_eq!(port(&mesh).await.unwrap(), "1");
    // Nothing but circles has nobody, and says so.
    plane.put([aggregate("inner", &["all"])]);
    let began = tokio::time::Instant::now();
    while port(&mesh).await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(port(&mesh).await.unwrap_err().is_no_endpoint());
}

#[tokio::test(start_paused = true)]
async fn members_of_an_aggregate_keep_their_own_limits() {
    let none = |message: &mut wire::Cluster| {
        message.circuit_breakers = Some(wire::CircuitBreakers {
            thresholds: vec![wire::circuit_breakers::Thresholds {
                max_requests: Some(UInt32Value { value: 0 }),
                ..wire::circuit_breakers::Thresholds::default()
            }],
            ..wire::CircuitBreakers::default()
        });
    };
    let (world, _plane) = start(
        &[1],
        vec![
            aggregate("all", &["near"]),
            cluster_with("near", none),
            endpoints("near", &[1]),
        ],
    );
    let mesh = mesh(&world, bootstrap()).await;
    assert!(port(&mesh).await.unwrap_err().is_overloaded());
}

/// gRPC A62: one endpoint has all calls, the first that can be connected to; an edit that leaves it there
/// moves nobody.
#[tokio::test(start_paused = true)]
async fn pick_first_stays_with_the_first_that_can_be_connected_to() {
    let (world, plane) = start(
        &[2, 3, 4],
        vec![
            cluster_with("all", first_of_all),
            endpoints("all", &[1, 2, 3]),
        ],
    );
    let mesh = mesh(&world, bootstrap()).await;
    let all = async |expected: &str| {
        for _ in 0..20 {
            assert_eq!(port(&mesh).await.unwrap(), expected);
        }
    };
    all("2").await;
    assert_eq!((world.dials(1), world.dials(3)), (1, 0));
    // The call that it breaks off may be lost; what comes after it finds the third behind the first.
    world.remove(2);
    let _ = port(&mesh).await;
    all("3").await;
    assert_eq!(world.dials(1), 2);
    plane.put([endpoints("all", &[4, 2, 3])]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    all("3").await;
    plane.put([endpoints("all", &[4, 2])]);
    until(&mesh, "4").await;
    all("4").await;
}

/// Whoever calls waits for less than connecting may take, and seldom: no call is there to hear that the dial
/// has failed.
#[tokio::test(start_paused = true)]
async fn pick_first_leaves_an_endpoint_that_swallows_packets() {
    let (world, _plane) = start(
        &[2],
        vec![cluster_with("all", first_of_all), endpoints("all", &[1, 2])],
    );
    world.silent(1);
    let mesh = mesh(&world, bootstrap()).await;
    let seldom = async |timeout| {
        let mut request = get("http://catalog/");
        let short = CallOptions::new().timeout(timeout);
        request.extensions_mut().insert(short);
        let answer = mesh.client().request(request).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        answer.map(|response| response.status())
    };
    // Who hardly has time learns nothing of the endpoint.
    for waits in [1, 1, 300] {
        let late = seldom(Duration::from_millis(waits)).await;
        assert!(late.unwrap_err().is_timeout());
    }
    let answer = seldom(Duration::from_millis(300)).await;
    assert_eq!(answer.unwrap(), StatusCode::OK);
}

/// Where nobody can be connected to, a call asks one endpoint and not all.
#[tokio::test(start_paused = true)]
async fn pick_first_asks_one_where_all_are_lost() {
    let (world, _plane) = start(
        &[],
        vec![
            cluster_with("all", first_of_all),
            endpoints("all", &[1, 2, 3]),
        ],
    );
    let mesh = mesh(&world, bootstrap()).await;
    let dials = || {
        [1, 2, 3]
            .map(|port| world.dials(port))
            .iter()
            .sum::<usize>()
    };
    assert!(port(&mesh).await.is_err());
    assert_eq!(dials(), 3, "each once");
    for call in 1..=6 {
        assert!(port(&mesh).await.is_err());
        assert_eq!(dials(), 3 + call);
    }
}

/// Endpoints of `all` at port 1, of which these shares in percent are dropped.
fn dropping(shares: &[(&str, u32)]) -> Made {
    use endpoint::cluster_load_assignment::{Policy, policy::DropOverload};
    endpoints_with("all", &[("here", 0, 1, &[1])], |message| {
        let drop = |(category, percent): &(&str, u32)| DropOverload {
            category: (*category).into(),
            drop_percentage: Some(FractionalPercent {
                numerator: *percent,
                denominator: 0,
            }),
        };
        message.policy = Some(Policy {
            drop_overloads: shares.iter().map(drop).collect(),
            ..Policy::default()
        });
    })
}

#[tokio::test(start_paused = true)]
async fn overloads_are_dropped_by_their_shares_and_not_tried_again() {
    let (world, plane) = start(&[1], vec![cluster("all"), dropping(&[("lb", 100)])]);
    let mesh = mesh(&world, bootstrap()).await;
    let error = port(&mesh).await.unwrap_err();
    assert!(error.is_overloaded(), "{error}");
    assert_eq!(error.flag(), Some(Flag::DropOverload));
    assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(error.to_string().contains("category \"lb\""), "{error}");
    assert_eq!(world.dials(1), 0);
    plane.put([dropping(&[("lb", 0), ("throttle", 30)])]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut dropped = 0;
    for _ in 0..1_000 {
        match port(&mesh).await {
            Ok(_) => {}
            Err(error) => {
                assert!(error.to_string().contains("\"throttle\""), "{error}");
                dropped += 1;
            }
        }
    }
    // Six standard deviations.
    assert!((213..=387).contains(&dropped), "{dropped}");
    plane.put([endpoints("all", &[1])]);
    until(&mesh, "1").await;
    for _ in 0..100 {
        assert_eq!(port(&mesh).await.unwrap(), "1");
    }
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_checked_as_the_control_plane_says() {
    let checked = cluster_with("all", |message| {
        use core::health_check::{HealthChecker, HttpHealthCheck};
        let seconds = |seconds| Some(Seconds { seconds, nanos: 0 });
        message.health_checks = vec![core::HealthCheck {
            timeout: seconds(1),
            interval: seconds(1),
            no_traffic_interval: seconds(1),
            healthy_threshold: Some(UInt32Value { value: 1 }),
            unhealthy_threshold: Some(UInt32Value { value: 1 }),
            health_checker: Some(HealthChecker::HttpHealthCheck(HttpHealthCheck {
                path: "/healthz".into(),
                ..HttpHealthCheck::default()
            })),
            ..core::HealthCheck::default()
        }];
    });
    let (world, _plane) = start(&[2], vec![checked, endpoints("all", &[1, 2])]);
    world.status(1, 500);
    let mesh = mesh(&world, bootstrap()).await;
    mesh.client().request(get("http://catalog/")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    for _ in 0..50 {
        assert_eq!(port(&mesh).await.unwrap(), "2");
    }
}
