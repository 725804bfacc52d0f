//! The response future.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;

use super::{Overloaded, Permit};
use crate::error::{BoxError, Error};
use crate::layer::held::HeldBody;

pin_project! {
    /// The response of [`Limited`](super::Limited): the inner one, or a refusal.
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Granted { #[pin] inner: F, permit: Option<Permit> },
        Refused { overloaded: Overloaded },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn granted(inner: F, permit: Permit) -> Self {
        Self {
            state: State::Granted {
                inner,
                permit: Some(permit),
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
            StateProjection::Granted { inner, permit } => {
                let result = ready!(inner.poll(cx));
                let permit = permit
                    .take()
                    .expect("a future is not polled after it was ready");
                Poll::Ready(match result {
                    Ok(response) => Ok(response.map(|body| HeldBody::new(body, permit))),
                    Err(error) => Err(Error::from_inner(error)),
                })
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
