//! What an endpoint reports of its own load (ORCA, gRPC A51).

mod written;

use http::HeaderMap;

use crate::model::balancing::Ratio;
use crate::model::reported::ReportedMetric;

pub(crate) use written::{Metric, written};

/// A load report, as far as weights need it; what is missing is zero.
///
/// ```
/// use meshwork::layer::balance::Report;
///
/// let mut headers = http::HeaderMap::new();
/// let text = "TEXT cpu_utilization=0.5, rps_fractional=100";
/// headers.insert("endpoint-load-metrics", text.parse().unwrap());
/// let report = Report::read(&headers, &[]).unwrap();
/// assert_eq!((report.cpu_utilization, report.requests), (0.5, 100.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// The largest of the metrics that were asked for; counts before the others if it is above zero
    /// (gRPC A114). What is not above zero, or no number, does not count.
    pub utilization: f64,
    /// `application_utilization`: what the application says of itself; counts instead of the CPU
    /// if it is above zero.
    pub application_utilization: f64,
    /// `cpu_utilization`: 1 is all that there is.
    pub cpu_utilization: f64,
    /// `eps`: errors per second.
    pub errors: f64,
    /// `rps_fractional`: requests per second.
    pub requests: f64,
}

impl Report {
    /// Reads the report of a response, from its head or its trailers; `asked` are the metrics that
    /// [`utilization`](Self::utilization) is made of.
    ///
    /// Three forms are known: `endpoint-load-metrics` with `TEXT` (a list of `name=value`), `JSON`
    /// or `BIN` (base64 of the protobuf message) before the value, and gRPC's
    /// `endpoint-load-metrics-bin`. `None` if there is none, or it is damaged: nobody should be
    /// preferred or avoided for a report that cannot be read.
    #[must_use]
    pub fn read(headers: &HeaderMap, asked: &[ReportedMetric]) -> Option<Self> {
        let mut reading = Reading::of(asked);
        let whole = written(headers, &mut |metric, value| reading.take(metric, value));
        reading.end(whole)
    }

    /// Reads an `xds.data.orca.v3.OrcaLoadReport` as it comes out of band. `None` if it is damaged.
    ///
    /// ```
    /// use meshwork::layer::balance::Report;
    ///
    /// let mut message = vec![1 << 3 | 1];
    /// message.extend(0.5_f64.to_le_bytes());
    /// assert_eq!(Report::decode(&message, &[]).unwrap().cpu_utilization, 0.5);
    /// assert_eq!(Report::decode(&message[..4], &[]), None);
    /// ```
    #[must_use]
    pub fn decode(message: &[u8], asked: &[ReportedMetric]) -> Option<Self> {
        let mut reading = Reading::of(asked);
        let whole = written::decoded(message, &mut |metric, value| reading.take(metric, value));
        reading.end(whole)
    }

    /// gRPC A58's weight: requests per utilization, where errors count as utilization. `None` if it
    /// would not be a positive number.
    pub(super) fn weight(&self, penalty: Ratio) -> Option<f64> {
        let known = [
            self.utilization,
            self.application_utilization,
            self.cpu_utilization,
        ];
        let used = known.into_iter().find(|one| *one > 0.0)?;
        if self.requests <= 0.0 {
            return None;
        }
        let errors = (self.errors / self.requests).max(0.0) * penalty.value();
        let weight = self.requests / (used + errors);
        (weight.is_finite() && weight > 0.0).then_some(weight)
    }
}

/// A report whose numbers come one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    asked: &'a [ReportedMetric],
    /// `None`: it is damaged.
    report: Option<Report>,
}

impl<'a> Reading<'a> {
    pub(crate) fn of(asked: &'a [ReportedMetric]) -> Self {
        Self {
            asked,
            report: Some(Report::default()),
        }
    }

    /// Takes one number; those of no use to weights may be any. `None` if the report is damaged.
    pub(crate) fn take(&mut self, metric: Metric<'_>, value: f64) -> Option<()> {
        let report = self.report.as_mut()?;
        // A comparison with NaN does not hold, so that is left out as well.
        if value > report.utilization && self.asked.iter().any(|asked| metric.is(asked)) {
            report.utilization = value;
        }
        let field = match metric {
            Metric::Application => &mut report.application_utilization,
            Metric::Cpu => &mut report.cpu_utilization,
            Metric::Errors => &mut report.errors,
            Metric::Requests => &mut report.requests,
            Metric::Cost(_)
            | Metric::Memory
            | Metric::Named(_)
            | Metric::Other
            | Metric::Utilization(_) => return Some(()),
        };
        *field = value;
        if !value.is_finite() || value < 0.0 {
            self.report = None;
        }
        self.report.map(|_| ())
    }

    /// The report, if the whole of it could be read.
    pub(crate) fn end(self, whole: Option<()>) -> Option<Report> {
        whole.and(self.report)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use proptest::prelude::*;

    use super::written::{BASE64, BINARY, TEXT};
    use super::*;

    fn read(name: &'static str, text: &str) -> Option<Report> {
        let mut headers = HeaderMap::new();
        headers.insert(name, text.parse().unwrap());
        Report::read(&headers, &[])
    }

    const FULL: Report = Report {
        utilization: 0.0,
        application_utilization: 0.75,
        cpu_utilization: 0.5,
        errors: 2.0,
        requests: 100.0,
    };

    #[test]
    fn all_forms_say_the_same() {
        let mut message = Vec::new();
        for (field, value) in [(1, 0.5), (6, 100.0), (7, 2.0), (9, 0.75_f64)] {
            message.push(field << 3 | 1);
            message.extend_from_slice(&value.to_le_bytes());
        }
        // A map entry, a deprecated varint and a fixed32 of the future.
        message.extend_from_slice(&[0x22, 3, 0x0a, 1, b'a', 0x18, 0x96, 0x01, 0x55, 1, 2, 3, 4]);
        let binary = BASE64.encode(&message);
        let plain = "TEXT cpu_utilization=0.5,rps_fractional:100,eps=2, mem_utilization=0.1, \
                     application_utilization=0.75";
        let json = r#"JSON {"cpu_utilization": 0.5, "named_metrics": {"a}\"": [1, {"eps": 9}]},
            "rpsFractional": "100", "eps": 2, "applicationUtilization": 0.75, "x": null}"#;
        let json = json.replace('\n', " ");
        assert_eq!(read(TEXT, plain), Some(FULL));
        assert_eq!(read(TEXT, &json), Some(FULL));
        assert_eq!(read(TEXT, &format!("BIN {binary}")), Some(FULL));
        assert_eq!(read(BINARY, &binary), Some(FULL));
        assert_eq!(read(TEXT, "JSON {}"), Some(Report::default()));
        assert_eq!(read("x-other", plain), None);
    }

    #[test]
    fn all_metrics_are_handed_on_with_the_names_that_applications_give() {
        let all = |name: &'static str, text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, text.parse().unwrap());
            let mut found = Vec::new();
            let whole = written(&headers, &mut |metric, value| {
                if metric != Metric::Other {
                    found.push(format!("{metric:?}={value}"));
                }
                Some(())
            });
            assert_eq!(whole, Some(()), "{text}");
            found.join(" ")
        };
        let mut message = vec![2 << 3 | 1];
        message.extend_from_slice(&0.25_f64.to_le_bytes());
        message.extend_from_slice(&[8 << 3 | 2, 12, 0x0a, 1, b'q', 0x11]);
        message.extend_from_slice(&7.5_f64.to_le_bytes());
        for field in [4_u8, 5] {
            message.extend_from_slice(&[field << 3 | 2, 12, 0x0a, 1, b'z', 0x11]);
            message.extend_from_slice(&1.0_f64.to_le_bytes());
        }
        let expected = "Memory=0.25 Named(\"q\")=7.5 Cost(\"z\")=1 Utilization(\"z\")=1";
        assert_eq!(all(BINARY, &BASE64.encode(&message)), expected);
        let plain = "TEXT mem_utilization=0.25, named_metrics.q=7.5, other=1, request_cost.z=1, \
                     utilization.z=1, other.z=1";
        assert_eq!(all(TEXT, plain), expected);
        let json = r#"JSON {"memUtilization": 0.25, "namedMetrics": {"q": 7.5}, "other": {"z": 1},
            "requestCost": {"z": 1}, "utilization": {"z": 1}}"#;
        let json = &json.replace('\n', " ");
        assert_eq!(all(TEXT, json), expected);
    }

    #[test]
    fn damaged_reports_are_none() {
        for text in [
            "TEXT cpu_utilization=NaN",
            "TEXT cpu_utilization=-1",
            "TEXT eps=inf",
            "TEXT cpu_utilization",
            "JSON {\"eps\": 1",
            "JSON {\"eps\" 1}",
            "JSON [1]",
            "JSON {\"eps\": ]}",
            "XML <a/>",
            "cpu_utilization=1",
            "BIN CQ==",
            "BIN !",
            "BIN /////////////w==",
        ] {
            assert_eq!(read(TEXT, text), None, "{text}");
        }
    }

    /// gRPC A114: the largest positive one of those that are asked for, else what the application says
    /// of itself, else the CPU.
    #[test]
    fn f14_metrics_that_are_asked_for_are_the_utilization() {
        let asked = ["named_metrics.q", "utilization.disk", "mem_utilization"];
        let asked = asked.map(|name| ReportedMetric::parse(name).unwrap());
        for (report, utilization, weight) in [
            ("named_metrics.q=0.5, utilization.disk=0.25", 0.5, 200.0),
            ("named_metrics.q=0.5, mem_utilization=0.8", 0.8, 125.0),
            ("named_metrics.q=NaN, utilization.disk=0.5", 0.5, 200.0),
            ("named_metrics.q=-3, request_cost.disk=7", 0.0, 1_000.0),
            (
                "named_metrics.other=0.5, application_utilization=0.2",
                0.0,
                500.0,
            ),
            ("utilization.q=0.5, named_metrics.disk=0.5", 0.0, 1_000.0),
        ] {
            let text = format!("TEXT {report}, cpu_utilization=0.1, rps_fractional=100");
            let mut headers = HeaderMap::new();
            headers.insert(TEXT, text.parse().unwrap());
            let found = Report::read(&headers, &asked).unwrap();
            assert_eq!(found.utilization, utilization, "{report}");
            assert_eq!(found.weight(Ratio::ONE), Some(weight), "{report}");
            let unasked = Report::read(&headers, &[]).unwrap();
            assert_eq!(unasked.utilization, 0.0, "{report}");
        }
    }

    #[test]
    fn f14_weights_are_requests_per_utilization_and_never_nonsense() {
        let weight = |report: Report| report.weight(Ratio::ONE);
        assert_eq!(weight(FULL), Some(100.0 / (0.75 + 0.02)));
        let cpu = Report {
            application_utilization: 0.0,
            ..FULL
        };
        assert_eq!(weight(cpu), Some(100.0 / (0.5 + 0.02)));
        assert_eq!(FULL.weight(Ratio::new(0.0).unwrap()), Some(100.0 / 0.75));
        for nothing in [
            Report::default(),
            Report {
                requests: 0.0,
                ..FULL
            },
            Report {
                requests: f64::MIN_POSITIVE,
                cpu_utilization: f64::MAX,
                ..Report::default()
            },
        ] {
            assert_eq!(weight(nothing), None);
        }
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn nothing_panics(text in "(TEXT|JSON|BIN) [ -~]{0,60}", nested in "JSON [{}\\[\\]\",:a\\\\]{0,40}") {
            let _ = (read(TEXT, &text), read(TEXT, &nested), read(BINARY, &text));
        }
    }
}
