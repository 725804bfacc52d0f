//! Faults that are injected on purpose.

use std::num::NonZeroU32;

use http::{HeaderValue, Request, StatusCode};
use meshwork::model::cluster::Protocol;
use meshwork::model::fault::{Abort, AbortStatus, Amount, Delay, Fault};
use meshwork::model::route::Forward;
use meshwork::model::{Fraction, Resources};
use meshwork::{Body, CallOptions, CallReport, Flag};
use tokio::time::Instant;

use super::world::{Plan, World, call, cluster, counted, get, millis, retries, seconds, to};

fn delay(percent: f64, after: std::time::Duration) -> Option<Delay> {
    Some(Delay {
        duration: Amount::Fixed(after),
        share: Fraction::from_percent(percent).unwrap(),
    })
}

fn abort(percent: f64, status: AbortStatus) -> Option<Abort> {
    Some(Abort {
        status: Amount::Fixed(status),
        share: Fraction::from_percent(percent).unwrap(),
    })
}

const TEAPOT: AbortStatus = AbortStatus::Http(StatusCode::IM_A_TEAPOT);

fn faulty(delay: Option<Delay>, abort: Option<Abort>) -> Fault {
    Fault {
        delay,
        abort,
        max_active: None,
    }
}

fn with_fault(fault: Fault, change: impl FnOnce(&mut Forward)) -> Resources {
    let mut route = to("c", change);
    route.fault = Some(fault);
    Plan::default()
        .cluster(cluster("c", Protocol::Http1), &[1])
        .host("catalog", vec![route])
        .build()
}

#[tokio::test(start_paused = true)]
async fn g18_delays_and_aborts_hit_their_share_and_are_flagged() {
    let world = World::default();
    world.named(1);
    let fault = faulty(delay(30.0, seconds(1)), abort(10.0, TEAPOT));
    let (mesh, _publisher) = world.mesh(with_fault(fault, |_| {})).await;
    let (mut delayed, mut aborted) = (0, 0);
    for _ in 0..2_000 {
        let report = CallReport::default();
        let mut request = get("http://catalog/");
        request.extensions_mut().insert(report.clone());
        let start = Instant::now();
        let result = call(&mesh, request).await;
        let late = start.elapsed() >= seconds(1);
        delayed += i32::from(late);
        assert_eq!(report.flags().contains(&Flag::DelayInjected), late);
        if let Err(error) = result {
            assert!(error.is_fault(), "{error}");
            assert_eq!(error.status(), StatusCode::IM_A_TEAPOT);
            assert!(report.flags().contains(&Flag::FaultInjected));
            assert!(report.attempts().is_empty());
            aborted += 1;
        }
    }
    // 3 sigma of 2,000 draws: 61 at 30 %, 40 at 10 %.
    assert!((delayed - 600i32).abs() <= 61, "{delayed} delayed");
    assert!((aborted - 200i32).abs() <= 40, "{aborted} aborted");
    assert_eq!(counted(&mesh, "c").requests, 2_000 - aborted as u64);
}

#[tokio::test(start_paused = true)]
async fn retries_and_the_routes_timeout_do_not_cover_a_fault() {
    let world = World::default();
    world.named(1);
    let terms = |terms: &mut Forward| {
        terms.timeout = Some(seconds(1));
        let mut policy = retries(3, Some(millis(100)));
        policy.on.statuses = vec![StatusCode::SERVICE_UNAVAILABLE];
        terms.retry = Some(policy);
    };
    let fault = faulty(delay(100.0, seconds(3)), None);
    let (mesh, publisher) = world.mesh(with_fault(fault, terms)).await;
    let start = Instant::now();
    assert_eq!(call(&mesh, get("http://catalog/")).await.unwrap().0, 200);
    assert!(start.elapsed() >= seconds(3), "longer than the timeout");
    let unavailable = AbortStatus::Http(StatusCode::SERVICE_UNAVAILABLE);
    let fault = faulty(None, abort(100.0, unavailable));
    publisher.publish(with_fault(fault, terms)).await.unwrap();
    let error = call(&mesh, get("http://catalog/")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "injected fault: HTTP 503 Service Unavailable (cluster c)"
    );
    assert_eq!(counted(&mesh, "c").retries, 0);
}

#[tokio::test(start_paused = true)]
async fn the_callers_deadline_covers_a_delay() {
    let world = World::default();
    world.named(1);
    let fault = faulty(delay(100.0, seconds(3)), abort(100.0, TEAPOT));
    let (mesh, _publisher) = world.mesh(with_fault(fault, |_| {})).await;
    let mut by_option = get("http://catalog/");
    let options = CallOptions::new().timeout(seconds(2));
    by_option.extensions_mut().insert(options);
    let mut by_header = get("http://catalog/");
    let value = HeaderValue::from_static("2S");
    by_header.headers_mut().insert("grpc-timeout", value);
    for request in [by_option, by_header] {
        let start = Instant::now();
        let error = call(&mesh, request).await.unwrap_err();
        assert!(error.is_timeout() && error.to_string().contains("caller's deadline of 2s"));
        assert!(start.elapsed() <= millis(2_002));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_held_back_outlives_an_edit_that_removes_its_cluster() {
    let world = World::default();
    world.named(1);
    let fault = faulty(delay(100.0, seconds(3)), None);
    let (mesh, publisher) = world.mesh(with_fault(fault, |_| {})).await;
    let held = {
        let mesh = mesh.clone();
        tokio::spawn(async move { call(&mesh, get("http://catalog/")).await })
    };
    tokio::time::sleep(seconds(1)).await;
    publisher.publish(Plan::default().build()).await.unwrap();
    assert_eq!(held.await.unwrap().unwrap().1, "1");
}

#[tokio::test(start_paused = true)]
async fn g18_headers_inject_only_where_the_policy_lets_them() {
    let world = World::default();
    world.named(1);
    let by_header = Fault {
        delay: Some(Delay {
            duration: Amount::Header,
            share: Fraction::ONE,
        }),
        abort: Some(Abort {
            status: Amount::Header,
            share: Fraction::ONE,
        }),
        max_active: None,
    };
    let request = || {
        Request::get("http://catalog/")
            .header("x-envoy-fault-delay-request", "500")
            .header("x-envoy-fault-abort-request", "429")
            .body(Body::empty())
            .unwrap()
    };
    let (mesh, publisher) = world.mesh(with_fault(by_header, |_| {})).await;
    let start = Instant::now();
    let error = call(&mesh, request()).await.unwrap_err();
    assert_eq!(error.status(), 429);
    assert!(start.elapsed() >= millis(500));
    assert_eq!(call(&mesh, get("http://catalog/")).await.unwrap().0, 200);
    let fixed = faulty(delay(0.0, seconds(9)), abort(0.0, TEAPOT));
    publisher.publish(with_fault(fixed, |_| {})).await.unwrap();
    let start = Instant::now();
    assert_eq!(call(&mesh, request()).await.unwrap().0, 200);
    assert_eq!(start.elapsed(), millis(0), "nobody asked the caller");
}

#[tokio::test(start_paused = true)]
async fn g18_no_more_are_held_back_than_the_cap_also_across_edits() {
    let world = World::default();
    world.named(1);
    let capped = || Fault {
        max_active: NonZeroU32::new(2),
        ..faulty(delay(100.0, seconds(10)), None)
    };
    let (mesh, publisher) = world.mesh(with_fault(capped(), |_| {})).await;
    let start = Instant::now();
    for turn in 0..2 {
        let held = mesh.clone();
        tokio::spawn(async move { call(&held, get("http://catalog/")).await });
        tokio::time::sleep(millis(10 + turn)).await;
    }
    publisher
        .publish(with_fault(capped(), |terms| {
            terms.timeout = Some(seconds(9))
        }))
        .await
        .unwrap();
    assert_eq!(call(&mesh, get("http://catalog/")).await.unwrap().0, 200);
    assert!(
        start.elapsed() < seconds(1),
        "the third one passes unharmed"
    );
    tokio::time::sleep(seconds(11)).await;
    let start = Instant::now();
    call(&mesh, get("http://catalog/")).await.unwrap();
    assert!(start.elapsed() >= seconds(10), "there is room again");
}

#[tokio::test(start_paused = true)]
async fn an_endless_delay_that_is_dropped_gives_its_place_back() {
    let world = World::default();
    world.named(1);
    let endless = Fault {
        max_active: NonZeroU32::new(1),
        ..faulty(delay(100.0, std::time::Duration::MAX), None)
    };
    let (mesh, _publisher) = world.mesh(with_fault(endless, |_| {})).await;
    for _ in 0..3 {
        let call = call(&mesh, get("http://catalog/"));
        assert!(tokio::time::timeout(seconds(100), call).await.is_err());
    }
}
