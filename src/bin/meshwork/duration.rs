//! Durations on the command line, written as in Go and in Istio's YAML: `20ms`, `1m30s`, `1.5h`.
//!
//! One grammar for flags and files, so that a value can be pasted from one to the other. Computed in
//! integers: `0.1s` is exactly 100 ms.

use std::time::Duration;

/// What a duration may look like, for errors.
const ALLOWED: &str = "write numbers with units h, m, s, ms, us or ns, such as 20ms, 1.5s or 1m30s";

/// Parses a duration: one or more `NUMBER UNIT` pairs without spaces, or a bare `0`.
///
/// # Errors
///
/// Text that is not such a sequence, a sign, and more than 584 years (2^64 ns).
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(format!("no duration; {ALLOWED}"));
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (nanos, after) = pair(rest).map_err(|why| format!("{why}; {ALLOWED}"))?;
        total = total
            .checked_add(nanos)
            .ok_or("longer than 584 years; use a shorter one")?;
        rest = after;
    }
    Ok(Duration::from_nanos(total))
}

/// One number with its unit, in nanoseconds, and what follows.
fn pair(text: &str) -> Result<(u64, &str), String> {
    let number_ends = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(number_ends);
    let unit_ends = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_ends);

    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(format!("expected a number at {text:?}"));
    }
    let scale: u64 = match unit {
        "h" => 3_600_000_000_000,
        "m" => 60_000_000_000,
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" | "µs" | "μs" => 1_000,
        "ns" => 1,
        "" => return Err(format!("{number:?} has no unit")),
        other => return Err(format!("unknown unit {other:?}")),
    };
    let too_long = || format!("{number}{unit} is longer than 584 years");
    let whole = match whole {
        "" => 0,
        digits => digits.parse::<u64>().map_err(|_| too_long())?,
    };
    let mut nanos = whole.checked_mul(scale).ok_or_else(too_long)?;
    // Digit by digit, until a digit is worth less than a nanosecond: that and all after it is cut.
    let mut worth = scale;
    for digit in fraction.bytes() {
        worth /= 10;
        nanos = nanos
            .checked_add(worth * u64::from(digit - b'0'))
            .ok_or_else(too_long)?;
    }
    Ok((nanos, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_writes() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("20ms", 20),
            ("0.1s", 100),
            (".5s", 500),
            ("1.s", 1_000),
            ("1m30s", 90_000),
            ("1h0m0.25s", 3_600_250),
            ("1500us", 1),
            ("100µs", 0),
        ] {
            let parsed = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(parsed.as_millis(), millis, "{text}");
        }
        assert_eq!(
            parse("1.0000000019s"),
            Ok(Duration::from_nanos(1_000_000_001))
        );
        assert_eq!(
            parse("876000h"),
            Ok(Duration::from_secs(876_000 * 3_600)),
            "a century"
        );
    }

    #[test]
    fn says_what_is_wrong_and_what_is_allowed() {
        for (text, why) in [
            ("", "no duration"),
            ("20", "\"20\" has no unit"),
            ("20 ms", "unknown unit \" ms\""),
            ("-1s", "expected a number at \"-1s\""),
            ("1d", "unknown unit \"d\""),
            ("1.2.3s", "expected a number"),
            (".s", "expected a number"),
            ("s", "expected a number"),
            ("99999999h", "longer than 584 years"),
            ("99999999999999999999h", "longer than 584 years"),
            ("5000000h5000000h", "longer than 584 years"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
