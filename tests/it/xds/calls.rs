//! What is asked for, and what calls see of what arrives.

use std::error::Error as _;
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use meshwork::source::xds::{Bootstrap, Kind};
use meshwork::{Body, CallOptions, Error, Mesh, OutboundTraffic};
use tower::ServiceExt as _;

use super::messages::{bad_routes, cluster, endpoints, listener, routes, routes_with, service};
use super::plane::{Plane, bootstrap, mesh};
use crate::mesh::world::World;

pub(crate) fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::empty()).unwrap()
}

/// The port that answered.
pub(crate) async fn port(mesh: &Mesh) -> Result<String, Error> {
    let response = mesh.client().request(get("http://catalog/")).await?;
    let body = response.into_body().collect().await?;
    Ok(String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::test(start_paused = true)]
async fn c16_the_first_call_waits_for_discovery_in_both_variants() {
    for bootstrap in [bootstrap(), bootstrap().delta()] {
        let world = World::default();
        world.named(1);
        let plane = Plane::new(&world);
        plane.put(service("catalog:80", "c", &[1]));
        let mesh = mesh(&world, bootstrap).await;
        assert_eq!(mesh.generation(), 1);
        assert_eq!(plane.streams(), 0, "nothing is asked for yet");
        assert_eq!(port(&mesh).await.unwrap(), "1");
        let channel = mesh.channel("catalog:80").unwrap();
        let response = channel.oneshot(get("/items")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(plane.streams(), 1, "one stream, however many channels");
        let asked = plane.asked();
        assert_eq!(asked[0].node, "order-1");
        assert!(asked[1..].iter().all(|asked| asked.node.is_empty()));
        assert!(asked.iter().all(|asked| asked.error.is_none()), "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn names_of_targets_become_names_of_listeners() {
    let world = World::default();
    world.named(1);
    let plane = Plane::new(&world);
    let federated = "xdstp://shop/envoy.config.listener.v3.Listener/catalog:80";
    for name in ["catalog:80", "any/name", federated] {
        plane.put(service(name, "c", &[1]));
    }
    let text = format!(
        r#"{{"xds_servers": [{{"server_uri": "plane:{}", "channel_creds": [{{"type": "insecure"}}]}}],
            "authorities": {{"shop": {{}}}}}}"#,
        super::plane::PORT
    );
    let mesh = mesh(&world, Bootstrap::from_json(&text).unwrap()).await;
    for target in [
        "catalog",
        "catalog:80",
        "xds:///catalog:80",
        "xds:///any/name",
        "xds://shop/catalog:80",
    ] {
        let client = mesh.client_to(target).unwrap();
        let response = client.request(get("http://whoever/")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{target}");
    }
    let error = mesh.channel("xds://nobody/catalog").unwrap_err();
    assert!(
        error.is_config() && error.to_string().contains("[\"shop\"]"),
        "{error}"
    );
    assert!(
        mesh.channel("xds:///*")
            .unwrap_err()
            .to_string()
            .contains("all there are")
    );
    let listeners: Vec<String> = plane
        .asked()
        .into_iter()
        .filter(|asked| asked.kind == Some(Kind::Listener))
        .flat_map(|asked| asked.names)
        .collect();
    assert!(!listeners.iter().any(|name| name == "*"), "wildcards never");
}

#[tokio::test(start_paused = true)]
async fn c8_what_no_channel_needs_is_not_asked_for_any_more() {
    let world = World::default();
    world.named(1);
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "c", &[1]));
    let mesh = mesh(&world, bootstrap()).await;
    let channel = mesh.channel("catalog:80").unwrap();
    let same = channel.clone();
    same.oneshot(get("/")).await.unwrap();
    plane.asked();
    drop(channel);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = plane.asked();
    let empty = asked.iter().filter(|asked| asked.names.is_empty()).count();
    assert_eq!(empty, 4, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn c12_what_does_not_exist_is_told_and_plain_hosts_are_strays_then() {
    let world = World::default();
    let plane = Plane::new(&world);
    let mesh = Mesh::builder()
        .xds(bootstrap())
        .connector(world.clone())
        .outbound_traffic(OutboundTraffic::RegistryOnly)
        .start()
        .await
        .unwrap();
    let began = tokio::time::Instant::now();
    let client = mesh.client_to("xds:///catalog:80").unwrap();
    let error = client.request(get("http://catalog/")).await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 15);
    assert!(error.is_no_route(), "{error}");
    let text = chain(&error);
    for part in [
        "listener \"catalog:80\"",
        "did not send it within 15 s",
        "order-1",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let error = client.request(get("http://catalog/")).await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 15, "known by now: {error}");
    let error = port(&mesh).await.unwrap_err();
    assert!(error.to_string().contains("REGISTRY_ONLY"), "{error}");
    assert_eq!(plane.streams(), 1);
    world.named(1);
    plane.put(service("catalog:80", "c", &[1]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(
        client.request(get("http://catalog/")).await.is_ok(),
        "it may come late"
    );
}

#[tokio::test(start_paused = true)]
async fn delta_tells_at_once_what_does_not_exist() {
    let world = World::default();
    let plane = Plane::new(&world);
    let mesh = mesh(&world, bootstrap().delta()).await;
    let client = mesh.client_to("xds:///catalog:80").unwrap();
    let began = tokio::time::Instant::now();
    let error = client.request(get("http://catalog/")).await.unwrap_err();
    assert!(
        error.is_no_route() && began.elapsed().as_secs() == 0,
        "{error}"
    );
    drop(plane);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_no_longer_than_its_deadline() {
    let world = World::default();
    let plane = Plane::new(&world);
    plane.put([listener("catalog:80", "r")]);
    let mesh = mesh(&world, bootstrap()).await;
    let mut request = get("http://catalog/");
    let options = CallOptions::new().timeout(Duration::from_secs(2));
    request.extensions_mut().insert(options);
    let began = tokio::time::Instant::now();
    let error = mesh.client().request(request).await.unwrap_err();
    assert!(
        error.is_timeout() && began.elapsed().as_secs() == 2,
        "{error}"
    );
    assert!(
        chain(&error).contains("route configuration \"r\" has not arrived"),
        "{}",
        chain(&error)
    );
}

#[tokio::test(start_paused = true)]
async fn c2_a_refused_resource_is_answered_with_its_path_and_the_last_good_one_serves() {
    let world = World::default();
    world.named(1);
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "c", &[1]));
    let mesh = mesh(&world, bootstrap()).await;
    assert_eq!(port(&mesh).await.unwrap(), "1");
    plane.asked();
    plane.put([bad_routes("catalog:80 routes")]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = plane.asked();
    let refusal = asked
        .iter()
        .find_map(|asked| asked.error.clone())
        .expect("a refusal");
    assert!(
        refusal.contains("catalog:80 routes: virtual_hosts[0].routes[0]"),
        "{refusal}"
    );
    assert_eq!(port(&mesh).await.unwrap(), "1");
}

/// Verified faults of other clients: a route to a cluster that does not exist hangs for ever, and so
/// does a cluster without endpoints.
#[tokio::test(start_paused = true)]
async fn missing_clusters_and_empty_endpoints_are_errors_that_say_why() {
    let world = World::default();
    let plane = Plane::new(&world);
    plane.put([listener("catalog:80", "r"), routes("r", &[("missing", 1)])]);
    let mesh = mesh(&world, bootstrap()).await;
    let error = port(&mesh).await.unwrap_err();
    assert!(error.is_no_endpoint(), "{error}");
    assert!(
        chain(&error).contains("cluster \"missing\""),
        "{}",
        chain(&error)
    );
    plane.put([routes("r", &[("c", 1)]), cluster("c"), endpoints("c", &[])]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let error = port(&mesh).await.unwrap_err();
    assert!(error.is_no_endpoint(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn weights_hold() {
    let world = World::default();
    world.named(1);
    world.named(2);
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "a", &[1]));
    plane.put([
        cluster("b"),
        endpoints("b", &[2]),
        routes("catalog:80 routes", &[("a", 9), ("b", 1)]),
    ]);
    let mesh = mesh(&world, bootstrap()).await;
    let mut second = 0;
    for _ in 0..1_000 {
        second += usize::from(port(&mesh).await.unwrap() == "2");
    }
    assert!((62..=138).contains(&second), "{second}");
}

#[tokio::test(start_paused = true)]
async fn a_client_leaves_out_a_route_whose_action_is_unknown() {
    use envoy_types::pb::envoy::config::route::v3 as route;
    let world = World::default();
    world.named(1);
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "c", &[1]));
    plane.put([routes_with("catalog:80 routes", &[("c", 1)], |message| {
        let routes = &mut message.virtual_hosts[0].routes;
        let mut unknown = routes[0].clone();
        unknown.action = Some(route::route::Action::Route(route::RouteAction {
            cluster_specifier: Some(route::route_action::ClusterSpecifier::ClusterHeader(
                "x-cluster".into(),
            )),
            ..route::RouteAction::default()
        }));
        routes.insert(0, unknown);
    })]);
    let mesh = mesh(&world, bootstrap()).await;
    assert_eq!(port(&mesh).await.unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn servers_and_resources_are_metrics_in_the_names_of_grpc() {
    let world = World::default();
    world.named(1);
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "c", &[1]));
    let mesh = mesh(&world, bootstrap()).await;
    assert_eq!(port(&mesh).await.unwrap(), "1");
    let metrics = mesh.metrics();
    let lines = |name: &str| -> Vec<String> {
        let named = metrics
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")));
        named.map(str::to_owned).collect()
    };
    let connected = lines("grpc_xds_client_connected");
    assert!(
        connected.len() == 1
            && connected[0].contains("grpc_target=\"#mesh\"")
            && connected[0].ends_with(" 1"),
        "{connected:?}"
    );
    let valid = lines("grpc_xds_client_resource_updates_valid_total");
    assert_eq!(valid.len(), 4, "{valid:?}");
    let resources = lines("grpc_xds_client_resources");
    let acked =
        |line: &&String| line.contains("grpc_xds_cache_state=\"acked\"") && line.ends_with(" 1");
    assert_eq!(resources.iter().filter(acked).count(), 4, "{resources:?}");
    assert_eq!(lines("grpc_xds_client_server_failure_total").len(), 1);
    let nobody = Mesh::builder().start().await.unwrap();
    assert!(!nobody.metrics().contains("grpc_xds_client"));
}
