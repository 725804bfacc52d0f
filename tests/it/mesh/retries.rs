//! What a retry saves, and what it must not do.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use meshwork::model::Percent;
use meshwork::model::cluster::{Cluster, Protocol};
use meshwork::model::limit::{Limits, RetryLimit};
use meshwork::model::outlier::Outlier;
use meshwork::model::retry::{Backoff, RetryOn, RetryPolicy};
use meshwork::{Body, CallOptions, CallReport, Flag};
use tokio::time::Instant;

use super::world::{
    Break, Fed, World, answer, call, cluster, counted, get, millis, one, retries, seconds, settle,
    text,
};

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// The ways in which one endpoint of three can be bad.
type MakeBad = fn(&World);
const BAD: [(&str, MakeBad); 6] = [
    ("refuses connections", |world| world.remove(2)),
    ("does not accept", |world| world.silent(2)),
    ("resets", |world| world.broken(2)),
    ("answers 503", |world| world.status(2, 503)),
    ("answers 500", |world| world.status(2, 500)),
    ("hangs", |world| world.hung(2)),
];

fn with_retries(cluster: Cluster, count: u32) -> meshwork::model::Resources {
    one(cluster, &[1, 2, 3], |terms| {
        terms.timeout = Some(seconds(5));
        terms.retry = Some(retries(count, Some(millis(500))));
    })
}

#[tokio::test(start_paused = true)]
async fn no_call_fails_that_a_retry_could_save() {
    for protocol in BOTH {
        for (row, make_bad) in BAD {
            let world = World::default();
            (1..=3).for_each(|port| world.named(port));
            make_bad(&world);
            let quick = Cluster {
                connect_timeout: millis(300),
                ..cluster("c", protocol)
            };
            let (mesh, _publisher) = world.mesh(with_retries(quick, 2)).await;
            for _ in 0..60 {
                // Half of the calls may need a retry: within a fifth of them and three per second.
                tokio::time::sleep(millis(150)).await;
                let found = call(&mesh, get("http://catalog/")).await;
                let (status, body) = found.unwrap_or_else(|error| panic!("{row}: {error}"));
                assert!(status == 200 && body != "2", "{row}");
            }
            let counted = counted(&mesh, "c");
            // Round robin moves on with each try, so the bad one has every second turn at most.
            let retried = (20..=30).contains(&counted.retries);
            assert!(
                retried && counted.failures == 0,
                "{protocol:?} {row}: {counted:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn at_full_speed_ejection_keeps_retries_within_the_budget() {
    for (row, make_bad) in BAD {
        let world = World::default();
        (1..=3).for_each(|port| world.named(port));
        make_bad(&world);
        let strict = Cluster {
            connect_timeout: millis(300),
            outlier: Some(Arc::new(Outlier {
                consecutive_5xx: std::num::NonZeroU32::new(3),
                ..Outlier::default()
            })),
            ..cluster("c", Protocol::Http2)
        };
        let (mesh, _publisher) = world.mesh(with_retries(strict, 2)).await;
        // The budget of a mesh that has run for a while.
        tokio::time::sleep(seconds(10)).await;
        for _ in 0..300 {
            let (status, _) = call(&mesh, get("http://catalog/")).await.unwrap();
            assert_eq!(status, 200, "{row}");
        }
        let counted = counted(&mesh, "c");
        assert_eq!((counted.retries, counted.ejections), (3, 1), "{row}");
    }
}

#[tokio::test(start_paused = true)]
async fn g1_a_total_outage_costs_the_share_of_the_budget_and_no_more() {
    let world = World::default();
    (1..=3).for_each(|port| world.status(port, 503));
    let plain = cluster("c", Protocol::Http2);
    let (mesh, _publisher) = world.mesh(with_retries(plain, 3)).await;
    let start = Instant::now();
    let calls = 4_000u32;
    for turn in 1..=calls {
        // 200 calls per second; pauses between tries overlap them.
        tokio::time::sleep_until(start + millis(5) * turn).await;
        let mesh = mesh.clone();
        tokio::spawn(async move { call(&mesh, get("http://catalog/")).await });
    }
    tokio::time::sleep(seconds(5)).await;
    let counted = counted(&mesh, "c");
    let (share, floor) = (f64::from(calls) * 0.2, 3.0 * (20.0 + 10.0));
    let retries = counted.retries as f64;
    assert!(retries <= share + floor, "{retries} > {share} + {floor}");
    assert!(
        retries >= share * 0.95,
        "{retries} is not the share {share}"
    );
    assert!(counted.retries_denied > 0);
    assert_eq!(counted.attempts, counted.requests + counted.retries);
}

#[tokio::test(start_paused = true)]
async fn g2_after_success_the_burst_of_an_outage_is_capped() {
    let world = World::default();
    (1..=3).for_each(|port| world.named(port));
    let plain = cluster("c", Protocol::Http2);
    let (mesh, _publisher) = world.mesh(with_retries(plain, 3)).await;
    for _ in 0..4_000 {
        call(&mesh, get("http://catalog/")).await.unwrap();
        tokio::time::sleep(millis(2)).await;
    }
    (1..=3).for_each(|port| world.status(port, 503));
    for _ in 0..700 {
        let mesh = mesh.clone();
        tokio::spawn(async move { call(&mesh, get("http://catalog/")).await });
    }
    tokio::time::sleep(seconds(1)).await;
    let counted = counted(&mesh, "c");
    assert!(
        counted.retries > 300,
        "there was something to cap: {}",
        counted.retries
    );
    assert!(
        counted.retries <= 503,
        "{} > burst and a second's floor",
        counted.retries
    );
}

#[tokio::test(start_paused = true)]
async fn max_retries_bounds_retries_in_flight_and_replaces_the_budget() {
    let world = World::default();
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    // First tries fail at once, the retries that are let through hang for a second.
    world.serve(1, move |request| {
        let first = request.headers()["x-envoy-attempt-count"] == "1";
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            if first {
                return answer(503);
            }
            tokio::time::sleep(seconds(1)).await;
            text("saved")
        }
    });
    let limited = Cluster {
        limits: Limits {
            retries: RetryLimit::Concurrent(2),
            ..Limits::default()
        },
        ..cluster("c", Protocol::Http2)
    };
    let (mesh, _publisher) = world
        .mesh(one(limited, &[1], |terms| {
            terms.retry = Some(retries(1, None))
        }))
        .await;
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let mesh = mesh.clone();
            tokio::spawn(async move {
                let report = CallReport::default();
                let mut request = get("http://catalog/");
                request.extensions_mut().insert(report.clone());
                (call(&mesh, request).await.unwrap().0, report)
            })
        })
        .collect();
    let mut saved = 0;
    for one in calls {
        let (status, report) = one.await.unwrap();
        if status == 200 {
            saved += 1;
        } else {
            assert_eq!((status, report.retries_denied()), (503, 1));
            assert_eq!(report.flags(), [Flag::UpstreamOverflow]);
        }
    }
    assert_eq!((saved, tries.load(Ordering::Relaxed)), (2, 12));
    assert_eq!(counted(&mesh, "c").retries_denied, 8);
    // Given back: the next two may retry again.
    let (status, _) = call(&mesh, get("http://catalog/")).await.unwrap();
    assert_eq!(status, 200);
}

#[tokio::test(start_paused = true)]
async fn retries_go_to_endpoints_that_were_not_tried() {
    let world = World::default();
    (1..=3).for_each(|port| world.status(port, 503));
    let unlimited = Cluster {
        limits: Limits {
            retries: RetryLimit::Concurrent(100),
            ..Limits::default()
        },
        ..cluster("c", Protocol::Http1)
    };
    for balancing in [
        meshwork::model::cluster::Balancing::LeastRequest,
        meshwork::model::cluster::Balancing::Random,
        meshwork::model::cluster::Balancing::RoundRobin,
    ] {
        let cluster = Cluster {
            balancing: balancing.clone(),
            ..unlimited.clone()
        };
        let (mesh, _publisher) = world.mesh(with_retries(cluster, 2)).await;
        for _ in 0..50 {
            let report = CallReport::default();
            let mut request = get("http://catalog/");
            request.extensions_mut().insert(report.clone());
            call(&mesh, request).await.unwrap();
            let attempts = report.attempts();
            let places: HashSet<_> = attempts.iter().map(|one| one.endpoint.clone()).collect();
            assert_eq!(places.len(), 3, "{balancing:?}: {attempts:?}");
            assert_eq!(report.flags(), [Flag::UpstreamRetryLimitExceeded]);
        }
    }
}

/// Serves port 1 with 503 for first tries and the length of the body for others; records lengths.
fn fails_first(world: &World) -> Arc<Mutex<Vec<usize>>> {
    let lengths = Arc::new(Mutex::new(Vec::new()));
    let record = lengths.clone();
    world.serve(1, move |request| {
        let record = record.clone();
        async move {
            let first = request.headers()["x-envoy-attempt-count"] == "1";
            let body = request.into_body().collect().await.unwrap().to_bytes();
            assert!(body.iter().enumerate().all(|(at, byte)| *byte == at as u8));
            record.lock().unwrap().push(body.len());
            answer(if first { 503 } else { 200 })
        }
    });
    lengths
}

fn counting(length: usize) -> Bytes {
    (0..length).map(|at| at as u8).collect::<Vec<_>>().into()
}

/// A stream of unknown length.
fn streamed(length: usize) -> Body {
    let (sender, body) = Fed::body();
    tokio::spawn(async move {
        let mut rest = counting(length);
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(7_168));
            if sender.send(Ok(Frame::data(chunk))).await.is_err() {
                return;
            }
        }
    });
    body
}

#[tokio::test(start_paused = true)]
async fn g7_bodies_are_replayed_up_to_the_limit_and_larger_streams_are_sent_once() {
    const LIMIT: usize = 64 << 10;
    for protocol in BOTH {
        for (length, stream, status) in [
            (0, false, 200),
            (10_000, false, 200),
            (10_000, true, 200),
            (LIMIT - 1, true, 200),
            (LIMIT, true, 200),
            (LIMIT + 1, true, 503),
            (LIMIT * 3, true, 503),
        ] {
            let world = World::default();
            let lengths = fails_first(&world);
            let (mesh, _publisher) = world
                .mesh(one(cluster("c", protocol), &[1], |terms| {
                    terms.retry = Some(retries(1, None));
                }))
                .await;
            // The floor of the budget.
            tokio::time::sleep(seconds(5)).await;
            let body = match stream {
                true => streamed(length),
                false => Body::from(counting(length)),
            };
            let request = Request::post("http://catalog/").body(body).unwrap();
            let (found, _) = call(&mesh, request).await.unwrap();
            assert_eq!(found, status, "{protocol:?} {length} {stream}");
            let expected = if status == 200 {
                vec![length; 2]
            } else {
                vec![length]
            };
            assert_eq!(*lengths.lock().unwrap(), expected);
            assert_eq!(mesh.stats().buffered_bytes, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn g6_what_no_peer_looked_at_is_sent_again_whatever_the_policy_covers_and_executed_once() {
    let world = World::default();
    let (refusals, executions) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (refuse, execute) = (refusals.clone(), executions.clone());
    world.serve_or_break(1, move |_| {
        let refused = refuse.fetch_add(1, Ordering::Relaxed) % 2 == 0;
        if !refused {
            execute.fetch_add(1, Ordering::Relaxed);
        }
        async move {
            match refused {
                true => Err(Break::refused()),
                false => Ok(text("done")),
            }
        }
    });
    let covering_nothing = || {
        let mut policy = retries(1, None);
        policy.on = RetryOn::default();
        policy
    };
    for policy in [None, Some(covering_nothing())] {
        let resources = one(cluster("c", Protocol::Http2), &[1], |terms| {
            terms.retry = policy;
        });
        let (mesh, _publisher) = world.mesh(resources).await;
        executions.store(0, Ordering::Relaxed);
        refusals.store(0, Ordering::Relaxed);
        for _ in 0..20 {
            let request = Request::post("http://catalog/")
                .body(Body::from("once"))
                .unwrap();
            assert_eq!(call(&mesh, request).await.unwrap().0, 200);
        }
        assert_eq!(executions.load(Ordering::Relaxed), 20);
        assert_eq!(refusals.load(Ordering::Relaxed), 40);
        assert_eq!(mesh.stats().buffered_bytes, 0);
    }
    // Once, and then the caller hears that nothing was done.
    world.serve_or_break(1, |_| async { Err(Break::refused()) });
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http2), &[1], |_| {}))
        .await;
    let error = call(&mesh, get("http://catalog/")).await.unwrap_err();
    assert!(error.is_unprocessed() && error.is_reset(), "{error}");
    assert_eq!(mesh.stats().clusters[0].attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn g6_a_request_that_may_have_been_executed_is_not_repeated_without_a_policy() {
    for protocol in BOTH {
        let world = World::default();
        let executions = Arc::new(AtomicUsize::new(0));
        let execute = executions.clone();
        world.serve_or_break(1, move |_| {
            execute.fetch_add(1, Ordering::Relaxed);
            async { Err(Break::reset()) }
        });
        let (mesh, _publisher) = world.mesh(one(cluster("c", protocol), &[1], |_| {})).await;
        let request = Request::post("http://catalog/")
            .body(Body::from("once"))
            .unwrap();
        let error = call(&mesh, request).await.unwrap_err();
        assert!(error.is_reset() && !error.is_unprocessed(), "{error}");
        assert_eq!(executions.load(Ordering::Relaxed), 1, "{protocol:?}");
    }
}

fn with_headers(status: u16, headers: &[(&'static str, &'static str)]) -> Response<Body> {
    let mut response = answer(status);
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(*name, HeaderValue::from_static(value));
    }
    response
}

#[tokio::test(start_paused = true)]
async fn g5_the_peer_says_when_to_come_again_or_never() {
    for (row, name, value, tries, pause) in [
        ("seconds", "retry-after", "2", 2, seconds(2)),
        ("garbage", "retry-after", "soon", 2, millis(0)),
        (
            "pushback",
            "grpc-retry-pushback-ms",
            "1700",
            2,
            millis(1_700),
        ),
        ("at once", "grpc-retry-pushback-ms", "0", 2, millis(0)),
        ("never", "grpc-retry-pushback-ms", "-1", 1, millis(0)),
        ("no number", "grpc-retry-pushback-ms", "x", 1, millis(0)),
    ] {
        let world = World::default();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        world.serve(1, move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            async move { with_headers(503, &[(name, value)]) }
        });
        let (mesh, _publisher) = world
            .mesh(one(cluster("c", Protocol::Http1), &[1], |terms| {
                terms.retry = Some(retries(1, None));
            }))
            .await;
        tokio::time::sleep(seconds(5)).await;
        let start = Instant::now();
        assert_eq!(call(&mesh, get("http://catalog/")).await.unwrap().0, 503);
        let took = start.elapsed();
        assert_eq!(count.load(Ordering::Relaxed), tries, "{row}");
        assert!(
            took >= pause && took <= pause + millis(26),
            "{row}: {took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_deadline_does_not_leave_is_not_made() {
    let world = World::default();
    world.serve(1, |_| async { with_headers(503, &[("retry-after", "10")]) });
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http1), &[1], |terms| {
            terms.timeout = Some(seconds(5));
            terms.retry = Some(retries(1, None));
        }))
        .await;
    let start = Instant::now();
    assert_eq!(call(&mesh, get("http://catalog/")).await.unwrap().0, 503);
    assert_eq!(
        start.elapsed(),
        Duration::ZERO,
        "the answer is not held back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_can_ask_for_one_try_only() {
    let world = World::default();
    world.status(1, 503);
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http1), &[1], |terms| {
            terms.retry = Some(retries(3, None));
        }))
        .await;
    let mut request = get("http://catalog/");
    let once = CallOptions::new().without_retries();
    request.extensions_mut().insert(once);
    assert_eq!(call(&mesh, request).await.unwrap().0, 503);
    assert_eq!(counted(&mesh, "c").attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_grpc_status_is_retried_in_trailers_only_answers_and_not_in_trailers() {
    for (row, in_trailers, tries) in [("headers", false, 2), ("trailers", true, 1)] {
        let world = World::default();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        world.serve(1, move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            async move {
                if !in_trailers {
                    return with_headers(200, &[("grpc-status", "14")]);
                }
                let (sender, body) = Fed::body();
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("14"));
                sender.send(Ok(Frame::data("x".into()))).await.unwrap();
                sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
                Response::new(body)
            }
        });
        let policy = RetryPolicy {
            on: RetryOn {
                grpc: vec![14],
                ..RetryOn::default()
            },
            retries: 1,
            per_try_timeout: None,
            backoff: Backoff::default(),
            avoid_previous: false,
            hedge: None,
            leave_priorities: None,
        };
        let (mesh, _publisher) = world
            .mesh(one(cluster("c", Protocol::Http2), &[1], |terms| {
                terms.retry = Some(policy);
            }))
            .await;
        tokio::time::sleep(seconds(5)).await;
        let response = mesh.client().request(get("http://catalog/")).await.unwrap();
        let collected = response.into_body().collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        assert_eq!(trailers.contains_key("grpc-status"), in_trailers, "{row}");
        assert_eq!(count.load(Ordering::Relaxed), tries, "{row}");
    }
}

#[tokio::test(start_paused = true)]
async fn g8_an_answer_during_the_upload_is_delivered_and_the_upload_ends() {
    let world = World::default();
    world.serve(1, |_| async { answer(503) });
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http2), &[1], |terms| {
            terms.retry = Some(retries(3, None));
        }))
        .await;
    tokio::time::sleep(seconds(5)).await;
    let (sender, body) = Fed::body();
    sender.send(Ok(Frame::data("begun".into()))).await.unwrap();
    let request = Request::post("http://catalog/").body(body).unwrap();
    assert_eq!(call(&mesh, request).await.unwrap().0, 503);
    settle().await;
    assert!(sender.is_closed(), "nobody reads the rest");
    assert_eq!(counted(&mesh, "c").attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn one_try_only_still_has_the_per_try_timeout() {
    let world = World::default();
    world.hung(1);
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http1), &[1], |terms| {
            terms.timeout = Some(seconds(5));
            terms.retry = Some(retries(3, Some(seconds(2))));
        }))
        .await;
    let mut request = get("http://catalog/");
    let once = CallOptions::new().without_retries();
    request.extensions_mut().insert(once);
    let began = Instant::now();
    let error = call(&mesh, request).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("no response within the per-try timeout of 2s"),
        "{error}"
    );
    assert_eq!(began.elapsed(), seconds(2));
    assert_eq!(counted(&mesh, "c").attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_budget_over_time_allows_retries_of_requests_that_are_over() {
    for (interval, expected) in [(Duration::ZERO, 503), (seconds(10), 200)] {
        let world = World::default();
        let failing = Arc::new(AtomicUsize::new(0));
        let fail = failing.clone();
        world.serve(1, move |request| {
            let first = request.headers()["x-envoy-attempt-count"] == "1";
            let failed = first && fail.load(Ordering::Relaxed) > 0;
            async move { answer(if failed { 503 } else { 200 }) }
        });
        let limited = Cluster {
            limits: Limits {
                retries: RetryLimit::Share {
                    percent: Percent::new(20).unwrap(),
                    minimum: 0,
                    interval,
                },
                ..Limits::default()
            },
            ..cluster("c", Protocol::Http2)
        };
        let resources = one(limited, &[1], |terms| {
            terms.retry = Some(retries(1, None));
        });
        let (mesh, _publisher) = world.mesh(resources).await;
        for _ in 0..20 {
            assert_eq!(call(&mesh, get("http://catalog/")).await.unwrap().0, 200);
        }
        failing.store(1, Ordering::Relaxed);
        // One in flight is too little for a fifth, twenty that are over are not.
        let status = call(&mesh, get("http://catalog/")).await.unwrap().0;
        assert_eq!(status, expected, "{interval:?}");
        tokio::time::advance(seconds(10)).await;
        let status = call(&mesh, get("http://catalog/")).await.unwrap().0;
        assert_eq!(status, 503, "{interval:?}: they are forgotten by then");
    }
}
