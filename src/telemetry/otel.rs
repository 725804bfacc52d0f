//! The same measurements through OpenTelemetry's instruments.
//!
//! A cell is bound to its instruments when it is made, with all of its attributes, so that a request costs
//! four calls without a lookup (2.7 ns for a counter instead of 115). The instruments must come from an
//! SDK that is built with `experimental_metrics_bound_instruments`: one without drops what a bound
//! instrument records, in silence. The tests assert that what was recorded arrives.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundCounter, BoundHistogram, Counter, Histogram, Meter};

use super::histogram::BOUNDS;

/// Istio's standard metrics of requests.
#[derive(Clone, Debug)]
pub(crate) struct Instruments {
    requests: Counter<u64>,
    duration: Histogram<f64>,
    request_bytes: Histogram<f64>,
    response_bytes: Histogram<f64>,
}

/// Those of one cell.
#[derive(Debug)]
pub(super) struct Bound {
    requests: BoundCounter<u64>,
    duration: BoundHistogram<f64>,
    request_bytes: BoundHistogram<f64>,
    response_bytes: BoundHistogram<f64>,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter) -> Self {
        let histogram = |name, unit| {
            let histogram = meter.f64_histogram(name).with_unit(unit);
            histogram.with_boundaries(BOUNDS.to_vec()).build()
        };
        Self {
            requests: meter.u64_counter("istio_requests_total").build(),
            duration: histogram("istio_request_duration_milliseconds", "ms"),
            request_bytes: histogram("istio_request_bytes", "By"),
            response_bytes: histogram("istio_response_bytes", "By"),
        }
    }

    pub(super) fn bind(&self, labels: &[(&'static str, &str)]) -> Bound {
        let pair = |(name, value): &(&'static str, &str)| KeyValue::new(*name, (*value).to_owned());
        let attributes: Vec<KeyValue> = labels.iter().map(pair).collect();
        Bound {
            requests: self.requests.bind(&attributes),
            duration: self.duration.bind(&attributes),
            request_bytes: self.request_bytes.bind(&attributes),
            response_bytes: self.response_bytes.bind(&attributes),
        }
    }
}

impl Bound {
    pub(super) fn record(&self, millis: f64, request_bytes: u64, response_bytes: u64) {
        self.requests.add(1);
        self.duration.record(millis);
        self.request_bytes.record(request_bytes as f64);
        self.response_bytes.record(response_bytes as f64);
    }
}
