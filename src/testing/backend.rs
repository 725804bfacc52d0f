//! One endpoint and how it behaves.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use tokio::sync::watch;
use tower_service::Service;

use crate::body::Body;
use crate::error::BoxError;

/// How many of the last requests are kept for [`Backend::seen`].
const SEEN: usize = 1_024;

/// One endpoint of a [`World`](super::World); made by [`World::backend`](super::World::backend).
///
/// Clones are the same endpoint. What it is told holds for requests that arrive from then on, also
/// on connections that are open.
///
/// ```
/// use http::StatusCode;
/// use meshwork::testing::World;
///
/// let world = World::seeded(1);
/// let catalog = world.backend("catalog").subset("v1");
/// catalog.fail_next(2, StatusCode::SERVICE_UNAVAILABLE);   // then it is well again
/// assert_eq!(catalog.requests(), 0);
/// ```
#[derive(Clone)]
pub struct Backend {
    inner: Arc<Inner>,
}

struct Inner {
    host: String,
    address: SocketAddr,
    // Locked for a few assignments, never across an await.
    script: Mutex<Script>,
    /// Whether connections are taken; connections watch it to end with it.
    up: watch::Sender<bool>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;
type Handler = Arc<dyn Fn(Request<Body>) -> Answer + Send + Sync>;

struct Script {
    subset: Option<String>,
    manner: Manner,
    delay: Duration,
    failing: u32,
    failure: StatusCode,
    handler: Handler,
    requests: u64,
    seen: VecDeque<Request<()>>,
}

/// What it does with a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Manner {
    Answer,
    Hang,
    Reset,
}

impl Backend {
    pub(super) fn new(host: String, address: SocketAddr) -> Self {
        let script = Script {
            subset: None,
            manner: Manner::Answer,
            delay: Duration::ZERO,
            failing: 0,
            failure: StatusCode::OK,
            handler: fixed(StatusCode::OK, Bytes::from(host.clone())),
            requests: 0,
            seen: VecDeque::new(),
        };
        Self {
            inner: Arc::new(Inner {
                host,
                address,
                script: Mutex::new(script),
                up: watch::Sender::new(true),
            }),
        }
    }

    /// Makes it one of a DestinationRule's subset, by the name of the subset. Without that it serves
    /// all of them.
    #[must_use]
    pub fn subset(self, name: impl Into<String>) -> Self {
        self.script().subset = Some(name.into());
        self
    }

    /// Answers with this status and no body from here on.
    pub fn status(&self, status: StatusCode) {
        self.script().handler = fixed(status, Bytes::new());
    }

    /// Answers 200 with this body from here on.
    pub fn body(&self, body: impl Into<Bytes>) {
        self.script().handler = fixed(StatusCode::OK, body.into());
    }

    /// Hands requests to a service: an axum `Router`, a tonic `Routes`, a `tower::service_fn`. A
    /// service that returns an error breaks the stream or connection, as a crash would.
    pub fn serve<S, B>(&self, service: S)
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        // A service need not be `Sync`; it is locked to be cloned.
        let service = Mutex::new(service);
        self.script().handler = Arc::new(move |request| {
            let mut service = lock(&service).clone();
            Box::pin(async move {
                poll_fn(|cx| service.poll_ready(cx))
                    .await
                    .map_err(Into::into)?;
                let response = service.call(request).await.map_err(Into::into)?;
                Ok(response.map(Body::new))
            })
        });
    }

    /// Waits this long before it does anything with a request.
    pub fn delay(&self, delay: Duration) {
        self.script().delay = delay;
    }

    /// Answers the next `count` requests with this status, and the others as before.
    pub fn fail_next(&self, count: u32, status: StatusCode) {
        let mut script = self.script();
        script.failing = count;
        script.failure = status;
    }

    /// Takes requests and never answers.
    pub fn hang(&self) {
        self.script().manner = Manner::Hang;
    }

    /// Breaks the stream (HTTP/2) or the connection (HTTP/1.1) of each request.
    pub fn reset(&self) {
        self.script().manner = Manner::Reset;
    }

    /// Refuses connections, and breaks those that are open: the process is gone.
    pub fn down(&self) {
        self.inner.up.send_replace(false);
    }

    /// Takes back [`delay`](Self::delay), [`fail_next`](Self::fail_next), [`hang`](Self::hang),
    /// [`reset`](Self::reset) and [`down`](Self::down); what it answers stays.
    pub fn recover(&self) {
        let mut script = self.script();
        script.manner = Manner::Answer;
        script.delay = Duration::ZERO;
        script.failing = 0;
        drop(script);
        self.inner.up.send_replace(true);
    }

    /// How many requests have arrived.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.script().requests
    }

    /// The heads of the last requests, at most 1,024, in the order in which they arrived.
    #[must_use]
    pub fn seen(&self) -> Vec<Request<()>> {
        self.script().seen.iter().cloned().collect()
    }

    /// The address under which the mesh knows it: in reports, errors and statistics.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// The host as it was given.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.inner.host
    }

    pub(super) fn is_in(&self, subset: &str) -> bool {
        let own = &self.script().subset;
        subset.is_empty() || own.as_deref().is_none_or(|own| own == subset)
    }

    pub(super) fn up(&self) -> watch::Receiver<bool> {
        self.inner.up.subscribe()
    }

    /// Does with a request what it was told.
    pub(super) async fn answer(self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let (manner, delay, handler) = self.script().receive(&request);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match manner {
            Manner::Answer => handler(request).await,
            Manner::Hang => match pending::<Infallible>().await {},
            Manner::Reset => Err("the backend was told to reset".into()),
        }
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.inner.script)
    }
}

impl Script {
    fn receive(&mut self, request: &Request<Body>) -> (Manner, Duration, Handler) {
        self.requests += 1;
        if self.seen.len() == SEEN {
            self.seen.pop_front();
        }
        let mut head = Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.version_mut() = request.version();
        *head.headers_mut() = request.headers().clone();
        self.seen.push_back(head);
        let handler = if self.failing > 0 && self.manner == Manner::Answer {
            self.failing -= 1;
            fixed(self.failure, Bytes::new())
        } else {
            self.handler.clone()
        };
        (self.manner, self.delay, handler)
    }
}

fn fixed(status: StatusCode, body: Bytes) -> Handler {
    Arc::new(move |_| {
        let mut response = Response::new(Body::from(body.clone()));
        *response.status_mut() = status;
        Box::pin(async move { Ok(response) })
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("host", &self.inner.host)
            .field("address", &self.inner.address)
            .finish_non_exhaustive()
    }
}
