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
mod tests {
    use std::collections::VecDeque;
    use std::pin::{Pin, pin};

    use http_body_util::BodyExt;
    use proptest::prelude::*;
    use tokio_test::task;

    use super::*;
    use crate::error::BoxError;

    /// A stream of which each step is a frame, a wait or a failure.
    struct Script(VecDeque<Step>);

    enum Step {
        Data(Bytes),
        Trailers(HeaderMap),
        Wait,
        Fail,
    }

    impl HttpBody for Script {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(match self.0.pop_front() {
                Some(Step::Data(chunk)) => Some(Ok(Frame::data(chunk))),
                Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Some(Step::Wait) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Step::Fail) => Some(Err("broke".into())),
                None => None,
            })
        }
    }

    fn stream(steps: impl IntoIterator<Item = Step>) -> Body {
        Body::new(Script(steps.into_iter().collect()))
    }

    fn chunks(sizes: &[usize]) -> Body {
        let data = |size: &usize| Step::Data(Bytes::from(vec![7; *size]));
        stream(sizes.iter().map(data).collect::<Vec<_>>())
    }

    fn tee(body: Body, buffers: &Buffers) -> (Body, Replay) {
        let (first, replay) = Replay::tee(body, buffers);
        (first, replay.expect("no size is known"))
    }

    async fn length(body: Body) -> usize {
        body.collect().await.unwrap().to_bytes().len()
    }

    #[tokio::test]
    async fn whole_bodies_are_cloned_and_never_counted() {
        let buffers = Buffers::new(4, 4);
        let (first, mut replay) = tee(Body::from("longer than the limit"), &buffers);
        assert_eq!(length(first).await, 21);
        for _ in 0..3 {
            assert!(replay.can_repeat());
            assert_eq!(length(replay.attempt().unwrap()).await, 21);
        }
        assert_eq!((replay.upload(), buffers.used()), (Upload::Complete, 0));
        assert_eq!(length(replay.last().unwrap()).await, 21);
    }

    #[tokio::test]
    async fn a_later_try_reads_what_the_first_left_behind_and_the_rest() {
        let buffers = Buffers::default();
        let mut trailers = HeaderMap::new();
        trailers.insert("checksum", "1".parse().unwrap());
        let data = |text: &'static str| Step::Data(text.into());
        let body = stream([
            data("one"),
            Step::Wait,
            data("two"),
            Step::Trailers(trailers.clone()),
        ]);
        let (mut first, mut replay) = tee(body, &buffers);
        assert_eq!(replay.upload(), Upload::Idle);
        assert_eq!(
            first.frame().await.unwrap().unwrap().into_data().unwrap(),
            "one"
        );
        assert_eq!((replay.upload(), buffers.used()), (Upload::Running, 3));
        drop(first);
        for last in [false, true] {
            let body = replay.attempt().unwrap();
            let collected = body.collect().await.unwrap();
            assert_eq!(collected.trailers(), Some(&trailers));
            assert_eq!(collected.to_bytes(), "onetwo");
            assert_eq!(
                (replay.upload(), buffers.used()),
                (Upload::Complete, 6),
                "{last}"
            );
        }
        let collected = replay.last().unwrap().collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers));
        assert_eq!(buffers.used(), 0);
    }

    #[tokio::test]
    async fn g7_bodies_up_to_the_limit_repeat_and_larger_ones_stream_on() {
        const LIMIT: usize = 64 * 1024;
        for (sizes, repeats) in [
            (vec![LIMIT - 1], true),
            (vec![LIMIT], true),
            (vec![LIMIT / 2, LIMIT / 2], true),
            (vec![LIMIT + 1], false),
            (vec![LIMIT, 1], false),
            (vec![1024; 1024], false),
            (vec![1; MOST_CHUNKS], true),
            (vec![1; MOST_CHUNKS + 1], false),
        ] {
            let buffers = Buffers::default();
            let total = sizes.iter().sum::<usize>();
            let (mut body, mut replay) = tee(chunks(&sizes), &buffers);
            let mut seen = 0;
            while let Some(frame) = body.frame().await {
                seen += frame.unwrap().into_data().unwrap().len();
                assert!(buffers.used() <= LIMIT);
            }
            assert_eq!(seen, total);
            assert_eq!(replay.can_repeat(), repeats, "{}", sizes.len());
            assert_eq!(buffers.used(), if repeats { total } else { 0 });
            assert_eq!(replay.attempt().is_some(), repeats);
            drop((replay, body));
            assert_eq!(buffers.used(), 0);
        }
    }

    #[tokio::test]
    async fn g7_a_body_known_to_be_too_large_is_not_kept_at_all() {
        let buffers = Buffers::new(4, 100);
        let large = Body::new(http_body_util::Full::new(Bytes::from_static(b"large")));
        let (body, replay) = Replay::tee(large, &buffers);
        assert!(replay.is_none());
        assert_eq!(length(body).await, 5);
    }

    #[tokio::test]
    async fn g7_all_requests_together_keep_no_more_than_the_total() {
        let buffers = Buffers::new(10, 25);
        let mut replays = Vec::new();
        for _ in 0..4 {
            let (first, replay) = tee(chunks(&[10]), &buffers);
            assert_eq!(length(first).await, 10);
            replays.push(replay);
        }
        assert_eq!(buffers.used(), 20);
        let repeats: Vec<_> = replays.iter().map(Replay::can_repeat).collect();
        assert_eq!(repeats, [true, true, false, false]);
        replays.remove(0);
        let (first, late) = tee(chunks(&[10]), &buffers);
        assert_eq!(length(first).await, 10);
        assert!(late.can_repeat());
        drop((late, replays));
        assert_eq!(buffers.used(), 0);
    }

    #[tokio::test]
    async fn an_earlier_try_breaks_off_and_steals_nothing() {
        let buffers = Buffers::default();
        let waits = [Step::Data("a".into()), Step::Wait, Step::Data("b".into())];
        let (mut first, mut replay) = tee(stream(waits), &buffers);
        first.frame().await.unwrap().unwrap();
        let mut waiting = task::spawn(async move { first.frame().await.unwrap() });
        assert!(waiting.poll().is_pending());
        let second = replay.attempt().unwrap();
        assert!(waiting.is_woken());
        let Poll::Ready(Err(error)) = waiting.poll() else {
            panic!("the earlier try went on");
        };
        assert!(error.is_body());
        assert_eq!(second.collect().await.unwrap().to_bytes(), "ab");
    }

    #[tokio::test]
    async fn dropping_the_replay_frees_what_was_read_and_lets_the_upload_finish() {
        let buffers = Buffers::default();
        let (mut first, mut replay) = tee(chunks(&[3, 4, 5]), &buffers);
        first.frame().await.unwrap().unwrap();
        first.frame().await.unwrap().unwrap();
        let mut second = replay.attempt().unwrap();
        second.frame().await.unwrap().unwrap();
        assert_eq!(buffers.used(), 7);
        drop(replay);
        assert_eq!(buffers.used(), 4);
        assert_eq!(length(second).await, 9);
        assert_eq!(buffers.used(), 0);
    }

    #[tokio::test]
    async fn a_body_that_broke_is_not_repeated() {
        let body = stream([Step::Data("a".into()), Step::Fail]);
        let (first, mut replay) = tee(body, &Buffers::default());
        assert!(first.collect().await.unwrap_err().is_body());
        assert!(!replay.can_repeat() && replay.attempt().is_none());
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn every_try_reads_the_same_bytes(
            sizes in proptest::collection::vec(0usize..40, 0..12),
            limit in 0usize..300,
            stops in proptest::collection::vec(0usize..14, 0..5),
        ) {
            let text: Vec<Bytes> = (0u8..).zip(&sizes).map(|(n, size)| vec![n; *size].into()).collect();
            let whole = text.concat();
            let steps = text.into_iter().flat_map(|chunk| [Step::Wait, Step::Data(chunk)]);
            let buffers = Buffers::new(limit, 200);
            let (first, mut replay) = tee(stream(steps.collect::<Vec<_>>()), &buffers);
            let mut first = Some(first);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                for stop in stops.into_iter().chain([usize::MAX]) {
                    let can = replay.can_repeat();
                    let Some(body) = first.take().or_else(|| replay.attempt()) else {
                        assert!(!can);
                        break;
                    };
                    let mut body = pin!(body);
                    let mut read = Vec::new();
                    for _ in 0..stop {
                        assert!(body.size_hint().lower() as usize + read.len() <= whole.len());
                        let Some(frame) = body.frame().await else {
                            assert_eq!(read, whole);
                            break;
                        };
                        read.extend_from_slice(frame.unwrap().data_ref().unwrap());
                        assert!(buffers.used() <= limit.min(200));
                    }
                    assert!(whole.starts_with(&read));
                }
            });
            drop(replay);
            prop_assert_eq!(buffers.used(), 0);
        }
    }
}
