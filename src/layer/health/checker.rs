//! The state machine.

use std::time::Duration;

use tokio::time::Instant;

use super::{Health, InvalidSettings, Settings, Verdict};
use crate::random::Random;

/// What is known of one endpoint, and when to ask again; sans-IO.
///
/// ```
/// use std::time::Duration;
///
/// use meshwork::Random;
/// use meshwork::layer::health::{Checker, Health, Settings, Verdict};
/// use tokio::time::Instant;
///
/// let start = Instant::now();
/// let settings = Settings { jitter: Duration::ZERO, ..Settings::default() };
/// let mut checker = Checker::new(settings, start, Random::seeded(1))?;
/// assert_eq!((checker.health(), checker.next_probe()), (Health::Unhealthy, start));
/// assert_eq!(checker.record(Verdict::Healthy, start), Some(Health::Healthy));
/// assert_eq!(checker.next_probe(), start + Duration::from_secs(10));
/// # Ok::<(), meshwork::layer::health::InvalidSettings>(())
/// ```
#[derive(Clone, Debug)]
pub struct Checker {
    settings: Settings,
    random: Random,
    health: Health,
    /// Verdicts in a row that speak against `health`, as far as they are counted.
    against: u32,
    /// No check has ended yet.
    first: bool,
    /// Nobody uses the endpoint.
    quiet: bool,
    next: Instant,
}

impl Checker {
    /// Checks that begin at `now`, or up to `initial_jitter` later.
    ///
    /// # Errors
    /// If a duration is out of its bounds.
    pub fn new(settings: Settings, now: Instant, random: Random) -> Result<Self, InvalidSettings> {
        let settings = settings.check()?;
        Ok(Self {
            health: settings.initial,
            against: 0,
            first: true,
            quiet: false,
            next: later(now, up_to(settings.initial_jitter, &random)),
            settings,
            random,
        })
    }

    /// The present health.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// When the next probe is due; in the past if it is overdue.
    #[must_use]
    pub fn next_probe(&self) -> Instant {
        self.next
    }

    /// How long a probe may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// Says whether nobody uses the endpoint, so that it is enough to ask it at
    /// [`no_traffic_interval`](Settings::no_traffic_interval). In force for what is planned next.
    pub fn set_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
    }

    /// A probe has ended at `now`. Plans the next one, and returns the new health if it changed.
    pub fn record(&mut self, verdict: Verdict, now: Instant) -> Option<Health> {
        let changed = self.judge(verdict);
        self.first = false;
        let interval = self.interval(changed.is_some());
        let jitter = up_to(self.settings.jitter, &self.random);
        self.next = later(now, interval.saturating_add(jitter));
        changed
    }

    fn judge(&mut self, verdict: Verdict) -> Option<Health> {
        let turned = match (self.health, verdict) {
            (Health::Healthy, Verdict::Healthy)
            | (Health::Unhealthy, Verdict::Unanswered | Verdict::Unhealthy) => {
                self.against = 0;
                None
            }
            (Health::Healthy, Verdict::Unhealthy) => Some(Health::Unhealthy),
            (Health::Healthy, Verdict::Unanswered) => {
                self.against += 1;
                (self.against >= self.settings.unhealthy_threshold.get())
                    .then_some(Health::Unhealthy)
            }
            (Health::Unhealthy, Verdict::Healthy) => {
                self.against += 1;
                (self.first || self.against >= self.settings.healthy_threshold.get())
                    .then_some(Health::Healthy)
            }
        };
        if let Some(health) = turned {
            self.health = health;
            self.against = 0;
        }
        turned
    }

    fn interval(&self, edge: bool) -> Duration {
        let Settings {
            interval,
            unhealthy_interval,
            healthy_edge_interval,
            unhealthy_edge_interval,
            no_traffic_interval,
            ..
        } = self.settings;
        if let (true, Some(interval)) = (self.quiet, no_traffic_interval) {
            return interval;
        }
        let edge = |special: Option<Duration>| special.filter(|_| edge);
        match self.health {
            Health::Healthy => edge(healthy_edge_interval).unwrap_or(interval),
            Health::Unhealthy => edge(unhealthy_edge_interval)
                .or(unhealthy_interval)
                .unwrap_or(interval),
        }
    }
}

/// A duration from zero up to `most`, at random. No draw if there is nothing to choose.
fn up_to(most: Duration, random: &Random) -> Duration {
    if most.is_zero() {
        return Duration::ZERO;
    }
    most.mul_f64(random.unit())
}

/// At most two days later, so only a clock at its very end cannot say it; then at once.
fn later(now: Instant, time: Duration) -> Instant {
    now.checked_add(time).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn steady() -> Settings {
        Settings {
            jitter: Duration::ZERO,
            ..Settings::default()
        }
    }

    fn checker(settings: Settings) -> (Checker, Instant) {
        let now = Instant::now();
        let checker = Checker::new(settings, now, Random::seeded(1)).unwrap();
        (checker, now)
    }

    #[test]
    fn settings_out_of_bounds_are_refused_and_named() {
        let zero = Duration::ZERO;
        for (settings, text) in [
            (
                Settings {
                    interval: zero,
                    ..steady()
                },
                "the interval of a health check is 0ns: 1ms to 86400s is allowed",
            ),
            (
                Settings {
                    unhealthy_edge_interval: Some(zero),
                    ..steady()
                },
                "the unhealthy_edge_interval of a health check is 0ns: 1ms to 86400s is allowed",
            ),
            (
                Settings {
                    jitter: 86_401 * SECOND,
                    ..steady()
                },
                "the jitter of a health check is 86401s: 0ns to 86400s is allowed",
            ),
            (
                Settings {
                    timeout: zero,
                    ..steady()
                },
                "the timeout of a health check is 0ns: 1ms to 86400s is allowed",
            ),
        ] {
            let error = Checker::new(settings, Instant::now(), Random::seeded(1)).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }

    /// `.` passes, `x` says no, `-` does not answer; capitals after it: the health that it has.
    #[test]
    fn verdicts_change_the_health_by_the_thresholds() {
        for (name, initial, verdicts, healths) in [
            ("the first pass is enough", 'U', ".", "H"),
            ("after that it takes two", 'U', "x.-..", "UUUUH"),
            ("a failed first check uses up the favour", 'U', "-..", "UUH"),
            ("no answer takes three in a row", 'H', "--.---", "HHHHHU"),
            ("an answer that says no takes one", 'H', ".x", "HU"),
            ("also in the middle of a run", 'H', "--x..", "HHUUH"),
            ("a run ends when the health turns", 'H', "-x..--", "HUUHHH"),
        ] {
            let initial = match initial {
                'H' => Health::Healthy,
                _ => Health::Unhealthy,
            };
            let (mut checker, now) = checker(Settings {
                initial,
                ..steady()
            });
            let mut found = String::new();
            for verdict in verdicts.chars() {
                let verdict = match verdict {
                    '.' => Verdict::Healthy,
                    'x' => Verdict::Unhealthy,
                    _ => Verdict::Unanswered,
                };
                let before = checker.health();
                let change = checker.record(verdict, now);
                let after = checker.health();
                assert_eq!(change, (before != after).then_some(after), "{name}");
                found.push(if after == Health::Healthy { 'H' } else { 'U' });
            }
            assert_eq!(found, healths, "{name}");
        }
    }

    #[test]
    fn each_state_and_edge_has_its_interval() {
        let (mut checker, now) = checker(Settings {
            interval: 10 * SECOND,
            unhealthy_interval: Some(4 * SECOND),
            healthy_edge_interval: Some(2 * SECOND),
            unhealthy_edge_interval: Some(SECOND),
            ..steady()
        });
        for (verdict, seconds) in [
            (Verdict::Unanswered, 4),
            (Verdict::Healthy, 4),
            (Verdict::Healthy, 2),
            (Verdict::Healthy, 10),
            (Verdict::Unhealthy, 1),
            (Verdict::Unhealthy, 4),
        ] {
            checker.record(verdict, now);
            assert_eq!(checker.next_probe() - now, seconds * SECOND);
        }
    }

    #[test]
    fn an_endpoint_that_nobody_uses_is_asked_at_an_interval_of_its_own() {
        let (mut checker, now) = checker(Settings {
            no_traffic_interval: Some(60 * SECOND),
            ..steady()
        });
        for (quiet, seconds) in [(true, 60), (false, 10), (true, 60)] {
            checker.set_quiet(quiet);
            checker.record(Verdict::Healthy, now);
            assert_eq!(checker.next_probe() - now, seconds * SECOND);
        }
    }

    #[test]
    fn clients_do_not_ask_in_step() {
        let settings = Settings {
            initial_jitter: 10 * SECOND,
            jitter: SECOND,
            ..Settings::default()
        };
        let random = Random::seeded(7);
        let now = Instant::now();
        let (mut first, mut second) = ([0; 10], [0; 10]);
        for _ in 0..10_000 {
            let mut checker = Checker::new(settings, now, random.clone()).unwrap();
            first[(checker.next_probe() - now).as_secs() as usize] += 1;
            checker.record(Verdict::Healthy, now);
            let jitter = checker.next_probe() - now - 10 * SECOND;
            second[(jitter.as_millis() / 100) as usize] += 1;
        }
        // 1,000 expected in each; 3 sigma is 90.
        for count in first.into_iter().chain(second) {
            assert!((880..1_120).contains(&count), "{first:?} {second:?}");
        }
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        /// The definition: look back over all verdicts since the last change.
        #[test]
        fn the_health_is_that_of_the_definition(
            verdicts in prop::collection::vec(0_u8..3, 0..100),
            healthy in 1_u32..5,
            unhealthy in 1_u32..5,
        ) {
            let (mut checker, now) = checker(Settings {
                healthy_threshold: NonZeroU32::new(healthy).unwrap(),
                unhealthy_threshold: NonZeroU32::new(unhealthy).unwrap(),
                ..steady()
            });
            let mut health = Health::Unhealthy;
            let mut since_change = Vec::new();
            for (index, verdict) in verdicts.into_iter().enumerate() {
                let verdict = match verdict {
                    0 => Verdict::Healthy,
                    1 => Verdict::Unanswered,
                    _ => Verdict::Unhealthy,
                };
                since_change.push(verdict);
                let run = |wanted: Verdict| {
                    let same = |found: &&Verdict| **found == wanted;
                    since_change.iter().rev().take_while(same).count()
                };
                let turns = match health {
                    Health::Healthy => {
                        verdict == Verdict::Unhealthy
                            || run(Verdict::Unanswered) >= unhealthy as usize
                    }
                    Health::Unhealthy => {
                        run(Verdict::Healthy) >= healthy as usize
                            || (index == 0 && verdict == Verdict::Healthy)
                    }
                };
                if turns {
                    since_change.clear();
                    health = match health {
                        Health::Healthy => Health::Unhealthy,
                        Health::Unhealthy => Health::Healthy,
                    };
                }
                prop_assert_eq!(checker.record(verdict, now), turns.then_some(health));
            }
        }
    }
}
