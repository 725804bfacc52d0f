//! Which request goes where.

use http::{HeaderName, Request};
use meshwork::model::cluster::Protocol;
use meshwork::model::matcher::{HeaderKey, HeaderMatcher, HeaderTest, RouteMatcher, StringMatcher};
use meshwork::model::route::{Destination, Destinations, HeaderChanges, OwnFault};
use meshwork::{Body, CallReport, Mesh, OutboundTraffic};

use super::world::{Plan, World, all_to, call, cluster, forward, get, route, text, weighted};

fn header(name: &'static str, value: &str) -> RouteMatcher {
    RouteMatcher {
        headers: vec![HeaderMatcher {
            key: HeaderKey::Field(HeaderName::from_static(name)),
            test: HeaderTest::Value(StringMatcher::Exact(value.into())),
            invert: false,
            missing_is_empty: false,
        }],
        ..RouteMatcher::everything()
    }
}

fn canary() -> Plan {
    let everything = RouteMatcher::everything();
    Plan::default()
        .cluster(cluster("v1", Protocol::Http1), &[1, 2])
        .cluster(cluster("v2", Protocol::Http2), &[3])
        .host(
            "catalog",
            vec![
                route(
                    "canary",
                    header("x-canary", "true"),
                    forward(Destinations::single("v2")),
                ),
                route(
                    "split",
                    everything,
                    forward(weighted(&[("v1", 90), ("v2", 10)])),
                ),
            ],
        )
}

#[tokio::test(start_paused = true)]
async fn header_goes_to_v2_and_the_rest_is_split_90_10_within_3_sigma() {
    let world = World::default();
    (1..=3).for_each(|port| world.named(port));
    let (mesh, _publisher) = world.mesh(canary().build()).await;
    for (value, always) in [("true", true), ("True", false)] {
        for _ in 0..20 {
            let mut request = get("http://catalog/items");
            request
                .headers_mut()
                .insert("x-canary", value.parse().unwrap());
            let (_, body) = call(&mesh, request).await.unwrap();
            assert!(body == "3" || !always, "x-canary: {value} went to {body}");
        }
    }
    let mut v2 = 0;
    for _ in 0..10_000 {
        let (_, body) = call(&mesh, get("http://catalog/items")).await.unwrap();
        v2 += i32::from(body == "3");
    }
    // sigma = sqrt(10,000 x 0.1 x 0.9) = 30
    assert!((v2 - 1_000).abs() <= 90, "{v2} of 10,000 went to v2");
}

#[tokio::test(start_paused = true)]
async fn a_report_tells_the_route_the_cluster_and_every_try() {
    let world = World::default();
    (1..=3).for_each(|port| world.named(port));
    let (mesh, _publisher) = world.mesh(canary().build()).await;
    let report = CallReport::default();
    let mut request = get("http://CATALOG:80/items");
    request
        .headers_mut()
        .insert("x-canary", "true".parse().unwrap());
    request.extensions_mut().insert(report.clone());
    call(&mesh, request).await.unwrap();
    assert_eq!(report.route().as_deref(), Some("canary"));
    assert_eq!(report.cluster().as_deref(), Some("v2"));
    assert_eq!(report.generation(), 1);
    let attempts = report.attempts();
    assert_eq!(attempts.len(), 1);
    assert_eq!(&*attempts[0].endpoint, "10.0.0.1:3");
    assert_eq!(attempts[0].outcome, "200 OK");
}

#[tokio::test(start_paused = true)]
async fn missing_cluster_route_and_endpoint_are_told_apart() {
    let world = World::default();
    world.named(1);
    let plan = Plan::default()
        .cluster(cluster("empty", Protocol::Http1), &[])
        .host("no-cluster", vec![all_to("nobody")])
        .host("no-endpoint", vec![all_to("empty")])
        .host("no-route", vec![]);
    let (mesh, _publisher) = world.mesh(plan.build()).await;
    for (host, text, flag) in [
        (
            "no-cluster",
            "the route's cluster does not exist (cluster nobody)",
            "NC",
        ),
        ("no-endpoint", "no healthy endpoint (cluster empty)", "UH"),
        (
            "no-route",
            "no route for no-route: no virtual host and route of the mesh match the request",
            "NR",
        ),
    ] {
        let error = call(&mesh, get(&format!("http://{host}/")))
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(error.flag().unwrap().code(), flag);
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_hosts_pass_through_or_are_refused() {
    let world = World::default();
    world.named(8080);
    let (mesh, _publisher) = world.mesh(Plan::default().build()).await;
    let (_, body) = call(&mesh, get("http://elsewhere.example:8080/"))
        .await
        .unwrap();
    assert_eq!(body, "8080");

    let strict = Mesh::builder()
        .connector(world.clone())
        .outbound_traffic(OutboundTraffic::RegistryOnly)
        .start()
        .await
        .unwrap();
    let error = call(&strict, get("http://elsewhere.example:8080/"))
        .await
        .unwrap_err();
    assert_eq!(error.status(), 502);
    assert!(error.to_string().contains("REGISTRY_ONLY"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn requests_that_cannot_be_sent_are_refused_with_a_reason() {
    let world = World::default();
    let (mesh, _publisher) = world.mesh(canary().build()).await;
    for (uri, why) in [
        ("/items", "neither its URI nor a Host header"),
        ("https://catalog/", "https is not yet supported"),
        ("ftp://catalog/", "its scheme is not http"),
        ("http://user@catalog/", "user information"),
    ] {
        let error = call(&mesh, get(uri)).await.unwrap_err();
        assert!(error.to_string().contains(why), "{uri}: {error}");
        assert_eq!(error.status(), 400);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_runs_in_a_task_of_its_own() {
    let world = World::default();
    world.named(1);
    let plan = Plan::default()
        .cluster(cluster("v1", Protocol::Http1), &[1])
        .host("catalog", vec![all_to("v1")]);
    let (mesh, _publisher) = world.mesh(plan.build()).await;
    let mut channel = mesh.channel("catalog").unwrap();
    let response = tokio::spawn(async move {
        use tower::{Service, ServiceExt};
        let request = Request::get("/").body(Body::empty()).unwrap();
        ServiceExt::<Request<Body>>::ready(&mut channel)
            .await?
            .call(request)
            .await
    });
    assert_eq!(response.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn authority_of_a_weighted_destination_is_sent_unless_the_route_has_one() {
    let world = World::default();
    world.serve(1, |request: Request<hyper::body::Incoming>| async move {
        let host = request.headers().get(http::header::HOST);
        text(host.map_or(String::new(), |host| host.to_str().unwrap().to_owned()))
    });
    for (of_route, expected) in [
        (None, "own.example"),
        (Some("route.example"), "route.example"),
    ] {
        let destination = Destination {
            cluster: "v1".into(),
            weight: 1,
            headers: HeaderChanges::default(),
            authority_rewrite: Some("own.example".parse().unwrap()),
            fault: OwnFault::AsRoute,
        };
        let mut forward = forward(Destinations::weighted(vec![destination]).unwrap());
        forward.authority_rewrite = of_route.map(|text| text.parse().unwrap());
        let plan = Plan::default()
            .cluster(cluster("v1", Protocol::Http1), &[1])
            .host(
                "catalog",
                vec![route("all", RouteMatcher::everything(), forward)],
            );
        let (mesh, _publisher) = world.mesh(plan.build()).await;
        let (_, body) = call(&mesh, get("http://catalog/")).await.unwrap();
        assert_eq!(body, expected);
    }
}
