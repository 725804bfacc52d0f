use std::time::Duration;

use http::{Request, Response};
use meshwork::layer::timeout::TimeoutLayer;
use meshwork::{Body, Error};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};

use super::contract;

#[tokio::test(start_paused = true)]
async fn the_contract_is_kept() {
    contract::keep(TimeoutLayer::new(Duration::from_secs(5))).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_late_fails_on_time_and_one_that_is_not_does_not() {
    let layer = TimeoutLayer::new(Duration::from_secs(5));
    for (takes, late) in [
        (0, false),
        (4_999, false),
        (5_001, true),
        (u64::MAX / 2, true),
    ] {
        let service = layer.layer(service_fn(|_: Request<Body>| async move {
            tokio::time::sleep(Duration::from_millis(takes)).await;
            Ok::<_, Error>(Response::new(Body::empty()))
        }));
        let start = Instant::now();
        let result = service.oneshot(Request::default()).await;
        assert_eq!(result.is_err(), late, "{takes}");
        if let Err(error) = result {
            assert!(error.is_timeout());
            assert_eq!(error.to_string(), "no response within the timeout of 5s");
            assert_eq!(error.flag().unwrap().code(), "UT");
            assert!(start.elapsed() - Duration::from_secs(5) <= Duration::from_millis(1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn zero_lets_pass_what_is_ready_and_a_century_never_comes() {
    for after in [
        Duration::ZERO,
        Duration::from_secs(3_155_760_000),
        Duration::MAX,
    ] {
        let service =
            TimeoutLayer::new(after).layer(service_fn(|request: Request<Body>| async move {
                if request.uri().path() == "/slow" {
                    tokio::time::sleep(Duration::from_secs(86_400)).await;
                }
                Ok::<_, Error>(Response::new(Body::empty()))
            }));
        assert!(service.oneshot(Request::default()).await.is_ok());
        let slow = Request::builder().uri("/slow").body(Body::empty()).unwrap();
        assert_eq!(service.oneshot(slow).await.is_err(), after.is_zero());
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_ours_from_below_passes_unchanged() {
    let inner = TimeoutLayer::new(Duration::from_secs(1)).layer(service_fn(|_: Request<Body>| {
        std::future::pending::<Result<Response<Body>, Error>>()
    }));
    let outer = TimeoutLayer::new(Duration::from_secs(2)).layer(inner);
    let error = outer.oneshot(Request::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "no response within the timeout of 1s");
    assert!(std::error::Error::source(&error).is_none());
}
