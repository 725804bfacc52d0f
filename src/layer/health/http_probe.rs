//! What does it answer?

use std::fmt;
use std::future::poll_fn;
use std::ops::RangeInclusive;

use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use tower_service::Service;

use super::{Ending, Probe, Verdict, read};
use crate::body::Body;

/// Envoy's way for an endpoint to say, with any answer, that it is going away.
const FAIL_NOW: &str = "x-envoy-immediate-health-check-fail";

/// Healthy if a request is answered with an expected status.
///
/// Method, target (path, authority) and headers are those of the request given; its body is empty.
/// By default exactly 200 is healthy and every other status unhealthy, as in Envoy. No answer, or one
/// that breaks off within its first 64 KiB, is unanswered. An answer with the header
/// `x-envoy-immediate-health-check-fail` is unhealthy whatever its status.
///
/// ```
/// use http::{Request, StatusCode};
/// use meshwork::layer::health::HttpProbe;
///
/// # fn probe<S>(endpoint: S) -> http::Result<HttpProbe<S>> {
/// let request = Request::get("http://catalog/healthz").header("user-agent", "checks").body(())?;
/// Ok(HttpProbe::new(endpoint, request)
///     // As the kubelet: 200 to 399 is well, and nothing else is taken at its word.
///     .expected([StatusCode::OK..=StatusCode::from_u16(399).unwrap()])
///     .retriable([StatusCode::BAD_REQUEST..=StatusCode::from_u16(599).unwrap()]))
/// # }
/// ```
#[derive(Clone)]
pub struct HttpProbe<S> {
    service: S,
    request: Request<()>,
    expected: Vec<RangeInclusive<StatusCode>>,
    retriable: Vec<RangeInclusive<StatusCode>>,
}

impl<S> HttpProbe<S> {
    /// A probe that sends `request` through `service`.
    pub fn new(service: S, request: Request<()>) -> Self {
        Self {
            service,
            request,
            expected: vec![StatusCode::OK..=StatusCode::OK],
            retriable: Vec::new(),
        }
    }

    /// Replaces the statuses that are healthy (`expected_statuses`; note that Envoy's ranges
    /// exclude their end).
    #[must_use]
    pub fn expected<I>(mut self, statuses: I) -> Self
    where
        I: IntoIterator<Item = RangeInclusive<StatusCode>>,
    {
        self.expected = statuses.into_iter().collect();
        self
    }

    /// Replaces the statuses that count as unanswered (`retriable_statuses`). Those that are
    /// expected as well are healthy.
    #[must_use]
    pub fn retriable<I>(mut self, statuses: I) -> Self
    where
        I: IntoIterator<Item = RangeInclusive<StatusCode>>,
    {
        self.retriable = statuses.into_iter().collect();
        self
    }

    fn judge<B>(&self, response: &Response<B>) -> Verdict {
        let within = |ranges: &[RangeInclusive<StatusCode>]| {
            ranges
                .iter()
                .any(|range| range.contains(&response.status()))
        };
        if response.headers().contains_key(FAIL_NOW) {
            Verdict::Unhealthy
        } else if within(&self.expected) {
            Verdict::Healthy
        } else if within(&self.retriable) {
            Verdict::Unanswered
        } else {
            Verdict::Unhealthy
        }
    }
}

impl<S, R> Probe for HttpProbe<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Send,
    S::Future: Send,
    S::Error: Send,
    R: HttpBody + Send,
    R::Data: Send,
    R::Error: Send,
{
    async fn probe(&mut self) -> Verdict {
        let ready = poll_fn(|cx| self.service.poll_ready(cx)).await;
        if ready.is_err() {
            return Verdict::Unanswered;
        }
        let request = self.request.clone().map(|()| Body::empty());
        let Ok(response) = self.service.call(request).await else {
            return Verdict::Unanswered;
        };
        let verdict = self.judge(&response);
        match read(response.into_body()).await {
            Ending::Complete { .. } | Ending::TooLong => verdict,
            Ending::Broken => Verdict::Unanswered,
        }
    }
}

impl<S> fmt::Debug for HttpProbe<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpProbe")
            .field("request", &self.request)
            .field("expected", &self.expected)
            .field("retriable", &self.retriable)
            .finish_non_exhaustive()
    }
}
