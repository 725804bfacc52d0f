//! The body of a response that passes the door.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Held;
use super::answer;
use super::recheck::Recheck;
use crate::error::{BoxError, Error, Kind as ErrorKind};
use crate::outbound::Dialect;

pin_project! {
    /// A response body that keeps its request counted until it ends, and ends early when policies
    /// deny the request by then.
    pub struct InboundBody<R> {
        #[pin]
        kind: Kind<R>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<R> {
        Handler {
            #[pin]
            inner: R,
            watch: Option<Box<Recheck>>,
            held: Option<Held>,
        },
        Door { text: Bytes },
        Over,
    }
}

impl<R> InboundBody<R> {
    pub(super) fn handler(inner: R, watch: Option<Box<Recheck>>, held: Option<Held>) -> Self
    where
        R: HttpBody,
    {
        let mut held = held;
        if inner.is_end_stream() {
            ended(&mut held);
        }
        Self {
            kind: Kind::Handler { inner, watch, held },
        }
    }

    pub(super) fn door(text: Bytes) -> Self {
        Self {
            kind: Kind::Door { text },
        }
    }
}

/// Empty; tonic asks for it.
impl<R> Default for InboundBody<R> {
    fn default() -> Self {
        Self { kind: Kind::Over }
    }
}

impl<R> HttpBody for InboundBody<R>
where
    R: HttpBody<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let denied = match self.as_mut().project().kind.project() {
            KindProjection::Handler {
                mut inner,
                watch,
                held,
            } => {
                if let Some(dialect) = watch.as_mut().and_then(|watch| watch.denied_now(cx)) {
                    if let Some(meter) = held.as_mut().and_then(|held| held.meter.as_mut()) {
                        meter.broke();
                    }
                    dialect
                } else {
                    let frame = ready!(inner.as_mut().poll_frame(cx));
                    measure(held, &frame);
                    if !matches!(frame, Some(Ok(_))) {
                        *held = None;
                        *watch = None;
                    } else if inner.is_end_stream() {
                        // Servers ask for no more of a body that says that it is over.
                        ended(held);
                    }
                    return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
                }
            }
            KindProjection::Door { text } => {
                let text = std::mem::take(text);
                return Poll::Ready((!text.is_empty()).then(|| Ok(Frame::data(text))));
            }
            KindProjection::Over => return Poll::Ready(None),
        };
        // Dropped here, the handler's own stream learns of the end.
        self.project().kind.set(Kind::Over);
        Poll::Ready(Some(match denied {
            Dialect::Grpc => Ok(Frame::trailers(answer::denied_trailers())),
            Dialect::Http => Err(Error::new(ErrorKind::Denied).into()),
        }))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Handler { inner, .. } => inner.is_end_stream(),
            Kind::Door { text } => text.is_empty(),
            Kind::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Handler { inner, .. } => inner.size_hint(),
            Kind::Door { text } => SizeHint::with_exact(text.len() as u64),
            Kind::Over => SizeHint::with_exact(0),
        }
    }
}

/// Measures what a body yields.
fn measure<E>(held: &mut Option<Held>, frame: &Option<Result<Frame<Bytes>, E>>) {
    let Some(meter) = held.as_mut().and_then(|held| held.meter.as_mut()) else {
        return;
    };
    match frame {
        Some(Ok(frame)) => {
            meter.received(frame.data_ref().map_or(0, Bytes::len) as u64);
            if let Some(trailers) = frame.trailers_ref() {
                meter.trailers(trailers);
            }
        }
        Some(Err(_)) => meter.broke(),
        None => {
            meter.ended();
        }
    }
}

/// The body is over, whether or not anybody asks it for its end.
fn ended(held: &mut Option<Held>) {
    if let Some(mut meter) = held.as_mut().and_then(|held| held.meter.take()) {
        meter.ended();
    }
}

impl<R> fmt::Debug for InboundBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundBody").finish_non_exhaustive()
    }
}
