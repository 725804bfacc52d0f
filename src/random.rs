//! Where chance comes from.
//!
//! Weighted routes, two-choice balancing, jitter and injected faults all draw from one injected
//! [`Random`], so that a test (or a bug report) can replay them from a seed.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "outbound")]
use std::time::Duration;

/// A source of random numbers; clones draw from the same source.
///
/// ```
/// use meshwork::Random;
///
/// let (one, same) = (Random::seeded(7), Random::seeded(7));
/// assert_eq!(one.below(100), same.below(100));
/// ```
#[derive(Clone, Debug)]
pub struct Random {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// The thread's own generator: no shared cache line on the path of a request.
    Thread,
    /// A counter that is hashed for each draw (splitmix64): one order of draws for one seed.
    Seeded(Arc<AtomicU64>),
}

thread_local! {
    static THREAD: Cell<Option<u64>> = const { Cell::new(None) };
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// Seeded from the operating system, once for each thread.
    #[must_use]
    pub fn from_entropy() -> Self {
        Self {
            source: Source::Thread,
        }
    }

    /// The same draws for the same seed, in the order in which they are made.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            source: Source::Seeded(Arc::new(AtomicU64::new(seed))),
        }
    }

    /// A number from all of `u64`.
    #[must_use]
    pub fn draw(&self) -> u64 {
        let state = match &self.source {
            Source::Thread => THREAD.with(|cell| {
                let state = cell.get().unwrap_or_else(|| fastrand::u64(..));
                let next = state.wrapping_add(GOLDEN);
                cell.set(Some(next));
                next
            }),
            Source::Seeded(counter) => counter
                .fetch_add(GOLDEN, Ordering::Relaxed)
                .wrapping_add(GOLDEN),
        };
        mix(state)
    }

    /// A number from `0..bound`; 0 if `bound` is 0.
    #[must_use]
    pub fn below(&self, bound: u32) -> u32 {
        scaled(self.draw(), bound)
    }

    /// A number from `0.0..1.0`.
    #[must_use]
    pub fn unit(&self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A pause up to a fifth shorter or longer, so that many who failed at once do not come back at
    /// once (`connection-backoff.md` of gRPC has the fifth).
    #[cfg(feature = "outbound")]
    pub(crate) fn around(&self, pause: Duration) -> Duration {
        pause.mul_f64(0.8 + 0.4 * self.unit())
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::from_entropy()
    }
}

/// Numbers that can be drawn again: each time the same ones, in the same order. Nothing is drawn until a number
/// is wanted.
#[cfg(feature = "outbound")]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Draws {
    seed: Option<u64>,
}

#[cfg(feature = "outbound")]
impl Draws {
    /// Draws numbers from `0..bound`, from the first one on.
    pub(crate) fn anew<'a>(
        &'a mut self,
        random: &'a Random,
        bound: u32,
    ) -> impl FnMut() -> u32 + use<'a> {
        let mut state = None;
        move || {
            let seed = *self.seed.get_or_insert_with(|| random.draw());
            let next = state.unwrap_or(seed).wrapping_add(GOLDEN);
            state = Some(next);
            scaled(mix(next), bound)
        }
    }
}

/// A number from `0..bound`, by Lemire's multiplication: the bias is below 2^-32, far below what weights
/// can show.
fn scaled(number: u64, bound: u32) -> u32 {
    ((u128::from(number) * u128::from(bound)) >> 64) as u32
}

/// The output function of splitmix64.
const fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// How the crate's properties are tested: `cases` inputs, the same ones in every run, so that a
/// build is red for a change and not for its luck. `PROPTEST_RNG_SEED` looks elsewhere.
#[cfg(test)]
pub(crate) fn properties(cases: u32) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};

    let config = Config::default();
    Config {
        cases,
        failure_persistence: None,
        rng_seed: match config.rng_seed {
            RngSeed::Random => RngSeed::Fixed(GOLDEN),
            fixed @ RngSeed::Fixed(_) => fixed,
        },
        ..config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_below_their_bound_and_cover_it() {
        let random = Random::seeded(1);
        let mut seen = [0u32; 10];
        for _ in 0..10_000 {
            seen[random.below(10) as usize] += 1;
        }
        assert!(
            seen.iter().all(|count| (850..1_150).contains(count)),
            "{seen:?}"
        );
        assert_eq!(random.below(0), 0);
        assert!((0..1_000).all(|_| (0.0..1.0).contains(&random.unit())));
    }

    #[test]
    fn threads_do_not_repeat_each_other() {
        let draw = || Random::from_entropy().draw();
        let other = std::thread::spawn(draw).join().unwrap();
        assert_ne!(draw(), other);
    }
}
