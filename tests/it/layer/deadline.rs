use std::time::Duration;

use http::{HeaderMap, Request, Response};
use meshwork::layer::deadline::{Context, Deadline, DeadlineLayer};
use meshwork::{Body, Error};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::contract;

const EXPECTED: &str = "x-envoy-expected-rq-timeout-ms";

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Answers at once with the headers of the request.
fn echo(
    layer: DeadlineLayer,
) -> impl Service<Request<Body>, Response = Response<HeaderMap>, Error = Error> + Clone {
    layer.layer(service_fn(|request: Request<Body>| async move {
        Ok::<_, Error>(Response::new(request.headers().clone()))
    }))
}

async fn told(layer: DeadlineLayer, request: Request<Body>) -> Result<HeaderMap, Error> {
    Ok(echo(layer).oneshot(request).await?.into_body())
}

fn grpc(timeout: &'static str) -> Request<Body> {
    Request::builder()
        .header("content-type", "application/grpc")
        .header("grpc-timeout", timeout)
        .body(Body::empty())
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_contract_is_kept() {
    contract::keep(DeadlineLayer::new()).await;
    contract::keep(DeadlineLayer::new().at_most(Duration::from_secs(5))).await;
}

#[tokio::test(start_paused = true)]
async fn g11_the_callee_is_told_what_is_left_of_the_inbound_request() {
    let inbound = Deadline::after(ms(100));
    let headers = Context::scope(inbound, async {
        tokio::time::advance(ms(30)).await;
        told(DeadlineLayer::new(), grpc("5S")).await.unwrap()
    })
    .await;
    assert_eq!(headers[EXPECTED], "70");
    assert_eq!(headers["grpc-timeout"], "70000000n");
}

#[tokio::test(start_paused = true)]
async fn the_earliest_of_all_deadlines_counts() {
    let request = |timeout, extension: Option<u64>| {
        let mut request = grpc(timeout);
        if let Some(after) = extension {
            request.extensions_mut().insert(Deadline::after(ms(after)));
        }
        request
    };
    for (inbound, header, extension, at_most, expected) in [
        (1, "2m", Some(3), 4, "1"),
        (4, "1m", Some(2), 3, "1"),
        (4, "3m", Some(1), 2, "1"),
        (4, "3m", Some(2), 1, "1"),
        (4, "3m", None, 5, "3"),
    ] {
        let layer = DeadlineLayer::new().at_most(ms(at_most));
        let headers = Context::scope(
            Deadline::after(ms(inbound)),
            told(layer, request(header, extension)),
        )
        .await
        .unwrap();
        assert_eq!(
            headers[EXPECTED], expected,
            "{inbound} {header} {extension:?} {at_most}"
        );
    }
    let untouched = told(DeadlineLayer::new(), Request::default())
        .await
        .unwrap();
    assert!(untouched.is_empty());
}

#[tokio::test(start_paused = true)]
async fn g12_malformed_timeouts_are_ignored_and_zero_is_over_at_once() {
    for text in ["-1S", "123456789n", "1", "S", "1.5S", "x"] {
        let headers = told(DeadlineLayer::new().at_most(ms(9)), grpc(text))
            .await
            .unwrap();
        assert_eq!(headers[EXPECTED], "9", "{text}");
    }
    assert!(told(DeadlineLayer::new(), grpc("99999999H")).await.is_ok());
    let over = told(DeadlineLayer::new(), grpc("0n")).await.unwrap_err();
    assert!(over.is_timeout());
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_deadline_and_is_not_made_after_it() {
    let service = DeadlineLayer::new().layer(service_fn(|_: Request<Body>| {
        std::future::pending::<Result<Response<Body>, Error>>()
    }));
    let start = Instant::now();
    let error = service.oneshot(grpc("20m")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no response within the caller's deadline of 20ms"
    );
    assert!(start.elapsed() - ms(20) <= ms(1));

    let inbound = Deadline::after(ms(5));
    tokio::time::advance(ms(5)).await;
    let never = DeadlineLayer::new().layer(service_fn(|_: Request<Body>| async {
        Err::<Response<Body>, CalledTooLate>(CalledTooLate)
    }));
    let error = Context::scope(inbound, never.oneshot(Request::default()))
        .await
        .unwrap_err();
    assert!(error.is_timeout() && std::error::Error::source(&error).is_none());
}

/// Would be the cause if the inner service were called.
#[derive(Debug)]
struct CalledTooLate;

impl std::fmt::Display for CalledTooLate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("called after the deadline")
    }
}

impl std::error::Error for CalledTooLate {}
