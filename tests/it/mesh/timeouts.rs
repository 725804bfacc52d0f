//! When a call ends that nobody answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request};
use http_body::Frame;
use http_body_util::BodyExt;
use meshwork::layer::deadline::{Context, Deadline};
use meshwork::model::cluster::{Cluster, Protocol};
use meshwork::model::route::Forward;
use meshwork::{Body, CallOptions, CallReport, Flag, Mesh};
use tokio::time::Instant;

use super::world::{
    Fed, World, answer, call, cluster, counted, get, millis, one, retries, seconds, text,
};

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// How long a call took and how it failed. The clock is paused: what passes is what was waited for.
async fn failing(mesh: &Mesh, request: Request<Body>) -> (Duration, meshwork::Error) {
    let start = Instant::now();
    let error = call(mesh, request).await.unwrap_err();
    (start.elapsed(), error)
}

/// Tokio's timer rounds up to its next millisecond.
fn assert_took(found: Duration, expected: Duration) {
    assert!(
        found >= expected && found <= expected + millis(2),
        "{found:?}, not {expected:?}"
    );
}

/// The article's VirtualService: `timeout: 5s`, `retries: {attempts: 3, perTryTimeout: 2s}`.
fn article(terms: &mut Forward) {
    terms.timeout = Some(seconds(5));
    terms.retry = Some(retries(3, Some(seconds(2))));
}

#[tokio::test(start_paused = true)]
async fn a_hung_backend_is_cut_at_two_seconds_and_the_call_at_five_after_three_tries() {
    for protocol in BOTH {
        let world = World::default();
        let began = Arc::new(Mutex::new(Vec::new()));
        let start = Instant::now();
        for port in 1..=3 {
            let began = began.clone();
            world.serve(port, move |_| {
                began.lock().unwrap().push(start.elapsed());
                std::future::pending()
            });
        }
        let (mesh, _publisher) = world
            .mesh(one(cluster("c", protocol), &[1, 2, 3], article))
            .await;
        let report = CallReport::default();
        let mut request = get("http://catalog/");
        request.extensions_mut().insert(report.clone());
        let (took, error) = failing(&mesh, request).await;
        assert_took(took, seconds(5));
        let began = began.lock().unwrap().clone();
        assert_eq!(began.len(), 3, "{began:?}");
        for (one, next) in began.iter().zip(&began[1..]) {
            // Two seconds and a pause of at most 25 or 50 ms.
            let gap = *next - *one;
            assert!(gap >= seconds(2) && gap <= millis(2_055), "{began:?}");
        }
        assert!(error.is_timeout());
        assert_eq!((error.attempts(), error.status().as_u16()), (3, 504));
        let text = error.to_string();
        let endpoint = error.endpoint().unwrap();
        let golden = format!(
            "no response within the route's timeout of 5s (cluster c, endpoint {endpoint}, after \
             3 tries)"
        );
        assert_eq!(text, golden);
        let outcomes: Vec<_> = report
            .attempts()
            .into_iter()
            .map(|one| one.outcome)
            .collect();
        let cut = "no response within the per-try timeout of 2s";
        assert!(
            outcomes[0].starts_with(cut) && outcomes[1].starts_with(cut),
            "{outcomes:?}"
        );
        assert!(
            outcomes[2].starts_with("no response within the route's timeout"),
            "{outcomes:?}"
        );
        assert_eq!(report.flags(), [Flag::UpstreamRequestTimeout]);
        let counted = counted(&mesh, "c");
        assert_eq!(
            (counted.attempts, counted.retries, counted.failures),
            (3, 2, 1)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_per_try_timeout_that_is_used_up_is_the_answer() {
    let world = World::default();
    world.hung(1);
    let terms = |terms: &mut Forward| terms.retry = Some(retries(1, Some(seconds(2))));
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http1), &[1], terms))
        .await;
    let (took, error) = failing(&mesh, get("http://catalog/")).await;
    assert!(took >= seconds(4) && took <= millis(4_030), "{took:?}");
    assert_eq!(
        error.to_string(),
        "no response within the per-try timeout of 2s (cluster c, endpoint 10.0.0.1:1, after 2 \
         tries)"
    );
}

#[tokio::test(start_paused = true)]
async fn connecting_has_a_timeout_of_its_own_and_is_retried_elsewhere() {
    for protocol in BOTH {
        let world = World::default();
        world.silent(1);
        let quick = |ports: &[u16], count| {
            let cluster = Cluster {
                connect_timeout: seconds(1),
                ..cluster("c", protocol)
            };
            one(cluster, ports, |terms| {
                terms.retry = Some(retries(count, None))
            })
        };
        let (mesh, publisher) = world.mesh(quick(&[1], 0)).await;
        let (took, error) = failing(&mesh, get("http://catalog/")).await;
        assert_took(took, seconds(1));
        assert!(error.is_connect() && error.is_timeout() && error.is_unprocessed());
        assert_eq!(
            error.to_string(),
            "could not connect within 1s (cluster c, endpoint 10.0.0.1:1)"
        );
        world.named(2);
        publisher.publish(quick(&[1, 2], 1)).await.unwrap();
        for _ in 0..4 {
            assert_eq!(call(&mesh, get("http://catalog/")).await.unwrap().1, "2");
            tokio::time::sleep(seconds(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_earliest_of_all_deadlines_ends_the_call_and_is_named() {
    let world = World::default();
    world.hung(1);
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http2), &[1], |terms| {
            terms.timeout = Some(seconds(5));
        }))
        .await;
    let request = |header: Option<(&'static str, &'static str)>, options: Option<Duration>| {
        let mut request = get("http://catalog/");
        if let Some((name, value)) = header {
            request
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        if let Some(timeout) = options {
            let options = CallOptions::new().timeout(timeout);
            request.extensions_mut().insert(options);
        }
        request
    };
    let route = "the route's timeout of";
    let caller = "the caller's deadline of";
    for (row, request, ends, whose) in [
        ("route alone", request(None, None), 5_000, route),
        ("option", request(None, Some(seconds(2))), 2_000, caller),
        (
            "longer option",
            request(None, Some(seconds(9))),
            5_000,
            route,
        ),
        (
            "grpc-timeout",
            request(Some(("grpc-timeout", "1500m")), None),
            1_500,
            caller,
        ),
        (
            "expected-rq-timeout",
            request(Some(("x-envoy-expected-rq-timeout-ms", "700")), None),
            700,
            caller,
        ),
        (
            "shorter upstream-rq-timeout",
            request(Some(("x-envoy-upstream-rq-timeout-ms", "300")), None),
            300,
            route,
        ),
        (
            "longer upstream-rq-timeout",
            request(Some(("x-envoy-upstream-rq-timeout-ms", "8000")), None),
            8_000,
            route,
        ),
        (
            "header and option",
            request(
                Some(("x-envoy-upstream-rq-timeout-ms", "8000")),
                Some(seconds(6)),
            ),
            6_000,
            caller,
        ),
        (
            "malformed",
            request(Some(("grpc-timeout", "-1S")), None),
            5_000,
            route,
        ),
        (
            "expired",
            request(Some(("grpc-timeout", "0n")), None),
            0,
            caller,
        ),
    ] {
        let (took, error) = failing(&mesh, request).await;
        assert!(
            took >= millis(ends) && took <= millis(ends + 2),
            "{row}: {took:?}"
        );
        assert!(error.to_string().contains(whose), "{row}: {error}");
        assert_eq!(error.grpc_status(), 4, "{row}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_made_under_an_inbound_request_inherits_what_is_left() {
    let world = World::default();
    world.hung(1);
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http1), &[1], |terms| {
            terms.timeout = Some(seconds(5));
        }))
        .await;
    let start = Instant::now();
    let (took, error) = Context::scope(Deadline::after(seconds(2)), async {
        tokio::time::sleep(millis(500)).await;
        failing(&mesh, get("http://catalog/")).await
    })
    .await;
    assert_took(took, millis(1_500));
    assert_took(start.elapsed(), seconds(2));
    assert!(
        error.to_string().contains("the caller's deadline of 2s"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_is_cut_by_the_deadline_and_by_idleness_and_all_is_given_back() {
    for protocol in BOTH {
        for (timeout, idle, pauses, ends, text) in [
            (Some(5), None, 1, 5_000, "the route's timeout of 5s"),
            (None, Some(3), 2, 43_000, "no byte moved for 3s"),
            (Some(30), Some(3), 2, 30_000, "the route's timeout of 30s"),
        ] {
            let world = World::default();
            world.serve(1, move |_| async move {
                let (sender, body) = Fed::body();
                tokio::spawn(async move {
                    for _ in 0..20 {
                        tokio::time::sleep(seconds(pauses)).await;
                        if sender.send(Ok(Frame::data("x".into()))).await.is_err() {
                            return;
                        }
                    }
                    // Alive, but silent.
                    sender.closed().await;
                });
                http::Response::new(body)
            });
            let (mesh, _publisher) = world
                .mesh(one(cluster("c", protocol), &[1], |terms| {
                    terms.timeout = timeout.map(seconds);
                    terms.idle_timeout = idle.map(seconds);
                }))
                .await;
            let start = Instant::now();
            let response = mesh.client().request(get("http://catalog/")).await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(counted(&mesh, "c").active_requests, 1);
            let error = response.into_body().collect().await.unwrap_err();
            assert_took(start.elapsed(), millis(ends));
            assert!(error.to_string().contains(text), "{error}");
            let after = counted(&mesh, "c");
            assert_eq!(
                (after.active_requests, after.endpoints[0].active_requests),
                (0, 0)
            );
        }
    }
}

/// Records the headers of each try and fails all of them.
fn recording(world: &World, pause: Duration) -> Arc<Mutex<Vec<HeaderMap>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = seen.clone();
    world.serve(1, move |request| {
        record.lock().unwrap().push(request.headers().clone());
        async move {
            tokio::time::sleep(pause).await;
            answer(503)
        }
    });
    seen
}

fn told(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get("x-envoy-expected-rq-timeout-ms")?;
    Some(value.to_str().unwrap().parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn g11_the_callee_is_told_what_is_left_and_that_shrinks_with_each_try() {
    let world = World::default();
    let seen = recording(&world, seconds(1));
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http2), &[1], |terms| {
            terms.timeout = Some(seconds(5));
            terms.retry = Some(retries(3, None));
        }))
        .await;
    let mut request = get("http://catalog/");
    let grpc = HeaderValue::from_static("application/grpc");
    request.headers_mut().insert("content-type", grpc);
    call(&mesh, request).await.unwrap();
    let seen = seen.lock().unwrap();
    let left: Vec<_> = seen.iter().map(|headers| told(headers).unwrap()).collect();
    assert_eq!(left[0], 5_000);
    for (turn, (earlier, later)) in left.iter().zip(&left[1..]).enumerate() {
        let gap = earlier - later;
        assert!((1_000..=1_210).contains(&gap), "try {}: {left:?}", turn + 2);
    }
    for (headers, left) in seen.iter().zip(&left) {
        let grpc = meshwork::layer::deadline::parse_grpc_timeout(&headers["grpc-timeout"]);
        let grpc = u64::try_from(grpc.unwrap().as_millis()).unwrap();
        assert!(grpc >= *left && grpc <= left + 1, "{grpc} is not {left}");
    }
    let numbers: Vec<_> = seen
        .iter()
        .map(|headers| &headers["x-envoy-attempt-count"])
        .collect();
    assert_eq!(numbers, ["1", "2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn the_callee_is_told_what_holds_for_this_call_and_not_what_the_route_says() {
    let world = World::default();
    let seen = recording(&world, Duration::ZERO);
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http1), &[1], |terms| {
            terms.timeout = Some(seconds(5));
            terms.retry = Some(retries(1, Some(seconds(2))));
        }))
        .await;
    let plain = || get("http://catalog/");
    let with = |name: &'static str, value: &'static str| {
        let mut request = plain();
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
        request
    };
    let options = |options: CallOptions| {
        let mut request = plain();
        request.extensions_mut().insert(options);
        request
    };
    for (row, request, expected) in [
        ("the route", plain(), 2_000),
        (
            "its timeout shortened",
            with("x-envoy-upstream-rq-timeout-ms", "900"),
            900,
        ),
        (
            "the try shortened",
            with("x-envoy-upstream-rq-per-try-timeout-ms", "400"),
            400,
        ),
        (
            "the try unbounded",
            with("x-envoy-upstream-rq-per-try-timeout-ms", "0"),
            5_000,
        ),
        (
            "an option",
            options(CallOptions::new().timeout(millis(250))),
            250,
        ),
        (
            "one try only",
            options(CallOptions::new().without_retries()),
            2_000,
        ),
    ] {
        seen.lock().unwrap().clear();
        call(&mesh, request).await.unwrap();
        let found = told(&seen.lock().unwrap()[0]);
        assert_eq!(found, Some(expected), "{row}");
        let first = &seen.lock().unwrap()[0];
        assert!(
            !first.contains_key("x-envoy-upstream-rq-timeout-ms"),
            "{row}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_is_an_answer() {
    let world = World::default();
    world.serve(1, |_| async {
        tokio::time::sleep(millis(4_990)).await;
        text("late")
    });
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http1), &[1], |terms| {
            terms.timeout = Some(seconds(5));
        }))
        .await;
    assert_eq!(call(&mesh, get("http://catalog/")).await.unwrap().1, "late");
}
