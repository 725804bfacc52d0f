//! What `check` finds by looking at a whole set.

use meshwork::source::istio::{Checked, OnDuplicate, Options, Severity, check};

fn whole(text: &str, options: &Options) -> Checked {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("a.yaml"), text).expect("a file");
    check(folder.path(), &[], options)
}

/// `line code` of everything with one of these codes.
fn found(text: &str, codes: &[&str]) -> Vec<String> {
    let checked = whole(text, &Options::default());
    let all = checked.faults.iter();
    all.filter(|fault| codes.contains(&fault.code().as_str()))
        .map(|fault| format!("{} {} {}", fault.line(), fault.code(), fault.message()))
        .collect()
}

#[track_caller]
fn fires(text: &str, code: &str, line: u32, part: &str) {
    let all = found(text, &[code]);
    let wanted = format!("{line} {code} ");
    let [one] = &all[..] else {
        panic!(
            "expected one {code}: {all:#?}\n{}",
            whole(text, &Options::default()).faults
        );
    };
    assert!(one.starts_with(&wanted) && one.contains(part), "{one}");
}

#[track_caller]
fn silent(text: &str, code: &str) {
    assert_eq!(found(text, &[code]), [""; 0]);
}

/// A service, lines 1 to 4, and what stands behind it, lines 6 to 17.
fn catalog(service_port: &str, pod: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: catalog, namespace: shop}}
spec: {{selector: {{app: catalog}}, ports: [{{{service_port}}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: catalog, namespace: shop}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: catalog}}}}
  template:
    metadata: {{labels: {{app: catalog}}}}
    spec:
      serviceAccountName: catalog-sa
      containers:
      - {{name: catalog, ports: [{{name: web, containerPort: 8080}}]{pod}}}
---
"
    )
}

fn plain() -> String {
    catalog("name: http, port: 80, targetPort: 8080", "")
}

fn probed(probe: &str) -> String {
    let probe = format!(", readinessProbe: {{httpGet: {{{probe}}}}}");
    catalog("name: http, port: 80, targetPort: 8080", &probe)
}

/// An object of Istio, whose first line is 19 behind a catalog.
fn object(kind: &str, spec: &str) -> String {
    let group = match kind {
        "DestinationRule" => "networking",
        _ => "security",
    };
    format!(
        "apiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: a, namespace: shop}}\n\
         spec:\n  {spec}\n---\n"
    )
}

fn peers(spec: &str) -> String {
    object("PeerAuthentication", spec)
}

fn policy(spec: &str) -> String {
    object("AuthorizationPolicy", spec)
}

const STRICT: &str = "mtls: {mode: STRICT}";

#[test]
fn a_selector_that_selects_nobody() {
    let wrong = "selector: {matchLabels: {app: catalogue}}";
    fires(
        &(plain() + &policy(wrong)),
        "M048",
        23,
        "no workload has the labels app=catalogue",
    );
    let text = plain() + &peers(&format!("{wrong}\n  {STRICT}"));
    fires(&text, "M048", 23, "selects nobody");
    silent(
        &(plain() + &policy("selector: {matchLabels: {app: catalog}}")),
        "M048",
    );
    // Who runs in the namespace is not known.
    silent(&policy(wrong), "M048");
    // In the root namespace a policy selects in all namespaces.
    let root = policy("selector: {matchLabels: {app: catalog}}").replace("shop", "istio-system");
    silent(&(plain() + &root), "M048");
}

#[test]
fn one_port_two_protocols() {
    let entry = |name: &str, protocol: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: {name}, namespace: shop}}\nspec:\n  hosts: [api.example.com]\n  \
             ports: [{{number: 443, name: a, protocol: {protocol}}}]\n  resolution: DNS\n---\n"
        )
    };
    let text = entry("one", "HTTPS") + &entry("two", "HTTP");
    fires(&text, "M049", 14, "speaks HTTP here and HTTPS in");
    silent(&(entry("one", "HTTPS") + &entry("two", "https")), "M049");
    let second = catalog("name: grpc, port: 81, targetPort: 8080", "")
        .split("---\n")
        .next()
        .unwrap()
        .replace("name: catalog,", "name: other,");
    fires(
        &(plain() + &second),
        "M049",
        22,
        "deployment shop/catalog is behind",
    );
    let same = second.replace("grpc", "http");
    silent(&(plain() + &same), "M049");
}

#[test]
fn an_identity_that_nobody_has_to_prove() {
    for source in [
        "principals: [cluster.local/ns/shop/sa/catalog-sa]",
        "namespaces: [shop]",
        "serviceAccounts: [catalog-sa]",
        "trustDomains: [cluster.local]",
    ] {
        let rule = format!("rules: [{{from: [{{source: {{{source}}}}}]}}]");
        fires(&(plain() + &policy(&rule)), "M051", 23, "they are denied");
        let strict = plain() + &policy(&rule) + &peers(STRICT);
        silent(&strict, "M051");
        let deny = plain() + &policy(&format!("action: DENY\n  {rule}"));
        fires(&deny, "M051", 24, "they are not denied");
    }
    // All but those who are named include who has no name: such a DENY is written for them.
    for source in [
        "notPrincipals: ['*']",
        "notNamespaces: [shop]",
        "notServiceAccounts: [catalog-sa]",
        "notTrustDomains: [cluster.local]",
    ] {
        let rule = format!("rules: [{{from: [{{source: {{{source}}}}}]}}]");
        fires(&(plain() + &policy(&rule)), "M051", 23, "they are let in");
        silent(
            &(plain() + &policy(&format!("action: DENY\n  {rule}"))),
            "M051",
        );
        let both = rule.replace("source: {", "source: {trustDomains: [other], ");
        fires(&(plain() + &policy(&both)), "M051", 23, "they are denied");
    }
    let disabled = "mtls: {mode: DISABLE}";
    let rule = "rules: [{from: [{source: {namespaces: [shop]}}]}]";
    let text = plain() + &policy(rule) + &peers(disabled);
    fires(&text, "M051", 23, "by DISABLE");
    silent(
        &(plain() + &policy("rules: [{to: [{operation: {methods: [GET]}}]}]")),
        "M051",
    );
}

#[test]
fn a_method_that_grpc_never_uses() {
    let grpc = catalog("name: grpc-api, port: 80, targetPort: 8080", "");
    let rule = |method: &str| {
        policy(&format!(
            "rules: [{{to: [{{operation: {{methods: [{method}]}}}}]}}]"
        ))
    };
    fires(&(grpc.clone() + &rule("GET")), "M052", 23, "each is a POST");
    for good in ["POST", "GET, POST", "'*'", "P*", "'*T'"] {
        silent(&(grpc.clone() + &rule(good)), "M052");
    }
    silent(&(plain() + &rule("GET")), "M052");
    let said = catalog(
        "name: api, appProtocol: grpc, port: 80, targetPort: 8080",
        "",
    );
    fires(
        &(said + &rule("GET")),
        "M052",
        23,
        "port 80 of service shop/catalog",
    );
}

#[test]
fn one_side_refuses_what_the_other_speaks() {
    let rule = |tls: &str| {
        object(
            "DestinationRule",
            &format!("host: catalog\n  trafficPolicy: {{tls: {{{tls}}}}}"),
        )
    };
    let disable = rule("mode: DISABLE");
    fires(
        &(plain() + &disable + &peers(STRICT)),
        "M053",
        24,
        "callers speak DISABLE",
    );
    silent(&(plain() + &disable), "M053");
    let mutual = rule("mode: ISTIO_MUTUAL");
    silent(&(plain() + &mutual + &peers(STRICT)), "M053");
    let off = peers("mtls: {mode: DISABLE}");
    fires(&(plain() + &mutual + &off), "M053", 24, "asks for DISABLE");
    // What is asked of callers by port, and what they speak by port.
    let port = "portLevelMtls: {8080: {mode: DISABLE}}";
    let off = peers(&format!(
        "selector: {{matchLabels: {{app: catalog}}}}\n  {STRICT}\n  {port}"
    ));
    silent(&(plain() + &disable + &off), "M053");
    fires(&(plain() + &mutual + &off), "M053", 24, "asks for DISABLE");
    let by_port = |number: u16, mode: &str| {
        let text = format!(
            "host: catalog\n  trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL}}, portLevelSettings: \
             [{{port: {{number: {number}}}, tls: {{mode: {mode}}}}}]}}"
        );
        object("DestinationRule", &text)
    };
    fires(
        &(plain() + &by_port(80, "DISABLE") + &peers(STRICT)),
        "M053",
        24,
        "callers speak DISABLE",
    );
    silent(&(plain() + &by_port(80, "DISABLE") + &off), "M053");
    silent(
        &(plain() + &by_port(81, "DISABLE") + &peers(STRICT)),
        "M053",
    );
    let outside = "apiVersion: v1\nkind: Pod\nmetadata: {name: worker, namespace: shop, annotations: \
                   {sidecar.istio.io/inject: 'false'}}\n---\n";
    fires(
        &(plain() + outside + &peers(STRICT)),
        "M053",
        19,
        "deployment shop/catalog, which is STRICT, refuses its connections",
    );
    silent(&(plain() + outside), "M053");
    fires(&(plain() + outside), "M024", 19, "nothing is injected here");
}

#[test]
fn an_identity_that_nobody_has() {
    let rule = |source: &str| policy(&format!("rules: [{{from: [{{source: {{{source}}}}}]}}]"));
    let wrong = rule("principals: [cluster.local/ns/shop/sa/order-sa]");
    fires(
        &(plain() + &wrong),
        "M054",
        23,
        "they run as ns/shop/sa/catalog-sa",
    );
    let wrong = rule("serviceAccounts: [order-sa]");
    fires(
        &(plain() + &wrong),
        "M054",
        23,
        "no workload of shop runs as ns/shop/sa/order-sa",
    );
    for good in [
        "principals: [cluster.local/ns/shop/sa/catalog-sa]",
        "principals: ['cluster.local/ns/shop/sa/*']",
        "principals: ['*']",
        "serviceAccounts: [shop/catalog-sa]",
        // Nothing is known of who runs there.
        "principals: [cluster.local/ns/front/sa/web]",
    ] {
        silent(&(plain() + &rule(good)), "M054");
    }
}

#[test]
fn a_probe_that_nobody_lets_in() {
    let text = probed("path: /healthz, port: 8080");
    fires(
        &(text.clone() + &peers(STRICT)),
        "M055",
        17,
        "port 8080 is STRICT: it fails",
    );
    let named = probed("path: /healthz, port: web");
    fires(&(named + &peers(STRICT)), "M055", 17, "port 8080 is STRICT");
    silent(&(text.clone() + &peers("mtls: {mode: PERMISSIVE}")), "M055");
    let exempt = "selector: {matchLabels: {app: catalog}}\n  mtls: {mode: STRICT}\n  \
                  portLevelMtls: {8080: {mode: PERMISSIVE}}";
    silent(&(text.clone() + &peers(exempt)), "M055");
    let named = policy("rules: [{from: [{source: {namespaces: [shop]}}]}]");
    fires(
        &(text.clone() + &named),
        "M055",
        19,
        "denies the probe GET /healthz at port 8080",
    );
    for good in [
        "rules: [{}]",
        "rules: [{to: [{operation: {paths: [/healthz]}}]}]",
        "rules: [{to: [{operation: {paths: ['/health*'], methods: [GET]}}]}]",
        "rules: [{to: [{operation: {ports: ['8080']}}]}]",
        "action: DENY\n  rules: [{from: [{source: {namespaces: [shop]}}]}]",
    ] {
        silent(&(text.clone() + &policy(good)), "M055");
    }
    for bad in [
        "rules: [{to: [{operation: {methods: [POST]}}]}]",
        "rules: [{to: [{operation: {ports: ['9090']}}]}]",
        "rules: [{to: [{operation: {paths: [/items]}}]}]",
    ] {
        fires(
            &(text.clone() + &policy(bad)),
            "M055",
            19,
            "denies the probe",
        );
    }
}

#[test]
fn a_port_of_a_service() {
    let rule = |port: &str| {
        policy(&format!(
            "rules: [{{to: [{{operation: {{ports: ['{port}']}}}}]}}]"
        ))
    };
    fires(
        &(plain() + &rule("80")),
        "M056",
        23,
        "80 is the port of service shop/catalog; its workload listens on 8080",
    );
    silent(&(plain() + &rule("8080")), "M056");
    silent(&(plain() + &rule("9999")), "M056");
    let level = |port: &str| {
        peers(&format!(
            "selector: {{matchLabels: {{app: catalog}}}}\n  portLevelMtls: {{{port}: {{mode: DISABLE}}}}"
        ))
    };
    fires(&(plain() + &level("80")), "M056", 24, "80 is the port of");
    silent(&(plain() + &level("8080")), "M056");
}

#[test]
fn the_roots_of_the_system() {
    let rule = |tls: &str| {
        object(
            "DestinationRule",
            &format!("host: catalog\n  trafficPolicy: {{tls: {{{tls}}}}}"),
        )
    };
    fires(
        &(plain() + &rule("mode: SIMPLE")),
        "M057",
        24,
        "no caCertificates",
    );
    for good in [
        "mode: SIMPLE, caCertificates: /etc/roots.pem",
        "mode: SIMPLE, insecureSkipVerify: true",
        "mode: DISABLE",
        "mode: ISTIO_MUTUAL",
    ] {
        silent(&(plain() + &rule(good)), "M057");
    }
    let by_port = object(
        "DestinationRule",
        "host: catalog\n  trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}",
    );
    fires(&(plain() + &by_port), "M057", 24, "no caCertificates");
}

#[test]
fn a_sidecar_that_ejects_nobody() {
    let rule = |outlier: &str| {
        object(
            "DestinationRule",
            &format!("host: catalog\n  trafficPolicy: {{outlierDetection: {{{outlier}}}}}"),
        )
    };
    fires(
        &(plain() + &rule("consecutive5xxErrors: 3")),
        "M058",
        24,
        "10 % of 3 endpoints is less than one",
    );
    silent(
        &(plain() + &rule("consecutive5xxErrors: 3, maxEjectionPercent: 34")),
        "M058",
    );
    silent(&rule("consecutive5xxErrors: 3"), "M058");
}

#[test]
fn two_objects_for_one_workload() {
    let of = |kind: &str, name: &str, spec: &str| {
        let group = match kind {
            "Sidecar" => "networking",
            "Telemetry" => "telemetry",
            _ => "security",
        };
        format!(
            "apiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{{spec}}}\n---\n"
        )
    };
    for (kind, selector, rest) in [
        (
            "Sidecar",
            "workloadSelector: {labels: ",
            ", egress: [{hosts: ['./*']}]",
        ),
        (
            "Telemetry",
            "selector: {matchLabels: ",
            ", tracing: [{randomSamplingPercentage: 1}]",
        ),
        (
            "PeerAuthentication",
            "selector: {matchLabels: ",
            ", mtls: {mode: STRICT}",
        ),
    ] {
        let one =
            |name: &str, app: &str| of(kind, name, &format!("{selector}{{app: {app}}}}}{rest}"));
        let text = plain() + &one("a", "catalog") + &one("b", "catalog");
        fires(&text, "M045", 24, &kind.to_lowercase());
        silent(
            &(plain() + &one("a", "catalog") + &one("b", "order")),
            "M045",
        );
        // Nobody has the labels, so nobody is selected twice.
        silent(&(one("a", "catalog") + &one("b", "catalog")), "M045");
    }
}

/// A VirtualService for a gateway, whose spec is line 4, and gateways.
fn through(gateway: &str, host: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a, namespace: shop}}\n\
         spec: {{hosts: ['{host}'], gateways: [{gateway}, mesh], http: [{{route: [{{destination: {{host: catalog}}}}]}}]}}\n---\n"
    )
}

fn gateway(hosts: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: doors}}\n\
         spec: {{servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [{hosts}]}}]}}\n---\n"
    )
}

#[test]
fn a_gateway_that_does_not_take_the_host() {
    for (written, host, taken) in [
        ("shop.example.com", "shop.example.com", true),
        ("SHOP.example.com", "shop.Example.com", true),
        ("'*.example.com'", "shop.example.com", true),
        ("shop.example.com", "*.example.com", true),
        ("'*'", "shop.example.com", true),
        ("shop/shop.example.com", "shop.example.com", true),
        ("'*/shop.example.com'", "shop.example.com", true),
        ("catalog.shop.svc.cluster.local", "catalog", true),
        ("a.example.com, b.example.com", "b.example.com", true),
        ("shop.example.org", "shop.example.com", false),
        ("'*.example.com'", "example.com", false),
        ("./shop.example.com", "shop.example.com", false),
        ("other/shop.example.com", "shop.example.com", false),
    ] {
        let text = through("doors/edge", host) + &gateway(written);
        if taken {
            silent(&text, "M059");
        } else {
            fires(
                &text,
                "M059",
                4,
                "the gateway doors/edge does not take the host",
            );
        }
    }
    // Its own namespace is the one of the rules.
    let near = gateway("./shop.example.com").replace("doors", "shop");
    silent(&(through("edge", "shop.example.com") + &near), "M059");
}

#[test]
fn a_gateway_that_the_set_does_not_have() {
    let unknown = |text: &str| {
        let all = found(text, &["M040"]);
        all.into_iter()
            .filter(|one| one.contains("no Gateway"))
            .collect::<Vec<_>>()
    };
    let text = through("doors/egde", "a.example.com") + &gateway("'*'");
    let [one] = &unknown(&text)[..] else {
        panic!("no fault");
    };
    assert!(
        one.starts_with("4 M040 ") && one.contains("gateways[0]"),
        "{one}"
    );
    let hints = whole(&text, &Options::default());
    let mut hints = hints.faults.iter().filter_map(|fault| fault.hint());
    assert!(hints.any(|hint| hint == "did you mean doors/edge?"));
    assert_eq!(
        unknown(&(through("doors/edge", "a.example.com") + &gateway("'*'"))),
        [""; 0]
    );
    // A set without gateways is a part of something larger.
    assert_eq!(unknown(&through("doors/egde", "a.example.com")), [""; 0]);
}

#[test]
fn a_port_of_tcp_without_an_address() {
    let entry = |more: &str, protocol: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: ledger, namespace: shop}}\nspec:\n  hosts: [ledger.example.com]\n  \
             ports:\n  - {{number: 5432, name: sql{protocol}}}\n  resolution: DNS\n{more}---\n"
        )
    };
    fires(
        &entry("", ", protocol: tcp"),
        "M063",
        7,
        "ports[0]: port 5432 is TCP",
    );
    fires(&entry("", ""), "M063", 7, "no address is named");
    silent(&entry("", ", protocol: MYSQL"), "M063");
    silent(
        &entry("  addresses: [10.9.0.1]\n", ", protocol: TCP"),
        "M063",
    );
}

/// The article as it is pasted, and with its separator and the later of two objects of one name.
const ALL: &str = include_str!("../article/all.yaml");

/// What stands for each trap of the article, one line each: line, weight, code, object.
fn list(text: &str, options: &Options) -> String {
    let checked = whole(text, options);
    let line = |fault: &meshwork::source::istio::Fault| {
        let severity = match fault.severity() {
            Severity::Error => "error",
            _ => "warning",
        };
        let object = fault.object().map(ToString::to_string).unwrap_or_default();
        format!("{} {severity} {} {object}\n", fault.line(), fault.code())
    };
    checked.faults.iter().map(line).collect()
}

#[test]
fn the_article_has_a_committed_list_of_codes_and_lines() {
    let pasted = list(ALL, &Options::default());
    let separated = ALL.replace(
        "      weight: 10\napiVersion",
        "      weight: 10\n---\napiVersion",
    );
    let last = Options {
        on_duplicate: OnDuplicate::Last,
        ..Options::default()
    };
    let separated = list(&separated, &last);
    let all = format!(
        "# As pasted\n{pasted}# With the separator, and the later of two of one name\n{separated}"
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/article/codes.txt");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        all, committed,
        "what check says of the article has changed: {all}"
    );
}

#[test]
fn each_trap_of_the_article_has_its_code() {
    let list = include_str!("../article/codes.txt");
    let (pasted, separated) = list.split_once("# With").expect("two lists");
    for (trap, whole, line) in [
        (
            "a pod that is kept out of the mesh",
            pasted,
            "3 warning M024",
        ),
        ("two objects without a separator", pasted, "41 error M004"),
        (
            "a rule for a host that nobody has",
            pasted,
            "47 warning M044",
        ),
        (
            "a caller that a policy of the callee does not let in",
            pasted,
            "83 warning M048",
        ),
        (
            "a policy for a workload that is not there",
            pasted,
            "95 warning M048",
        ),
        (
            "callers in plaintext have no identity",
            pasted,
            "100 warning M051",
        ),
        (
            "order runs as default, not as order-sa",
            pasted,
            "100 warning M054",
        ),
        (
            "the second of two telemetries for the mesh",
            pasted,
            "115 warning M045",
        ),
        ("a provider that nobody defined", pasted, "123 error M040"),
        ("the canary written twice", pasted, "126 error M015"),
        (
            "a route to a host that nobody has",
            pasted,
            "137 warning M040",
        ),
        ("tries that the timeout cuts", separated, "141 warning M064"),
        ("tokens that 5xx contains", separated, "143 warning M065"),
        ("a POST that is repeated", separated, "143 warning M066"),
        ("nobody known behind order", pasted, "172 warning M047"),
        (
            "a sidecar would never eject one of three",
            pasted,
            "212 warning M058",
        ),
        ("a subset that nobody is in", pasted, "216 warning M043"),
        ("the mode written twice", pasted, "220 error M015"),
        ("the probe of order is denied", pasted, "229 warning M055"),
        ("catalog-sa runs nowhere", pasted, "241 warning M054"),
    ] {
        let found = whole.lines().any(|one| one.starts_with(line));
        assert!(found, "{trap}: {line} is not in\n{whole}");
    }
}
