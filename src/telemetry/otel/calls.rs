//! Calls of gRPC in gRPC's own names, units and buckets (gRFC A66, A96).
//!
//! They are bound like Istio's, when the first value is recorded.

use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundCounter, BoundHistogram, Counter, Histogram, Meter};

use super::super::cells::{Measured, Whose};
use super::super::meter::Reporter;
use super::super::tries::{FEW, Repeats};
use crate::error::GRPC_STATUSES;

/// The bounds of A66 for times, in seconds.
const SECONDS: [f64; 41] = [
    0.0, 0.000_01, 0.000_05, 0.000_1, 0.000_3, 0.000_6, 0.000_8, 0.001, 0.002, 0.003, 0.004, 0.005,
    0.006, 0.008, 0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16,
    0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0,
];

/// The bounds of A66 for sizes, from a kibibyte to four gibibytes.
const BYTES: [f64; 14] = [
    0.0,
    1_024.0,
    2_048.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

/// The instruments of both sides.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    client: Client,
    server: Server,
}

#[derive(Clone, Debug)]
struct Client {
    started: Counter<u64>,
    call: Histogram<f64>,
    attempt: Histogram<f64>,
    sent: Histogram<u64>,
    received: Histogram<u64>,
    retries: Histogram<u64>,
    transparent: Histogram<u64>,
    hedges: Histogram<u64>,
    delay: Histogram<f64>,
}

#[derive(Clone, Debug)]
struct Server {
    started: Counter<u64>,
    call: Histogram<f64>,
    sent: Histogram<u64>,
    received: Histogram<u64>,
}

impl Calls {
    pub(super) fn new(meter: &Meter) -> Self {
        let counter = |name, unit| meter.u64_counter(name).with_unit(unit).build();
        let seconds = |name| {
            let histogram = meter.f64_histogram(name).with_unit("s");
            histogram.with_boundaries(SECONDS.to_vec()).build()
        };
        let numbers = |name, unit, bounds: Vec<f64>| {
            let histogram = meter.u64_histogram(name).with_unit(unit);
            histogram.with_boundaries(bounds).build()
        };
        let bytes = |name| numbers(name, "By", BYTES.to_vec());
        let few = |name, unit| numbers(name, unit, FEW.map(f64::from).to_vec());
        Self {
            client: Client {
                started: counter("grpc.client.attempt.started", "{attempt}"),
                call: seconds("grpc.client.call.duration"),
                attempt: seconds("grpc.client.attempt.duration"),
                sent: bytes("grpc.client.attempt.sent_total_compressed_message_size"),
                received: bytes("grpc.client.attempt.rcvd_total_compressed_message_size"),
                retries: few("grpc.client.call.retries", "{retry}"),
                transparent: few(
                    "grpc.client.call.transparent_retries",
                    "{transparent_retry}",
                ),
                hedges: few("grpc.client.call.hedges", "{hedge}"),
                delay: seconds("grpc.client.call.retry_delay"),
            },
            server: Server {
                started: counter("grpc.server.call.started", "{call}"),
                call: seconds("grpc.server.call.duration"),
                sent: bytes("grpc.server.call.sent_total_compressed_message_size"),
                received: bytes("grpc.server.call.rcvd_total_compressed_message_size"),
            },
        }
    }

    pub(super) fn bind_call(&self, whose: Whose<'_>, status: &'static str) -> BoundCall {
        let attributes = with_status(&attributes(whose), status);
        match whose.reporter {
            Reporter::Destination => BoundCall {
                call: self.server.call.bind(&attributes),
                attempt: None,
                request: self.server.received.bind(&attributes),
                response: self.server.sent.bind(&attributes),
            },
            Reporter::Source => BoundCall {
                call: self.client.call.bind(&attributes),
                attempt: Some(self.client.attempt.bind(&attributes)),
                request: self.client.sent.bind(&attributes),
                response: self.client.received.bind(&attributes),
            },
        }
    }

    pub(super) fn bind_tries(&self, whose: Whose<'_>) -> BoundTries {
        BoundTries {
            attributes: attributes(whose),
            begins: match whose.reporter {
                Reporter::Destination => self.server.started.clone(),
                Reporter::Source => self.client.started.clone(),
            },
            started: OnceLock::new(),
            client: (whose.reporter == Reporter::Source).then(|| self.client.clone()),
            again: OnceLock::new(),
        }
    }
}

fn attributes(whose: Whose<'_>) -> Vec<KeyValue> {
    let mut attributes = vec![KeyValue::new("grpc.method", whose.method.to_owned())];
    if whose.reporter == Reporter::Source {
        attributes.push(KeyValue::new("grpc.target", whose.target.to_owned()));
    }
    attributes
}

fn with_status(attributes: &[KeyValue], status: &'static str) -> Vec<KeyValue> {
    let status = KeyValue::new("grpc.status", status);
    attributes.iter().cloned().chain([status]).collect()
}

/// The instruments of calls that end with one status.
#[derive(Debug)]
pub(in crate::telemetry) struct BoundCall {
    call: BoundHistogram<f64>,
    /// Of a caller.
    attempt: Option<BoundHistogram<f64>>,
    request: BoundHistogram<u64>,
    response: BoundHistogram<u64>,
}

impl BoundCall {
    /// A call whose last try took so long.
    pub(in crate::telemetry) fn record(&self, measured: Measured, last: Duration) {
        self.call.record(measured.took.as_secs_f64());
        if let Some(attempt) = &self.attempt {
            attempt.record(last.as_secs_f64());
        }
        self.request.record(measured.request_bytes);
        self.response.record(measured.response_bytes);
    }
}

/// The instruments of a method whose calls may end in any way. Each is bound when it is needed: one that is
/// bound is told, also if nothing was recorded.
#[derive(Debug)]
pub(in crate::telemetry) struct BoundTries {
    attributes: Vec<KeyValue>,
    begins: Counter<u64>,
    started: OnceLock<BoundCounter<u64>>,
    /// Of a caller.
    client: Option<Client>,
    again: OnceLock<Box<Again>>,
}

/// What only calls that are tried again need.
#[derive(Debug, Default)]
struct Again {
    attempts: [OnceLock<BoundHistogram<f64>>; GRPC_STATUSES.len()],
    retries: OnceLock<BoundHistogram<u64>>,
    transparent: OnceLock<BoundHistogram<u64>>,
    hedges: OnceLock<BoundHistogram<u64>>,
    delay: OnceLock<BoundHistogram<f64>>,
}

impl BoundTries {
    /// A try, or a call that arrived, has begun.
    pub(in crate::telemetry) fn begun(&self) {
        let bind = || self.begins.bind(&self.attributes);
        self.started.get_or_init(bind).add(1);
    }

    /// A try has ended that was not the answer.
    pub(in crate::telemetry) fn tried(&self, status: u8, took: Duration) {
        let Some(client) = &self.client else { return };
        /// UNKNOWN.
        const UNKNOWN: usize = 2;
        let known = Some(usize::from(status)).filter(|status| *status < GRPC_STATUSES.len());
        let status = known.unwrap_or(UNKNOWN);
        let again = self.again.get_or_init(Box::default);
        if let Some((word, bound)) = GRPC_STATUSES.get(status).zip(again.attempts.get(status)) {
            let bind = || client.attempt.bind(&with_status(&self.attributes, word));
            bound.get_or_init(bind).record(took.as_secs_f64());
        }
    }

    /// What a call did to be tried again; nothing of it is not recorded, as A96 wants it.
    pub(in crate::telemetry) fn repeated(&self, repeats: Repeats) {
        let Some(client) = self
            .client
            .as_ref()
            .filter(|_| repeats != Repeats::default())
        else {
            return;
        };
        let again = self.again.get_or_init(Box::default);
        for (histogram, bound, number) in [
            (&client.retries, &again.retries, repeats.retries),
            (&client.transparent, &again.transparent, repeats.transparent),
            (&client.hedges, &again.hedges, repeats.hedges),
        ] {
            if number > 0 {
                let bind = || histogram.bind(&self.attributes);
                bound.get_or_init(bind).record(number.into());
            }
        }
        if !repeats.delay.is_zero() {
            let bind = || client.delay.bind(&self.attributes);
            let bound = again.delay.get_or_init(bind);
            bound.record(repeats.delay.as_secs_f64());
        }
    }
}
