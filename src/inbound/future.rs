use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::task::futures::TaskLocalFuture;

use crate::layer::deadline::{Context as Inherited, Deadline};
use crate::outbound::{Dialect, Work};
use crate::telemetry::Meter;
use crate::telemetry::trace::{self, Parent, Scoped};

pin_project! {
    /// The future of a request behind the door.
    #[must_use = "futures do nothing unless they are awaited"]
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F> {
        Refused { dialect: Dialect },
        Serving {
            #[pin]
            inner: Scoped<TaskLocalFuture<Deadline, F>>,
            work: Option<Work>,
            meter: Option<Meter>,
        },
    }
}

impl<F: Future> ResponseFuture<F> {
    pub(super) fn refused<B>(request: &Request<B>) -> Self {
        Self {
            state: State::Refused {
                dialect: Dialect::of(request.headers()),
            },
        }
    }

    pub(super) fn serving(
        inner: F,
        (deadline, parent): (Deadline, Option<Parent>),
        work: Work,
        meter: Option<Meter>,
    ) -> Self {
        Self {
            state: State::Serving {
                inner: trace::scope(parent, Inherited::scope(deadline, inner)),
                work: Some(work),
                meter,
            },
        }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Default + HttpBody,
{
    type Output = Result<Response<InboundBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Refused { dialect } => Poll::Ready(Ok(refusal(*dialect))),
            StateProjection::Serving { inner, work, meter } => {
                let response = {
                    let _entered = trace::enter(meter.as_ref().and_then(Meter::span));
                    ready!(inner.poll(cx))
                };
                if let (Some(meter), Ok(response)) = (meter.as_mut(), &response) {
                    meter.answered(response);
                } else if let Some(meter) = meter {
                    meter.broke();
                }
                let (work, mut meter) = (work.take(), meter.take());
                Poll::Ready(response.map(|response| {
                    response.map(|inner| {
                        if inner.is_end_stream() {
                            meter.iter_mut().for_each(Meter::ended);
                            meter = None;
                        }
                        InboundBody { inner, work, meter }
                    })
                }))
            }
        }
    }
}

fn refusal<R: Default>(dialect: Dialect) -> Response<InboundBody<R>> {
    let mut response = Response::new(InboundBody {
        inner: R::default(),
        work: None,
        meter: None,
    });
    match dialect {
        Dialect::Grpc => {
            let headers = response.headers_mut();
            let value = HeaderValue::from_static;
            headers.insert("content-type", value("application/grpc"));
            headers.insert("grpc-status", value("14"));
            headers.insert("grpc-message", value("the server is shutting down"));
        }
        Dialect::Http => *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
    }
    response
}

pin_project! {
    /// A response body that keeps its request counted until it ends.
    #[derive(Debug, Default)]
    pub struct InboundBody<R> {
        #[pin]
        inner: R,
        work: Option<Work>,
        meter: Option<Meter>,
    }
}

impl<R: HttpBody> HttpBody for InboundBody<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        let this = self.project();
        let mut this = this;
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if let Some(meter) = this.meter {
            match &frame {
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, Buf::remaining);
                    meter.received(bytes as u64);
                    frame
                        .trailers_ref()
                        .into_iter()
                        .for_each(|trailers| meter.trailers(trailers));
                }
                Some(Err(_)) => meter.broke(),
                None => meter.ended(),
            }
        }
        if !matches!(frame, Some(Ok(_))) {
            *this.work = None;
        }
        if !matches!(frame, Some(Ok(_))) || this.inner.is_end_stream() {
            // Servers ask for no more of a body that says that it is over.
            this.meter.iter_mut().for_each(Meter::ended);
            *this.meter = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
