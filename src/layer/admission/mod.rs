//! Rejects requests on the client's side while the server rejects them anyway.
//!
//! Rejecting a request costs a server nearly as much as answering a small one, so a server that
//! is far enough over its capacity can be kept busy with rejections alone. The clients see that
//! their requests fail; if each of them holds a share of its requests back, the server gets about
//! as much as it can serve. This is the adaptive throttling of the SRE book ("Handling
//! Overload"), which Envoy has as `admission_control`:
//!
//! ```text
//! chance of rejection = max(0, (requests - multiplier * accepts) / (requests + 1))
//! ```
//!
//! over the requests of the last two minutes, those rejected here included. With the default
//! multiplier of 2 nothing is rejected until more than half fails; after that the server gets
//! twice what it accepts: enough to notice at once when it can do more. At most 80 % are rejected
//! (Envoy's `max_rejection_probability`), so a server that was gone for a while is found again by
//! the fifth of the traffic that still asks. From there all traffic is back within one and a half
//! windows.
//!
//! # Against the neighbours
//!
//! [`outlier`](super::outlier) takes single endpoints out, [`concurrency`](super::concurrency)
//! limits what is in flight, a retry budget limits what retries add. This one limits the first
//! tries, and acts on the whole of a destination. It belongs inside the retries (each try asks),
//! and its own rejections are not worth retrying.
//!
//! # What is counted
//!
//! | how a request ended | request | accept |
//! | --- | --- | --- |
//! | a status below 500 but 429, or a gRPC status that maps to one | yes | yes |
//! | 429 (RESOURCE_EXHAUSTED), 5xx, no answer, dropped by the caller | yes | no |
//! | rejected here | yes | no |
//! | it never left for another reason (a limit, a fault, no route) | no | no |
//!
//! A request is counted when it ends, not when it begins: a hundred requests that start at once
//! against a healthy server must not look like a hundred failures. Calls that are dropped count as
//! failures, as in Envoy, because a timeout further up is the common reason.
//!
//! # How it counts
//!
//! [`Throttle`] has a ring of [`SLOTS`] slots, each a 24th of the window and each one atomic number
//! that holds both counts and its own age. So there is no lock, no timer that expires old slots,
//! and no moment at which two of them disagree; asking is a sum over the ring. The window
//! consists of whole slots and is therefore up to one slot shorter than its name.
//!
//! ```
//! use std::sync::Arc;
//!
//! use meshwork::Random;
//! use meshwork::layer::admission::{Settings, Throttle};
//! use meshwork::layer::classify::Outcome;
//!
//! let throttle = Arc::new(Throttle::new(Settings::default(), Random::seeded(1))?);
//! for _ in 0..99 {
//!     if let Ok(ticket) = throttle.admit() {
//!         ticket.finish(Some(Outcome::Failure(503)));
//!     }
//! }
//! assert_eq!(throttle.chance(), 0.8);
//! # Ok::<(), meshwork::layer::admission::InvalidSettings>(())
//! ```

mod future;
mod layer;
mod service;
mod ticket;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use crate::error::{Error, Kind};
use crate::model::Percent;
use crate::random::Random;
use window::{Counts, Window};

pub use future::ResponseFuture;
pub use layer::AdmissionLayer;
pub use service::Throttled;
pub use ticket::Ticket;
pub use window::SLOTS;

/// When requests are rejected.
///
/// A plain value; [`Throttle::new`] checks it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How many requests the server may get for each that it accepts: 1 to 100. Default 2.
    ///
    /// Lower is stricter: 1.1 rejects as soon as a tenth fails. A float because it is a factor.
    pub multiplier: f64,
    /// How far the counts reach back: 1 s to 1 h. Default 2 minutes.
    pub window: Duration,
    /// The highest chance of rejection. Default 80 %. With 100 % a server that has failed for a
    /// whole window is asked no more until the window is over.
    pub max_rejection: Percent,
}

/// What is wrong with [`Settings`].
#[derive(Clone, Copy, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidSettings {
    /// The multiplier is below one, too high, or no number.
    #[error("the multiplier is {0}: 1 to 100 is allowed")]
    Multiplier(f64),
    /// The window is too short or too long.
    #[error("the window is {0:?}: 1s to 3600s is allowed")]
    Window(Duration),
}

/// The request was rejected on this side; nothing was sent.
///
/// Becomes a [`meshwork::Error`](crate::Error) that [`is_overloaded`](Error::is_overloaded), with the flag
/// `UO`.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("rejected by admission control: too many recent requests failed")]
pub struct Rejected;

/// What became of recent requests to one destination, and the dice; shared by `Arc`.
///
/// The module documentation has an example.
#[derive(Debug)]
pub struct Throttle {
    settings: Settings,
    window: Window,
    rejected: AtomicU64,
    random: Random,
}

impl Default for Settings {
    /// The SRE book's, with Envoy's cap.
    fn default() -> Self {
        Self {
            multiplier: 2.0,
            window: Duration::from_secs(120),
            max_rejection: Percent::new(80).unwrap_or(Percent::HUNDRED),
        }
    }
}

impl Throttle {
    /// A throttle that has seen nothing, and draws from `random`.
    ///
    /// # Errors
    /// If a setting is out of its bounds.
    pub fn new(settings: Settings, random: Random) -> Result<Self, InvalidSettings> {
        let Settings {
            multiplier,
            window,
            max_rejection: _,
        } = settings;
        if !(1.0..=100.0).contains(&multiplier) {
            return Err(InvalidSettings::Multiplier(multiplier));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&window) {
            return Err(InvalidSettings::Window(window));
        }
        Ok(Self {
            settings,
            window: Window::new(window, Instant::now()),
            rejected: AtomicU64::new(0),
            random,
        })
    }

    /// Asks for one request; the answer is final.
    ///
    /// # Errors
    /// If the dice say that it is not sent. That is counted already.
    pub fn admit(self: &Arc<Self>) -> Result<Ticket, Rejected> {
        let now = Instant::now();
        let chance = self.chance_at(now);
        // No draw while all is well: seeded tests of other layers are not disturbed.
        if chance > 0.0 && self.random.unit() < chance {
            self.window.add(Counts::REFUSED, now);
            self.rejected.fetch_add(1, Ordering::Relaxed);
            return Err(Rejected);
        }
        Ok(Ticket::new(self.clone()))
    }

    /// The chance that the next request is rejected: 0 to `max_rejection`.
    #[must_use]
    pub fn chance(&self) -> f64 {
        self.chance_at(Instant::now())
    }

    /// How many requests were rejected so far.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    fn chance_at(&self, now: Instant) -> f64 {
        let Counts { requests, accepts } = self.window.sum(now);
        // Exact: both are sums of a few 24-bit numbers.
        let (requests, accepts) = (requests as f64, accepts as f64);
        let chance = (requests - self.settings.multiplier * accepts) / (requests + 1.0);
        let most = f64::from(self.settings.max_rejection.value()) / 100.0;
        chance.clamp(0.0, most)
    }

    fn count(&self, counts: Counts) {
        self.window.add(counts, Instant::now());
    }
}

impl From<Rejected> for Error {
    fn from(_: Rejected) -> Self {
        Self::new(Kind::Throttled)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layer::classify::{Local, Outcome};

    fn throttle(settings: Settings) -> Arc<Throttle> {
        Arc::new(Throttle::new(settings, Random::seeded(1)).unwrap())
    }

    /// A request with this end, whatever the dice say.
    fn send(throttle: &Arc<Throttle>, outcome: Option<Outcome>) {
        Ticket::new(throttle.clone()).finish(outcome);
    }

    #[test]
    fn settings_out_of_bounds_are_refused_and_named() {
        let good = Settings::default();
        for (settings, text) in [
            (
                Settings {
                    multiplier: 0.9,
                    ..good
                },
                "the multiplier is 0.9: 1 to 100 is allowed",
            ),
            (
                Settings {
                    window: Duration::from_millis(999),
                    ..good
                },
                "the window is 999ms: 1s to 3600s is allowed",
            ),
            (
                Settings {
                    window: Duration::MAX,
                    ..good
                },
                "the window is 18446744073709551615.999999999s: 1s to 3600s is allowed",
            ),
        ] {
            let error = Throttle::new(settings, Random::seeded(1)).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
        assert_eq!(good.max_rejection.value(), 80);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_the_server_turned_down_counts_against_it() {
        for (outcome, requests, accepts) in [
            (Some(Outcome::Success), 1, 1),
            (Some(Outcome::Failure(404)), 1, 1),
            (Some(Outcome::Failure(429)), 1, 0),
            (Some(Outcome::Failure(500)), 1, 0),
            (Some(Outcome::Failure(503)), 1, 0),
            (Some(Outcome::Local(Local::Timeout)), 1, 0),
            (None, 0, 0),
        ] {
            let throttle = throttle(Settings::default());
            send(&throttle, outcome);
            let counts = throttle.window.sum(Instant::now());
            assert_eq!(counts, Counts { requests, accepts }, "{outcome:?}");
        }
        let throttle = throttle(Settings::default());
        drop(throttle.admit());
        let counts = throttle.window.sum(Instant::now());
        assert_eq!((counts.requests, counts.accepts), (1, 0), "dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_rejected_until_more_than_half_fails() {
        let throttle = throttle(Settings::default());
        for _ in 0..1_000 {
            send(&throttle, Some(Outcome::Success));
            send(&throttle, Some(Outcome::Failure(503)));
            assert_eq!(throttle.chance(), 0.0);
        }
        send(&throttle, Some(Outcome::Failure(503)));
        assert!(throttle.chance() > 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_under_way_are_no_failures() {
        let throttle = throttle(Settings::default());
        let tickets: Vec<_> = (0..1_000).map(|_| throttle.admit().unwrap()).collect();
        assert_eq!(throttle.chance(), 0.0);
        for ticket in tickets {
            ticket.finish(Some(Outcome::Success));
        }
        assert_eq!(throttle.chance(), 0.0);
    }

    /// The point of it all: the server gets about twice what it accepts, never nothing, and all of
    /// it soon after it is well again.
    #[tokio::test(start_paused = true)]
    async fn an_overloaded_server_gets_twice_what_it_accepts_and_a_dead_one_a_fifth() {
        let throttle = throttle(Settings::default());
        // 100 requests per second, of which the server takes `capacity`.
        let second = async |capacity: u32| {
            let mut taken = 0;
            for _ in 0..100 {
                let Ok(ticket) = throttle.admit() else {
                    continue;
                };
                taken += 1;
                let accepted = taken <= capacity;
                let outcome = if accepted {
                    Outcome::Success
                } else {
                    Outcome::Failure(503)
                };
                ticket.finish(Some(outcome));
            }
            tokio::time::advance(Duration::from_secs(1)).await;
            taken
        };
        for _ in 0..240 {
            second(20).await;
        }
        let mut sent = 0;
        for _ in 0..100 {
            sent += second(20).await;
        }
        assert!(
            (3_600..4_400).contains(&sent),
            "{sent} of 10,000, 2,000 accepted"
        );

        for _ in 0..120 {
            second(0).await;
        }
        sent = 0;
        for _ in 0..100 {
            sent += second(0).await;
        }
        assert!(
            (1_800..2_200).contains(&sent),
            "{sent} of 10,000, none accepted"
        );

        let healed = async || {
            for seconds in 1.. {
                if second(100).await == 100 {
                    return seconds;
                }
            }
            0
        };
        let healed = healed().await;
        assert!((2..=180).contains(&healed), "{healed} s");
    }

    #[tokio::test(start_paused = true)]
    async fn rejections_follow_the_chance_and_the_same_seed_repeats_them() {
        let play = || {
            let throttle = throttle(Settings::default());
            for _ in 0..10_000 {
                send(&throttle, Some(Outcome::Local(Local::Connect)));
            }
            let admitted: Vec<_> = (0..10_000).map(|_| throttle.admit().is_ok()).collect();
            assert_eq!(
                throttle.rejected(),
                10_000 - admitted.iter().filter(|ok| **ok).count() as u64
            );
            admitted
        };
        let (one, other) = (play(), play());
        assert_eq!(one, other);
        let admitted = one.iter().filter(|ok| **ok).count();
        // 3 sigma of a binomial with 10,000 draws of 0.2 is 120.
        assert!((1_880..=2_120).contains(&admitted), "{admitted}");
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Wait(u64),
        Accepted(u8),
        Failed(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u64..40_000).prop_map(Step::Wait),
            any::<u8>().prop_map(Step::Accepted),
            any::<u8>().prop_map(Step::Failed),
        ]
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        /// The definition, from a list of all requests that ever were.
        #[test]
        fn the_chance_is_that_of_the_definition(
            steps in prop::collection::vec(step(), 0..60),
            multiplier in 1.0_f64..4.0,
            most in 0_u32..=100,
            window in 1_u64..=240,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let settings = Settings {
                    multiplier,
                    window: Duration::from_secs(window),
                    max_rejection: Percent::new(most).unwrap(),
                };
                let throttle = throttle(settings);
                let slot = settings.window / SLOTS;
                let start = Instant::now();
                let slot_of = |now: Instant| (now - start).as_nanos() / slot.as_nanos();
                let mut log: Vec<(u128, bool)> = Vec::new();
                for step in steps {
                    match step {
                        Step::Wait(time) => tokio::time::advance(Duration::from_millis(time)).await,
                        Step::Accepted(count) => for _ in 0..count {
                            send(&throttle, Some(Outcome::Success));
                            log.push((slot_of(Instant::now()), true));
                        },
                        Step::Failed(count) => for _ in 0..count {
                            send(&throttle, Some(Outcome::Failure(500)));
                            log.push((slot_of(Instant::now()), false));
                        },
                    }
                    let oldest = (slot_of(Instant::now()) + 1).saturating_sub(u128::from(SLOTS));
                    let recent = log.iter().filter(|(slot, _)| *slot >= oldest);
                    let requests = recent.clone().count() as f64;
                    let accepts = recent.filter(|(_, accepted)| *accepted).count() as f64;
                    let expected = ((requests - multiplier * accepts) / (requests + 1.0))
                        .max(0.0)
                        .min(f64::from(most) / 100.0);
                    prop_assert_eq!(throttle.chance(), expected);
                }
                Ok(())
            })?;
        }
    }
}
