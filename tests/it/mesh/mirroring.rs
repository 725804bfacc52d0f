//! Copies of requests: what they carry, and that the call does not feel them.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use meshwork::model::cluster::Protocol;
use meshwork::model::matcher::RouteMatcher;
use meshwork::model::route::{Destinations, Mirror};
use meshwork::model::{Fraction, Resources};
use meshwork::{Body, ClusterStats, Mesh};
use tokio::time::Instant;

use super::world::{Plan, World, call, cluster, forward, get, route, text};

/// Requests of `catalog` go to port 1, copies of this share to port 2.
fn plan(percent: f64, change: impl FnOnce(&mut meshwork::model::Cluster)) -> Resources {
    let mut to = forward(Destinations::single("main"));
    to.mirrors = vec![Mirror {
        cluster: "shadow".into(),
        share: Fraction::from_percent(percent).unwrap(),
    }];
    let mut shadow = cluster("shadow", Protocol::Http1);
    change(&mut shadow);
    Plan::default()
        .cluster(cluster("main", Protocol::Http1), &[1])
        .cluster(shadow, &[2])
        .host(
            "catalog",
            vec![route("all", RouteMatcher::everything(), to)],
        )
        .build()
}

fn shadow(mesh: &Mesh) -> ClusterStats {
    let all = mesh.stats().clusters;
    all.into_iter().find(|one| &*one.name == "shadow").unwrap()
}

/// Lets the tasks of copies end; the clock is paused, so this is a turn of the wheel and no wait.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_has_method_path_host_headers_and_body_of_the_request() {
    let world = World::default();
    world.named(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    world.serve(2, move |request: Request<hyper::body::Incoming>| {
        let sink = sink.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            sink.lock().unwrap().push((parts, body));
            text("discarded")
        }
    });
    let (mesh, _publisher) = world.mesh(plan(100.0, |_| {})).await;
    for body in [
        Body::from("whole"),
        Body::new(BodyExt::boxed(Body::from("whole"))),
    ] {
        let request = Request::post("http://catalog/items?x=1").header("x-a", "b");
        let (_, answer) = call(&mesh, request.body(body).unwrap()).await.unwrap();
        assert_eq!(answer, "1");
    }
    settle().await;
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    for (parts, body) in seen.iter() {
        assert_eq!((parts.method.as_str(), &**body), ("POST", &b"whole"[..]));
        assert_eq!(parts.uri.to_string(), "/items?x=1");
        assert_eq!(
            (&parts.headers["host"], &parts.headers["x-a"]),
            (&"catalog".parse().unwrap(), &"b".parse().unwrap())
        );
    }
    let stats = shadow(&mesh);
    assert_eq!(
        (stats.mirrored, stats.mirrors_dropped, stats.failures),
        (2, 0, 0)
    );
    assert_eq!(stats.active_requests, 0);
}

#[tokio::test(start_paused = true)]
async fn the_share_decides_how_many_are_copied() {
    let world = World::default();
    world.named(1);
    world.named(2);
    let (mesh, _publisher) = world.mesh(plan(25.0, |_| {})).await;
    for _ in 0..1_000 {
        call(&mesh, get("http://catalog/")).await.unwrap();
    }
    settle().await;
    // sigma = sqrt(1,000 x 0.25 x 0.75) = 13.7
    let copies = shadow(&mesh).mirrored;
    assert!((209..=291).contains(&copies), "{copies} of 1,000");
}

#[tokio::test(start_paused = true)]
async fn g16_shadow_failures_never_affect_the_call() {
    let world = World::default();
    world.named(1);
    let (mesh, _publisher) = world.mesh(plan(100.0, |_| {})).await;
    // Nobody listens; then it fails; then it hangs.
    let begun = Instant::now();
    for step in 0..3 {
        match step {
            0 => {}
            1 => world.status(2, 500),
            _ => world.serve(2, |_| pending()),
        }
        let (status, body) = call(&mesh, get("http://catalog/")).await.unwrap();
        assert_eq!((status, &*body), (200, "1"));
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // A copy without a route timeout ends after 15 s.
    tokio::time::sleep(Duration::from_secs(16)).await;
    let stats = shadow(&mesh);
    assert_eq!((stats.mirrored, stats.active_requests), (3, 0));
    assert!(stats.failures >= 2, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn copies_are_bounded_by_number_and_by_the_limits_of_their_cluster() {
    let world = World::default();
    world.named(1);
    world.serve(2, |_| pending());
    for (limit, running) in [(None, 256), (Some(10), 10)] {
        let resources = plan(100.0, |shadow| {
            if let Some(limit) = limit {
                shadow.limits.requests = limit;
            }
        });
        let (mesh, _publisher) = world.mesh(resources).await;
        for _ in 0..300 {
            call(&mesh, get("http://catalog/")).await.unwrap();
        }
        let stats = shadow(&mesh);
        assert_eq!(
            (stats.mirrored, stats.mirrors_dropped),
            (running, 300 - running)
        );
        assert_eq!(u64::from(stats.active_requests), running);
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_cannot_keep_up_with_an_upload_is_broken_off() {
    let world = World::default();
    world.serve(1, |request: Request<hyper::body::Incoming>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        text(body.len().to_string())
    });
    // It never reads its body.
    world.serve(2, |request: Request<hyper::body::Incoming>| async move {
        let _unread = request;
        pending().await
    });
    let (mesh, _publisher) = world.mesh(plan(100.0, |_| {})).await;
    let chunks = (0..64).map(|_| Ok::<_, meshwork::Error>(Bytes::from(vec![0; 16 << 10])));
    let frames = tokio_test::stream_mock::StreamMockBuilder::new();
    let frames = chunks.fold(frames, |frames, chunk| {
        frames.next(chunk.map(http_body::Frame::data))
    });
    let body = Body::new(http_body_util::StreamBody::new(frames.build()));
    let request = Request::post("http://catalog/").body(body).unwrap();
    let (_, length) = call(&mesh, request).await.unwrap();
    assert_eq!(length, (64 * (16 << 10)).to_string());
    settle().await;
    let stats = shadow(&mesh);
    assert_eq!(
        (stats.mirrored, stats.failures, stats.active_requests),
        (1, 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn copies_end_with_the_mesh_and_shutdown_does_not_wait_for_them() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let world = World::default();
    world.named(1);
    let alive = Arc::new(AtomicUsize::new(0));
    let count = alive.clone();
    world.serve(2, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(count.clone());
        async move {
            let _counted = counted;
            pending().await
        }
    });
    let (mesh, _publisher) = world.mesh(plan(100.0, |_| {})).await;
    call(&mesh, get("http://catalog/")).await.unwrap();
    settle().await;
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    let begun = Instant::now();
    assert_eq!(mesh.shutdown(Duration::from_secs(5)).await, 0);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    settle().await;
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}
