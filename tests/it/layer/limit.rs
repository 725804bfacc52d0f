//! `LimitLayer` from outside.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use meshwork::layer::limit::{LimitLayer, Limits};
use meshwork::{Limit, Random, model};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt};

use super::strict::{Strict, assert_contract, request};

fn limits(requests: u32) -> Arc<Limits> {
    Arc::new(Limits::new(&model::limit::Limits {
        requests,
        ..Default::default()
    }))
}

#[tokio::test]
async fn the_layer_keeps_the_contract() {
    assert_contract(|inner| LimitLayer::new(limits(10)).layer(inner)).await;
}

#[tokio::test]
async fn the_permit_is_held_until_the_body_has_ended() {
    let limits = limits(1);
    let inner = Strict::status(200, "ok");
    let mut service = LimitLayer::new(limits.clone()).layer(inner.clone());
    let response = service
        .ready()
        .await
        .unwrap()
        .call(request())
        .await
        .unwrap();
    assert_eq!(limits.active_requests(), 1);
    let error = service
        .ready()
        .await
        .unwrap()
        .call(request())
        .await
        .unwrap_err();
    assert_eq!(error.limit(), Some(Limit::Requests));
    assert_eq!(error.flag().unwrap().code(), "UO");
    assert_eq!(inner.calls(), 1, "the refused one did not get through");
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "ok"
    );
    assert_eq!(limits.active_requests(), 0);

    let dropped = service
        .ready()
        .await
        .unwrap()
        .call(request())
        .await
        .unwrap();
    drop(dropped);
    let empty = LimitLayer::new(limits.clone()).layer(Strict::status(204, ""));
    let held = empty.oneshot(request()).await.unwrap();
    assert_eq!(limits.active_requests(), 0, "nothing is left to send");
    drop(held);
}

#[tokio::test]
async fn errors_and_dropped_calls_give_their_permit_back() {
    let limits = limits(1);
    let failing = LimitLayer::new(limits.clone()).layer(Strict::new(|| Err("no".into())));
    assert!(failing.oneshot(request()).await.is_err());
    let inner = Strict::gated();
    let gated = LimitLayer::new(limits.clone()).layer(inner.clone());
    let mut call = tokio_test::task::spawn(gated.clone().oneshot(request()));
    assert!(call.poll().is_pending());
    assert_eq!(limits.active_requests(), 1);
    drop(call);
    assert_eq!(limits.active_requests(), 0);
    inner.open();
    assert!(gated.oneshot(request()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn g15_a_thousand_callers_and_a_storm_of_cancels_never_exceed_the_cap() {
    let limits = limits(100);
    let inner = tower::service_fn({
        let limits = limits.clone();
        move |_: http::Request<()>| {
            let limits = limits.clone();
            async move {
                assert!(limits.active_requests() <= 100);
                sleep(Duration::from_millis(20)).await;
                Ok::<_, meshwork::Error>(super::strict::response(200, "ok"))
            }
        }
    });
    let service = LimitLayer::new(limits.clone()).layer(inner);
    let random = Random::seeded(5);
    let callers: Vec<_> = (0..1_000)
        .map(|_| {
            let (service, random) = (service.clone(), random.clone());
            tokio::spawn(async move {
                let (mut refused, mut answered) = (0, 0);
                for _ in 0..10 {
                    sleep(Duration::from_millis(random.below(50).into())).await;
                    let begun = Instant::now();
                    let patience = Duration::from_millis(random.below(40).into());
                    let call = service.clone().oneshot(request());
                    match tokio::time::timeout(patience, call).await {
                        Ok(Ok(_)) => answered += 1,
                        Ok(Err(error)) => {
                            assert!(error.is_overloaded());
                            assert_eq!(begun.elapsed(), Duration::ZERO, "refused at once");
                            refused += 1;
                        }
                        Err(_) => {}
                    }
                }
                (refused, answered)
            })
        })
        .collect();
    let (mut refused, mut answered) = (0, 0);
    for caller in callers {
        let (some, others) = caller.await.unwrap();
        refused += some;
        answered += others;
    }
    assert!(refused > 0 && answered > 0, "{refused} {answered}");
    assert_eq!(limits.active_requests(), 0);
    assert_eq!(limits.refused(Limit::Requests), refused);
}
