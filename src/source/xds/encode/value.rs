//! Small values as messages.

use std::time::Duration;

use crate::model::matcher::Regex;
use crate::model::{Fraction, Percent};
use crate::source::xds::proto::{self, core, matcher, percent};

/// The longest duration of protobuf: 10,000 years. Longer ones are as good as this.
const MAX_SECONDS: i64 = 315_576_000_000;

pub(super) fn duration(value: Duration) -> proto::Duration {
    let seconds = i64::try_from(value.as_secs()).unwrap_or(MAX_SECONDS);
    match seconds < MAX_SECONDS {
        // Less than 1,000,000,000, so the cast is exact.
        true => proto::Duration {
            seconds,
            nanos: value.subsec_nanos() as i32,
        },
        false => proto::Duration {
            seconds: MAX_SECONDS,
            nanos: 0,
        },
    }
}

/// A limit, where zero would mean that there is none: a limit of nothing is one of a nanosecond.
pub(super) fn limit(value: Duration) -> proto::Duration {
    duration(value.max(Duration::from_nanos(1)))
}

/// A limit, and zero where there is none.
pub(super) fn limit_or_zero(value: Option<Duration>) -> proto::Duration {
    value.map_or_else(proto::Duration::default, limit)
}

/// A structure of texts.
pub(super) fn text_struct(all: &[(&str, &str)]) -> envoy_types::pb::google::protobuf::Struct {
    use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
    let field = |(key, text): &(&str, &str)| {
        let kind = Some(Kind::StringValue((*text).to_owned()));
        ((*key).to_owned(), Value { kind })
    };
    Struct {
        fields: all.iter().map(field).collect(),
    }
}

pub(super) fn number(value: u32) -> proto::UInt32Value {
    proto::UInt32Value { value }
}

pub(super) fn long(value: u32) -> proto::UInt64Value {
    proto::UInt64Value {
        value: u64::from(value),
    }
}

pub(super) fn flag(value: bool) -> proto::BoolValue {
    proto::BoolValue { value }
}

pub(super) fn whole_percent(value: Percent) -> proto::UInt32Value {
    number(value.value())
}

pub(super) fn percent(value: Percent) -> percent::Percent {
    percent::Percent {
        value: f64::from(value.value()),
    }
}

pub(super) fn fraction(value: Fraction) -> percent::FractionalPercent {
    percent::FractionalPercent {
        numerator: value.parts_per_million(),
        denominator: percent::fractional_percent::DenominatorType::Million.into(),
    }
}

pub(super) fn runtime_fraction(value: Fraction) -> core::RuntimeFractionalPercent {
    core::RuntimeFractionalPercent {
        default_value: Some(fraction(value)),
        runtime_key: String::new(),
    }
}

pub(super) fn regex(value: &Regex) -> matcher::RegexMatcher {
    pattern(value.pattern())
}

pub(super) fn pattern(text: &str) -> matcher::RegexMatcher {
    matcher::RegexMatcher {
        regex: text.to_owned(),
        engine_type: None,
    }
}

pub(super) fn rewrite(text: &str, to: &str) -> matcher::RegexMatchAndSubstitute {
    matcher::RegexMatchAndSubstitute {
        pattern: Some(pattern(text)),
        substitution: to.to_owned(),
    }
}

/// The server that the resource itself comes from.
pub(super) fn own_server() -> core::ConfigSource {
    core::ConfigSource {
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Self_(
            core::SelfConfigSource::default(),
        )),
        ..core::ConfigSource::default()
    }
}

/// The stream that the resource itself comes by.
pub(super) fn own_stream() -> core::ConfigSource {
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource::default(),
        )),
        ..core::ConfigSource::default()
    }
}
