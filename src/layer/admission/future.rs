//! The response future.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;

use super::{Rejected, Ticket};
use crate::error::{BoxError, Error};
use crate::layer::classify::Outcome;

pin_project! {
    /// The response of [`Throttled`](super::Throttled): the inner one, or a rejection.
    ///
    /// Dropping it cancels the call, which counts as a failure.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Admitted { #[pin] inner: F, ticket: Option<Ticket> },
        Rejected { rejected: Rejected },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn admitted(inner: F, ticket: Ticket) -> Self {
        Self {
            state: State::Admitted {
                inner,
                ticket: Some(ticket),
            },
        }
    }

    pub(super) fn rejected(rejected: Rejected) -> Self {
        Self {
            state: State::Rejected { rejected },
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
            StateProjection::Admitted { inner, ticket } => {
                let result = ready!(inner.poll(cx)).map_err(Error::from_inner);
                if let Some(ticket) = ticket.take() {
                    ticket.finish(Outcome::of(&result));
                }
                Poll::Ready(result)
            }
            StateProjection::Rejected { rejected } => Poll::Ready(Err((*rejected).into())),
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
