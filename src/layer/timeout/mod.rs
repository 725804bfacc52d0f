//! Gives up in time.
//!
//! [`Timeout`] bounds the time until the response's headers: what follows them is a stream that
//! may rightly last for hours, and cutting it after it was handed on would turn a slow success
//! into a broken body. (A total limit for a whole call is the caller's deadline, see
//! [`deadline`](super::deadline).)
//!
//! tower has such a layer. This one exists because its error is [`Error`], so that a
//! [`Retry`](super::retry) above it and the caller can tell a timeout from other failures, and
//! because the inner future is dropped on time: dropping it is what cancels the request.
//!
//! ```
//! use std::time::Duration;
//! use meshwork::{Body, Error, layer::timeout::TimeoutLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new(Duration::from_millis(5)))
//!     .service(service_fn(|_: http::Request<Body>| async {
//!         std::future::pending::<Result<http::Response<Body>, Error>>().await
//!     }));
//! let error = service.oneshot(http::Request::default()).await.unwrap_err();
//! assert!(error.is_timeout());
//! # }
//! ```

use std::task::{Context, Poll};
use std::time::Duration;

use tower_service::Service;

use crate::error::{BoxError, Error};

mod future;
mod layer;

pub use future::ResponseFuture;
pub(crate) use future::Within;
pub use layer::TimeoutLayer;

/// A service whose calls fail when they take too long; made by [`TimeoutLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Timeout<S> {
    inner: S,
    after: Duration,
}

impl<S> Timeout<S> {
    /// Wraps `inner`; see [`TimeoutLayer::new`] for `after`.
    pub fn new(inner: S, after: Duration) -> Self {
        Self { inner, after }
    }
}

impl<S, Request> Service<Request> for Timeout<S>
where
    S: Service<Request>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Error::from_inner)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        ResponseFuture::new(self.inner.call(request), self.after)
    }
}
