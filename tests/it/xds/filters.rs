//! Filters of a listener hold for the routes that it names, as far as these say nothing else.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3 as delay;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3 as fault;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3 as local_rate;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3 as session;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::http::stateful_session::header::v3::HeaderBasedSessionState;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::google::protobuf::{Any, Duration as Seconds};
use http::StatusCode;
use meshwork::Mesh;
use meshwork::source::xds::Kind;
use tower::ServiceExt as _;

use super::calls::get;
use super::messages::{
    Made, cluster, endpoints, filter, listener_with, packed, routes, routes_with, service,
};
use super::plane::{Plane, bootstrap, mesh};
use crate::mesh::world::World;

/// Answers every request with this status.
fn abort(status: u32) -> fault::HttpFault {
    fault::HttpFault {
        abort: Some(fault::FaultAbort {
            percentage: Some(FractionalPercent {
                numerator: 100,
                denominator: 0,
            }),
            error_type: Some(fault::fault_abort::ErrorType::HttpStatus(status)),
            ..fault::FaultAbort::default()
        }),
        ..fault::HttpFault::default()
    }
}

/// Holds every request back for so many seconds.
fn hold(seconds: i64) -> fault::HttpFault {
    use delay::fault_delay::FaultDelaySecifier;
    fault::HttpFault {
        delay: Some(delay::FaultDelay {
            percentage: Some(FractionalPercent {
                numerator: 100,
                denominator: 0,
            }),
            fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(Seconds {
                seconds,
                nanos: 0,
            })),
        }),
        ..fault::HttpFault::default()
    }
}

fn off() -> Any {
    packed(&route::FilterConfig {
        disabled: true,
        ..route::FilterConfig::default()
    })
}

fn said(name: &str, any: Any) -> HashMap<String, Any> {
    HashMap::from([(name.to_owned(), any)])
}

/// A listener whose filters these are, before its router.
fn filtered(filters: Vec<hcm::HttpFilter>) -> Made {
    listener_with("catalog:80", "catalog:80 routes", |manager| {
        let router = std::mem::replace(&mut manager.http_filters, filters);
        manager.http_filters.extend(router);
    })
}

async fn status(mesh: &Mesh) -> StatusCode {
    let channel = mesh.channel("catalog:80").unwrap();
    channel.oneshot(get("/items")).await.unwrap().status()
}

/// A world with a plane that serves `catalog:80` by one endpoint.
fn start() -> (World, Plane) {
    let world = World::default();
    world.named(1);
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "c", &[1]));
    (world, plane)
}

#[tokio::test(start_paused = true)]
async fn filters_of_a_listener_hold_for_the_routes_that_it_names() {
    let (world, plane) = start();
    plane.put([filtered(vec![filter("my-fault", &abort(418))])]);
    let mesh = mesh(&world, bootstrap()).await;
    assert_eq!(status(&mesh).await, StatusCode::IM_A_TEAPOT);
}

#[tokio::test(start_paused = true)]
async fn each_level_overrides_the_one_around_it_by_the_name_of_the_filter() {
    type Change = fn(&mut route::RouteConfiguration, Any);
    let levels: [(&str, Change); 4] = [
        ("route configuration", |routes, any| {
            routes.typed_per_filter_config = said("my-fault", any);
        }),
        ("virtual host", |routes, any| {
            routes.virtual_hosts[0].typed_per_filter_config = said("my-fault", any);
        }),
        ("route", |routes, any| {
            let route = &mut routes.virtual_hosts[0].routes[0];
            route.typed_per_filter_config = said("my-fault", any);
        }),
        ("weighted cluster", |routes, any| {
            use route::route_action::ClusterSpecifier as Specifier;
            let route = &mut routes.virtual_hosts[0].routes[0];
            let Some(route::route::Action::Route(action)) = &mut route.action else {
                unreachable!("the route forwards")
            };
            let Some(Specifier::WeightedClusters(weighted)) = &mut action.cluster_specifier else {
                unreachable!("to weighted clusters")
            };
            weighted.clusters[0].typed_per_filter_config = said("my-fault", any);
        }),
    ];
    for (level, change) in levels {
        for (any, expected) in [
            (packed(&abort(451)), 451),
            (packed(&fault::HttpFault::default()), 200),
            (off(), 200),
        ] {
            let (world, plane) = start();
            plane.put([filtered(vec![filter("my-fault", &abort(418))])]);
            let routes = routes_with("catalog:80 routes", &[("c", 1)], |routes| {
                // What is further out says something else.
                if level != "route configuration" {
                    routes.typed_per_filter_config = said("my-fault", packed(&abort(403)));
                }
                change(routes, any);
            });
            plane.put([routes]);
            let mesh = mesh(&world, bootstrap()).await;
            assert_eq!(status(&mesh).await.as_u16(), expected, "{level}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_said_of_a_filter_that_the_listener_does_not_have_has_no_effect() {
    let (world, plane) = start();
    let abort = || said("envoy.filters.http.fault", packed(&abort(418)));
    plane.put([routes_with("catalog:80 routes", &[("c", 1)], |routes| {
        routes.typed_per_filter_config = abort();
        routes.virtual_hosts[0].routes[0].typed_per_filter_config = abort();
    })]);
    let mesh = mesh(&world, bootstrap()).await;
    assert_eq!(status(&mesh).await, StatusCode::OK);
    // The same routes under a listener that has it, by this name.
    let none = filter("envoy.filters.http.fault", &fault::HttpFault::default());
    plane.put([filtered(vec![none])]);
    until(&mesh, StatusCode::IM_A_TEAPOT).await;
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_is_switched_off_works_for_routes_that_configure_it() {
    let (world, plane) = start();
    let disabled = hcm::HttpFilter {
        disabled: true,
        ..filter("my-fault", &abort(418))
    };
    plane.put([filtered(vec![disabled])]);
    let mesh = mesh(&world, bootstrap()).await;
    assert_eq!(status(&mesh).await, StatusCode::OK);
    plane.put([routes_with("catalog:80 routes", &[("c", 1)], |routes| {
        routes.virtual_hosts[0].typed_per_filter_config = said("my-fault", packed(&abort(451)));
    })]);
    until(&mesh, StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS).await;
}

#[tokio::test(start_paused = true)]
async fn each_of_two_listeners_puts_its_own_filters_over_the_same_routes() {
    let (world, plane) = start();
    plane.put([
        filtered(vec![filter("f", &abort(418))]),
        listener_with("other:80", "catalog:80 routes", |_| {}),
    ]);
    let mesh = mesh(&world, bootstrap()).await;
    let other = mesh.channel("other:80").unwrap();
    let response = other.oneshot(get("/items")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(status(&mesh).await, StatusCode::IM_A_TEAPOT);
    // An edit of the shared routes keeps both.
    world.named(2);
    plane.put([cluster("d"), endpoints("d", &[2])]);
    plane.put([routes("catalog:80 routes", &[("d", 1)])]);
    let channel = mesh.channel("other:80").unwrap();
    loop {
        let response = channel.clone().oneshot(get("/items")).await.unwrap();
        let body = http_body_util::BodyExt::collect(response.into_body()).await;
        if body.unwrap().to_bytes() == "2" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(status(&mesh).await, StatusCode::IM_A_TEAPOT);
    plane.put([filtered(Vec::new())]);
    until(&mesh, StatusCode::OK).await;
}

#[tokio::test(start_paused = true)]
async fn the_bound_of_a_listener_for_a_stream_holds_where_a_route_has_none() {
    let (world, plane) = start();
    world.hung(1);
    plane.put([listener_with(
        "catalog:80",
        "catalog:80 routes",
        |manager| {
            manager.common_http_protocol_options = Some(HttpProtocolOptions {
                max_stream_duration: Some(Seconds {
                    seconds: 3,
                    nanos: 0,
                }),
                ..HttpProtocolOptions::default()
            });
        },
    )]);
    let mesh = mesh(&world, bootstrap()).await;
    let began = tokio::time::Instant::now();
    assert_eq!(status(&mesh).await, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(began.elapsed().as_secs(), 3);
    // A route's own bound is in its place.
    plane.put([routes_with("catalog:80 routes", &[("c", 1)], |routes| {
        let route = &mut routes.virtual_hosts[0].routes[0];
        if let Some(route::route::Action::Route(action)) = &mut route.action {
            action.max_stream_duration = Some(route::route_action::MaxStreamDuration {
                max_stream_duration: Some(Seconds {
                    seconds: 7,
                    nanos: 0,
                }),
                ..route::route_action::MaxStreamDuration::default()
            });
        }
    })]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = tokio::time::Instant::now();
    assert_eq!(status(&mesh).await, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(began.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn delays_and_sessions_of_a_listener_hold_for_the_routes_that_it_names() {
    let (world, plane) = start();
    let state = session::StatefulSession {
        session_state: Some(packed_extension(&HeaderBasedSessionState {
            name: "x-session".into(),
        })),
        ..session::StatefulSession::default()
    };
    plane.put([filtered(vec![filter("s", &state), filter("f", &hold(2))])]);
    let mesh = mesh(&world, bootstrap()).await;
    // The resources are there, so that the second call waits for nothing but the delay.
    status(&mesh).await;
    let began = tokio::time::Instant::now();
    let channel = mesh.channel("catalog:80").unwrap();
    let response = channel.oneshot(get("/items")).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 2);
    assert!(response.headers().contains_key("x-session"));
}

fn packed_extension(
    message: &HeaderBasedSessionState,
) -> envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig {
    envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig {
        name: "state".into(),
        typed_config: Some(packed(message)),
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_filter_of_a_type_is_refused_and_the_listener_before_it_stays() {
    let (world, plane) = start();
    let mesh = mesh(&world, bootstrap()).await;
    assert_eq!(status(&mesh).await, StatusCode::OK);
    let two = vec![filter("a", &abort(418)), filter("b", &abort(451))];
    plane.put([filtered(two)]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = plane.asked();
    let refusal = asked
        .iter()
        .filter(|asked| asked.kind == Some(Kind::Listener))
        .find_map(|asked| asked.error.clone());
    let text = "http_filters[1].typed_config: is the second filter of its type; one of each is \
                supported";
    assert!(refusal.unwrap().contains(text));
    assert_eq!(status(&mesh).await, StatusCode::OK);
}

/// A bucket of so many tokens that gets none while a test runs.
fn limit(
    tokens: u32,
    change: impl FnOnce(&mut local_rate::LocalRateLimit),
) -> local_rate::LocalRateLimit {
    use envoy_types::pb::envoy::config::core::v3 as core;
    use envoy_types::pb::envoy::r#type::v3 as kinds;
    let all = core::RuntimeFractionalPercent {
        default_value: Some(FractionalPercent {
            numerator: 100,
            denominator: 0,
        }),
        ..core::RuntimeFractionalPercent::default()
    };
    let mut limit = local_rate::LocalRateLimit {
        stat_prefix: "limit".into(),
        token_bucket: Some(kinds::TokenBucket {
            max_tokens: tokens,
            tokens_per_fill: None,
            fill_interval: Some(Seconds {
                seconds: 36_000,
                nanos: 0,
            }),
        }),
        filter_enabled: Some(all.clone()),
        filter_enforced: Some(all),
        ..local_rate::LocalRateLimit::default()
    };
    change(&mut limit);
    limit
}

/// How many of ten requests pass, and what the next one is answered.
async fn passing(
    mesh: &Mesh,
    request: impl Fn() -> http::Request<meshwork::Body>,
) -> (usize, http::Response<meshwork::Body>) {
    let channel = mesh.channel("catalog:80").unwrap();
    let mut passed = 0;
    for _ in 0..10 {
        let response = channel.clone().oneshot(request()).await.unwrap();
        let refused = response
            .headers()
            .get("grpc-status")
            .is_some_and(|status| status != "0");
        passed += usize::from(response.status() == StatusCode::OK && !refused);
    }
    (passed, channel.oneshot(request()).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_a_listener_refuses_what_its_bucket_has_no_token_for() {
    let (world, plane) = start();
    plane.put([filtered(vec![filter("rate", &limit(3, |_| {}))])]);
    let mesh = mesh(&world, bootstrap()).await;
    let (passed, refused) = passing(&mesh, || get("/items")).await;
    assert_eq!(
        (passed, refused.status()),
        (3, StatusCode::TOO_MANY_REQUESTS)
    );
    // A client is told by an error what a channel is told by a response.
    let error = mesh
        .client()
        .request(get("http://catalog/items"))
        .await
        .unwrap_err();
    assert!(error.is_rate_limited(), "{error}");
    assert_eq!(
        error.flag().map(|flag| flag.to_string()).as_deref(),
        Some("RL")
    );
    let stats = mesh.stats();
    let sent: u64 = stats.clusters.iter().map(|one| one.requests).sum();
    assert_eq!(sent, 3, "what is refused is not sent");
    let explained = mesh.explain_channel(
        "catalog:80",
        &http::Request::get("/items").body(()).unwrap(),
    );
    let text = explained.unwrap().to_string();
    assert!(
        text.contains("3 at once and 1 more each 36000s, else 429"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_something_else_gives_no_new_burst_and_one_of_the_limit_does() {
    let (world, plane) = start();
    let put = |tokens, cluster: &str| {
        plane.put([filtered(vec![filter("rate", &limit(tokens, |_| {}))])]);
        plane.put([routes("catalog:80 routes", &[(cluster, 1)])]);
    };
    put(3, "c");
    let mesh = mesh(&world, bootstrap()).await;
    // What nobody has a channel for is not asked for.
    let _held = mesh.channel("catalog:80").unwrap();
    assert_eq!(passing(&mesh, || get("/items")).await.0, 3);
    let before = mesh.stats().generation;
    plane.put([cluster("d"), endpoints("d", &[1])]);
    put(3, "d");
    let began = tokio::time::Instant::now();
    while mesh.stats().generation == before
        || !mesh.stats().clusters.iter().any(|one| &*one.name == "d")
    {
        assert!(began.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(passing(&mesh, || get("/items")).await.0, 0);
    put(4, "d");
    until(&mesh, StatusCode::OK).await;
    assert_eq!(passing(&mesh, || get("/items")).await.0, 3, "one is taken");
}

#[tokio::test(start_paused = true)]
async fn routes_have_buckets_of_their_own_and_the_answer_is_what_the_limit_says() {
    let (world, plane) = start();
    plane.put([filtered(vec![filter("rate", &limit(1, |_| {}))])]);
    let own = limit(2, |limit| {
        use envoy_types::pb::envoy::config::core::v3 as core;
        limit.status = Some(envoy_types::pb::envoy::r#type::v3::HttpStatus { code: 503 });
        limit.rate_limited_as_resource_exhausted = true;
        limit.response_headers_to_add.push(core::HeaderValueOption {
            header: Some(core::HeaderValue {
                key: "x-limit".into(),
                value: "own".into(),
                ..core::HeaderValue::default()
            }),
            ..core::HeaderValueOption::default()
        });
    });
    plane.put([routes_with("catalog:80 routes", &[("c", 1)], |routes| {
        routes.virtual_hosts[0].typed_per_filter_config = said("rate", packed(&own));
    })]);
    let mesh = mesh(&world, bootstrap()).await;
    let (passed, refused) = passing(&mesh, || get("/items")).await;
    assert_eq!(
        (passed, refused.status()),
        (2, StatusCode::SERVICE_UNAVAILABLE)
    );
    assert_eq!(refused.headers()["x-limit"], "own");
    let grpc = || {
        let mut request = get("/items");
        let value = "application/grpc".parse().unwrap();
        request.headers_mut().insert("content-type", value);
        request
    };
    let (passed, refused) = passing(&mesh, grpc).await;
    assert_eq!(passed, 0);
    assert_eq!(refused.status(), StatusCode::OK);
    assert_eq!(refused.headers()["grpc-status"], "8");
    assert_eq!(refused.headers()["x-limit"], "own");
    // Switched off, nothing is limited.
    plane.put([routes_with("catalog:80 routes", &[("c", 1)], |routes| {
        routes.virtual_hosts[0].typed_per_filter_config = said("rate", off());
    })]);
    until(&mesh, StatusCode::OK).await;
    assert_eq!(passing(&mesh, || get("/items")).await.0, 10);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_put_before_another_gives_its_bucket_no_new_burst() {
    use route::route_match::PathSpecifier;
    let (world, plane) = start();
    plane.put([filtered(vec![filter("rate", &limit(1_000, |_| {}))])]);
    let put = |before: bool| {
        plane.put([routes_with("catalog:80 routes", &[("c", 1)], |routes| {
            let routes = &mut routes.virtual_hosts[0].routes;
            let mut other = routes[0].clone();
            routes[0].name = "items".into();
            routes[0].typed_per_filter_config = said("rate", packed(&limit(3, |_| {})));
            if before {
                other.name = "other".into();
                let path = other.r#match.as_mut().unwrap();
                path.path_specifier = Some(PathSpecifier::Prefix("/other".into()));
                routes.insert(0, other);
            }
        })]);
    };
    put(false);
    let mesh = mesh(&world, bootstrap()).await;
    assert_eq!(passing(&mesh, || get("/items")).await.0, 3);
    put(true);
    let began = tokio::time::Instant::now();
    let channel = mesh.channel("catalog:80").unwrap();
    loop {
        let other = channel.clone().oneshot(get("/other")).await.unwrap();
        if other.status() == StatusCode::OK {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(passing(&mesh, || get("/items")).await.0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_not_enforced_or_not_enabled_refuses_nothing() {
    type Change = fn(&mut local_rate::LocalRateLimit);
    let changes: [Change; 2] = [
        |limit| limit.filter_enforced = None,
        |limit| limit.filter_enabled = None,
    ];
    for change in changes {
        let (world, plane) = start();
        plane.put([filtered(vec![filter("rate", &limit(1, change))])]);
        let mesh = mesh(&world, bootstrap()).await;
        assert_eq!(passing(&mesh, || get("/items")).await.0, 10);
    }
}

#[tokio::test(start_paused = true)]
async fn each_listener_has_a_bucket_of_its_own() {
    let (world, plane) = start();
    let limited = || vec![filter("rate", &limit(1, |_| {}))];
    plane.put([
        filtered(limited()),
        listener_with("other:80", "catalog:80 routes", |manager| {
            let router = std::mem::replace(&mut manager.http_filters, limited());
            manager.http_filters.extend(router);
        }),
    ]);
    let mesh = mesh(&world, bootstrap()).await;
    assert_eq!(passing(&mesh, || get("/items")).await.0, 1);
    let other = mesh.channel("other:80").unwrap();
    let response = other.oneshot(get("/items")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

/// Calls until the answer is this one; the test's clock runs out where it never is.
async fn until(mesh: &Mesh, expected: StatusCode) {
    let began = tokio::time::Instant::now();
    while status(mesh).await != expected {
        assert!(began.elapsed() < Duration::from_secs(30), "{expected}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
