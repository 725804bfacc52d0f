//! A request body that is sent on and, on its way, copied for others.
//!
//! The original is read at the speed of its own peer and never waits for a copy: a copy whose peer
//! is slower keeps up to a limit of bytes and is broken off there. Chunks are reference counted, so
//! a copy costs no copying. Reading the body whole before sending it was rejected, because it would
//! delay the call, and so was a channel that waits when it is full.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use smallvec::SmallVec;

use super::Body;
use super::replay::{Buffers, Pool};
use crate::error::{Error, Kind as ErrorKind};

/// The most chunks that a copy keeps: each costs some words beside its bytes.
const MOST_CHUNKS: usize = 1_024;

/// The body and `count` copies of it, fewer if the bytes of a known body exceed what is left of
/// the total.
pub(crate) fn tee(body: Body, count: usize, buffers: &Buffers) -> (Body, Vec<Body>) {
    let whole = body.whole();
    let left = body.size_hint().exact();
    let mut copies = Vec::with_capacity(count);
    let mut shared: SmallVec<[Arc<Shared>; 1]> = SmallVec::new();
    for _ in 0..count {
        match &whole {
            Some(bytes) if bytes.is_empty() => copies.push(Body::empty()),
            Some(bytes) => {
                let copy = Shared::new(buffers, End::Complete);
                // It is in memory anyway, so only the total counts, for as long as the copy lives.
                if copy.pool.reserve(bytes.len()) {
                    copy.lock().push(bytes.clone());
                    copies.push(reader(copy, left));
                }
            }
            None => {
                let copy = Shared::new(buffers, End::Open);
                shared.push(copy.clone());
                copies.push(reader(copy, left));
            }
        }
    }
    if shared.is_empty() {
        return (body, copies);
    }
    let tee = Tee {
        body,
        copies: shared,
    };
    (Body::new(tee), copies)
}

fn reader(shared: Arc<Shared>, left: Option<u64>) -> Body {
    Body::new(Reader {
        shared,
        left,
        over: false,
    })
}

/// What the original writes and a copy reads.
struct Shared {
    // Locked for one frame by either side.
    state: Mutex<State>,
    pool: Arc<Pool>,
    limit: usize,
}

struct State {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    trailers: Option<HeaderMap>,
    end: End,
    waiting: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Open,
    Complete,
    /// The original broke off, the copy lags too far behind, or nobody reads it.
    Broken,
}

impl Shared {
    fn new(buffers: &Buffers, end: End) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                chunks: VecDeque::new(),
                bytes: 0,
                trailers: None,
                end,
                waiting: None,
            }),
            pool: buffers.pool(),
            limit: buffers.per_request(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, frame: &Frame<Bytes>) {
        let mut state = self.lock();
        if state.end != End::Open {
            return;
        }
        if let Some(chunk) = frame.data_ref() {
            let fits = state.chunks.len() < MOST_CHUNKS
                && chunk.len() <= self.limit.saturating_sub(state.bytes);
            if fits && self.pool.reserve(chunk.len()) {
                state.push(chunk.clone());
            } else {
                self.pool.release(state.give_up());
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            state.trailers = Some(trailers.clone());
        }
        wake(state);
    }

    fn finish(&self, end: End) {
        let mut state = self.lock();
        if state.end == End::Open {
            match end {
                End::Open | End::Complete => state.end = End::Complete,
                End::Broken => self.pool.release(state.give_up()),
            }
        }
        wake(state);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.pool.release(state.bytes);
    }
}

impl State {
    /// The bytes were reserved.
    fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
    }

    /// Breaks the copy off; returns how many bytes that frees.
    fn give_up(&mut self) -> usize {
        self.end = End::Broken;
        self.chunks = VecDeque::new();
        std::mem::take(&mut self.bytes)
    }
}

/// Wakes the reader without the lock.
fn wake(mut state: MutexGuard<'_, State>) {
    let waiting = state.waiting.take();
    drop(state);
    if let Some(waker) = waiting {
        waker.wake();
    }
}

/// The original.
struct Tee {
    body: Body,
    copies: SmallVec<[Arc<Shared>; 1]>,
}

impl Tee {
    fn finish(&mut self, end: End) {
        for copy in std::mem::take(&mut self.copies) {
            copy.finish(end);
        }
    }
}

impl HttpBody for Tee {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.copies.iter().for_each(|copy| copy.write(frame));
                if frame.is_trailers() || self.body.is_end_stream() {
                    self.finish(End::Complete);
                }
            }
            Some(Err(_)) => self.finish(End::Broken),
            None => self.finish(End::Complete),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.finish(End::Broken);
    }
}

/// A copy.
struct Reader {
    shared: Arc<Shared>,
    /// How many bytes are still to come, if the original's length is known.
    left: Option<u64>,
    over: bool,
}

impl HttpBody for Reader {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let shared = self.shared.clone();
        let mut state = shared.lock();
        if let Some(chunk) = state.chunks.pop_front() {
            state.bytes -= chunk.len();
            shared.pool.release(chunk.len());
            self.left = self
                .left
                .map(|left| left.saturating_sub(chunk.len() as u64));
            let last = state.end == End::Complete && state.chunks.is_empty();
            self.over = last && state.trailers.is_none();
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match state.end {
            End::Open => {
                state.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
            End::Complete => {
                self.over = true;
                Poll::Ready(state.trailers.take().map(|map| Ok(Frame::trailers(map))))
            }
            End::Broken => {
                self.over = true;
                let why = "the original broke off, or this copy was too slow";
                Poll::Ready(Some(Err(Error::new(ErrorKind::Body).caused_by(why))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Nothing is kept for a reader that is gone.
        let mut state = self.shared.lock();
        let freed = state.give_up();
        drop(state);
        self.shared.pool.release(freed);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    struct Chunks(VecDeque<&'static str>);

    impl HttpBody for Chunks {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            let chunk = self.0.pop_front();
            Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk.into()))))
        }
    }

    fn stream(chunks: &[&'static str]) -> Body {
        Body::new(Chunks(chunks.iter().copied().collect()))
    }

    async fn read(body: Body) -> Result<Bytes, Error> {
        body.collect().await.map(|all| all.to_bytes())
    }

    #[tokio::test]
    async fn each_copy_has_what_the_original_had_and_the_total_returns_to_zero() {
        let buffers = Buffers::new(8, 100);
        for body in [stream(&["ab", "cd"]), Body::from("abcd"), Body::empty()] {
            let expected = if body.is_end_stream() { "" } else { "abcd" };
            let (original, copies) = tee(body, 2, &buffers);
            assert_eq!(read(original).await.unwrap(), expected);
            for copy in copies {
                assert_eq!(read(copy).await.unwrap(), expected);
            }
            assert_eq!(buffers.used(), 0);
        }
    }

    #[tokio::test]
    async fn a_copy_that_lags_is_broken_off_and_the_original_goes_on() {
        let buffers = Buffers::new(3, 100);
        let (original, mut copies) = tee(stream(&["ab", "cd", "ef"]), 1, &buffers);
        assert_eq!(read(original).await.unwrap(), "abcdef");
        assert_eq!(buffers.used(), 0);
        assert!(read(copies.remove(0)).await.unwrap_err().is_body());
    }

    #[tokio::test]
    async fn the_total_bounds_all_copies() {
        let buffers = Buffers::new(100, 5);
        let (original, copies) = tee(Body::from("abcd"), 2, &buffers);
        assert_eq!((copies.len(), buffers.used()), (1, 4));
        assert_eq!(read(original).await.unwrap(), "abcd");
        drop(copies);
        assert_eq!(buffers.used(), 0);
    }

    #[tokio::test]
    async fn an_original_that_is_dropped_breaks_its_copy() {
        let buffers = Buffers::new(100, 100);
        let (mut original, mut copies) = tee(stream(&["ab", "cd"]), 1, &buffers);
        original.frame().await.unwrap().unwrap();
        drop(original);
        assert!(read(copies.remove(0)).await.unwrap_err().is_body());
        assert_eq!(buffers.used(), 0);
    }
}
