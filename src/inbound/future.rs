//! The future of a request behind the door.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tokio::task::futures::TaskLocalFuture;
use tower_service::Service;

use super::answer::{self, Answer};
use super::body::InboundBody;
use super::judge::{Asking, Passed};
use super::recheck::Recheck;
use crate::error::BoxError;
use crate::layer::deadline::{Context as Inherited, Deadline};
use crate::outbound::Work;

pin_project! {
    /// The response to a request behind the door: the handler's, or the door's own.
    ///
    /// Dropping it drops the handler's future and whatever is still being asked.
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, S::Future, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, F, B> {
        Answered { answer: Option<Answer> },
        Asking {
            asking: Asking,
            // Taken when the handler is called.
            rest: Option<(S, B, Work)>,
            deadline: Deadline,
        },
        Serving {
            #[pin]
            inner: TaskLocalFuture<Deadline, F>,
            watch: Option<Recheck>,
            to_caller: HeaderMap,
            work: Option<Work>,
        },
        Over,
    }
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    pub(super) fn answered(answer: Answer) -> Self {
        let answer = Some(answer);
        Self {
            state: State::Answered { answer },
        }
    }

    pub(super) fn asking(
        asking: Asking,
        ready: S,
        body: B,
        deadline: Deadline,
        work: Work,
    ) -> Self {
        Self {
            state: State::Asking {
                asking,
                rest: Some((ready, body, work)),
                deadline,
            },
        }
    }

    pub(super) fn serving(
        inner: S::Future,
        passed: Passed,
        deadline: Deadline,
        work: Work,
    ) -> Self {
        Self {
            state: serving(inner, passed, deadline, work),
        }
    }
}

fn serving<S, F: Future, B>(
    inner: F,
    passed: Passed,
    deadline: Deadline,
    work: Work,
) -> State<S, F, B> {
    State::Serving {
        inner: Inherited::scope(deadline, inner),
        watch: passed.watch,
        to_caller: passed.to_caller,
        work: Some(work),
    }
}

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: HttpBody<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Output = Result<Response<InboundBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Answered { answer } => match answer.take() {
                    Some(answer) => return Poll::Ready(Ok(response(answer))),
                    // Polled after it was ready: there is nothing more to say.
                    None => return Poll::Pending,
                },
                StateProjection::Asking {
                    asking,
                    rest,
                    deadline,
                } => {
                    let judged = ready!(asking.poll(cx));
                    match (judged, rest.take()) {
                        (Ok((parts, passed)), Some((mut ready, body, work))) => {
                            let inner = ready.call(Request::from_parts(parts, body));
                            serving(inner, passed, *deadline, work)
                        }
                        (Err(answer), _) => return Poll::Ready(Ok(response(answer))),
                        (Ok(_), None) => State::Over,
                    }
                }
                StateProjection::Serving {
                    inner,
                    watch,
                    to_caller,
                    work,
                } => match inner.poll(cx) {
                    Poll::Ready(result) => {
                        let (watch, work) = (watch.take(), work.take());
                        let added = std::mem::take(to_caller);
                        state.set(State::Over);
                        let mut response = result?;
                        response.headers_mut().extend(added);
                        let with = |inner| InboundBody::handler(inner, watch, work);
                        return Poll::Ready(Ok(response.map(with)));
                    }
                    Poll::Pending => {
                        let denied = watch.as_mut().and_then(|watch| watch.denied_now(cx));
                        let Some(dialect) = denied else {
                            return Poll::Pending;
                        };
                        State::Answered {
                            answer: Some(answer::denied(dialect)),
                        }
                    }
                },
                StateProjection::Over => return Poll::Pending,
            };
            state.set(next);
        }
    }
}

fn response<R>(answer: Answer) -> Response<InboundBody<R>> {
    let mut response = Response::new(InboundBody::door(answer.text));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
