//! What gRPC's own dashboards ask for (gRFC A66, A91, A94, A96), of calls through the front door.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use http::{HeaderMap, Request, Response};
use http_body::Frame;
use meshwork::model::Percent;
use meshwork::model::cluster::{Cluster, Protocol};
use meshwork::model::outlier::Outlier;
use meshwork::model::retry::RetryPolicy;
use meshwork::{Body, Mesh};
use tower::ServiceExt as _;

use super::metrics::{read, sum};
use super::world::{Fed, World, answer, call, cluster, get, millis, one, retries, seconds, settle};

fn ask(path: &str) -> Request<Body> {
    let request = Request::post(format!("http://catalog{path}"));
    let request = request.header("content-type", "application/grpc");
    request.body(Body::from("12345")).unwrap()
}

/// An answer of gRPC, whose status is in its trailers.
async fn well() -> Response<Body> {
    let (sender, body) = Fed::body();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    sender.send(Ok(Frame::data("xyz".into()))).await.unwrap();
    sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
    Response::new(body)
}

fn status(number: &'static str) -> Response<Body> {
    let mut response = answer(200);
    let number = number.parse().unwrap();
    response.headers_mut().insert("grpc-status", number);
    response
}

/// UNAVAILABLE is tried again.
fn patient(count: u32) -> RetryPolicy {
    let mut policy = retries(count, None);
    policy.on.grpc = vec![14];
    policy
}

fn found(mesh: &Mesh, name: &str, labels: &[(&str, &str)]) -> f64 {
    sum(&read(&mesh.metrics()), name, labels)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_tried_once_is_one_attempt() {
    let world = World::default();
    world.serve(1, |_| async {
        tokio::time::sleep(millis(40)).await;
        well().await
    });
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http2), &[1], |_| {}))
        .await;
    for _ in 0..3 {
        call(&mesh, ask("/")).await.unwrap();
    }
    let target = [("grpc_method", "other"), ("grpc_target", "c")];
    assert_eq!(
        found(&mesh, "grpc_client_attempt_started_total", &target),
        3.0
    );
    let ok = [("grpc_status", "OK"), ("grpc_target", "c")];
    for (name, count, total) in [
        ("grpc_client_call_duration_seconds", 3.0, 0.12),
        ("grpc_client_attempt_duration_seconds", 3.0, 0.12),
        (
            "grpc_client_attempt_sent_total_compressed_message_size_bytes",
            3.0,
            15.0,
        ),
        (
            "grpc_client_attempt_rcvd_total_compressed_message_size_bytes",
            3.0,
            9.0,
        ),
    ] {
        assert_eq!(found(&mesh, &format!("{name}_count"), &ok), count, "{name}");
        let measured = found(&mesh, &format!("{name}_sum"), &ok);
        assert!((measured - total).abs() < 0.02, "{name}: {measured}");
    }
    for name in [
        "retries",
        "transparent_retries",
        "hedges",
        "retry_delay_seconds",
    ] {
        let name = format!("grpc_client_call_{name}_count");
        assert_eq!(
            found(&mesh, &name, &[]),
            0.0,
            "zero is not recorded: {name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_tried_again_is_several_attempts() {
    let world = World::default();
    let asked = Arc::new(AtomicU32::new(0));
    let seen = asked.clone();
    world.serve(1, move |_| {
        let first = seen.fetch_add(1, Relaxed).is_multiple_of(3);
        async move {
            let (pause, fails) = if first { (20, true) } else { (50, false) };
            tokio::time::sleep(millis(pause)).await;
            if fails { status("14") } else { well().await }
        }
    });
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http2), &[1], |forward| {
            forward.retry = Some(patient(2));
        }))
        .await;
    // One that is tried again, and one that is not.
    for _ in 0..2 {
        call(&mesh, ask("/")).await.unwrap();
    }
    assert_eq!(asked.load(Relaxed), 3);
    assert_eq!(found(&mesh, "grpc_client_attempt_started_total", &[]), 3.0);
    let of = |name: &str, status: &str| found(&mesh, name, &[("grpc_status", status)]);
    let calls = "grpc_client_call_duration_seconds_count";
    assert_eq!((of(calls, "OK"), of(calls, "UNAVAILABLE")), (2.0, 0.0));
    let attempts = "grpc_client_attempt_duration_seconds_count";
    assert_eq!(
        (of(attempts, "OK"), of(attempts, "UNAVAILABLE")),
        (2.0, 1.0)
    );
    let times = "grpc_client_attempt_duration_seconds_sum";
    let (well, ill) = (of(times, "OK"), of(times, "UNAVAILABLE"));
    assert!((0.1..0.12).contains(&well), "{well}");
    assert!((0.02..0.03).contains(&ill), "{ill}");
    let retries = "grpc_client_call_retries";
    assert_eq!(
        found(&mesh, &format!("{retries}_count"), &[("grpc_target", "c")]),
        1.0
    );
    assert_eq!(
        found(&mesh, &format!("{retries}_bucket"), &[("le", "1")]),
        1.0
    );
    assert_eq!(
        found(&mesh, "grpc_client_call_retry_delay_seconds_count", &[]),
        1.0
    );
    assert_eq!(found(&mesh, "grpc_client_call_hedges_count", &[]), 0.0);
}

#[tokio::test(start_paused = true)]
async fn plain_http_is_no_attempt_of_grpc() {
    let world = World::default();
    world.named(1);
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http2), &[1], |_| {}))
        .await;
    call(&mesh, get("http://catalog/")).await.unwrap();
    assert_eq!(found(&mesh, "grpc_client_attempt_started_total", &[]), 0.0);
    assert_eq!(
        found(&mesh, "grpc_client_attempt_duration_seconds_count", &[]),
        0.0
    );
}

#[cfg(feature = "inbound")]
#[tokio::test(start_paused = true)]
async fn calls_that_arrive_are_counted_when_they_begin_and_when_they_end() {
    use tower::Layer as _;
    let mesh = Mesh::builder().start().await.unwrap();
    let service = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, std::convert::Infallible>(well().await)
    });
    let service = mesh.inbound_layer().layer(service);
    let mut request = ask("/");
    let peer = meshwork::inbound::Peer::plaintext(None, None);
    request.extensions_mut().insert(peer);
    let response = service.oneshot(request).await.unwrap();
    let other = [("grpc_method", "other")];
    let begun = "grpc_server_call_started_total";
    let ended = "grpc_server_call_duration_seconds_count";
    assert_eq!(found(&mesh, begun, &other), 1.0);
    drop(http_body_util::BodyExt::collect(response.into_body()).await);
    assert_eq!(found(&mesh, begun, &other), 1.0);
    assert_eq!(found(&mesh, ended, &other), 1.0);
}

#[tokio::test(start_paused = true)]
async fn connections_are_counted_by_what_became_of_them() {
    let world = World::default();
    world.named(1);
    let idle = Cluster {
        connection: meshwork::model::cluster::Connection {
            idle_timeout: Some(seconds(5)),
            ..cluster("c", Protocol::Http1).connection
        },
        ..cluster("c", Protocol::Http1)
    };
    let (mesh, _publisher) = world.mesh(one(idle, &[1], |_| {})).await;
    let target = [("grpc_target", "c"), ("grpc_lb_backend_service", "c")];
    let name = |name: &str| format!("grpc_subchannel_{name}");
    let of = |which: &str| found(&mesh, &name(which), &target);
    call(&mesh, get("http://catalog/")).await.unwrap();
    assert_eq!(of("connection_attempts_succeeded_total"), 1.0);
    assert_eq!(of("open_connections"), 1.0);
    assert_eq!(of("disconnections_total"), 0.0);
    tokio::time::sleep(seconds(10)).await;
    let gone = |why| {
        found(
            &mesh,
            &name("disconnections_total"),
            &[("grpc_disconnect_error", why)],
        )
    };
    assert_eq!(gone("subchannel shutdown"), 1.0, "it was idle for too long");
    assert_eq!(of("open_connections"), 0.0);
    // The peer breaks the next one.
    world.broken(1);
    call(&mesh, get("http://catalog/")).await.unwrap_err();
    settle().await;
    assert_eq!(of("disconnections_total"), 2.0);
    assert_eq!(gone("subchannel shutdown"), 1.0);
    world.remove(1);
    call(&mesh, get("http://catalog/")).await.unwrap_err();
    assert_eq!(of("connection_attempts_failed_total"), 1.0);
    assert_eq!(of("connection_attempts_succeeded_total"), 2.0);
    assert_eq!(of("open_connections"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn detections_are_counted_by_rule_and_by_what_spared_them() {
    let world = World::default();
    for port in 1..=2 {
        world.status(port, 503);
    }
    let outlier = Outlier {
        consecutive_5xx: std::num::NonZeroU32::new(3),
        max_ejection: Percent::new(10).unwrap(),
        always_eject_one: true,
        ..Outlier::default()
    };
    let watched = Cluster {
        outlier: Some(Arc::new(outlier)),
        ..cluster("c", Protocol::Http1)
    };
    let (mesh, _publisher) = world.mesh(one(watched, &[1, 2], |_| {})).await;
    for _ in 0..40 {
        let _ = call(&mesh, get("http://catalog/")).await;
    }
    let method = (
        "grpc_lb_outlier_detection_detection_method",
        "consecutive_5xx",
    );
    let name = |name: &str| format!("grpc_lb_outlier_detection_ejections_{name}_total");
    assert_eq!(found(&mesh, &name("enforced"), &[method]), 1.0);
    let cap = (
        "grpc_lb_outlier_detection_unenforced_reason",
        "max_ejection_overflow",
    );
    let spared = found(&mesh, &name("unenforced"), &[method, cap]);
    assert!(spared >= 1.0, "the cap has room for one: {spared}");
    let stats = mesh.stats();
    assert_eq!(stats.clusters[0].detections.ejected.len(), 1);
}

/// What started, by the method that it is told as.
fn methods(mesh: &Mesh, name: &str, names: &[&'static str]) -> Vec<f64> {
    let started = names
        .iter()
        .map(|method| found(mesh, name, &[("grpc_method", method)]));
    started.collect()
}

#[tokio::test(start_paused = true)]
async fn methods_that_the_program_names_are_told_and_what_callers_write_is_not() {
    let world = World::default();
    world.serve(1, |request| async move {
        match request.uri().path() {
            "/shop.Catalog/List" => well().await,
            _ => status("12"),
        }
    });
    let resources = one(cluster("c", Protocol::Http2), &[1], |_| {});
    let (_publisher, feed) = meshwork::source::feed(resources);
    let builder = Mesh::builder().feed(feed).connector(world.clone());
    let builder = builder.grpc_methods(["shop.Catalog/List"]);
    let mesh = builder
        .grpc_methods(["/shop.Catalog/Get"])
        .start()
        .await
        .unwrap();
    for path in [
        "/shop.Catalog/List",
        "/shop.Catalog/List",
        "/shop.Catalog/Get",
        "/shop.Catalog/Made.Up",
        "/",
    ] {
        call(&mesh, ask(path)).await.unwrap();
    }
    let names = ["shop.Catalog/List", "shop.Catalog/Get", "other"];
    let started = methods(&mesh, "grpc_client_attempt_started_total", &names);
    assert_eq!(started, [2.0, 1.0, 2.0]);
    for name in ["call_duration_seconds", "attempt_duration_seconds"] {
        let name = format!("grpc_client_{name}_count");
        assert_eq!(methods(&mesh, &name, &names), [2.0, 1.0, 2.0], "{name}");
        let list = [("grpc_method", "shop.Catalog/List"), ("grpc_status", "OK")];
        assert_eq!(found(&mesh, &name, &list), 2.0, "{name}");
    }
    let of_istio = sum(&read(&mesh.metrics()), "istio_requests_total", &[]);
    assert_eq!(of_istio, 5.0, "requests are counted once");
    assert!(!mesh.metrics().contains("Made.Up"));
}

#[tokio::test(start_paused = true)]
async fn methods_of_tries_are_those_of_their_call() {
    let world = World::default();
    let asked = Arc::new(AtomicU32::new(0));
    let seen = asked.clone();
    world.serve(1, move |_| {
        let first = seen.fetch_add(1, Relaxed) == 0;
        async move { if first { status("14") } else { well().await } }
    });
    let resources = one(cluster("c", Protocol::Http2), &[1], |forward| {
        forward.retry = Some(patient(2));
    });
    let (_publisher, feed) = meshwork::source::feed(resources);
    let builder = Mesh::builder().feed(feed).connector(world.clone());
    let mesh = builder.grpc_methods(["a.B/c"]).start().await.unwrap();
    call(&mesh, ask("/a.B/c")).await.unwrap();
    let named = ["a.B/c", "other"];
    for (name, count) in [
        ("grpc_client_attempt_started_total", 2.0),
        ("grpc_client_attempt_duration_seconds_count", 2.0),
        ("grpc_client_call_duration_seconds_count", 1.0),
        ("grpc_client_call_retries_count", 1.0),
    ] {
        assert_eq!(methods(&mesh, name, &named), [count, 0.0], "{name}");
    }
}

#[cfg(feature = "tonic")]
#[tokio::test(start_paused = true)]
async fn a_client_that_tonic_generated_says_what_it_calls() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let world = World::default();
    world.serve(1, |_| async { status("12") });
    let resources = one(cluster("c", Protocol::Http2), &[1], |_| {});
    let (mesh, _publisher) = world.mesh(resources).await;
    let mut client = HealthClient::new(mesh.channel("catalog").unwrap());
    let failure = client.check(HealthCheckRequest::default()).await;
    assert_eq!(failure.unwrap_err().code(), tonic::Code::Unimplemented);
    // The same path, written by hand, is known from then on; another one is not.
    for path in [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/List",
    ] {
        call(&mesh, ask(path)).await.unwrap();
    }
    let names = [
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/List",
        "other",
    ];
    let started = methods(&mesh, "grpc_client_attempt_started_total", &names);
    assert_eq!(started, [2.0, 0.0, 1.0]);
}

#[tokio::test]
async fn a_name_that_is_no_method_is_a_fault() {
    let builder = Mesh::builder().grpc_methods(["shop.Catalog/List", "Catalog"]);
    let text = builder.start().await.unwrap_err().to_string();
    assert!(
        text.contains("\"Catalog\" is no method of gRPC; one is written as package.Service/Method"),
        "{text}"
    );
}

#[cfg(feature = "inbound")]
#[tokio::test(start_paused = true)]
async fn methods_of_calls_that_arrive_are_told_if_they_are_named() {
    use tower::Layer as _;
    let mesh = Mesh::builder()
        .grpc_methods(["shop.Catalog/List"])
        .start()
        .await
        .unwrap();
    for path in ["/shop.Catalog/List", "/shop.Catalog/Other"] {
        let service = tower::service_fn(|_: Request<Body>| async {
            Ok::<_, std::convert::Infallible>(well().await)
        });
        let mut request = ask(path);
        let peer = meshwork::inbound::Peer::plaintext(None, None);
        request.extensions_mut().insert(peer);
        let response = mesh
            .inbound_layer()
            .layer(service)
            .oneshot(request)
            .await
            .unwrap();
        drop(http_body_util::BodyExt::collect(response.into_body()).await);
    }
    let names = ["shop.Catalog/List", "other", "shop.Catalog/Other"];
    for name in ["call_started_total", "call_duration_seconds_count"] {
        let name = format!("grpc_server_{name}");
        assert_eq!(methods(&mesh, &name, &names), [1.0, 1.0, 0.0], "{name}");
    }
}
