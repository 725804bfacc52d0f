use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;

use crate::error::Error;

/// The last response of a [`Retry`](super::Retry), or its last error.
///
/// Dropping it cancels the try that is under way. It is boxed: the loop behind it is an `async fn`,
/// shared with the mesh's own path, and one allocation for a call costs less than a second loop
/// written by hand.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<R> {
    inner: Pin<Box<dyn Future<Output = Result<Response<R>, Error>> + Send>>,
}

impl<R> ResponseFuture<R> {
    pub(super) fn new(
        inner: impl Future<Output = Result<Response<R>, Error>> + Send + 'static,
    ) -> Self {
        Self {
            inner: Box::pin(inner),
        }
    }
}

impl<R> Future for ResponseFuture<R> {
    type Output = Result<Response<R>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl<R> fmt::Debug for ResponseFuture<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
