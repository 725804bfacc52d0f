//! What the peer says about when to try again.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName};

const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// No peer can make a call sleep for longer; Envoy's default for `rate_limited_retry_back_off`.
const LONGEST: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pushback {
    /// Nothing was said, or nothing that could be understood.
    None,
    /// Not before this pause.
    After(Duration),
    /// Not at all.
    Never,
}

/// Reads `grpc-retry-pushback-ms` and, if that is absent, `retry-after` (RFC 9110: seconds or a
/// date).
///
/// The two treat garbage differently on purpose. gRPC A6 wants it to mean "never". `retry-after` is
/// advice that anything between may have added, so what cannot be read is ignored.
pub(super) fn of(headers: &HeaderMap, wall_clock: fn() -> SystemTime) -> Pushback {
    if let Some(value) = headers.get(GRPC_PUSHBACK) {
        return match value.to_str().map(str::parse::<u64>) {
            Ok(Ok(ms)) => Pushback::After(Duration::from_millis(ms).min(LONGEST)),
            Ok(Err(_)) | Err(_) => Pushback::Never,
        };
    }
    let Some(text) = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
    else {
        return Pushback::None;
    };
    if let Ok(seconds) = text.trim().parse() {
        return Pushback::After(Duration::from_secs(seconds).min(LONGEST));
    }
    match httpdate::parse_http_date(text) {
        // A date that is over asks for no pause.
        Ok(date) => Pushback::After(
            date.duration_since(wall_clock())
                .unwrap_or_default()
                .min(LONGEST),
        ),
        Err(_) => Pushback::None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noon() -> SystemTime {
        httpdate::parse_http_date("Mon, 23 Nov 2026 12:00:00 GMT").unwrap()
    }

    fn read(name: HeaderName, value: &[u8]) -> Pushback {
        let value = http::HeaderValue::from_bytes(value).unwrap();
        of(&HeaderMap::from_iter([(name, value)]), noon)
    }

    #[test]
    fn g5_grpc_pushback_is_honoured_capped_or_final() {
        for (text, pushback) in [
            ("0", Pushback::After(Duration::ZERO)),
            ("100", Pushback::After(Duration::from_millis(100))),
            ("1099511627776", Pushback::After(LONGEST)),
            ("-1", Pushback::Never),
            ("x", Pushback::Never),
            ("", Pushback::Never),
            ("1.5", Pushback::Never),
            ("99999999999999999999", Pushback::Never),
        ] {
            assert_eq!(read(GRPC_PUSHBACK, text.as_bytes()), pushback, "{text:?}");
        }
        assert_eq!(read(GRPC_PUSHBACK, b"\xff"), Pushback::Never);
    }

    #[test]
    fn g5_retry_after_is_honoured_capped_or_ignored() {
        for (text, pushback) in [
            ("0", Pushback::After(Duration::ZERO)),
            ("7", Pushback::After(Duration::from_secs(7))),
            ("31536000", Pushback::After(LONGEST)),
            (
                "Mon, 23 Nov 2026 12:00:09 GMT",
                Pushback::After(Duration::from_secs(9)),
            ),
            (
                "Mon, 23 Nov 2026 11:00:00 GMT",
                Pushback::After(Duration::ZERO),
            ),
            ("Tue, 23 Nov 2027 12:00:00 GMT", Pushback::After(LONGEST)),
            ("soon", Pushback::None),
            ("-7", Pushback::None),
            ("", Pushback::None),
        ] {
            assert_eq!(read(RETRY_AFTER, text.as_bytes()), pushback, "{text:?}");
        }
        assert_eq!(of(&HeaderMap::new(), noon), Pushback::None);
    }

    #[test]
    fn i3_a_wall_clock_that_jumps_never_makes_a_pause_longer_than_the_cap() {
        let clocks: [fn() -> SystemTime; 4] = [
            || SystemTime::UNIX_EPOCH,
            || noon() + Duration::from_secs(7_200),
            || noon() - Duration::from_secs(7_200),
            || noon() + Duration::from_secs(1),
        ];
        let value = http::HeaderValue::from_static("Mon, 23 Nov 2026 12:00:09 GMT");
        let headers = HeaderMap::from_iter([(RETRY_AFTER, value)]);
        let found = clocks.map(|clock| of(&headers, clock));
        let after = |seconds| Pushback::After(Duration::from_secs(seconds));
        assert_eq!(found, [after(300), after(0), after(300), after(8)]);
    }

    #[test]
    fn grpc_pushback_goes_first() {
        let headers = [(RETRY_AFTER, "1"), (GRPC_PUSHBACK, "-1")]
            .map(|(name, value)| (name, http::HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        assert_eq!(of(&headers, noon), Pushback::Never);
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn no_value_panics(value in proptest::collection::vec(32u8..=126, 0..40)) {
            for name in [GRPC_PUSHBACK, RETRY_AFTER] {
                if let Pushback::After(pause) = read(name, &value) {
                    prop_assert!(pause <= LONGEST);
                }
            }
        }
    }
}
