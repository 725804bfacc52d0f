//! `meshwork explain`: the decision for people and for programs.

use serde_json::Value;

use super::process::run;

const CANARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/article/canary");
const RESILIENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/article/resilience");

async fn explain(folder: &str, flags: &[&str]) -> (Option<i32>, String, String) {
    let mut args = vec!["explain", folder, "--from", "my-app/order-sa"];
    args.extend(flags);
    let output = run(&args).await;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

async fn json(folder: &str, flags: &[&str]) -> Value {
    let flags: Vec<&str> = flags.iter().copied().chain(["-o", "json"]).collect();
    let (code, out, err) = explain(folder, &flags).await;
    assert_eq!(code, Some(0), "{err}");
    serde_json::from_str(&out).expect("JSON")
}

#[tokio::test]
async fn the_articles_canary_is_explained_with_the_lines_behind_it() {
    let request = ["--request", "GET http://catalog/items"];
    let (code, out, err) = explain(CANARY, &request).await;
    assert_eq!(code, Some(0), "{err}");
    for part in [
        "virtual host catalog.my-app.svc.cluster.local:80",
        "wants the header x-canary to be \"true\"; the request has no such header",
        "90 % of the requests",
        "outbound|80|v1|catalog.my-app.svc.cluster.local",
        "10 % of the requests",
        "routing.yaml:",
        "(virtualservice my-app/catalog)",
        "(destinationrule my-app/catalog)",
        "limit       connections 0 of 100 now",
        "after 3 5xx in a row",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    let canary = json(CANARY, &[&request[..], &["-H", "x-canary: true"]].concat()).await;
    let outcomes = canary["outcomes"].as_array().expect("outcomes");
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0]["share"], 1.0);
    assert_eq!(
        outcomes[0]["forward"]["cluster"],
        "outbound|80|v2|catalog.my-app.svc.cluster.local"
    );
    assert_eq!(canary["routes"][1]["reached"], false);
}

#[tokio::test]
async fn worst_case_and_tries_are_those_of_the_policy() {
    let explained = json(RESILIENCE, &["--request", "GET http://catalog/items"]).await;
    let times = &explained["outcomes"][0]["forward"]["times"];
    // Three retries of 2 s each within 5 s: the fourth try never begins if each takes its time.
    assert_eq!(times["attempts"], 4, "{explained:#}");
    assert_eq!(times["attempts_if_slow"], 3);
    assert_eq!(times["worst_case_ms"], 5_000.0);
}

#[tokio::test]
async fn secrets_of_a_request_are_not_repeated() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: my-app}
spec:
  hosts: [a.example]
  http:
  - match: [{headers: {authorization: {exact: nobody}}}]
    directResponse: {status: 200}
";
    std::fs::write(folder.path().join("a.yaml"), text).expect("a file");
    let flags = [
        "--request",
        "http://a.example/",
        "-H",
        "authorization: Bearer sesame",
    ];
    let (code, out, err) = explain(folder.path().to_str().expect("UTF-8"), &flags).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("a value that is not shown"), "{out}");
    assert!(!out.contains("sesame"), "{out}");
    assert!(out.contains("404 Not Found"), "{out}");
}

#[tokio::test]
async fn yaml_says_the_same_as_json_and_a_channel_is_asked_by_its_target() {
    let flags = [
        "--request",
        "/items",
        "--channel",
        "catalog.my-app.svc.cluster.local",
    ];
    let json = json(CANARY, &flags).await;
    assert_eq!(
        json["virtual_host"]["name"],
        "catalog.my-app.svc.cluster.local:80"
    );
    let flags: Vec<&str> = flags.iter().copied().chain(["-o", "yaml"]).collect();
    let (_, yaml, _) = explain(CANARY, &flags).await;
    assert!(
        yaml.contains("name: catalog.my-app.svc.cluster.local:80")
            || yaml.contains("name: \"catalog.my-app.svc.cluster.local:80\""),
        "{yaml}"
    );
}

#[tokio::test]
async fn wrong_arguments_and_faults_of_the_folder_are_told_apart() {
    for (flags, why) in [
        (&["--request", "G{T http://a"][..], "is no method"),
        (
            &["--request", "http://a", "-H", "x"],
            "expected NAME: VALUE",
        ),
        (
            &["--request", "http://a", "--channel", "a/b"],
            "it is not a host",
        ),
        (&[], "--request"),
    ] {
        let (code, _, err) = explain(CANARY, flags).await;
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(why), "{err}");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("a.yaml"), "a: [").expect("a file");
    let path = folder.path().to_str().expect("UTF-8");
    let (code, _, err) = explain(path, &["--request", "http://a"]).await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("a.yaml:1"), "{err}");
}

const PAYMENT: &str = "apiVersion: v1
kind: Service
metadata: {name: payment, namespace: my-app}
spec: {selector: {app: payment}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: payment-1, namespace: my-app, labels: {app: payment, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: payment-sa, containers: [{name: payment}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: payment, namespace: my-app, labels: {kubernetes.io/service-name: payment}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: payment-1, namespace: my-app}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: restrict-payment, namespace: my-app}
spec:
  selector: {matchLabels: {app: payment}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/my-app/sa/order-sa]}}]
    to: [{operation: {methods: [POST]}}]
";

#[tokio::test]
async fn tls_and_what_the_servers_policies_say_are_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("payment.yaml"), PAYMENT).expect("a file");
    let path = folder.path().to_str().expect("UTF-8");
    let (_, out, err) = explain(path, &["--request", "POST http://payment/pay"]).await;
    for part in [
        "secured     to endpoints that speak it mutual TLS as the mesh",
        "spiffe://cluster.local/ns/my-app/sa/payment-sa",
        "server pod my-app/payment-1 at port 8080 (PERMISSIVE), asked in mutual TLS, allows it: ",
        "policy[restrict-payment]",
        "payment.yaml:",
    ] {
        assert!(out.contains(part), "{part}\n{out}\n{err}");
    }
    let denied = json(path, &["--request", "GET http://payment/pay"]).await;
    let server = &denied["servers"][0];
    assert_eq!(server["allowed"], false);
    assert_eq!(
        server["why"],
        "there are policies that allow, and none allows this"
    );
    let security = denied["outcomes"][0]["forward"]["security"].as_str();
    assert!(
        security.is_some_and(|text| text.contains("mutual TLS")),
        "{denied}"
    );
}

/// Pods of two subsets; the route leads to the second of them, whose port has a name, and changes what is asked.
const SUBSETS: &str = "
mesh: {trustDomain: td}
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: my-app}
spec: {selector: {app: shop}, ports: [{name: http, port: 80, targetPort: web}]}
---
apiVersion: v1
kind: Pod
metadata: {name: shop-1, namespace: my-app, labels: {app: shop, version: v1, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: shop-sa, containers: [{name: shop}]}
---
apiVersion: v1
kind: Pod
metadata: {name: shop-2, namespace: my-app, labels: {app: shop, version: v2, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: shop-sa, containers: [{name: shop}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop, namespace: my-app, labels: {kubernetes.io/service-name: shop}}
addressType: IPv4
ports: [{name: http, port: 8443}]
endpoints:
- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: shop-1, namespace: my-app}}
- {addresses: [10.0.0.2], targetRef: {kind: Pod, name: shop-2, namespace: my-app}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop, namespace: my-app}
spec: {host: shop, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: my-app}
spec:
  hosts: [shop]
  http: [{headers: {request: {set: {x-role: admin}}}, route: [{destination: {host: shop, subset: v2}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: admins, namespace: my-app}
spec:
  rules:
  - from: [{source: {principals: [td/ns/my-app/sa/order-sa]}}]
    to: [{operation: {ports: ['8443']}}]
    when: [{key: 'request.headers[x-role]', values: [admin]}]
";

#[tokio::test]
async fn servers_are_asked_as_they_would_be_by_the_route_the_port_and_the_identity() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("shop.yaml"), SUBSETS).expect("a file");
    let path = folder.path().to_str().expect("UTF-8");
    let explained = json(path, &["--request", "GET http://shop/"]).await;
    let servers = explained["servers"].as_array().expect("servers");
    assert_eq!(
        servers.len(),
        1,
        "the first subset is not called: {explained:#}"
    );
    let server = &servers[0];
    assert_eq!(server["workload"], "pod my-app/shop-2");
    assert_eq!(server["port"], 8443, "that of the endpoint");
    assert_eq!(server["spoken"], "mutual TLS");
    assert_eq!(server["allowed"], true, "{server:#}");
}

const EDGE: &str = "
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: edge}
spec:
  selector: {istio: edge}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.shop.test'], tls: {httpsRedirect: true}}
  - port: {number: 443, name: www, protocol: HTTPS}
    hosts: [www.shop.test]
    tls: {mode: SIMPLE, serverCertificate: /crt, privateKey: /key}
  - port: {number: 443, name: any, protocol: HTTPS}
    hosts: ['*.shop.test']
    tls: {mode: SIMPLE, serverCertificate: /crt, privateKey: /key}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: www, namespace: shop}
spec:
  hosts: [www.shop.test, admin.shop.test]
  gateways: [edge/edge, mesh]
  http:
  - match: [{uri: {prefix: /inside}, gateways: [mesh]}]
    directResponse: {status: 418}
  - route: [{destination: {host: catalog}}]
";

#[tokio::test]
async fn a_gateway_is_asked_as_its_envoys_would_answer() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("edge.yaml"), EDGE).expect("a file");
    let path = folder.path().to_str().expect("UTF-8").to_owned();
    let ask = async |url: &str, gateway: &str| {
        let request = format!("GET {url}");
        let args = [
            "explain",
            &path,
            "--gateway",
            gateway,
            "--request",
            &request,
        ];
        let output = run(&args).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    for (url, parts) in [
        (
            "https://www.shop.test/inside",
            &[
                "virtual host www.shop.test:443",
                "outbound|80||catalog.shop.svc.cluster.local",
            ][..],
        ),
        (
            "https://admin.shop.test/",
            &["virtual host admin.shop.test:443"],
        ),
        (
            "http://www.shop.test/a",
            &["301", "https://www.shop.test/a"],
        ),
        ("https://other.shop.test/", &["404"]),
    ] {
        let (code, told) = ask(url, "edge/edge").await;
        assert_eq!(code, Some(0), "{url}: {told}");
        for part in parts {
            assert!(told.contains(part), "{url}: {part}\n{told}");
        }
    }
    let (code, told) = ask("https://www.shop.test/", "edge/nobody").await;
    assert_eq!(code, Some(1));
    assert!(told.contains("there is no Gateway edge/nobody"), "{told}");
}
