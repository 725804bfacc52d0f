//! Calls of gRPC in gRPC's own names (gRFC A66), as Prometheus writes them.
//!
//! They are made of what is measured anyway, when metrics are read: nothing is recorded twice. Methods
//! are told [by name](super::method) as far as they were known before. Tries (A66's attempts) are the calls, less those that were tried again, and with their [tries](super::tries) in their place; what a try
//! sent and received is told of the one that was the answer.

use std::collections::BTreeMap;

use super::cells::Reading;
use super::family::Kind;
use super::meter::Reporter;
use super::prometheus::Text;
use super::series::{OfMethod, Series};
use super::shape::{Pairs, Sums};
use super::tries::Fewer;
use crate::model::telemetry::Metric;

/// One family: its name, who measures it, what it is of, how many of its units are one of ours, help.
type Family = (&'static str, Reporter, Metric, f64, &'static str);

const CLIENT: [Family; 3] = [
    (
        "grpc_client_call_duration_seconds",
        Reporter::Source,
        Metric::RequestDuration,
        1_000.0,
        "Calls of gRPC, from the call to its status.",
    ),
    (
        "grpc_client_attempt_sent_total_compressed_message_size_bytes",
        Reporter::Source,
        Metric::RequestSize,
        1.0,
        "Bytes of messages that were sent in the try that was the answer, as on the wire.",
    ),
    (
        "grpc_client_attempt_rcvd_total_compressed_message_size_bytes",
        Reporter::Source,
        Metric::ResponseSize,
        1.0,
        "Bytes of messages that were received in the try that was the answer, as on the wire.",
    ),
];

const ATTEMPT: &str = "grpc_client_attempt_duration_seconds";
const DELAY: &str = "grpc_client_call_retry_delay_seconds";

/// The histograms of A96 that count: name and help.
const REPEATS: [(&str, &str); 3] = [
    ("grpc_client_call_retries", "Retries of calls that had any."),
    (
        "grpc_client_call_transparent_retries",
        "Requests of a call that were sent again since no peer had looked at them.",
    ),
    (
        "grpc_client_call_hedges",
        "Tries of a call that were begun beside another.",
    ),
];

/// Tries that were begun, and calls that arrived.
const STARTED: [(&str, Reporter, &str); 2] = [
    (
        "grpc_client_attempt_started_total",
        Reporter::Source,
        "Tries of calls of gRPC that were begun.",
    ),
    (
        "grpc_server_call_started_total",
        Reporter::Destination,
        "Calls of gRPC that arrived.",
    ),
];

const SERVER: [Family; 3] = [
    (
        "grpc_server_call_duration_seconds",
        Reporter::Destination,
        Metric::RequestDuration,
        1_000.0,
        "Calls of gRPC that arrived, until their last byte.",
    ),
    (
        "grpc_server_call_rcvd_total_compressed_message_size_bytes",
        Reporter::Destination,
        Metric::RequestSize,
        1.0,
        "Bytes of messages that were received in a call, as on the wire.",
    ),
    (
        "grpc_server_call_sent_total_compressed_message_size_bytes",
        Reporter::Destination,
        Metric::ResponseSize,
        1.0,
        "Bytes of messages that were sent in a call, as on the wire.",
    ),
];

impl Text {
    /// The calls of gRPC among all requests.
    pub(crate) fn calls(&mut self, all: &[impl AsRef<Series>]) {
        let read: Vec<Read<'_>> = all
            .iter()
            .flat_map(|series| {
                let series = series.as_ref();
                let all = series.read_by_method().into_iter();
                all.map(move |of_method| Read { series, of_method })
            })
            .collect();
        for (name, reporter, metric, divisor, help) in CLIENT.into_iter().chain(SERVER) {
            let mut sums = Sums::default();
            for read in of(reporter, &read) {
                for reading in &read.of_method.readings {
                    if let Some(status) = status(reading) {
                        sums.add(read.labels(status), reading.of(metric));
                    }
                }
            }
            self.family(name, Kind::Histogram, help);
            for (labels, values) in sums.iter() {
                self.scaled(name, &labels, values, divisor);
            }
        }
        self.started(&read);
        self.attempts(&read);
        self.repeats(&read);
    }

    fn started(&mut self, read: &[Read<'_>]) {
        for (name, reporter, help) in STARTED {
            let mut counts: BTreeMap<Pairs, u64> = BTreeMap::new();
            for read in of(reporter, read) {
                let count = read.of_method.tries.count();
                if count > 0 {
                    *counts.entry(read.plain()).or_default() += count;
                }
            }
            self.family(name, Kind::Counter, help);
            for (labels, count) in counts {
                self.sample(name, &borrowed(&labels), count);
            }
        }
    }

    /// How long tries took.
    fn attempts(&mut self, read: &[Read<'_>]) {
        let mut sums = Sums::default();
        let mut less = Vec::new();
        for read in of(Reporter::Source, read) {
            for reading in &read.of_method.readings {
                if let Some(status) = status(reading) {
                    sums.add(read.labels(status), &reading.duration);
                }
            }
            for (status, tries, whole) in &read.of_method.differences {
                let labels = read.labels(status);
                sums.add(labels.clone(), tries);
                less.push((labels, whole));
            }
        }
        for (labels, whole) in less {
            sums.subtract(&labels, whole);
        }
        self.family(
            ATTEMPT,
            Kind::Histogram,
            "Tries of calls of gRPC, from their begin to their status.",
        );
        for (labels, values) in sums.iter() {
            self.scaled(ATTEMPT, &labels, values, 1_000.0);
        }
    }

    /// How often calls were tried again.
    fn repeats(&mut self, read: &[Read<'_>]) {
        let mut counts: BTreeMap<Pairs, [Fewer; 3]> = BTreeMap::new();
        let mut delays = Sums::default();
        for read in of(Reporter::Source, read) {
            let Some((repeats, delay)) = read.of_method.tries.repeats() else {
                continue;
            };
            let labels = read.plain();
            let sums = counts.entry(labels.clone()).or_default();
            for (sum, one) in sums.iter_mut().zip(&repeats) {
                sum.add(one);
            }
            if delay.count() > 0 {
                delays.add(labels, &delay);
            }
        }
        for (index, (name, help)) in REPEATS.into_iter().enumerate() {
            self.family(name, Kind::Histogram, help);
            let some = counts.iter().filter_map(|(labels, all)| {
                let one = all.get(index).filter(|one| one.sum > 0)?;
                Some((labels, one))
            });
            for (labels, one) in some {
                self.few(name, &borrowed(labels), one);
            }
        }
        self.family(
            DELAY,
            Kind::Histogram,
            "Pauses between the tries of a call, of calls that had any.",
        );
        for (labels, values) in delays.iter() {
            self.scaled(DELAY, &labels, values, 1_000.0);
        }
    }
}

/// What was read of the calls of one method of a series, at one moment.
struct Read<'r> {
    series: &'r Series,
    of_method: OfMethod<'r>,
}

impl Read<'_> {
    fn labels(&self, status: &str) -> Pairs {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let method = pair("grpc_method", &self.of_method.method);
        let mut labels = vec![method, pair("grpc_status", status)];
        if self.series.labels.reporter == Reporter::Source {
            labels.push(pair("grpc_target", &self.series.labels.service));
        }
        labels
    }

    /// The labels without a status.
    fn plain(&self) -> Pairs {
        let mut labels = self.labels("");
        labels.retain(|(name, _)| name != "grpc_status");
        labels
    }
}

/// Those of one side.
fn of<'r>(reporter: Reporter, read: &'r [Read<'r>]) -> impl Iterator<Item = &'r Read<'r>> {
    read.iter()
        .filter(move |read| read.series.labels.reporter == reporter)
}

fn borrowed(labels: &Pairs) -> Vec<(&str, &str)> {
    let labels = labels.iter();
    labels
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

fn status(reading: &Reading) -> Option<&'static str> {
    reading.key.and_then(|key| key.status())
}
