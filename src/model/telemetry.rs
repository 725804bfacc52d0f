//! What is told of requests: metrics, spans and lines of logs, on each side of a call.
//!
//! The result of Istio's `Telemetry` objects for one workload, after inheritance: where nothing is said
//! the program's own choice (`Builder`) holds, which is why absence is kept apart
//! from "off". It has no counterpart in xDS that this library reads: providers are names, and what stands
//! behind them (a tracer, a meter) is the program's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::HeaderName;

use super::expression::Expression;
use super::{Fraction, Origin};

/// What is told of requests. Default: what the program says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Telemetry {
    /// Of requests that leave (`mode: CLIENT`).
    pub client: Side,
    /// Of requests that arrive (`mode: SERVER`).
    pub server: Side,
}

/// What is told on one side of a call.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Side {
    /// How the standard metrics deviate from Istio's; those that are not in here do not.
    pub metrics: BTreeMap<Metric, Shape>,
    /// Spans.
    pub tracing: Tracing,
    /// Logs that get a line for each request; `None`: nothing is said, so the program's own.
    pub access_logs: Option<Vec<AccessLogging>>,
}

/// A standard metric of Istio.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Metric {
    /// `istio_requests_total`.
    RequestCount,
    /// `istio_request_duration_milliseconds`.
    RequestDuration,
    /// `istio_request_bytes`.
    RequestSize,
    /// `istio_response_bytes`.
    ResponseSize,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::RequestCount,
        Self::RequestDuration,
        Self::RequestSize,
        Self::ResponseSize,
    ];
}

/// How a metric deviates from the standard. Default: in nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shape {
    /// It is not told at all.
    pub disabled: bool,
    /// Labels that it has not.
    pub removed: BTreeSet<Arc<str>>,
    /// Labels that it has besides, or whose value is another.
    pub set: BTreeMap<Arc<str>, LabelValue>,
}

/// The value of a label. It is never a text that a caller chooses, so that the number of series stays
/// bounded.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum LabelValue {
    /// The value of a standard label, by its name.
    Label(Arc<str>),
    /// Always the same.
    Literal(Arc<str>),
    /// The method of the request: one of the nine of RFC 9110 and RFC 5789, or `other`.
    Method,
}

/// How spans are made. Default: as the program says, with Istio's tags and context.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tracing {
    /// The provider that is named; what stands behind it is the program's tracer.
    pub provider: Option<Arc<str>>,
    /// Which share of the traces that begin here is sampled; `None`: as the program says (1 %). A
    /// parent's decision wins.
    pub sampling: Option<Fraction>,
    /// Whether spans are made; without, the caller's context is still carried on.
    pub reporting: bool,
    /// Whether the callee is told the context of its caller.
    pub propagation: bool,
    /// Whether spans have Istio's tags (`istio.canonical_service` and `istio.namespace`).
    pub istio_tags: bool,
    /// Further tags, by name.
    pub tags: BTreeMap<Arc<str>, TagValue>,
    /// The last object that said something of it.
    pub origin: Option<Origin>,
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            provider: None,
            sampling: None,
            reporting: true,
            propagation: true,
            istio_tags: true,
            tags: BTreeMap::new(),
            origin: None,
        }
    }
}

/// The value of a tag of spans.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum TagValue {
    /// A variable of the process' environment; without it and without a default there is no tag.
    Environment {
        /// Its name.
        name: Arc<str>,
        /// Where it is not set.
        default: Option<Arc<str>>,
    },
    /// A header of the request, at most 256 characters of it; without it and without a default there
    /// is no tag.
    Header {
        /// Its name.
        name: HeaderName,
        /// Where the request has none.
        default: Option<Arc<str>>,
    },
    /// A line of Envoy's operators, as an access log has them, made when the request is over; what is not
    /// known is `-`.
    Line(Arc<str>),
    /// Always the same.
    Literal(Arc<str>),
}

/// A log that gets a line for each request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessLogging {
    /// The name of the provider.
    pub provider: Arc<str>,
    /// Where lines go, and how they look.
    pub sink: Sink,
    /// Which requests get a line; `None`: all.
    pub filter: Option<Expression>,
    /// The object that asked for it.
    pub origin: Origin,
}

/// Where lines of a log go.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Sink {
    /// A file, to which lines are appended; `/dev/stdout` and `/dev/stderr` are those of the process.
    File {
        /// Its path.
        path: Arc<str>,
        /// How lines look.
        format: LineFormat,
    },
    /// Records for a collector, through the logger of the program
    /// (`Builder::logger`); texts have Envoy's operators.
    OpenTelemetry {
        /// The body of each record; `None`: Istio's text.
        body: Option<Arc<str>>,
        /// Attributes of each record.
        labels: BTreeMap<Arc<str>, Arc<str>>,
    },
    /// The log of the program (`Builder::access_log`) if it has one, else
    /// this.
    Program(Box<Sink>),
}

/// How a line looks. Texts are made of Envoy's command operators and were read before they are here.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum LineFormat {
    /// Istio's fields as JSON.
    Json,
    /// These fields as JSON.
    Labels(BTreeMap<Arc<str>, Arc<str>>),
    /// Istio's text.
    #[default]
    Text,
    /// This text.
    Words(Arc<str>),
}

impl Telemetry {
    /// Whether some metric has the method of the request as a label.
    #[must_use]
    pub fn asks_for_methods(&self) -> bool {
        let shapes = [&self.client, &self.server];
        let mut shapes = shapes.into_iter().flat_map(|side| side.metrics.values());
        shapes.any(|shape| shape.set.values().any(|value| *value == LabelValue::Method))
    }

    /// Whether all metrics are Istio's.
    #[must_use]
    pub fn has_standard_metrics(&self) -> bool {
        self.client.metrics.is_empty() && self.server.metrics.is_empty()
    }
}
