//! gRPC's framing of a bidirectional stream, with what is sent shared between streams.
//!
//! tonic encodes a message into a buffer of its stream. Here a message is a list of pieces, most of
//! which every stream has in common, and what is copied is one frame at a time, when the client
//! has room for it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tonic::Status;

use super::line::{Listener, Said};

/// Small pieces are joined up to this size; what is larger goes out as it is.
const FRAME: usize = 16 << 10;
/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The body of an answer.
#[derive(Debug)]
pub(in crate::control) struct Replies {
    line: Listener,
    pieces: VecDeque<Bytes>,
    ended: bool,
}

impl Replies {
    pub(super) fn new(line: Listener) -> Self {
        Self {
            line,
            pieces: VecDeque::new(),
            ended: false,
        }
    }

    /// The next frame of the message that is under way.
    fn joined(&mut self) -> Option<Bytes> {
        let first = self.pieces.pop_front()?;
        let mut length = first.len();
        let small = self.pieces.iter().take_while(|piece| {
            let fits = length + piece.len() <= FRAME;
            length += if fits { piece.len() } else { 0 };
            fits
        });
        let small = small.count();
        if small == 0 {
            return Some(first);
        }
        let mut joined = BytesMut::with_capacity(length);
        joined.extend_from_slice(&first);
        for piece in self.pieces.drain(..small) {
            joined.extend_from_slice(&piece);
        }
        Some(joined.freeze())
    }
}

impl Body for Replies {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(frame) = self.joined() {
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            // What is kept of an idle stream has no room for pieces.
            self.pieces = VecDeque::new();
            let status = match ready!(self.line.poll(cx)) {
                Said::Message(pieces) => {
                    self.pieces = pieces.into();
                    continue;
                }
                Said::End(status) => status,
                Said::Nothing => Status::unavailable("the control plane has stopped"),
            };
            self.ended = true;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))));
        }
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Only a status that has headers of its own can fail here.
    let _ = status.add_header(&mut trailers);
    trailers
}

/// The messages of a request.
#[derive(Debug)]
pub(super) struct Requests<B> {
    body: B,
    buffer: BytesMut,
    most: usize,
}

impl<B> Requests<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    /// Messages of at most `most` bytes.
    pub(super) fn new(body: B, most: usize) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            most,
        }
    }

    /// The next message; none when the client has said all it will. It is cancel safe.
    ///
    /// # Errors
    /// The connection broke, or what came is no gRPC or more than is allowed.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.message()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Status::internal("the stream ends within a message")),
                Some(Err(error)) => return Err(Status::unavailable(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    fn message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let [compressed, length @ ..] = *prefix;
        if compressed != 0 {
            return Err(Status::unimplemented(
                "the message is compressed: only `identity` is accepted",
            ));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > self.most {
            return Err(Status::resource_exhausted(format!(
                "a message of {length} bytes: at most {} are allowed",
                self.most
            )));
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        let message = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            // An idle stream keeps no buffer.
            self.buffer = BytesMut::new();
        }
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tonic::Code;

    use super::super::line::line;
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Option<Bytes>, Status> {
        Requests::new(Full::new(Bytes::copy_from_slice(bytes)), 10)
            .next()
            .await
    }

    #[tokio::test]
    async fn messages_are_read_and_bounded() {
        let whole = read(b"\0\0\0\0\x02ab").await.expect("a message");
        assert_eq!(whole.as_deref(), Some(&b"ab"[..]));
        assert_eq!(read(b"").await.expect("an end"), None);
        for (bytes, code) in [
            (&b"\0\0\0\0\x0babc"[..], Code::ResourceExhausted),
            (b"\x01\0\0\0\x02ab", Code::Unimplemented),
            (b"\0\0\0\0\x02a", Code::Internal),
            (b"\0\0", Code::Internal),
        ] {
            let error = read(bytes).await.expect_err("refused");
            assert_eq!(error.code(), code, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn small_pieces_are_joined_and_large_ones_shared() {
        let (speaker, listener) = line();
        let large = Bytes::from(vec![1; 3 * FRAME]);
        let small = Bytes::from_static(b"small");
        let pieces = vec![
            small.clone(),
            small.clone(),
            large.clone(),
            small.clone(),
            small,
        ];
        speaker.send(pieces);
        let mut replies = Replies::new(listener);
        let mut frames = Vec::new();
        {
            let mut taken = tokio_test::task::spawn(speaker.taken());
            for _ in 0..3 {
                let frame = replies.frame_of().await.expect("a frame");
                frames.push(frame.expect("no error"));
                tokio_test::assert_pending!(taken.poll());
            }
            tokio_test::assert_pending!(tokio_test::task::spawn(replies.frame_of()).poll());
            tokio_test::assert_ready!(taken.poll());
        }
        speaker.end(Status::ok(""));
        frames.push(
            replies
                .frame_of()
                .await
                .expect("a frame")
                .expect("no error"),
        );
        assert!(replies.frame_of().await.is_none());
        let lengths: Vec<_> = frames
            .iter()
            .map(|frame| frame.data_ref().map_or(0, Bytes::len))
            .collect();
        assert_eq!(lengths, [10, 3 * FRAME, 10, 0]);
        assert_eq!(
            frames[1].data_ref().map(|data| data.as_ptr()),
            Some(large.as_ptr())
        );
        let trailers = frames[3].trailers_ref().expect("trailers");
        assert_eq!(trailers["grpc-status"], "0");
    }

    impl Replies {
        async fn frame_of(&mut self) -> Option<Result<Frame<Bytes>, Infallible>> {
            std::future::poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await
        }
    }
}
