//! The rules of Telemetry (Istio's `ValidateTelemetry`), and of the providers that it names.

use super::Checker;
use super::names::labels;
use crate::model::expression::Expression;
use crate::model::line;
use crate::source::istio::fault::{Code, quoted};
use crate::source::istio::kinds::{
    AccessLogEncoding, CustomTag, FileAccessLog, LoggingRule, MeshConfig, MetricsOverride,
    MetricsRule, NamedTag, ProviderName, StandardMetric, TagOperation, TagOverride, Telemetry,
    TracingRule,
};
use crate::source::istio::yaml::Located;

pub(super) fn rules(check: &mut Checker<'_>, telemetry: &Telemetry) {
    let Telemetry {
        selector,
        target_ref,
        target_refs,
        tracing,
        metrics,
        access_logging,
    } = telemetry;
    check.some("selector", selector.as_ref(), |check, selector| {
        check.within("matchLabels", |check| labels(check, &selector.match_labels));
    });
    let attached = target_ref.is_some() || !target_refs.is_empty();
    if selector.is_some() && attached {
        check.error("a telemetry has a selector or targets, not both");
    }
    let reason = "there are no gateways and waypoints here, and it is for nothing else";
    check.no_effect("targetRef", target_ref.is_some(), reason);
    check.no_effect("targetRefs", !target_refs.is_empty(), reason);
    if tracing.len() > 1 && tracing.iter().all(|rule| rule.matches.is_none()) {
        let text = "multiple tracing is not currently supported: later items win, field by field";
        check.within("tracing", |check| check.warn(Code::Suspicious, text));
    }
    check.each("tracing", tracing, |check, rule| spans(check, rule));
    check.each("metrics", metrics, |check, rule| numbers(check, rule));
    check.each("accessLogging", access_logging, |check, rule| {
        lines(check, rule);
    });
}

fn names(check: &mut Checker<'_>, providers: &[Located<ProviderName>]) {
    check.each("providers", providers, |check, provider| {
        if provider.name.is_empty() {
            check.error_at("name", "a provider needs a name");
        }
    });
}

fn spans(check: &mut Checker<'_>, rule: &TracingRule) {
    let TracingRule {
        matches: _,
        providers,
        random_sampling_percentage,
        disable_span_reporting: _,
        custom_tags,
        use_request_id_for_trace_sampling,
        enable_istio_tags: _,
        disable_context_propagation: _,
    } = rule;
    names(check, providers);
    if providers.len() > 1 {
        let text = "multiple providers is not currently supported: the first one is used";
        check.within("providers", |check| check.warn(Code::Suspicious, text));
    }
    let share = random_sampling_percentage.as_ref();
    check.some("randomSamplingPercentage", share, |check, share| {
        if !(0.0..=100.0).contains(&share.value) {
            check.error(format!("{} is not in range 0 to 100", share.value));
        }
    });
    let reason =
        "an x-request-id is handed on as it is; the parent's decision counts, then the share";
    let given = use_request_id_for_trace_sampling.is_some();
    check.no_effect("useRequestIdForTraceSampling", given, reason);
    check.within("customTags", |check| {
        for (name, tag) in custom_tags {
            check.within_key(name, |check| custom_tag(check, name, tag));
        }
    });
}

fn custom_tag(check: &mut Checker<'_>, name: &str, tag: &CustomTag) {
    let CustomTag {
        literal,
        environment,
        header,
        formatter,
    } = tag;
    if name.is_empty() {
        check.error("a tag needs a name");
    }
    let sources = [
        literal.is_some(),
        environment.is_some(),
        header.is_some(),
        formatter.is_some(),
    ];
    let given = sources.into_iter().filter(|given| *given).count();
    if given != 1 {
        check.error(format!(
            "a tag has exactly one of literal, environment, header and formatter, this has {given}"
        ));
    }
    check.some("literal", literal.as_ref(), |check, literal| {
        if literal.value.value.is_empty() {
            check.error_at("value", "a tag needs a value");
        }
    });
    let named = |check: &mut Checker<'_>, named: &Located<NamedTag>| {
        if named.name.is_empty() {
            check.error_at("name", "it needs a name");
        }
    };
    check.some("environment", environment.as_ref(), named);
    check.some("header", header.as_ref(), |check, header| {
        named(check, header);
        let name = header.name.to_ascii_lowercase();
        if !name.is_empty() && http::HeaderName::try_from(name).is_err() {
            let text = format!("{} is no name of a header", quoted(&header.name));
            check.error_at("name", text);
        }
    });
    check.some("formatter", formatter.as_ref(), |check, formatter| {
        let text = &formatter.value.value;
        if text.is_empty() {
            check.error_at("value", "a tag needs a value");
        }
        check.within("value", |check| operators(check, text));
    });
}

fn numbers(check: &mut Checker<'_>, rule: &MetricsRule) {
    let MetricsRule {
        providers,
        overrides,
        reporting_interval,
    } = rule;
    names(check, providers);
    let reason = "it is for the metrics of TCP connections of a proxy";
    check.no_effect("reportingInterval", reporting_interval.is_some(), reason);
    check.each("overrides", overrides, |check, change| {
        metrics_override(check, change);
    });
}

fn metrics_override(check: &mut Checker<'_>, change: &MetricsOverride) {
    let MetricsOverride {
        matches,
        disabled: _,
        tag_overrides,
    } = change;
    check.some("match", matches.as_ref(), |check, matches| {
        if matches.metric.is_some() && matches.custom_metric.is_some() {
            check.error("a match has metric or customMetric, not both");
        }
        let reason = "only Istio's standard metrics are measured";
        check.no_effect("customMetric", matches.custom_metric.is_some(), reason);
        let there = matches!(
            matches.metric,
            None | Some(
                StandardMetric::AllMetrics
                    | StandardMetric::RequestCount
                    | StandardMetric::RequestDuration
                    | StandardMetric::RequestSize
                    | StandardMetric::ResponseSize
            )
        );
        check.no_effect("metric", !there, "this metric is not measured");
    });
    check.within("tagOverrides", |check| {
        for (name, change) in tag_overrides {
            check.within_key(name, |check| tag_override(check, name, change));
        }
    });
}

fn tag_override(check: &mut Checker<'_>, name: &str, change: &TagOverride) {
    let mut characters = name.chars();
    let starts = characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    if !starts || !characters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        check.error(format!(
            "{} is no name of a label: letters, digits and underscores, no digit first",
            quoted(name)
        ));
    }
    let value = change.value.as_ref().filter(|value| !value.is_empty());
    match (change.operation, value) {
        (TagOperation::Upsert, None) => check.error("UPSERT needs a value"),
        (TagOperation::Remove, Some(_)) => check.error("REMOVE has no value"),
        (TagOperation::Remove, None) => {}
        (TagOperation::Upsert, Some(value)) => {
            if let Err(why) = label_value(value) {
                check.within("value", |check| check.error(why));
            }
        }
    }
}

/// What a label's value may be; the rest of CEL would let callers choose it.
pub(crate) fn label_value(text: &str) -> Result<LabelExpression<'_>, String> {
    let text = text.trim();
    for quote in ['\'', '"'] {
        let inner = text
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner.filter(|inner| !inner.contains([quote, '\\'])) {
            return Ok(LabelExpression::Literal(inner));
        }
    }
    if text == "request.method" {
        return Ok(LabelExpression::Method);
    }
    let known = STANDARD.iter().find(|(attribute, _)| *attribute == text);
    known
        .map(|(_, label)| LabelExpression::Label(label))
        .ok_or_else(|| {
            let names: Vec<&str> = STANDARD.iter().map(|(name, _)| *name).collect();
            format!(
                "{} is not known here: a label is a quoted text, request.method, or one of {}; \
                 anything that callers choose would make series without bound",
                quoted(text),
                names.join(", ")
            )
        })
}

/// What a label's value is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LabelExpression<'a> {
    Label(&'static str),
    Literal(&'a str),
    Method,
}

/// Attributes that are standard labels under another name.
const STANDARD: [(&str, &str); 4] = [
    ("request.protocol", "request_protocol"),
    ("response.code", "response_code"),
    ("response.flags", "response_flags"),
    ("response.grpc_status", "grpc_response_status"),
];

fn lines(check: &mut Checker<'_>, rule: &LoggingRule) {
    let LoggingRule {
        matches: _,
        providers,
        disabled: _,
        filter,
    } = rule;
    names(check, providers);
    check.some("filter", filter.as_ref(), |check, filter| {
        check.within("expression", |check| {
            if let Err(why) = Expression::parse(&filter.expression) {
                check.error(why.to_string());
            }
        });
    });
}

/// What the mesh configuration says of logs.
pub(super) fn mesh_logs(check: &mut Checker<'_>, config: &MeshConfig) {
    let json = config.access_log_encoding == AccessLogEncoding::Json;
    let format = config.access_log_format.as_ref();
    check.some("accessLogFormat", format, |check, text| {
        if json {
            let fields = serde_json::from_str::<std::collections::BTreeMap<String, String>>(text);
            match fields {
                Ok(fields) => fields.values().for_each(|text| operators(check, text)),
                Err(why) => check.error(format!("it is no JSON object of texts: {why}")),
            }
        } else {
            operators(check, text);
        }
    });
}

/// A provider that is a file.
pub(super) fn file(check: &mut Checker<'_>, file: &FileAccessLog) {
    let FileAccessLog { path, log_format } = file;
    if path.as_ref().is_none_or(|path| path.is_empty()) {
        check.error_at("path", "a file needs a path, such as /dev/stdout");
    }
    check.some("logFormat", log_format.as_ref(), |check, format| {
        if format.text.is_some() && !format.labels.is_empty() {
            check.error("a format has text or labels, not both");
        }
        check.some("text", format.text.as_ref(), |check, text| {
            operators(check, text);
        });
        check.within("labels", |check| {
            for (name, text) in &format.labels {
                check.within_key(name, |check| operators(check, text));
            }
        });
    });
}

pub(super) fn operators(check: &mut Checker<'_>, text: &str) {
    if let Err(why) = line::pieces(text) {
        check.error(why);
    }
}
