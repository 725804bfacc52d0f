//! What is measured of the tries of gRPC's calls beside the calls themselves (gRFC A66, A96).
//!
//! A call that is tried once is its own try: the same status after the same time. So tries are not
//! recorded on the way of a call but when one is made again: how long each try took, and how long
//! such a call took as a whole, which is taken off when metrics are read. What a call that succeeds at once
//! pays is one addition, for the try that was begun.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::histogram::{Distribution, Histogram};
use crate::error::GRPC_STATUSES;

/// The statuses that gRPC knows; others are UNKNOWN to every client.
const STATUSES: usize = GRPC_STATUSES.len();
/// UNKNOWN.
const UNKNOWN: u8 = 2;

/// A status, and what is added to the durations of its calls, and taken off, to have those of its tries.
pub(super) type Difference = (&'static str, Distribution, Distribution);

/// The tries of calls under one set of labels.
#[derive(Debug, Default)]
pub(super) struct Tries {
    begun: AtomicU64,
    // Held for the additions of one call that was tried again, and while all is read.
    together: Mutex<()>,
    /// Made by the first call that is tried again.
    again: OnceLock<Box<Again>>,
}

/// What is known of calls that were tried more than once.
#[derive(Debug, Default)]
struct Again {
    /// Each of their tries.
    tries: ByStatus,
    /// The calls as a whole.
    whole: ByStatus,
    retries: Few,
    transparent: Few,
    hedges: Few,
    delay: Histogram,
}

/// How often a call was tried again, and what it waited for that.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Repeats {
    /// Tries that the policy asked for, one after the other.
    pub(crate) retries: u32,
    /// Requests that were sent again because no peer had looked at them.
    pub(crate) transparent: u32,
    /// Tries that were begun beside another.
    pub(crate) hedges: u32,
    /// The pauses between tries.
    pub(crate) delay: Duration,
}

impl Tries {
    /// A try has begun.
    pub(super) fn begun(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were begun.
    pub(super) fn count(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// A try has ended that was not the answer.
    pub(super) fn tried(&self, status: u8, took: Duration) {
        self.again().tries.record(status, took);
    }

    /// While this is held no call that was tried again becomes part of what is read: its duration is there
    /// with that of its last try and with what is taken off, or not at all. Otherwise sums could fall.
    pub(super) fn together(&self) -> MutexGuard<'_, ()> {
        self.together.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call has ended that was tried more than once: all of it, and its last try.
    pub(super) fn answered(&self, status: u8, whole: Duration, last: Duration) {
        let again = self.again();
        again.whole.record(status, whole);
        again.tries.record(status, last);
    }

    /// What a call did to be tried again; nothing of it is not recorded, as A96 wants it.
    pub(super) fn repeated(&self, repeats: Repeats) {
        if repeats == Repeats::default() {
            return;
        }
        let again = self.again();
        for (few, number) in [
            (&again.retries, repeats.retries),
            (&again.transparent, repeats.transparent),
            (&again.hedges, repeats.hedges),
        ] {
            few.record(number);
        }
        if !repeats.delay.is_zero() {
            again.delay.record(micros(repeats.delay));
        }
    }

    /// What is to be added to the durations of calls, and taken off, to have those of tries.
    pub(super) fn differences(&self) -> Vec<Difference> {
        let Some(again) = self.again.get() else {
            return Vec::new();
        };
        let statuses = GRPC_STATUSES.iter().zip(&again.tries.0).zip(&again.whole.0);
        let read = |one: &OnceLock<Box<Histogram>>| {
            one.get()
                .map_or_else(|| Histogram::default().read(), |one| one.read())
        };
        statuses
            .filter(|((_, tries), whole)| tries.get().is_some() || whole.get().is_some())
            .map(|((status, tries), whole)| (*status, read(tries), read(whole)))
            .collect()
    }

    /// The histograms of A96: retries, transparent ones, hedges.
    pub(super) fn repeats(&self) -> Option<([Fewer; 3], Distribution)> {
        let again = self.again.get()?;
        let few = [&again.retries, &again.transparent, &again.hedges];
        Some((few.map(Few::read), again.delay.read()))
    }

    fn again(&self) -> &Again {
        self.again.get_or_init(Box::default)
    }
}

/// A histogram for each status that was seen.
#[derive(Debug, Default)]
struct ByStatus([OnceLock<Box<Histogram>>; STATUSES]);

impl ByStatus {
    fn record(&self, status: u8, took: Duration) {
        let unknown = self.0.get(usize::from(UNKNOWN));
        let one = self.0.get(usize::from(status)).or(unknown);
        if let Some(one) = one {
            one.get_or_init(Box::default).record(micros(took));
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The upper bounds of small numbers.
pub(super) const FEW: [u32; 5] = [1, 2, 3, 4, 5];

/// Counts small numbers by [`FEW`].
#[derive(Debug, Default)]
struct Few {
    buckets: [AtomicU64; FEW.len() + 1],
    sum: AtomicU64,
}

/// Small numbers at one moment: how many were at most each bound, the last all of them, and their sum.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Fewer {
    pub(super) cumulative: [u64; FEW.len() + 1],
    pub(super) sum: u64,
}

impl Few {
    /// Zero is not recorded.
    fn record(&self, number: u32) {
        if number == 0 {
            return;
        }
        let bucket = FEW.partition_point(|bound| *bound < number);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(number.into(), Ordering::Relaxed);
    }

    fn read(&self) -> Fewer {
        let mut fewer = Fewer::default();
        let mut sum = 0;
        for (bucket, total) in self.buckets.iter().zip(&mut fewer.cumulative) {
            sum += bucket.load(Ordering::Relaxed);
            *total = sum;
        }
        fewer.sum = self.sum.load(Ordering::Relaxed);
        fewer
    }
}

impl Fewer {
    /// Takes in those of another.
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, more) in self.cumulative.iter_mut().zip(other.cumulative) {
            *sum += more;
        }
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_tried_again_is_its_tries_and_not_itself() {
        let tries = Tries::default();
        assert!(tries.differences().is_empty() && tries.repeats().is_none());
        // 10 ms of 14 UNAVAILABLE, a pause, 30 ms of 0 OK: 60 ms in all.
        tries.tried(14, Duration::from_millis(10));
        tries.answered(0, Duration::from_millis(60), Duration::from_millis(30));
        tries.tried(200, Duration::from_millis(1));
        let read: Vec<_> = tries
            .differences()
            .into_iter()
            .map(|(status, more, less)| (status, more.count(), more.sum, less.count(), less.sum))
            .collect();
        assert_eq!(
            read,
            [
                ("OK", 1, 30.0, 1, 60.0),
                ("UNKNOWN", 1, 1.0, 0, 0.0),
                ("UNAVAILABLE", 1, 10.0, 0, 0.0)
            ]
        );
    }

    #[test]
    fn zeros_are_not_recorded_and_large_numbers_have_a_place() {
        let tries = Tries::default();
        tries.repeated(Repeats::default());
        assert!(tries.repeats().is_none());
        for retries in [1, 2, 2, 9] {
            tries.repeated(Repeats {
                retries,
                delay: Duration::from_millis(25),
                ..Repeats::default()
            });
        }
        let ([retries, transparent, hedges], delay) = tries.repeats().expect("some");
        assert_eq!(retries.cumulative, [1, 3, 3, 3, 3, 4]);
        assert_eq!(retries.sum, 14);
        assert_eq!((transparent, hedges), (Fewer::default(), Fewer::default()));
        assert_eq!((delay.count(), delay.sum), (4, 100.0));
    }
}
