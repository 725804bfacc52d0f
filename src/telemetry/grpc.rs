//! Calls of gRPC in gRPC's own names (gRFC A66), as Prometheus writes them.
//!
//! They are made of what is measured anyway, when metrics are read: nothing is recorded twice. A66
//! has a label for the method, of which only registered ones are told; a mesh registers none, so that
//! it is `other`, and what a caller writes does not become a label. Metrics of attempts are the
//! mesh's own (`meshwork_cluster_attempts_total`), since tries of plain HTTP and of gRPC are the same
//! thing here.

use super::meter::{Protocol, Reporter};
use super::prometheus::{Kind, Text};
use super::series::{Reading, Series};
use super::shape::Sums;
use crate::error::GRPC_STATUSES;
use crate::model::telemetry::Metric;

/// One family: its name, who measures it, what it is of, how many of its units are one of ours, help.
type Family = (&'static str, Reporter, Metric, f64, &'static str);

const CLIENT: [Family; 1] = [(
    "grpc_client_call_duration_seconds",
    Reporter::Source,
    Metric::RequestDuration,
    1_000.0,
    "Calls of gRPC, from the call to its status.",
)];

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
        let read: Vec<(&Series, Vec<Reading>)> = all
            .iter()
            .map(|series| (series.as_ref(), series.as_ref().read()))
            .collect();
        for (name, reporter, metric, divisor, help) in CLIENT.into_iter().chain(SERVER) {
            let mut sums = Sums::default();
            let of_side = read
                .iter()
                .filter(|(series, _)| series.labels.reporter == reporter);
            for (series, readings) in of_side {
                for reading in readings {
                    if let Some(status) = status(reading) {
                        let labels = labels(series, reporter, status);
                        sums.add(labels, reading.of(metric));
                    }
                }
            }
            self.family(name, Kind::Histogram, help);
            for (labels, values) in sums.iter() {
                self.scaled(name, &labels, values, divisor);
            }
        }
    }
}

/// `None`: it was no call of gRPC, or it has no status (the caller went away).
fn status(reading: &Reading) -> Option<&'static str> {
    let key = reading.key.filter(|key| key.protocol == Protocol::Grpc)?;
    let number = usize::from(key.grpc?);
    // A number that gRPC does not know is UNKNOWN to every client.
    Some(GRPC_STATUSES.get(number).copied().unwrap_or("UNKNOWN"))
}

fn labels(series: &Series, reporter: Reporter, status: &str) -> Vec<(String, String)> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut labels = vec![pair("grpc_method", "other"), pair("grpc_status", status)];
    if reporter == Reporter::Source {
        labels.push(pair("grpc_target", &series.labels.service));
    }
    labels
}
