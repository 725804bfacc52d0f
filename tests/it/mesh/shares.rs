//! What a region, a key or a report is worth in requests, and where a delegate's go.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use meshwork::model::Resources;
use meshwork::model::affinity::{HashPolicy, HashSource};
use meshwork::model::balancing::{LoadBound, RingHash, WeightedRoundRobin};
use meshwork::model::cluster::{Balancing, Cluster, Protocol};
use meshwork::model::endpoint::{HASH_KEY, Locality};
use meshwork::source::istio::{Options, compile, read};
use meshwork::{Body, Mesh, Workload};
use tokio::sync::Notify;

use super::world::{Plan, World, all_to, answer, call, cluster, get, one, settle, text};

/// What a client in region `eu`, zone `a`, is told by a folder.
fn told(yaml: String) -> Resources {
    let options = Options::default();
    let read = read([("mesh.yaml", yaml)], &options);
    assert!(read.faults.is_empty(), "{}", read.faults);
    let client = Workload::new("my-app", "order-sa").with_locality(Locality {
        region: "eu".into(),
        zone: "a".into(),
        sub_zone: "".into(),
    });
    compile(&read.objects, &client, &options).resources
}

/// A host of endpoints, each a port and a region.
fn host(name: &str, endpoints: impl Iterator<Item = (u16, &'static str)>) -> String {
    let endpoints: Vec<_> = endpoints
        .map(|(port, region)| {
            format!("{{address: 10.0.0.{port}, ports: {{http: {port}}}, locality: {region}}}")
        })
        .collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: {name}, namespace: my-app}}\nspec:\n  hosts: [{name}.example]\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  \
         endpoints: [{}]\n---\n",
        endpoints.join(", ")
    )
}

fn policy(text: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: catalog, namespace: my-app}}\nspec:\n  host: catalog.example\n  \
         trafficPolicy: {text}\n---\n"
    )
}

/// How many of `count` calls each port got.
async fn spread(mesh: &Mesh, count: u32) -> BTreeMap<u16, u32> {
    let mut found = BTreeMap::new();
    for _ in 0..count {
        let (_, port) = call(mesh, get("http://catalog.example/")).await.unwrap();
        *found.entry(port.parse().unwrap_or(0)).or_default() += 1;
    }
    found
}

/// A slice of one pod, of the service that is also its own host.
fn slice(name: &str, family: &str, address: &str, port: u16) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}-{port}, namespace: my-app, \
         labels: {{kubernetes.io/service-name: search}}}}\naddressType: {family}\n\
         ports: [{{name: http, port: {port}}}]\nendpoints:\n\
         - {{addresses: ['{address}'], targetRef: {{kind: Pod, name: {name}}}}}\n---\n"
    )
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_both_families_has_one_share_and_two_ways_to_it() {
    let world = World::default();
    // At the first address of one pod nobody listens.
    [2, 101].into_iter().for_each(|port| world.named(port));
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: search, namespace: my-app}\n\
                   spec: {ports: [{name: http, port: 80}], ipFamilies: [IPv4, IPv6]}\n---\n";
    let slices = [
        slice("a", "IPv4", "10.0.0.1", 1),
        slice("a", "IPv6", "fd00::1", 101),
        slice("b", "IPv4", "10.0.0.2", 2),
    ];
    let (mesh, _publisher) = world
        .mesh(told(service.to_owned() + &slices.concat()))
        .await;
    let mut found: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..400 {
        let uri = "http://search.my-app.svc.cluster.local/";
        let (_, port) = call(&mesh, get(uri)).await.unwrap();
        *found.entry(port).or_default() += 1;
    }
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found["101"].abs_diff(200) < 60, "{found:?}");
    assert!(world.dials(1) > 0, "the first family is dialled first");
    let mut addresses: Vec<_> = mesh.stats().clusters[0].endpoints.clone();
    addresses.sort_by(|one, other| one.address.cmp(&other.address));
    let addresses: Vec<_> = addresses.iter().map(|one| &*one.address).collect();
    assert_eq!(addresses, ["10.0.0.1:1,[fd00::1]:101", "10.0.0.2:2"]);
}

/// Half of a region times 1.4 are 70 %: so much it keeps, and the rest goes to the next one.
#[tokio::test(start_paused = true)]
async fn f12_a_region_that_is_half_out_keeps_seventy_percent() {
    let world = World::default();
    (1..=5).for_each(|port| world.status(port, 503));
    (6..=20).for_each(|port| world.named(port));
    let region = |port: u16| (port, if port <= 10 { "eu/a" } else { "us/a" });
    let policy = policy(
        "{outlierDetection: {consecutive5xxErrors: 1, interval: 100s, baseEjectionTime: 1000s, \
         maxEjectionPercent: 100}}",
    );
    let resources = told(host("catalog", (1..=20).map(region)) + &policy);
    let (mesh, _publisher) = world.mesh(resources).await;
    // Until each that is sick was met once.
    spread(&mesh, 200).await;
    let found = spread(&mesh, 4_000).await;
    let kept: u32 = (6..=10).map(|port| found[&port]).sum();
    assert!(kept.abs_diff(2_800) < 150, "{found:?}");
    assert_eq!(found.len(), 15, "those that are well, in both regions");
}

/// Eight requests with one key among four endpoints: with a bound of 125 % none has more than
/// three of them, without one a single endpoint has all.
#[tokio::test(start_paused = true)]
async fn requests_with_one_key_leave_an_endpoint_that_is_at_its_bound() {
    let ring = RingHash::new(1_024, 8_192).unwrap();
    let bounded = ring.bounded(LoadBound::new(125).unwrap());
    for (ring, most) in [(ring, 8), (bounded, 3)] {
        let world = World::default();
        let held = Arc::new(Notify::new());
        let under_way: [Arc<AtomicUsize>; 4] = Default::default();
        for (port, own) in (1..).zip(&under_way) {
            let (held, own) = (held.clone(), own.clone());
            world.serve(port, move |_| {
                own.fetch_add(1, Ordering::Relaxed);
                let held = held.clone();
                async move {
                    held.notified().await;
                    text("done")
                }
            });
        }
        let policy = policy("{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}");
        let mut resources = told(host("catalog", (1..=4).map(|port| (port, "eu/a"))) + &policy);
        for cluster in resources.clusters.values_mut() {
            Arc::make_mut(cluster).balancing = Balancing::RingHash(ring);
        }
        let (mesh, _publisher) = world.mesh(resources).await;
        let mut calls = Vec::new();
        for _ in 0..8 {
            let mut request = get("http://catalog.example/");
            let key = HeaderValue::from_static("ann");
            request.headers_mut().insert("x-user", key);
            let mesh = mesh.clone();
            calls.push(tokio::spawn(async move { call(&mesh, request).await }));
            settle().await;
        }
        let counts = under_way.each_ref().map(|one| one.load(Ordering::Relaxed));
        assert_eq!(counts.iter().sum::<usize>(), 8);
        assert_eq!(counts.iter().max(), Some(&most), "{counts:?}");
        held.notify_waiters();
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap().0, 200);
        }
    }
}

/// Endpoints with this label at these ports, the first with the key of 0.
fn keyed(label: &str, first: u16) -> Resources {
    let ring = Cluster {
        balancing: Balancing::RingHash(RingHash::new(1_024, 8_192).unwrap()),
        ..cluster("c", Protocol::Http1)
    };
    let ports: Vec<u16> = (first..first + 5).collect();
    let mut resources = one(ring, &ports, |forward| {
        forward.affinity.hash = vec![HashPolicy {
            source: HashSource::Header(http::HeaderName::from_static("x-user")),
            terminal: false,
        }];
    });
    for endpoints in resources.endpoints.values_mut() {
        for locality in &mut Arc::make_mut(endpoints).localities {
            let numbered = locality.endpoints.iter().cloned().zip(0..);
            let labelled = numbered.map(|(mut endpoint, number)| {
                let labels = [(label.into(), format!("key {number}").into())];
                endpoint.labels = Arc::new(labels.into());
                endpoint
            });
            let labelled: Vec<_> = labelled.collect();
            locality.endpoints = labelled.into();
        }
    }
    resources
}

/// The ports that answer fifty users.
async fn owners(mesh: &Mesh) -> Vec<u16> {
    let mut owners = Vec::new();
    for user in 0..50 {
        let mut request = get("http://catalog/");
        let key = HeaderValue::try_from(format!("user {user}")).unwrap();
        request.headers_mut().insert("x-user", key);
        owners.push(call(mesh, request).await.unwrap().1.parse().unwrap());
    }
    owners
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_moves_keeps_the_requests_of_its_hash_key() {
    let world = World::default();
    (1..=15).for_each(|port| world.named(port));
    let (mesh, publisher) = world.mesh(keyed(HASH_KEY, 1)).await;
    let before = owners(&mesh).await;
    assert!((1..=5).all(|port| before.contains(&port)), "{before:?}");
    publisher.publish(keyed(HASH_KEY, 11)).await.unwrap();
    let moved: Vec<u16> = before.iter().map(|port| port + 10).collect();
    assert_eq!(owners(&mesh).await, moved);
}

/// A label of a workload is not what a control plane says.
#[tokio::test(start_paused = true)]
async fn a_label_that_is_called_hash_key_changes_nothing() {
    let world = World::default();
    (1..=5).for_each(|port| world.named(port));
    let (mesh, publisher) = world.mesh(keyed("hash_key", 1)).await;
    let labelled = owners(&mesh).await;
    publisher.publish(keyed("other", 1)).await.unwrap();
    assert_eq!(owners(&mesh).await, labelled, "by their addresses");
    publisher.publish(keyed(HASH_KEY, 1)).await.unwrap();
    assert_ne!(owners(&mesh).await, labelled);
}

/// What a response says of its endpoint's load behind its body (gRFC A51).
#[tokio::test(start_paused = true)]
async fn f14_loads_in_trailers_become_weights() {
    let world = World::default();
    for (port, used) in [(1, "0.2"), (2, "0.8")] {
        world.serve(port, move |_| async move {
            let report = format!("TEXT cpu_utilization={used}, rps_fractional=100");
            let report = HeaderValue::try_from(report).unwrap();
            let trailers = HeaderMap::from_iter([(
                http::HeaderName::from_static("endpoint-load-metrics"),
                report,
            )]);
            let frames = [
                Frame::data(Bytes::from(port.to_string())),
                Frame::trailers(trailers),
            ];
            let stream = tokio_stream::iter(frames.map(Ok::<_, Infallible>));
            Response::new(Body::new(StreamBody::new(stream)))
        });
    }
    let mut model = cluster("v1", Protocol::Http2);
    model.balancing = Balancing::WeightedRoundRobin(WeightedRoundRobin::default());
    let plan = Plan::default()
        .cluster(model, &[1, 2])
        .host("catalog.example", vec![all_to("v1")]);
    let (mesh, _publisher) = world.mesh(plan.build()).await;
    assert!(spread(&mesh, 100).await[&1].abs_diff(50) <= 1);
    tokio::time::sleep(Duration::from_secs(11)).await;
    spread(&mesh, 2).await;
    let found = spread(&mesh, 1_000).await;
    assert!(found[&1].abs_diff(800) <= 5, "{found:?}");
}

/// The root's match and the delegate's have to hold together, and the delegate's routes come in the
/// root's place.
#[tokio::test(start_paused = true)]
async fn requests_go_where_the_delegate_of_their_route_sends_them() {
    let world = World::default();
    (1..=2).for_each(|port| world.named(port));
    world.serve(3, |_| async { answer(404) });
    let hosts: String = [("catalog", 1), ("items", 2), ("rest", 3)]
        .map(|(name, port)| host(name, [(port, "eu/a")].into_iter()))
        .concat();
    let route = |to: &str| format!("route: [{{destination: {{host: {to}.example}}}}]");
    let services = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: catalog, namespace: my-app}}\nspec:\n  hosts: [catalog.example]\n  http:\n  \
         - match: [{{uri: {{prefix: /items}}}}]\n    delegate: {{name: items}}\n  - {}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: items, namespace: my-app}}\nspec:\n  http:\n  \
         - match: [{{uri: {{prefix: /items/old}}}}]\n    {}\n  - {}\n",
        route("catalog"),
        route("rest"),
        route("items"),
    );
    let (mesh, _publisher) = world.mesh(told(hosts + &services)).await;
    for (path, status, body) in [
        ("/", 200, "1"),
        ("/items/new", 200, "2"),
        ("/items", 200, "2"),
        ("/items/old/1", 404, ""),
    ] {
        let answered = call(&mesh, get(&format!("http://catalog.example{path}"))).await;
        assert_eq!(answered.unwrap(), (status, body.to_owned()), "{path}");
    }
}
