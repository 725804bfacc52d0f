//! Small values: durations, shares, texts, names of headers, regular expressions.

use std::num::NonZeroU32;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, HeaderValue, StatusCode};
use prost::{Message, Name};

use super::place::{Place, Quoted};
use super::unknown;
use crate::model::matcher::Regex;
use crate::model::route::RewritePattern;
use crate::model::{Fraction, Percent};
use crate::source::xds::proto::{self, Any, core, matcher, percent};

/// The longest duration of protobuf: 10,000 years.
const MAX_SECONDS: i64 = 315_576_000_000;

pub(super) fn duration(place: &Place<'_>, value: proto::Duration) -> Option<Duration> {
    let proto::Duration { seconds, nanos } = value;
    let valid = (0..=MAX_SECONDS).contains(&seconds) && (0..1_000_000_000).contains(&nanos);
    match (u64::try_from(seconds), u32::try_from(nanos)) {
        (Ok(seconds), Ok(nanos)) if valid => Some(Duration::new(seconds, nanos)),
        _ => place.fault(format_args!(
            "{seconds} s and {nanos} ns is no duration that can be waited: 0 s to {MAX_SECONDS} s \
             with less than 1,000,000,000 ns is allowed"
        )),
    }
}

/// A duration of which zero means that there is no limit; `None` if it is invalid.
pub(super) fn limit(place: &Place<'_>, value: Option<proto::Duration>) -> Option<Option<Duration>> {
    match value {
        None => Some(None),
        Some(value) => Some(Some(duration(place, value)?).filter(|limit| !limit.is_zero())),
    }
}

/// A duration, or `default` where none is set.
pub(super) fn duration_or(
    place: &Place<'_>,
    value: Option<proto::Duration>,
    default: Duration,
) -> Option<Duration> {
    match value {
        None => Some(default),
        Some(value) => duration(place, value),
    }
}

/// A duration above zero, or `default` where none is set.
pub(super) fn positive_or(
    place: &Place<'_>,
    value: Option<proto::Duration>,
    default: Duration,
) -> Option<Duration> {
    let value = duration_or(place, value, default)?;
    if value.is_zero() {
        return place.fault("is zero; more than 0 s is allowed");
    }
    Some(value)
}

/// A share of requests. More than all is all, as in Envoy.
pub(super) fn fraction(place: &Place<'_>, value: percent::FractionalPercent) -> Option<Fraction> {
    use percent::fractional_percent::DenominatorType as Denominator;
    let percent::FractionalPercent {
        numerator,
        denominator,
    } = value;
    let scale: u64 = match Denominator::try_from(denominator) {
        Ok(Denominator::Hundred) => 10_000,
        Ok(Denominator::TenThousand) => 100,
        Ok(Denominator::Million) => 1,
        Err(_) => {
            return place.field("denominator").fault(format_args!(
                "{denominator} is unknown; HUNDRED (0), TEN_THOUSAND (1) and MILLION (2) are allowed"
            ));
        }
    };
    let parts = (u64::from(numerator) * scale).min(u64::from(Fraction::ONE.parts_per_million()));
    // In range by the line above.
    u32::try_from(parts)
        .ok()
        .and_then(|parts| Fraction::from_parts_per_million(parts).ok())
}

/// A share whose runtime key is not looked at; all where none is set.
pub(super) fn runtime_fraction(
    place: &Place<'_>,
    value: Option<core::RuntimeFractionalPercent>,
) -> Option<Fraction> {
    match value.and_then(|value| value.default_value) {
        None => Some(Fraction::ONE),
        Some(value) => fraction(&place.field("default_value"), value),
    }
}

/// A whole percentage in a `UInt32Value`.
pub(super) fn percent_or(
    place: &Place<'_>,
    value: Option<proto::UInt32Value>,
    default: Percent,
) -> Option<Percent> {
    match value {
        None => Some(default),
        Some(value) => match Percent::new(value.value) {
            Ok(percent) => Some(percent),
            Err(error) => place.fault(error),
        },
    }
}

/// A percentage as a floating point number; fractions are rounded to the nearest whole.
pub(super) fn percent_f64(place: &Place<'_>, value: f64) -> Option<Percent> {
    if !(0.0..=100.0).contains(&value) {
        return place.fault(format_args!(
            "{value} is not a percentage: 0 to 100 is allowed"
        ));
    }
    // In range by the check above, and not NaN.
    Percent::new(value.round() as u32).ok()
}

/// A number above zero, or `default` where none is set.
pub(super) fn nonzero_or(
    place: &Place<'_>,
    value: Option<proto::UInt32Value>,
    default: NonZeroU32,
) -> Option<NonZeroU32> {
    match value {
        None => Some(default),
        Some(value) => match NonZeroU32::new(value.value) {
            Some(value) => Some(value),
            None => place.fault("is 0; 1 or more is allowed"),
        },
    }
}

pub(super) fn number_or(value: Option<proto::UInt32Value>, default: u32) -> u32 {
    value.map_or(default, |value| value.value)
}

pub(super) fn header_name(place: &Place<'_>, text: &str) -> Option<HeaderName> {
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) => Some(name),
        Err(_) => place.fault(format_args!("{} is not the name of a header", Quoted(text))),
    }
}

pub(super) fn header_value(place: &Place<'_>, bytes: &[u8]) -> Option<HeaderValue> {
    match HeaderValue::from_bytes(bytes) {
        Ok(value) => Some(value),
        Err(_) => place.fault("has characters that no header value may have"),
    }
}

pub(super) fn status(place: &Place<'_>, code: u32) -> Option<StatusCode> {
    let status = u16::try_from(code)
        .ok()
        .filter(|code| (200..600).contains(code));
    match status.and_then(|code| StatusCode::from_u16(code).ok()) {
        Some(status) => Some(status),
        None => place.fault(format_args!(
            "{code} is not the status of an answer: 200 to 599 is allowed"
        )),
    }
}

pub(super) fn regex(place: &Place<'_>, value: &matcher::RegexMatcher) -> Option<Regex> {
    match Regex::new(&value.regex) {
        Ok(regex) => Some(regex),
        Err(error) => place.field("regex").fault(error),
    }
}

/// A pattern that is looked for, and what stands in its place.
pub(super) fn rewrite(
    place: &Place<'_>,
    value: &matcher::RegexMatchAndSubstitute,
) -> Option<(RewritePattern, Box<str>)> {
    let matcher::RegexMatchAndSubstitute {
        pattern,
        substitution,
    } = value;
    let pattern_place = place.field("pattern");
    let pattern = pattern_place.required(pattern.as_ref())?;
    match RewritePattern::new(&pattern.regex) {
        Ok(pattern) => Some((pattern, substitution.as_str().into())),
        Err(error) => pattern_place.field("regex").fault(error),
    }
}

/// An authority; `None` for an empty text.
pub(super) fn authority(place: &Place<'_>, text: &str) -> Option<Option<Authority>> {
    if text.is_empty() {
        return Some(None);
    }
    // A user's name is no part of what requests are sent with.
    match Authority::try_from(text) {
        Ok(authority) if !text.contains('@') && !authority.host().is_empty() => {
            Some(Some(authority))
        }
        _ => place.fault(format_args!(
            "{} is no authority; \"host\" and \"host:port\" are allowed",
            Quoted(text)
        )),
    }
}

/// The message in an `Any`, whose type is known to be `M`'s.
pub(super) fn unpack<M: Message + Name + Default>(place: &Place<'_>, any: &Any) -> Option<M> {
    if !is::<M>(any) {
        return place.fault(format_args!(
            "is of type {}; {} is allowed",
            Quoted(&any.type_url),
            M::full_name()
        ));
    }
    match M::decode(&*any.value) {
        Ok(message) => Some(message),
        Err(error) => place.fault(format_args!("is no {}: {error}", M::full_name())),
    }
}

/// The same of a message that secures: fields of a newer API refuse it.
pub(super) fn guarded<M: Message + Name + Default>(place: &Place<'_>, any: &Any) -> Option<M> {
    let message = unpack(place, any);
    unknown::refuse(place, any)?;
    message
}

/// Whether an `Any` holds an `M`. What stands before the last slash does not matter.
pub(super) fn is<M: Name>(any: &Any) -> bool {
    type_name(any) == M::full_name()
}

pub(super) fn type_name(any: &Any) -> &str {
    any.type_url
        .rsplit_once('/')
        .map_or(&any.type_url, |(_, name)| name)
}

/// A source of resources: only the stream that this resource came by.
pub(super) fn own_stream(place: &Place<'_>, source: Option<&core::ConfigSource>) -> Option<()> {
    use core::config_source::ConfigSourceSpecifier as Specifier;
    match place.required(source)?.config_source_specifier {
        Some(Specifier::Ads(_) | Specifier::Self_(_)) => Some(()),
        Some(_) => place.fault("names another source; \"ads\" and \"self\" are allowed"),
        None => place.fault("names no source; \"ads\" and \"self\" are allowed"),
    }
}

/// `text`, if it is not empty.
pub(super) fn filled<'t>(place: &Place<'_>, text: &'t str) -> Option<&'t str> {
    if text.is_empty() {
        return place.fault("is empty");
    }
    Some(text)
}
