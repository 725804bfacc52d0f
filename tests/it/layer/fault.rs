//! `FaultLayer` from outside.

use std::time::Duration;

use meshwork::Random;
use meshwork::layer::fault::FaultLayer;
use meshwork::model::Fraction;
use meshwork::model::fault::{Abort, AbortStatus, Amount, Delay, Fault};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

use super::strict::{Strict, assert_contract, request};

fn delay(duration: Duration) -> Option<Delay> {
    Some(Delay {
        duration: Amount::Fixed(duration),
        share: Fraction::ONE,
    })
}

fn abort(code: u32) -> Option<Abort> {
    Some(Abort {
        status: Amount::Fixed(AbortStatus::Grpc(code)),
        share: Fraction::ONE,
    })
}

fn layer(delay: Option<Delay>, abort: Option<Abort>) -> FaultLayer {
    let fault = Fault {
        delay,
        abort,
        max_active: None,
    };
    FaultLayer::new(fault).random(Random::seeded(1))
}

#[tokio::test]
async fn the_layer_keeps_the_contract() {
    assert_contract(|inner| layer(None, None).layer(inner)).await;
}

#[tokio::test(start_paused = true)]
async fn a_delayed_request_is_sent_by_the_instance_that_was_ready() {
    let inner = Strict::status(200, "ok");
    let mut service = layer(delay(Duration::from_secs(5)), None).layer(inner.clone());
    let begun = Instant::now();
    let call = service.ready().await.unwrap().call(request());
    let mut call = tokio_test::task::spawn(call);
    assert!(call.poll().is_pending());
    assert_eq!(inner.calls(), 0);
    assert_eq!(call.await.unwrap().status(), 200);
    assert_eq!(
        (begun.elapsed(), inner.calls()),
        (Duration::from_secs(5), 1)
    );
    // What was left behind is a clone that has to become ready first.
    assert!(service.ready().await.unwrap().call(request()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_delay_comes_first_then_the_abort_and_nothing_is_sent() {
    let inner = Strict::status(200, "ok");
    let service = layer(delay(Duration::from_secs(5)), abort(8)).layer(inner.clone());
    let begun = Instant::now();
    let error = service.oneshot(request()).await.unwrap_err();
    assert!(error.is_fault());
    assert_eq!(error.grpc_status(), 8);
    assert_eq!(
        (begun.elapsed(), inner.calls()),
        (Duration::from_secs(5), 0)
    );
    let at_once = layer(None, abort(8)).layer(inner.clone());
    assert!(at_once.oneshot(request()).await.unwrap_err().is_fault());
    assert_eq!(inner.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn g18_an_endless_delay_ends_with_the_caller() {
    let service = layer(delay(Duration::MAX), None).layer(Strict::status(200, "ok"));
    let patience = Duration::from_secs(3_600);
    let call = service.oneshot(request());
    assert!(tokio::time::timeout(patience, call).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_request_counts_as_active_until_its_delay_is_over_or_given_up() {
    let fault = Fault {
        delay: delay(Duration::from_secs(5)),
        abort: None,
        max_active: std::num::NonZeroU32::new(1),
    };
    let layer = FaultLayer::new(fault).random(Random::seeded(1));
    let gated = Strict::gated();
    let service = layer.layer(gated.clone());
    let mut first = tokio_test::task::spawn(service.clone().oneshot(request()));
    assert!(first.poll().is_pending());
    let mut unharmed = tokio_test::task::spawn(service.clone().oneshot(request()));
    assert!(unharmed.poll().is_pending());
    assert_eq!(gated.calls(), 1, "the second went straight through");
    drop(first);
    let mut third = tokio_test::task::spawn(service.clone().oneshot(request()));
    assert!(third.poll().is_pending());
    assert_eq!(gated.calls(), 1, "held back in the place of the first");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(third.poll().is_pending());
    assert_eq!(gated.calls(), 2, "sent, and not active any more");
    let mut fourth = tokio_test::task::spawn(service.oneshot(request()));
    assert!(fourth.poll().is_pending());
    assert_eq!(gated.calls(), 2);
}
