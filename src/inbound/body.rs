//! The body of a response that passes the door.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::answer;
use super::recheck::Recheck;
use crate::error::{BoxError, Error, Kind as ErrorKind};
use crate::outbound::{Dialect, Work};

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
            watch: Option<Recheck>,
            work: Option<Work>,
        },
        Door { text: Bytes },
        Over,
    }
}

impl<R> InboundBody<R> {
    pub(super) fn handler(inner: R, watch: Option<Recheck>, work: Option<Work>) -> Self {
        Self {
            kind: Kind::Handler { inner, watch, work },
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
            KindProjection::Handler { inner, watch, work } => {
                if let Some(dialect) = watch.as_mut().and_then(|watch| watch.denied_now(cx)) {
                    dialect
                } else {
                    let frame = ready!(inner.poll_frame(cx));
                    if !matches!(frame, Some(Ok(_))) {
                        *work = None;
                        *watch = None;
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

impl<R> fmt::Debug for InboundBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundBody").finish_non_exhaustive()
    }
}
