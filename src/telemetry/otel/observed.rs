//! Counters and gauges that are read when an exporter asks.
//!
//! An instrument of OpenTelemetry has a callback of its own, but what a mesh tells is read as a whole: stats
//! of all clusters at one moment. So the first callback of a round reads all families, and each takes its
//! own of what was read; one that finds nothing left begins the next round. No clock is needed to tell rounds
//! apart, and two readers only make each other read more often.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};

use super::super::family::{Families, Kind};

/// The samples of a family.
type Samples = Vec<(Vec<KeyValue>, u64)>;

/// All families that are told at one moment.
#[derive(Debug, Default)]
struct Round {
    told: Vec<(String, Kind, String)>,
    samples: BTreeMap<String, Samples>,
}

impl Families for Round {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        self.told.push((name.to_owned(), kind, help.to_owned()));
        self.samples.insert(name.to_owned(), Samples::new());
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels = labels.iter();
        let attributes =
            labels.map(|(label, text)| KeyValue::new((*label).to_owned(), (*text).to_owned()));
        if let Some(samples) = self.samples.get_mut(name) {
            samples.push((attributes.collect(), value));
        }
    }
}

struct Reading<F> {
    tell: F,
    // Locked while an exporter asks, never by a request.
    left: Mutex<BTreeMap<String, Samples>>,
}

impl<F: Fn(&mut dyn Families)> Reading<F> {
    fn take(&self, name: &str) -> Samples {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if !left.contains_key(name) {
            let mut round = Round::default();
            (self.tell)(&mut round);
            *left = round.samples;
        }
        left.remove(name).unwrap_or_default()
    }

    fn observe(&self, name: &str, instrument: &dyn AsyncInstrument<u64>) {
        for (attributes, value) in self.take(name) {
            instrument.observe(value, &attributes);
        }
    }
}

/// Makes an instrument for each family that `tell` tells now, which observes what it tells later; after that
/// others are not told. The meter's provider keeps `tell` for as long as it lives.
pub(crate) fn observe<F>(meter: &Meter, tell: F)
where
    F: Fn(&mut dyn Families) + Send + Sync + 'static,
{
    let mut round = Round::default();
    tell(&mut round);
    let reading = Arc::new(Reading {
        tell,
        left: Mutex::new(BTreeMap::new()),
    });
    for (name, kind, help) in round.told {
        let reading = reading.clone();
        let asked = name.clone();
        let callback =
            move |instrument: &dyn AsyncInstrument<u64>| reading.observe(&asked, instrument);
        // The provider keeps the callback; the instrument itself is a name for it.
        match kind {
            Kind::Counter => drop(
                meter
                    .u64_observable_counter(name)
                    .with_description(help)
                    .with_callback(callback)
                    .build(),
            ),
            Kind::Gauge | Kind::Histogram => drop(
                meter
                    .u64_observable_gauge(name)
                    .with_description(help)
                    .with_callback(callback)
                    .build(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_round_is_read_once_however_many_families_there_are() {
        let read = AtomicU64::new(0);
        let reading = Reading {
            tell: |all: &mut dyn Families| {
                let round = read.fetch_add(1, Ordering::Relaxed);
                for name in ["a", "b"] {
                    all.family(name, Kind::Gauge, "Of a test.");
                    all.sample(name, &[("is", name)], round);
                }
            },
            left: Mutex::default(),
        };
        let value = |name: &str| reading.take(name).pop().map(|(_, value)| value);
        let rounds = [
            value("a"),
            value("b"),
            value("a"),
            value("b"),
            value("nobody"),
        ];
        assert_eq!(rounds, [Some(0), Some(0), Some(1), Some(1), None]);
        assert_eq!(value("b"), Some(2), "who found nothing has begun a round");
    }
}
