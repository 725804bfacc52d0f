//! AuthorizationPolicy.

use super::{Severity, accepts, messages, refuses, rule_tests, warns};
use crate::source::istio::{Options, read};

type Shape = (&'static str, String);

fn policy(text: &str) -> Shape {
    ("AuthorizationPolicy", format!("{{{text}}}"))
}

fn rule(text: &str) -> Shape {
    policy(&format!("rules: [{{{text}}}]"))
}

fn source(text: &str) -> Shape {
    rule(&format!("from: [{{source: {{{text}}}}}]"))
}

fn operation(text: &str) -> Shape {
    rule(&format!("to: [{{operation: {{{text}}}}}]"))
}

fn when(text: &str) -> Shape {
    rule(&format!("when: [{{{text}}}]"))
}

fn custom(text: &str) -> Shape {
    policy(&format!(
        "action: CUSTOM, provider: {{name: p}}, rules: [{{{text}}}]"
    ))
}

rule_tests! {
    selector_or_target: refuses(policy, "selector: {matchLabels: {a: b}}, targetRef: {kind: Service, name: a}")
        => "selector: only one of selector and targetRefs can be set";
    target_or_targets: refuses(policy, "targetRef: {kind: Service, name: a}, targetRefs: [{kind: Service, name: b}]")
        => "targetRef: only one of targetRef and targetRefs can be set";
    a_target: warns(policy, "targetRef: {kind: Service, name: a}, rules: [{}]")
        => "targetRef: targetRef has no effect in this client: it attaches the policy to a gateway \
            or waypoint, and there is none in this process";
    targets: warns(policy, "targetRefs: [{group: '', kind: Service, name: a, namespace: b}], rules: [{}]")
        => "targetRefs: targetRefs has no effect in this client: it attaches the policy to a \
            gateway or waypoint, and there is none in this process";
    a_selector_has_labels: refuses(policy, "selector: {matchLabels: {'*': b}}")
        => "selector.matchLabels[\"*\"]: \"*\" is no label key";
    custom_has_rules: refuses(policy, "action: CUSTOM, provider: {name: p}")
        => "CUSTOM action without rules is meaningless: it asks about no request";
    custom_has_a_provider: refuses(policy, "action: CUSTOM, rules: [{}]")
        => "provider: CUSTOM action needs provider.name";
    others_have_none: refuses(policy, "action: DENY, provider: {name: p}, rules: [{}]")
        => "provider: provider is for CUSTOM action only";
    deny_has_rules: refuses(policy, "action: DENY")
        => "DENY action without rules is meaningless: it will never be triggered";
    a_rule_is_not_null: refuses(policy, "rules: [null]")
        => "rules[0]: a rule must not be null; {} matches every request";
    from_is_not_empty: refuses(rule, "from: []")
        => "rules[0].from: must have at least one entry where it is written; leave it out otherwise";
    to_is_not_empty: refuses(rule, "to: []")
        => "rules[0].to: must have at least one entry where it is written; leave it out otherwise";
    from_has_a_source: refuses(rule, "from: [{}]")
        => "rules[0].from[0].source: source must be given";
    to_has_an_operation: refuses(rule, "to: [{}]")
        => "rules[0].to[0].operation: operation must be given";
    a_source_has_a_field: refuses(source, "")
        => "rules[0].from[0].source: a source must have at least one field";
    an_operation_has_a_field: refuses(operation, "")
        => "rules[0].to[0].operation: an operation must have at least one field";
    a_principal_is_not_empty: refuses(source, "principals: ['']")
        => "rules[0].from[0].source.principals[0]: must not be empty";
    a_method_is_not_empty: refuses(operation, "notMethods: ['']")
        => "rules[0].to[0].operation.notMethods[0]: must not be empty";
    an_address_is_one: refuses(source, "ipBlocks: [10.0.0.0/33]")
        => "rules[0].from[0].source.ipBlocks[0]: \"10.0.0.0/33\" is neither an IP address nor a \
            network such as 10.0.0.0/8";
    a_remote_address_is_one: refuses(source, "notRemoteIpBlocks: [a]")
        => "rules[0].from[0].source.notRemoteIpBlocks[0]: \"a\" is neither an IP address nor a \
            network such as 10.0.0.0/8";
    accounts_have_no_wildcards: refuses(source, "serviceAccounts: ['a*']")
        => "rules[0].from[0].source.serviceAccounts[0]: \"a*\": wildcards are not supported in \
            serviceAccounts";
    accounts_have_two_parts: refuses(source, "notServiceAccounts: [a/b/c]")
        => "rules[0].from[0].source.notServiceAccounts[0]: \"a/b/c\" is neither account nor \
            namespace/account";
    accounts_stand_alone: refuses(source, "serviceAccounts: [a], namespaces: [b]")
        => "rules[0].from[0].source: serviceAccounts cannot be used with principals or namespaces";
    a_port_is_a_number: refuses(operation, "ports: ['http']")
        => "rules[0].to[0].operation.ports[0]: \"http\" is no port: expected 1 to 65535";
    a_port_is_not_zero: refuses(operation, "notPorts: ['0']")
        => "rules[0].to[0].operation.notPorts[0]: \"0\" is no port: expected 1 to 65535";
    hosts_are_no_templates: refuses(operation, "hosts: ['{*}.b']")
        => "rules[0].to[0].operation.hosts[0]: \"{*}.b\": templates are for paths only";
    a_template_has_whole_segments: refuses(operation, "paths: ['/{*}/b{*}']")
        => "rules[0].to[0].operation.paths[0]: \"/{*}/b{*}\": segment \"b{*}\" is neither plain \
            text nor {*} nor {**}";
    braces_are_templates: refuses(operation, "notPaths: ['/{id}']")
        => "rules[0].to[0].operation.notPaths[0]: \"/{id}\": segment \"{id}\" is neither plain \
            text nor {*} nor {**}";
    a_condition_has_values: refuses(when, "key: source.ip")
        => "rules[0].when[0]: a condition needs values or notValues";
    a_key_is_known: refuses(when, "key: source.ips, values: [a]")
        => "rules[0].when[0].key: unknown attribute \"source.ips\"";
    a_key_is_of_today: refuses(when, "key: 'destination.labels[a]', values: [a]")
        => "rules[0].when[0].key: \"destination.labels[a]\" is obsolete";
    a_key_is_not_of_envoy: refuses(when, "key: 'experimental.envoy.filters.a[b]', values: [a]")
        => "rules[0].when[0].key: \"experimental.envoy.filters.a[b]\" is known, not yet supported";
    a_header_has_a_name: refuses(when, "key: 'request.headers[]', values: [a]")
        => "rules[0].when[0].key: \"request.headers[]\" names nothing: expected [name] behind it";
    a_value_fits_its_key: refuses(when, "key: destination.port, values: [a]")
        => "rules[0].when[0].values[0]: \"a\" is no port: expected 1 to 65535";
    an_address_fits_its_key: refuses(when, "key: remote.ip, notValues: [a]")
        => "rules[0].when[0].notValues[0]: \"a\" is neither an IP address nor a network such as \
            10.0.0.0/8";
    a_namespace_is_one: refuses(when, "key: source.namespace, values: [A]")
        => "rules[0].when[0].values[0]: \"A\" is no namespace (DNS-1123 label)";
    custom_knows_nobody: refuses(custom, "from: [{source: {requestPrincipals: [a]}}]")
        => "rules[0].from[0].source.requestPrincipals: requestPrincipals is not known yet when \
            CUSTOM action decides";
    custom_knows_no_claims: refuses(custom, "when: [{key: 'request.auth.claims[a]', values: [a]}]")
        => "rules[0].when[0].key: \"request.auth.claims[a]\" is not known yet when CUSTOM action \
            decides";
}

#[test]
fn lists_are_bounded() {
    let many = |count: usize, one: &str| vec![one; count].join(", ");
    let accounts = source(&format!("serviceAccounts: [{}]", many(17, "a")));
    let text = "rules[0].from[0].source.serviceAccounts: 17 accounts; at most 16 are allowed";
    refuses(accounts.0, &accounts.1, text);
    let long = source(&format!("serviceAccounts: [{}]", "a".repeat(321)));
    let text = "rules[0].from[0].source.serviceAccounts[0]: 321 bytes; at most 320 are allowed";
    refuses(long.0, &long.1, text);
    let targets = policy(&format!(
        "targetRefs: [{}]",
        many(17, "{kind: Service, name: a}")
    ));
    let text = "targetRefs: 17 targets; at most 16 are allowed";
    refuses(targets.0, &targets.1, text);
}

#[test]
fn what_istio_accepts_of_a_policy_is_accepted() {
    for text in [
        "",
        "action: AUDIT",
        "rules: [{}]",
        "selector: {}, rules: [{from: [{source: {principals: ['*'], notIpBlocks: [10.0.0.1, 'fd00::/8']}}]}]",
        "action: 1, rules: [{to: [{operation: {paths: ['/a/{*}/b/{**}', '/x*', '*/y', '*'], ports: ['80']}}]}]",
        "rules: [{when: [{key: 'request.auth.claims[a][b]', values: [c], notValues: ['d*']}]}]",
        "rules: [{from: [{source: {serviceAccounts: [a, b/c], trustDomains: ['td*']}}]}]",
        "action: CUSTOM, provider: {name: p}, rules: [{to: [{operation: {hosts: [a, 'a:*']}}]}]",
    ] {
        let (kind, spec) = policy(text);
        accepts(kind, &spec);
    }
}

#[test]
fn a_dry_run_is_a_boolean_and_of_a_policy_that_decides() {
    let said = |value: &str, action: &str| {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata:\n  name: a\n  annotations:\n    istio.io/dry-run: \"{value}\"\n\
             spec: {{action: {action}, rules: [{{}}]}}\n"
        );
        messages(
            &read([("a.yaml", text)], &Options::default()).faults,
            Severity::Error,
        )
    };
    assert!(said("true", "ALLOW").is_empty() && said("false", "DENY").is_empty());
    let at = "metadata.annotations[\"istio.io/dry-run\"]: istio.io/dry-run";
    assert_eq!(
        said("yes", "DENY"),
        [format!("{at} is \"yes\": expected true or false")]
    );
    assert_eq!(
        said("true", "AUDIT"),
        [format!("{at} is for ALLOW and DENY only")]
    );
}
