//! The response future.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;

use super::{Flight, Overloaded};
use crate::error::{BoxError, Error};
use crate::layer::classify::Outcome;
use crate::layer::held::HeldBody;
use crate::layer::limit::Permit;

pin_project! {
    /// The response of [`Adaptive`](super::Adaptive): the inner one, or a refusal.
    ///
    /// Dropping it cancels the call and gives its place back.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Granted { #[pin] inner: F, flight: Option<Flight> },
        Refused { overloaded: Overloaded },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn granted(inner: F, flight: Flight) -> Self {
        Self {
            state: State::Granted {
                inner,
                flight: Some(flight),
            },
        }
    }

    pub(super) fn refused(overloaded: Overloaded) -> Self {
        Self {
            state: State::Refused { overloaded },
        }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
    R: http_body::Body,
{
    type Output = Result<Response<HeldBody<R, Permit>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Granted { inner, flight } => {
                let result = ready!(inner.poll(cx)).map_err(Error::from_inner);
                let flight = flight
                    .take()
                    .expect("a future is not polled after it was ready");
                let permit = flight.finish(Outcome::of(&result));
                Poll::Ready(result.map(|response| response.map(|body| HeldBody::new(body, permit))))
            }
            StateProjection::Refused { overloaded } => Poll::Ready(Err((*overloaded).into())),
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
