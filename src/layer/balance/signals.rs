//! What has been seen of a member: since when it serves, how fast it answers, what it reports.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Report;
use crate::model::balancing::{PeakEwma, SlowStart, WeightedRoundRobin};

/// What a balancer knows of a member beyond its load.
///
/// The member owns it, so that it outlives an edit of the list. All of it is read and written
/// without a lock; two writers at once can lose one of two observations, never mix them.
///
/// ```
/// use meshwork::layer::balance::Signals;
/// use tokio::time::Instant;
///
/// let signals = Signals::new(Instant::now());
/// signals.restart(Instant::now());
/// ```
#[derive(Debug)]
pub struct Signals {
    /// All other times are counted from here.
    born: Instant,
    /// When it came or came back, in nanoseconds.
    since: AtomicU64,
    /// The peak of latencies: seconds as `f32` in the upper half, milliseconds of the last
    /// observation in the lower. Zero: never seen.
    latency: AtomicU64,
    /// The reported weight, as the bits of an `f64`.
    weight: AtomicU64,
    /// When it was reported last and since when without a gap, in nanoseconds plus one; zero: not.
    reported: AtomicU64,
    ///
    /// Nobody reports where one member is used for all, and there the second is its [`Standing`]: what it
    /// is in the two lowest bits, and since when in nanoseconds above. Eight bytes of each endpoint are
    /// worth that.
    reporting: AtomicU64,
}

/// Whether a member can be connected to, as far as is known, with the time of that; in the order in
/// which they are picked where there is one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Standing {
    Reached(u64),
    Unknown,
    Lost(u64),
}

impl Signals {
    /// Of a member that begins to serve at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            born: now,
            since: AtomicU64::new(0),
            latency: AtomicU64::new(0),
            weight: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            reporting: AtomicU64::new(0),
        }
    }

    /// It is back after it was ejected: its share grows anew, and what it reported before, or whether
    /// it could be connected to, is forgotten.
    pub fn restart(&self, now: Instant) {
        self.since.store(self.nanos(now), Ordering::Relaxed);
        self.reported.store(0, Ordering::Relaxed);
        self.reporting.store(0, Ordering::Relaxed);
    }

    /// Other rules are in force: what it was to the old ones is nothing to the new ones.
    pub(super) fn forget(&self) {
        self.reporting.store(0, Ordering::Relaxed);
    }

    /// Centuries are cut off.
    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
    }

    // === Slow start ===

    /// Since when it serves without a break.
    pub(super) fn since(&self) -> Instant {
        let since = Duration::from_nanos(self.since.load(Ordering::Relaxed));
        self.born.checked_add(since).unwrap_or(self.born)
    }

    // === Standing ===

    pub(super) fn standing(&self) -> Standing {
        Standing::read(self.reporting.load(Ordering::Relaxed))
    }

    /// There is a connection; says whether that is news.
    pub(super) fn reach(&self, now: Instant) -> bool {
        let known = self.reporting.load(Ordering::Relaxed);
        if let Standing::Reached(_) = Standing::read(known) {
            return false;
        }
        let now = Standing::Reached(self.nanos(now)).pack();
        let order = Ordering::Relaxed;
        let changed = self.reporting.compare_exchange(known, now, order, order);
        changed.is_ok()
    }

    /// There is none to be had; says whether there was one before.
    pub(super) fn lose(&self, now: Instant) -> bool {
        let now = Standing::Lost(self.nanos(now)).pack();
        let before = self.reporting.swap(now, Ordering::Relaxed);
        matches!(Standing::read(before), Standing::Reached(_))
    }

    /// Whether it was found lost after that.
    pub(super) fn was_lost_since(&self, then: Instant) -> bool {
        matches!(self.standing(), Standing::Lost(at) if at > self.nanos(then))
    }

    /// It may be tried again as if it had not been.
    pub(super) fn forgive(&self) {
        let known = self.reporting.load(Ordering::Relaxed);
        if let Standing::Lost(_) = Standing::read(known) {
            let order = Ordering::Relaxed;
            // Whoever knows better has been faster.
            let _ = self.reporting.compare_exchange(known, 0, order, order);
        }
    }

    // === Latency ===

    /// An answer came after `took`. A failure says only that it would have taken at least that
    /// long: a fast error must not make an endpoint look fast.
    pub(super) fn observe(&self, took: Duration, failed: bool, rules: &PeakEwma, now: Instant) {
        // Wraps after 24 days without an observation, when it no longer matters.
        let stamp = (self.nanos(now) / 1_000_000) as u32;
        let took = took.as_secs_f32();
        let mut seen = self.latency.load(Ordering::Relaxed);
        loop {
            let known = Latency::read(seen);
            let before = known.map_or(rules.default_latency.as_secs_f32(), |latency| {
                latency.decayed(stamp, rules.decay)
            });
            let seconds = match (known, failed) {
                // Less is known by it than is believed already.
                (_, true) if took <= before => return,
                (None, _) | (Some(_), true) => took,
                // Up at once, down slowly.
                (Some(_), false) if took >= before => took,
                (Some(latency), false) => {
                    let kept = latency.kept(stamp, rules.decay);
                    latency.seconds * kept + took * (1.0 - kept)
                }
            };
            let after = Latency { seconds, stamp }.pack();
            match self.latency.compare_exchange_weak(
                seen,
                after,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
    }

    /// What it is believed to take now, in seconds. It decays while nothing is seen, so that a
    /// member which was slow once is tried again.
    pub(super) fn latency(&self, rules: &PeakEwma, now: Instant) -> f32 {
        match Latency::read(self.latency.load(Ordering::Relaxed)) {
            None => rules.default_latency.as_secs_f32(),
            Some(latency) => {
                let stamp = (self.nanos(now) / 1_000_000) as u32;
                latency.decayed(stamp, rules.decay)
            }
        }
    }

    // === Reports ===

    /// Takes a report; one without requests or utilization says nothing (gRPC A58).
    pub fn report(&self, report: &Report, rules: &WeightedRoundRobin, now: Instant) {
        let Some(weight) = report.weight(rules.error_penalty) else {
            return;
        };
        let now = self.nanos(now).saturating_add(1);
        self.weight.store(weight.to_bits(), Ordering::Relaxed);
        self.reported.store(now, Ordering::Relaxed);
        let _ = self
            .reporting
            .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The reported weight; `None` before the blackout is over and after the last report expired.
    pub(super) fn weight(&self, rules: &WeightedRoundRobin, now: Instant) -> Option<f64> {
        let now = self.nanos(now).saturating_add(1);
        let age = |then: &AtomicU64| match then.load(Ordering::Relaxed) {
            0 => None,
            then => Some(Duration::from_nanos(now.saturating_sub(then))),
        };
        if age(&self.reported)? >= rules.expiration {
            // The next report begins a blackout of its own.
            self.reporting.store(0, Ordering::Relaxed);
            return None;
        }
        if age(&self.reporting)? < rules.blackout {
            return None;
        }
        Some(f64::from_bits(self.weight.load(Ordering::Relaxed)))
    }
}

impl Standing {
    fn read(packed: u64) -> Self {
        match packed & 3 {
            1 => Self::Reached(packed >> 2),
            2 => Self::Lost(packed >> 2),
            _ => Self::Unknown,
        }
    }

    /// A century fits.
    fn pack(self) -> u64 {
        match self {
            Self::Reached(since) => since << 2 | 1,
            Self::Unknown => 0,
            Self::Lost(since) => since << 2 | 2,
        }
    }
}

#[derive(Clone, Copy)]
struct Latency {
    seconds: f32,
    stamp: u32,
}

impl Latency {
    fn read(packed: u64) -> Option<Self> {
        (packed != 0).then_some(Self {
            seconds: f32::from_bits((packed >> 32) as u32),
            stamp: packed as u32,
        })
    }

    fn pack(self) -> u64 {
        // The smallest positive number stands for zero, which would mean "never seen".
        let seconds = self.seconds.max(f32::MIN_POSITIVE);
        (u64::from(seconds.to_bits()) << 32) | u64::from(self.stamp)
    }

    /// How much of it is left.
    fn kept(self, stamp: u32, decay: Duration) -> f32 {
        // Another thread's observation can be a little later than this thread's time.
        let elapsed = f64::from(stamp.wrapping_sub(self.stamp).cast_signed().max(0)) / 1_000.0;
        // A decay of zero forgets everything at once, and nothing within the millisecond.
        let exponent = elapsed / decay.as_secs_f64();
        if exponent.is_nan() {
            1.0
        } else {
            (-exponent).exp() as f32
        }
    }

    fn decayed(self, stamp: u32, decay: Duration) -> f32 {
        self.seconds * self.kept(stamp, decay)
    }
}

impl SlowStart {
    /// The part of its share that a member gets which has served for this long.
    pub(super) fn part(&self, served: Duration) -> f64 {
        if served >= self.window {
            return 1.0;
        }
        // The window is longer than what was served, so it is not zero. An aggression of zero gives
        // an exponent of infinity, and the minimum until the end.
        let time = served.as_secs_f64() / self.window.as_secs_f64();
        let grown = time.powf(self.aggression.value().recip());
        grown.max(f64::from(self.minimum.value()) / 100.0)
    }
}
