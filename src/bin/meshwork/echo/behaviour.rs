//! How an echo treats requests, changeable while it serves.
//!
//! A demo or a test makes a healthy backend fail, hang or disappear at a moment of its choosing, so
//! the conduct sits behind a watch channel instead of being read once from flags. A request looks at
//! it once, on arrival; only [`Conduct::down`] is watched, because it concerns connections.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::StatusCode;
use meshwork::Random;
use tokio::sync::watch;
use tonic::Code;

/// A share of requests, from none (0) to all (1).
///
/// A float, since it is only compared with a random number in `0..1`: 0 never hits, 1 always does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share(f64);

impl Share {
    /// Every request.
    pub(crate) const ALL: Self = Self(1.0);
    /// No request.
    pub(crate) const NONE: Self = Self(0.0);

    fn hits(self, dice: &Random) -> bool {
        dice.unit() < self.0
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self(share)),
            _ => Err("expected a share from 0 (none) to 1 (all), such as 0.3".to_owned()),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What happens to requests. The default answers all of them at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Conduct {
    /// The HTTP status that failing requests get.
    pub(crate) status: StatusCode,
    /// The gRPC status that failing gRPC requests get; without it, what gRPC makes of `status`.
    pub(crate) grpc_status: Option<Code>,
    /// The share of requests that fails.
    pub(crate) fail: Share,
    /// Every so manieth request fails too: failures that never come in a row.
    pub(crate) fail_every: Option<NonZeroU32>,
    /// How long every request waits before anything else happens to it.
    pub(crate) delay: Duration,
    /// The share of requests that is reset; drawn before `fail`.
    pub(crate) reset: Share,
    /// Whether the echo is gone: its connections are cut and its port refuses new ones.
    pub(crate) down: bool,
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            grpc_status: None,
            fail: Share::NONE,
            fail_every: None,
            delay: Duration::ZERO,
            reset: Share::NONE,
            down: false,
        }
    }
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// It is answered.
    Answer,
    /// It gets one of these.
    Fail(StatusCode, Code),
    /// Its stream, or its HTTP/1.1 connection, is reset.
    Reset,
}

/// The conduct in force, and the dice for its shares.
#[derive(Debug)]
pub(crate) struct Behaviour {
    conduct: watch::Sender<Conduct>,
    dice: Random,
    /// Counts requests, for [`Conduct::fail_every`].
    turns: AtomicU32,
}

impl Behaviour {
    /// A behaviour that starts with `conduct` and rolls `dice`.
    pub(crate) fn new(conduct: Conduct, dice: Random) -> Self {
        Self {
            conduct: watch::Sender::new(conduct),
            dice,
            turns: AtomicU32::new(0),
        }
    }

    /// Changes the conduct for requests that arrive from here on; `down` acts on open connections.
    pub(crate) fn change(&self, edit: impl FnOnce(&mut Conduct)) {
        self.conduct.send_modify(edit);
    }

    /// The conduct in force.
    pub(crate) fn conduct(&self) -> Conduct {
        *self.conduct.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Conduct> {
        self.conduct.subscribe()
    }

    /// How long the next request waits, and what becomes of it then.
    ///
    /// Both dice are rolled for every request, so that changing one share leaves the sequence of
    /// the other as it was.
    pub(super) fn decide(&self) -> (Duration, Fate) {
        let conduct = *self.conduct.borrow();
        let (reset, fail) = (
            conduct.reset.hits(&self.dice),
            conduct.fail.hits(&self.dice),
        );
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let its_turn = conduct
            .fail_every
            .is_some_and(|every| turn.is_multiple_of(every.get()));
        let fate = if reset {
            Fate::Reset
        } else if fail || its_turn {
            let code = conduct
                .grpc_status
                .unwrap_or_else(|| grpc_of_http(conduct.status));
            Fate::Fail(conduct.status, code)
        } else {
            Fate::Answer
        };
        (conduct.delay, fate)
    }
}

/// What a gRPC client makes of an HTTP status (gRPC's `http-grpc-status-mapping.md`).
fn grpc_of_http(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(conduct: Conduct, seed: u64) -> Vec<Fate> {
        let behaviour = Behaviour::new(conduct, Random::seeded(seed));
        (0..2_000).map(|_| behaviour.decide().1).collect()
    }

    #[test]
    fn shares_hold_at_both_ends_and_between() {
        let failed = |fail: &str| {
            let conduct = Conduct {
                fail: fail.parse().expect("a share"),
                ..Conduct::default()
            };
            fates(conduct, 7)
                .iter()
                .filter(|fate| matches!(fate, Fate::Fail(..)))
                .count()
        };
        assert_eq!(failed("0"), 0);
        assert_eq!(failed("1"), 2_000);
        // Three standard deviations of a binomial of 2,000 at 0.3 are 61.
        assert!(failed("0.3").abs_diff(600) <= 61, "{}", failed("0.3"));
    }

    #[test]
    fn failing_in_turns_is_exact() {
        let conduct = Conduct {
            fail_every: NonZeroU32::new(4),
            ..Conduct::default()
        };
        let failed = |fate: &Fate| matches!(fate, Fate::Fail(..));
        for four in fates(conduct, 1).chunks(4) {
            assert_eq!(four.iter().filter(|fate| failed(fate)).count(), 1);
        }
    }

    #[test]
    fn a_seed_fixes_the_sequence() {
        let conduct = Conduct {
            fail: Share(0.5),
            reset: Share(0.1),
            ..Conduct::default()
        };
        assert_eq!(fates(conduct, 1), fates(conduct, 1));
        assert_ne!(fates(conduct, 1), fates(conduct, 2));
        let resets = |fate: &Fate| *fate == Fate::Reset;
        let without_failures = fates(
            Conduct {
                fail: Share::NONE,
                ..conduct
            },
            1,
        );
        assert!(
            fates(conduct, 1)
                .iter()
                .map(resets)
                .eq(without_failures.iter().map(resets)),
            "the failing share moved the resets"
        );
    }

    #[test]
    fn failing_grpc_gets_what_grpc_makes_of_the_status() {
        for (status, code) in [
            (400, Code::Internal),
            (401, Code::Unauthenticated),
            (403, Code::PermissionDenied),
            (404, Code::Unimplemented),
            (429, Code::Unavailable),
            (500, Code::Unknown),
            (502, Code::Unavailable),
            (503, Code::Unavailable),
            (504, Code::Unavailable),
            (505, Code::Unknown),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let conduct = Conduct {
                status,
                fail: Share::ALL,
                ..Conduct::default()
            };
            assert_eq!(fates(conduct, 0)[0], Fate::Fail(status, code));
            let told = Conduct {
                grpc_status: Some(Code::Aborted),
                ..conduct
            };
            assert_eq!(fates(told, 0)[0], Fate::Fail(status, Code::Aborted));
        }
    }

    #[test]
    fn a_share_is_between_none_and_all() {
        for text in ["", "-0.1", "1.1", "30%", "NaN", "inf"] {
            let error = text.parse::<Share>().expect_err(text);
            assert!(error.contains("from 0 (none) to 1 (all)"), "{error}");
        }
    }
}
