//! Points in time for people.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::line::Stamp;

/// `2026-06-01T12:30:45.123Z`; a clock before 1970 is 1970.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}

/// In a form of its own; a clock before 1970 is 1970.
pub(super) fn stamped(time: SystemTime, stamps: &[Stamp]) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let mut text = String::new();
    for stamp in stamps {
        // Writing to a string cannot fail.
        let _ = match stamp {
            Stamp::Day => write!(text, "{day:02}"),
            Stamp::Fraction(digits) => {
                let nanos = format!("{:09}", since.subsec_nanos());
                write!(text, "{nanos:.*}", *digits)
            }
            Stamp::Hour => write!(text, "{:02}", seconds / 3_600),
            Stamp::Literal(literal) => write!(text, "{literal}"),
            Stamp::Minute => write!(text, "{:02}", seconds / 60 % 60),
            Stamp::Month => write!(text, "{month:02}"),
            Stamp::Second => write!(text, "{:02}", seconds % 60),
            Stamp::Seconds => write!(text, "{}", since.as_secs()),
            Stamp::Year => write!(text, "{year:04}"),
        };
    }
    text
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut left) = (1970 + 400 * (days / 146_097), days % 146_097);
    while left >= if leap(year) { 366 } else { 365 } {
        left -= if leap(year) { 366 } else { 365 };
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_form_of_ones_own_is_that_of_strftime() {
        let pieces = crate::model::line::pieces(
            "%START_TIME(%Y/%m/%dT%H:%M:%S.%3f%z %Z %%)%|%START_TIME(%F %T %f %s)%",
        );
        let stamps: Vec<_> = pieces
            .unwrap()
            .into_iter()
            .filter_map(|piece| match piece {
                crate::model::line::Piece::Value(crate::model::line::Value::StartTimeAs(
                    stamps,
                )) => Some(stamps),
                _ => None,
            })
            .collect();
        let time = UNIX_EPOCH + Duration::new(951_782_399, 12_345_678);
        assert_eq!(
            stamped(time, &stamps[0]),
            "2000/02/28T23:59:59.012+0000 UTC %"
        );
        assert_eq!(
            stamped(time, &stamps[1]),
            "2000-02-28 23:59:59 012345678 951782399"
        );
    }

    #[test]
    fn moments_are_written_as_httpdate_knows_them() {
        for seconds in [
            0,
            951_782_399,
            951_782_400,
            1_709_164_800,
            4_102_444_799,
            13_574_563_200,
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(7);
            let text = rfc3339(time);
            let told = httpdate::HttpDate::from(time).to_string();
            // `Tue, 29 Feb 2000 00:00:00 GMT`
            let (day, year) = (&told[5..7], &told[12..16]);
            assert!(
                text.starts_with(year) && &text[8..10] == day,
                "{text} {told}"
            );
            assert!(
                text.ends_with(&format!("{}.007Z", &told[17..25])),
                "{text} {told}"
            );
        }
        assert_eq!(rfc3339(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }
}
