//! `meshwork authz can`.

use serde_json::Value;

use super::process::run;

const PAYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: payment, namespace: my-app}
spec:
  selector: {matchLabels: {app: payment}}
  template:
    metadata: {labels: {app: payment}}
    spec: {serviceAccountName: payment-sa, containers: [{name: payment}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: payment, namespace: my-app}
spec:
  selector: {matchLabels: {app: payment}}
  mtls: {mode: STRICT}
  portLevelMtls: {9090: {mode: DISABLE}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: restrict-payment, namespace: my-app}
spec:
  selector: {matchLabels: {app: payment}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/my-app/sa/order-sa]}}]
    to: [{operation: {methods: [POST], paths: [/pay]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-debug, namespace: my-app}
spec:
  action: DENY
  selector: {matchLabels: {app: payment}}
  rules: [{when: [{key: 'request.headers[x-debug]', values: ['1']}]}]
";

const ORDER: &str = "cluster.local/ns/my-app/sa/order-sa";

async fn can(question: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("payment.yaml"), PAYMENT).expect("a file");
    let path = folder.path().to_str().expect("UTF-8");
    let flags = ["--at", "my-app/payment", "--config", path];
    let output = run(&[&["authz", "can"], question, &flags[..]].concat()).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test]
async fn a_caller_may_or_may_not_and_the_policy_is_named() {
    let (code, said, _) = can(&[ORDER, "POST", "/pay"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.starts_with("yes: ") && said.contains("policy[restrict-payment]"),
        "{said}"
    );
    assert!(said.contains("payment.yaml:"), "{said}");
    for (question, why) in [
        (&[ORDER, "GET", "/pay"][..], "none allows this"),
        (
            &["cluster.local/ns/my-app/sa/web", "POST", "/pay"],
            "none allows this",
        ),
        (&["anonymous", "POST", "/pay"], "port 8080 is STRICT"),
        (
            &[ORDER, "POST", "/pay", "--port", "9090"],
            "cannot prove that it is",
        ),
        (&[ORDER, "POST", "/a/../pay"], "refused with 400"),
        (
            &[ORDER, "POST", "/pay", "-H", "x-debug: 1"],
            "policy[no-debug]-rule[0] denies it",
        ),
    ] {
        let (code, said, _) = can(question).await;
        assert_eq!(code, Some(1), "{question:?}: {said}");
        assert!(
            said.starts_with("no: ") && said.contains(why),
            "{question:?}: {said}"
        );
    }
}

#[tokio::test]
async fn programs_get_json_and_slips_are_told() {
    let (_, said, _) = can(&[ORDER, "POST", "/pay", "-o", "json"]).await;
    let json: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(json["allowed"], true);
    assert!(
        json["origin"]
            .as_str()
            .is_some_and(|origin| origin.contains("restrict-payment"))
    );
    for (question, why) in [
        (&["not an identity", "GET", "/"][..], "is no identity"),
        (&[ORDER, "GET", "pay"], "is no path"),
        (&[ORDER, "GET", "/", "-H", "x"], "expected NAME: VALUE"),
        (&[ORDER, "GET", "/", "--label", "x"], "expected KEY=VALUE"),
    ] {
        let (code, _, told) = can(question).await;
        assert_eq!(code, Some(2), "{question:?}: {told}");
        assert!(told.contains(why), "{question:?}: {told}");
    }
}
