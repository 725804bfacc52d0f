//! Which results are worth another try.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, Response, StatusCode};

use super::pushback::{self, Pushback};
use crate::error::{Error, Kind};
use crate::layer::classify;
use crate::model::retry::{Backoff, Hedge, RetryOn, RetryPolicy};

const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

/// Whether to try again.
///
/// Exhaustive on purpose: there is nothing else to do with a result.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The result is final: a success, or a failure that the policy does not repeat.
    Done,
    /// Try again after a pause of the back-off.
    Again,
    /// Try again after the pause that the peer asked for (`retry-after`,
    /// `grpc-retry-pushback-ms`), at most five minutes.
    AgainAfter(Duration),
}

/// A retry policy, ready to judge results.
///
/// The rules are those of Envoy's router (`RetryStateImpl`):
///
/// - `5xx` and `gateway-error` also cover every way of getting no answer: a failed connect, a reset,
///   a refused stream, a per-try timeout. `reset` covers those and no answers.
/// - Never repeated, whatever the policy: an overflow of this side's limits or of the peer's
///   (`x-envoy-overloaded`), the route's timeout and the caller's deadline, injected faults, wrong
///   requests and configurations.
/// - gRPC names look at the status of trailers-only responses; `retriable-4xx` is 409.
/// - An answer with `x-envoy-ratelimited` is repeated under `envoy-ratelimited` only.
///
/// A server may overrule the policy in one direction: `grpc-retry-pushback-ms` that is negative or
/// no number ends the retries (gRPC A6).
///
/// ```
/// use meshwork::{Error, layer::retry::{Policy, Verdict}};
///
/// let policy = Policy::standard();
/// let answer = |status: u16| Ok::<_, Error>(http::Response::builder().status(status).body(()).unwrap());
/// assert_eq!(policy.verdict(&answer(503)), Verdict::Again);
/// assert_eq!(policy.verdict(&answer(500)), Verdict::Done);
/// ```
#[derive(Clone, Debug)]
pub struct Policy {
    on: RetryOn,
    /// One bit for each gRPC status.
    grpc: u32,
    retries: u32,
    per_try_timeout: Option<Duration>,
    backoff: Backoff,
    avoid_previous: bool,
    hedge: Option<Hedge>,
    wall_clock: fn() -> SystemTime,
}

impl Policy {
    /// Prepares a route's policy.
    #[must_use]
    pub fn new(policy: &RetryPolicy) -> Self {
        let RetryPolicy {
            on,
            retries,
            per_try_timeout,
            backoff,
            avoid_previous,
            hedge,
            // Whoever picks endpoints heeds it.
            leave_priorities: _,
        } = policy;
        Self {
            // Numbers that gRPC does not know never match.
            grpc: on
                .grpc
                .iter()
                .filter_map(|status| 1u32.checked_shl(*status))
                .fold(0, |bits, bit| bits | bit),
            on: on.clone(),
            retries: *retries,
            per_try_timeout: *per_try_timeout,
            backoff: *backoff,
            avoid_previous: *avoid_previous,
            hedge: *hedge,
            wall_clock: SystemTime::now,
        }
    }

    /// What most clients want: two retries of what another endpoint or moment may cure and what was
    /// hardly processed (no connection, refused streams, HTTP 503, gRPC UNAVAILABLE), with Envoy's
    /// pauses.
    #[must_use]
    pub fn standard() -> Self {
        Self::new(&RetryPolicy {
            on: RetryOn {
                connect_failure: true,
                refused_stream: true,
                statuses: vec![StatusCode::SERVICE_UNAVAILABLE],
                grpc: vec![14],
                ..RetryOn::default()
            },
            retries: 2,
            per_try_timeout: None,
            backoff: Backoff::default(),
            avoid_previous: true,
            hedge: None,
            leave_priorities: None,
        })
    }

    /// The same policy with another clock for `retry-after` dates, which are the only times on the
    /// wire that are not durations. A function, so that a test can stop it.
    #[must_use]
    pub fn with_wall_clock(self, wall_clock: fn() -> SystemTime) -> Self {
        Self { wall_clock, ..self }
    }

    /// How many retries may follow the first try.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// How long one try may take until its headers.
    #[must_use]
    pub fn per_try_timeout(&self) -> Option<Duration> {
        self.per_try_timeout
    }

    /// Whether a retry should go to an endpoint that was not tried yet.
    #[must_use]
    pub fn avoid_previous(&self) -> bool {
        self.avoid_previous
    }

    /// Whether a slow try gets company.
    #[must_use]
    pub fn hedge(&self) -> Option<Hedge> {
        self.hedge
    }

    pub(super) fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    /// Judges the result of a try.
    #[must_use]
    pub fn verdict<B>(&self, result: &Result<Response<B>, Error>) -> Verdict {
        match result {
            Ok(response) => self.judge(response),
            Err(error) if self.repeats(error.kind()) => Verdict::Again,
            Err(_) => Verdict::Done,
        }
    }

    pub(super) fn judge<B>(&self, response: &Response<B>) -> Verdict {
        self.of_answer(response.status(), response.headers())
    }

    fn of_answer(&self, status: StatusCode, headers: &HeaderMap) -> Verdict {
        if !self.matches(status, headers) {
            return Verdict::Done;
        }
        match pushback::of(headers, self.wall_clock) {
            Pushback::None => Verdict::Again,
            Pushback::After(pause) => Verdict::AgainAfter(pause),
            Pushback::Never => Verdict::Done,
        }
    }

    fn matches(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        // Nearly all answers satisfy no condition: those two headers are looked for last.
        let rate_limited = || headers.contains_key(RATE_LIMITED);
        let wanted = match self.on.envoy_ratelimited && rate_limited() {
            true => true,
            false => self.wants(status, headers) && !rate_limited(),
        };
        wanted && !headers.contains_key(OVERLOADED)
    }

    fn wants(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let gateway = matches!(status.as_u16(), 502..=504);
        (self.on.server_error && status.is_server_error())
            || (self.on.gateway_error && gateway)
            || (self.on.retriable_4xx && status == StatusCode::CONFLICT)
            || self.on.statuses.contains(&status)
            || self
                .on
                .headers
                .iter()
                .any(|name| headers.contains_key(name))
            || self.matches_grpc(headers)
    }

    fn matches_grpc(&self, headers: &HeaderMap) -> bool {
        // Most policies name no gRPC status; they need not look for the header.
        self.grpc != 0
            && classify::grpc_status(headers)
                .and_then(|status| 1u32.checked_shl(status))
                .is_some_and(|bit| self.grpc & bit != 0)
    }

    /// Whether the policy repeats a try that got no answer for this reason.
    fn repeats(&self, kind: &Kind) -> bool {
        let on = &self.on;
        let no_answer = on.server_error || on.gateway_error || on.reset;
        match kind {
            Kind::Connect | Kind::ConnectTimeout { .. } | Kind::Secure => {
                no_answer || on.connect_failure || on.reset_before_request
            }
            Kind::Refused => no_answer || on.refused_stream,
            Kind::Inner | Kind::PerTryTimeout { .. } | Kind::Reset => no_answer,
            // A body that breaks before the answer is the caller's own, an idle timeout is the
            // route's; no other endpoint would do better.
            Kind::Body
            | Kind::Idle { .. }
            | Kind::Timeout { .. }
            | Kind::Overflow { .. }
            | Kind::RateLimited { .. }
            | Kind::Dropped { .. }
            | Kind::Throttled
            | Kind::Fault { .. }
            | Kind::NoRoute { .. }
            | Kind::Blocked { .. }
            | Kind::Discovery { .. }
            | Kind::NoCluster
            | Kind::NoEndpoint
            | Kind::Draining
            | Kind::Upgrade { .. }
            | Kind::UpgradeForbidden { .. }
            | Kind::Denied
            | Kind::Ambiguous { .. }
            | Kind::Request { .. }
            | Kind::Config { .. } => false,
        }
    }

    /// Whether the policy repeats a request that never left because its connection broke first.
    pub(super) fn repeats_unsent(&self, error: &Error) -> bool {
        self.on.reset_before_request && matches!(error.kind(), Kind::Reset | Kind::Inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Limit, Whose};

    fn policy(set: impl FnOnce(&mut RetryOn)) -> Policy {
        let mut on = RetryOn::default();
        set(&mut on);
        Policy::new(&RetryPolicy {
            on,
            retries: 1,
            per_try_timeout: None,
            backoff: Backoff::default(),
            avoid_previous: false,
            hedge: None,
            leave_priorities: None,
        })
    }

    fn answer(policy: &Policy, status: u16, headers: &[(&'static str, &'static str)]) -> Verdict {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        policy.verdict(&Ok(response.body(()).unwrap()))
    }

    fn failure(policy: &Policy, kind: Kind) -> bool {
        let verdict = policy.verdict::<()>(&Err(Error::new(kind)));
        assert_ne!(verdict, Verdict::AgainAfter(Duration::ZERO));
        verdict == Verdict::Again
    }

    #[test]
    fn each_condition_takes_its_answers_and_no_others() {
        let header = HeaderName::from_static("x-retry");
        let conditions: [(&str, Policy, &[u16]); 6] = [
            (
                "5xx",
                policy(|on| on.server_error = true),
                &[500, 501, 502, 503, 504, 599],
            ),
            (
                "gateway-error",
                policy(|on| on.gateway_error = true),
                &[502, 503, 504],
            ),
            (
                "retriable-4xx",
                policy(|on| on.retriable_4xx = true),
                &[409],
            ),
            (
                "statuses",
                policy(|on| on.statuses = vec![StatusCode::NOT_FOUND, StatusCode::IM_A_TEAPOT]),
                &[404, 418],
            ),
            ("reset", policy(|on| on.reset = true), &[]),
            ("headers", policy(|on| on.headers = vec![header]), &[]),
        ];
        for (name, policy, repeated) in conditions {
            for status in [
                200, 301, 400, 404, 409, 418, 429, 500, 501, 502, 503, 504, 599,
            ] {
                let again = answer(&policy, status, &[]) == Verdict::Again;
                assert_eq!(again, repeated.contains(&status), "{name} {status}");
            }
            let again = answer(&policy, 200, &[("x-retry", "")]) == Verdict::Again;
            assert_eq!(again, name == "headers", "{name}");
        }
    }

    #[test]
    fn no_answer_is_covered_as_in_envoy() {
        let after = Duration::from_secs(1);
        let kinds = [
            Kind::Connect,
            Kind::ConnectTimeout { after },
            Kind::Reset,
            Kind::Refused,
            Kind::PerTryTimeout { after },
        ];
        for (name, policy, repeated) in [
            ("5xx", policy(|on| on.server_error = true), [true; 5]),
            (
                "gateway-error",
                policy(|on| on.gateway_error = true),
                [true; 5],
            ),
            ("reset", policy(|on| on.reset = true), [true; 5]),
            (
                "connect-failure",
                policy(|on| on.connect_failure = true),
                [true, true, false, false, false],
            ),
            (
                "refused-stream",
                policy(|on| on.refused_stream = true),
                [false, false, false, true, false],
            ),
            (
                "reset-before-request",
                policy(|on| on.reset_before_request = true),
                [true, true, false, false, false],
            ),
            ("unavailable", policy(|on| on.grpc = vec![14]), [false; 5]),
        ] {
            for (kind, repeated) in kinds.clone().into_iter().zip(repeated) {
                let text = format!("{name} {kind:?}");
                assert_eq!(failure(&policy, kind), repeated, "{text}");
            }
        }
    }

    #[test]
    fn what_no_retry_cures_is_never_repeated() {
        let all = policy(|on| {
            on.server_error = true;
            on.gateway_error = true;
            on.reset = true;
            on.connect_failure = true;
            on.statuses = vec![StatusCode::SERVICE_UNAVAILABLE];
            on.grpc = vec![14];
        });
        let after = Duration::from_secs(1);
        let limit = Limit::Requests;
        let status = StatusCode::SERVICE_UNAVAILABLE;
        for kind in [
            Kind::Overflow { limit },
            Kind::RateLimited {
                wait: after,
                refusal: None,
            },
            Kind::Dropped {
                category: "lb".into(),
            },
            Kind::Throttled,
            Kind::Timeout {
                after,
                whose: Whose::Route,
            },
            Kind::Timeout {
                after,
                whose: Whose::Caller,
            },
            Kind::Fault { status, grpc: None },
            Kind::Fault {
                status,
                grpc: Some(14),
            },
            Kind::NoEndpoint,
            Kind::Draining,
        ] {
            let name = format!("{kind:?}");
            assert!(!failure(&all, kind), "{name}");
        }
        assert_eq!(
            answer(&all, 503, &[("x-envoy-overloaded", "true")]),
            Verdict::Done
        );
        assert_eq!(
            answer(&all, 503, &[("x-envoy-ratelimited", "true")]),
            Verdict::Done
        );
        let limited = policy(|on| on.envoy_ratelimited = true);
        assert_eq!(
            answer(&limited, 429, &[("x-envoy-ratelimited", "")]),
            Verdict::Again
        );
        assert_eq!(answer(&limited, 429, &[]), Verdict::Done);
    }

    #[test]
    fn grpc_names_look_at_trailers_only_answers() {
        let policy = policy(|on| on.grpc = vec![1, 14, 77]);
        for (status, again) in [
            ("0", false),
            ("1", true),
            ("2", false),
            ("14", true),
            ("77", false),
            ("x", false),
        ] {
            let verdict = answer(&policy, 200, &[("grpc-status", status)]);
            assert_eq!(verdict == Verdict::Again, again, "{status}");
        }
        assert_eq!(answer(&policy, 200, &[]), Verdict::Done);
    }

    #[test]
    fn g5_the_peer_may_slow_down_or_end_retries_but_not_cause_them() {
        let policy = policy(|on| on.server_error = true);
        let ms = Duration::from_millis;
        for (name, value, verdict) in [
            ("grpc-retry-pushback-ms", "0", Verdict::AgainAfter(ms(0))),
            (
                "grpc-retry-pushback-ms",
                "100",
                Verdict::AgainAfter(ms(100)),
            ),
            ("grpc-retry-pushback-ms", "-1", Verdict::Done),
            ("grpc-retry-pushback-ms", "x", Verdict::Done),
            ("retry-after", "2", Verdict::AgainAfter(ms(2_000))),
            ("retry-after", "x", Verdict::Again),
        ] {
            assert_eq!(
                answer(&policy, 503, &[(name, value)]),
                verdict,
                "{name}: {value}"
            );
            assert_eq!(answer(&policy, 404, &[(name, value)]), Verdict::Done);
        }
    }
}
