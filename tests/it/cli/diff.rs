//! `meshwork diff`: what an edit changes of decisions.

use serde_json::Value;

use super::process::run;

const CANARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/article/canary");

async fn diff(old: &str, new: &str) -> (Option<i32>, Value) {
    let output = run(&["diff", old, new, "--from", "my-app/order-sa", "-o", "json"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    (output.status.code(), json)
}

/// The canary's folder with another routing.
fn edited(change: impl Fn(&str) -> String) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["catalog.yaml", "routing.yaml"] {
        let text = std::fs::read_to_string(format!("{CANARY}/{name}")).expect("the example");
        let text = if name == "routing.yaml" {
            change(&text)
        } else {
            text
        };
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

#[tokio::test]
async fn equal_decisions_are_no_difference_whatever_the_text() {
    let other = edited(|text| format!("# another head\n\n\n{text}"));
    let (code, json) = diff(CANARY, other.path().to_str().expect("UTF-8")).await;
    assert_eq!(code, Some(0), "{json:#}");
    assert_eq!(json["differences"].as_array().map(Vec::len), Some(0));
    assert!(json["requests"].as_u64() >= Some(2), "{json:#}");
}

#[tokio::test]
async fn a_weight_and_a_limit_are_told_with_a_request_that_meets_them() {
    let other = edited(|text| {
        text.replace("weight: 90", "weight: 70")
            .replace("weight: 10", "weight: 30")
    });
    let (code, json) = diff(CANARY, other.path().to_str().expect("UTF-8")).await;
    assert_eq!(code, Some(1), "{json:#}");
    let differences = json["differences"].as_array().expect("a list");
    assert!(
        differences
            .iter()
            .all(|one| { !one["request"].as_str().expect("text").contains("x-canary") })
    );
    let fields = differences[0]["fields"].as_array().expect("a list");
    let share = fields
        .iter()
        .find(|one| one["field"] == "outcomes[0].share")
        .expect("a share");
    assert_eq!((&share["old"], &share["new"]), (&0.9.into(), &0.7.into()));
    let other = edited(|text| text.replace("maxConnections: 100", "maxConnections: 7"));
    let (_, json) = diff(CANARY, other.path().to_str().expect("UTF-8")).await;
    let text = json.to_string();
    assert!(text.contains("limits[connections].limit"), "{json:#}");
}

#[tokio::test]
async fn a_matcher_that_only_the_new_folder_has_is_probed_too() {
    let other = edited(|text| text.replace("exact: \"true\"", "exact: \"yes\""));
    let (code, json) = diff(CANARY, other.path().to_str().expect("UTF-8")).await;
    assert_eq!(code, Some(1));
    let requests: Vec<&str> = json["differences"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["request"].as_str())
        .collect();
    for value in ["x-canary: true", "x-canary: yes"] {
        assert!(
            requests.iter().any(|one| one.contains(value)),
            "{requests:?}"
        );
    }
    let missing = run(&["diff", CANARY, "no/such"]).await;
    assert_eq!(missing.status.code(), Some(2));
}

/// A service behind a policy.
fn guarded(rule: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: payment, namespace: my-app}}
spec: {{selector: {{app: payment}}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: payment-1, namespace: my-app, labels: {{app: payment, security.istio.io/tlsMode: istio}}}}
spec: {{serviceAccountName: payment-sa, containers: [{{name: payment}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: payment, namespace: my-app, labels: {{kubernetes.io/service-name: payment}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: [{{addresses: [10.0.0.1], targetRef: {{kind: Pod, name: payment-1, namespace: my-app}}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: guard, namespace: my-app}}
spec: {{rules: [{rule}]}}
"
    );
    std::fs::write(folder.path().join("mesh.yaml"), text).expect("a file");
    folder
}

#[tokio::test]
async fn what_servers_say_is_compared_for_the_paths_and_methods_that_policies_name() {
    let narrow = guarded("{to: [{operation: {methods: [GET], paths: [/pay/*]}}]}");
    let wide = guarded("{to: [{operation: {methods: [GET, POST], paths: [/pay/*]}}]}");
    let [old, new] = [&narrow, &wide].map(|one| one.path().to_str().expect("UTF-8"));
    let (code, json) = diff(old, new).await;
    assert_eq!(code, Some(1), "{json:#}");
    let differences = json["differences"].as_array().expect("a list");
    let [one] = &differences[..] else {
        panic!("POST alone is decided differently: {json:#}");
    };
    let request = one["request"].as_str().expect("text");
    assert!(
        request.starts_with("POST http://payment.my-app"),
        "{request}"
    );
    assert!(request.ends_with("/pay/"), "{request}");
    let fields = one["fields"].as_array().expect("a list");
    let allowed = fields
        .iter()
        .find(|field| field["field"] == "servers[pod my-app/payment-1].allowed");
    let allowed = allowed.unwrap_or_else(|| panic!("{one:#}"));
    assert_eq!(
        (&allowed["old"], &allowed["new"]),
        (&false.into(), &true.into())
    );
    let (code, json) = diff(old, old).await;
    assert_eq!(code, Some(0), "{json:#}");
}

#[tokio::test]
async fn a_field_that_is_nothing_on_both_sides_is_no_difference() {
    let other = edited(|text| {
        text.replace("weight: 90", "weight: 100")
            .replace("weight: 10\n", "weight: 0\n")
    });
    let (_, json) = diff(CANARY, other.path().to_str().expect("UTF-8")).await;
    let differences = json["differences"].as_array().expect("a list");
    let fields = differences
        .iter()
        .flat_map(|one| one["fields"].as_array().expect("a list"));
    let fields: Vec<&Value> = fields.collect();
    assert!(!fields.is_empty(), "{json:#}");
    let same = fields.iter().find(|field| field["old"] == field["new"]);
    assert_eq!(same, None, "{json:#}");
}

/// A service under a foreign name, whose routes lead to another namespace, and a root namespace of another name.
fn foreign(methods: &str) -> tempfile::TempDir {
    let folder = guarded("{}");
    let mesh = folder.path().join("mesh.yaml");
    let text = std::fs::read_to_string(&mesh).expect("the file");
    // No policy but the one of the root namespace.
    let (text, _) = text
        .rsplit_once("---")
        .expect("the policy is the last object");
    let text = format!(
        "{text}---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: policies}}
data: {{mesh: 'rootNamespace: policies'}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: shop, namespace: edge}}
spec:
  hosts: [pay.shop.test]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop, namespace: edge}}
spec:
  hosts: [pay.shop.test]
  http: [{{route: [{{destination: {{host: payment.my-app.svc.cluster.local}}}}]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: guard, namespace: policies}}
spec: {{rules: [{{to: [{{operation: {{methods: {methods}, paths: [/pay/*]}}}}]}}]}}
"
    );
    std::fs::write(mesh, text).expect("a file");
    folder
}

#[tokio::test]
async fn policies_of_any_root_namespace_are_probed_at_every_host_that_leads_to_their_servers() {
    let (narrow, wide) = (foreign("[GET]"), foreign("[GET, POST]"));
    let [old, new] = [&narrow, &wide].map(|one| one.path().to_str().expect("UTF-8"));
    let (code, json) = diff(old, new).await;
    assert_eq!(code, Some(1), "{json:#}");
    let differences = json["differences"].as_array().expect("a list");
    let mut requests: Vec<&str> = differences
        .iter()
        .filter_map(|one| one["request"].as_str())
        .collect();
    requests.sort_unstable();
    let [foreign, own] = requests[..] else {
        panic!("POST alone is decided differently, at two hosts: {json:#}");
    };
    assert_eq!(foreign, "POST http://pay.shop.test/pay/");
    assert!(own.starts_with("POST http://payment"), "{own}");
}
