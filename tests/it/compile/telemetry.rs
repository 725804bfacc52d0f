//! What Telemetry makes of a workload's metrics, spans and logs.

use std::collections::{BTreeMap, BTreeSet};

use meshwork::model::telemetry::{
    LabelValue, LineFormat, Metric, Shape, Sink, TagValue, Telemetry,
};
use meshwork::model::{Fraction, Telemetry as Model};
use meshwork::source::istio::Severity;

use super::*;

const MESH: &str = "mesh:
  extensionProviders:
  - {name: zipkin, zipkin: {service: zipkin.istio-system.svc.cluster.local, port: 9411}}
  - {name: otel, opentelemetry: {service: otel.istio-system.svc.cluster.local, port: 4317}}
  - {name: file, envoyFileAccessLog: {path: /var/log/calls, logFormat: {text: '%RESPONSE_CODE%'}}}
  - {name: als, envoyOtelAls: {service: otel, port: 4317, logFormat: {labels: {code: '%RESPONSE_CODE%'}}}}
";

fn telemetry(name: &str, spec: &str) -> String {
    object("Telemetry", name, spec).replace("networking.istio.io", "telemetry.istio.io")
}

fn told(texts: &[&str]) -> Telemetry {
    let compiled = compiled(texts);
    assert!(!compiled.faults.has_errors(), "{}", compiled.faults);
    Model::clone(&compiled.resources.telemetry)
}

fn percent(share: f64) -> Option<Fraction> {
    Some(Fraction::from_percent(share).unwrap())
}

#[test]
fn nothing_is_said_without_an_object() {
    assert_eq!(told(&[MESH]), Telemetry::default());
    assert_eq!(told(&[]), Telemetry::default());
}

#[test]
fn levels_are_inherited_from_mesh_to_workload() {
    let share = |name: &str, share: u32, more: &str| {
        telemetry(
            name,
            &format!("  tracing: [{{randomSamplingPercentage: {share}}}]\n{more}"),
        )
    };
    let selector = |app: &str| format!("  selector: {{matchLabels: {{app: {app}}}}}\n");
    let mesh = share("all.istio-system", 1, "");
    let namespace = share("all.my-app", 2, "");
    let own = share("own.my-app", 3, &selector("order"));
    let sampling = |texts: &[&str]| told(texts).client.tracing.sampling;
    assert_eq!(sampling(&[&mesh]), percent(1.0));
    assert_eq!(sampling(&[&mesh, &namespace]), percent(2.0));
    assert_eq!(sampling(&[&own, &mesh, &namespace]), percent(3.0));
    for other in [
        share("other.my-app", 4, &selector("catalog")),
        // With a selector it is for workloads of its own namespace only.
        share("other.istio-system", 4, &selector("order")),
        share("all.elsewhere", 4, ""),
    ] {
        assert_eq!(sampling(&[&mesh, &other]), percent(1.0), "{other}");
    }
    let attached = share(
        "gateway.my-app",
        5,
        "  targetRefs: [{kind: Gateway, name: a}]\n",
    );
    assert_eq!(sampling(&[&mesh, &attached]), percent(1.0));
}

#[test]
fn the_second_of_a_scope_counts_nowhere_and_is_told() {
    let logs = telemetry(
        "b-logs.istio-system",
        "  accessLogging: [{providers: [{name: envoy}]}]\n",
    );
    let spans = telemetry(
        "a-spans.istio-system",
        "  tracing: [{randomSamplingPercentage: 10}]\n",
    );
    let compiled = compiled(&[&logs, &spans]);
    let all = warnings(&compiled);
    assert!(
        all.iter().any(|text| text
            .contains("telemetry istio-system/b-logs is for the same workloads")
            && text.contains("merge the two into one")),
        "{all:#?}"
    );
    let told = &compiled.resources.telemetry;
    assert!(told.client.access_logs.is_some() && told.client.tracing.sampling.is_none());
    let selector = "  selector: {matchLabels: {app: order}}\n";
    let one = telemetry(
        "one.my-app",
        &format!("  tracing: [{{disableSpanReporting: true}}]\n{selector}"),
    );
    let other = telemetry(
        "two.my-app",
        &format!("  tracing: [{{randomSamplingPercentage: 7}}]\n{selector}"),
    );
    let compiled = super::compiled(&[&one, &other]);
    assert_warns(
        &compiled,
        "M045",
        "telemetry my-app/one selects this workload too",
    );
    let tracing = &compiled.resources.telemetry.client.tracing;
    assert_eq!((tracing.reporting, tracing.sampling), (false, percent(7.0)));
}

#[test]
fn tracing_is_merged_field_by_field() {
    let mesh = telemetry(
        "all.istio-system",
        "  tracing:
  - providers: [{name: zipkin}]
    randomSamplingPercentage: 10
    customTags: {zone: {literal: {value: a}}, gone: {literal: {value: b}}}
    enableIstioTags: false
",
    );
    let namespace = telemetry(
        "all.my-app",
        "  tracing:
  - match: {mode: CLIENT}
    disableContextPropagation: true
    customTags: {zone: {header: {name: X-Zone, defaultValue: none}}}
  - match: {mode: SERVER}
    disableSpanReporting: true
",
    );
    let told = told(&[MESH, &mesh, &namespace]);
    let (client, server) = (&told.client.tracing, &told.server.tracing);
    for side in [client, server] {
        assert_eq!(side.provider.as_deref(), Some("zipkin"));
        assert_eq!(side.sampling, percent(10.0));
        assert!(!side.istio_tags);
    }
    assert!(client.reporting && !client.propagation);
    assert!(!server.reporting && server.propagation);
    let header = TagValue::Header {
        name: http::HeaderName::from_static("x-zone"),
        default: Some("none".into()),
    };
    assert_eq!(client.tags, BTreeMap::from([("zone".into(), header)]));
    assert_eq!(server.tags.len(), 2);
    let origin = client.origin.as_ref().unwrap().to_string();
    assert!(origin.contains("2.yaml:"), "{origin}");
}

#[test]
fn overrides_of_metrics_follow_each_other() {
    let mesh = telemetry(
        "all.istio-system",
        "  metrics:
  - overrides:
    - disabled: true
      tagOverrides: {request_protocol: {operation: REMOVE}}
    - match: {metric: REQUEST_COUNT}
      disabled: false
      tagOverrides: {method: {value: request.method}, team: {value: \"'shop'\"}}
",
    );
    let own = telemetry(
        "own.my-app",
        "  metrics:
  - overrides:
    - match: {metric: REQUEST_COUNT, mode: SERVER}
      tagOverrides:
        team: {operation: REMOVE}
        request_protocol: {operation: UPSERT, value: response.code}
",
    );
    let told = told(&[&mesh, &own]);
    assert!(told.asks_for_methods());
    let client = &told.client.metrics[&Metric::RequestCount];
    let set = [
        ("method".into(), LabelValue::Method),
        ("team".into(), LabelValue::Literal("shop".into())),
    ];
    let shape = Shape {
        disabled: false,
        removed: BTreeSet::from(["request_protocol".into()]),
        set: BTreeMap::from(set),
    };
    assert_eq!(*client, shape);
    let server = &told.server.metrics[&Metric::RequestCount];
    assert_eq!(server.removed, BTreeSet::from(["team".into()]));
    let label = LabelValue::Label("response_code".into());
    assert_eq!(server.set.get("request_protocol"), Some(&label));
    for metric in [
        Metric::RequestDuration,
        Metric::RequestSize,
        Metric::ResponseSize,
    ] {
        assert!(told.client.metrics[&metric].disabled && told.server.metrics[&metric].disabled);
    }
}

fn sinks(texts: &[&str]) -> Option<Vec<(String, Sink)>> {
    let logs = told(texts).client.access_logs?;
    let pair = |log: &meshwork::model::telemetry::AccessLogging| {
        (log.provider.to_string(), log.sink.clone())
    };
    Some(logs.iter().map(pair).collect())
}

fn names(texts: &[&str]) -> Vec<String> {
    let all = sinks(texts).expect("something is said");
    all.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn logs_are_those_of_the_lowest_level_that_names_providers() {
    let logs = |name: &str, items: &str| telemetry(name, &format!("  accessLogging: [{items}]\n"));
    let envoy = logs("all.istio-system", "{providers: [{name: envoy}]}");
    let file = logs("all.my-app", "{providers: [{name: file}, {name: als}]}");
    assert_eq!(names(&[MESH, &envoy]), ["envoy"]);
    assert_eq!(names(&[MESH, &envoy, &file]), ["als", "file"]);
    let off = logs("all.my-app", "{disabled: true}");
    assert_eq!(names(&[MESH, &envoy, &off]), [""; 0]);
    let server = logs("all.my-app", "{match: {mode: SERVER}, disabled: true}");
    assert_eq!(names(&[MESH, &envoy, &server]), ["envoy"]);
    assert_eq!(
        told(&[MESH, &envoy, &server]).server.access_logs,
        Some(Vec::new())
    );
    let filter = logs(
        "all.my-app",
        "{filter: {expression: 'response.code >= 500'}}",
    );
    let told = told(&[MESH, &envoy, &filter]);
    let log = &told.client.access_logs.as_ref().unwrap()[0];
    assert_eq!(
        log.filter.as_ref().unwrap().as_str(),
        "response.code >= 500"
    );
    let als = sinks(&[MESH, &envoy, &file]).unwrap().remove(0).1;
    let labels = BTreeMap::from([("code".into(), "%RESPONSE_CODE%".into())]);
    assert_eq!(als, Sink::OpenTelemetry { body: None, labels });
}

#[test]
fn the_mesh_configuration_has_defaults() {
    let mesh = "mesh: {accessLogFile: /var/log/mesh, accessLogEncoding: JSON, \
                accessLogFormat: '{\"code\": \"%RESPONSE_CODE%\"}', \
                defaultProviders: {tracing: [z]}, extensionProviders: [{name: z, zipkin: {}}]}\n";
    let labels = BTreeMap::from([("code".into(), "%RESPONSE_CODE%".into())]);
    let file = Sink::File {
        path: "/var/log/mesh".into(),
        format: LineFormat::Labels(labels),
    };
    let envoy = ("envoy".to_owned(), Sink::Program(Box::new(file)));
    assert_eq!(sinks(&[mesh]), Some(vec![envoy]));
    assert_eq!(told(&[mesh]).client.tracing.provider.as_deref(), Some("z"));
    let mesh = mesh
        .replace(
            "defaultProviders: {",
            "defaultProviders: {accessLogging: [f], ",
        )
        .replace(
            "extensionProviders: [",
            "extensionProviders: [{name: f, envoyFileAccessLog: {path: /f}}, ",
        );
    assert_eq!(names(&[&mesh]), ["f"]);
    let text = "mesh: {accessLogFormat: '%PROTOCOL%'}\n";
    let envoy = telemetry(
        "a.istio-system",
        "  accessLogging: [{providers: [{name: envoy}]}]\n",
    );
    let file = Sink::File {
        path: "/dev/stdout".into(),
        format: LineFormat::Words("%PROTOCOL%".into()),
    };
    let envoy_log = ("envoy".to_owned(), Sink::Program(Box::new(file)));
    assert_eq!(sinks(&[text, &envoy]), Some(vec![envoy_log]));
}

#[test]
fn a_provider_that_is_not_there_is_an_error_at_its_line() {
    for (section, why) in [
        (
            "tracing: [{providers: [{name: jaeger}]}]",
            "provider \"jaeger\" is not among extensionProviders",
        ),
        (
            "tracing: [{providers: [{name: file}]}]",
            "provider \"file\" cannot be used for tracing",
        ),
        (
            "metrics: [{providers: [{name: zipkin}]}]",
            "cannot be used for metrics",
        ),
        (
            "metrics: [{providers: [{name: none}]}]",
            "provider \"none\" is not among",
        ),
        (
            "accessLogging: [{providers: [{name: zipkin}]}]",
            "cannot be used for access logs",
        ),
    ] {
        // Also where it is not for this workload: it is broken for whoever it is for.
        let text = telemetry("a.elsewhere", &format!("  {section}\n"));
        let compiled = compiled(&[MESH, &text]);
        let errors = compiled
            .faults
            .iter()
            .filter(|fault| fault.severity() == Severity::Error);
        let errors: Vec<_> = errors.collect();
        let [fault] = errors[..] else {
            panic!("{section}: {}", compiled.faults);
        };
        assert_eq!(
            (fault.code().as_str(), fault.line()),
            ("M040", 5),
            "{fault}"
        );
        assert!(fault.message().to_string().contains(why), "{fault}");
    }
    for good in [
        "tracing: [{providers: [{name: otel}]}]",
        "metrics: [{providers: [{name: prometheus}]}]",
        "accessLogging: [{providers: [{name: envoy}, {name: file}, {name: als}]}]",
    ] {
        let text = telemetry("a.my-app", &format!("  {good}\n"));
        let compiled = compiled(&[MESH, &text]);
        assert!(compiled.faults.is_empty(), "{good}: {}", compiled.faults);
    }
    let nobody = telemetry(
        "a.my-app",
        "  accessLogging: [{filter: {expression: 'true'}}]\n",
    );
    assert_warns(&compiled(&[&nobody]), "M023", "no provider is named");
}
