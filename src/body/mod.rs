//! The message body that travels through the mesh.
//!
//! One concrete type on both directions, so that clusters can be shared by callers with different
//! body types and a channel's type has no parameters. A body of another crate costs one
//! allocation to enter; a body that already is one of ours costs none. `Body` is `Sync`, because
//! reqwest asks for that.

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use sync_wrapper::SyncWrapper;

use crate::error::{BoxError, Error, Kind as ErrorKind};

#[cfg_attr(
    not(any(feature = "tls-core", feature = "xds")),
    allow(dead_code, reason = "calls of our own need it")
)]
pub(crate) mod grpc;
pub(crate) mod replay;
pub(crate) mod tee;

/// A message body: nothing, a chunk, or a stream of frames.
///
/// ```
/// use http_body_util::BodyExt;
/// use meshwork::Body;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), meshwork::Error> {
/// let body = Body::from("hello");
/// assert_eq!(body.collect().await?.to_bytes(), "hello");
/// # Ok(()) }
/// ```
pub struct Body {
    kind: Kind,
}

enum Kind {
    Empty,
    Chunk(Bytes),
    Replay(replay::Reader),
    Stream(Stream),
}

/// A foreign body. It is `Send` but perhaps not `Sync`, so it can only be reached with `&mut`;
/// what is asked with `&` is remembered beside it.
struct Stream {
    body: SyncWrapper<Pin<Box<dyn Foreign + Send>>>,
    size: SizeHint,
    ended: bool,
    /// Where its bytes are counted as they are read, if somebody asked.
    counted: Option<Arc<AtomicU64>>,
}

/// A body behind a pointer.
trait Foreign: HttpBody<Data = Bytes, Error = BoxError> {
    /// See [`Body::keep`].
    fn keep(self: Pin<&mut Self>, held: &mut dyn Any);
}

/// A body that holds something until it ends, and takes more to hold.
pub(crate) trait Keep {
    /// Takes what it knows out of `held`, which is an `Option` of something.
    fn keep(self: Pin<&mut Self>, held: &mut dyn Any);
}

impl Body {
    /// A body of no bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self { kind: Kind::Empty }
    }

    /// Takes over a body of any other crate.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut body = Some(body);
        if let Some(own) = (&mut body as &mut dyn Any).downcast_mut::<Option<Self>>() {
            return own.take().unwrap_or_default();
        }
        match body {
            Some(body) if !body.is_end_stream() => {
                let size = body.size_hint();
                Self::stream(size, Box::pin(Erased { body }))
            }
            _ => Self::empty(),
        }
    }

    /// A body that can be given something to hold; it is not at its end.
    pub(crate) fn keeping<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error = Error> + Keep + Send + 'static,
    {
        let size = body.size_hint();
        Self::stream(size, Box::pin(Keeping { body }))
    }

    fn stream(size: SizeHint, body: Pin<Box<dyn Foreign + Send>>) -> Self {
        Self {
            kind: Kind::Stream(Stream {
                body: SyncWrapper::new(body),
                size,
                ended: false,
                counted: None,
            }),
        }
    }

    /// Gives the body something to hold until it ends or is dropped. `held` is an `Option`, which is
    /// empty afterwards if the body took it; bodies that come from elsewhere take nothing.
    ///
    /// This is how what is measured of a call moves into the one allocation that its response has
    /// anyway, without this module knowing what it is.
    pub(crate) fn keep(&mut self, held: &mut dyn Any) {
        if let Kind::Stream(stream) = &mut self.kind {
            stream.body.get_mut().as_mut().keep(held);
        }
    }

    /// Counts the bytes of a stream from here on as they are read; of a body that is whole already
    /// [`size_hint`](HttpBody::size_hint) tells them.
    pub(crate) fn count_into(&mut self, count: &Arc<AtomicU64>) {
        if let Kind::Stream(stream) = &mut self.kind {
            stream.counted = Some(count.clone());
        }
    }

    /// The whole body, if it is known already: none of its bytes has to be waited for.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        match &self.kind {
            Kind::Empty => Some(Bytes::new()),
            Kind::Chunk(bytes) => Some(bytes.clone()),
            Kind::Replay(_) | Kind::Stream(_) => None,
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::empty()
        } else {
            Self {
                kind: Kind::Chunk(bytes),
            }
        }
    }
}

macro_rules! from_bytes {
    ($($source:ty),*) => {$(
        impl From<$source> for Body {
            fn from(source: $source) -> Self {
                Bytes::from(source).into()
            }
        }
    )*};
}

from_bytes!(&'static str, String, &'static [u8], Vec<u8>);

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Chunk(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Replay(reader) => reader.poll_frame(cx),
            Kind::Stream(stream) => {
                let body = stream.body.get_mut();
                let frame = ready!(body.as_mut().poll_frame(cx));
                stream.size = body.size_hint();
                stream.ended = frame.is_none() || body.is_end_stream();
                if let (Some(count), Some(Ok(frame))) = (&stream.counted, &frame) {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    count.fetch_add(bytes as u64, Ordering::Relaxed);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(own)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Chunk(_) => false,
            Kind::Replay(reader) => reader.is_end_stream(),
            Kind::Stream(stream) => stream.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Chunk(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Replay(reader) => reader.size_hint(),
            Kind::Stream(stream) => stream.size,
        }
    }
}

/// An error of ours stays as it is; any other becomes the cause of one.
fn own(error: BoxError) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => *own,
        Err(foreign) => Error::new(ErrorKind::Body).caused_by(foreign),
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Empty => f.write_str("Body(empty)"),
            Kind::Chunk(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Kind::Replay(_) => f.write_str("Body(replay)"),
            Kind::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}

pin_project_lite::pin_project! {
    /// A foreign body whose error is boxed.
    struct Erased<B> {
        #[pin]
        body: B,
    }
}

impl<B> Foreign for Erased<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    fn keep(self: Pin<&mut Self>, _: &mut dyn Any) {}
}

pin_project_lite::pin_project! {
    /// A body of ours that takes something to hold.
    struct Keeping<B> {
        #[pin]
        body: B,
    }
}

impl<B: HttpBody<Data = Bytes, Error = Error> + Keep> Foreign for Keeping<B> {
    fn keep(self: Pin<&mut Self>, held: &mut dyn Any) {
        self.project().body.keep(held);
    }
}

impl<B: HttpBody<Data = Bytes, Error = Error>> HttpBody for Keeping<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(self.project().body.poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> HttpBody for Erased<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(self.project().body.poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[test]
    fn body_can_be_sent_and_shared() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<Body>();
    }

    #[tokio::test]
    async fn size_and_end_of_a_foreign_body_are_known() {
        let mut body = Body::new(Full::new(Bytes::from_static(b"four")));
        assert_eq!(body.size_hint().exact(), Some(4));
        assert!(!body.is_end_stream());
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            "four"
        );
        assert!(body.is_end_stream());
        assert!(Body::new(Full::new(Bytes::new())).is_end_stream());
    }

    #[tokio::test]
    async fn own_errors_pass_unchanged_and_foreign_ones_become_causes() {
        let failing = |error: BoxError| {
            let frames = http_body_util::StreamBody::new(
                tokio_test::stream_mock::StreamMockBuilder::new()
                    .next(Err::<Frame<Bytes>, BoxError>(error))
                    .build(),
            );
            Body::new(frames)
        };
        let foreign = failing("gone".into()).collect().await.unwrap_err();
        assert!(foreign.is_body());
        assert_eq!(
            std::error::Error::source(&foreign).unwrap().to_string(),
            "gone"
        );
        let own = failing(Error::new(ErrorKind::Draining).into())
            .collect()
            .await
            .unwrap_err();
        assert!(own.is_draining());
    }
}
