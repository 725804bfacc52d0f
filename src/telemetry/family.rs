//! Metrics that are read and not recorded: counters and gauges that live where they are counted.
//!
//! Whoever has some tells them to a [`Families`], which is the [text](super::prometheus::Text) of Prometheus
//! or what instruments of OpenTelemetry observe, so that both tell the same.

/// What the numbers of a family are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Takes families one after the other, each with all its samples.
///
/// Names and labels with dots are gRPC's own; Prometheus has them in its manner.
pub(crate) trait Families {
    /// Begins a family. `help` is one line without a backslash.
    fn family(&mut self, name: &str, kind: Kind, help: &str);

    /// Adds a sample to the family that was begun last, whose name it is.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64);
}
