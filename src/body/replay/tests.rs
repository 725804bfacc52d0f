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
