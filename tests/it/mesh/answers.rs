//! What the mesh answers itself, in the language of the request.

use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use meshwork::model::cluster::{Cluster, Protocol};
use meshwork::model::fault::{Abort, AbortStatus, Amount, Fault};
use meshwork::model::limit::Limits;
use meshwork::model::route::{Action, DirectResponse, Route};
use meshwork::model::{Fraction, Resources};
use meshwork::{Body, CallOptions, Mesh, OutboundTraffic, Random};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt;

use super::world::{
    Break, Fed, Plan, World, all_to, answer, call, cluster, get, millis, one, retries, seconds,
    settle, to,
};

fn aborted(status: AbortStatus) -> Route {
    let mut route = to("good", |_| {});
    route.fault = Some(Fault {
        delay: None,
        abort: Some(Abort {
            status: Amount::Fixed(status),
            share: Fraction::ONE,
        }),
        max_active: None,
    });
    route
}

fn direct(status: u16) -> Route {
    let mut route = all_to("good");
    route.action = Action::Direct(DirectResponse {
        status: StatusCode::from_u16(status).unwrap(),
        body: "closed today".into(),
    });
    route
}

/// Every failure has a host of its own.
fn failures() -> Resources {
    let name = |name| Cluster {
        connect_timeout: seconds(1),
        ..cluster(name, Protocol::Http2)
    };
    let full = Cluster {
        limits: Limits {
            requests: 0,
            ..Limits::default()
        },
        ..name("full")
    };
    Plan::default()
        .cluster(name("good"), &[1])
        .cluster(name("refusing"), &[2])
        .cluster(name("silent"), &[3])
        .cluster(name("broken"), &[4])
        .cluster(name("hung"), &[5])
        .cluster(name("unwilling"), &[6])
        .cluster(name("empty"), &[])
        .cluster(full, &[1])
        .host("no-route", vec![])
        .host("no-cluster", vec![all_to("nobody")])
        .host("no-endpoint", vec![all_to("empty")])
        .host("refusing", vec![all_to("refusing")])
        .host("silent", vec![all_to("silent")])
        .host("broken", vec![all_to("broken")])
        .host("unwilling", vec![all_to("unwilling")])
        .host("full", vec![all_to("full")])
        .host(
            "timeout",
            vec![to("hung", |terms| terms.timeout = Some(millis(1_500)))],
        )
        .host(
            "per-try",
            vec![to("hung", |terms| {
                terms.retry = Some(retries(1, Some(millis(250))))
            })],
        )
        .host(
            "abort",
            vec![aborted(AbortStatus::Http(StatusCode::IM_A_TEAPOT))],
        )
        .host("abort-grpc", vec![aborted(AbortStatus::Grpc(8))])
        .host("direct", vec![direct(403)])
        .host("hung", vec![all_to("hung")])
        .build()
}

async fn failing_world() -> (Mesh, meshwork::source::Publisher) {
    let world = World::default();
    world.named(1);
    world.silent(3);
    world.broken(4);
    world.hung(5);
    world.serve_or_break(6, |_| async { Err(Break::refused()) });
    world.mesh(failures()).await
}

/// Host, HTTP status and text, gRPC status; the text of gRPC is the same, percent-encoded.
const GOLDEN: [(&str, u16, &str, u32); 13] = [
    (
        "no-route",
        404,
        "no route for no-route: no virtual host and route of the mesh match the request",
        14,
    ),
    (
        "no-cluster",
        503,
        "the route's cluster does not exist (cluster nobody)",
        14,
    ),
    (
        "no-endpoint",
        503,
        "no healthy endpoint (cluster empty)",
        14,
    ),
    (
        "refusing",
        503,
        "could not connect (cluster refusing, endpoint 10.0.0.1:2): connection refused",
        14,
    ),
    (
        "silent",
        503,
        "could not connect within 1s (cluster silent, endpoint 10.0.0.1:3)",
        14,
    ),
    (
        "broken",
        503,
        "the connection broke before the response (cluster broken, endpoint 10.0.0.1:4): http2 \
         error: stream error received: unexpected internal error encountered",
        14,
    ),
    (
        "unwilling",
        503,
        "the peer refused the request unseen (cluster unwilling, endpoint 10.0.0.1:6, after \
         2 tries): http2 error: stream error received: refused stream before processing any \
         application logic",
        14,
    ),
    (
        "full",
        503,
        "upstream connect error or disconnect/reset before headers. reset reason: overflow: the \
         limit of requests is reached (connectionPool.http.http2MaxRequests) (cluster full)",
        14,
    ),
    (
        "timeout",
        504,
        "no response within the route's timeout of 1.5s (cluster hung, endpoint 10.0.0.1:5)",
        4,
    ),
    (
        "per-try",
        504,
        "no response within the per-try timeout of 250ms (cluster hung, endpoint 10.0.0.1:5, \
         after 2 tries)",
        4,
    ),
    (
        "abort",
        418,
        "injected fault: HTTP 418 I'm a teapot (cluster good)",
        2,
    ),
    // Envoy's fault filter too answers 200 to plain HTTP.
    (
        "abort-grpc",
        200,
        "injected fault: gRPC status 8 (cluster good)",
        8,
    ),
    ("direct", 403, "closed today", 7),
];

#[tokio::test(start_paused = true)]
async fn every_failure_is_a_response_to_http_with_status_and_text() {
    let (mesh, _publisher) = failing_world().await;
    for (host, status, text, _) in GOLDEN {
        let channel = mesh.channel(host).unwrap();
        let response = channel.oneshot(get("/items")).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!(String::from_utf8_lossy(&body), text, "{host}");
        assert_eq!(head.status.as_u16(), status, "{host}");
        assert_eq!(head.headers["content-type"], "text/plain", "{host}");
        assert_eq!(
            head.headers.contains_key("x-envoy-overloaded"),
            host == "full"
        );
        assert!(!head.headers.contains_key("grpc-status"), "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_failure_is_a_trailers_only_response_to_grpc() {
    let (mesh, _publisher) = failing_world().await;
    for (host, _, text, status) in GOLDEN {
        let channel = mesh.channel(host).unwrap();
        let request = Request::post("/package.Service/Method")
            .header("content-type", "application/grpc")
            .body(Body::empty())
            .unwrap();
        let response = channel.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{host}");
        let headers = response.headers();
        assert_eq!(headers["content-type"], "application/grpc", "{host}");
        assert_eq!(headers["grpc-status"], status.to_string(), "{host}");
        assert_eq!(headers["grpc-message"], text, "{host}");
        let body = response.into_body().collect().await.unwrap();
        assert!(
            body.trailers().is_none() && body.to_bytes().is_empty(),
            "{host}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_gets_the_same_as_an_error_whose_causes_are_sources() {
    let (mesh, _publisher) = failing_world().await;
    for (host, status, text, grpc) in GOLDEN {
        let result = call(&mesh, get(&format!("http://{host}/"))).await;
        let Err(error) = result else {
            assert_eq!(host, "direct");
            continue;
        };
        let mut chain = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            chain += &format!(": {error}");
            cause = error.source();
        }
        assert!(text.ends_with(&chain), "{host}: {chain}");
        assert_eq!(
            (error.status().as_u16(), error.grpc_status()),
            (status, grpc),
            "{host}"
        );
        let cluster = error.cluster().map(|cluster| text.contains(cluster));
        assert_eq!(cluster.is_none(), host == "no-route", "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_request_or_the_mesh_is_said_too() {
    let world = World::default();
    let mesh = Mesh::builder()
        .connector(world)
        .outbound_traffic(OutboundTraffic::RegistryOnly)
        .random(Random::seeded(1))
        .start()
        .await
        .unwrap();
    let ask = |host: &str, uri: &str| {
        let channel = mesh.channel(host).unwrap();
        let request = get(uri);
        async move {
            let response = channel.oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        }
    };
    assert_eq!(
        ask("elsewhere.test", "/").await,
        (
            502,
            "elsewhere.test is not in the registry and outboundTrafficPolicy REGISTRY_ONLY \
             forbids to pass it through; add a Service or ServiceEntry, or set ALLOW_ANY"
                .to_owned()
        )
    );
    let (status, text) = ask("elsewhere.test", "https://elsewhere.test/").await;
    assert_eq!(status, 400);
    assert!(
        text.starts_with("the request cannot be sent: https is not yet supported"),
        "{text}"
    );
    assert_eq!(mesh.shutdown(seconds(1)).await, 0);
    let shut = ask("elsewhere.test", "/").await;
    assert_eq!(shut, (503, "the mesh is shutting down".to_owned()));
}

fn health(mesh: &Mesh, host: &str) -> HealthClient<meshwork::Channel> {
    HealthClient::new(mesh.channel(host).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_tonic_client_sees_the_status_and_the_text() {
    let (mesh, _publisher) = failing_world().await;
    for (host, _, text, status) in GOLDEN {
        let error = health(&mesh, host)
            .check(HealthCheckRequest::default())
            .await
            .unwrap_err();
        assert_eq!(error.code() as u32, status, "{host}: {error}");
        assert_eq!(error.message(), text, "{host}");
    }
    // The caller's own deadline, by tonic's means.
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.set_timeout(seconds(2));
    let error = health(&mesh, "hung").check(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::DeadlineExceeded);
    assert_eq!(
        error.message(),
        "no response within the caller's deadline of 2s (cluster hung, endpoint 10.0.0.1:5)"
    );
}

/// A gRPC stream of one message, which then goes on without end or breaks.
fn stream(breaks: bool) -> Response<Body> {
    let (sender, body) = Fed::body();
    tokio::spawn(async move {
        // A health response that says SERVING.
        let message = Frame::data(bytes::Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]));
        sender.send(Ok(message)).await.unwrap();
        tokio::time::sleep(seconds(1)).await;
        if breaks {
            let _ = sender.send(Err(Box::new(Break::reset()))).await;
        }
        sender.closed().await;
    });
    let mut response = Response::new(body);
    let value = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", value);
    response
}

#[tokio::test(start_paused = true)]
async fn a_grpc_stream_that_is_cut_ends_with_a_status_and_its_messages_stay() {
    for (row, breaks, timeout, idle, code, text) in [
        (
            "deadline",
            false,
            Some(5),
            None,
            tonic::Code::DeadlineExceeded,
            "no response within the route's timeout of 5s (cluster c, endpoint 10.0.0.1:1)",
        ),
        (
            "idle",
            false,
            None,
            Some(3),
            tonic::Code::DeadlineExceeded,
            "no byte moved for 3s (cluster c, endpoint 10.0.0.1:1)",
        ),
        (
            "broken",
            true,
            None,
            None,
            tonic::Code::Unavailable,
            "the message body broke off (cluster c, endpoint 10.0.0.1:1): ",
        ),
    ] {
        let world = World::default();
        world.serve(1, move |_| async move { stream(breaks) });
        let (mesh, _publisher) = world
            .mesh(one(cluster("c", Protocol::Http2), &[1], |terms| {
                terms.timeout = timeout.map(seconds);
                terms.idle_timeout = idle.map(seconds);
            }))
            .await;
        let answer = health(&mesh, "catalog")
            .watch(HealthCheckRequest::default())
            .await;
        let mut messages = answer.unwrap().into_inner();
        let first = messages.message().await.unwrap().unwrap();
        assert_eq!(first.status, 1, "{row}");
        let error = messages.message().await.unwrap_err();
        assert_eq!(error.code(), code, "{row}: {error}");
        assert!(error.message().starts_with(text), "{row}: {error}");
        assert!(
            messages.message().await.unwrap().is_none(),
            "{row}: it has ended"
        );
        settle().await;
        let stats = &mesh.stats().clusters[0];
        assert_eq!(stats.active_requests, 0, "{row}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_plain_body_that_is_cut_ends_with_an_error_that_names_the_place() {
    let world = World::default();
    world.serve(1, move |_| async move { stream(false) });
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http1), &[1], |_| {}))
        .await;
    let mut request = get("/");
    let options = CallOptions::new().timeout(seconds(2));
    request.extensions_mut().insert(options);
    let channel = mesh.channel("catalog").unwrap();
    let response = channel.oneshot(request).await.unwrap();
    let error = response.into_body().collect().await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(
        error.to_string(),
        "no response within the caller's deadline of 2s (cluster c, endpoint 10.0.0.1:1)"
    );
}

/// gRPC's `http-grpc-status-mapping.md`, for peers that are no gRPC servers.
#[tokio::test(start_paused = true)]
async fn h6_a_missing_grpc_status_is_told_by_the_http_status() {
    use tonic::Code;
    for (status, code) in [
        (400, Code::Internal),
        (401, Code::Unauthenticated),
        (403, Code::PermissionDenied),
        (404, Code::Unimplemented),
        (429, Code::Unavailable),
        (502, Code::Unavailable),
        (503, Code::Unavailable),
        (504, Code::Unavailable),
        (500, Code::Unknown),
        (302, Code::Unknown),
    ] {
        let world = World::default();
        world.status(1, status);
        let resources = super::world::one(cluster("c", Protocol::Http2), &[1], |_| {});
        let (mesh, _publisher) = world.mesh(resources).await;
        let request = HealthCheckRequest::default();
        let error = health(&mesh, "catalog").check(request).await.unwrap_err();
        assert_eq!(error.code(), code, "{status}: {error}");
    }
    // Trailers alone, in the head: the status is the peer's.
    let world = World::default();
    world.serve(1, |_| async {
        let mut response = answer(200);
        let headers = response.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static("5"));
        headers.insert("grpc-message", HeaderValue::from_static("no%20such"));
        response
    });
    let resources = super::world::one(cluster("c", Protocol::Http2), &[1], |_| {});
    let (mesh, _publisher) = world.mesh(resources).await;
    let request = HealthCheckRequest::default();
    let error = health(&mesh, "catalog").check(request).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::NotFound, "no such"));
}
