use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::Deadline;
use crate::error::{BoxError, Error};
use crate::layer::timeout::Within;

pin_project! {
    /// The response of a [`WithDeadline`](super::WithDeadline), or its error.
    ///
    /// Dropping it drops the inner future: the call is cancelled.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
        deadline: Deadline,
    }
}

pin_project! {
    #[project = StateProjected]
    #[derive(Debug)]
    enum State<F> {
        /// The deadline was over before the call was made.
        Over,
        Under { #[pin] inner: Within<F> },
    }
}

impl<F: Future> ResponseFuture<F> {
    pub(super) fn over(deadline: Deadline) -> Self {
        Self {
            state: State::Over,
            deadline,
        }
    }

    pub(super) fn under(deadline: Deadline, inner: F) -> Self {
        Self {
            state: State::Under {
                inner: Within::new(inner, deadline.at()),
            },
            deadline,
        }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = match this.state.project() {
            StateProjected::Over => None,
            StateProjected::Under { inner } => ready!(inner.poll(cx)),
        };
        Poll::Ready(match result {
            Some(result) => result.map_err(Error::from_inner),
            None => Err(this.deadline.error()),
        })
    }
}
