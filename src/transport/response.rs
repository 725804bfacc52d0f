//! A response body that ends what its request began.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::lease::Lease;
use crate::body::Body;
use crate::error::{BoxError, Error, Kind};

/// How a response ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum End {
    /// It broke off: the connection was lost, or the peer reset the stream.
    Broken,
    /// The whole of it was read.
    Complete,
    /// The caller dropped it before its end.
    Dropped,
}

/// What a caller holds for as long as a response lasts: permits, counters, spans.
///
/// It is told how the response ended and dropped right after that, even if the body lives on. A
/// request that gets no response drops its guard without a call.
///
/// ```
/// use meshwork::transport::{End, Guard};
///
/// struct Log;
/// impl Guard for Log {
///     fn ended(&mut self, end: End) {
///         println!("{end:?}");
///     }
/// }
/// ```
pub trait Guard: Send + 'static {
    /// The response is over. Called at most once.
    fn ended(&mut self, end: End) {
        let _ = end;
    }
}

/// Nothing to hold.
impl Guard for () {}

/// The body of a response with what it keeps alive.
struct Guarded<B, G: Guard> {
    body: B,
    held: Option<Held<G>>,
}

struct Held<G: Guard> {
    guard: G,
    lease: Option<Lease>,
}

impl<G: Guard> Held<G> {
    fn end(mut self, end: End) {
        if let (Some(lease), End::Complete) = (self.lease.take(), end) {
            lease.complete();
        }
        self.guard.ended(end);
    }
}

/// Ties `lease` and `guard` to the body of `response`: one allocation, none if the body is empty.
pub(super) fn guarded<B, G>(response: Response<B>, lease: Option<Lease>, guard: G) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    G: Guard,
{
    let held = Held { guard, lease };
    response.map(|body| {
        if body.is_end_stream() {
            held.end(End::Complete);
            return Body::empty();
        }
        let held = Some(held);
        Body::new(Guarded { body, held })
    })
}

// Nothing in it is pinned but the body, which does not care.
impl<B: Unpin, G: Guard> Unpin for Guarded<B, G> {}

impl<B, G> HttpBody for Guarded<B, G>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
    G: Guard,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let end = match &frame {
            Some(Ok(frame)) if frame.is_trailers() || self.body.is_end_stream() => {
                Some(End::Complete)
            }
            Some(Ok(_)) => None,
            Some(Err(_)) => Some(End::Broken),
            None => Some(End::Complete),
        };
        if let Some(end) = end
            && let Some(held) = self.held.take()
        {
            held.end(end);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B, G: Guard> Drop for Guarded<B, G> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            held.end(End::Dropped);
        }
    }
}

impl<B, G: Guard> fmt::Debug for Guarded<B, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("ended", &self.held.is_none())
            .finish_non_exhaustive()
    }
}

fn broken(error: impl Into<BoxError>) -> Error {
    match error.into().downcast::<Error>() {
        Ok(own) => *own,
        Err(cause) => Error::new(Kind::Body).caused_by(cause),
    }
}
