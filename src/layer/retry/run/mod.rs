//! The one retry loop, which [`Retry`](super::Retry) and a mesh's outbound path both use.

mod race;

use std::pin::pin;
use std::time::Duration;

use http::{Request, Response};
use tokio::time::Instant;

use super::source::Source;
use super::{Policy, Quota, RetryPermit, Verdict, backoff};
use crate::body::Body;
use crate::body::replay::Buffers;
use crate::error::{Error, Flag, Kind};
use crate::layer::deadline::Deadline;
use crate::layer::timeout::Within;
use crate::random::Random;
use race::race;

/// No retry starts when less than this is left of the deadline after its pause: it could only add
/// load.
const LEAST_USEFUL: Duration = Duration::from_millis(1);

/// How often a request that provably never left is sent again without asking anybody. Bounded,
/// because connections may go on breaking faster than requests get onto them.
const RESENDS: u32 = 2;

/// What a call is made under. Cheap to make: references and numbers.
pub(crate) struct Call<'a> {
    /// What is tried again; `None`: nothing but what no peer has looked at.
    pub(crate) policy: Option<&'a Policy>,
    /// Whether a peer may refuse the request unseen, so that it is kept without a policy too.
    pub(crate) refusable: bool,
    /// How long one try may take until its headers: the policy's or the request's own.
    pub(crate) per_try_timeout: Option<Duration>,
    /// What the cluster allows.
    pub(crate) quota: &'a Quota,
    /// Requests of the cluster in flight or waiting, for quotas that are a share of them.
    pub(crate) active_requests: &'a (dyn Fn() -> u32 + Sync),
    /// When the first try begins.
    pub(crate) now: Instant,
    /// When the call is over.
    pub(crate) deadline: Deadline,
    /// Draws the pauses.
    pub(crate) random: &'a Random,
    /// How much of the body may be kept.
    pub(crate) buffers: &'a Buffers,
}

/// One try, as the closure that makes it sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Try {
    /// 1 for the first. A request that is sent again because it never left keeps its number: what
    /// the peer sees in `x-envoy-attempt-count` is what reached anybody.
    pub(crate) number: u32,
    /// When it is over: the earlier of the call's deadline and the per-try timeout. The callee should
    /// be told; it is the loop that enforces it.
    pub(crate) deadline: Deadline,
    /// Whether an earlier one is still under way.
    pub(crate) hedge: bool,
}

/// What makes the tries of a call.
///
/// A request stays in one place from the caller down to the connection, which takes it from there:
/// futures that carry a request each are what a call's future would mostly consist of.
pub(crate) trait Tries<B> {
    /// A try that was begun.
    type Begun;

    /// Begins one: decides what there is to decide before anything is waited for.
    fn begin(&mut self, request: &mut Request<Body>, this: Try) -> Self::Begun;

    /// Carries out what was begun. Several may be under way at once.
    fn finish(
        begun: Self::Begun,
        request: &mut Request<Body>,
    ) -> impl Future<Output = Result<Response<B>, Failed>>;

    /// Hears how one ended, also when its time was over. Not called for a try that is dropped
    /// together with the whole call.
    fn ended(&mut self, this: Try, result: &Result<Response<B>, Failed>);

    /// Hears that another try was faster than this one, which is dropped.
    fn cancelled(&mut self, this: Try) {
        let _ = this;
    }

    /// The request of a try that ended so, if it never left and goes to somebody else at once, as a part
    /// of the same try.
    fn onward(&mut self, result: &mut Result<Response<B>, Failed>) -> Option<Request<Body>> {
        let _ = result;
        None
    }

    /// Whether there is somebody else to send the request to.
    fn can_hedge(&self) -> bool {
        true
    }
}

/// Tries that are made by a closure, for callers who need not hear how they end.
pub(crate) struct Each<F>(pub(crate) F);

impl<B, F, A> Tries<B> for Each<F>
where
    F: FnMut(Request<Body>, Try) -> A,
    A: Future<Output = Result<Response<B>, Failed>>,
{
    type Begun = A;

    fn begin(&mut self, request: &mut Request<Body>, this: Try) -> A {
        (self.0)(std::mem::take(request), this)
    }

    fn finish(
        begun: A,
        _: &mut Request<Body>,
    ) -> impl Future<Output = Result<Response<B>, Failed>> {
        begun
    }

    fn ended(&mut self, _: Try, _: &Result<Response<B>, Failed>) {}
}

/// How a try failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// The request, if it certainly never left.
    pub(crate) unsent: Option<Box<Request<Body>>>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            error,
            unsent: None,
        }
    }
}

/// What a call took, for the caller's statistics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Summary {
    /// Tries, the first included; those that were sent again because they never left are not
    /// counted apart.
    pub(crate) attempts: u32,
    /// Tries that the policy asked for beyond the first.
    pub(crate) retries: u32,
    /// Requests sent again because no peer had looked at them: outside of policy and quota.
    pub(crate) resends: u32,
    /// The pauses between tries.
    pub(crate) paused: Duration,
    /// The policy wanted one more retry and the quota did not allow it.
    pub(crate) denied: bool,
    /// The policy wanted one more retry and its number was used up.
    pub(crate) exhausted: bool,
}

impl Summary {
    /// Envoy's flag for why there were no more retries.
    pub(crate) fn flag(&self) -> Option<Flag> {
        if self.exhausted {
            Some(Flag::UpstreamRetryLimitExceeded)
        } else if self.denied {
            Some(Flag::UpstreamOverflow)
        } else {
            None
        }
    }
}

/// Makes a call: tries until the policy is satisfied or there is a reason to stop, and returns the
/// last response or error.
///
/// The reasons: the policy's retries are used up, the body cannot be sent again, the peer answered
/// while the request was still being uploaded, the deadline leaves no time for pause and try, the
/// quota denies. The last result is then the answer, whatever it is.
///
/// Two failures are repeated without asking policy or quota, because no peer has looked at the
/// request and so nothing is executed twice: a request that is handed back after its connection
/// broke ([`Failed::unsent`], at most twice), and one that the peer refused unseen
/// ([`Kind::Refused`], once, if it can be repeated). A failed connect is not among them: it
/// is slow, it is the endpoint's failure, and `attempts: 0` must mean that the caller sees it; unless
/// it is a part of [looking for an endpoint](Tries::onward) that can be connected to.
///
/// A per-try timeout and the call's deadline bound the time to the headers; there is one timer for
/// both, since the earlier of them ends a try. Without a policy, and where no peer can refuse the
/// request unseen, it is passed through as it is.
/// Cancel-safe: dropping the future cancels the try, gives back permits and frees what was buffered.
pub(crate) async fn run<B, T: Tries<B>>(
    call: &Call<'_>,
    request: &mut Request<Body>,
    tries: &mut T,
) -> (Result<Response<B>, Error>, Summary) {
    call.quota.first_try();
    let mut course = Course::new(call, request);
    loop {
        let hedge = course.call.policy.and_then(Policy::hedge);
        let mut result = match hedge {
            None => {
                let this = course.begin(false);
                let begun = tries.begin(request, this);
                // Pinned here, so that the timer moves a pointer and not the whole try.
                let ended = {
                    let trying = pin!(T::finish(begun, request));
                    Within::new(trying, this.deadline.at()).await
                };
                let result = ended.unwrap_or_else(|| Err(course.took_too_long(this)));
                tries.ended(this, &result);
                result
            }
            // Boxed, so that calls without hedging do not carry its state.
            Some(hedge) => {
                let request = std::mem::take(request);
                Box::pin(race(&mut course, tries, request, hedge)).await
            }
        };
        if let Some(with) = tries.onward(&mut result) {
            course.onward = true;
            *request = with;
            continue;
        }
        match course.judge(result) {
            Next::Answer(result) => return (result, course.summary),
            Next::Again { with, pause } => {
                if !pause.is_zero() {
                    course.summary.paused += pause;
                    tokio::time::sleep(pause).await;
                }
                *request = with;
            }
        }
    }
}

/// What to do after a try.
enum Next<B> {
    Answer(Result<Response<B>, Error>),
    Again {
        with: Request<Body>,
        pause: Duration,
    },
}

/// A call between its tries.
struct Course<'a> {
    call: &'a Call<'a>,
    /// Makes further requests, if there is a reason to and the body allows it.
    source: Option<Source>,
    /// Of the retry under way.
    permit: Option<RetryPermit<'a>>,
    /// Whether a refused request was repeated already.
    refused: bool,
    /// Whether the request went on to somebody else as a part of the first try.
    onward: bool,
    summary: Summary,
}

impl<'a> Course<'a> {
    fn new(call: &'a Call<'a>, request: &mut Request<Body>) -> Self {
        let armed = call.policy.is_some_and(|policy| policy.retries() > 0);
        let source = (armed || call.refusable)
            .then(|| Source::of(request, call.buffers))
            .flatten();
        Self {
            call,
            source,
            permit: None,
            refused: false,
            onward: false,
            summary: Summary {
                attempts: 1,
                ..Summary::default()
            },
        }
    }

    /// The next try.
    fn begin(&self, hedge: bool) -> Try {
        let whole = self.call.deadline;
        let deadline = match self.call.per_try_timeout {
            Some(after) => {
                let again = self.summary.attempts > 1 || self.summary.resends > 0 || self.onward;
                let now = if again { Instant::now() } else { self.call.now };
                whole.min(Deadline::route(now, after))
            }
            None => whole,
        };
        Try {
            number: self.summary.attempts,
            deadline,
            hedge,
        }
    }

    /// The error of a try whose time is over: its own, or that of the whole call.
    fn took_too_long(&self, this: Try) -> Failed {
        if this.deadline == self.call.deadline {
            return self.call.deadline.error().into();
        }
        let after = self.call.per_try_timeout.unwrap_or_default();
        Error::new(Kind::PerTryTimeout { after }).into()
    }

    fn judge<B>(&mut self, result: Result<Response<B>, Failed>) -> Next<B> {
        let (result, mut unsent) = match result {
            Ok(response) => (Ok(response), None),
            Err(Failed { error, unsent }) => (Err(error), unsent),
        };
        let again = match self.resend(&result, &mut unsent) {
            Some(with) => Some((with, Duration::ZERO)),
            None => self.retry(&result, unsent),
        };
        match again {
            // The response that is not wanted is dropped before the pause, not after it.
            Some((with, pause)) => Next::Again { with, pause },
            None => {
                Next::Answer(result.map_err(|error| error.after_attempts(self.summary.attempts)))
            }
        }
    }

    /// The request again, if no peer has looked at it.
    fn resend<B>(
        &mut self,
        result: &Result<Response<B>, Error>,
        unsent: &mut Option<Box<Request<Body>>>,
    ) -> Option<Request<Body>> {
        let kind = result.as_ref().err()?.kind();
        if unsent.is_some() {
            let lost_race = matches!(kind, Kind::Body | Kind::Inner | Kind::Refused | Kind::Reset);
            if !lost_race || self.summary.resends >= RESENDS {
                return None;
            }
            self.summary.resends += 1;
            return unsent.take().map(|request| *request);
        }
        if !matches!(kind, Kind::Refused) || self.refused {
            return None;
        }
        self.refused = true;
        let last = self.retries_left() == 0;
        let request = self.again(last)?;
        self.summary.resends += 1;
        self.summary.attempts += 1;
        Some(request)
    }

    /// The request for a retry and the pause before it, if policy, body, time and quota allow one.
    fn retry<B>(
        &mut self,
        result: &Result<Response<B>, Error>,
        unsent: Option<Box<Request<Body>>>,
    ) -> Option<(Request<Body>, Duration)> {
        let policy = self.call.policy?;
        let verdict = match result {
            Err(error) if unsent.is_some() && policy.repeats_unsent(error) => Verdict::Again,
            result => policy.verdict(result),
        };
        let asked = match verdict {
            Verdict::Done => return None,
            Verdict::Again => None,
            Verdict::AgainAfter(pause) => Some(pause),
        };
        if self.retries_left() == 0 {
            self.summary.exhausted = policy.retries() > 0;
            return None;
        }
        let repeatable = match &self.source {
            Some(source) => source.can_repeat(result.is_ok()),
            None => false,
        };
        if unsent.is_none() && !repeatable {
            return None;
        }
        let pause = asked.unwrap_or_else(|| {
            backoff::pause(policy.backoff(), self.summary.retries, self.call.random)
        });
        if let Some(left) = self.call.deadline.remaining()
            && left < pause.saturating_add(LEAST_USEFUL)
        {
            return None;
        }
        // The permit of the retry that has just failed goes back first, as in Envoy: one call
        // never holds two.
        self.permit = None;
        let Some(permit) = self.call.quota.retry((self.call.active_requests)()) else {
            self.summary.denied = true;
            return None;
        };
        let last = self.retries_left() == 1 && self.refused;
        let request = match unsent {
            Some(request) => *request,
            // The cancelled try may still be read from and exceed the limit just here.
            None => self.again(last)?,
        };
        self.permit = Some(permit);
        self.summary.retries += 1;
        self.summary.attempts += 1;
        Some((request, pause))
    }

    /// The request for a try beside those under way, if number, body, time and quota allow one.
    fn hedge(&mut self) -> Option<(Request<Body>, RetryPermit<'a>)> {
        let in_time = |left: Duration| left >= LEAST_USEFUL;
        if self.retries_left() == 0
            || !self.source.as_ref()?.can_hedge()
            || !self.call.deadline.remaining().is_none_or(in_time)
        {
            return None;
        }
        let permit = self.call.quota.retry((self.call.active_requests)())?;
        let request = self.again(false)?;
        self.summary.retries += 1;
        self.summary.attempts += 1;
        Some((request, permit))
    }

    fn retries_left(&self) -> u32 {
        self.call
            .policy
            .map_or(0, |policy| policy.retries() - self.summary.retries)
    }

    /// The request once more; `last` if it is certain that no other will be asked for.
    fn again(&mut self, last: bool) -> Option<Request<Body>> {
        if last {
            self.source.take()?.last()
        } else {
            self.source.as_mut()?.again()
        }
    }
}

#[cfg(test)]
mod tests;
