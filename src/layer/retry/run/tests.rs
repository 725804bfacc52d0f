use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;

use super::*;
use crate::error::{BoxError, Limit};
use crate::model::limit::RetryLimit;
use crate::model::retry::{Backoff, RetryOn, RetryPolicy};

/// What a call needs around it.
struct World {
    policy: Option<Policy>,
    refusable: bool,
    per_try_timeout: Option<Duration>,
    quota: Quota,
    random: Random,
    buffers: Buffers,
}

impl World {
    /// Everything is retried, so many times.
    fn retrying(retries: u32) -> Self {
        let policy = Policy::new(&RetryPolicy {
            on: RetryOn {
                server_error: true,
                ..RetryOn::default()
            },
            retries,
            per_try_timeout: None,
            backoff: Backoff::default(),
            avoid_previous: false,
            hedge: None,
            leave_priorities: None,
        });
        Self {
            policy: Some(policy),
            ..Self::plain()
        }
    }

    fn plain() -> Self {
        Self {
            policy: None,
            refusable: false,
            per_try_timeout: None,
            quota: Quota::new(RetryLimit::Budget),
            random: Random::seeded(1),
            buffers: Buffers::default(),
        }
    }

    fn call(&self, deadline: Deadline) -> Call<'_> {
        Call {
            policy: self.policy.as_ref(),
            refusable: self.refusable,
            per_try_timeout: self.per_try_timeout,
            quota: &self.quota,
            active_requests: &|| 1,
            now: Instant::now(),
            deadline,
            random: &self.random,
            buffers: &self.buffers,
        }
    }

    /// Runs a call whose tries end as scripted, after reading the whole body; returns also the
    /// number that each try saw and the length of its body.
    async fn play(&self, body: Body, script: Vec<Ending>) -> Played {
        let mut script = VecDeque::from(script);
        let seen = RefCell::new(Vec::new());
        let attempt = |request: Request<Body>, tried: Try| {
            let ending = script.pop_front().expect("a try too many");
            let seen = &seen;
            async move {
                if let Ending::Unsent(kind) = ending {
                    seen.borrow_mut().push((tried.number, 0));
                    let error = Error::new(kind);
                    let unsent = Some(Box::new(request));
                    return Err(Failed { error, unsent });
                }
                let length = request.into_body().collect().await?.to_bytes().len();
                seen.borrow_mut().push((tried.number, length));
                match ending {
                    Ending::Status(status) => Ok(response(status)),
                    Ending::Fails(kind) | Ending::Unsent(kind) => Err(Error::new(kind).into()),
                }
            }
        };
        let (result, summary) = run(
            &self.call(Deadline::NONE),
            &mut Request::new(body),
            &mut Each(attempt),
        )
        .await;
        assert_eq!(self.quota.in_flight(), 0);
        assert_eq!(self.buffers.used(), 0);
        Played {
            result: result.map(|response| response.status().as_u16()),
            summary,
            seen: seen.into_inner(),
        }
    }
}

enum Ending {
    Status(u16),
    Fails(Kind),
    /// Fails and hands the request back.
    Unsent(Kind),
}

#[derive(Debug)]
struct Played {
    result: Result<u16, Error>,
    summary: Summary,
    seen: Vec<(u32, usize)>,
}

fn response(status: u16) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status.try_into().unwrap();
    response
}

/// A stream of chunks of which nothing is known beforehand; `None` waits for ever.
struct Chunks(VecDeque<Option<usize>>);

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.0.front() == Some(&None) {
            return Poll::Pending;
        }
        let chunk = self.0.pop_front().flatten();
        Poll::Ready(chunk.map(|size| Ok(Frame::data(vec![7; size].into()))))
    }
}

fn chunks(sizes: &[Option<usize>]) -> Body {
    Body::new(Chunks(sizes.iter().copied().collect()))
}

#[tokio::test(start_paused = true)]
async fn the_last_result_is_the_answer_and_the_summary_says_why() {
    let world = World::retrying(2);
    let body = || chunks(&[Some(3), Some(4)]);
    let saved = world
        .play(
            body(),
            vec![Ending::Fails(Kind::Reset), Ending::Status(200)],
        )
        .await;
    assert_eq!(saved.result.unwrap(), 200);
    assert_eq!(saved.seen, [(1, 7), (2, 7)]);
    assert_eq!((saved.summary.attempts, saved.summary.retries), (2, 1));
    assert_eq!(saved.summary.flag(), None);

    let spent = world
        .play(
            body(),
            vec![
                Ending::Status(500),
                Ending::Status(502),
                Ending::Fails(Kind::Reset),
            ],
        )
        .await;
    assert_eq!(spent.result.unwrap_err().attempts(), 3);
    assert_eq!(spent.seen, [(1, 7), (2, 7), (3, 7)]);
    assert_eq!(spent.summary.flag(), Some(Flag::UpstreamRetryLimitExceeded));
}

#[tokio::test(start_paused = true)]
async fn a_denied_retry_leaves_the_result_as_it_is() {
    let mut world = World::retrying(2);
    world.quota = Quota::new(RetryLimit::Concurrent(0));
    let denied = world.play("x".into(), vec![Ending::Status(503)]).await;
    assert_eq!(denied.result.unwrap(), 503);
    assert_eq!(denied.summary.flag(), Some(Flag::UpstreamOverflow));
    assert_eq!((denied.summary.denied, denied.summary.retries), (true, 0));
}

#[tokio::test(start_paused = true)]
async fn g6_what_never_left_is_sent_again_without_policy_or_quota_but_twice_at_most() {
    let mut world = World::plain();
    world.quota = Quota::new(RetryLimit::Concurrent(0));
    let unsent = || Ending::Unsent(Kind::Reset);
    let large = || chunks(&[Some(1 << 20)]);
    let sent = world
        .play(large(), vec![unsent(), unsent(), Ending::Status(200)])
        .await;
    assert_eq!(sent.result.unwrap(), 200);
    assert_eq!(sent.seen, [(1, 0), (1, 0), (1, 1 << 20)]);
    assert_eq!((sent.summary.resends, sent.summary.attempts), (2, 1));
    let lost = world
        .play(large(), vec![unsent(), unsent(), unsent()])
        .await;
    assert!(lost.result.unwrap_err().is_reset());
}

#[tokio::test(start_paused = true)]
async fn a_failed_connect_is_the_policys_business_and_needs_no_buffer() {
    let connect = || Ending::Unsent(Kind::Connect);
    let large = || chunks(&[Some(1 << 20)]);
    let plain = World::plain().play(large(), vec![connect()]).await;
    assert!(plain.result.unwrap_err().is_connect());
    let retried = World::retrying(1)
        .play(large(), vec![connect(), Ending::Status(200)])
        .await;
    assert_eq!((retried.result.unwrap(), retried.summary.retries), (200, 1));
    assert_eq!(retried.seen, [(1, 0), (2, 1 << 20)]);
}

#[tokio::test(start_paused = true)]
async fn g6_a_refused_request_is_repeated_once_outside_of_the_quota() {
    let mut world = World::retrying(1);
    world.quota = Quota::new(RetryLimit::Concurrent(0));
    let refused = || Ending::Fails(Kind::Refused);
    let once = world
        .play(chunks(&[Some(5)]), vec![refused(), Ending::Status(200)])
        .await;
    assert_eq!(once.result.unwrap(), 200);
    assert_eq!((once.summary.resends, once.summary.retries), (1, 0));
    assert_eq!(once.seen, [(1, 5), (2, 5)]);
    let twice = world.play("x".into(), vec![refused(), refused()]).await;
    assert!(twice.result.is_err() && twice.summary.denied);
    let plain = World::plain().play("x".into(), vec![refused()]).await;
    assert_eq!(plain.summary.resends, 0, "nothing was kept");
    let refusable = World {
        refusable: true,
        ..World::plain()
    };
    let kept = refusable
        .play(chunks(&[Some(5)]), vec![refused(), Ending::Status(200)])
        .await;
    assert_eq!(kept.result.unwrap(), 200);
    assert_eq!((kept.summary.resends, kept.summary.retries), (1, 0));
    let other = Ending::Fails(Kind::Reset);
    let other = refusable.play("x".into(), vec![other]).await;
    assert!(other.result.unwrap_err().is_reset());
    let twice = refusable.play("x".into(), vec![refused(), refused()]).await;
    assert!(twice.result.unwrap_err().is_unprocessed());
}

#[tokio::test(start_paused = true)]
async fn g6_a_request_that_may_have_been_executed_is_not_repeated_unless_the_policy_says_so() {
    let narrow = Policy::standard();
    let world = World {
        policy: Some(narrow),
        ..World::plain()
    };
    let reset = world
        .play("x".into(), vec![Ending::Fails(Kind::Reset)])
        .await;
    assert!(reset.result.unwrap_err().is_reset());
    assert_eq!(reset.seen.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn overflow_is_never_repeated_even_if_the_request_comes_back() {
    let limit = Limit::Pending;
    let overflow = Ending::Unsent(Kind::Overflow { limit });
    let played = World::retrying(3).play("x".into(), vec![overflow]).await;
    assert!(played.result.unwrap_err().is_overloaded());
    assert_eq!(played.summary.flag(), None);
}

#[tokio::test(start_paused = true)]
async fn g7_a_body_over_the_limit_is_sent_once() {
    let world = World::retrying(3);
    let large = world
        .play(
            chunks(&[Some(64 * 1024), Some(1)]),
            vec![Ending::Status(503)],
        )
        .await;
    assert_eq!((large.result.unwrap(), large.summary.attempts), (503, 1));
    let fitting = world
        .play(
            chunks(&[Some(64 * 1024)]),
            vec![Ending::Status(503), Ending::Status(200)],
        )
        .await;
    assert_eq!(fitting.seen, [(1, 64 * 1024), (2, 64 * 1024)]);
}

#[tokio::test(start_paused = true)]
async fn without_a_policy_the_request_passes_as_it_is() {
    for (retries, debug) in [
        (None, "Body(stream)"),
        (Some(0), "Body(stream)"),
        (Some(1), "Body(replay)"),
    ] {
        let world = retries.map_or_else(World::plain, World::retrying);
        let attempt = |request: Request<Body>, _| async move {
            assert_eq!(format!("{:?}", request.body()), debug);
            Ok::<_, Failed>(response(200))
        };
        let mut request = Request::new(chunks(&[Some(1)]));
        let call = world.call(Deadline::NONE);
        let (result, _) = run(&call, &mut request, &mut Each(attempt)).await;
        assert!(result.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn g8_an_answer_during_the_upload_is_delivered() {
    let world = World::retrying(3);
    // The first chunk is read, the second never comes.
    for (body, attempts) in [(chunks(&[Some(1), None]), 1), (chunks(&[None]), 2)] {
        let tries = Cell::new(0);
        let attempt = |request: Request<Body>, _| {
            tries.set(tries.get() + 1);
            let status = if tries.get() == 1 { 503 } else { 200 };
            async move {
                let mut body = request.into_body();
                tokio::select! {
                    biased;
                    _ = async { while body.frame().await.is_some() {} } => {}
                    () = std::future::ready(()) => {}
                }
                Ok(response(status))
            }
        };
        let (result, summary) = run(
            &world.call(Deadline::NONE),
            &mut Request::new(body),
            &mut Each(attempt),
        )
        .await;
        assert_eq!(summary.attempts, attempts);
        assert_eq!(result.unwrap().status() == 503, attempts == 1);
    }
}

#[tokio::test(start_paused = true)]
async fn each_try_has_its_own_time_unless_the_call_has_less() {
    let mut world = World::retrying(2);
    world.per_try_timeout = Some(Duration::from_secs(2));
    let start = Instant::now();
    let seen = RefCell::new(Vec::new());
    let attempt = |_, tried: Try| {
        seen.borrow_mut().push(tried.deadline.remaining().unwrap());
        std::future::pending::<Result<Response<Body>, Failed>>()
    };
    let deadline = Deadline::route(start, Duration::from_secs(5));
    let call = world.call(deadline);
    let (result, summary) = run(&call, &mut Request::default(), &mut Each(attempt)).await;
    // The third try ends with the whole call, whose error says so.
    let error = result.unwrap_err();
    assert!(error.to_string().contains("5s"), "{error}");
    assert_eq!(Instant::now(), deadline.at().unwrap());
    assert_eq!((summary.attempts, summary.flag()), (3, None));
    let seen = seen.into_inner();
    assert_eq!(seen[..2], [Duration::from_secs(2); 2]);
    assert!(seen.len() == 3 && seen[2] < Duration::from_secs(1));

    world.policy = None;
    let attempt = |_, _: Try| std::future::pending::<Result<Response<Body>, Failed>>();
    let call = world.call(Deadline::NONE);
    let (result, _) = run(&call, &mut Request::default(), &mut Each(attempt)).await;
    assert_eq!(
        result.unwrap_err().to_string(),
        "no response within the per-try timeout of 2s"
    );
}

#[tokio::test(start_paused = true)]
async fn g11_no_try_starts_without_a_useful_rest_of_the_deadline() {
    for seed in 0..50 {
        let mut world = World::retrying(3);
        world.random = Random::seeded(seed);
        let pauses = Backoff {
            base: Duration::from_millis(50),
            max: Duration::from_millis(50),
        };
        world.policy = Some(Policy::new(&RetryPolicy {
            on: RetryOn {
                server_error: true,
                ..RetryOn::default()
            },
            retries: 3,
            per_try_timeout: None,
            backoff: pauses,
            avoid_previous: false,
            hedge: None,
            leave_priorities: None,
        }));
        let start = Instant::now();
        let deadline = Deadline::caller(start, Duration::from_millis(100));
        let attempt = |_: Request<Body>, tried: Try| async move {
            assert!(tried.deadline.remaining().unwrap() >= LEAST_USEFUL);
            let mut headers = http::HeaderMap::new();
            tried.deadline.announce(&mut headers);
            let told: u128 = headers["x-envoy-expected-rq-timeout-ms"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            let left = Duration::from_millis(100) - start.elapsed();
            assert_eq!(told, left.as_millis());
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok::<_, Failed>(response(503))
        };
        let call = world.call(deadline);
        let (result, summary) = run(&call, &mut Request::default(), &mut Each(attempt)).await;
        assert!(start.elapsed() <= Duration::from_millis(101));
        assert!(summary.attempts <= 4);
        match result {
            Ok(response) => assert_eq!(response.status(), 503),
            Err(error) => assert!(error.is_timeout()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn g5_the_pause_that_the_peer_asked_for_is_kept() {
    let world = World::retrying(1);
    let start = Instant::now();
    let attempt = |_, tried: Try| async move {
        let mut answer = response(if tried.number == 1 { 503 } else { 200 });
        answer
            .headers_mut()
            .insert("retry-after", http::HeaderValue::from_static("7"));
        Ok::<_, Failed>(answer)
    };
    let call = world.call(Deadline::NONE);
    let (result, _) = run(&call, &mut Request::default(), &mut Each(attempt)).await;
    assert_eq!(result.unwrap().status(), 200);
    assert_eq!(start.elapsed(), Duration::from_secs(7));
    // Longer than the deadline: the answer is delivered at once.
    let deadline = Deadline::after(Duration::from_secs(7));
    let call = world.call(deadline);
    let (result, _) = run(&call, &mut Request::default(), &mut Each(attempt)).await;
    assert_eq!(result.unwrap().status(), 503);
    assert_eq!(start.elapsed(), Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn g13_a_call_dropped_anywhere_gives_everything_back() {
    let random = Random::seeded(13);
    let mut world = World::retrying(5);
    world.quota = Quota::new(RetryLimit::Concurrent(10));
    world.per_try_timeout = Some(Duration::from_millis(70));
    let tries = Cell::new(0u32);
    let (running, retrying) = (Cell::new(0), Cell::new(0));
    for _ in 0..1_000 {
        let attempt = |request: Request<Body>, tried: Try| {
            tries.set(tries.get() + 1);
            let (running, random) = (&running, &random);
            retrying.set(retrying.get() + u32::from(tried.number > 1));
            async move {
                running.set(running.get() + 1);
                let _guard = Decrement(running);
                request.into_body().collect().await?;
                tokio::time::sleep(Duration::from_millis(random.below(100).into())).await;
                Ok::<_, Failed>(response(503))
            }
        };
        let mut attempt = Each(attempt);
        let mut request = Request::new(chunks(&[Some(9), Some(9)]));
        let call = world.call(Deadline::NONE);
        let call = run(&call, &mut request, &mut attempt);
        let drop_after = Duration::from_millis(random.below(500).into());
        let _ = tokio::time::timeout(drop_after, call).await;
        assert_eq!(
            (running.get(), world.quota.in_flight(), world.buffers.used()),
            (0, 0, 0)
        );
    }
    assert!(tries.get() > 2_000 && retrying.get() > 1_000);
}

struct Decrement<'a>(&'a Cell<u32>);

impl Drop for Decrement<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

// === Hedging ===

/// One try of a call that is hedged: how long it takes, and whether it is a success.
#[derive(Clone, Copy, Debug)]
struct Lap {
    millis: u64,
    good: bool,
}

/// What a hedged call came to.
#[derive(Debug)]
struct Race {
    /// The number of the winner, or the status of a failure that was handed on.
    ended: Result<u32, u16>,
    took: Duration,
    tries: u32,
    most_at_once: u32,
    most_permits: u32,
}

/// Runs a call with these tries over a paused clock; a try beyond them fails at once.
fn hedged(laps: &[Lap], delay: u64, extra: u32, limit: u32) -> Race {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let mut world = World::retrying(laps.len() as u32 - 1);
    world.policy = Some(Policy::new(&RetryPolicy {
        on: RetryOn {
            server_error: true,
            ..RetryOn::default()
        },
        retries: laps.len() as u32 - 1,
        per_try_timeout: None,
        backoff: Backoff::default(),
        avoid_previous: false,
        hedge: std::num::NonZeroU32::new(extra).map(|extra| crate::model::retry::Hedge {
            delay: Duration::from_millis(delay),
            extra,
        }),
        leave_priorities: None,
    }));
    world.quota = Quota::new(RetryLimit::Concurrent(limit));
    let (tries, running) = (Cell::new(0), Cell::new(0));
    let (most_at_once, most_permits) = (Cell::new(0), Cell::new(0));
    let (ended, took) = runtime.block_on(async {
        let begun = Instant::now();
        let quota = &world.quota;
        let attempt = |request: Request<Body>, tried: Try| {
            let (running, most_at_once) = (&running, &most_at_once);
            tries.set(tries.get() + 1);
            running.set(running.get() + 1);
            most_at_once.set(running.get().max(most_at_once.get()));
            most_permits.set(quota.in_flight().max(most_permits.get()));
            let guard = Decrement(running);
            let lap = laps.get(tried.number as usize - 1).copied();
            async move {
                let _guard = guard;
                request.into_body().collect().await?;
                let Some(Lap { millis, good }) = lap else {
                    return Ok(response(503));
                };
                tokio::time::sleep(Duration::from_millis(millis)).await;
                let mut response = response(if good { 200 } else { 503 });
                response.extensions_mut().insert(tried.number);
                Ok::<_, Failed>(response)
            }
        };
        let mut request = Request::new(Body::empty());
        let call = world.call(Deadline::NONE);
        let (result, _) = run(&call, &mut request, &mut Each(attempt)).await;
        let response = result.unwrap();
        let number = response.extensions().get::<u32>().copied();
        let ended = match response.status().as_u16() {
            200 => Ok(number.unwrap()),
            other => Err(other),
        };
        (ended, begun.elapsed())
    });
    assert_eq!(running.get(), 0, "losers are dropped with the call");
    assert_eq!((world.quota.in_flight(), world.buffers.used()), (0, 0));
    Race {
        ended,
        took,
        tries: tries.get(),
        most_at_once: most_at_once.get(),
        most_permits: most_permits.get(),
    }
}

proptest::proptest! {
    #![proptest_config(crate::random::properties(128))]

    /// The definition: a try begins each `delay` while none has ended, at most `extra` beside the first
    /// and as many as the quota has; the one that ends first is the answer.
    #[test]
    fn g16_of_good_tries_the_first_to_end_wins_and_no_more_run_than_are_allowed(
        times in proptest::collection::vec(1_u64..400, 1..6),
        delay in 1_u64..200,
        extra in 1_u32..5,
        limit in 0_u32..5,
    ) {
        // No two moments are the same: whole milliseconds of which the last digit is the try's.
        let laps: Vec<Lap> = times.iter().enumerate().map(|(index, time)| Lap {
            millis: time * 10 + index as u64,
            good: true,
        }).collect();
        let delay = delay * 10;
        let race = hedged(&laps, delay, extra, limit);
        let allowed = (laps.len() as u32 - 1).min(extra).min(limit) as usize;
        let ends = laps[..=allowed].iter().enumerate();
        let ends = ends.map(|(index, lap)| (index as u64 * delay + lap.millis, index));
        // One that begins after the winner has ended cannot be the winner.
        let (end, winner) = ends.min().unwrap();
        let begun = (0..=allowed as u64).filter(|index| index * delay < end).count();
        proptest::prop_assert_eq!(race.ended, Ok(winner as u32 + 1));
        proptest::prop_assert_eq!(race.took, Duration::from_millis(end));
        proptest::prop_assert_eq!(race.tries as usize, begun);
        proptest::prop_assert!(race.most_at_once <= 1 + extra.min(limit));
        proptest::prop_assert!(race.most_permits <= limit);
    }

    /// Whatever fails: never more at once than the first and `extra`, never more tries than the policy
    /// has, never more permits than the quota, and a success if one of the tries that were made is.
    #[test]
    fn g16_failing_hedges_stay_within_number_and_quota(
        tries in proptest::collection::vec((1_u64..400, proptest::bool::ANY), 1..6),
        delay in 1_u64..200,
        extra in 1_u32..5,
        limit in 0_u32..5,
    ) {
        let laps: Vec<Lap> = tries.iter().map(|(millis, good)| Lap {
            millis: *millis,
            good: *good,
        }).collect();
        let race = hedged(&laps, delay, extra, limit);
        proptest::prop_assert!(race.most_at_once <= 1 + extra.min(limit), "{:?}", race);
        proptest::prop_assert!(race.tries as usize <= laps.len(), "{:?}", race);
        proptest::prop_assert!(race.most_permits <= limit, "{:?}", race);
        let good = laps[..race.tries as usize].iter().any(|lap| lap.good);
        match race.ended {
            Ok(number) => proptest::prop_assert!(laps[number as usize - 1].good),
            Err(status) => proptest::prop_assert!(status == 503 && !good, "{:?}", race),
        }
    }
}
