//! A slow try gets company: another endpoint, within the budget, and the loser is cancelled.

use std::future::pending;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use meshwork::model::cluster::{Cluster, Protocol};
use meshwork::model::limit::RetryLimit;
use meshwork::model::retry::Hedge;
use meshwork::{Body, CallReport, Mesh};
use tokio::time::Instant;

use super::world::{
    World, call, cluster, counted, get, millis, one, retries, seconds, settle, text,
};

struct Gone(Arc<AtomicUsize>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Port 1 never answers and counts the requests that were cancelled.
fn hang(world: &World) -> Arc<AtomicUsize> {
    let gone = Arc::new(AtomicUsize::new(0));
    let count = gone.clone();
    world.serve(1, move |_| {
        let gone = Gone(count.clone());
        async move {
            let _gone = gone;
            pending::<Response<Body>>().await
        }
    });
    gone
}

async fn hedging(world: &World, protocol: Protocol, ports: &[u16], limit: RetryLimit) -> Mesh {
    let cluster = Cluster {
        limits: meshwork::model::limit::Limits {
            retries: limit,
            ..Default::default()
        },
        ..cluster("c", protocol)
    };
    let resources = one(cluster, ports, |to| {
        let mut policy = retries(2, None);
        policy.hedge = Some(Hedge {
            delay: millis(50),
            extra: NonZeroU32::MIN,
        });
        to.retry = Some(policy);
        to.timeout = Some(seconds(2));
    });
    let (mesh, publisher) = world.mesh(resources).await;
    // What is in force stays so without its publisher.
    drop(publisher);
    mesh
}

#[tokio::test(start_paused = true)]
async fn g16_a_slow_try_is_hedged_at_another_endpoint_and_the_loser_is_cancelled() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::default();
        let gone = hang(&world);
        world.named(2);
        let mesh = hedging(&world, protocol, &[1, 2], RetryLimit::Budget).await;
        let mut hedged = 0;
        for _ in 0..10 {
            let report = CallReport::default();
            let mut request = get("http://catalog/");
            request.extensions_mut().insert(report.clone());
            let begun = Instant::now();
            let (status, body) = call(&mesh, request).await.unwrap();
            assert_eq!((status, &*body), (200, "2"));
            if report.attempts().len() == 2 {
                hedged += 1;
                assert!(begun.elapsed() >= millis(50) && begun.elapsed() < millis(60));
                let loser = &report.attempts()[1];
                assert_eq!(&*loser.endpoint, "10.0.0.1:1");
                assert_eq!(loser.outcome, "cancelled, another try was faster");
            }
        }
        settle().await;
        assert!(hedged > 0);
        assert_eq!(gone.load(Ordering::SeqCst), hedged, "cancelled at the peer");
        let stats = counted(&mesh, "c");
        assert_eq!(
            (stats.hedges, stats.retries),
            (hedged as u64, hedged as u64)
        );
        assert_eq!((stats.active_requests, stats.failures), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn g16_hedges_spend_the_budget_and_stop_where_it_ends() {
    let world = World::default();
    hang(&world);
    world.named(2);
    let mesh = hedging(&world, Protocol::Http1, &[1, 2], RetryLimit::Concurrent(0)).await;
    let mut cut = 0;
    for _ in 0..4 {
        cut += u32::from(call(&mesh, get("http://catalog/")).await.is_err());
    }
    assert!(cut > 0, "nobody came to help the slow endpoint");
    assert_eq!(counted(&mesh, "c").hedges, 0);
}

#[tokio::test(start_paused = true)]
async fn a_failing_hedge_does_not_end_the_call_that_is_under_way() {
    let world = World::default();
    world.serve(1, |_| async {
        tokio::time::sleep(millis(200)).await;
        text("late but fine")
    });
    world.status(2, 503);
    let mesh = hedging(&world, Protocol::Http2, &[1, 2], RetryLimit::Budget).await;
    for _ in 0..4 {
        let (status, body) = call(&mesh, get("http://catalog/")).await.unwrap();
        assert_eq!((status, &*body), (200, "late but fine"));
    }
}

#[tokio::test(start_paused = true)]
async fn one_endpoint_is_not_hedged_and_fast_answers_neither() {
    let world = World::default();
    world.serve(1, |_| async {
        tokio::time::sleep(millis(200)).await;
        text("slow")
    });
    let alone = hedging(&world, Protocol::Http1, &[1], RetryLimit::Budget).await;
    call(&alone, get("http://catalog/")).await.unwrap();
    assert_eq!(counted(&alone, "c").attempts, 1);
    world.named(2);
    world.named(3);
    let fast = hedging(&world, Protocol::Http1, &[2, 3], RetryLimit::Budget).await;
    call(&fast, get("http://catalog/")).await.unwrap();
    assert_eq!(counted(&fast, "c").hedges, 0);
}

#[tokio::test(start_paused = true)]
async fn an_upload_under_way_is_not_hedged_and_a_finished_one_is_sent_whole() {
    let world = World::default();
    hang(&world);
    world.serve(2, |request: Request<hyper::body::Incoming>| async move {
        use http_body_util::BodyExt;
        text(request.into_body().collect().await.unwrap().to_bytes())
    });
    let mesh = hedging(&world, Protocol::Http1, &[1, 2], RetryLimit::Budget).await;
    for (wait, hedged) in [(Duration::ZERO, true), (seconds(1), false)] {
        let before = counted(&mesh, "c").hedges;
        let mut answered = 0;
        for _ in 0..4 {
            let mock = tokio_test::stream_mock::StreamMockBuilder::new()
                .wait(wait)
                .next(Ok::<_, meshwork::Error>(http_body::Frame::data(
                    Bytes::from("abc"),
                )))
                .build();
            let body = Body::new(http_body_util::StreamBody::new(mock));
            let request = Request::post("http://catalog/").body(body).unwrap();
            if let Ok((_, body)) = call(&mesh, request).await {
                assert_eq!(body, "abc");
                answered += 1;
            }
        }
        assert_eq!(counted(&mesh, "c").hedges > before, hedged, "{wait:?}");
        assert_eq!(answered == 4, hedged, "{wait:?}");
    }
}
