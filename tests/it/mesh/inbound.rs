//! Requests that arrive, and the end of a mesh.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use meshwork::model::Fraction;
use meshwork::model::cluster::Protocol;
use meshwork::model::fault::{Amount, Delay, Fault};
use meshwork::{Body, CallReport, Mesh};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::world::{
    Fed, Plan, World, answer, call, cluster, get, millis, one, retries, seconds, settle, text, to,
};

/// A server behind the mesh's door.
fn server<F, A>(
    mesh: &Mesh,
    handler: F,
) -> impl Service<
    Request<Body>,
    Response = Response<meshwork::inbound::InboundBody<Body>>,
    Error = Infallible,
    Future: Send,
> + Clone
+ use<F, A>
where
    F: Fn(Request<Body>) -> A + Clone + Send,
    A: Future<Output = Response<Body>> + Send,
{
    let layer = mesh.inbound_layer();
    layer.layer(service_fn(move |request| {
        let answer = handler(request);
        async move { Ok(answer.await) }
    }))
}

#[tokio::test(start_paused = true)]
async fn g11_calls_under_an_inbound_request_have_what_is_left_of_its_deadline() {
    let world = World::default();
    let told = Arc::new(AtomicUsize::new(0));
    let tell = told.clone();
    world.serve(1, move |request| {
        let header = &request.headers()["x-envoy-expected-rq-timeout-ms"];
        tell.store(header.to_str().unwrap().parse().unwrap(), Ordering::Relaxed);
        std::future::pending()
    });
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http2), &[1], |terms| {
            terms.timeout = Some(seconds(15));
        }))
        .await;
    for (name, value) in [
        ("grpc-timeout", "3S"),
        ("x-envoy-expected-rq-timeout-ms", "3000"),
    ] {
        let outbound = mesh.clone();
        let server = server(&mesh, move |_| {
            let mesh = outbound.clone();
            async move {
                tokio::time::sleep(seconds(1)).await;
                let error = call(&mesh, get("http://catalog/")).await.unwrap_err();
                text(error.to_string())
            }
        });
        let request = Request::get("http://server/")
            .header(name, value)
            .body(Body::empty());
        let start = Instant::now();
        let response = server.oneshot(request.unwrap()).await.unwrap();
        let took = start.elapsed();
        assert!(
            took >= seconds(3) && took <= millis(3_002),
            "{name}: {took:?}"
        );
        assert_eq!(told.load(Ordering::Relaxed), 2_000, "{name}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body);
        assert!(
            body.contains("the caller's deadline of 3s"),
            "{name}: {body}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn while_it_drains_requests_finish_and_new_ones_are_turned_away() {
    let world = World::default();
    let (mesh, _publisher) = world.mesh(Plan::default().build()).await;
    let server = server(&mesh, |_| async {
        tokio::time::sleep(seconds(2)).await;
        // The answer's body is under way too.
        let (sender, body) = Fed::body();
        tokio::spawn(async move {
            tokio::time::sleep(seconds(2)).await;
            let _ = sender.send(Ok(Frame::data("whole".into()))).await;
        });
        Response::new(body)
    });
    let under_way = {
        let server = server.clone();
        tokio::spawn(async move {
            let response = server.oneshot(get("http://server/")).await.unwrap();
            response.into_body().collect().await.unwrap().to_bytes()
        })
    };
    settle().await;
    let start = Instant::now();
    let shutdown = {
        let mesh = mesh.clone();
        tokio::spawn(async move { mesh.shutdown(seconds(10)).await })
    };
    settle().await;
    let plain = server.clone().oneshot(get("http://server/")).await.unwrap();
    assert_eq!(plain.status(), 503);
    let text = plain.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "the server is shutting down");
    let grpc = Request::post("http://server/p.S/M").header("content-type", "application/grpc");
    let grpc = server
        .oneshot(grpc.body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(
        (grpc.status().as_u16(), &grpc.headers()["grpc-status"]),
        (200, &"14".parse().unwrap())
    );
    let error = call(&mesh, get("http://anywhere/")).await.unwrap_err();
    assert!(error.is_draining());
    assert_eq!(shutdown.await.unwrap(), 0);
    assert!(start.elapsed() >= seconds(4) && start.elapsed() < seconds(5));
    assert_eq!(under_way.await.unwrap(), "whole");
    assert_eq!(mesh.shutdown(seconds(1)).await, 0, "again is harmless");
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_calls_between_tries_and_those_held_back() {
    let world = World::default();
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    world.serve(1, move |_| {
        let first = count.fetch_add(1, Ordering::Relaxed) == 0;
        async move { answer(if first { 503 } else { 200 }) }
    });
    world.named(2);
    let mut held = to("held", |_| {});
    held.fault = Some(Fault {
        delay: Some(Delay {
            duration: Amount::Fixed(seconds(3)),
            share: Fraction::ONE,
        }),
        abort: None,
        max_active: None,
    });
    let paused = to("paused", |terms| {
        let mut policy = retries(1, None);
        policy.backoff.base = seconds(2);
        policy.backoff.max = seconds(2);
        terms.retry = Some(policy);
    });
    let plan = Plan::default()
        .cluster(cluster("paused", Protocol::Http1), &[1])
        .cluster(cluster("held", Protocol::Http1), &[2])
        .host("paused", vec![paused])
        .host("held", vec![held]);
    let (mesh, _publisher) = world.mesh(plan.build()).await;
    let calls = ["http://paused/", "http://held/"].map(|uri| {
        let mesh = mesh.clone();
        tokio::spawn(async move { call(&mesh, get(uri)).await })
    });
    settle().await;
    assert_eq!(mesh.shutdown(seconds(10)).await, 0);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().0, 200);
    }
    assert_eq!(tries.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn shutdown_counts_each_call_once_that_its_deadline_leaves_behind() {
    let world = World::default();
    world.hung(1);
    world.serve(2, |_| async {
        let (sender, body) = Fed::body();
        tokio::spawn(async move { sender.closed().await });
        Response::new(body)
    });
    let plan = Plan::default()
        .cluster(cluster("hung", Protocol::Http2), &[1])
        .cluster(cluster("endless", Protocol::Http2), &[2])
        .host("hung", vec![to("hung", |_| {})])
        .host("endless", vec![to("endless", |_| {})]);
    let (mesh, _publisher) = world.mesh(plan.build()).await;
    let hanging: Vec<_> = (0..3)
        .map(|_| {
            let mesh = mesh.clone();
            tokio::spawn(async move { call(&mesh, get("http://hung/")).await })
        })
        .collect();
    let streaming = mesh.client().request(get("http://endless/")).await.unwrap();
    settle().await;
    let start = Instant::now();
    assert_eq!(
        mesh.shutdown(seconds(2)).await,
        4,
        "three that hang, one that streams"
    );
    assert!(start.elapsed() >= seconds(2));
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
    drop(streaming);
    settle().await;
    assert_eq!(mesh.shutdown(seconds(2)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn all_tasks_end_when_the_last_handle_is_dropped() {
    let world = World::default();
    world.named(1);
    world.named(2);
    let base = Handle::current().metrics().num_alive_tasks();
    let (mesh, publisher) = world
        .mesh(one(cluster("c", Protocol::Http2), &[1, 2], |_| {}))
        .await;
    let (channel, client) = (mesh.channel("catalog").unwrap(), mesh.client());
    for _ in 0..4 {
        call(&mesh, get("http://catalog/")).await.unwrap();
    }
    let report = CallReport::default();
    drop((mesh, publisher));
    settle().await;
    let alive = Handle::current().metrics().num_alive_tasks();
    assert!(alive > base, "a channel keeps the mesh alive");
    let mut request = get("http://server/");
    request.extensions_mut().insert(report.clone());
    assert_eq!(channel.oneshot(request).await.unwrap().status(), 200);
    assert_eq!(
        client
            .request(get("http://catalog/"))
            .await
            .unwrap()
            .status(),
        200
    );
    drop(client);
    // Connections may take a second to say goodbye.
    tokio::time::sleep(seconds(2)).await;
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), base);
}

#[tokio::test(start_paused = true)]
async fn all_tasks_end_with_a_shutdown_while_handles_live_on() {
    let world = World::default();
    world.named(1);
    let base = Handle::current().metrics().num_alive_tasks();
    let (mesh, publisher) = world
        .mesh(one(cluster("c", Protocol::Http1), &[1], |_| {}))
        .await;
    call(&mesh, get("http://catalog/")).await.unwrap();
    call(&mesh, get("http://unknown:1/")).await.unwrap();
    assert_eq!(mesh.shutdown(seconds(1)).await, 0);
    tokio::time::sleep(seconds(2)).await;
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), base);
    assert!(publisher.publish(Plan::default().build()).await.is_err());
    assert_eq!(mesh.generation(), 1);
}
