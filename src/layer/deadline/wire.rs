//! Deadlines in headers: `grpc-timeout` and Envoy's `x-envoy-*` family.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;
use tokio::time::Instant;

use super::Deadline;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const EXPECTED: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
const PER_TRY: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms");

/// A century. Longer durations from the wire are cut to it, so that no later sum of times can
/// overflow.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The most that eight digits can say.
const EIGHT_DIGITS: u128 = 99_999_999;

/// What the headers of a message ask for.
///
/// Malformed values count as absent, as in Envoy: a typo in a header is no reason to fail a call.
///
/// ```
/// use std::time::Duration;
/// use meshwork::layer::deadline::{Asked, Override};
///
/// let mut headers = http::HeaderMap::new();
/// headers.insert("grpc-timeout", "1500m".parse().unwrap());
/// headers.insert("x-envoy-upstream-rq-timeout-ms", "0".parse().unwrap());
/// let asked = Asked::of(&headers);
/// assert_eq!(asked.patience, Some(Duration::from_millis(1500)));
/// assert_eq!(asked.timeout, Some(Override::Off));
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Asked {
    /// How long the caller waits: the smaller of `grpc-timeout` and
    /// `x-envoy-expected-rq-timeout-ms`. It can only shorten what the route allows.
    pub patience: Option<Duration>,
    /// `x-envoy-upstream-rq-timeout-ms`: replaces the route's timeout.
    pub timeout: Option<Override>,
    /// `x-envoy-upstream-rq-per-try-timeout-ms`: replaces the per-try timeout of the route's retry
    /// policy.
    pub per_try: Option<Override>,
}

/// A timeout that a request sets in place of its route's.
///
/// Exhaustive on purpose: the wire knows only these two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Override {
    /// No timeout; zero on the wire.
    Off,
    /// This timeout.
    After(Duration),
}

impl Override {
    fn resolve(asked: Option<Self>, route: Option<Duration>) -> Option<Duration> {
        match asked {
            Some(Self::After(after)) => Some(after),
            Some(Self::Off) => None,
            None => route,
        }
    }
}

impl Asked {
    /// Reads `grpc-timeout`, `x-envoy-expected-rq-timeout-ms`, `x-envoy-upstream-rq-timeout-ms`
    /// and `x-envoy-upstream-rq-per-try-timeout-ms`.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        // Nearly no request has any of them; one look over all names is cheaper than four hashes.
        let may_ask = |name: &HeaderName| {
            let name = name.as_str();
            name.starts_with("x-envoy-") || name.starts_with("grpc-")
        };
        if !headers.keys().any(may_ask) {
            return Self::default();
        }
        let grpc = headers
            .get(GRPC_TIMEOUT)
            .and_then(|value| parse_grpc_timeout(value).ok());
        // Zero means "no timeout" in this family, also when a sidecar announces it.
        let expected = match milliseconds(headers, &EXPECTED) {
            Some(Override::After(after)) => Some(after),
            Some(Override::Off) | None => None,
        };
        Self {
            patience: [grpc, expected].into_iter().flatten().min(),
            timeout: milliseconds(headers, &TIMEOUT),
            per_try: milliseconds(headers, &PER_TRY),
        }
    }

    /// Reads what is asked for and removes what is meant for this hop alone, as Envoy does: the
    /// callee is told what it has in other headers.
    pub(crate) fn take(headers: &mut HeaderMap) -> Self {
        let asked = Self::of(headers);
        if asked.timeout.is_some() {
            headers.remove(TIMEOUT);
        }
        if asked.per_try.is_some() {
            headers.remove(PER_TRY);
        }
        asked
    }

    /// The deadline of a call that begins at `start` on a route with this timeout: the earlier of
    /// the caller's patience and the route's timeout, which [`timeout`](Self::timeout) replaces.
    #[must_use]
    pub fn deadline(&self, start: Instant, route: Option<Duration>) -> Deadline {
        let route = Override::resolve(self.timeout, route)
            .map_or(Deadline::NONE, |after| Deadline::route(start, after));
        let caller = self
            .patience
            .map_or(Deadline::NONE, |after| Deadline::caller(start, after));
        caller.min(route)
    }

    /// The per-try timeout of a call on a route whose retry policy has this one.
    #[must_use]
    pub fn per_try(&self, policy: Option<Duration>) -> Option<Duration> {
        Override::resolve(self.per_try, policy)
    }
}

impl Deadline {
    /// Tells the callee what is left: `x-envoy-expected-rq-timeout-ms`, and `grpc-timeout` if the
    /// `content-type` is that of gRPC.
    ///
    /// Replaces what is there; without a deadline the headers stay as they are. Rounded down, but
    /// never to zero, which would mean "no timeout" to Envoy and is malformed for gRPC.
    pub fn announce(&self, headers: &mut HeaderMap) {
        self.announce_at(Instant::now(), headers);
    }

    /// Tells what is left if the headers told it before: what a repeated request needs.
    pub(crate) fn announce_anew(&self, headers: &mut HeaderMap) {
        if headers.contains_key(EXPECTED) || headers.contains_key(GRPC_TIMEOUT) {
            self.announce(headers);
        }
    }

    /// Tells what is left at `now`; one allocation for each header.
    pub(crate) fn announce_at(&self, now: Instant, headers: &mut HeaderMap) {
        let Some(remaining) = self.remaining_at(now) else {
            return;
        };
        headers.insert(EXPECTED, number(remaining.as_millis().max(1), None));
        if is_grpc(headers) {
            headers.insert(GRPC_TIMEOUT, grpc_timeout(remaining));
        }
    }
}

/// What a callee is told of a fixed time, made once so that no request formats it.
///
/// ```text
/// x-envoy-expected-rq-timeout-ms: 2000
/// grpc-timeout: 2000000u
/// ```
#[derive(Clone, Debug)]
pub(crate) struct Announcement {
    expected: HeaderValue,
    grpc: HeaderValue,
}

impl Announcement {
    pub(crate) fn new(after: Duration) -> Self {
        Self {
            expected: number(after.as_millis().max(1), None),
            grpc: grpc_timeout(after),
        }
    }

    /// Writes it; no allocation but for room in the map.
    pub(crate) fn write(&self, grpc: bool, headers: &mut HeaderMap) {
        headers.insert(EXPECTED, self.expected.clone());
        if grpc {
            headers.insert(GRPC_TIMEOUT, self.grpc.clone());
        }
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// A `grpc-timeout` that is none.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error(
    "grpc-timeout {found:?} is malformed: 1 to 8 digits and one of H, M, S, m, u, n are allowed"
)]
pub struct Malformed {
    found: HeaderValue,
}

/// Parses a `grpc-timeout` value as the gRPC protocol defines it: 1 to 8 digits and a unit.
///
/// Zero is allowed and is over at once; more than a century is cut to a century.
///
/// # Errors
/// If the value has another form: no digits or more than eight, a sign, a fraction, an unknown
/// unit.
///
/// ```
/// use std::time::Duration;
/// use meshwork::layer::deadline::parse_grpc_timeout;
///
/// let parse = |text: &'static str| parse_grpc_timeout(&http::HeaderValue::from_static(text));
/// assert_eq!(parse("100m"), Ok(Duration::from_millis(100)));
/// assert!(parse("-1S").is_err() && parse("123456789n").is_err());
/// ```
pub fn parse_grpc_timeout(value: &HeaderValue) -> Result<Duration, Malformed> {
    let parse = || {
        let (unit, digits) = value.as_bytes().split_last()?;
        if digits.len() > 8 {
            return None;
        }
        let count = digits_of(digits)?;
        Some(match unit {
            b'H' => Duration::from_secs(count * 60 * 60),
            b'M' => Duration::from_secs(count * 60),
            b'S' => Duration::from_secs(count),
            b'm' => Duration::from_millis(count),
            b'u' => Duration::from_micros(count),
            b'n' => Duration::from_nanos(count),
            _ => return None,
        })
    };
    parse()
        .map(|duration: Duration| duration.min(LONGEST))
        .ok_or_else(|| Malformed {
            found: value.clone(),
        })
}

/// The finest unit in which eight digits suffice, rounded down: what is lost is below a
/// ten-millionth of it.
fn grpc_timeout(remaining: Duration) -> HeaderValue {
    const UNITS: [(u128, u8); 6] = [
        (1, b'n'),
        (1_000, b'u'),
        (1_000_000, b'm'),
        (1_000_000_000, b'S'),
        (60_000_000_000, b'M'),
        (3_600_000_000_000, b'H'),
    ];
    let nanos = remaining.as_nanos().max(1);
    let (count, unit) = UNITS
        .into_iter()
        .map(|(size, unit)| (nanos / size, unit))
        .find(|(count, _)| *count <= EIGHT_DIGITS)
        .unwrap_or((EIGHT_DIGITS, b'H'));
    number(count, Some(unit))
}

/// Milliseconds as Envoy reads them; a number too large for `u64` is malformed.
fn milliseconds(headers: &HeaderMap, name: &HeaderName) -> Option<Override> {
    let count = digits_of(headers.get(name)?.as_bytes())?;
    Some(match count {
        0 => Override::Off,
        count => Override::After(Duration::from_millis(count).min(LONGEST)),
    })
}

/// Digits only: `str::parse` would let a sign pass.
fn digits_of(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Prints into a buffer on the stack: the only allocation is the header value's own.
fn number(mut count: u128, unit: Option<u8>) -> HeaderValue {
    let mut buffer = [0u8; 40];
    let mut begin = buffer.len();
    if let Some(unit) = unit {
        begin -= 1;
        buffer[begin] = unit;
    }
    // A u128 has at most 39 digits, so that with the unit 40 bytes suffice.
    loop {
        begin -= 1;
        buffer[begin] = b'0' + (count % 10) as u8;
        count /= 10;
        if count == 0 {
            break;
        }
    }
    HeaderValue::from_bytes(&buffer[begin..]).expect("digits and letters are valid in a header")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<Duration> {
        parse_grpc_timeout(&HeaderValue::from_bytes(text.as_bytes()).unwrap()).ok()
    }

    #[test]
    fn g12_grpc_timeout_is_read_clamped_or_refused() {
        for (text, duration) in [
            ("1n", Some(Duration::from_nanos(1))),
            ("2u", Some(Duration::from_micros(2))),
            ("3m", Some(Duration::from_millis(3))),
            ("4S", Some(Duration::from_secs(4))),
            ("5M", Some(Duration::from_secs(300))),
            ("6H", Some(Duration::from_secs(6 * 3600))),
            ("0n", Some(Duration::ZERO)),
            ("00000001S", Some(Duration::from_secs(1))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("99999999H", Some(LONGEST)),
            ("123456789n", None),
            ("000000001S", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("1", None),
            ("S", None),
            ("", None),
            ("1s", None),
            ("1 S", None),
            ("1SS", None),
            ("\u{661}S", None),
        ] {
            assert_eq!(parse(text), duration, "{text:?}");
        }
    }

    #[test]
    fn g12_the_refusal_says_what_is_allowed() {
        let error = parse_grpc_timeout(&HeaderValue::from_static("-1S")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "grpc-timeout \"-1S\" is malformed: 1 to 8 digits and one of H, M, S, m, u, n are allowed"
        );
    }

    #[test]
    fn headers_of_envoy_replace_or_shorten_and_garbage_is_absent() {
        let asked = |pairs: &[(HeaderName, &str)]| {
            let headers = pairs
                .iter()
                .map(|(name, value)| (name.clone(), value.parse().unwrap()))
                .collect();
            Asked::of(&headers)
        };
        let ms = Duration::from_millis;
        let both = asked(&[(GRPC_TIMEOUT, "2S"), (EXPECTED, "700")]);
        assert_eq!(both.patience, Some(ms(700)));
        let zero = asked(&[(EXPECTED, "0"), (TIMEOUT, "0"), (PER_TRY, "0")]);
        assert_eq!(zero.patience, None);
        assert_eq!(zero.timeout, Some(Override::Off));
        assert_eq!(zero.per_try(Some(ms(5))), None);
        let set = asked(&[(TIMEOUT, "9000"), (PER_TRY, "20")]);
        assert_eq!(set.timeout, Some(Override::After(ms(9_000))));
        assert_eq!(set.per_try(None), Some(ms(20)));
        for garbage in ["-1", "+1", "1.0", "x", "", "18446744073709551616"] {
            let asked = asked(&[(EXPECTED, garbage), (TIMEOUT, garbage), (PER_TRY, garbage)]);
            assert_eq!(asked, Asked::default(), "{garbage:?}");
        }
        let huge = asked(&[(TIMEOUT, "18446744073709551615")]);
        assert_eq!(huge.timeout, Some(Override::After(LONGEST)));
    }

    #[test]
    fn the_callers_patience_shortens_the_route_and_an_override_replaces_it() {
        let start = Instant::now();
        let (two, five) = (Duration::from_secs(2), Duration::from_secs(5));
        let patient = Asked {
            patience: Some(two),
            ..Asked::default()
        };
        let caller = patient.deadline(start, Some(five));
        assert_eq!(caller, Deadline::caller(start, two));
        let off = Asked {
            timeout: Some(Override::Off),
            ..Asked::default()
        };
        assert_eq!(off.deadline(start, Some(five)), Deadline::NONE);
        let route = Asked::default().deadline(start, Some(five));
        assert_eq!(route, Deadline::route(start, five));
    }

    #[test]
    fn announcing_replaces_what_is_there_and_grpc_timeout_is_for_grpc_only() {
        let start = Instant::now();
        let deadline = Deadline::caller(start, Duration::from_millis(100));
        let mut headers = HeaderMap::new();
        headers.insert(EXPECTED, HeaderValue::from_static("9"));
        deadline.announce_at(start + Duration::from_micros(300), &mut headers);
        assert_eq!(headers[EXPECTED], "99");
        assert!(!headers.contains_key(GRPC_TIMEOUT));

        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/grpc+proto"),
        );
        deadline.announce_at(start + Duration::from_micros(300), &mut headers);
        assert_eq!(headers[GRPC_TIMEOUT], "99700000n");

        deadline.announce_at(start + Duration::from_secs(1), &mut headers);
        assert_eq!(
            (&headers[EXPECTED], &headers[GRPC_TIMEOUT]),
            (&"1".parse().unwrap(), &"1n".parse().unwrap())
        );

        let mut untouched = HeaderMap::new();
        Deadline::NONE.announce(&mut untouched);
        assert!(untouched.is_empty());
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn g12_no_header_panics(value in proptest::collection::vec(any::<u8>(), 0..24)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let headers = [GRPC_TIMEOUT, EXPECTED, TIMEOUT, PER_TRY]
                    .map(|name| (name, value.clone()))
                    .into_iter()
                    .collect();
                let asked = Asked::of(&headers);
                prop_assert!(asked.patience.is_none_or(|patience| patience <= LONGEST));
                let _ = asked.deadline(Instant::now(), None).remaining();
            }
        }

        /// Eight digits of a unit, each a thousand of the one before: what is lost is less than one
        /// of the new unit, of which there are at least 100,000.
        #[test]
        fn printing_loses_time_but_hardly_any(
            nanos in (1_u128..=LONGEST.as_nanos(), 0_u32..60).prop_map(|(nanos, bits)| (nanos >> bits).max(1)),
        ) {
            let duration = Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32);
            let back = parse_grpc_timeout(&grpc_timeout(duration)).unwrap();
            prop_assert!(back <= duration);
            prop_assert!((duration - back).as_nanos() * 100_000 < nanos, "{duration:?} {back:?}");
        }
    }
}
