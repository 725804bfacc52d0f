//! `BalanceLayer` from outside.

use std::num::NonZeroU32;
use std::time::Duration;

use http_body_util::BodyExt;
use meshwork::Random;
use meshwork::layer::balance::{Balance, BalanceLayer};
use meshwork::model::cluster::Balancing;
use meshwork::model::outlier::Outlier;
use tokio_test::task;
use tower::{Layer, ServiceExt};

use super::strict::{Strict, assert_contract, request};

fn layer(balancing: Balancing) -> BalanceLayer {
    BalanceLayer::new(balancing).random(Random::seeded(1))
}

async fn call(service: &Balance<Strict>) -> Result<u16, meshwork::Error> {
    let response = service.clone().oneshot(request()).await?;
    Ok(response.status().as_u16())
}

#[tokio::test]
async fn the_layer_keeps_the_contract() {
    for balancing in [
        Balancing::LeastRequest,
        Balancing::Random,
        Balancing::RoundRobin,
    ] {
        assert_contract(|inner| layer(balancing.clone()).layer(vec![inner])).await;
    }
}

#[tokio::test]
async fn round_robin_by_weight() {
    let (one, two) = (Strict::status(200, ""), Strict::status(200, ""));
    let weights = [1, 3].map(|weight| NonZeroU32::new(weight).unwrap());
    let services = vec![(one.clone(), weights[0]), (two.clone(), weights[1])];
    let service = layer(Balancing::RoundRobin).weighted(services);
    for _ in 0..400 {
        call(&service).await.unwrap();
    }
    assert_eq!((one.calls(), two.calls()), (100, 300));
}

#[tokio::test]
async fn f2_the_picked_service_is_the_called_one_even_if_it_has_to_be_waited_for() {
    let (slow, fast) = (Strict::status(503, ""), Strict::status(200, ""));
    slow.set_ready(false);
    let service = layer(Balancing::RoundRobin).layer(vec![slow.clone(), fast.clone()]);
    let mut calls: Vec<_> = (0..2)
        .map(|_| task::spawn(service.clone().oneshot(request())))
        .collect();
    let answered = calls.iter_mut().filter_map(|call| match call.poll() {
        std::task::Poll::Ready(result) => Some(result.unwrap().status().as_u16()),
        std::task::Poll::Pending => None,
    });
    assert_eq!(
        answered.collect::<Vec<_>>(),
        [200],
        "the slow one holds up nobody else"
    );
    slow.set_ready(true);
    let woken: Vec<_> = calls.iter_mut().filter(|call| call.is_woken()).collect();
    assert_eq!(woken.len(), 1);
    for call in woken {
        let response = tokio_test::assert_ready_ok!(call.poll());
        assert_eq!(response.status(), 503);
    }
    assert_eq!((slow.calls(), fast.calls()), (1, 1));
}

#[tokio::test]
async fn a_request_counts_as_load_until_its_body_has_ended_or_it_was_dropped() {
    let (one, two) = (Strict::status(200, "ok"), Strict::status(200, "ok"));
    let service = layer(Balancing::LeastRequest).layer(vec![one.clone(), two.clone()]);
    let held = service.clone().oneshot(request()).await.unwrap();
    let (busy, idle) = match one.calls() {
        1 => (one, two),
        _ => (two, one),
    };
    for calls in 1..=20 {
        call(&service).await.unwrap();
        assert_eq!((busy.calls(), idle.calls()), (1, calls));
    }
    held.into_body().collect().await.unwrap();
    for _ in 0..50 {
        call(&service).await.unwrap();
    }
    assert!(busy.calls() > 10, "both are idle: {}", busy.calls());
}

#[tokio::test]
async fn dropping_a_call_frees_the_service() {
    let (one, two) = (Strict::gated(), Strict::gated());
    let service = layer(Balancing::LeastRequest).layer(vec![one.clone(), two.clone()]);
    for _ in 0..10 {
        let mut pair = [0, 1].map(|_| task::spawn(service.clone().oneshot(request())));
        for call in &mut pair {
            assert!(call.poll().is_pending());
        }
        assert_eq!(one.calls(), two.calls(), "each has one of two");
    }
}

#[tokio::test(start_paused = true)]
async fn f15_a_service_that_fails_fast_is_ejected_and_comes_back() {
    let broken = Strict::status(500, "");
    let good: Vec<_> = (0..4).map(|_| Strict::status(200, "")).collect();
    let mut services = good.clone();
    services.push(broken.clone());
    let service = layer(Balancing::LeastRequest)
        .outlier(Outlier::default())
        .layer(services);
    for _ in 0..500 {
        call(&service).await.unwrap();
    }
    assert_eq!((broken.calls(), service.admitted()), (5, 4));
    tokio::time::advance(Duration::from_secs(29)).await;
    call(&service).await.unwrap();
    assert_eq!(service.admitted(), 4);
    // The sweep of 29 s was the last; the next one is due 10 s later.
    tokio::time::advance(Duration::from_secs(10)).await;
    for _ in 0..500 {
        call(&service).await.unwrap();
    }
    assert_eq!((broken.calls(), service.admitted()), (10, 4));
}

#[tokio::test]
async fn without_anybody_to_pick_calls_fail_at_once() {
    let nobody = layer(Balancing::Random).layer(Vec::new());
    assert_eq!(
        call(&nobody).await.unwrap_err().flag().unwrap().code(),
        "UH"
    );
    let mut never_ready = layer(Balancing::Random).layer(Vec::<Strict>::new());
    assert!(never_ready.ready().await.is_ok());

    let all = meshwork::model::Percent::HUNDRED;
    let policy = Outlier {
        max_ejection: all,
        ..Default::default()
    };
    let broken = || vec![Strict::status(500, ""), Strict::status(500, "")];
    let strict = layer(Balancing::RoundRobin).outlier(policy.clone());
    let panicking = strict.clone().panic_threshold(all);
    let (strict, panicking) = (strict.layer(broken()), panicking.layer(broken()));
    for _ in 0..10 {
        assert_eq!(call(&strict).await.unwrap(), 500);
        assert_eq!(call(&panicking).await.unwrap(), 500);
    }
    assert!(call(&strict).await.is_err(), "both are out");
    assert_eq!(call(&panicking).await.unwrap(), 500, "health is ignored");
}
