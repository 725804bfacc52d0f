//! Metrics in the text format of Prometheus (version 0.0.4).

use std::borrow::Cow;
use std::fmt::{Display, Write};

use super::cells::Reading;
use super::family::{Families, Kind};
use super::histogram::{BOUNDS, Distribution};
use super::series::Series;
use super::shape::Sums;
use super::tries::{FEW, Fewer};
use crate::model::telemetry::Metric;

/// The content type of [`Text`].
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text under construction: families one after the other, each with all its samples.
#[derive(Debug, Default)]
pub(crate) struct Text {
    text: String,
    /// What the families that are told from elsewhere end with.
    suffix: &'static str,
}

impl Families for Text {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        // Names without dots are Prometheus' own.
        self.suffix = match kind {
            Kind::Counter if name.contains('.') => "_total",
            Kind::Counter | Kind::Gauge | Kind::Histogram => "",
        };
        let name = format!("{}{}", name.replace('.', "_"), self.suffix);
        Self::family(self, &name, kind, help);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let name = format!("{}{}", name.replace('.', "_"), self.suffix);
        let labels = labels
            .iter()
            .map(|(label, text)| (label.replace('.', "_"), *text));
        let labels: Vec<(String, &str)> = labels.collect();
        let labels: Vec<(&str, &str)> = labels
            .iter()
            .map(|(label, text)| (&**label, *text))
            .collect();
        Self::sample(self, &name, &labels, value);
    }
}

impl Text {
    pub(crate) fn into_string(self) -> String {
        self.text
    }

    /// Begins a family. `help` is one line without a backslash.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a sample to the family that was begun last.
    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.line(name, labels, &[], value);
    }

    fn line(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        more: &[(&str, &str)],
        value: impl Display,
    ) {
        self.text.push_str(name);
        let mut between = '{';
        for (label, text) in labels.iter().chain(more) {
            let _ = write!(self.text, "{between}{label}=\"{}\"", escaped(text));
            between = ',';
        }
        if between == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], values: &Distribution) {
        self.scaled(name, labels, values, 1.0);
    }

    /// A histogram in another unit, of which one of ours has so many.
    pub(super) fn scaled(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        values: &Distribution,
        divisor: f64,
    ) {
        let bucket = format!("{name}_bucket");
        for (index, count) in values.cumulative.iter().enumerate() {
            let bound = BOUNDS
                .get(index)
                .map_or("+Inf".to_owned(), |bound| (bound / divisor).to_string());
            self.line(&bucket, labels, &[("le", &bound)], count);
        }
        self.line(&format!("{name}_sum"), labels, &[], values.sum / divisor);
        self.line(&format!("{name}_count"), labels, &[], values.count());
    }

    /// A histogram of small numbers.
    pub(super) fn few(&mut self, name: &str, labels: &[(&str, &str)], values: &Fewer) {
        let bucket = format!("{name}_bucket");
        for (index, count) in values.cumulative.iter().enumerate() {
            let bound = FEW
                .get(index)
                .map_or("+Inf".to_owned(), |bound| bound.to_string());
            self.line(&bucket, labels, &[("le", &bound)], count);
        }
        let count = values.cumulative.last().copied().unwrap_or_default();
        self.line(&format!("{name}_sum"), labels, &[], values.sum);
        self.line(&format!("{name}_count"), labels, &[], count);
    }

    /// Istio's standard metrics of requests.
    pub(crate) fn requests(&mut self, all: &[impl AsRef<Series>]) {
        let read: Vec<(&Series, Vec<Reading>)> = all
            .iter()
            .map(|series| (series.as_ref(), series.as_ref().read()))
            .collect();
        let shaped = !read.iter().all(|(series, _)| series.is_standard());
        for (metric, name, kind, help) in FAMILIES {
            self.family(name, kind, help);
            if shaped {
                self.sums(metric, name, kind, &read);
                continue;
            }
            for (series, reading) in rows(&read) {
                series.with_labels(reading.key, |labels| {
                    self.told(kind, name, labels, reading.of(metric));
                });
            }
        }
    }

    /// A family whose labels are not the standard's.
    fn sums(&mut self, metric: Metric, name: &str, kind: Kind, read: &[(&Series, Vec<Reading>)]) {
        let mut sums = Sums::default();
        for (series, reading) in rows(read) {
            let labels = series.with_labels(reading.key, |labels| {
                series.shaped(metric, reading.key, labels)
            });
            if let Some(labels) = labels {
                sums.add(labels, reading.of(metric));
            }
        }
        for (labels, values) in sums.iter() {
            self.told(kind, name, &labels, values);
        }
    }

    fn told(&mut self, kind: Kind, name: &str, labels: &[(&str, &str)], values: &Distribution) {
        match kind {
            Kind::Counter | Kind::Gauge => self.sample(name, labels, values.count()),
            Kind::Histogram => self.histogram(name, labels, values),
        }
    }
}

/// Istio's standard metrics of requests.
const FAMILIES: [(Metric, &str, Kind, &str); 4] = [
    (
        Metric::RequestCount,
        "istio_requests_total",
        Kind::Counter,
        "Requests, by who called whom and how they ended.",
    ),
    (
        Metric::RequestDuration,
        "istio_request_duration_milliseconds",
        Kind::Histogram,
        "Time from the request to the last byte of its response.",
    ),
    (
        Metric::RequestSize,
        "istio_request_bytes",
        Kind::Histogram,
        "Bytes of the bodies of requests.",
    ),
    (
        Metric::ResponseSize,
        "istio_response_bytes",
        Kind::Histogram,
        "Bytes of the bodies of responses.",
    ),
];

fn rows<'r>(
    read: &'r [(&'r Series, Vec<Reading>)],
) -> impl Iterator<Item = (&'r Series, &'r Reading)> {
    read.iter()
        .flat_map(|(series, readings)| readings.iter().map(move |one| (*series, one)))
}

fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(text);
    }
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    Cow::Owned(text.replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_grpc_are_told_in_the_manner_of_prometheus() {
        let mut text = Text::default();
        let all: &mut dyn Families = &mut text;
        all.family("grpc.a.b_c", Kind::Counter, "What it is.");
        all.sample("grpc.a.b_c", &[("grpc.target", "a.b")], 1);
        all.family("grpc.a.now", Kind::Gauge, "What it is.");
        all.sample("grpc.a.now", &[], 2);
        all.family("own_total", Kind::Counter, "What it is.");
        all.sample("own_total", &[], 3);
        let text = text.into_string();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples: Vec<&str> = samples.collect();
        assert_eq!(
            samples,
            [
                "grpc_a_b_c_total{grpc_target=\"a.b\"} 1",
                "grpc_a_now 2",
                "own_total 3"
            ]
        );
        assert!(text.contains("# TYPE grpc_a_b_c_total counter\n"), "{text}");
    }

    #[test]
    fn texts_are_escaped_and_families_have_heads() {
        let mut text = Text::default();
        text.family("a_total", Kind::Counter, "What it is.");
        text.sample("a_total", &[("b", "\"c\\\n"), ("d", "")], 7);
        text.sample("a_total", &[], 1.5);
        assert_eq!(
            text.into_string(),
            "# HELP a_total What it is.\n# TYPE a_total counter\n\
             a_total{b=\"\\\"c\\\\\\n\",d=\"\"} 7\na_total 1.5\n"
        );
    }
}
