//! What is told of the requests of a workload.
//!
//! Telemetry is inherited: the root namespace says something for the mesh, a namespace for its
//! workloads, and an object with a selector for some of them. Of objects without a selector the oldest
//! of a namespace counts and the others are told of (Istio's IST0160); of those with one all that select the workload
//! count, oldest first (IST0159). Sections are merged as istiod does
//! (`pilot/pkg/model/telemetry.go`): tracing field by field; overrides of metrics one after the other; logs by
//! provider, of which those of the lowest level that names any are in force.
//!
//! A provider that the mesh configuration does not have is an error, unlike in Istio, where the section
//! is off in silence: somebody who asks for traces shall not find out in an incident that there are
//! none.

mod logs;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::telemetry::{LabelValue, Metric, Shape, Side, TagValue, Tracing};
use crate::model::{Fraction, Origin, Telemetry};
use crate::source::istio::defaults::Defaults;
use crate::source::istio::fault::{Code, Fault, Faults, Severity, quoted};
use crate::source::istio::kinds::{
    CustomTag, ExtensionProvider, Kind, MetricsOverride, ModeMatch, Object, ProviderName,
    StandardMetric, TagOperation, Telemetry as Written, TracingRule, WorkloadMode,
};
use crate::source::istio::registry::{selects, warning};
use crate::source::istio::validate::{LabelExpression, label_value};
use crate::source::istio::yaml::Located;
use crate::workload::Workload;
use logs::logs;

/// The provider of logs that every mesh has.
const ENVOY: &str = "envoy";
/// The provider of metrics that every mesh has.
const PROMETHEUS: &str = "prometheus";

/// Compiles what concerns the workload; `objects` are in the order of age.
pub(super) fn telemetry(
    objects: &[&Object],
    workload: &Workload,
    defaults: Defaults<'_>,
    faults: &mut Faults,
) -> Telemetry {
    for object in objects {
        if let Kind::Telemetry(written) = &object.kind {
            providers(object, written, defaults, faults);
        }
    }
    let levels = levels(objects, workload, defaults, faults);
    Telemetry {
        client: side(&levels, WorkloadMode::Client, defaults),
        server: side(&levels, WorkloadMode::Server, defaults),
    }
}

type Level<'a> = (&'a Object, &'a Written);

/// The objects that are for the workload, from the mesh down.
fn levels<'a>(
    objects: &[&'a Object],
    workload: &Workload,
    defaults: Defaults<'_>,
    faults: &mut Faults,
) -> Vec<Level<'a>> {
    let (mut mesh, mut namespace, mut own): (Option<Level<'a>>, Option<Level<'a>>, Vec<_>) =
        (None, None, Vec::new());
    for &object in objects {
        let Kind::Telemetry(written) = &object.kind else {
            continue;
        };
        let (place, written) = (&*object.meta.namespace, &**written);
        let here = place == workload.namespace();
        let attached = written.target_ref.is_some() || !written.target_refs.is_empty();
        let selector = written.selector.as_ref();
        let selector = selector.filter(|selector| !selector.match_labels.is_empty());
        match selector {
            _ if attached => {}
            Some(selector) if here && selects(&selector.match_labels, workload.labels()) => {
                own.push((object, written));
            }
            Some(_) => {}
            None if here => keep(&mut namespace, (object, written), faults),
            None if place == defaults.root_namespace() => {
                keep(&mut mesh, (object, written), faults);
            }
            None => {}
        }
    }
    for (other, _) in own.iter().skip(1) {
        if let Some((first, _)) = own.first() {
            faults.push(merged(other, first));
        }
    }
    mesh.into_iter().chain(namespace).chain(own).collect()
}

/// A second one that selects the same workload (Istio's IST0159).
pub(super) fn merged(other: &Object, first: &Object) -> Fault {
    let text = format!(
        "{} selects this workload too: sections are merged, and where both say something \
         the later one wins",
        first.reference()
    );
    warning(other, Code::Conflict, (0, 0), text)
}

/// Keeps the oldest of a scope.
fn keep<'a>(kept: &mut Option<Level<'a>>, other: Level<'a>, faults: &mut Faults) {
    match kept {
        None => *kept = Some(other),
        Some((first, _)) => {
            let text = format!(
                "{} is for the same workloads and is the one that counts: nothing of this one is in \
                 force; merge the two into one",
                first.reference()
            );
            faults.push(warning(other.0, Code::Conflict, (0, 0), text));
        }
    }
}

/// Whether providers exist, and are of a kind that the section can use.
fn providers(object: &Object, written: &Written, defaults: Defaults<'_>, faults: &mut Faults) {
    let mut look = |section: &str, named: &[Located<ProviderName>], fits: Fits| {
        for provider in named.iter().filter(|provider| !provider.name.is_empty()) {
            let name = provider.name.as_str();
            let found = defaults.providers().iter().find(|one| *one.name == *name);
            let text = match found {
                Some(found) if fits.provider(found) => continue,
                None if fits.is_built_in(name) => continue,
                Some(_) => format!("provider {} cannot be used for {section}", quoted(name)),
                None => format!(
                    "provider {} is not among extensionProviders of the mesh configuration: define it \
                     there, or there is no {section} by it",
                    quoted(name)
                ),
            };
            let (line, column) = (provider.name.line, provider.name.column);
            let fault = Fault::new(Severity::Error, Code::NotFound, text);
            faults.push(
                fault
                    .at(&object.file, line.max(object.line), column.max(1))
                    .object_ref(object.reference()),
            );
        }
    };
    for rule in &written.tracing {
        look("tracing", &rule.providers, Fits::Tracing);
    }
    for rule in &written.metrics {
        look("metrics", &rule.providers, Fits::Metrics);
    }
    for rule in &written.access_logging {
        look("access logs", &rule.providers, Fits::Logs);
    }
    for rule in &written.access_logging {
        if rule.providers.is_empty() && defaults.log_providers().is_empty() {
            let text = "no provider is named, and the mesh configuration has no default: this has \
                        effect only where an object above it names one";
            faults.push(warning(
                object,
                Code::NoEffect,
                (rule.line, rule.column),
                text,
            ));
        }
    }
}

/// What a provider is wanted for.
#[derive(Clone, Copy)]
enum Fits {
    Logs,
    Metrics,
    Tracing,
}

impl Fits {
    fn is_built_in(self, name: &str) -> bool {
        match self {
            Self::Logs => name == ENVOY,
            Self::Metrics => name == PROMETHEUS,
            Self::Tracing => false,
        }
    }

    fn provider(self, provider: &ExtensionProvider) -> bool {
        match self {
            Self::Logs => {
                provider.envoy_file_access_log.is_some() || provider.envoy_otel_als.is_some()
            }
            Self::Metrics => provider.prometheus.is_some(),
            Self::Tracing => provider.traces(),
        }
    }
}

fn is_for(matches: Option<&Located<ModeMatch>>, mode: WorkloadMode) -> bool {
    let wanted = matches.map(|matches| matches.mode).unwrap_or_default();
    wanted == WorkloadMode::ClientAndServer || wanted == mode
}

fn side(levels: &[Level<'_>], mode: WorkloadMode, defaults: Defaults<'_>) -> Side {
    let mut side = Side::default();
    let default = defaults.trace_provider();
    side.tracing.provider = default.map(Into::into);
    for (object, written) in levels {
        let rules = written.tracing.iter();
        for rule in rules.filter(|rule| is_for(rule.matches.as_ref(), mode)) {
            let origin = object.origin.at_line(rule.line.max(1));
            trace(&mut side.tracing, rule, origin);
        }
        let rules = written.metrics.iter();
        for change in rules.flat_map(|rule| &rule.overrides) {
            change_metrics(&mut side.metrics, change, mode);
        }
    }
    side.metrics.retain(|_, shape| *shape != Shape::default());
    side.access_logs = logs(levels, mode, defaults);
    side
}

fn trace(tracing: &mut Tracing, rule: &TracingRule, origin: Origin) {
    if let Some(provider) = rule.providers.first() {
        tracing.provider = Some(provider.name.as_str().into());
    }
    if let Some(percent) = &rule.random_sampling_percentage {
        // Reading has refused other numbers.
        tracing.sampling = Fraction::from_percent(percent.value).ok();
    }
    if let Some(off) = rule.disable_span_reporting {
        tracing.reporting = !off;
    }
    if let Some(off) = rule.disable_context_propagation {
        tracing.propagation = !off;
    }
    if let Some(on) = rule.enable_istio_tags {
        tracing.istio_tags = on;
    }
    if !rule.custom_tags.is_empty() {
        let tags = rule.custom_tags.iter();
        let tags = tags.filter_map(|(name, tag)| Some((name.as_str().into(), value(tag)?)));
        tracing.tags = tags.collect();
    }
    tracing.origin = Some(origin);
}

/// `None`: reading has refused it.
fn value(tag: &CustomTag) -> Option<TagValue> {
    let shared = |text: &Option<String>| text.as_deref().map(Arc::from);
    if let Some(literal) = &tag.literal {
        return Some(TagValue::Literal(literal.value.value.as_str().into()));
    }
    if let Some(formatter) = &tag.formatter {
        return Some(TagValue::Line(formatter.value.value.as_str().into()));
    }
    if let Some(environment) = &tag.environment {
        return Some(TagValue::Environment {
            name: environment.name.as_str().into(),
            default: shared(&environment.default_value),
        });
    }
    let header = tag.header.as_ref()?;
    Some(TagValue::Header {
        name: header.name.to_ascii_lowercase().parse().ok()?,
        default: shared(&header.default_value),
    })
}

fn change_metrics(
    shapes: &mut BTreeMap<Metric, Shape>,
    change: &MetricsOverride,
    mode: WorkloadMode,
) {
    let selector = change.matches.as_ref();
    let side = selector.map(|selector| selector.mode).unwrap_or_default();
    let custom = selector.is_some_and(|selector| selector.custom_metric.is_some());
    if custom || !(side == WorkloadMode::ClientAndServer || side == mode) {
        return;
    }
    let wanted = selector
        .and_then(|selector| selector.metric)
        .unwrap_or_default();
    let metrics: &[Metric] = match wanted {
        StandardMetric::AllMetrics => &Metric::ALL,
        StandardMetric::RequestCount => &[Metric::RequestCount],
        StandardMetric::RequestDuration => &[Metric::RequestDuration],
        StandardMetric::RequestSize => &[Metric::RequestSize],
        StandardMetric::ResponseSize => &[Metric::ResponseSize],
        StandardMetric::TcpOpenedConnections
        | StandardMetric::TcpClosedConnections
        | StandardMetric::TcpSentBytes
        | StandardMetric::TcpReceivedBytes
        | StandardMetric::GrpcRequestMessages
        | StandardMetric::GrpcResponseMessages => &[],
    };
    for metric in metrics {
        change_shape(shapes.entry(*metric).or_default(), change);
    }
}

fn change_shape(shape: &mut Shape, change: &MetricsOverride) {
    if let Some(disabled) = change.disabled {
        shape.disabled = disabled;
    }
    for (name, change) in &change.tag_overrides {
        let name: Arc<str> = name.as_str().into();
        let value = change.value.value.as_ref().map(|value| label_value(value));
        match (change.operation, value) {
            (TagOperation::Remove, _) => {
                shape.set.remove(&name);
                shape.removed.insert(name);
            }
            (TagOperation::Upsert, Some(Ok(value))) => {
                shape.removed.remove(&name);
                let value = match value {
                    LabelExpression::Label(label) => LabelValue::Label(label.into()),
                    LabelExpression::Literal(text) => LabelValue::Literal(text.into()),
                    LabelExpression::Method => LabelValue::Method,
                };
                shape.set.insert(name, value);
            }
            // Reading has refused it.
            (TagOperation::Upsert, Some(Err(_)) | None) => {}
        }
    }
}
