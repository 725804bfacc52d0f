//! What the bench config asks of every call, written out by hand for one endpoint: no routes are
//! compared, nothing is chosen, no failure is looked at, no configuration can change.
//!
//! A channel has one type for all calls, so the future and the bodies are behind pointers. Retries are
//! armed, so the head is kept. The callee is told the attempt and the time that is left. What is
//! under way is counted until the last byte, and so is what has been. The clock is read at both ends.
//! Whoever does this and decides something needs more.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame};
use meshwork::Body;
use tokio::time::Instant;
use tower_service::Service;

use crate::bare::NoOp;
use crate::call::RequestBody;
use crate::scenario;

const ATTEMPT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const EXPECTED: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The service, with what it counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByHand(Arc<Counts>);

/// Calls, tries, successes, the time of all calls; and what is under way, by limit and by endpoint.
#[derive(Debug, Default)]
struct Counts {
    been: [AtomicU64; 4],
    under_way: [AtomicU64; 3],
}

/// What is under way until it is dropped.
struct UnderWay {
    counts: Arc<Counts>,
    began: Instant,
}

impl UnderWay {
    fn new(counts: Arc<Counts>, began: Instant) -> Self {
        for count in &counts.under_way {
            count.fetch_add(1, Ordering::AcqRel);
        }
        Self { counts, began }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        for count in &self.counts.under_way {
            count.fetch_sub(1, Ordering::AcqRel);
        }
        let took = self.began.elapsed().as_nanos() as u64;
        for (count, by) in self.counts.been.iter().zip([1, 1, 1, took]) {
            count.fetch_add(by, Ordering::Relaxed);
        }
    }
}

/// A body that is counted until it ends.
struct Counted {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = meshwork::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, meshwork::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

type Answered = Result<Response<Body>, Infallible>;

impl Service<Request<RequestBody>> for ByHand {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answered> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let counts = self.0.clone();
        let mut request = request.map(Body::new);
        Box::pin(async move {
            let under_way = UnderWay::new(counts, Instant::now());
            let kept = (
                request.method().clone(),
                request.uri().clone(),
                request.headers().clone(),
            );
            let headers = request.headers_mut();
            headers.insert(ATTEMPT, HeaderValue::from_static("1"));
            headers.insert(EXPECTED, HeaderValue::from_static("2000"));
            headers.insert(TIMEOUT, HeaderValue::from_static("2000m"));
            let answer = tokio::time::timeout(scenario::TIMEOUT, NoOp.call(request)).await;
            drop(kept);
            let response = answer.unwrap_or_else(|_| Ok(late()))?;
            Ok(response.map(|body| {
                Body::new(Counted {
                    body,
                    _under_way: under_way,
                })
            }))
        })
    }
}

/// An endpoint that answers at once is never late, but the deadline has to be looked at.
fn late() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = http::StatusCode::GATEWAY_TIMEOUT;
    response
}
