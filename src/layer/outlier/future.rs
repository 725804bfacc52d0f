//! The response future.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;

use super::service::Watch;
use crate::error::{BoxError, Error, Kind};
use crate::layer::classify::Outcome;

pin_project! {
    /// The response of [`Ejecting`](super::Ejecting): the inner one, or a fast failure.
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Admitted { #[pin] inner: F, watch: Arc<Watch> },
        Ejected,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn admitted(inner: F, watch: Arc<Watch>) -> Self {
        Self {
            state: State::Admitted { inner, watch },
        }
    }

    pub(super) fn ejected() -> Self {
        Self {
            state: State::Ejected,
        }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<R>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Admitted { inner, watch } => {
                let result = ready!(inner.poll(cx)).map_err(Error::from_inner);
                watch.record(Outcome::of(&result));
                Poll::Ready(result)
            }
            StateProjection::Ejected => Poll::Ready(Err(Error::new(Kind::NoEndpoint))),
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
