//! `ConcurrencyLayer` from outside.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use meshwork::Limit;
use meshwork::layer::concurrency::{Concurrency, ConcurrencyLayer, Settings};
use tokio::time::{advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::contract;
use super::strict::{Strict, request, response};

fn fixed(limit: u32) -> Arc<Concurrency> {
    let settings = Settings {
        min: limit,
        initial: limit,
        max: limit,
        ..Settings::default()
    };
    Arc::new(Concurrency::new(settings).unwrap())
}

#[tokio::test]
async fn the_layer_keeps_the_contract() {
    contract::keep(ConcurrencyLayer::new(fixed(10))).await;
}

#[tokio::test]
async fn a_request_is_in_flight_until_its_body_has_ended_and_above_the_limit_nothing_is_called() {
    let concurrency = fixed(1);
    let inner = Strict::status(200, "ok");
    let mut service = ConcurrencyLayer::new(concurrency.clone()).layer(inner.clone());
    let service = service.ready().await.unwrap();
    let held = service.call(request()).await.unwrap();
    assert_eq!(concurrency.in_flight(), 1);
    let service = service.ready().await.unwrap();
    let error = service.call(request()).await.unwrap_err();
    assert_eq!(error.limit(), Some(Limit::Requests));
    assert_eq!(error.flag().unwrap().code(), "UO");
    assert_eq!((inner.calls(), concurrency.refused()), (1, 1));
    assert_eq!(held.into_body().collect().await.unwrap().to_bytes(), "ok");
    assert_eq!(concurrency.in_flight(), 0);
}

#[tokio::test]
async fn g13_dropped_and_failed_calls_give_their_place_back() {
    let concurrency = fixed(1);
    let layer = ConcurrencyLayer::new(concurrency.clone());
    let mut call = tokio_test::task::spawn(layer.layer(Strict::gated()).oneshot(request()));
    assert!(call.poll().is_pending());
    assert_eq!(concurrency.in_flight(), 1);
    drop(call);
    assert_eq!(concurrency.in_flight(), 0);
    let failing = layer.layer(Strict::new(|| Err("no".into())));
    assert!(failing.oneshot(request()).await.is_err());
    assert_eq!(concurrency.in_flight(), 0);
}

/// 150 callers who come again as soon as they are answered, or 5 ms after a refusal.
#[tokio::test(start_paused = true)]
async fn g20_a_latency_step_of_ten_reaches_the_floor_in_3_s_and_recovers_in_10_s_without_a_dip() {
    let concurrency = Arc::new(
        Concurrency::new(Settings {
            initial: 200,
            ..Settings::default()
        })
        .unwrap(),
    );
    let latency = Arc::new(AtomicU64::new(10));
    let shared = latency.clone();
    let inner = service_fn(move |_| {
        let latency = Duration::from_millis(shared.load(Ordering::Relaxed));
        async move {
            sleep(latency).await;
            Ok::<_, Infallible>(response(200, ""))
        }
    });
    let service = ConcurrencyLayer::new(concurrency.clone()).layer(inner);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..150 {
        let mut service = service.clone();
        callers.spawn(async move {
            loop {
                let called = service.ready().await.unwrap().call(request());
                if called.await.is_err() {
                    sleep(Duration::from_millis(5)).await;
                }
            }
        });
    }

    sleep(Duration::from_secs(2)).await;
    assert_eq!((concurrency.limit(), concurrency.refused()), (200, 0));

    latency.store(100, Ordering::Relaxed);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(concurrency.limit(), 20);
    assert!(concurrency.in_flight() <= 20);

    latency.store(10, Ordering::Relaxed);
    sleep(Duration::from_secs(10)).await;
    assert!(concurrency.limit() >= 180, "{}", concurrency.limit());
    let refused = concurrency.refused();
    assert!(refused > 0);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(concurrency.refused(), refused, "nobody is refused again");
}

/// Without this a timeout further up would hide from the limit what it is there to notice.
#[tokio::test(start_paused = true)]
async fn calls_that_are_given_up_late_lower_the_limit() {
    let settings = Settings {
        initial: 200,
        ..Settings::default()
    };
    let concurrency = Arc::new(Concurrency::new(settings).unwrap());
    let layer = ConcurrencyLayer::new(concurrency.clone());
    let well = layer.layer(Strict::status(200, ""));
    for _ in 0..20 {
        for _ in 0..10 {
            well.clone().oneshot(request()).await.unwrap();
        }
        advance(Duration::from_millis(100)).await;
    }
    assert_eq!(concurrency.limit(), 200);
    let hung = layer.layer(Strict::gated());
    for _ in 0..30 {
        let mut calls: Vec<_> = (0..concurrency.limit())
            .map(|_| tokio_test::task::spawn(hung.clone().oneshot(request())))
            .collect();
        calls
            .iter_mut()
            .for_each(|call| assert!(call.poll().is_pending()));
        advance(Duration::from_millis(100)).await;
        // Half now and half later, as a window needs a beginning and an end.
        calls.truncate(calls.len() / 2);
        advance(Duration::from_millis(100)).await;
        drop(calls);
    }
    assert_eq!(concurrency.limit(), 20);
    assert_eq!(concurrency.in_flight(), 0);
}
