//! What an endpoint reports of its own load (ORCA, gRPC A51).

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;

use crate::model::balancing::Ratio;

/// Where Envoy and gRPC write a report: in the head of a response or in its trailers.
const TEXT: &str = "endpoint-load-metrics";
const BINARY: &str = "endpoint-load-metrics-bin";

/// gRPC writes its binary headers without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A load report, as far as weights need it; what is missing is zero.
///
/// ```
/// use meshwork::layer::balance::Report;
///
/// let mut headers = http::HeaderMap::new();
/// let text = "TEXT cpu_utilization=0.5, rps_fractional=100";
/// headers.insert("endpoint-load-metrics", text.parse().unwrap());
/// let report = Report::read(&headers).unwrap();
/// assert_eq!((report.cpu_utilization, report.requests), (0.5, 100.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
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
    /// Reads the report of a response, from its head or its trailers.
    ///
    /// Three forms are known: `endpoint-load-metrics` with `TEXT` (a list of `name=value`), `JSON`
    /// or `BIN` (base64 of the protobuf message) before the value, and gRPC's
    /// `endpoint-load-metrics-bin`. `None` if there is none, or it is damaged: nobody should be
    /// preferred or avoided for a report that cannot be read.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let mut report = Self::default();
        written(headers, &mut |metric, value| report.set(metric, value))?;
        Some(report)
    }

    /// Reads an `xds.data.orca.v3.OrcaLoadReport` as it comes out of band. `None` if it is damaged.
    ///
    /// ```
    /// use meshwork::layer::balance::Report;
    ///
    /// let mut message = vec![1 << 3 | 1];
    /// message.extend(0.5_f64.to_le_bytes());
    /// assert_eq!(Report::decode(&message).unwrap().cpu_utilization, 0.5);
    /// assert_eq!(Report::decode(&message[..4]), None);
    /// ```
    #[must_use]
    pub fn decode(message: &[u8]) -> Option<Self> {
        let mut report = Self::default();
        decoded(message, &mut |metric, value| report.set(metric, value))?;
        Some(report)
    }

    /// gRPC A58's weight: requests per utilization, where errors count as utilization. `None` if it
    /// would not be a positive number.
    pub(super) fn weight(&self, penalty: Ratio) -> Option<f64> {
        let used = if self.application_utilization > 0.0 {
            self.application_utilization
        } else {
            self.cpu_utilization
        };
        if used <= 0.0 || self.requests <= 0.0 {
            return None;
        }
        let errors = (self.errors / self.requests).max(0.0) * penalty.value();
        let weight = self.requests / (used + errors);
        (weight.is_finite() && weight > 0.0).then_some(weight)
    }

    /// Takes one metric; others than the four are of no use here. `None` for what is no load.
    fn set(&mut self, metric: Metric<'_>, value: f64) -> Option<()> {
        let field = match metric {
            Metric::Application => &mut self.application_utilization,
            Metric::Cpu => &mut self.cpu_utilization,
            Metric::Errors => &mut self.errors,
            Metric::Requests => &mut self.requests,
            Metric::Memory | Metric::Named(_) | Metric::Other => return Some(()),
        };
        *field = value;
        (value.is_finite() && value >= 0.0).then_some(())
    }
}

/// What a number in a report is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Metric<'a> {
    Application,
    Cpu,
    /// Per second.
    Errors,
    Memory,
    /// One of the application's own, by its name.
    Named(&'a str),
    /// Of no use to anybody here.
    Other,
    /// Per second.
    Requests,
}

impl<'a> Metric<'a> {
    /// By its name in the messages of protobuf, or in their JSON.
    fn of(name: &'a str) -> Self {
        match name {
            "application_utilization" | "applicationUtilization" => Self::Application,
            "cpu_utilization" | "cpuUtilization" => Self::Cpu,
            "eps" => Self::Errors,
            "mem_utilization" | "memUtilization" => Self::Memory,
            "rps_fractional" | "rpsFractional" => Self::Requests,
            other => match other.strip_prefix("named_metrics.") {
                Some(name) => Self::Named(name),
                None => Self::Other,
            },
        }
    }
}

/// Who takes the numbers of a report, one after the other; `None`: the report is damaged.
type Take<'t> = dyn FnMut(Metric<'_>, f64) -> Option<()> + 't;

/// Hands on the numbers of a response's report, from its head or its trailers; the forms are those of
/// [`Report::read`]. `None` if there is none, or from where on it is damaged.
pub(crate) fn written(headers: &HeaderMap, take: &mut Take<'_>) -> Option<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(report) = text(BINARY) {
        return binary(report, take);
    }
    let (form, report) = text(TEXT)?.trim().split_once(' ')?;
    match form {
        "BIN" => binary(report, take),
        "JSON" => json(report, take),
        "TEXT" => plain(report, take),
        _ => None,
    }
}

fn plain(text: &str, take: &mut Take<'_>) -> Option<()> {
    for pair in text.split(',') {
        let (name, value) = pair.split_once([':', '='])?;
        take(Metric::of(name.trim()), value.trim().parse().ok()?)?;
    }
    Some(())
}

/// The numbers of the outermost object and of its `named_metrics`; other nested ones are stepped over.
/// A reader of its own, since a bare layer has no JSON library and some numbers are no reason for one.
fn json(text: &str, take: &mut Take<'_>) -> Option<()> {
    members(text, &mut |name, written| {
        if matches!(name, "named_metrics" | "namedMetrics") && written.starts_with('{') {
            return members(written, &mut |name, written| {
                number(written).map_or(Some(()), |value| take(Metric::Named(name), value))
            });
        }
        number(written).map_or(Some(()), |value| take(Metric::of(name), value))
    })
}

/// Protobuf's JSON may write numbers as strings; what is neither is no number.
fn number(written: &str) -> Option<f64> {
    written.trim_matches('"').parse().ok()
}

/// The names and values of an object.
fn members(text: &str, take: &mut dyn FnMut(&str, &str) -> Option<()>) -> Option<()> {
    let mut rest = text.trim().strip_prefix('{')?.trim_start();
    if rest == "}" {
        return Some(());
    }
    loop {
        let (name, after) = string(rest)?;
        rest = after.trim_start().strip_prefix(':')?.trim_start();
        let after = value(rest)?;
        take(name, rest[..rest.len() - after.len()].trim())?;
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None => return (rest == "}").then_some(()),
        }
    }
}

/// A string without its quotes, and what comes after it.
fn string(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = inner.find(|letter| {
        let end = letter == '"' && !escaped;
        escaped = letter == '\\' && !escaped;
        end
    })?;
    Some((&inner[..end], &inner[end + 1..]))
}

/// What comes after a value.
fn value(text: &str) -> Option<&str> {
    let mut depth = 0_usize;
    let mut rest = text;
    loop {
        let at = rest.find(['"', '{', '[', '}', ']', ','])?;
        let (_, from) = rest.split_at(at);
        match (from.as_bytes()[0], depth) {
            (b'"', _) => rest = string(from)?.1,
            (b'}' | b',', 0) => return Some(from),
            (b']', 0) => return None,
            (b',', _) => rest = &from[1..],
            (b'{' | b'[', _) => {
                depth += 1;
                rest = &from[1..];
            }
            (_, _) => {
                depth -= 1;
                rest = &from[1..];
            }
        }
    }
}

fn binary(text: &str, take: &mut Take<'_>) -> Option<()> {
    decoded(&BASE64.decode(text.trim()).ok()?, take)
}

/// A few doubles are read by hand: a layer pulls in no protobuf.
fn decoded(mut bytes: &[u8], take: &mut Take<'_>) -> Option<()> {
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match (tag >> 3, tag & 7) {
            (field, 1) => {
                let metric = match field {
                    1 => Metric::Cpu,
                    2 => Metric::Memory,
                    6 => Metric::Requests,
                    7 => Metric::Errors,
                    9 => Metric::Application,
                    _ => Metric::Other,
                };
                take(metric, double(&mut bytes)?)?;
            }
            (8, 2) => {
                let (name, value) = entry(delimited(&mut bytes)?)?;
                take(Metric::Named(name), value)?;
            }
            (_, kind) => skip(&mut bytes, kind)?,
        }
    }
    Some(())
}

/// An entry of `named_metrics`: a name and a double.
fn entry(mut bytes: &[u8]) -> Option<(&str, f64)> {
    let (mut name, mut value) = ("", 0.0);
    while !bytes.is_empty() {
        match varint(&mut bytes)? {
            0x0a => name = std::str::from_utf8(delimited(&mut bytes)?).ok()?,
            0x11 => value = double(&mut bytes)?,
            tag => skip(&mut bytes, tag & 7)?,
        }
    }
    Some((name, value))
}

fn double(bytes: &mut &[u8]) -> Option<f64> {
    Some(f64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?))
}

fn delimited<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(varint(bytes)?).ok()?;
    bytes.split_off(..length)
}

/// Steps over the value of a field of this kind.
fn skip(bytes: &mut &[u8], kind: u64) -> Option<()> {
    match kind {
        0 => drop(varint(bytes)?),
        1 => drop(bytes.split_off(..8)?),
        2 => drop(delimited(bytes)?),
        5 => drop(bytes.split_off(..4)?),
        _ => return None,
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(name: &'static str, text: &str) -> Option<Report> {
        let mut headers = HeaderMap::new();
        headers.insert(name, text.parse().unwrap());
        Report::read(&headers)
    }

    const FULL: Report = Report {
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
        message.extend_from_slice(&[0x22, 3, 1, 2, 3, 0x18, 0x96, 0x01, 0x55, 1, 2, 3, 4]);
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
        let expected = "Memory=0.25 Named(\"q\")=7.5";
        assert_eq!(all(BINARY, &BASE64.encode(&message)), expected);
        let plain = "TEXT mem_utilization=0.25, named_metrics.q=7.5, other=1";
        assert_eq!(all(TEXT, plain), expected);
        let json =
            r#"JSON {"memUtilization": 0.25, "namedMetrics": {"q": 7.5}, "utilization": {"z": 1}}"#;
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
