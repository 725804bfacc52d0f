//! A response body that ends what its request began.

use std::any::Any;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::lease::Lease;
use crate::body::{Body, Keep};
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
/// use std::pin::Pin;
/// use meshwork::transport::{End, Guard};
///
/// struct Log;
/// impl Guard for Log {
///     fn ended(self: Pin<&mut Self>, end: End) {
///         println!("{end:?}");
///     }
/// }
/// ```
pub trait Guard: Send + 'static {
    /// The response is over. Called at most once.
    fn ended(self: Pin<&mut Self>, end: End) {
        let _ = end;
    }

    /// The head of a response is here and a body follows.
    fn answered(&mut self) {}

    /// The connection was switched to another protocol and is the caller's; what follows is told
    /// as for a body.
    fn switched(&mut self) {}

    /// A frame of the body, or bytes of a switched connection, were handed on.
    fn moved(self: Pin<&mut Self>) {}

    /// A part of the body was handed on.
    fn received(self: Pin<&mut Self>, bytes: usize) {
        let _ = bytes;
    }

    /// The call that this response answers has something to hold until its end: takes what it knows
    /// out of `held`, which is an `Option` of something. Called at most once, before the body is read.
    fn keep(self: Pin<&mut Self>, held: &mut dyn Any) {
        let _ = held;
    }

    /// The trailers have arrived; [`ended`](Guard::ended) follows.
    fn trailers(self: Pin<&mut Self>, trailers: &HeaderMap) {
        let _ = trailers;
    }

    /// The body ends before its time. Says how its reader hears of that: by trailers, or by the
    /// error, which is the default.
    fn broken(self: Pin<&mut Self>, error: Error) -> Result<HeaderMap, Error> {
        Err(error)
    }

    /// Asked while the body waits for its next frame: an error cuts it off there. By default it is
    /// never cut off. The task is woken only for what this registers.
    fn poll_cut(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Error> {
        let _ = cx;
        Poll::Pending
    }
}

/// Nothing to hold.
impl Guard for () {}

pin_project! {
    /// The body of a response with what it keeps alive.
    struct Guarded<B, G: Guard> {
        body: B,
        #[pin]
        held: Held<G>,
        // Ended before the body underneath has.
        cut: bool,
    }
}

pin_project! {
    /// Emptied when the response ends, so that an ended body that lives on holds nothing.
    struct Held<G: Guard> {
        lease: Option<Lease>,
        #[pin]
        guard: Option<G>,
    }

    impl<G: Guard> PinnedDrop for Held<G> {
        fn drop(this: Pin<&mut Self>) {
            this.end(End::Dropped);
        }
    }
}

impl<G: Guard> Held<G> {
    fn end(self: Pin<&mut Self>, end: End) {
        let mut this = self.project();
        if let (Some(lease), End::Complete) = (this.lease.take(), end) {
            lease.complete();
        }
        if let Some(guard) = this.guard.as_mut().as_pin_mut() {
            guard.ended(end);
            this.guard.set(None);
        }
    }
}

impl<G: Guard> Held<G> {
    /// What the reader gets when the body ends before its time.
    fn last_frame(mut self: Pin<&mut Self>, error: Error, end: End) -> Result<Frame<Bytes>, Error> {
        let guard = self.as_mut().project().guard.as_pin_mut();
        let last = match guard {
            Some(guard) => guard.broken(error).map(Frame::trailers),
            None => Err(error),
        };
        self.end(end);
        last
    }
}

/// Ties `lease` and `guard` to the body of `response`: one allocation, none if the body is empty.
pub(super) fn guarded<B, G>(
    response: Response<B>,
    lease: Option<Lease>,
    mut guard: G,
) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    G: Guard,
{
    response.map(|body| {
        let over = body.is_end_stream();
        if !over {
            guard.answered();
        }
        let held = Held {
            guard: Some(guard),
            lease,
        };
        if over {
            std::pin::pin!(held).as_mut().end(End::Complete);
            return Body::empty();
        }
        let cut = false;
        Body::keeping(Guarded { body, held, cut })
    })
}

impl<B, G: Guard> Keep for Guarded<B, G> {
    fn keep(self: Pin<&mut Self>, held: &mut dyn Any) {
        if let Some(guard) = self.project().held.project().guard.as_pin_mut() {
            guard.keep(held);
        }
    }
}

impl<B, G> HttpBody for Guarded<B, G>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
    G: Guard,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut this = self.project();
        if *this.cut {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut *this.body).poll_frame(cx) else {
            let held = this.held.as_mut().project();
            let cut = held.guard.as_pin_mut().map(|guard| guard.poll_cut(cx));
            return match cut {
                Some(Poll::Ready(error)) => {
                    *this.cut = true;
                    Poll::Ready(Some(this.held.last_frame(error, End::Dropped)))
                }
                Some(Poll::Pending) | None => Poll::Pending,
            };
        };
        let frame = match frame {
            Some(Err(error)) => {
                *this.cut = true;
                let last = this.held.last_frame(broken(error), End::Broken);
                return Poll::Ready(Some(last));
            }
            Some(Ok(frame)) => Some(frame),
            None => None,
        };
        if let Some(bytes) = frame.as_ref().and_then(Frame::data_ref).map(Bytes::len)
            && let Some(guard) = this.held.as_mut().project().guard.as_pin_mut()
        {
            guard.received(bytes);
        }
        match &frame {
            Some(frame) if frame.is_trailers() || this.body.is_end_stream() => {
                let guard = this.held.as_mut().project().guard;
                if let (Some(trailers), Some(guard)) = (frame.trailers_ref(), guard.as_pin_mut()) {
                    guard.trailers(trailers);
                }
                this.held.end(End::Complete);
            }
            Some(_) => {
                if let Some(guard) = this.held.project().guard.as_pin_mut() {
                    guard.moved();
                }
            }
            None => this.held.end(End::Complete),
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.cut || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn broken(error: impl Into<BoxError>) -> Error {
    match error.into().downcast::<Error>() {
        Ok(own) => *own,
        Err(cause) => Error::new(Kind::Body).caused_by(cause),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    /// Writes down what it is told.
    struct Told(std::sync::mpsc::Sender<String>);

    impl Guard for Told {
        fn ended(self: Pin<&mut Self>, end: End) {
            self.0.send(format!("{end:?}")).unwrap();
        }

        fn moved(self: Pin<&mut Self>) {
            self.0.send("moved".to_owned()).unwrap();
        }

        fn trailers(self: Pin<&mut Self>, trailers: &HeaderMap) {
            let load = trailers["endpoint-load-metrics"].to_str().unwrap();
            self.0.send(load.to_owned()).unwrap();
        }
    }

    #[tokio::test]
    async fn a_guard_sees_trailers_before_the_end() {
        let (sender, told) = std::sync::mpsc::channel();
        let mut trailers = HeaderMap::new();
        trailers.insert("endpoint-load-metrics", "TEXT eps=1".parse().unwrap());
        let body = http_body_util::Full::new(Bytes::from_static(b"body"));
        let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
        let response = guarded(Response::new(Box::pin(body)), None, Told(sender));
        response.into_body().collect().await.unwrap();
        assert_eq!(
            told.iter().collect::<Vec<_>>(),
            ["moved", "TEXT eps=1", "Complete"]
        );
    }
}
