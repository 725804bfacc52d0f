//! The rules of Telemetry.

use super::{accepts, faults, refuses, rule_tests, warns};

type Shape = (&'static str, String);

fn telemetry(text: &str) -> Shape {
    ("Telemetry", format!("{{{text}}}"))
}

fn spans(text: &str) -> Shape {
    telemetry(&format!("tracing: [{{{text}}}]"))
}

fn tag(text: &str) -> Shape {
    spans(&format!("customTags: {{zone: {{{text}}}}}"))
}

fn change(text: &str) -> Shape {
    telemetry(&format!("metrics: [{{overrides: [{{{text}}}]}}]"))
}

fn label(text: &str) -> Shape {
    change(&format!("tagOverrides: {{a: {{{text}}}}}"))
}

fn lines(text: &str) -> Shape {
    telemetry(&format!("accessLogging: [{{{text}}}]"))
}

rule_tests! {
    selector_or_targets: refuses(telemetry,
        "selector: {matchLabels: {'a b': c}}")
        => "selector.matchLabels[\"a b\"]: \"a b\" is no label key";
    targets_have_no_effect: warns(telemetry, "targetRefs: [{kind: Gateway, name: a}]")
        => "targetRefs: targetRefs has no effect in this client: there are no gateways and \
            waypoints here, and it is for nothing else";
    a_provider_has_a_name: refuses(lines, "providers: [{}]")
        => "accessLogging[0].providers[0].name: a provider needs a name";
    one_provider_of_spans: warns(spans, "providers: [{name: a}, {name: b}]")
        => "tracing[0].providers: multiple providers is not currently supported: the first one is \
            used";
    one_tracing: warns(telemetry, "tracing: [{disableSpanReporting: true}, {}]")
        => "tracing: multiple tracing is not currently supported: later items win, field by field";
    a_share_is_one: refuses(spans, "randomSamplingPercentage: 101")
        => "tracing[0].randomSamplingPercentage: 101 is not in range 0 to 100";
    request_ids_do_not_sample: warns(spans, "useRequestIdForTraceSampling: false")
        => "tracing[0].useRequestIdForTraceSampling: useRequestIdForTraceSampling has no effect in \
            this client: an x-request-id is handed on as it is; the parent's decision counts, then \
            the share";
    a_tag_has_a_source: refuses(tag, "")
        => "tracing[0].customTags.zone: a tag has exactly one of literal, environment, header and \
            formatter, this has 0";
    a_tag_has_one_source: refuses(tag, "literal: {value: a}, header: {name: a}")
        => "tracing[0].customTags.zone: a tag has exactly one of literal, environment, header and \
            formatter, this has 2";
    a_tag_has_a_value: refuses(tag, "literal: {}")
        => "tracing[0].customTags.zone.literal.value: a tag needs a value";
    a_header_has_a_name: refuses(tag, "header: {name: 'a b'}")
        => "tracing[0].customTags.zone.header.name: \"a b\" is no name of a header";
    a_variable_has_a_name: refuses(tag, "environment: {defaultValue: a}")
        => "tracing[0].customTags.zone.environment.name: it needs a name";
    a_formatter_has_a_value: refuses(tag, "formatter: {value: ''}")
        => "tracing[0].customTags.zone.formatter.value: a tag needs a value";
    a_formatter_is_of_operators: refuses(tag, "formatter: {value: '%REQ(a)% %PROTOCOL'}")
        => "tracing[0].customTags.zone.formatter.value: the operator %PROTOCOL is not closed; %% is a \
            percent sign";
    an_interval_is_for_proxies: warns(telemetry, "metrics: [{reportingInterval: 5s}]")
        => "metrics[0].reportingInterval: reportingInterval has no effect in this client: it is for \
            the metrics of TCP connections of a proxy";
    metrics_that_are_not_measured: warns(change, "match: {metric: TCP_SENT_BYTES}, disabled: true")
        => "metrics[0].overrides[0].match.metric: metric has no effect in this client: this metric \
            is not measured";
    custom_metrics: warns(change, "match: {customMetric: a}, disabled: true")
        => "metrics[0].overrides[0].match.customMetric: customMetric has no effect in this client: \
            only Istio's standard metrics are measured";
    metric_or_custom: refuses(change, "match: {metric: ALL_METRICS, customMetric: a}")
        => "metrics[0].overrides[0].match: a match has metric or customMetric, not both";
    upsert_has_a_value: refuses(label, "operation: UPSERT")
        => "metrics[0].overrides[0].tagOverrides.a: UPSERT needs a value";
    remove_has_none: refuses(label, "operation: REMOVE, value: \"'a'\"")
        => "metrics[0].overrides[0].tagOverrides.a: REMOVE has no value";
    labels_are_bounded: refuses(label, "value: request.host")
        => "metrics[0].overrides[0].tagOverrides.a.value: \"request.host\" is not known here: a \
            label is a quoted text, request.method, or one of request.protocol, response.code, \
            response.flags, response.grpc_status; anything that callers choose would make series \
            without bound";
    labels_have_names: refuses(change, "tagOverrides: {a-b: {operation: REMOVE}}")
        => "metrics[0].overrides[0].tagOverrides.a-b: \"a-b\" is no name of a label: letters, \
            digits and underscores, no digit first";
    a_filter_is_a_condition: refuses(lines, "filter: {expression: response.code}")
        => "accessLogging[0].filter.expression: a condition is true or false, this is a number (at \
            character 1)";
}

#[test]
fn what_istio_shows_is_accepted() {
    for text in [
        "accessLogging: [{providers: [{name: envoy}]}]",
        "accessLogging: [{filter: {expression: 'response.code >= 400'}, match: {mode: SERVER}}]",
        "accessLogging: [{disabled: true}]",
        "tracing: [{providers: [{name: jaeger}], randomSamplingPercentage: 10.0}]",
        "tracing: [{customTags: {a: {literal: {value: b}}, c: {header: {name: X-D}}}}]",
        "metrics: [{providers: [{name: prometheus}], overrides: [{match: {metric: REQUEST_COUNT, \
         mode: CLIENT}, tagOverrides: {request_method: {value: request.method}, \
         response_flags: {operation: REMOVE}}}]}]",
        "metrics: [{overrides: [{disabled: true}]}]",
        "selector: {matchLabels: {app: a}}, tracing: [{match: {mode: CLIENT}}, {match: {mode: SERVER}}]",
    ] {
        let (kind, spec) = telemetry(text);
        accepts(kind, &spec);
    }
    assert!(faults("Telemetry", "{metrics: [{overide: []}]}").has_errors());
}

fn mesh(text: &str) -> Vec<String> {
    let text = format!("mesh: {{{text}}}\n");
    let read = crate::source::istio::read([("mesh.yaml", text)], &Default::default());
    read.faults
        .iter()
        .map(|fault| fault.message().to_string())
        .collect()
}

#[test]
fn what_the_mesh_says_of_logs_is_checked() {
    for (text, why) in [
        ("accessLogFile: log", "\"log\" is no absolute path"),
        ("accessLogFormat: '%NOPE%'", "unknown operator %NOPE%"),
        (
            "accessLogEncoding: JSON, accessLogFormat: 'a'",
            "it is no JSON object of texts",
        ),
        (
            "accessLogEncoding: JSON, accessLogFormat: '{\"a\": \"%NOPE%\"}'",
            "unknown operator",
        ),
        (
            "defaultProviders: {tracing: [zipkin]}",
            "\"zipkin\" is not among extensionProviders",
        ),
        (
            "extensionProviders: [{name: a, envoyFileAccessLog: {}}]",
            "a file needs a path",
        ),
        (
            "extensionProviders: [{name: a, envoyFileAccessLog: {path: /a, logFormat: {text: b, labels: {c: d}}}}]",
            "text or labels, not both",
        ),
        (
            "extensionProviders: [{name: a, envoyOtelAls: {logFormat: {labels: {c: '%D'}}}}]",
            "is not closed",
        ),
    ] {
        let faults = mesh(text);
        assert!(
            faults.iter().any(|fault| fault.contains(why)),
            "{text}: {faults:?}"
        );
    }
    let good = "accessLogFile: /dev/stdout, accessLogEncoding: JSON, defaultProviders: \
                {accessLogging: [envoy], metrics: [prometheus], tracing: [z]}, \
                extensionProviders: [{name: z, zipkin: {service: a, port: 9411}}]";
    assert_eq!(mesh(good), [""; 0]);
}
