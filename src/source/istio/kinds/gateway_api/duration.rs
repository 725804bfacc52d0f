//! Durations as the Gateway API writes them (GEP-2257).

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::super::GoDuration;

/// One to four numbers of up to five digits, each with a unit of h, m, s or ms: `10s`, `1h30m`.
///
/// It is narrower than a [`GoDuration`]: no fractions, no sign, no smaller units.
///
/// ```
/// use meshwork::source::istio::kinds::gateway_api::GatewayDuration;
///
/// assert_eq!("1s500ms".parse(), Ok(GatewayDuration(std::time::Duration::from_millis(1500))));
/// assert!("1.5s".parse::<GatewayDuration>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayDuration(pub Duration);

/// The text is no duration of the Gateway API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one to four numbers with a unit of h, m, s or ms, such as 10s, 500ms or 1h30m")]
pub struct NotAGatewayDuration(());

/// Numbers with a unit in one duration.
const PARTS: usize = 4;
/// Digits of one number.
const DIGITS: usize = 5;

impl From<GatewayDuration> for Duration {
    fn from(duration: GatewayDuration) -> Self {
        duration.0
    }
}

impl std::str::FromStr for GatewayDuration {
    type Err = NotAGatewayDuration;

    fn from_str(text: &str) -> Result<Self, NotAGatewayDuration> {
        let refused = NotAGatewayDuration(());
        let numbers = text.split(|c: char| !c.is_ascii_digit());
        let numbers: Vec<&str> = numbers.filter(|digits| !digits.is_empty()).collect();
        let units = text.split(|c: char| c.is_ascii_digit());
        let mut units = units.filter(|unit| !unit.is_empty());
        let begins = text.starts_with(|c: char| c.is_ascii_digit());
        let short = numbers.iter().all(|digits| digits.len() <= DIGITS);
        let known = units.all(|unit| matches!(unit, "h" | "m" | "s" | "ms"));
        if !begins || !short || !known || numbers.len() > PARTS {
            return Err(refused);
        }
        // The rest is a part of Go's syntax, which has its own word on a missing unit.
        let duration: GoDuration = text.parse().map_err(|_| refused)?;
        if text.ends_with(|c: char| c.is_ascii_digit()) {
            return Err(refused);
        }
        Ok(Self(duration.0))
    }
}

impl<'de> Deserialize<'de> for GatewayDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;

        impl Visitor<'_> for DurationVisitor {
            type Value = GatewayDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 10s, 500ms or 1h30m")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<GatewayDuration, E> {
                text.parse()
                    .map_err(|fault| E::custom(format_args!("duration {text:?}: {fault}")))
            }
        }

        deserializer.deserialize_str(DurationVisitor)
    }
}

impl JsonSchema for GatewayDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "GatewayDuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$",
            "examples": ["10s", "500ms", "1h30m"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_durations_are_narrower_than_those_of_go() {
        for (text, milliseconds) in [
            ("0s", 0),
            ("10s", 10_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("1h2m3s4ms", 3_723_004),
        ] {
            let expected = GatewayDuration(Duration::from_millis(milliseconds));
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "0",
            "5",
            "1.5s",
            "-1s",
            "+1s",
            "1us",
            "1d",
            "100000s",
            "1h1m1s1ms1ms",
            "s",
            "1 s",
            "1m5",
        ] {
            assert!(text.parse::<GatewayDuration>().is_err(), "{text}");
        }
    }
}
