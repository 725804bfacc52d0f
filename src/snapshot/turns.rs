//! What became of a cluster's connections and of its failing endpoints, as gRPC counts both (gRFC A94, A91).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::layer::outlier::{Cause, Event, Reason};
use crate::transport::{Turn, Why};

/// Connections by what became of them; a cluster that nobody calls has none and keeps no counters.
#[derive(Debug, Default)]
pub(crate) struct Turns(OnceLock<Box<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    connected: AtomicU64,
    failed: AtomicU64,
    gone: [AtomicU64; Why::ALL.len()],
}

/// The same, at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Connections that came up.
    pub connected: u64,
    /// Connections that could not be made.
    pub failed: u64,
    /// Connections that were up and are gone, by the reason; those without one are left out.
    pub gone: Vec<(Why, u64)>,
}

impl ConnectionStats {
    /// Connections that are up now.
    #[must_use]
    pub fn open(&self) -> u64 {
        let gone: u64 = self.gone.iter().map(|(_, count)| count).sum();
        self.connected.saturating_sub(gone)
    }
}

impl Turns {
    pub(crate) fn count(&self, turn: Turn) {
        let counts = self.0.get_or_init(Box::default);
        let counter = match turn {
            Turn::Connected => Some(&counts.connected),
            Turn::Failed => Some(&counts.failed),
            Turn::Gone(why) => {
                let index = Why::ALL.iter().position(|one| *one == why);
                index.and_then(|index| counts.gone.get(index))
            }
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> ConnectionStats {
        let Some(counts) = self.0.get() else {
            return ConnectionStats::default();
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // Read before those that came up, so that none is gone that was not there.
        let gone = Why::ALL.into_iter().zip(counts.gone.iter().map(read));
        let gone = gone.filter(|(_, count)| *count > 0).collect();
        ConnectionStats {
            gone,
            connected: read(&counts.connected),
            failed: read(&counts.failed),
        }
    }
}

/// What ejects, in the order of their counters.
const CAUSES: [Cause; 5] = [
    Cause::Consecutive5xx,
    Cause::ConsecutiveGateway,
    Cause::ConsecutiveLocal,
    Cause::FailurePercentage,
    Cause::SuccessRate,
];

/// Endpoints that were found failing, by the rule that found them; counters are made for the first.
#[derive(Debug, Default)]
pub(crate) struct Detections(OnceLock<Box<Found>>);

#[derive(Debug, Default)]
struct Found {
    ejected: [AtomicU64; CAUSES.len()],
    /// Spared by chance, and by the cap.
    unenforced: [AtomicU64; CAUSES.len()],
    overflow: [AtomicU64; CAUSES.len()],
}

/// The same, at one moment, without those that never happened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct DetectionStats {
    /// Endpoints that were ejected.
    pub ejected: Vec<(Cause, u64)>,
    /// Endpoints that were not, and why.
    pub spared: Vec<(Cause, Reason, u64)>,
}

impl Detections {
    pub(crate) fn count(&self, event: &Event) {
        let found = self.0.get_or_init(Box::default);
        let (cause, counters) = match event {
            Event::Ejected { cause, .. } => (cause, &found.ejected),
            Event::Spared { cause, reason } => match reason {
                Reason::Enforcement => (cause, &found.unenforced),
                Reason::Overflow => (cause, &found.overflow),
            },
            Event::Readmitted => return,
        };
        let index = CAUSES.iter().position(|one| one == cause);
        if let Some(counter) = index.and_then(|index| counters.get(index)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> DetectionStats {
        let Some(found) = self.0.get() else {
            return DetectionStats::default();
        };
        let some = |counters: &[AtomicU64; CAUSES.len()]| {
            let counts = counters.iter().map(|one| one.load(Ordering::Relaxed));
            let counts = CAUSES.into_iter().zip(counts);
            counts.filter(|(_, count)| *count > 0).collect::<Vec<_>>()
        };
        let spared = [
            (Reason::Enforcement, &found.unenforced),
            (Reason::Overflow, &found.overflow),
        ];
        let spared = spared.into_iter().flat_map(|(reason, counters)| {
            let counts = some(counters).into_iter();
            counts.map(move |(cause, count)| (cause, reason, count))
        });
        DetectionStats {
            ejected: some(&found.ejected),
            spared: spared.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_up_is_what_came_and_did_not_go() {
        let turns = Turns::default();
        for turn in [
            Turn::Connected,
            Turn::Connected,
            Turn::Connected,
            Turn::Failed,
            Turn::Gone(Why::Reset),
            Turn::Gone(Why::Shutdown),
        ] {
            turns.count(turn);
        }
        let read = turns.read();
        assert_eq!((read.connected, read.failed, read.open()), (3, 1, 1));
        assert_eq!(read.gone, [(Why::Reset, 1), (Why::Shutdown, 1)]);
    }

    #[test]
    fn detections_are_told_apart_by_rule_and_by_what_spared_them() {
        let detections = Detections::default();
        let cause = Cause::SuccessRate;
        detections.count(&Event::Ejected {
            cause,
            time: Duration::ZERO,
        });
        for reason in [Reason::Overflow, Reason::Enforcement, Reason::Overflow] {
            detections.count(&Event::Spared { cause, reason });
        }
        detections.count(&Event::Readmitted);
        let read = detections.read();
        assert_eq!(read.ejected, [(cause, 1)]);
        let (chance, cap) = (Reason::Enforcement, Reason::Overflow);
        assert_eq!(read.spared, [(cause, chance, 1), (cause, cap, 2)]);
    }
}
