//! The documents of the article whose YAML this crate follows.

use std::time::Duration;

use meshwork::model::cluster::{Balancing, Discovery, Protocol};
use meshwork::model::limit::RetryLimit;
use meshwork::model::matcher::{HeaderKey, HeaderTest, StringMatcher};
use meshwork::model::retry::Backoff;
use meshwork::model::route::Domain;
use meshwork::source::istio::{Ejection, Options};

use super::*;

const CANARY: &str = r#"
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: catalog
  namespace: my-app
spec:
  hosts:
    - catalog
  http:
    - match:
        - headers:
            x-canary:
              exact: "true"
      route:
        - destination:
            host: catalog
            subset: v2
    - route:
        - destination:
            host: catalog
            subset: v1
          weight: 90
        - destination:
            host: catalog
            subset: v2
          weight: 10
"#;

const RULE: &str = r#"
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata:
  name: catalog
  namespace: my-app
spec:
  host: catalog
  trafficPolicy:
    connectionPool:
      tcp:
        maxConnections: 100
      http:
        http1MaxPendingRequests: 50
        maxRequestsPerConnection: 10
    outlierDetection:
      consecutive5xxErrors: 3
      interval: 30s
      baseEjectionTime: 30s
  subsets:
    - name: v1
      labels:
        version: v1
    - name: v2
      labels:
        version: v2
"#;

const RESILIENCE: &str = r#"
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: catalog
  namespace: my-app
spec:
  hosts:
    - catalog
  http:
    - route:
        - destination:
            host: catalog
            subset: v1
      retries:
        attempts: 3
        perTryTimeout: 2s
        retryOn: connect-failure,reset,5xx
      timeout: 5s
"#;

const ORDER: &str = r#"
apiVersion: v1
kind: Service
metadata:
  name: order
  namespace: my-app
spec:
  selector:
    app: order
  ports:
    - name: http
      port: 80
      targetPort: 8080
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: order
  namespace: my-app
spec:
  hosts: [order]
  http:
    - route:
        - destination: {host: order, subset: v1}
      retries: {attempts: 2, perTryTimeout: 1s}
      timeout: 3s
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata:
  name: order
  namespace: my-app
spec:
  host: order
  trafficPolicy:
    outlierDetection:
      consecutive5xxErrors: 3
      interval: 30s
      baseEjectionTime: 30s
  subsets:
    - name: v1
      labels: {version: v1}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: order
  namespace: my-app
spec:
  replicas: 3
  selector:
    matchLabels: {app: order}
  template:
    metadata:
      labels: {app: order, version: v1}
    spec:
      containers:
        - name: order
          ports:
            - containerPort: 8080
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: order-x1
  namespace: my-app
  labels: {kubernetes.io/service-name: order}
addressType: IPv4
ports:
  - {name: http, port: 8080}
endpoints:
  - {addresses: [10.1.0.1], targetRef: {kind: Pod, name: order-5d4f-aaaaa}}
  - {addresses: [10.1.0.2], targetRef: {kind: Pod, name: order-5d4f-bbbbb}}
  - {addresses: [10.1.0.3], targetRef: {kind: Pod, name: order-5d4f-ccccc}}
"#;

#[test]
fn canary_header_goes_to_v2_and_the_rest_is_split_90_to_10() {
    let compiled = compiled(&[&catalog(), CANARY, RULE]);
    assert!(compiled.faults.is_empty(), "{}", compiled.faults);
    let routes = routes(&compiled.resources, &format!("outbound|80||{CATALOG}"));
    assert_eq!(routes.len(), 2);
    let v1 = format!("outbound|80|v1|{CATALOG}");
    let v2 = format!("outbound|80|v2|{CATALOG}");

    let header = &routes[0].matcher.headers[0];
    assert_eq!(
        header.key,
        HeaderKey::Field(http::HeaderName::from_static("x-canary"))
    );
    let exact = StringMatcher::Exact("true".into());
    assert_eq!(header.test, HeaderTest::Value(exact));
    assert_eq!(destinations(&routes[0]), [(&*v2, 1)]);
    assert!(routes[1].matcher.is_everything());
    assert_eq!(destinations(&routes[1]), [(&*v1, 90), (&*v2, 10)]);

    for route in routes {
        let forward = forward(route);
        assert_eq!(forward.timeout, None);
        let retry = forward.retry.as_ref().unwrap();
        assert_eq!(retry.retries, 2, "Istio's default");
        assert!(retry.on.connect_failure && !retry.on.server_error);
    }
    let to_v2 = |headers| taken(routes, "/", headers).map(|route| destinations(route).len());
    assert_eq!(to_v2(&[("x-canary", "true")]), Some(1));
    assert_eq!(to_v2(&[("x-canary", "True")]), Some(2));
}

#[test]
fn canary_routes_have_the_line_of_their_http_entry() {
    let compiled = compiled(&[&catalog(), CANARY, RULE]);
    let routes = routes(&compiled.resources, &format!("outbound|80||{CATALOG}"));
    let origins: Vec<_> = routes
        .iter()
        .map(|route| route.origin.to_string())
        .collect();
    assert_eq!(
        origins,
        [
            "1.yaml:11 (virtualservice my-app/catalog)",
            "1.yaml:19 (virtualservice my-app/catalog)"
        ]
    );
    assert_eq!(&*routes[0].name, "my-app/catalog/http[0]");
}

#[test]
fn canary_rule_gives_three_clusters_with_limits_and_outlier_detection() {
    let resources = resources(&[&catalog(), CANARY, RULE]);
    let names: Vec<&str> = resources.clusters.keys().map(|name| &**name).collect();
    let name = |subset: &str| format!("outbound|80|{subset}|{CATALOG}");
    assert_eq!(names, [&*name("v1"), &*name("v2"), &*name("")]);
    for cluster in resources.clusters.values() {
        assert_eq!(cluster.limits.connections, 100);
        assert_eq!(cluster.limits.pending, 50);
        assert_eq!(cluster.limits.requests, u32::MAX);
        assert_eq!(cluster.limits.retries, RetryLimit::Budget);
        assert_eq!(cluster.connection.max_requests.unwrap().get(), 10);
        assert_eq!(cluster.panic_threshold.value(), 0);
        assert_eq!(cluster.connect_timeout, Duration::from_secs(10));
        assert_eq!(cluster.protocol, Protocol::Http1);
        assert_eq!(cluster.balancing, Balancing::LeastRequest);
        assert_eq!(
            cluster.discovery,
            Discovery::Endpoints(cluster.name.clone())
        );
        let outlier = cluster.outlier.as_ref().unwrap();
        assert_eq!(outlier.consecutive_5xx.unwrap().get(), 3);
        assert_eq!(outlier.consecutive_gateway, None);
        assert_eq!(outlier.interval, Duration::from_secs(30));
        assert_eq!(outlier.base_ejection_time, Duration::from_secs(30));
        assert_eq!(outlier.max_ejection_time, Duration::from_secs(300));
        assert_eq!(outlier.max_ejection.value(), 10);
        assert!(outlier.always_eject_one);
    }
    assert_eq!(addresses(&resources, &name("")).len(), 3);
    assert_eq!(
        addresses(&resources, &name("v1")),
        ["10.0.0.1:8080", "10.0.0.2:8080"]
    );
    assert_eq!(addresses(&resources, &name("v2")), ["10.0.0.3:8080"]);
}

#[test]
fn envoy_ejection_keeps_istios_cap_and_warns_that_three_endpoints_never_eject() {
    let options = Options {
        ejection: Ejection::Envoy,
        ..Options::default()
    };
    let compiled = compiled_as(&order(), &options, &[&catalog(), CANARY, RULE]);
    let whole = cluster(&compiled.resources, &format!("outbound|80||{CATALOG}"));
    assert!(!whole.outlier.as_ref().unwrap().always_eject_one);
    assert_warns(&compiled, "M050", "never ejects: 10 % of 3 endpoints");
}

#[test]
fn canary_without_a_service_has_a_virtual_host_on_port_80_and_no_cluster() {
    let compiled = compiled(&[CANARY]);
    let resources = &compiled.resources;
    assert!(resources.clusters.is_empty());
    let configuration = &resources.routes["80"];
    let owner = owner(configuration, CATALOG);
    assert_eq!(owner, Some(&*format!("{CATALOG}:80")));
    assert!(resources.listeners.contains_key(&*format!("{CATALOG}:80")));
    assert_warns(
        &compiled,
        "IST0101",
        "no service has the host catalog.my-app.svc",
    );
    assert_warns(
        &compiled,
        "IST0101",
        "10 % of these requests are answered with 503",
    );
}

#[test]
fn resilience_retries_three_times_within_five_seconds() {
    let compiled = compiled(&[&catalog(), RESILIENCE, RULE]);
    let routes = routes(&compiled.resources, &format!("outbound|80||{CATALOG}"));
    let forward = forward(&routes[0]);
    assert_eq!(forward.timeout, Some(Duration::from_secs(5)));
    let retry = forward.retry.as_ref().unwrap();
    assert_eq!(retry.retries, 3);
    assert_eq!(retry.per_try_timeout, Some(Duration::from_secs(2)));
    assert!(retry.on.connect_failure && retry.on.reset && retry.on.server_error);
    assert!(retry.on.statuses.is_empty() && retry.on.grpc.is_empty());
    assert_eq!(retry.backoff, Backoff::default());
    assert!(retry.avoid_previous);
    assert_warns(
        &compiled,
        "M064",
        "4 tries of 2s do not fit into the timeout of 5s",
    );
    assert_warns(
        &compiled,
        "M065",
        "5xx contains connect-failure, reset already",
    );
    assert_warns(&compiled, "M066", "repeats POST and PATCH too");
}

#[test]
fn order_has_port_80_and_endpoints_on_8080_with_labels_of_its_deployment() {
    let compiled = compiled(&[ORDER]);
    assert!(compiled.faults.is_empty(), "{}", compiled.faults);
    let host = "order.my-app.svc.cluster.local";
    let resources = &compiled.resources;
    assert!(resources.listeners.contains_key(&*format!("{host}:80")));
    let v1 = format!("outbound|80|v1|{host}");
    assert_eq!(
        addresses(resources, &v1),
        ["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080"]
    );
    let configuration = &resources.routes["80"];
    let host = &configuration.virtual_hosts[0];
    assert!(host.domains.contains(&Domain::Exact("order".into())));
    assert!(host.domains.contains(&Domain::Exact("order:80".into())));
    let forward = forward(&host.routes[0]);
    assert_eq!(forward.timeout, Some(Duration::from_secs(3)));
    let retry = forward.retry.as_ref().unwrap();
    assert_eq!(
        (retry.retries, retry.per_try_timeout),
        (2, Some(Duration::from_secs(1)))
    );
    assert_eq!(retry.on.grpc, [14, 1], "no retryOn: Istio's default list");
    assert_eq!(destinations(&host.routes[0]), [(&*v1, 1)]);
    assert!(cluster(resources, &v1).outlier.is_some());
}
