//! Calls that are dropped at any point give back all that they held.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::Request;
use http_body::Frame;
use http_body_util::BodyExt;
use meshwork::model::cluster::{Cluster, Protocol};
use meshwork::model::fault::{Amount, Delay, Fault};
use meshwork::model::limit::Limits;
use meshwork::model::{Fraction, Resources};
use meshwork::{Body, Mesh, Random};
use tokio::runtime::Handle;

use super::world::{
    Break, Fed, Plan, World, answer, cluster, millis, retries, seconds, settle, to,
};

/// Both protocols, tight limits, retries with bodies, injected delays.
fn resources() -> Resources {
    let tight = |name, protocol| Cluster {
        limits: Limits {
            connections: 4,
            pending: 20,
            requests: 40,
            ..Limits::default()
        },
        ..cluster(name, protocol)
    };
    let mut delayed = to("two", |terms| terms.retry = Some(retries(2, None)));
    delayed.fault = Some(Fault {
        delay: Some(Delay {
            duration: Amount::Fixed(millis(5)),
            share: Fraction::ONE,
        }),
        abort: None,
        max_active: None,
    });
    let eager = |terms: &mut meshwork::model::route::Forward| {
        terms.timeout = Some(millis(50));
        terms.idle_timeout = Some(millis(20));
        terms.retry = Some(retries(3, Some(millis(10))));
    };
    Plan::default()
        .cluster(tight("one", Protocol::Http1), &[1, 2, 3, 9])
        .cluster(tight("two", Protocol::Http2), &[1, 2, 3, 9])
        .host("h0", vec![to("one", eager)])
        .host("h1", vec![to("two", eager)])
        .host("h2", vec![delayed])
        .build()
}

/// A backend that does a bit of everything: answers late, streams, fails, breaks.
async fn moody(random: Random) -> Result<http::Response<Body>, Break> {
    tokio::time::sleep(millis(random.below(15).into())).await;
    match random.below(10) {
        0 => Err(Break::reset()),
        1 | 2 => Ok(answer(503)),
        3..=5 => Ok(http::Response::new(Body::from("whole"))),
        _ => {
            let (sender, body) = Fed::body();
            tokio::spawn(async move {
                for _ in 0..random.below(6) {
                    tokio::time::sleep(millis(random.below(10).into())).await;
                    let chunk = Frame::data(vec![b'x'; 1_000].into());
                    if sender.send(Ok(chunk)).await.is_err() {
                        return;
                    }
                }
            });
            Ok(http::Response::new(body))
        }
    }
}

async fn one_call(mesh: Mesh, host: u32, random: Random) -> Result<(), meshwork::Error> {
    let (sender, body) = Fed::body();
    tokio::spawn(async move {
        for _ in 0..random.below(4) {
            let chunk = Frame::data(vec![b'y'; 3_000].into());
            if sender.send(Ok(chunk)).await.is_err() {
                return;
            }
            tokio::time::sleep(millis(random.below(5).into())).await;
        }
    });
    let uri = format!("http://h{host}/");
    let request = Request::post(uri).body(body).unwrap();
    let response = mesh.client().request(request).await?;
    response.into_body().collect().await?;
    Ok(())
}

/// Polls a future at most so often.
async fn polled<F: Future>(future: F, times: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn g13_ten_thousand_calls_dropped_anywhere_leave_nothing_behind() {
    const CALLS: usize = 10_000;
    let world = World::default();
    let random = Random::seeded(13);
    for port in 1..=3 {
        let random = random.clone();
        world.serve_or_break(port, move |request| {
            let random = random.clone();
            async move {
                // Half of the backends read the request first.
                if random.below(2) == 0 {
                    let _ = request.into_body().collect().await;
                }
                moody(random).await
            }
        });
    }
    let (mesh, _publisher) = world.mesh(resources()).await;
    settle().await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    let fates = Arc::new(std::sync::Mutex::new([0usize; 3]));
    for _ in 0..CALLS / 100 {
        let storm: Vec<_> = (0..100)
            .map(|_| {
                let (mesh, random, fates) = (mesh.clone(), random.clone(), fates.clone());
                tokio::spawn(async move {
                    let call = one_call(mesh, random.below(3), random.clone());
                    let ended = if random.below(2) == 0 {
                        polled(call, random.below(8)).await
                    } else {
                        let after = Duration::from_micros(random.below(40_000).into());
                        tokio::time::timeout(after, call).await.ok()
                    };
                    let fate = match ended {
                        None => 0,
                        Some(Ok(())) => 1,
                        Some(Err(_)) => 2,
                    };
                    fates.lock().unwrap()[fate] += 1;
                })
            })
            .collect();
        for call in storm {
            call.await.unwrap();
        }
    }
    let fates = *fates.lock().unwrap();
    // All three happen often, or the test tests nothing.
    assert!(fates.iter().all(|count| *count > CALLS / 50), "{fates:?}");
    settle().await;
    let stats = mesh.stats();
    assert_eq!(stats.buffered_bytes, 0);
    for one in &stats.clusters {
        assert_eq!((one.active_requests, one.pending), (0, 0), "{one:?}");
        assert!(
            one.endpoints
                .iter()
                .all(|endpoint| endpoint.active_requests == 0)
        );
        assert!(one.connections <= 8, "{one:?}");
        assert!(one.retries > 100, "{one:?}");
    }
    // Connections without requests close after an hour, and their tasks with them.
    tokio::time::sleep(seconds(3 * 3_600)).await;
    settle().await;
    let stats = mesh.stats();
    assert!(stats.clusters.iter().all(|one| one.connections == 0));
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
    assert_eq!(
        mesh.shutdown(Duration::ZERO).await,
        0,
        "nothing is under way"
    );
}
