//! `AdmissionLayer` from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use meshwork::Random;
use meshwork::layer::admission::{AdmissionLayer, Settings, Throttle};
use meshwork::model::Percent;
use tokio::time::advance;
use tower::{Layer, ServiceExt};

use super::contract;
use super::strict::{Strict, request, response};

fn throttle(max_rejection: u32) -> Arc<Throttle> {
    let settings = Settings {
        max_rejection: Percent::new(max_rejection).unwrap(),
        ..Settings::default()
    };
    Arc::new(Throttle::new(settings, Random::seeded(1)).unwrap())
}

#[tokio::test]
async fn the_layer_keeps_the_contract() {
    contract::keep(AdmissionLayer::new(throttle(80))).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_service_is_spared_what_it_would_fail_and_found_well_again() {
    let throttle = throttle(80);
    let status = Arc::new(AtomicU16::new(503));
    let shared = status.clone();
    let inner = Strict::new(move || Ok(response(shared.load(Ordering::Relaxed), "")));
    let service = AdmissionLayer::new(throttle.clone()).layer(inner.clone());

    let (mut answered, mut rejected) = (0, 0);
    for _ in 0..2_000 {
        match service.clone().oneshot(request()).await {
            Ok(response) => {
                assert_eq!(response.status(), 503);
                answered += 1;
            }
            Err(error) => {
                assert!(error.is_overloaded() && error.is_unprocessed());
                assert_eq!(error.flag().unwrap().code(), "UO");
                assert_eq!(error.status(), 503);
                rejected += 1;
            }
        }
    }
    assert_eq!(inner.calls(), answered);
    assert_eq!(throttle.rejected(), rejected);
    // 20 % of 2,000, the first few and 3 sigma (54) more or less.
    assert!((350..=460).contains(&answered), "{answered}");

    status.store(200, Ordering::Relaxed);
    advance(Duration::from_secs(120)).await;
    for _ in 0..1_000 {
        assert!(service.clone().oneshot(request()).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_cap_of_all_a_dead_service_is_left_alone_until_the_window_is_over() {
    let throttle = throttle(100);
    let inner = Strict::new(|| Err("gone".into()));
    let service = AdmissionLayer::new(throttle.clone()).layer(inner.clone());
    for _ in 0..100_000 {
        // Error or rejection, both are expected.
        let _ = service.clone().oneshot(request()).await;
    }
    // Each rejection lowers the chance to be asked to 1 in n: the harmonic sum of 100,000 is 12.
    assert!((1..40).contains(&inner.calls()), "{}", inner.calls());
    advance(Duration::from_secs(120)).await;
    assert_eq!(throttle.chance(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn calls_that_their_callers_drop_count_as_failures() {
    let throttle = throttle(80);
    let service = AdmissionLayer::new(throttle.clone()).layer(Strict::gated());
    for _ in 0..100 {
        let mut call = tokio_test::task::spawn(service.clone().oneshot(request()));
        if call.poll().is_pending() {
            drop(call);
        }
    }
    assert_eq!(throttle.chance(), 0.8);
}
