//! An inner service that insists on tower's contract: whoever is called must have been ready, and
//! a clone has not been.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use meshwork::BoxError;
use tokio::sync::Notify;
use tower::Service;

pub type Reply = Result<Response<Full<Bytes>>, BoxError>;
type Answer = Arc<dyn Fn() -> Reply + Send + Sync>;

/// Answers as it is told to, and knows how often it was called.
#[derive(Clone)]
pub struct Strict {
    shared: Arc<Shared>,
    readied: Readied,
}

struct Shared {
    answer: Answer,
    calls: AtomicUsize,
    /// Whether `poll_ready` is ready.
    ready: AtomicBool,
    waiting: std::sync::Mutex<Vec<std::task::Waker>>,
    /// Responses wait for this while it is there.
    gate: Option<Notify>,
}

/// Lost by cloning.
struct Readied(bool);

impl Clone for Readied {
    fn clone(&self) -> Self {
        Self(false)
    }
}

impl Strict {
    fn build(answer: Answer, gate: Option<Notify>) -> Self {
        Self {
            shared: Arc::new(Shared {
                answer,
                calls: AtomicUsize::new(0),
                ready: AtomicBool::new(true),
                waiting: std::sync::Mutex::default(),
                gate,
            }),
            readied: Readied(false),
        }
    }

    /// Answers at once.
    pub fn new(answer: impl Fn() -> Reply + Send + Sync + 'static) -> Self {
        Self::build(Arc::new(answer), None)
    }

    /// Answers with this status and body.
    pub fn status(status: u16, body: &'static str) -> Self {
        Self::new(move || Ok(response(status, body)))
    }

    /// Answers 200 and "ok" to one call for each [`Strict::open`].
    pub fn gated() -> Self {
        Self::build(Arc::new(|| Ok(response(200, "ok"))), Some(Notify::new()))
    }

    pub fn open(&self) {
        self.shared.gate.as_ref().unwrap().notify_one();
    }

    pub fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::SeqCst)
    }

    pub fn set_ready(&self, ready: bool) {
        self.shared.ready.store(ready, Ordering::SeqCst);
        if ready {
            let mut waiting = self.shared.waiting.lock().unwrap();
            waiting.drain(..).for_each(std::task::Waker::wake);
        }
    }
}

pub fn response(status: u16, body: &'static str) -> Response<Full<Bytes>> {
    let body = Full::new(Bytes::from_static(body.as_bytes()));
    Response::builder().status(status).body(body).unwrap()
}

pub fn request() -> Request<()> {
    Request::new(())
}

impl Service<Request<()>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Reply> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.shared.waiting.lock().unwrap().push(cx.waker().clone());
        if !self.shared.ready.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        self.readied.0 = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.readied.0),
            "called without having been ready"
        );
        let shared = self.shared.clone();
        shared.calls.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if let Some(gate) = &shared.gate {
                gate.notified().await;
            }
            (shared.answer)()
        })
    }
}

/// The parts of tower's contract that every layer has to keep, over a [`Strict`] inner service.
pub async fn assert_contract<S, R>(wrap: impl Fn(Strict) -> S)
where
    S: Service<Request<()>, Response = Response<R>, Error = meshwork::Error>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    use tower::ServiceExt;

    // The readied instance is called, by the original and by its clones.
    let inner = Strict::status(200, "ok");
    let mut service = wrap(inner.clone());
    for _ in 0..3 {
        let mut clone = service.clone();
        assert!(service.ready().await.unwrap().call(request()).await.is_ok());
        assert!(clone.ready().await.unwrap().call(request()).await.is_ok());
    }
    assert_eq!(inner.calls(), 6);

    // Whoever waits for readiness is woken, be it in `poll_ready` or in the response.
    inner.set_ready(false);
    let mut waiting = tokio_test::task::spawn(service.clone().oneshot(request()));
    assert!(waiting.poll().is_pending());
    inner.set_ready(true);
    assert!(waiting.is_woken());
    assert!(matches!(waiting.poll(), Poll::Ready(Ok(_))));

    // An error of ours passes unchanged; any other becomes the cause.
    let own = Strict::new(|| Err(meshwork_error().into()));
    let error = wrap(own).oneshot(request()).await.err().unwrap();
    assert!(error.is_overloaded());
    let foreign = Strict::new(|| Err("lost".into()));
    let error = wrap(foreign).oneshot(request()).await.err().unwrap();
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "lost");
}

/// Some error of ours.
fn meshwork_error() -> meshwork::Error {
    use meshwork::layer::limit::Limits;
    use meshwork::model;

    let none = model::limit::Limits {
        requests: 0,
        ..Default::default()
    };
    Arc::new(Limits::new(&none)).request().unwrap_err().into()
}
