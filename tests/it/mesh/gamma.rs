//! Routes of the Gateway API, from YAML to answers.

use http::Request;
use meshwork::source::istio::{Options, compile, read};
use meshwork::{Body, Mesh, Workload};

use super::world::{World, call, get};

/// Two services in the namespace `shop`, whose only endpoints listen on 1 and 2.
const SERVICES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: v1, namespace: shop}
spec:
  hosts: [v1.shop.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1, ports: {http: 1}}]
---
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: catalog-1, namespace: shop, labels: {kubernetes.io/service-name: catalog}}
addressType: IPv4
ports: [{name: http, port: 2}]
endpoints: [{addresses: [10.0.0.1]}]
";

async fn mesh(world: &World, routes: &str) -> (Mesh, meshwork::source::Publisher) {
    let options = Options::default();
    let read = read([("mesh.yaml", format!("{SERVICES}---{routes}"))], &options);
    assert!(!read.faults.has_errors(), "{}", read.faults);
    let client = Workload::new("shop", "order-sa");
    world
        .mesh(compile(&read.objects, &client, &options).resources)
        .await
}

#[tokio::test(start_paused = true)]
async fn http_route_splits_matches_and_answers_the_share_of_a_missing_backend() {
    let world = World::default();
    (1..=2).for_each(|port| world.named(port));
    let routes = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: catalog, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: catalog}]
  rules:
  - matches: [{path: {value: /items}}]
    backendRefs:
    - {name: catalog, port: 80, weight: 50}
    - {group: networking.istio.io, kind: Hostname, name: v1.shop.svc.cluster.local, port: 80, weight: 30}
    - {name: missing, port: 80, weight: 20}
  - matches: [{path: {value: /items}, headers: [{name: x-canary, value: 'true'}]}]
    backendRefs: [{name: catalog, port: 80}]
";
    let (mesh, _publisher) = mesh(&world, routes).await;
    let (mut one, mut two, mut lost) = (0_i32, 0_i32, 0_i32);
    for _ in 0..10_000 {
        match call(&mesh, get("http://catalog/items/7")).await.unwrap() {
            (200, body) if body == "1" => one += 1,
            (200, body) if body == "2" => two += 1,
            (500, body) if body.is_empty() => lost += 1,
            other => panic!("{other:?}"),
        }
    }
    // Three sigma of 10,000 draws are at most 150.
    for (found, expected) in [(one, 3_000), (two, 5_000), (lost, 2_000)] {
        assert!((found - expected).abs() <= 150, "{one} {two} {lost}");
    }
    for _ in 0..50 {
        let mut request = get("http://catalog/items");
        let canary = "true".parse().unwrap();
        request.headers_mut().insert("x-canary", canary);
        assert_eq!(call(&mesh, request).await.unwrap(), (200, "2".to_owned()));
    }
    let error = call(&mesh, get("http://catalog/itemsx")).await.unwrap_err();
    assert_eq!(error.status(), 404, "no rule takes it: {error}");
}

#[tokio::test(start_paused = true)]
async fn grpc_route_without_a_backend_is_unavailable() {
    let world = World::default();
    world.named(2);
    let routes = "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: catalog, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: catalog, port: 80}]
  rules:
  - matches: [{method: {service: shop.v1.Catalog, method: List}}]
    backendRefs: [{name: missing, port: 80}]
  - backendRefs: [{name: catalog, port: 80}]
";
    let (mesh, _publisher) = mesh(&world, routes).await;
    let request = |path: &str| {
        Request::post(format!("http://catalog{path}"))
            .header("content-type", "application/grpc")
            .body(Body::empty())
            .unwrap()
    };
    let client = mesh.client();
    let lost = client
        .request(request("/shop.v1.Catalog/List"))
        .await
        .unwrap();
    assert_eq!(lost.headers()["grpc-status"], "14");
    let found = client
        .request(request("/shop.v1.Catalog/Get"))
        .await
        .unwrap();
    assert!(
        found.headers().get("grpc-status").is_none(),
        "the backend answered"
    );
}

#[tokio::test(start_paused = true)]
async fn replaced_prefix_and_header_reach_the_backend() {
    let world = World::default();
    world.serve(2, |request| async move {
        let seen = format!(
            "{} {:?}",
            request.uri().path(),
            request.headers().get("x-from")
        );
        super::world::text(seen)
    });
    let routes = "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: HTTPRoute
metadata: {name: catalog, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: catalog}]
  rules:
  - matches: [{path: {value: /api}}]
    filters:
    - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-from, value: '5%'}]}}
    backendRefs: [{name: catalog, port: 80}]
";
    let (mesh, _publisher) = mesh(&world, routes).await;
    for (path, expected) in [("/api/items", "/items"), ("/api", "/"), ("/api?q=1", "/")] {
        let (_, body) = call(&mesh, get(&format!("http://catalog{path}")))
            .await
            .unwrap();
        assert_eq!(body, format!("{expected} Some(\"5%\")"), "{path}");
    }
}
