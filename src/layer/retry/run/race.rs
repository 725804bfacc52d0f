//! Hedging: several tries of one request at once, of which one wins.
//!
//! The tries are futures of one task, not tasks: dropping the call drops all of them, and a loser
//! is cancelled by being dropped, which resets its stream at once. An answer is final if the policy
//! would not repeat it. A failure is not while another try is under way, since that may still
//! succeed; the last one that fails is judged like any failed try.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use http::{Request, Response};
use smallvec::SmallVec;
use tokio::time::{Sleep, sleep};

use super::super::{RetryPermit, Verdict};
use super::{Course, Failed, Tries, Try};
use crate::body::Body;
use crate::layer::timeout::Within;
use crate::model::retry::Hedge;

#[allow(
    clippy::large_enum_variant,
    reason = "it lives for a moment, within a future that is boxed"
)]
enum Step<B> {
    /// The next try is due.
    Due,
    /// One has ended; `None`: by its timeout.
    Ended(usize, Option<Result<Response<B>, Failed>>),
}

/// Begins a try, and others while it is slow; returns the winner's answer or the last failure.
pub(super) async fn race<B, T: Tries<B>>(
    course: &mut Course<'_>,
    tries: &mut T,
    request: Request<Body>,
    hedge: Hedge,
) -> Result<Response<B>, Failed> {
    let mut permits: SmallVec<[RetryPermit<'_>; 1]> = SmallVec::new();
    let this = course.begin(false);
    let mut running = vec![(this, Box::pin(one(tries, request, this)))];
    let mut timer: Option<Pin<Box<Sleep>>> = Some(Box::pin(sleep(hedge.delay)));
    loop {
        let step = poll_fn(|cx| {
            for (index, (_, trying)) in running.iter_mut().enumerate() {
                if let Poll::Ready(result) = trying.as_mut().poll(cx) {
                    return Poll::Ready(Step::Ended(index, result));
                }
            }
            match &mut timer {
                Some(timer) => timer.as_mut().poll(cx).map(|()| Step::Due),
                None => Poll::Pending,
            }
        });
        match step.await {
            Step::Due => {
                timer = None;
                let next = tries.can_hedge().then(|| course.hedge()).flatten();
                if let Some((request, permit)) = next {
                    permits.push(permit);
                    let this = course.begin(true);
                    running.push((this, Box::pin(one(tries, request, this))));
                    let more = permits.len() < hedge.extra.get() as usize;
                    timer = more.then(|| Box::pin(sleep(hedge.delay)));
                }
            }
            Step::Ended(index, result) => {
                let (this, _) = running.swap_remove(index);
                let result = match result {
                    Some(result) => result,
                    None => Err(course.took_too_long(this)),
                };
                tries.ended(this, &result);
                if running.is_empty() || is_final(course, &result) {
                    cancel(tries, running.iter().map(|(loser, _)| *loser));
                    return result;
                }
            }
        }
    }
}

/// One of several tries, which has its request for itself.
fn one<B, T: Tries<B>>(
    tries: &mut T,
    mut request: Request<Body>,
    this: Try,
) -> impl Future<Output = Option<Result<Response<B>, Failed>>> + use<B, T> {
    let begun = tries.begin(&mut request, this);
    let trying = async move { T::finish(begun, &mut request).await };
    Within::new(trying, this.deadline.at())
}

fn is_final<B>(course: &Course<'_>, result: &Result<Response<B>, Failed>) -> bool {
    match (result, course.call.policy) {
        (Ok(response), Some(policy)) => policy.judge(response) == Verdict::Done,
        (Ok(_), None) => true,
        (Err(_), _) => false,
    }
}

fn cancel<B, T: Tries<B>>(tries: &mut T, losers: impl Iterator<Item = Try>) {
    for loser in losers {
        tries.cancelled(loser);
    }
}
