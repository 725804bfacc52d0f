use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::error::{BoxError, Error, Kind, Whose};

pin_project! {
    /// The response of a [`Timeout`](super::Timeout), or its error.
    ///
    /// Dropping it drops the inner future: the call is cancelled.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Within<F>,
        after: Duration,
    }
}

impl<F: Future> ResponseFuture<F> {
    pub(super) fn new(inner: F, after: Duration) -> Self {
        // A time that the clock cannot express never comes.
        let at = Instant::now().checked_add(after);
        Self {
            inner: Within::new(inner, at),
            after,
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
        Poll::Ready(match ready!(this.inner.poll(cx)) {
            Some(result) => result.map_err(Error::from_inner),
            None => Err(Error::new(Kind::Timeout {
                after: *this.after,
                whose: Whose::Layer,
            })),
        })
    }
}

pin_project! {
    /// A future with or without a last moment; `None` when that has come first.
    ///
    /// Without one there is no timer at all: a timer costs a lock of the runtime's wheel, and most
    /// calls under a mesh have one around the whole call already. tokio's own `Timeout` is used
    /// for its care about the cooperative budget: an inner future that uses it up cannot starve
    /// the timer.
    #[project = WithinProjected]
    #[derive(Debug)]
    pub(crate) enum Within<F> {
        Limited { #[pin] inner: tokio::time::Timeout<F> },
        Unlimited { #[pin] inner: F },
    }
}

impl<F: Future> Within<F> {
    pub(crate) fn new(inner: F, at: Option<Instant>) -> Self {
        match at {
            Some(at) => Self::Limited {
                inner: tokio::time::timeout_at(at, inner),
            },
            None => Self::Unlimited { inner },
        }
    }
}

impl<F: Future> Future for Within<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            WithinProjected::Limited { inner } => inner.poll(cx).map(Result::ok),
            WithinProjected::Unlimited { inner } => inner.poll(cx).map(Some),
        }
    }
}
