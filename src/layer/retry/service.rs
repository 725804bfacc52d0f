use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tokio::time::Instant;
use tower_service::Service;

use super::run::{Call, Each, Failed, Try, run};
use super::{Policy, Quota, ResponseFuture};
use crate::body::Body;
use crate::body::replay::Buffers;
use crate::error::{BoxError, Error};
use crate::layer::deadline::{Asked, Context, Deadline};
use crate::random::Random;

/// A service that tries again; made by [`RetryLayer`](super::RetryLayer).
///
/// The first try goes to the instance that was made ready, later ones to clones of it, each made
/// ready first. The call ends at its deadline if it has one: a [`Deadline`] among the request's
/// extensions, the one of the inbound request being served ([`Context::current`]), or what the
/// headers ask for ([`Asked::patience`]). If the headers tell the callee what is left, each try tells
/// it anew. The policy's per-try timeout bounds the time to the headers of each try.
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// What the services of one layer share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) policy: Arc<Policy>,
    pub(super) quota: Arc<Quota>,
    pub(super) random: Random,
    pub(super) buffers: Buffers,
    /// Requests in flight, for quotas that are a share of them.
    pub(super) active: Arc<AtomicU32>,
}

/// Counts a request as active until it is dropped.
struct Active<'a>(&'a AtomicU32);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> Retry<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

impl<S, B, R> Service<Request<B>> for Retry<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = Error;
    type Future = ResponseFuture<R>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Error::from_inner)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        let given: Deadline = request.extensions().get().copied().unwrap_or_default();
        let asked = Asked::of(request.headers())
            .patience
            .map_or(Deadline::NONE, Deadline::after);
        // Looked up here and not in the future, which may be polled by another task.
        let deadline = given.min(Context::current()).min(asked);
        let (shared, mut request) = (self.shared.clone(), request.map(Body::new));
        ResponseFuture::new(async move { call(&shared, ready, &mut request, deadline).await })
    }
}

async fn call<S, R>(
    shared: &Shared,
    mut service: S,
    request: &mut Request<Body>,
    deadline: Deadline,
) -> Result<Response<R>, Error>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
{
    shared.active.fetch_add(1, Ordering::Relaxed);
    let _active = Active(&shared.active);
    let call = Call {
        policy: Some(&shared.policy),
        // Only a policy that tries again is worth a copy: what is inside may not be a connection.
        refusable: false,
        per_try_timeout: shared.policy.per_try_timeout(),
        quota: &shared.quota,
        active_requests: &|| shared.active.load(Ordering::Relaxed),
        now: Instant::now(),
        deadline,
        random: &shared.random,
        buffers: &shared.buffers,
    };
    let mut first = true;
    let mut tries = Each(|mut request: Request<Body>, tried: Try| {
        tried.deadline.announce_anew(request.headers_mut());
        let begun = if std::mem::take(&mut first) {
            Begun::Ready(service.call(request))
        } else {
            Begun::Waiting(service.clone(), request)
        };
        async move {
            let response = match begun {
                Begun::Ready(response) => response,
                Begun::Waiting(mut clone, request) => {
                    poll_fn(|cx| clone.poll_ready(cx)).await.map_err(failed)?;
                    clone.call(request)
                }
            };
            response.await.map_err(failed)
        }
    });
    run(&call, request, &mut tries).await.0
}

/// The first try was made on the readied instance at once, a later one waits for its clone.
#[allow(
    clippy::large_enum_variant,
    reason = "it is a part of a future that is boxed already"
)]
enum Begun<S, F> {
    Ready(F),
    Waiting(S, Request<Body>),
}

fn failed(error: impl Into<BoxError>) -> Failed {
    Error::from_inner(error).into()
}
