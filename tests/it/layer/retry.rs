use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use meshwork::layer::deadline::{Context, Deadline, DeadlineLayer};
use meshwork::layer::retry::{Allowance, Budget, Policy, Quota, RetryLayer};
use meshwork::model::limit::RetryLimit;
use meshwork::model::retry::{Backoff, RetryOn, RetryPolicy};
use meshwork::{Body, BoxError, Error, Random};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::contract;

fn policy(retries: u32, per_try_timeout: Option<Duration>) -> Policy {
    Policy::new(&RetryPolicy {
        on: RetryOn {
            server_error: true,
            ..RetryOn::default()
        },
        retries,
        per_try_timeout,
        backoff: Backoff::default(),
        avoid_previous: false,
        hedge: None,
        leave_priorities: None,
    })
}

fn layer(retries: u32) -> RetryLayer {
    RetryLayer::new(policy(retries, None)).random(Random::seeded(1))
}

/// Answers with the statuses of the list, then with 200; zero is a foreign error. Keeps what each
/// try received.
#[derive(Clone, Default)]
struct Server {
    statuses: Arc<Mutex<VecDeque<u16>>>,
    received: Arc<Mutex<Vec<usize>>>,
}

impl Server {
    fn answering(statuses: &[u16]) -> Self {
        Self {
            statuses: Arc::new(Mutex::new(statuses.iter().copied().collect())),
            ..Self::default()
        }
    }

    fn tries(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    fn service(
        &self,
    ) -> impl Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send>
    + Clone
    + Send
    + 'static
    + use<> {
        let server = self.clone();
        service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let length = request.into_body().collect().await?.to_bytes().len();
                server.received.lock().unwrap().push(length);
                let status = server.statuses.lock().unwrap().pop_front();
                match status.unwrap_or(200) {
                    0 => Err("the server fails".into()),
                    status => Ok(Response::builder().status(status).body(Body::empty())?),
                }
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn the_contract_is_kept() {
    contract::keep(layer(0)).await;
    contract::keep(layer(2)).await;
}

#[tokio::test(start_paused = true)]
async fn bodies_of_any_kind_are_sent_again_as_they_were() {
    for statuses in [&[503, 500][..], &[0, 503]] {
        let server = Server::answering(statuses);
        let service = layer(2).layer(server.service());
        let body = Full::new(bytes::Bytes::from_static(b"twelve bytes"));
        let response = service.oneshot(Request::new(body)).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(*server.received.lock().unwrap(), [12; 3]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_failure_is_the_answer() {
    let server = Server::answering(&[503, 0, 502]);
    let response = layer(2)
        .layer(server.service())
        .oneshot(Request::new(Body::empty()));
    assert_eq!(response.await.unwrap().status(), 502);
    let server = Server::answering(&[503, 502, 0]);
    let response = layer(2)
        .layer(server.service())
        .oneshot(Request::new(Body::empty()));
    let error = response.await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.attempts()),
        ("the inner service failed", 3)
    );
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "the server fails"
    );
}

#[tokio::test(start_paused = true)]
async fn g1_a_total_outage_costs_the_share_of_the_budget() {
    let budget = Budget::new(Allowance {
        floor: 0,
        ..Allowance::default()
    });
    let quota = Arc::new(Quota::with_budget(RetryLimit::Budget, budget));
    let tries = Arc::new(AtomicU32::new(0));
    let service = layer(3).quota(quota).layer(service_fn({
        let tries = tries.clone();
        move |_: Request<Body>| {
            tries.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, Error>(Response::builder().status(503).body(Body::empty()).unwrap()) }
        }
    }));
    for _ in 0..2_000 {
        tokio::time::advance(Duration::from_millis(5)).await;
        let response = service.clone().oneshot(Request::new(Body::empty())).await;
        assert_eq!(response.unwrap().status(), 503);
    }
    assert_eq!(tries.load(Ordering::Relaxed), 2_400);
}

#[tokio::test(start_paused = true)]
async fn g3_a_chain_of_layers_that_say_so_is_retried_by_the_lowest_only() {
    // Each layer answers with gRPC's "do not retry" once its own retries are over.
    fn hop<S>(
        inner: S,
    ) -> impl Service<Request<Body>, Response = Response<Body>, Error = Error, Future: Send>
    + Clone
    + Send
    + 'static
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Error, Future: Send>
            + Clone
            + Send
            + 'static,
    {
        let retried = layer(3).layer(inner);
        service_fn(move |request: Request<Body>| {
            let retried = retried.clone();
            async move {
                let mut response = retried.oneshot(request).await?;
                let never = http::HeaderValue::from_static("-1");
                response
                    .headers_mut()
                    .insert("grpc-retry-pushback-ms", never);
                Ok(response)
            }
        })
    }
    let leaf = Arc::new(AtomicU32::new(0));
    let counter = leaf.clone();
    let service = hop(hop(hop(service_fn(move |_: Request<Body>| {
        counter.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, Error>(Response::builder().status(503).body(Body::empty()).unwrap()) }
    }))));
    for _ in 0..1_000 {
        tokio::time::advance(Duration::from_millis(1)).await;
        let answer = service.clone().oneshot(Request::new(Body::empty())).await;
        assert_eq!(answer.unwrap().status(), 503);
    }
    // A fifth, and the floor of some seconds.
    let leaf = leaf.load(Ordering::Relaxed);
    assert!((1_190..=1_300).contains(&leaf), "{leaf}");
}

#[tokio::test(start_paused = true)]
async fn g7_large_bodies_stream_on_and_are_sent_once() {
    for (size, tries) in [(1_000, 2), (1_001, 1)] {
        let server = Server::answering(&[503]);
        let service = layer(1).replay_limit(1_000).layer(server.service());
        let body = Full::new(bytes::Bytes::from(vec![7; size]));
        assert!(service.oneshot(Request::new(body)).await.is_ok());
        assert_eq!(server.tries(), tries, "{size}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_try_is_cut_and_the_call_ends_at_its_deadline() {
    let service = RetryLayer::new(policy(3, Some(Duration::from_secs(2))))
        .random(Random::seeded(1))
        .layer(service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, Error>>()
        }));
    let start = Instant::now();
    let error = service
        .clone()
        .oneshot(Request::new(Body::empty()))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no response within the per-try timeout of 2s"
    );
    assert_eq!((error.attempts(), start.elapsed().as_secs()), (4, 8));

    let start = Instant::now();
    let deadline = Deadline::after(Duration::from_secs(5));
    let call = service.oneshot(Request::new(Body::empty()));
    let error = Context::scope(deadline, call).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no response within the caller's deadline of 5s"
    );
    assert!(start.elapsed() - Duration::from_secs(5) <= Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn g11_each_try_tells_the_callee_what_is_left() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = told.clone();
    let service =
        DeadlineLayer::new().layer(layer(1).layer(service_fn(move |request: Request<Body>| {
            let text = request.headers()["x-envoy-expected-rq-timeout-ms"]
                .to_str()
                .unwrap();
            seen.lock().unwrap().push(text.parse::<u128>().unwrap());
            async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok::<_, Error>(Response::builder().status(503).body(Body::empty()).unwrap())
            }
        })));
    let start = Instant::now();
    let mut request = Request::new(Body::empty());
    request
        .extensions_mut()
        .insert(Deadline::after(Duration::from_millis(900)));
    assert!(service.oneshot(request).await.is_ok());
    let second = 900 - (start.elapsed() - Duration::from_millis(50)).as_millis();
    assert_eq!(*told.lock().unwrap(), [900, second]);
    assert!(second <= 850);
}

#[tokio::test(start_paused = true)]
async fn g13_calls_dropped_anywhere_give_their_permits_back() {
    let random = Random::seeded(7);
    let quota = Arc::new(Quota::new(RetryLimit::Concurrent(100)));
    let delay = random.clone();
    let retrying = layer(4).quota(quota.clone());
    let service = retrying.layer(service_fn(move |_: Request<Body>| {
        let wait = Duration::from_millis(delay.below(60).into());
        async move {
            tokio::time::sleep(wait).await;
            Ok::<_, Error>(Response::builder().status(503).body(Body::empty()).unwrap())
        }
    }));
    let mut most = 0;
    for _ in 0..20 {
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let body = Full::new(bytes::Bytes::from_static(b"body"));
                let call = service.clone().oneshot(Request::new(body));
                let limit = Duration::from_millis(random.below(300).into());
                tokio::spawn(tokio::time::timeout(limit, call))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(80)).await;
        most = most.max(quota.in_flight());
        for call in calls {
            let _ = call.await.unwrap();
        }
        assert_eq!((quota.in_flight(), retrying.buffered()), (0, 0));
    }
    assert!(most > 10, "{most}");
}

#[tokio::test(start_paused = true)]
async fn g10_nothing_is_repeated_once_an_answer_was_handed_on() {
    let tries = Arc::new(AtomicU32::new(0));
    let counter = tries.clone();
    let service = layer(3).layer(service_fn(move |_: Request<Body>| {
        counter.fetch_add(1, Ordering::Relaxed);
        // The headers say 200; the body breaks off.
        let frames = tokio_test::stream_mock::StreamMockBuilder::new()
            .next(Ok(http_body::Frame::data(bytes::Bytes::from_static(
                b"half",
            ))))
            .next(Err::<_, BoxError>("reset".into()))
            .build();
        let body = Body::new(http_body_util::StreamBody::new(frames));
        async { Ok::<_, Error>(Response::new(body)) }
    }));
    let response = service.oneshot(Request::new(Body::empty())).await.unwrap();
    let error = response.into_body().collect().await.unwrap_err();
    assert!(error.is_body());
    assert_eq!(tries.load(Ordering::Relaxed), 1);
}

#[test]
fn a_call_compiles_inside_spawn() {
    fn spawnable<T: Send + 'static>(_: T) {}
    let server = Server::default();
    spawnable(
        layer(1)
            .layer(server.service())
            .oneshot(Request::new(Body::empty())),
    );
}
