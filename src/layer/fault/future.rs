//! The response future.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_service::Service;

use super::{ActivePermit, Hold};
use crate::error::{BoxError, Error};

pin_project! {
    /// The response of [`Faulty`](super::Faulty): waits if the request is held back, then is the
    /// inner response or the injected error. Dropping it ends the delay.
    pub struct ResponseFuture<S, Q>
    where
        S: Service<Q>,
    {
        #[pin]
        state: State<S, Q, S::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, Q, F> {
        Held {
            #[pin]
            delay: Sleep,
            permit: ActivePermit,
            // What happens after the delay; `None` once it has.
            then: Option<Then<S, Q>>,
        },
        Called { #[pin] future: F },
        Aborted { error: Option<Error> },
    }
}

/// What happens after a delay: the instance that was made ready and its request, or an abort.
type Then<S, Q> = Result<(S, Q), Error>;

impl<S: Service<Q>, Q> ResponseFuture<S, Q> {
    pub(super) fn unharmed(future: S::Future) -> Self {
        Self {
            state: State::Called { future },
        }
    }

    pub(super) fn aborted(error: Error) -> Self {
        Self {
            state: State::Aborted { error: Some(error) },
        }
    }

    pub(super) fn held(hold: Hold, then: Then<S, Q>) -> Self {
        Self {
            state: State::Held {
                delay: sleep(hold.duration),
                permit: hold.permit,
                then: Some(then),
            },
        }
    }
}

impl<S: Service<Q>, Q> Future for ResponseFuture<S, Q>
where
    S::Error: Into<BoxError>,
{
    type Output = Result<S::Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            // Replacing the state drops the permit: the request is held back no longer.
            let next = match state.as_mut().project() {
                StateProjection::Held { delay, then, .. } => {
                    ready!(delay.poll(cx));
                    match then.take().expect("the state changes with this") {
                        Ok((mut service, request)) => State::Called {
                            future: service.call(request),
                        },
                        Err(error) => State::Aborted { error: Some(error) },
                    }
                }
                StateProjection::Called { future } => {
                    return future.poll(cx).map_err(Error::from_inner);
                }
                StateProjection::Aborted { error } => {
                    let error = error.take();
                    return Poll::Ready(Err(error.expect("a ready future is not polled again")));
                }
            };
            state.set(next);
        }
    }
}

impl<S: Service<Q>, Q> fmt::Debug for ResponseFuture<S, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
