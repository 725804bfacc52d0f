//! Layers that a program puts around a client, and around its own handlers, on real sockets.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::{HeaderName, Request, StatusCode};
use http_body_util::BodyExt;
use meshwork::layer::admission::{AdmissionLayer, Settings as Admission, Throttle};
use meshwork::layer::concurrency::{Concurrency, ConcurrencyLayer, Settings as Adaptive};
use meshwork::layer::rate_limit::{InboundRateLimitLayer, Rate, RateLimit, RateLimitLayer};
use meshwork::{Body, Mesh, Random};
use tokio::sync::Semaphore;
use tower::{Layer, ServiceExt};

/// What the server has seen and what it answers.
#[derive(Clone)]
struct Server {
    calls: Arc<AtomicU32>,
    /// One permit for each answer.
    gate: Arc<Semaphore>,
    status: StatusCode,
}

impl Server {
    fn answering(status: StatusCode) -> Self {
        Self {
            calls: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            status,
        }
    }

    fn gated() -> Self {
        Self {
            gate: Arc::new(Semaphore::new(0)),
            ..Self::answering(StatusCode::OK)
        }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    fn app(&self) -> Router {
        Router::new()
            .route("/", get(answer))
            .with_state(self.clone())
    }
}

async fn answer(State(server): State<Server>) -> StatusCode {
    server.calls.fetch_add(1, Ordering::Relaxed);
    server.gate.acquire().await.unwrap().forget();
    server.status
}

async fn listen(mesh: &Mesh, app: Router) -> SocketAddr {
    let listener = mesh.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr();
    tokio::spawn(listener.serve(app.layer(mesh.inbound_layer())));
    address
}

fn to(address: SocketAddr) -> Request<Body> {
    let request = Request::get(format!("http://{address}/"));
    request.body(Body::empty()).unwrap()
}

fn hourly(tokens: u32) -> Rate {
    Rate::new(tokens, 1, Duration::from_secs(3_600)).unwrap()
}

#[tokio::test]
async fn a_rate_limit_at_the_door_answers_429_and_one_around_a_client_sends_nothing() {
    let mesh = Mesh::builder().start().await.unwrap();
    let server = Server::answering(StatusCode::OK);
    let door = Arc::new(RateLimit::new().total(hourly(3)));
    let limited = server.app().layer(InboundRateLimitLayer::new(door));
    let address = listen(&mesh, limited).await;

    let tenant = HeaderName::from_static("x-tenant");
    let own = RateLimit::new().per_header(tenant, hourly(2), NonZeroU32::new(10).unwrap());
    let client = RateLimitLayer::new(Arc::new(own)).layer(mesh.client());
    let send = async |tenant: &'static str| {
        let mut request = to(address);
        request
            .headers_mut()
            .insert("x-tenant", tenant.parse().unwrap());
        client.clone().oneshot(request).await
    };
    for _ in 0..2 {
        assert_eq!(send("a").await.unwrap().status(), 200);
    }
    assert!(send("a").await.unwrap_err().is_rate_limited());
    assert_eq!(server.calls(), 2, "the third was not sent");
    assert_eq!(send("b").await.unwrap().status(), 200);
    let refused = send("b").await.unwrap();
    assert_eq!(refused.status(), 429);
    let text = refused.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "local_rate_limited");
    assert_eq!(server.calls(), 3);
    mesh.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn an_adaptive_limit_around_a_client_sheds_what_is_too_much_at_once() {
    let mesh = Mesh::builder().start().await.unwrap();
    let server = Server::gated();
    let address = listen(&mesh, server.app()).await;
    let one = Adaptive {
        min: 1,
        initial: 1,
        max: 1,
        ..Adaptive::default()
    };
    let layer = ConcurrencyLayer::new(Arc::new(Concurrency::new(one).unwrap()));
    let client = layer.layer(mesh.client());
    let held = tokio::spawn(client.clone().oneshot(to(address)));
    // Until the first has arrived.
    while server.calls() == 0 {
        tokio::task::yield_now().await;
    }
    let error = client.clone().oneshot(to(address)).await.unwrap_err();
    assert!(error.is_overloaded());
    server.gate.add_permits(2);
    drop(held.await.unwrap().unwrap());
    assert_eq!(client.oneshot(to(address)).await.unwrap().status(), 200);
    assert_eq!(server.calls(), 2);
    mesh.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn admission_control_around_a_client_spares_a_server_that_refuses_all() {
    let mesh = Mesh::builder().start().await.unwrap();
    let server = Server::answering(StatusCode::SERVICE_UNAVAILABLE);
    let address = listen(&mesh, server.app()).await;
    let throttle = Throttle::new(Admission::default(), Random::seeded(1)).unwrap();
    let throttle = Arc::new(throttle);
    let client = AdmissionLayer::new(throttle.clone()).layer(mesh.client());
    for _ in 0..300 {
        match client.clone().oneshot(to(address)).await {
            Ok(response) => assert_eq!(response.status(), 503),
            Err(error) => assert!(error.is_overloaded()),
        }
    }
    assert_eq!(u64::from(server.calls()) + throttle.rejected(), 300);
    // A fifth, the first few and 3 sigma (21) more or less.
    assert!((45..=100).contains(&server.calls()), "{}", server.calls());
    mesh.shutdown(Duration::ZERO).await;
}
