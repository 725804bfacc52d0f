use super::*;
use crate::source::istio::{Options, compile, read};
use crate::source::xds::grpc::{Call, passes, tls_of};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: my-app}
spec:
  selector: {app: catalog}
  ports: [{name: grpc, port: 8080, targetPort: 9090}]
---
apiVersion: v1
kind: Service
metadata: {name: order, namespace: my-app}
spec:
  selector: {app: order}
  ports: [{name: grpc, port: 80}, {name: http-more, port: 81}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: DISABLE}}
";

fn doors(policies: &str, workload: &Workload) -> Doors {
    let options = Options::default();
    let text = format!("{SERVICES}{policies}");
    let read = read([("mesh.yaml", &*text)], &options);
    assert!(!read.faults.has_errors(), "{}", read.faults);
    let compiled = compile(&read.objects, workload, &options);
    let content = Content::default().with_objects(read.objects, options);
    Doors::new(&content, (workload, false), &compiled.resources)
}

fn listener(doors: &Doors, address: &str) -> Option<listener::Listener> {
    let name = format!("{PREFIX}{address}");
    let found = doors.listener(&name, address)?;
    assert_eq!(&**found.name(), name);
    let message = listener::Listener::decode(found.body()).expect("a listener");
    assert_eq!(message.name, name);
    Some(message)
}

fn catalog() -> Workload {
    Workload::new("my-app", "x").label("app", "catalog")
}

#[test]
fn a_server_gets_a_listener_for_the_target_ports_of_its_services() {
    let doors = doors("", &catalog());
    let found = listener(&doors, "10.0.0.1:9090").expect("a listener");
    assert!(passes(&found, &Call::default()) && tls_of(&found).is_none());
    assert!(listener(&doors, "[::1]:9090").is_some());
    assert!(
        listener(&doors, "10.0.0.1:8080").is_none(),
        "not the port of clients"
    );
    assert!(
        listener(&doors, "10.0.0.1:80").is_none(),
        "of another service"
    );
    assert!(listener(&doors, "nonsense").is_none());
}

#[test]
fn a_target_port_by_name_is_the_number_that_the_slices_of_its_service_have() {
    const NAMED: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: stock, namespace: my-app}
spec:
  selector: {app: stock}
  ports: [{name: grpc, port: 80, targetPort: api}, {name: http, port: 81, targetPort: web}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: stock-1, namespace: my-app, labels: {kubernetes.io/service-name: stock}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}]
ports: [{name: grpc, port: 9191}, {name: other, port: 9292}]
";
    let of = |service: &str| {
        let text = NAMED.replace("service-name: stock", &format!("service-name: {service}"));
        doors(&text, &Workload::new("my-app", "x").label("app", "stock"))
    };
    let stock = of("stock");
    assert!(listener(&stock, "10.0.0.1:9191").is_some());
    for other in ["10.0.0.1:80", "10.0.0.1:9292"] {
        assert!(listener(&stock, other).is_none(), "{other}");
    }
    assert!(
        listener(&of("order"), "10.0.0.1:9191").is_none(),
        "of another service"
    );
}

#[test]
fn a_server_without_labels_may_be_of_any_service_of_its_namespace() {
    let plain = self::doors("", &Workload::new("my-app", "x"));
    let found = listener(&plain, "0.0.0.0:80").expect("a listener");
    assert!(passes(&found, &Call::default()) && plain.closed().is_empty());
    let elsewhere = self::doors("", &Workload::new("other", "x"));
    assert!(listener(&elsewhere, "0.0.0.0:80").is_none());
}

#[test]
fn policies_that_may_be_meant_for_a_server_without_labels_close_it() {
    const POLICY: &str = "
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: NAMESPACE}
spec:
  selector: {matchLabels: {app: catalog}}
";
    for (namespace, closed) in [("my-app", true), ("istio-system", true), ("other", false)] {
        let policy = POLICY.replace("NAMESPACE", namespace);
        let doors = doors(&policy, &Workload::new("my-app", "x"));
        let found = listener(&doors, "0.0.0.0:80").expect("a listener");
        assert_eq!(!passes(&found, &Call::default()), closed, "{namespace}");
        assert_eq!(!doors.closed().is_empty(), closed);
        for text in doors.closed() {
            assert!(text.contains("nobody") && text.contains("LABELS"), "{text}");
        }
        let order = Workload::new("my-app", "x").label("app", "order");
        let other = self::doors(&policy, &order);
        let found = listener(&other, "0.0.0.0:80").expect("a listener");
        assert!(
            passes(&found, &Call::default()),
            "it says that it is another"
        );
    }
}

#[test]
fn peer_authentication_and_policies_of_the_view_are_in_the_listener() {
    const STRICT: &str = "
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: my-app}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: order-only, namespace: my-app}
spec:
  selector: {matchLabels: {app: catalog}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/my-app/sa/order]}}]
    to: [{operation: {paths: [/pkg.Stock/*]}}]
";
    let doors = doors(STRICT, &catalog().label(TLS_MODE, "istio"));
    let found = listener(&doors, "0.0.0.0:9090").expect("a listener");
    assert!(tls_of(&found).is_some());
    let of = |account: &str, path: &str| Call {
        identity: Some(format!("spiffe://cluster.local/ns/my-app/sa/{account}")),
        path: path.into(),
        ..Call::default()
    };
    assert!(passes(&found, &of("order", "/pkg.Stock/Get")));
    assert!(!passes(&found, &of("order", "/pkg.Other/Get")));
    assert!(!passes(&found, &of("orders", "/pkg.Stock/Get")));
    assert!(!passes(&found, &Call::default()), "plain text");
    assert_eq!(doors.lost().count(), 0);
}

#[test]
fn policies_of_one_port_are_of_that_port() {
    const PORT: &str = "
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: one-port, namespace: my-app}
spec:
  action: DENY
  rules: [{to: [{operation: {ports: ['80']}}]}]
";
    let order = Workload::new("my-app", "x").label("app", "order");
    let doors = doors(PORT, &order);
    let passes = |address: &str| {
        let found = listener(&doors, address).expect("a listener");
        self::passes(&found, &Call::default())
    };
    assert!(!passes("0.0.0.0:80"));
    assert!(passes("0.0.0.0:81"));
}
