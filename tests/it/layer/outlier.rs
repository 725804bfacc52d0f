//! `OutlierLayer` from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use meshwork::layer::outlier::{Ejecting, OutlierLayer};
use meshwork::model::outlier::Outlier;
use tower::{Layer, Service, ServiceExt};

use super::strict::{Strict, assert_contract, request, response};

const SECOND: Duration = Duration::from_secs(1);

fn layer() -> OutlierLayer {
    OutlierLayer::new(Outlier::default())
}

/// A service whose status can be changed.
fn changing(status: u16) -> (Arc<AtomicU16>, Strict, Ejecting<Strict>) {
    let status = Arc::new(AtomicU16::new(status));
    let inner = Strict::new({
        let status = status.clone();
        move || Ok(response(status.load(Ordering::SeqCst), "ok"))
    });
    let service = layer().layer(inner.clone());
    (status, inner, service)
}

async fn call(service: &mut Ejecting<Strict>) -> Result<u16, meshwork::Error> {
    let response = service.ready().await?.call(request()).await?;
    Ok(response.status().as_u16())
}

#[tokio::test]
async fn the_layer_keeps_the_contract() {
    assert_contract(|inner| layer().layer(inner)).await;
}

#[tokio::test(start_paused = true)]
async fn f6_five_failures_in_a_row_end_the_calls_and_time_brings_them_back() {
    let (status, inner, mut service) = changing(500);
    for _ in 0..5 {
        assert_eq!(call(&mut service).await.unwrap(), 500);
    }
    let mut clone = service.clone();
    let error = call(&mut clone).await.unwrap_err();
    assert_eq!(error.flag().unwrap().code(), "UH");
    assert!(!service.admitted());
    assert_eq!(inner.calls(), 5);
    tokio::time::advance(29 * SECOND).await;
    assert!(call(&mut service).await.is_err());
    status.store(200, Ordering::SeqCst);
    tokio::time::advance(SECOND).await;
    assert_eq!(call(&mut service).await.unwrap(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_second_ejection_is_longer_unless_enough_healthy_time_has_passed() {
    for (healthy, expected) in [(5, 60), (25, 30)] {
        let (_, _, mut service) = changing(500);
        for _ in 0..5 {
            call(&mut service).await.unwrap();
        }
        tokio::time::advance(30 * SECOND).await;
        assert!(call(&mut service).await.is_ok());
        // Intervals of 10 s without any call are made up for at the next.
        tokio::time::advance(healthy * SECOND).await;
        for _ in 0..4 {
            assert!(call(&mut service).await.is_ok());
        }
        assert!(!service.admitted());
        tokio::time::advance((expected - 1) * SECOND).await;
        assert!(call(&mut service).await.is_err(), "{healthy}");
        tokio::time::advance(SECOND).await;
        assert!(call(&mut service).await.is_ok(), "{healthy}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_ejection_that_ends_between_ready_and_call_does_not_call_the_unasked() {
    let (_, inner, mut service) = changing(500);
    for _ in 0..5 {
        call(&mut service).await.unwrap();
    }
    let mut other = service.clone();
    service.ready().await.unwrap();
    tokio::time::advance(30 * SECOND).await;
    other.ready().await.unwrap();
    assert!(service.admitted());
    // The strict inner service would panic: `service` was ready without having asked it.
    assert!(service.call(request()).await.is_err());
    assert!(other.call(request()).await.is_ok());
    assert_eq!(inner.calls(), 6);
}

#[tokio::test]
async fn errors_without_an_answer_count_and_refusals_of_this_process_do_not() {
    use meshwork::layer::limit::{LimitLayer, Limits};
    use meshwork::model;

    let lost = Strict::new(|| Err("lost".into()));
    let mut service = layer().layer(lost.clone());
    for _ in 0..10 {
        let result = service.ready().await.unwrap().call(request()).await;
        assert!(result.is_err());
    }
    assert_eq!(lost.calls(), 5);

    let none = model::limit::Limits {
        requests: 0,
        ..Default::default()
    };
    let limited = LimitLayer::new(Arc::new(Limits::new(&none))).layer(lost);
    let mut service = layer().layer(limited);
    for _ in 0..10 {
        let result = service.ready().await.unwrap().call(request()).await;
        assert!(result.unwrap_err().is_overloaded());
    }
    assert!(service.admitted());
}
