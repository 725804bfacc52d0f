use envoy_types::pb::envoy::config::core::v3::Node as WireNode;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind as Said};
use prost::Message as _;

use super::*;
use crate::source::istio::read;

/// A service that gRPC can be served, and a rule that no dialect of it can say whole.
const MESH: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: catalog, namespace: my-app}
spec:
  hosts: [catalog.my-app.svc.cluster.local]
  ports: [{number: 80, name: grpc, protocol: GRPC}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {grpc: 9001}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: catalog, namespace: my-app}
spec:
  hosts: [catalog.my-app.svc.cluster.local]
  http:
  - match: [{sourceLabels: {app: order}, uri: {prefix: /a}}, {queryParams: {a: {exact: b}}}]
    timeout: 3s
    route: [{destination: {host: catalog.my-app.svc.cluster.local}}]
  - route: [{destination: {host: catalog.my-app.svc.cluster.local}}]
";

fn content() -> Content {
    let read = read([("mesh.yaml", MESH)], &Options::default());
    assert!(!read.faults.has_errors(), "{}", read.faults);
    Content::default().with_objects(read.objects, Options::default())
}

fn text(text: &str) -> Value {
    Value {
        kind: Some(Said::StringValue(text.into())),
    }
}

fn labelled(labels: &[(&str, &str)]) -> Node {
    let fields = |pairs: &[(&str, &str)]| {
        let fields = pairs
            .iter()
            .map(|(key, value)| (key.to_string(), text(value)));
        Struct {
            fields: fields.collect(),
        }
    };
    let mut metadata = fields(&[("NAMESPACE", "my-app")]);
    let labels = Value {
        kind: Some(Said::StructValue(fields(labels))),
    };
    metadata.fields.insert("LABELS".into(), labels);
    let wire = WireNode {
        id: "client".into(),
        metadata: Some(metadata),
        ..WireNode::default()
    };
    Node::read(wire, None).expect("nothing contradicts it")
}

#[tokio::test]
async fn equal_resources_of_different_views_are_held_once_also_after_an_edit() {
    let store = Store::new();
    store.publish(content());
    let [order, cart] = ["order", "cart"].map(|app| labelled(&[("app", app)]));
    let ours = store.snapshot(&order).await;
    let theirs = store.snapshot(&cart).await;
    let same = |kind: Kind, one: &Snapshot, other: &Snapshot| {
        let mut all = one.resources(kind).zip(other.resources(kind));
        assert!(one.len(kind) > 0, "{kind}");
        all.all(|(one, other)| Arc::ptr_eq(one, other))
    };
    for kind in [Kind::Cluster, Kind::Endpoints, Kind::Listener] {
        assert!(same(kind, &ours, &theirs), "{kind}");
    }
    assert!(
        !same(Kind::Routes, &ours, &theirs),
        "they have other routes"
    );
    store.publish(content());
    let later = store.snapshot(&cart).await;
    for kind in [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Routes] {
        assert!(same(kind, &later, &theirs), "{kind}");
    }
}

#[tokio::test]
async fn what_a_dialect_cannot_say_is_told_once_for_all_views_and_contents() {
    let store = Store::new();
    store.publish(content());
    store.snapshot(&labelled(&[("app", "order")])).await;
    let generation = store.shared.current.borrow().clone();
    let told = generation.workshop.told.all();
    assert!(
        told.iter()
            .any(|text| text.contains("the route is left out")),
        "{told:?}"
    );
    // None of these is new to it, and so none is logged again.
    assert!(
        told.iter()
            .all(|text| !generation.workshop.told.is_new(text))
    );
    store.publish(content());
    let generation = store.shared.current.borrow().clone();
    store
        .snapshot(&labelled(&[("app", "order"), ("pod", "2")]))
        .await;
    assert_eq!(
        store.views(),
        0,
        "both are made anew when they are asked for"
    );
    assert_eq!(generation.workshop.told.all(), told);
}

#[test]
fn views_are_bounded_by_who_has_them() {
    let generation = Generation::new(1, content());
    let key = |app: &str| generation.key(&labelled(&[("app", app)]));
    let one = generation.joined(&key("a"), 2).expect("the first");
    let two = generation.joined(&key("b"), 2).expect("the second");
    assert!(generation.joined(&key("c"), 2).is_none());
    let again = generation.joined(&key("a"), 2).expect("it is there");
    assert!(Arc::ptr_eq(&one, &again));
    drop(two);
    assert!(generation.joined(&key("c"), 2).is_some());
}

/// Envoy waits for the routes of its listeners before it opens any.
#[tokio::test]
async fn a_listener_of_the_command_line_has_routes_whether_a_service_has_its_port_or_not() {
    let store = Store::new();
    let egress = ["127.0.0.1:1=80", "127.0.0.1:2=81"].map(|text| text.parse().expect("one"));
    store.publish(content().with_egress(egress));
    let snapshot = store.snapshot(&labelled(&[]).speaking("envoy")).await;
    let hosts = |name: &str| {
        let routes = snapshot.get(Kind::Routes, name).expect("its routes");
        let routes = RouteConfiguration::decode(routes.body()).expect("it decodes");
        assert_eq!(routes.name, name);
        routes.virtual_hosts.len()
    };
    assert_eq!((hosts("80"), hosts("81")), (1, 0));
    let grpc = store.snapshot(&labelled(&[])).await;
    assert!(grpc.get(Kind::Routes, "81").is_none());
}

/// Each of these reads a label of its own.
const SELECTORS: &str = "
apiVersion: v1
kind: Service
metadata: {name: stock, namespace: my-app}
spec: {selector: {service: x}, ports: [{name: grpc, port: 80, targetPort: 9090}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: catalog, namespace: my-app}
spec:
  host: catalog.my-app.svc.cluster.local
  workloadSelector: {matchLabels: {rule: x}}
  trafficPolicy: {connectionPool: {http: {maxRetries: 7}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: far, namespace: my-app}
spec:
  host: far.my-app.svc.cluster.local
  trafficPolicy:
    outlierDetection: {}
    loadBalancer: {localityLbSetting: {failoverPriority: [near]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: far, namespace: my-app}
spec:
  hosts: [far.my-app.svc.cluster.local]
  ports: [{number: 80, name: grpc, protocol: GRPC}]
  resolution: STATIC
  endpoints:
  - {address: 127.0.0.1, ports: {grpc: 9001}, labels: {near: x}}
  - {address: 127.0.0.2, ports: {grpc: 9001}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: stock, namespace: my-app}
spec: {selector: {matchLabels: {policy: x}}, action: DENY, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: stock, namespace: my-app}
spec: {selector: {matchLabels: {peer: x}}, mtls: {mode: STRICT}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: narrow, namespace: my-app}
spec: {workloadSelector: {labels: {sidecar: x}}, egress: [{hosts: [./none.example]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: my-app}
spec:
  selector: {gateway: x}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]
";
const SELECTED: &[&str] = &[
    "app", "gateway", "near", "peer", "policy", "rule", "service", "sidecar",
];

/// A view is that of all labels, whatever part of them is in its key.
#[tokio::test]
async fn only_labels_that_something_reads_are_in_a_key_and_they_all_are() {
    let text = format!("{MESH}---{SELECTORS}");
    let read = read([("mesh.yaml", &*text)], &Options::default());
    assert!(!read.faults.has_errors(), "{}", read.faults);
    let content = Content::default().with_objects(read.objects, Options::default());
    let generation = Generation::new(1, content);
    let all = |node: &Node| Key::whole(&generation.content, node);
    let nobody = labelled(&[]);
    for one in SELECTED.iter().chain(&["pod-template-hash"]) {
        for other in SELECTED {
            let value = |key: &str| if key == "app" { "order" } else { "x" };
            let pairs = [(*one, value(one)), (*other, value(other)), ("pod", "1")];
            for agent in ["gRPC Go", "envoy"] {
                let node = labelled(&pairs).speaking(agent);
                let key = generation.key(&node);
                assert_ne!(key, all(&node), "{pairs:?}");
                let make = |key: &Key| {
                    let before = Snapshot::default();
                    view::make(&generation.content, key, &before, &generation.workshop)
                };
                let (ours, whole) = (make(&key), make(&all(&node)));
                for kind in Kind::ALL {
                    assert_eq!(ours.version(kind), whole.version(kind), "{pairs:?} {kind}");
                }
                let door = "xds.istio.io/grpc/lds/inbound/0.0.0.0:9090";
                let of = |snapshot: &Snapshot| {
                    snapshot.get(Kind::Listener, door).map(|found| found.hash())
                };
                assert_eq!(of(&ours), of(&whole), "{pairs:?}");
            }
        }
        let (node, another) = (labelled(&[(one, "x")]), labelled(&[(one, "y")]));
        let same = generation.key(&node) == generation.key(&another);
        assert_eq!(same, !SELECTED.contains(one), "{one}");
        assert_ne!(generation.key(&node), generation.key(&nobody), "{one}");
    }
}
