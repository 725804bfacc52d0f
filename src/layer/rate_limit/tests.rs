//! The buckets against their definition, and their bounds.

use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderName, Request};
use proptest::prelude::*;
use tokio::time::{Instant, advance};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn tenant(name: u64) -> Request<()> {
    let request = Request::builder().header("x-tenant", name);
    request.body(()).unwrap()
}

fn per_tenant(rate: Rate, keys: u32) -> RateLimit {
    let name = HeaderName::from_static("x-tenant");
    RateLimit::new().per_header(name, rate, NonZeroU32::new(keys).unwrap())
}

fn passes(limit: &RateLimit, request: &Request<()>) -> bool {
    limit.check(Head::of(request)).is_ok()
}

/// How many of a thousand requests pass at once.
fn burst(limit: &RateLimit, request: &Request<()>) -> usize {
    (0..1_000).filter(|_| passes(limit, request)).count()
}

#[tokio::test(start_paused = true)]
async fn g19_a_burst_then_one_by_one_and_nothing_while_the_clock_stands() {
    let limit = RateLimit::new().total(Rate::new(10, 5, SECOND).unwrap());
    let request = Request::new(());
    assert_eq!(burst(&limit, &request), 10);
    assert_eq!(burst(&limit, &request), 0, "the clock stands");
    advance(Duration::from_millis(199)).await;
    assert_eq!(burst(&limit, &request), 0);
    advance(Duration::from_millis(1)).await;
    assert_eq!(burst(&limit, &request), 1);
    advance(SECOND).await;
    assert_eq!(burst(&limit, &request), 5);
    advance(1_000 * SECOND).await;
    assert_eq!(burst(&limit, &request), 10, "never more than the bucket");
    assert_eq!(limit.refused(), 6_000 - 26);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_when_the_next_token_is_there() {
    let limit = RateLimit::new().total(Rate::new(1, 4, SECOND).unwrap());
    let request = Request::new(());
    assert!(passes(&limit, &request));
    advance(Duration::from_millis(50)).await;
    let exhausted = limit.check(Head::of(&request)).unwrap_err();
    assert_eq!(exhausted.wait(), Duration::from_millis(200));
    assert_eq!(
        exhausted.to_string(),
        "rate limited: the next token is there in 200ms"
    );
    assert_eq!(
        Error::from(exhausted).to_string(),
        "the local rate limit is exhausted; the next request may pass in 200ms"
    );
    advance(exhausted.wait()).await;
    assert!(passes(&limit, &request));
}

#[tokio::test(start_paused = true)]
async fn keys_do_not_use_up_each_other_and_requests_without_one_are_free() {
    let limit = per_tenant(Rate::new(3, 1, SECOND).unwrap(), 10);
    for name in 0..10 {
        assert_eq!(burst(&limit, &tenant(name)), 3, "{name}");
    }
    assert_eq!(burst(&limit, &Request::new(())), 1_000);
    assert_eq!(limit.keys(), 10);
}

#[tokio::test(start_paused = true)]
async fn who_is_over_its_own_limit_leaves_the_total_to_others() {
    let limit =
        per_tenant(Rate::new(3, 1, SECOND).unwrap(), 10).total(Rate::new(5, 1, SECOND).unwrap());
    assert_eq!(burst(&limit, &tenant(1)), 3);
    assert_eq!(burst(&limit, &tenant(2)), 2);
}

#[tokio::test(start_paused = true)]
async fn a_function_makes_keys_of_anything() {
    let limit = RateLimit::new().per_key(
        |head| {
            let user: Option<&u64> = head.extensions.get();
            user.map(|user| Cow::Owned(user.to_be_bytes().to_vec()))
        },
        Rate::new(2, 1, SECOND).unwrap(),
        NonZeroU32::new(10).unwrap(),
    );
    for user in 0..3_u64 {
        let mut request = Request::new(());
        request.extensions_mut().insert(user);
        assert_eq!(burst(&limit, &request), 2);
    }
    assert_eq!(burst(&limit, &Request::new(())), 1_000);
}

#[tokio::test(start_paused = true)]
async fn g19_a_million_keys_take_the_memory_of_the_bound() {
    let limit = per_tenant(Rate::new(2, 1, SECOND).unwrap(), 1_000);
    let mut passed = 0_u64;
    for name in 0..1_000_000 {
        passed += u64::from(passes(&limit, &tenant(name)));
    }
    assert_eq!(limit.keys(), 1_000);
    // The first thousand have buckets; all others share one of two tokens.
    assert_eq!(passed, 1_002);
    // A second later those buckets are full again: they can be had, with nothing lost.
    advance(SECOND).await;
    let passed = (0..1_000).filter(|name| passes(&limit, &tenant(2_000_000 + name)));
    assert_eq!(passed.count(), 1_000);
    assert_eq!(limit.keys(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn going_round_more_keys_than_buckets_does_not_get_around_the_limit() {
    let (keys, burst, seconds) = (10, 2, 60);
    let limit = per_tenant(Rate::new(burst, 1, SECOND).unwrap(), keys);
    let mut passed = 0;
    for round in 0..seconds * 10 {
        for name in 0..100 {
            passed += u32::from(passes(&limit, &tenant(name)));
        }
        if round % 2 == 0 {
            advance(SECOND / 5).await;
        }
    }
    let most = (keys + 1) * (burst + seconds);
    assert!(passed <= most, "{passed} of at most {most}");
    assert!(passed > keys * burst);
}

proptest! {
    #![proptest_config(crate::random::properties(256))]

    /// A bucket that is filled step by step, in whole nanoseconds.
    #[test]
    fn what_passes_is_what_the_bucket_of_the_definition_lets_pass(
        max_tokens in 1_u32..20,
        tokens in 1_u32..50,
        interval in 1_u64..5_000,
        keyed in any::<bool>(),
        steps in prop::collection::vec((0_u64..2_000_000_000, 0_u32..30), 1..50),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let rate = Rate::new(max_tokens, tokens, Duration::from_millis(interval)).unwrap();
            let limit = if keyed { per_tenant(rate, 1) } else { RateLimit::new().total(rate) };
            let request = tenant(1);
            let period = rate.period().as_nanos();
            let full = period * u128::from(max_tokens);
            let (mut level, mut last) = (full, Instant::now());
            for (wait, requests) in steps {
                advance(Duration::from_nanos(wait)).await;
                let now = Instant::now();
                level = full.min(level + (now - last).as_nanos());
                last = now;
                for _ in 0..requests {
                    let expected = level >= period;
                    if expected {
                        level -= period;
                    }
                    prop_assert_eq!(passes(&limit, &request), expected);
                }
            }
            Ok(())
        })?;
    }
}
