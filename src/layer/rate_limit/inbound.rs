//! The serving side: a refusal is an answer.
//!
//! A server has nobody to return an error to, and frameworks such as axum insist on services that
//! cannot fail. So here a refusal is a response, the one that Envoy's local rate limit filter
//! gives, and the inner service's error type stays what it is.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Head, RateLimit};

/// What Envoy says in the body, or in `grpc-message`.
const TEXT: &str = "local_rate_limited";

/// Limits the rate of the requests that a server takes; see [`Answering`].
///
/// All services that one layer (or its clones) makes share the buckets.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use meshwork::layer::rate_limit::{InboundRateLimitLayer, Rate, RateLimit};
///
/// let limit = RateLimit::new().total(Rate::new(100, 50, Duration::from_secs(1))?);
/// let app: axum::Router = axum::Router::new()
///     .route("/", axum::routing::get(|| async { "hello" }))
///     .layer(InboundRateLimitLayer::new(Arc::new(limit)));
/// # Ok::<(), meshwork::layer::rate_limit::InvalidRate>(())
/// ```
#[derive(Clone, Debug)]
pub struct InboundRateLimitLayer {
    limit: Arc<RateLimit>,
}

/// Answers requests for which there is no token without the inner service.
///
/// The answer is that of Envoy's `local_ratelimit` filter with its defaults: status 429 with the
/// body `local_rate_limited` and no further header; for a gRPC request a trailers-only response with
/// `grpc-status: 14` (UNAVAILABLE) and that text as `grpc-message`.
///
/// Readiness and errors are the inner service's.
#[derive(Clone, Debug)]
pub struct Answering<S> {
    inner: S,
    limit: Arc<RateLimit>,
}

pin_project! {
    /// The response of [`Answering`]: the inner one, or a refusal.
    #[must_use = "futures do nothing unless polled"]
    pub struct InboundResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Passed { #[pin] inner: F },
        Refused { grpc: bool },
    }
}

pin_project! {
    /// The inner service's body, or the text of a refusal.
    pub struct AnswerBody<R> {
        #[pin]
        kind: BodyKind<R>,
    }
}

pin_project! {
    #[project = BodyProjection]
    enum BodyKind<R> {
        Inner { #[pin] body: R },
        Text { text: &'static str },
    }
}

impl InboundRateLimitLayer {
    /// A layer that takes its tokens from `limit`, which others may share and read.
    #[must_use]
    pub fn new(limit: Arc<RateLimit>) -> Self {
        Self { limit }
    }
}

impl<S> Layer<S> for InboundRateLimitLayer {
    type Service = Answering<S>;

    fn layer(&self, inner: S) -> Answering<S> {
        Answering {
            inner,
            limit: self.limit.clone(),
        }
    }
}

impl<S, B, R> Service<Request<B>> for Answering<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<AnswerBody<R>>;
    type Error = S::Error;
    type Future = InboundResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let state = match self.limit.check(Head::of(&request)) {
            Ok(()) => State::Passed {
                inner: self.inner.call(request),
            },
            Err(_) => State::Refused {
                grpc: is_grpc(request.headers()),
            },
        };
        InboundResponseFuture { state }
    }
}

impl<F, R, E> Future for InboundResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<AnswerBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match self.project().state.project() {
            StateProjection::Passed { inner } => {
                let response = ready!(inner.poll(cx))?;
                response.map(|body| AnswerBody {
                    kind: BodyKind::Inner { body },
                })
            }
            StateProjection::Refused { grpc } => refusal(*grpc),
        }))
    }
}

/// Whether a content type is gRPC's; `application/grpc-web` is not.
fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = value.and_then(|value| value.strip_prefix(b"application/grpc"));
    matches!(rest, Some([] | [b'+' | b';', ..]))
}

fn refusal<R>(grpc: bool) -> Response<AnswerBody<R>> {
    let text = if grpc { "" } else { TEXT };
    let mut response = Response::new(AnswerBody {
        kind: BodyKind::Text { text },
    });
    let value = HeaderValue::from_static;
    if grpc {
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, value("application/grpc"));
        headers.insert("grpc-status", value("14"));
        headers.insert("grpc-message", value(TEXT));
    } else {
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, value("text/plain"));
    }
    response
}

impl<R: Body<Data = Bytes>> Body for AnswerBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        match self.project().kind.project() {
            BodyProjection::Inner { body } => body.poll_frame(cx),
            BodyProjection::Text { text } => Poll::Ready(match std::mem::take(text) {
                "" => None,
                text => Some(Ok(Frame::data(Bytes::from_static(text.as_bytes())))),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            BodyKind::Inner { body } => body.is_end_stream(),
            BodyKind::Text { text } => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            BodyKind::Inner { body } => body.size_hint(),
            BodyKind::Text { text } => SizeHint::with_exact(text.len() as u64),
        }
    }
}

/// Empty; tonic asks for it.
impl<R> Default for AnswerBody<R> {
    fn default() -> Self {
        Self {
            kind: BodyKind::Text { text: "" },
        }
    }
}

impl<F> fmt::Debug for InboundResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundResponseFuture")
            .finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for AnswerBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            BodyKind::Inner { .. } => f.write_str("AnswerBody(inner)"),
            BodyKind::Text { text } => write!(f, "AnswerBody({text:?})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_from_what_only_begins_like_it() {
        for (value, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]);
            assert_eq!(is_grpc(&headers), grpc, "{value}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
