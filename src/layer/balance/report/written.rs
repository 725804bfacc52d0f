//! The forms in which a report is written (ORCA, gRPC A51), as the numbers that stand in it.
//!
//! A reader of its own: a bare layer has neither a JSON library nor protobuf, and some numbers are no
//! reason for one.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;

use crate::model::reported::ReportedMetric;
use crate::protobuf::{Field, Fields, Value};

/// Where Envoy and gRPC write a report: in the head of a response or in its trailers.
pub(super) const TEXT: &str = "endpoint-load-metrics";
pub(super) const BINARY: &str = "endpoint-load-metrics-bin";

/// gRPC writes its binary headers without padding.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a number in a report is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Metric<'a> {
    Application,
    /// What requests cost, by a name of the application's.
    Cost(&'a str),
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
    /// How much of a resource is used, by a name of the application's.
    Utilization(&'a str),
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
            other => match other.split_once('.') {
                Some((map, key)) => Map::of(map).map_or(Self::Other, |map| map.entry(key)),
                None => Self::Other,
            },
        }
    }

    /// Whether it is the one that is asked for.
    pub(super) fn is(self, asked: &ReportedMetric) -> bool {
        match (asked, self) {
            (ReportedMetric::Application, Self::Application)
            | (ReportedMetric::Cpu, Self::Cpu)
            | (ReportedMetric::Memory, Self::Memory) => true,
            (ReportedMetric::Cost(asked), Self::Cost(name))
            | (ReportedMetric::Named(asked), Self::Named(name))
            | (ReportedMetric::Utilization(asked), Self::Utilization(name)) => **asked == *name,
            _ => false,
        }
    }
}

/// The maps of a report, whose keys applications choose.
#[derive(Clone, Copy)]
enum Map {
    Cost,
    Named,
    Utilization,
}

impl Map {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "named_metrics" | "namedMetrics" => Self::Named,
            "request_cost" | "requestCost" => Self::Cost,
            "utilization" => Self::Utilization,
            _ => return None,
        })
    }

    fn entry(self, key: &str) -> Metric<'_> {
        match self {
            Self::Cost => Metric::Cost(key),
            Self::Named => Metric::Named(key),
            Self::Utilization => Metric::Utilization(key),
        }
    }
}

/// Who takes the numbers of a report, one after the other; `None`: the report is damaged.
pub(super) type Take<'t> = dyn FnMut(Metric<'_>, f64) -> Option<()> + 't;

/// Hands on the numbers of a response's report, from its head or its trailers; the forms are those of
/// [`Report::read`](super::Report::read). `None` if there is none, or from where on it is damaged.
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

/// The numbers of the outermost object and of its maps; other nested ones are stepped over.
fn json(text: &str, take: &mut Take<'_>) -> Option<()> {
    members(text, &mut |name, written| match Map::of(name) {
        Some(map) if written.starts_with('{') => members(written, &mut |key, written| {
            number(written).map_or(Some(()), |value| take(map.entry(key), value))
        }),
        _ => number(written).map_or(Some(()), |value| take(Metric::of(name), value)),
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

/// The numbers of an `xds.data.orca.v3.OrcaLoadReport`.
pub(super) fn decoded(message: &[u8], take: &mut Take<'_>) -> Option<()> {
    for field in Fields(message) {
        let Field { number, value, .. } = field.ok()?;
        match value {
            Value::Double(value) => {
                let metric = match number {
                    1 => Metric::Cpu,
                    2 => Metric::Memory,
                    6 => Metric::Requests,
                    7 => Metric::Errors,
                    9 => Metric::Application,
                    _ => Metric::Other,
                };
                take(metric, value)?;
            }
            Value::Bytes(content) => {
                let map = match number {
                    4 => Map::Cost,
                    5 => Map::Utilization,
                    8 => Map::Named,
                    _ => continue,
                };
                let (key, value) = entry(content)?;
                take(map.entry(key), value)?;
            }
            Value::Fixed | Value::Number(_) => {}
        }
    }
    Some(())
}

/// An entry of a map: a name and a double.
fn entry(message: &[u8]) -> Option<(&str, f64)> {
    let (mut name, mut number) = ("", 0.0);
    for field in Fields(message) {
        let field = field.ok()?;
        match (field.number, field.value) {
            (1, Value::Bytes(text)) => name = std::str::from_utf8(text).ok()?,
            (2, Value::Double(value)) => number = value,
            _ => {}
        }
    }
    Some((name, number))
}
