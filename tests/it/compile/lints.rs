//! What is legal and probably not meant: one test with and one without each warning.

use meshwork::source::istio::{Code, Ejection, Severity};

use super::*;

fn rules(http: &str) -> Compiled {
    let rule = "  host: catalog\n  subsets: [{name: v1, labels: {version: v1}}]";
    let spec = format!("  hosts: [catalog]\n  http:\n{http}");
    compiled(&[
        &catalog(),
        &destination_rule("catalog.my-app", rule),
        &virtual_service("catalog.my-app", &spec),
    ])
}

fn to(destination: &str) -> Compiled {
    rules(&format!("  - route: [{{destination: {destination}}}]"))
}

#[test]
fn unknown_destination_host_is_ist0101_with_a_suggestion() {
    let compiled = to("{host: catalgo}");
    assert_warns(
        &compiled,
        "IST0101 2.yaml:7",
        "route[0].destination.host: no service has",
    );
    let fault = compiled.faults.iter().next().unwrap();
    assert_eq!(fault.severity(), Severity::Warning);
    assert_eq!(fault.hint(), Some(&*format!("did you mean {CATALOG}?")));
    assert_silent(&to("{host: catalog}"), "IST0101");
}

#[test]
fn unknown_subset_is_ist0101_with_the_share_that_it_costs() {
    let compiled = to("{host: catalog, subset: v3}");
    assert_warns(
        &compiled,
        "IST0101",
        "no subset \"v3\": catalog.my-app.svc.cluster.local has v1",
    );
    let split = rules(
        "  - route: [{destination: {host: catalog, subset: v1}, weight: 3}, \
         {destination: {host: catalog, subset: v9}, weight: 1}]",
    );
    assert_warns(
        &split,
        "IST0101",
        "25 % of these requests are answered with 503",
    );
    assert_silent(&to("{host: catalog, subset: v1}"), "IST0101");
    let none = compiled_without_rule();
    assert_warns(&none, "IST0101", "no DestinationRule defines subsets");
}

fn compiled_without_rule() -> Compiled {
    let spec = "  hosts: [catalog]\n  http:\n  \
                - route: [{destination: {host: catalog, subset: v1}}]";
    compiled(&[&catalog(), &virtual_service("catalog.my-app", spec)])
}

#[test]
fn unknown_destination_still_names_its_cluster() {
    let compiled = to("{host: catalog, subset: v3}");
    let routes = routes(&compiled.resources, &format!("outbound|80||{CATALOG}"));
    let missing = format!("outbound|80|v3|{CATALOG}");
    assert_eq!(destinations(&routes[0]), [(&*missing, 1)]);
    assert!(!compiled.resources.clusters.contains_key(&*missing));
}

#[test]
fn unknown_port_is_ist0101() {
    let compiled = to("{host: catalog, port: {number: 8080}}");
    assert_warns(&compiled, "IST0101", "has no port 8080, only 80");
    assert_silent(&to("{host: catalog, port: {number: 80}}"), "IST0101");
}

#[test]
fn destination_of_several_ports_is_ist0112() {
    let two = |spec: &str| {
        let two = service(
            "catalog.my-app",
            &[("http", 80), ("http-b", 81)],
            &[("10.0.0.1", "v1")],
        );
        compiled(&[&two, &virtual_service("catalog.my-app", spec)])
    };
    let spec = "  hosts: [catalog]\n  http:\n  - route: [{destination: {host: catalog}}]";
    assert_warns(&two(spec), "IST0112", "several ports (80, 81)");
    let said = spec.replace("host: catalog}", "host: catalog, port: {number: 80}}");
    assert_silent(&two(&said), "IST0112");
}

#[test]
fn two_virtual_services_for_one_host_are_ist0109() {
    let spec = "  hosts: [catalog]\n  http: [{route: [{destination: {host: catalog}}]}]";
    let one = virtual_service("one.my-app", spec);
    let two = virtual_service("two.my-app", spec);
    assert_warns(
        &compiled(&[&catalog(), &one, &two]),
        "IST0109 2.yaml:5",
        "hosts[0]",
    );
    assert_silent(&compiled(&[&catalog(), &one]), "IST0109");
    let private = two.replace("spec:\n", "spec:\n  exportTo: [\".\"]\n");
    assert_silent(&compiled(&[&catalog(), &one, &private]), "IST0109");
}

#[test]
fn port_name_without_a_protocol_is_ist0118() {
    let named = |name: &str| compiled(&[&service("a.b", &[(name, 80)], &[("10.0.0.1", "v1")])]);
    assert_warns(
        &named("web"),
        "IST0118 0.yaml:7",
        "does not say what is spoken there",
    );
    for name in ["http", "grpc-web", "tcp-x"] {
        assert_silent(&named(name), "IST0118");
    }
    let application = service("a.b", &[("web", 80)], &[("10.0.0.1", "v1")])
        .replace("port: 80}", "port: 80, appProtocol: http}");
    assert_silent(&compiled(&[&application]), "IST0118");
}

#[test]
fn unreachable_rule_is_ist0130_and_repeated_match_is_ist0131() {
    let text = virtual_service(
        "catalog.my-app",
        "  hosts: [catalog]\n  http:\n  - match: [{uri: {prefix: /a}}]\n    \
         route: [{destination: {host: catalog}}]\n  \
         - match: [{uri: {prefix: /a}}, {uri: {prefix: /b}}]\n    \
         route: [{destination: {host: catalog}}]\n  - route: [{destination: {host: catalog}}]\n  \
         - route: [{destination: {host: catalog}}]",
    );
    let read = read([("a.yaml", &*text)], &Options::default());
    let codes: Vec<Code> = read.faults.iter().map(|fault| fault.code()).collect();
    assert_eq!(
        codes,
        [Code::Ineffective, Code::Unreachable],
        "{}",
        read.faults
    );
    let compiled = compile(&read.objects, &order(), &Options::default());
    let routes = routes(&compiled.resources, &format!("outbound|80||{CATALOG}"));
    assert_eq!(routes.len(), 4, "the unreachable rule has no route");
}

#[test]
fn subset_whose_labels_are_on_nobody_is_ist0173() {
    let subset = |version: &str| {
        let spec =
            format!("  host: catalog\n  subsets: [{{name: x, labels: {{version: {version}}}}}]");
        compiled(&[&catalog(), &destination_rule("catalog.my-app", &spec)])
    };
    assert_warns(
        &subset("v9"),
        "IST0173 1.yaml:6",
        "version=v9 select no endpoint",
    );
    assert_silent(&subset("v1"), "IST0173");
}

#[test]
fn rule_for_an_unknown_host_is_ist0174() {
    let rule = |host: &str| {
        let spec = format!("  host: {host}\n  trafficPolicy: {{outlierDetection: {{}}}}");
        compiled(&[&catalog(), &destination_rule("catalog.my-app", &spec)])
    };
    assert_warns(
        &rule("catalog.my-app"),
        "IST0174 1.yaml:5",
        "host: has no effect",
    );
    assert_warns(&rule("\"*.example.com\""), "IST0174", "");
    for known in ["catalog", CATALOG, "\"*.local\""] {
        assert_silent(&rule(known), "IST0174");
    }
}

#[test]
fn envoys_ejection_of_a_small_cluster_is_warned_of() {
    let ejecting = |ejection, percent: u32| {
        let options = Options {
            ejection,
            ..Options::default()
        };
        let spec = format!(
            "  host: catalog\n  trafficPolicy: {{outlierDetection: {{maxEjectionPercent: {percent}}}}}"
        );
        let texts = [&*catalog(), &destination_rule("catalog.my-app", &spec)];
        compiled_as(&order(), &options, &texts)
    };
    assert_warns(
        &ejecting(Ejection::Envoy, 33),
        "M050",
        "33 % of 3 endpoints is less than one",
    );
    assert_silent(&ejecting(Ejection::Envoy, 34), "M050");
    assert_silent(&ejecting(Ejection::AtLeastOne, 10), "M050");
}

fn retries(rest: &str) -> Compiled {
    rules(&format!(
        "  - {{route: [{{destination: {{host: catalog}}}}], {rest}}}"
    ))
}

#[test]
fn tries_that_do_not_fit_into_the_timeout_are_warned_of() {
    let late = retries("timeout: 5s, retries: {attempts: 2, perTryTimeout: 2s}");
    assert_warns(
        &late,
        "M064",
        "3 tries of 2s do not fit into the timeout of 5s",
    );
    let dead = retries("timeout: 2s, retries: {attempts: 2, perTryTimeout: 2s}");
    assert_warns(&dead, "M064", "2s has no effect: the whole call has 2s");
    assert_silent(
        &retries("timeout: 6s, retries: {attempts: 2, perTryTimeout: 2s}"),
        "M064",
    );
    assert_silent(
        &retries("retries: {attempts: 2, perTryTimeout: 2s}"),
        "M064",
    );
}

#[test]
fn tokens_that_5xx_contains_are_warned_of() {
    let get = "match: [{method: {exact: GET}}], ";
    let of = |on: &str| retries(&format!("{get}retries: {{attempts: 2, retryOn: \"{on}\"}}"));
    assert_warns(&of("reset,5xx"), "M065", "5xx contains reset already");
    assert_silent(&of("5xx,retriable-4xx"), "M065");
    assert_silent(&of("reset,connect-failure"), "M065");
}

#[test]
fn repeating_requests_that_may_have_had_an_effect_is_warned_of() {
    let on = |on: &str| retries(&format!("retries: {{attempts: 2, retryOn: \"{on}\"}}"));
    assert_warns(&on("5xx"), "M066", "5xx repeats POST and PATCH too");
    assert_warns(&on("503"), "M066", "503 repeats POST");
    assert_silent(&on("connect-failure,refused-stream"), "M066");
}

#[test]
fn weight_of_an_unknown_subset_is_warned_of() {
    let split = |subset: &str| {
        rules(&format!(
            "  - route: [{{destination: {{host: catalog, subset: v1}}, weight: 90}}, \
             {{destination: {{host: catalog, subset: {subset}}}, weight: 10}}]"
        ))
    };
    assert_warns(
        &split("v2"),
        "IST0101",
        "10 % of these requests are answered with 503",
    );
    assert_silent(&split("v1"), "IST0101");
}

#[test]
fn few_requests_per_http2_connection_are_warned_of() {
    let of = |port: &str| {
        let spec = "  host: a\n  trafficPolicy: {connectionPool: {http: \
                    {maxRequestsPerConnection: 10}}}";
        let service = service("a.my-app", &[(port, 80)], &[("10.0.0.1", "v1")]);
        compiled(&[&service, &destination_rule("a.my-app", spec)])
    };
    assert_warns(
        &of("grpc"),
        "M067",
        "renews an HTTP/2 connection after 10 requests",
    );
    assert_silent(&of("http"), "M067");
}

#[test]
fn host_with_a_dot_that_is_not_the_full_name_is_warned_of() {
    let of = |host: &str| {
        let spec =
            format!("  hosts: [{host}]\n  http: [{{route: [{{destination: {{host: catalog}}}}]}}]");
        compiled(&[&catalog(), &virtual_service("catalog.my-app", &spec)])
    };
    let half = of("catalog.my-app");
    assert_warns(&half, "M068 1.yaml:5", "a name with a dot is not completed");
    for good in ["catalog", CATALOG, "api.example.com"] {
        assert_silent(&of(good), "M068");
    }
}

#[test]
fn substitutions_in_header_values_are_warned_of() {
    let of = |value: &str| {
        retries(&format!(
            "headers: {{request: {{set: {{x-a: \"{value}\"}}}}}}"
        ))
    };
    assert_warns(
        &of("%REQ(x-b)%"),
        "M023",
        "is sent as it stands: \"%REQ(x-b)%\"",
    );
    assert_silent(&of("100%%"), "M023");
}

#[test]
fn a_fraction_of_a_percent_of_a_retry_budget_is_rounded() {
    let of = |budget: &str| {
        let spec = format!("  host: catalog\n  trafficPolicy: {{retryBudget: {budget}}}");
        compiled(&[&catalog(), &destination_rule("catalog.my-app", &spec)])
    };
    assert_warns(&of("{percent: 12.5}"), "M023", "12.5 % is rounded to 13 %");
    assert!(of("{percent: 12, budgetInterval: 10s}").faults.is_empty());
}

#[test]
fn network_address_of_an_entry_is_warned_of() {
    let of = |address: &str| {
        let spec = format!(
            "  hosts: [a.b]\n  addresses: [{address}]\n  ports: [{{number: 80, name: http, \
             protocol: HTTP}}]\n  resolution: STATIC\n  endpoints: [{{address: 10.0.0.1}}]"
        );
        compiled(&[&object("ServiceEntry", "a.my-app", &spec)])
    };
    assert_warns(&of("10.0.0.0/8"), "M023", "addresses[0]: the network");
    assert_silent(&of("10.0.0.5/32"), "M023");
}
