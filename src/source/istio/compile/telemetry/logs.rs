//! Which logs get lines, and of what.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ENVOY, Level, is_for};
use crate::model::Origin;
use crate::model::expression::Expression;
use crate::model::telemetry::{AccessLogging, LineFormat, Sink};
use crate::source::istio::defaults::Defaults;
use crate::source::istio::kinds::{FileAccessLog, LoggingRule, WorkloadMode};

/// What one provider of logs was told last.
struct Told {
    disabled: bool,
    filter: Option<Expression>,
    origin: Origin,
}

pub(super) fn logs(
    levels: &[Level<'_>],
    mode: WorkloadMode,
    defaults: Defaults<'_>,
) -> Option<Vec<AccessLogging>> {
    let standard: Vec<Arc<str>> = defaults.log_providers();
    let says = |(_, written): &Level<'_>| !written.access_logging.is_empty();
    if standard.is_empty() && !levels.iter().any(says) {
        return None;
    }
    let (mut in_force, mut told) = said(levels, mode, standard);
    in_force.sort_unstable();
    in_force.dedup();
    let logs = in_force.into_iter().filter_map(|provider| {
        let told = told.remove(&provider).filter(|told| !told.disabled)?;
        Some(AccessLogging {
            sink: sink(&provider, defaults)?,
            provider,
            filter: told.filter,
            origin: told.origin,
        })
    });
    Some(logs.collect())
}

/// The providers of the lowest level that names any, and what each provider was told last.
fn said(
    levels: &[Level<'_>],
    mode: WorkloadMode,
    standard: Vec<Arc<str>>,
) -> (Vec<Arc<str>>, BTreeMap<Arc<str>, Told>) {
    let nothing = |name: &Arc<str>| {
        let told = Told {
            disabled: false,
            filter: None,
            origin: Origin::built_in(),
        };
        (name.clone(), told)
    };
    let mut told: BTreeMap<Arc<str>, Told> = standard.iter().map(nothing).collect();
    let (mut in_force, mut inherited) = (standard.clone(), standard);
    for (object, written) in levels {
        let rules = written.access_logging.iter();
        let rules: Vec<_> = rules
            .filter(|rule| is_for(rule.matches.as_ref(), mode))
            .collect();
        let of_level: Vec<Arc<str>> = rules.iter().flat_map(|rule| named(rule)).collect();
        if !of_level.is_empty() {
            in_force = of_level;
        }
        for rule in rules {
            let names = named(rule);
            if !names.is_empty() {
                inherited = names;
            }
            for name in &inherited {
                let filter = rule.filter.as_ref();
                let last = Told {
                    disabled: rule.disabled.unwrap_or(false),
                    // Reading has refused those that are none.
                    filter: filter.and_then(|filter| Expression::parse(&filter.expression).ok()),
                    origin: object.origin.at_line(rule.line.max(1)),
                };
                told.insert(name.clone(), last);
            }
        }
    }
    (in_force, told)
}

fn named(rule: &LoggingRule) -> Vec<Arc<str>> {
    let names = rule.providers.iter();
    names
        .map(|provider| provider.name.as_str().into())
        .collect()
}

/// `None`: there is no such provider, which was told.
fn sink(provider: &str, defaults: Defaults<'_>) -> Option<Sink> {
    let known = defaults
        .providers()
        .iter()
        .find(|one| *one.name == *provider);
    match known {
        Some(one) => match (&one.envoy_file_access_log, &one.envoy_otel_als) {
            (Some(file), _) => Some(of_file(file)),
            (None, Some(als)) => {
                let format = als.log_format.as_ref();
                let text = format.and_then(|format| format.text.as_ref());
                let labels = format.map(|format| shared(&format.labels));
                Some(Sink::OpenTelemetry {
                    body: text.map(|text| text.as_str().into()),
                    labels: labels.unwrap_or_default(),
                })
            }
            (None, None) => None,
        },
        None if provider == ENVOY => Some(Sink::Program(Box::new(Sink::File {
            path: defaults.log_file().unwrap_or("/dev/stdout").into(),
            format: defaults.log_format(),
        }))),
        None => None,
    }
}

fn of_file(file: &FileAccessLog) -> Sink {
    let format = file.log_format.as_ref();
    let format = match format.map(|format| (&format.text, &format.labels)) {
        Some((Some(text), _)) => LineFormat::Words(text.as_str().into()),
        Some((None, labels)) if !labels.is_empty() => LineFormat::Labels(shared(labels)),
        Some((None, _)) | None => LineFormat::Text,
    };
    let path = file.path.as_ref().map(|path| path.as_str());
    Sink::File {
        path: path.unwrap_or("/dev/stdout").into(),
        format,
    }
}

fn shared(labels: &BTreeMap<String, String>) -> BTreeMap<Arc<str>, Arc<str>> {
    let pairs = labels.iter();
    pairs
        .map(|(name, text)| (name.as_str().into(), text.as_str().into()))
        .collect()
}
