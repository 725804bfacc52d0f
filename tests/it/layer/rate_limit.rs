//! `RateLimitLayer` and `InboundRateLimitLayer` from outside.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use http::{HeaderName, Request, Response};
use http_body_util::BodyExt;
use meshwork::layer::rate_limit::{InboundRateLimitLayer, Rate, RateLimit, RateLimitLayer};
use meshwork::{Body, Error};
use tokio::time::advance;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::contract;
use super::strict::{Strict, request};

fn limit(max_tokens: u32) -> Arc<RateLimit> {
    let rate = Rate::new(max_tokens, 1, Duration::from_secs(1)).unwrap();
    Arc::new(RateLimit::new().total(rate))
}

#[tokio::test]
async fn the_layer_keeps_the_contract() {
    contract::keep(RateLimitLayer::new(limit(100))).await;
}

#[tokio::test(start_paused = true)]
async fn outbound_a_request_without_a_token_is_an_error_and_is_not_sent() {
    let limit = limit(1);
    let inner = Strict::status(200, "ok");
    let service = RateLimitLayer::new(limit.clone()).layer(inner.clone());
    assert!(service.clone().oneshot(request()).await.is_ok());
    let error = service.clone().oneshot(request()).await.unwrap_err();
    assert!(error.is_rate_limited() && error.is_unprocessed() && !error.is_overloaded());
    assert_eq!(error.flag().unwrap().code(), "RL");
    assert_eq!((error.status().as_u16(), error.grpc_status()), (429, 14));
    assert_eq!((inner.calls(), limit.refused()), (1, 1));
    advance(Duration::from_secs(1)).await;
    assert!(service.oneshot(request()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn g19_ten_thousand_tenants_have_their_rates_exactly() {
    let rate = Rate::new(3, 1, Duration::from_secs(1)).unwrap();
    let keys = NonZeroU32::new(10_000).unwrap();
    let tenant = HeaderName::from_static("x-tenant");
    let limit = Arc::new(RateLimit::new().per_header(tenant, rate, keys));
    let inner = service_fn(async |_: Request<()>| Ok::<_, Error>(Response::new(Body::empty())));
    let mut service = RateLimitLayer::new(limit.clone()).layer(inner);
    for (second, expected) in [(0, 30_000), (1, 10_000), (1, 10_000), (60, 30_000)] {
        advance(Duration::from_secs(second)).await;
        let mut passed = 0;
        for name in 0..10_000 {
            for _ in 0..4 {
                let request = Request::builder()
                    .header("x-tenant", name)
                    .body(())
                    .unwrap();
                let called = service.ready().await.unwrap().call(request).await;
                passed += u32::from(called.is_ok());
            }
        }
        assert_eq!(passed, expected);
    }
    assert_eq!(limit.keys(), 10_000);
}

#[tokio::test(start_paused = true)]
async fn inbound_a_request_without_a_token_is_answered_as_by_envoy() {
    let app: axum::Router = axum::Router::new()
        .route("/", get(async || "hello"))
        .layer(InboundRateLimitLayer::new(limit(1)));
    let send = async |content_type: &'static str| {
        let request = Request::builder().header("content-type", content_type);
        let request = request.body(axum::body::Body::empty()).unwrap();
        let (head, body) = app.clone().oneshot(request).await.unwrap().into_parts();
        (head, body.collect().await.unwrap().to_bytes())
    };
    let (head, body) = send("text/plain").await;
    assert_eq!((head.status.as_u16(), &body[..]), (200, &b"hello"[..]));

    let (head, body) = send("text/plain").await;
    assert_eq!(head.status.as_u16(), 429);
    assert_eq!(&body[..], b"local_rate_limited");
    assert_eq!(head.headers["content-type"], "text/plain");
    assert_eq!(head.headers["content-length"], "18");
    assert!(!head.headers.contains_key("x-envoy-ratelimited"));

    let (head, body) = send("application/grpc").await;
    assert_eq!(head.status.as_u16(), 200);
    assert!(body.is_empty());
    assert_eq!(head.headers["content-type"], "application/grpc");
    assert_eq!(head.headers["grpc-status"], "14");
    assert_eq!(head.headers["grpc-message"], "local_rate_limited");

    advance(Duration::from_secs(1)).await;
    assert_eq!(send("text/plain").await.0.status.as_u16(), 200);
}

#[tokio::test]
async fn inbound_the_readied_instance_is_called_and_waiters_are_woken() {
    let inner = Strict::status(200, "ok");
    let mut service = InboundRateLimitLayer::new(limit(100)).layer(inner.clone());
    for _ in 0..3 {
        let mut clone = service.clone();
        assert!(service.ready().await.unwrap().call(request()).await.is_ok());
        assert!(clone.ready().await.unwrap().call(request()).await.is_ok());
    }
    inner.set_ready(false);
    let mut waiting = tokio_test::task::spawn(service.clone().oneshot(request()));
    assert!(waiting.poll().is_pending());
    inner.set_ready(true);
    assert!(waiting.is_woken() && waiting.poll().is_ready());
}

#[test]
fn inbound_errors_stay_those_of_the_service_and_all_can_be_spawned() {
    fn spawnable<T: Send + Sync + 'static>(_: &T) {}
    let inner =
        service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty())));
    let inbound = InboundRateLimitLayer::new(limit(1)).layer(inner);
    spawnable(&inbound);
    spawnable(&RateLimitLayer::new(limit(1)).layer(inner));
    fn infallible<S: Service<Request<Body>, Error = Infallible>>(_: &S) {}
    infallible(&inbound);
}
