//! Durations as Go and proto3-JSON write them.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A duration in the syntax of Go's `time.ParseDuration`: `5s`, `0.5s`, `8ms`, `1h30m`.
///
/// A number without a unit is refused, except `0`, and so is a negative one: no field of ours has
/// a meaning for it. Fractions finer than a nanosecond are cut off.
///
/// ```
/// use std::time::Duration;
/// use meshwork::source::istio::kinds::GoDuration;
///
/// let duration: GoDuration = "1h30m".parse()?;
/// assert_eq!(Duration::from(duration), Duration::from_secs(5400));
/// assert!("30".parse::<GoDuration>().is_err());
/// # Ok::<(), meshwork::source::istio::kinds::NotADuration>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub Duration);

/// The text is no duration; `Display` says what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotADuration {
    /// A sign in front of the number.
    #[error("must not be negative")]
    Negative,
    /// Neither digits nor a point where a number must stand, or nothing at all.
    #[error("expected a number with a unit, such as 5s, 0.5s, 250ms or 1h30m")]
    Number,
    /// More than about 292 years, the range of Go's `time.Duration`.
    #[error("is longer than a duration can be (about 292 years)")]
    TooLong,
    /// A number that no known unit follows.
    #[error("needs a unit after each number: ns, us, ms, s, m or h, such as 5s")]
    Unit,
}

impl From<GoDuration> for Duration {
    fn from(duration: GoDuration) -> Self {
        duration.0
    }
}

impl std::str::FromStr for GoDuration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        if text.starts_with('-') {
            return Err(NotADuration::Negative);
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if rest.is_empty() {
            return Err(NotADuration::Number);
        }
        let mut total: u128 = 0;
        while !rest.is_empty() {
            let (nanoseconds, after) = component(rest)?;
            total = total.saturating_add(nanoseconds);
            rest = after;
        }
        match i64::try_from(total) {
            Ok(total) => Ok(Self(Duration::from_nanos(total.unsigned_abs()))),
            Err(_) => Err(NotADuration::TooLong),
        }
    }
}

/// One number with its unit, in nanoseconds, and what follows it.
fn component(text: &str) -> Result<(u128, &str), NotADuration> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(NotADuration::Number);
    }
    let end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let unit = unit_nanoseconds(unit).ok_or(NotADuration::Unit)?;
    // Nineteen digits hold every value that is not too long anyway.
    let whole: u128 = match whole.trim_start_matches('0') {
        "" => 0,
        whole if whole.len() > 19 => return Err(NotADuration::TooLong),
        whole => whole.parse().map_err(|_| NotADuration::Number)?,
    };
    let mut nanoseconds = whole * unit;
    let mut scale = unit;
    for digit in fraction.bytes() {
        scale /= 10;
        nanoseconds += u128::from(digit - b'0') * scale;
    }
    Ok((nanoseconds, rest))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn unit_nanoseconds(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;

        impl Visitor<'_> for DurationVisitor {
            type Value = GoDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 5s, 0.5s, 250ms or 1h30m")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<GoDuration, E> {
                text.parse()
                    .map_err(|fault| E::custom(format_args!("duration {text:?} {fault}")))
            }
        }

        deserializer.deserialize_str(DurationVisitor)
    }
}

impl JsonSchema for GoDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "GoDuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(0|([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|\u{b5}s|ms|s|m|h))+$",
            "examples": ["5s", "0.5s", "250ms", "1h30m"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_parse() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("10s", 10_000_000_000),
            ("0.5s", 500_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("0.002s", 2_000_000),
            ("8ms", 8_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.000000001s", 1_000_000_001),
            ("1.0000000009s", 1_000_000_000),
            ("3\u{b5}s", 3_000),
            ("+1ns", 1),
        ] {
            let parsed = text.parse::<GoDuration>();
            assert_eq!(
                parsed,
                Ok(GoDuration(Duration::from_nanos(nanoseconds))),
                "{text}"
            );
        }
    }

    #[test]
    fn other_durations_are_refused() {
        for (text, fault) in [
            ("", NotADuration::Number),
            ("s", NotADuration::Number),
            (".s", NotADuration::Number),
            ("5", NotADuration::Unit),
            ("5 s", NotADuration::Unit),
            ("5d", NotADuration::Unit),
            ("1m5", NotADuration::Unit),
            ("-1s", NotADuration::Negative),
            ("9999999h", NotADuration::TooLong),
            ("99999999999999999999999999h", NotADuration::TooLong),
        ] {
            assert_eq!(text.parse::<GoDuration>(), Err(fault), "{text}");
        }
    }
}
