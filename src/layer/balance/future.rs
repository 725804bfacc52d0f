//! The response future.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use super::Active;
use super::service::{Member, Shared};
use crate::error::{BoxError, Error, Kind};
use crate::layer::classify::Outcome;
use crate::layer::held::HeldBody;

pin_project! {
    /// The response of [`Balance`](super::Balance): waits until the picked service is ready, calls
    /// it, and counts as its load. Dropping it gives up at any point.
    pub struct ResponseFuture<S, Q>
    where
        S: Service<Q>,
    {
        picked: Option<Picked<S>>,
        #[pin]
        state: State<S, Q, S::Future>,
    }
}

/// Where the request went.
struct Picked<S> {
    shared: Arc<Shared<S>>,
    member: Arc<Member<S>>,
    active: Active,
    began: Instant,
}

pin_project! {
    #[project = StateProjection]
    enum State<S, Q, F> {
        Waiting { service: S, request: Option<Q> },
        Called { #[pin] future: F },
        Nobody,
    }
}

impl<S: Service<Q>, Q> ResponseFuture<S, Q> {
    pub(super) fn picked(
        shared: Arc<Shared<S>>,
        member: Arc<Member<S>>,
        service: S,
        request: Q,
    ) -> Self {
        let active = member.begin();
        Self {
            picked: Some(Picked {
                shared,
                member,
                active,
                began: Instant::now(),
            }),
            state: State::Waiting {
                service,
                request: Some(request),
            },
        }
    }

    pub(super) fn nobody() -> Self {
        Self {
            picked: None,
            state: State::Nobody,
        }
    }
}

impl<S, B, R> Future for ResponseFuture<S, Request<B>>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: http_body::Body,
{
    type Output = Result<Response<HeldBody<R, Active>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let result = loop {
            let future = match this.state.as_mut().project() {
                StateProjection::Waiting { service, request } => {
                    match ready!(service.poll_ready(cx)) {
                        Err(error) => break Err(Error::from_inner(error)),
                        Ok(()) => {
                            let request = request.take();
                            service.call(request.expect("the state changes with this call"))
                        }
                    }
                }
                StateProjection::Called { future } => {
                    break ready!(future.poll(cx)).map_err(Error::from_inner);
                }
                StateProjection::Nobody => return Poll::Ready(Err(Error::new(Kind::NoEndpoint))),
            };
            this.state.set(State::Called { future });
        };
        let picked = this.picked.take();
        let picked = picked.expect("all states but `Nobody` have one, until the future is ready");
        let headers = result.as_ref().ok().map(Response::headers);
        let outcome = Outcome::of(&result);
        picked
            .shared
            .record(&picked.member, outcome, picked.began, headers);
        Poll::Ready(result.map(|response| response.map(|body| HeldBody::new(body, picked.active))))
    }
}

impl<S: Service<Q>, Q> fmt::Debug for ResponseFuture<S, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
