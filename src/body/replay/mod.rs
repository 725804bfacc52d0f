//! A request body that can be sent again.
//!
//! A retry needs the body a second time, and a stream can be read only once. [`Replay`] tees what
//! the first try reads into a bounded buffer; a later try reads the buffer first and then goes on
//! with the original where the earlier one stopped. Chunks are reference counted, so the buffer
//! costs no copy. Three choices shape it:
//!
//! - *Never buffered whole, never rejected.* Reading everything ahead would stall streams that wait
//!   for their answers, and refusing large bodies would fail requests that mostly need no retry.
//!   Above the limit the buffer is given up at once: the request streams on and can no longer be
//!   repeated (linkerd's rule).
//! - *One reader.* Only the newest try reads. hyper may keep the body of a cancelled request for a
//!   moment; it is woken and finds its body broken off, instead of stealing chunks from its
//!   successor.
//! - *Bounded together.* The limit per request would still let ten thousand uploads hold hundreds
//!   of megabytes, so [`Buffers`] also counts the bytes of all requests against one limit.
//!
//! A body that is known whole needs none of this: each try gets a clone of its one chunk.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Body, Kind};
use crate::error::{Error, Kind as ErrorKind};

mod buffers;
mod kept;

pub(crate) use buffers::Buffers;
pub(in crate::body) use buffers::Pool;
use kept::Kept;

/// The most chunks that one request keeps. Each costs four words beside its bytes, which the limit
/// in bytes does not see.
const MOST_CHUNKS: usize = 1024;

/// How far the upload of a body has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Upload {
    /// Nothing was read.
    Idle,
    /// Some was read, and more may come.
    Running,
    /// All was read; also if it was known from the start.
    Complete,
}

/// Makes one body after the other out of one; see the [module](self).
///
/// Dropping it frees what no running try needs any more; the newest try goes on undisturbed.
pub(crate) struct Replay {
    source: Source,
}

enum Source {
    /// The body is one chunk, or empty.
    Whole(Bytes),
    /// A stream that fits, as far as is known.
    Shared(Arc<Shared>),
}

struct Shared {
    /// Held while one frame is polled, by one reader at a time: never contended but when a new try
    /// takes over from one that is still being dropped.
    state: Mutex<State>,
    pool: Arc<Pool>,
}

struct State {
    original: Body,
    end: End,
    kept: Kept,
    /// How many of the kept chunks the newest try has read.
    position: usize,
    /// The bytes of those that it has not.
    unread: usize,
    trailers: Option<HeaderMap>,
    /// Whether the newest try has been given the trailers.
    trailers_read: bool,
    keeping: Keeping,
    limit: usize,
    /// Which try may read.
    newest: u32,
    /// Who waits for the original, to be told when a later try takes over.
    waiting: Option<Waker>,
}

/// What has become of the original.
#[derive(Clone, Copy, Eq, PartialEq)]
enum End {
    Open,
    Complete,
    Broken,
}

/// Whether what is read is kept for another try.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Keeping {
    /// It is.
    On,
    /// The last try is under way: what is kept is freed as it is read.
    Off,
    /// The limit was reached.
    GivenUp,
}

impl Replay {
    /// The body for the first try, and what makes those for later ones; `None` if it is known
    /// beforehand that the body is too large.
    pub(crate) fn tee(body: Body, buffers: &Buffers) -> (Body, Option<Self>) {
        if let Some(bytes) = body.whole() {
            let source = Source::Whole(bytes);
            return (body, Some(Self { source }));
        }
        if body.size_hint().lower() > buffers.per_request() as u64 {
            return (body, None);
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(body, buffers.per_request())),
            pool: buffers.pool(),
        });
        let first = shared.reader(Keeping::On);
        let source = Source::Shared(shared);
        (first, Some(Self { source }))
    }

    /// The body for another try; the earlier one breaks off. `None` if it cannot be sent again.
    pub(crate) fn attempt(&mut self) -> Option<Body> {
        match &mut self.source {
            Source::Whole(bytes) => Some(bytes.clone().into()),
            Source::Shared(shared) => shared.again(Keeping::On),
        }
    }

    /// The body for the last try: nothing more is kept for a further one.
    pub(crate) fn last(mut self) -> Option<Body> {
        match &mut self.source {
            Source::Whole(bytes) => Some(std::mem::take(bytes).into()),
            Source::Shared(shared) => shared.again(Keeping::Off),
        }
    }

    /// Whether the body can be sent again.
    pub(crate) fn can_repeat(&self) -> bool {
        match &self.source {
            Source::Whole(_) => true,
            Source::Shared(shared) => shared.lock().can_repeat(),
        }
    }

    /// How far the newest try has read the original.
    pub(crate) fn upload(&self) -> Upload {
        match &self.source {
            Source::Whole(_) => Upload::Complete,
            Source::Shared(shared) => {
                let state = shared.lock();
                match state.end {
                    End::Complete => Upload::Complete,
                    End::Open if state.kept.count == 0 && state.keeping == Keeping::On => {
                        Upload::Idle
                    }
                    End::Open | End::Broken => Upload::Running,
                }
            }
        }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if let Source::Shared(shared) = &self.source {
            let mut state = shared.lock();
            if state.keeping == Keeping::On {
                state.keeping = Keeping::Off;
            }
            let freed = state.free_read();
            drop(state);
            shared.pool.release(freed);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole after each statement; a foreign body that panicked while it was
        // polled leaves nothing half done here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn again(self: &Arc<Self>, keeping: Keeping) -> Option<Body> {
        let can_repeat = self.lock().can_repeat();
        can_repeat.then(|| self.reader(keeping))
    }

    /// Hands reading over to a new try.
    fn reader(self: &Arc<Self>, keeping: Keeping) -> Body {
        let mut state = self.lock();
        state.keeping = keeping;
        state.newest += 1;
        state.position = 0;
        state.unread = state.kept.bytes;
        state.trailers_read = false;
        let reader = Reader {
            number: state.newest,
            size: state.size_left(),
            ended: state.is_read(),
            shared: self.clone(),
        };
        let superseded = state.waiting.take();
        drop(state);
        if let Some(waker) = superseded {
            waker.wake();
        }
        Body {
            kind: Kind::Replay(reader),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.pool.release(state.kept.bytes);
    }
}

impl State {
    fn new(original: Body, limit: usize) -> Self {
        Self {
            original,
            end: End::Open,
            kept: Kept::default(),
            position: 0,
            unread: 0,
            trailers: None,
            trailers_read: false,
            keeping: Keeping::On,
            limit,
            newest: 0,
            waiting: None,
        }
    }

    fn can_repeat(&self) -> bool {
        self.keeping == Keeping::On && self.end != End::Broken
    }

    /// Whether the newest try has read everything.
    fn is_read(&self) -> bool {
        self.end == End::Complete
            && self.position == self.kept.count
            && (self.trailers_read || self.trailers.is_none())
    }

    fn poll_frame(
        &mut self,
        pool: &Pool,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(chunk) = self.kept_chunk(pool) {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match self.end {
            End::Open => self.poll_original(pool, cx),
            End::Complete => Poll::Ready(self.kept_trailers().map(Frame::trailers).map(Ok)),
            End::Broken => Poll::Ready(Some(Err(Error::new(ErrorKind::Body)))),
        }
    }

    /// The next chunk that an earlier try has read already.
    fn kept_chunk(&mut self, pool: &Pool) -> Option<Bytes> {
        if self.position == self.kept.count {
            return None;
        }
        let slot = self.kept.slot(self.position);
        let chunk = match self.keeping {
            Keeping::On => slot.clone(),
            Keeping::Off | Keeping::GivenUp => {
                let chunk = std::mem::take(slot);
                self.kept.bytes -= chunk.len();
                pool.release(chunk.len());
                chunk
            }
        };
        self.position += 1;
        self.unread -= chunk.len();
        Some(chunk)
    }

    fn kept_trailers(&mut self) -> Option<HeaderMap> {
        if std::mem::replace(&mut self.trailers_read, true) {
            return None;
        }
        match self.keeping {
            Keeping::On => self.trailers.clone(),
            Keeping::Off | Keeping::GivenUp => self.trailers.take(),
        }
    }

    fn poll_original(
        &mut self,
        pool: &Pool,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Poll::Ready(frame) = std::pin::Pin::new(&mut self.original).poll_frame(cx) else {
            match &mut self.waiting {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(chunk) = frame.data_ref() {
                    self.keep(chunk, pool);
                } else if let Some(trailers) = frame.trailers_ref() {
                    // Trailers are the end; waiting for a `None` behind them would let a later
                    // try miss them.
                    self.end = End::Complete;
                    self.trailers_read = true;
                    if self.keeping == Keeping::On {
                        self.trailers = Some(trailers.clone());
                    }
                }
                if self.original.is_end_stream() {
                    self.end = End::Complete;
                }
            }
            Some(Err(_)) => self.end = End::Broken,
            None => self.end = End::Complete,
        }
        Poll::Ready(frame)
    }

    /// Keeps a chunk for the next try, or gives up.
    fn keep(&mut self, chunk: &Bytes, pool: &Pool) {
        if self.keeping != Keeping::On || chunk.is_empty() {
            return;
        }
        let fits = self.kept.count < MOST_CHUNKS && chunk.len() <= self.limit - self.kept.bytes;
        if fits && pool.reserve(chunk.len()) {
            self.kept.push(chunk.clone());
            self.position = self.kept.count;
        } else {
            pool.release(self.kept.bytes);
            self.kept = Kept::default();
            self.position = 0;
            self.keeping = Keeping::GivenUp;
        }
    }

    /// Frees what the newest try has read, and tells how many bytes that were.
    fn free_read(&mut self) -> usize {
        let freed = (0..self.position)
            .map(|index| std::mem::take(self.kept.slot(index)).len())
            .sum();
        self.kept.bytes -= freed;
        if self.position == self.kept.count {
            self.kept = Kept::default();
            self.position = 0;
        }
        freed
    }

    /// What the newest try has still to read, as far as is known.
    fn size_left(&self) -> SizeHint {
        let kept = self.unread as u64;
        if self.end != End::Open {
            return SizeHint::with_exact(kept);
        }
        let original = self.original.size_hint();
        let mut size = SizeHint::new();
        size.set_lower(original.lower().saturating_add(kept));
        if let Some(upper) = original.upper().and_then(|upper| upper.checked_add(kept)) {
            size.set_upper(upper);
        }
        size
    }
}

/// The body of one try.
pub(super) struct Reader {
    shared: Arc<Shared>,
    number: u32,
    /// What is asked with `&self` is remembered, so that it needs no lock.
    size: SizeHint,
    ended: bool,
}

impl Reader {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut state = self.shared.lock();
        if state.newest != self.number {
            self.ended = true;
            let superseded = Error::new(ErrorKind::Body).caused_by("a later try took over");
            return Poll::Ready(Some(Err(superseded)));
        }
        let frame = ready!(state.poll_frame(&self.shared.pool, cx));
        self.size = state.size_left();
        self.ended = match &frame {
            Some(Ok(_)) => state.is_read(),
            Some(Err(_)) | None => true,
        };
        Poll::Ready(frame)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.ended
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.size
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.source {
            Source::Whole(_) => "Replay(whole)",
            Source::Shared(_) => "Replay(stream)",
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests;
