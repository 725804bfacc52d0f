//! What control planes and operators are told: load reports (LRS) and the status of a client (CSDS).

use std::time::Duration;

use envoy_types::pb::envoy::admin::v3::ClientResourceStatus;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterStats;
use envoy_types::pb::envoy::service::load_stats::v3::LoadStatsRequest;
use envoy_types::pb::envoy::service::status::v3 as status;
use http_body_util::BodyExt as _;
use meshwork::source::xds::Kind;
use status::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use tower::ServiceExt as _;

use super::calls::{get, port};
use super::messages::{
    Made, bad_routes, cluster, cluster_with, endpoints, endpoints_with, listener, routes,
};
use super::plane::{Plane, bootstrap, bootstrap_with, mesh};
use crate::mesh::world::World;

/// The cluster `c`, whose load is to be reported.
fn reported() -> Made {
    cluster_with("c", |message| {
        message.lrs_server = Some(core::ConfigSource {
            config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Self_(
                core::SelfConfigSource::default(),
            )),
            ..core::ConfigSource::default()
        });
    })
}

fn start(cluster: Made) -> (World, Plane) {
    let world = World::default();
    world.named(1);
    world.status(2, 503);
    let plane = Plane::new(&world);
    plane.put([listener("catalog:80", "r"), routes("r", &[("c", 1)])]);
    plane.put([
        cluster,
        endpoints_with("c", &[("a", 0, 1, &[1]), ("b", 0, 1, &[2])], |_message| {}),
    ]);
    (world, plane)
}

/// The numbers of a cluster by region, over several reports: issued, succeeded, failed.
fn sums(reports: &[LoadStatsRequest], region: &str) -> (u64, u64, u64) {
    let stats = reports.iter().flat_map(|report| &report.cluster_stats);
    let mut sums = (0, 0, 0);
    for ClusterStats {
        cluster_name,
        upstream_locality_stats,
        ..
    } in stats
    {
        assert_eq!(cluster_name, "c");
        for one in upstream_locality_stats {
            if one.locality.as_ref().is_some_and(|it| it.region == region) {
                sums.0 += one.total_issued_requests;
                sums.1 += one.total_successful_requests;
                sums.2 += one.total_error_requests;
            }
        }
    }
    sums
}

/// A85: what an endpoint says of itself is passed on by locality, as far as the cluster names it.
#[tokio::test(start_paused = true)]
async fn metrics_that_endpoints_report_are_passed_on_as_far_as_the_cluster_names_them() {
    let named = cluster_with("c", |message| {
        message.lrs_server = Some(core::ConfigSource {
            config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Self_(
                core::SelfConfigSource::default(),
            )),
            ..core::ConfigSource::default()
        });
        message.lrs_report_endpoint_metrics =
            ["cpu_utilization", "named_metrics.queue", "unheard_of"]
                .map(String::from)
                .into();
    });
    let (world, plane) = start(named);
    for (port, cpu) in [(1, "0.5"), (2, "0.25")] {
        world.serve(port, move |_| async move {
            let mut response = http::Response::new(meshwork::Body::from(port.to_string()));
            let report = format!(
                "TEXT cpu_utilization={cpu},mem_utilization=0.1,named_metrics.queue=3,named_metrics.x=9"
            );
            let report = report.parse().unwrap();
            response.headers_mut().insert("endpoint-load-metrics", report);
            response
        });
    }
    let mesh = mesh(&world, bootstrap()).await;
    let mut first = 0;
    for _ in 0..40 {
        first += u64::from(port(&mesh).await.unwrap() == "1");
    }
    assert!((1..40).contains(&first), "both are drawn");
    tokio::time::sleep(Duration::from_secs(11)).await;
    let reports = plane.reports();
    let mut sums = [("a", 0, 0.0, 0, 0.0), ("b", 0, 0.0, 0, 0.0)];
    let stats = reports.iter().flat_map(|report| &report.cluster_stats);
    for one in stats.flat_map(|stats| &stats.upstream_locality_stats) {
        let region = one.locality.as_ref().map_or("", |it| &it.region);
        let sum = sums.iter_mut().find(|sum| sum.0 == region).unwrap();
        if let Some(cpu) = &one.cpu_utilization {
            sum.1 += cpu.num_requests_finished_with_metric;
            sum.2 += cpu.total_metric_value;
        }
        assert!(one.mem_utilization.is_none(), "nobody asked for it");
        for metric in &one.load_metric_stats {
            match &*metric.metric_name {
                "latency_ms" => {}
                "named_metrics.queue" => {
                    sum.3 += metric.num_requests_finished_with_metric;
                    sum.4 += metric.total_metric_value;
                }
                other => panic!("nobody asked for {other}"),
            }
        }
    }
    let second = 40 - first;
    let expected = [("a", first, 0.5), ("b", second, 0.25)].map(|(region, requests, cpu)| {
        let number = f64::from(u32::try_from(requests).unwrap());
        (region, requests, number * cpu, requests, number * 3.0)
    });
    assert_eq!(sums, expected);
}

#[tokio::test(start_paused = true)]
async fn load_is_reported_by_locality_as_often_as_the_server_wants() {
    let (world, plane) = start(reported());
    let mesh = mesh(&world, bootstrap()).await;
    let mut failed = 0;
    for _ in 0..100 {
        failed += u64::from(port(&mesh).await.is_ok_and(|port| port != "1"));
    }
    assert!(failed > 10, "both are drawn");
    tokio::time::sleep(Duration::from_secs(16)).await;
    let reports = plane.reports();
    let node = reports[0].node.as_ref().unwrap();
    assert_eq!(node.id, "order-1");
    assert!(
        node.client_features
            .contains(&"envoy.lrs.supports_send_all_clusters".to_owned())
    );
    assert!(reports[1..].iter().all(|report| report.node.is_none()));
    assert_eq!(reports.len(), 4, "one at first, then one in five seconds");
    let interval = reports[1].cluster_stats[0].load_report_interval.unwrap();
    assert_eq!(interval.seconds, 5);
    let localities = reports.iter().flat_map(|report| &report.cluster_stats);
    let localities = localities.flat_map(|stats| &stats.upstream_locality_stats);
    let timed = localities.flat_map(|locality| &locality.load_metric_stats);
    let timed: Vec<_> = timed
        .filter(|metric| metric.metric_name == "latency_ms")
        .collect();
    let count: u64 = timed
        .iter()
        .map(|one| one.num_requests_finished_with_metric)
        .sum();
    // Those of the other endpoint have no body whose end could be timed.
    assert_eq!(count, 100 - failed, "{timed:?}");
    assert!(
        timed.iter().all(|one| one.total_metric_value >= 0.0),
        "{timed:?}"
    );
    assert_eq!(sums(&reports, "a"), (100 - failed, 100 - failed, 0));
    assert_eq!(sums(&reports, "b"), (failed, 0, failed));
    // The control plane does not want it any more: what is left is told, and the stream ends.
    port(&mesh).await.unwrap();
    plane.put([cluster("c")]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let last = plane.reports();
    assert_eq!(sums(&last, "a").0 + sums(&last, "b").0, 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(plane.reports().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_reported_that_nobody_asked_for() {
    let (world, plane) = start(cluster("c"));
    let mesh = mesh(&world, bootstrap()).await;
    port(&mesh).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(plane.reports().is_empty());
}

#[tokio::test(start_paused = true)]
async fn drops_are_reported_by_category() {
    use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::{
        Policy, policy::DropOverload,
    };
    use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
    let (world, plane) = start(reported());
    plane.put([endpoints_with("c", &[("a", 0, 1, &[1])], |message| {
        message.policy = Some(Policy {
            drop_overloads: vec![DropOverload {
                category: "lb".into(),
                drop_percentage: Some(FractionalPercent {
                    numerator: 100,
                    denominator: 0,
                }),
            }],
            ..Policy::default()
        });
    })]);
    let mesh = mesh(&world, bootstrap()).await;
    for _ in 0..7 {
        assert!(port(&mesh).await.unwrap_err().is_overloaded());
    }
    assert_eq!(mesh.stats().clusters[0].dropped, 7);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let reports = plane.reports();
    let stats = &reports[1].cluster_stats[0];
    assert_eq!(stats.total_dropped_requests, 7);
    assert_eq!(stats.dropped_requests[0].category, "lb");
    assert_eq!(stats.dropped_requests[0].dropped_count, 7);
}

#[tokio::test(start_paused = true)]
async fn c22_a_client_tells_what_it_has_what_it_refused_and_why() {
    let (world, plane) = start(cluster("c"));
    let mesh = mesh(&world, bootstrap()).await;
    port(&mesh).await.unwrap();
    plane.put([bad_routes("r"), endpoints("c", &[1])]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut client = ClientStatusDiscoveryServiceClient::new(mesh.client_status().unwrap());
    let request = status::ClientStatusRequest::default();
    let answer = client.fetch_client_status(request).await.unwrap();
    let [config] = answer.into_inner().config.try_into().unwrap();
    assert_eq!(config.node.unwrap().id, "order-1");
    let of = |kind: Kind| {
        let mut all = config.generic_xds_configs.iter();
        all.find(|one| one.type_url == kind.type_url()).unwrap()
    };
    let good = of(Kind::Cluster);
    assert_eq!(good.name, "c");
    assert_eq!(good.client_status(), ClientResourceStatus::Acked);
    assert!(good.xds_config.is_some() && good.last_updated.is_some());
    let refused = of(Kind::RouteConfiguration);
    assert_eq!(refused.client_status(), ClientResourceStatus::Nacked);
    assert!(refused.xds_config.is_some(), "the one before is in force");
    let why = &refused.error_state.as_ref().unwrap().details;
    assert!(why.contains("virtual_hosts[0].routes[0]"), "{why}");
    // Without contents, and by a matcher that nobody has.
    let brief = status::ClientStatusRequest {
        exclude_resource_contents: true,
        ..status::ClientStatusRequest::default()
    };
    let answer = client.fetch_client_status(brief).await.unwrap();
    let configs = &answer.get_ref().config[0].generic_xds_configs;
    assert!(configs.iter().all(|one| one.xds_config.is_none()));
    let matched = status::ClientStatusRequest {
        node_matchers: vec![Default::default()],
        ..status::ClientStatusRequest::default()
    };
    let refused = client.fetch_client_status(matched).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}

/// gRFC A40 and A88: the states of what has no value.
#[tokio::test(start_paused = true)]
async fn c22_what_has_no_value_is_asked_for_absent_late_or_refused() {
    use ClientResourceStatus as Status;
    let transient = r#""resource_timer_is_transient_error""#;
    for (features, sent, seconds, expected, why) in [
        ("", None, 1, Status::Requested, None),
        ("", None, 16, Status::DoesNotExist, Some("within 15 s")),
        (transient, None, 16, Status::Requested, None),
        (transient, None, 31, Status::Timeout, Some("within 30 s")),
        (
            "",
            Some(bad_routes("r")),
            1,
            Status::Nacked,
            Some("virtual_hosts[0].routes[0]"),
        ),
    ] {
        let world = World::default();
        let plane = Plane::new(&world);
        plane.put([listener("catalog:80", "r")]);
        plane.put(sent);
        let mesh = mesh(&world, bootstrap_with(features)).await;
        let channel = mesh.channel("catalog:80").unwrap();
        let call = tokio::spawn(channel.clone().oneshot(get("/")));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let mut client = ClientStatusDiscoveryServiceClient::new(mesh.client_status().unwrap());
        let request = status::ClientStatusRequest::default();
        let answer = client.fetch_client_status(request).await.unwrap();
        let config = &answer.get_ref().config[0];
        // One client for all targets, so that none has a scope of its own (gRFC A71).
        assert_eq!(config.client_scope, "");
        let mut all = config.generic_xds_configs.iter();
        let routes = all
            .find(|one| one.type_url == Kind::RouteConfiguration.type_url())
            .unwrap();
        assert_eq!(routes.client_status(), expected, "after {seconds} s");
        assert!(routes.xds_config.is_none() && routes.last_updated.is_none());
        let details = routes.error_state.as_ref().map(|error| &*error.details);
        match (details, why) {
            (None, None) => {}
            (Some(details), Some(why)) => assert!(details.contains(why), "{details}"),
            (details, _) => panic!("{expected:?}: {details:?}"),
        }
        call.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_mesh_without_a_control_plane_has_no_status_of_one() {
    let (_publisher, feed) = meshwork::source::feed(meshwork::model::Resources::default());
    let mesh = meshwork::Mesh::builder().feed(feed).start().await.unwrap();
    assert!(mesh.client_status().is_none());
    let response = mesh.client().request(get("http://nobody.invalid/")).await;
    drop(response.map(|response| response.into_body().collect()));
}
