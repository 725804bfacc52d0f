//! The future of a request behind the door.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tokio::task::futures::TaskLocalFuture;
use tower_service::Service;

use super::Held;
use super::answer::{self, Answer};
use super::body::InboundBody;
use super::judge::{Asking, Passed};
use super::lasting::Offer;
use super::recheck::Recheck;
use crate::error::BoxError;
use crate::filter::{self, Running};
use crate::layer::deadline::{Context as Inherited, Deadline};
use crate::telemetry::Meter;
use crate::telemetry::trace::{self, Parent, Scoped};

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
        Answered {
            answer: Option<Answer>,
            meter: Option<Meter>,
        },
        Asking {
            asking: Asking,
            // Taken when the handler is called.
            rest: Option<(S, B, Under, Held)>,
        },
        Serving {
            #[pin]
            inner: Scoped<TaskLocalFuture<Deadline, F>>,
            watch: Option<Box<Recheck>>,
            to_caller: HeaderMap,
            filters: Arc<[Arc<dyn Running>]>,
            held: Option<Held>,
        },
        Over,
    }
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    pub(super) fn answered(answer: Answer, meter: Option<Meter>) -> Self {
        let answer = Some(answer);
        Self {
            state: State::Answered { answer, meter },
        }
    }

    pub(super) fn asking(asking: Asking, ready: S, body: B, under: Under, held: Held) -> Self {
        Self {
            state: State::Asking {
                asking,
                rest: Some((ready, body, under, held)),
            },
        }
    }

    pub(super) fn serving(inner: S::Future, passed: Passed, under: Under, held: Held) -> Self {
        Self {
            state: serving(inner, passed, under, held),
        }
    }
}

/// What a handler runs under: the caller's deadline and trace.
type Under = (Deadline, Option<Parent>);

fn serving<S, F: Future, B>(
    inner: F,
    passed: Passed,
    (deadline, parent): Under,
    held: Held,
) -> State<S, F, B> {
    State::Serving {
        inner: trace::scope(parent, Inherited::scope(deadline, inner)),
        watch: Some(passed.watch),
        to_caller: passed.to_caller,
        filters: passed.filters,
        held: Some(held),
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
                StateProjection::Answered { answer, meter } => match answer.take() {
                    Some(answer) => return Poll::Ready(Ok(response(answer, meter.take()))),
                    // Polled after it was ready: there is nothing more to say.
                    None => return Poll::Pending,
                },
                StateProjection::Asking { asking, rest } => {
                    let judged = ready!(asking.poll(cx));
                    match (judged, rest.take()) {
                        (Ok((parts, passed)), Some((mut ready, body, under, held))) => {
                            let inner = ready.call(Request::from_parts(parts, body));
                            serving(inner, passed, under, held)
                        }
                        (Err(answer), rest) => {
                            let meter = rest.and_then(|(_, _, _, held)| held.meter);
                            return Poll::Ready(Ok(response(answer, meter)));
                        }
                        (Ok(_), None) => State::Over,
                    }
                }
                StateProjection::Serving {
                    inner,
                    watch,
                    to_caller,
                    filters,
                    held,
                } => match traced(held.as_ref(), inner, cx) {
                    Poll::Ready(result) => {
                        let (watch, held) = (watch.take(), held.take());
                        let added = std::mem::take(to_caller);
                        let filters = std::mem::take(filters);
                        state.set(State::Over);
                        return Poll::Ready(result_of(result, watch, held, added, &filters));
                    }
                    Poll::Pending => {
                        let denied = watch.as_mut().and_then(|watch| watch.denied_now(cx));
                        let Some(dialect) = denied else {
                            return Poll::Pending;
                        };
                        State::Answered {
                            answer: Some(answer::denied(dialect)),
                            meter: held.take().and_then(|held| held.meter),
                        }
                    }
                },
                StateProjection::Over => return Poll::Pending,
            };
            state.set(next);
        }
    }
}

/// What becomes of what a handler says.
fn result_of<R, E>(
    result: Result<Response<R>, E>,
    mut watch: Option<Box<Recheck>>,
    mut held: Option<Held>,
    added: HeaderMap,
    filters: &[Arc<dyn Running>],
) -> Result<Response<InboundBody<R>>, E>
where
    R: HttpBody,
{
    let offer = held.as_ref().map_or(&Offer::Elsewhere, |held| &held.offer);
    if let Ok(exceeding) = &result
        && offer.is_exceeded_by(exceeding)
    {
        let status = exceeding.status().as_u16();
        tracing::debug!(
            status,
            "the handler switches protocols, which is not offered"
        );
        let mut meter = held.and_then(|held| held.meter);
        if let Some(meter) = &mut meter {
            meter.refused(answer::UNASKED);
        }
        return Ok(response(answer::unasked(), meter));
    }
    let meter = held.as_mut().and_then(|held| held.meter.as_mut());
    match (&result, meter) {
        (Ok(response), Some(meter)) => meter.answered(response),
        (Err(_), Some(meter)) => meter.broke(),
        (Ok(_) | Err(_), None) => {}
    }
    let mut response = result?;
    response.headers_mut().extend(added);
    if !filters.is_empty() {
        let (mut head, body) = response.into_parts();
        filter::response(filters, &mut head);
        response = Response::from_parts(head, body);
    }
    // Taken out: what the keeper keeps must not keep the keeper.
    let offer = held
        .as_mut()
        .map(|held| std::mem::replace(&mut held.offer, Offer::Elsewhere));
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(Offer::Made(keeper)) = offer
    {
        keeper.keep(watch.take(), held.take());
    }
    Ok(response.map(|inner| InboundBody::handler(inner, watch, held)))
}

/// Polls a handler under the span of its request.
fn traced<F: Future>(
    held: Option<&Held>,
    handler: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    let meter = held.and_then(|held| held.meter.as_ref());
    let _entered = trace::enter(meter.and_then(Meter::span));
    handler.poll(cx)
}

/// The door's own answers are measured as they are made: they are short and break off nowhere.
fn response<R>(answer: Answer, meter: Option<Meter>) -> Response<InboundBody<R>> {
    let bytes = answer.text.len() as u64;
    let mut response = Response::new(InboundBody::door(answer.text));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    if let Some(mut meter) = meter {
        meter.answered(&response);
        meter.received(bytes);
        meter.ended();
    }
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
