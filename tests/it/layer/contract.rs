//! What every layer owes to tower: a kit that each layer's tests call once.
//!
//! [`keep`] wraps a [`Probe`] in the layer and checks that the instance that was made ready is the
//! one that is called, also after a clone; that the waiter for readiness is woken; that dropping
//! the response future drops the inner one; that errors of the inner service arrive as ours.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use meshwork::{Body, BoxError, Error};
use tower::{Layer, Service};

/// An inner service that watches how it is used.
///
/// Readiness belongs to one instance: a clone starts without, as `tower` allows.
#[derive(Debug)]
pub(crate) struct Probe {
    shared: Arc<Shared>,
    ready: bool,
}

#[derive(Debug, Default)]
struct Shared {
    misused: AtomicUsize,
    calls: AtomicUsize,
    in_flight: AtomicUsize,
    /// Whether instances become ready.
    shut: Mutex<Option<Vec<Waker>>>,
}

/// How the kit sees the probe that it gave away.
#[derive(Clone, Debug, Default)]
struct Watch(Arc<Shared>);

impl Watch {
    fn probe(&self) -> Probe {
        Probe {
            shared: self.0.clone(),
            ready: false,
        }
    }

    fn shut(&self) {
        self.0.shut.lock().unwrap().get_or_insert_default();
    }

    fn open(&self) {
        let wakers = self.0.shut.lock().unwrap().take();
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed)
    }

    fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    fn misused(&self) -> usize {
        self.0.misused.load(Ordering::Relaxed)
    }
}

impl Clone for Probe {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            ready: false,
        }
    }
}

/// The path says what the probe does: `/pending` never answers, `/failing` fails with a foreign
/// error, all others are answered with 200.
impl Service<Request<Body>> for Probe {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if let Some(wakers) = &mut *self.shared.shut.lock().unwrap() {
            wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !std::mem::take(&mut self.ready) {
            self.shared.misused.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.calls.fetch_add(1, Ordering::Relaxed);
        self.shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let guard = Guard(self.shared.clone());
        Box::pin(async move {
            let _guard = guard;
            match request.uri().path() {
                "/pending" => std::future::pending().await,
                "/failing" => Err("the probe fails".into()),
                _ => Ok(Response::new(Body::empty())),
            }
        })
    }
}

struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn request(path: &'static str) -> Request<Body> {
    let uri = format!("http://probe{path}");
    Request::builder().uri(uri).body(Body::empty()).unwrap()
}

async fn ready<S>(service: &mut S)
where
    S: Service<Request<Body>, Error = Error>,
{
    poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
}

/// Checks the contract of a layer.
///
/// The response body may be another one than the probe's; the error is ours.
pub(crate) async fn keep<L, B>(layer: L)
where
    L: Layer<Probe>,
    L::Service: Service<Request<Body>, Response = Response<B>, Error = Error>
        + Clone
        + Send
        + Sync
        + 'static,
    <L::Service as Service<Request<Body>>>::Future: Send + 'static,
    B: std::fmt::Debug,
{
    let watch = Watch::default();
    let service = layer.layer(watch.probe());
    the_readied_instance_is_called(&watch, service.clone()).await;
    a_waiter_is_woken(&watch, service.clone());
    dropping_the_future_cancels(&watch, service.clone()).await;
    foreign_errors_become_causes(&watch, service).await;
}

async fn the_readied_instance_is_called<S, B>(watch: &Watch, mut service: S)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Error> + Clone,
{
    for call in 1..=3 {
        ready(&mut service).await;
        let mut clone = service.clone();
        assert!(service.call(request("/")).await.is_ok());
        ready(&mut clone).await;
        assert!(clone.call(request("/")).await.is_ok());
        assert_eq!((watch.calls(), watch.misused()), (2 * call, 0));
    }
}

fn a_waiter_is_woken<S>(watch: &Watch, mut service: S)
where
    S: Service<Request<Body>, Error = Error>,
{
    watch.shut();
    let mut waiting = tokio_test::task::spawn(poll_fn(move |cx| service.poll_ready(cx)));
    assert!(waiting.poll().is_pending());
    watch.open();
    assert!(waiting.is_woken());
    assert!(matches!(waiting.poll(), Poll::Ready(Ok(()))));
}

async fn dropping_the_future_cancels<S>(watch: &Watch, mut service: S)
where
    S: Service<Request<Body>, Error = Error>,
{
    ready(&mut service).await;
    let mut response = tokio_test::task::spawn(service.call(request("/pending")));
    assert!(response.poll().is_pending());
    assert_eq!(watch.in_flight(), 1);
    drop(response);
    assert_eq!((watch.in_flight(), watch.misused()), (0, 0));
}

async fn foreign_errors_become_causes<S, B>(watch: &Watch, mut service: S)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Error>,
    B: std::fmt::Debug,
{
    ready(&mut service).await;
    let error = service.call(request("/failing")).await.unwrap_err();
    let cause = std::error::Error::source(&error).expect("the probe's error is the cause");
    assert_eq!(cause.to_string(), "the probe fails");
    assert_eq!(watch.misused(), 0);
}
