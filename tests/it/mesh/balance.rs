//! How requests are spread over endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use meshwork::model::Resources;
use meshwork::model::affinity::{Session, SessionCookie, SessionKey};
use meshwork::model::balancing::{PeakEwma, WeightedRoundRobin};
use meshwork::model::cluster::{Balancing, LoadMetric, Protocol};
use meshwork::model::endpoint::Locality;
use meshwork::model::matcher::RouteMatcher;
use meshwork::model::reported::ReportedMetric;
use meshwork::source::Publisher;
use meshwork::source::istio::{Options, compile, read};
use meshwork::{Body, CallOptions, Mesh, Workload};
use tokio_stream::StreamExt as _;

use super::world::{Plan, World, all_to, call, cluster, forward, get, route, text, weighted};

/// A service `catalog` with endpoints (port, locality) and a traffic policy, for a client in
/// region `eu`, zone `a`.
fn istio(endpoints: &[(u16, &str)], policy: &str) -> Resources {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(port, locality)| {
            format!("{{address: 10.0.0.{port}, ports: {{http: {port}}}, locality: {locality}}}")
        })
        .collect();
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: catalog, namespace: my-app}}\nspec:\n  hosts: [catalog.example]\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  \
         endpoints: [{}]\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: catalog, namespace: my-app}}\nspec:\n  host: catalog.example\n  \
         trafficPolicy: {policy}\n",
        endpoints.join(", ")
    );
    let options = Options::default();
    let read = read([("catalog.yaml", text)], &options);
    assert!(read.faults.is_empty(), "{}", read.faults);
    let client = Workload::new("my-app", "order-sa").with_locality(Locality {
        region: "eu".into(),
        zone: "a".into(),
        sub_zone: "".into(),
    });
    compile(&read.objects, &client, &options).resources
}

fn near(ports: &[u16]) -> Vec<(u16, &'static str)> {
    ports.iter().map(|port| (*port, "eu/a")).collect()
}

fn named(ports: impl Iterator<Item = u16>) -> World {
    let world = World::default();
    ports.for_each(|port| world.named(port));
    world
}

async fn ask(mesh: &Mesh, request: Request<Body>) -> String {
    call(mesh, request).await.unwrap().1
}

/// How many of `count` calls each port got.
async fn spread(mesh: &Mesh, count: u32) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    for _ in 0..count {
        let port = ask(mesh, get("http://catalog.example/")).await;
        *found.entry(port).or_default() += 1;
    }
    found
}

// === Localities and priorities ===

#[tokio::test(start_paused = true)]
async fn f12_an_ejected_region_hands_over_and_gets_its_traffic_back() {
    let world = named(1..=2);
    let sick = Arc::new(AtomicBool::new(false));
    let state = sick.clone();
    world.serve(1, move |_| {
        let sick = state.load(Ordering::Relaxed);
        async move {
            let mut response = text("1");
            *response.status_mut() = if sick { 503 } else { 200 }.try_into().unwrap();
            response
        }
    });
    let policy = "{outlierDetection: {consecutive5xxErrors: 2, interval: 1s, \
                  baseEjectionTime: 10s, maxEjectionPercent: 100}}";
    let resources = istio(&[(1, "eu/a"), (2, "us/a")], policy);
    let (mesh, _publisher) = world.mesh(resources).await;
    assert_eq!(spread(&mesh, 20).await.keys().collect::<Vec<_>>(), ["1"]);
    sick.store(true, Ordering::Relaxed);
    spread(&mesh, 2).await;
    assert_eq!(spread(&mesh, 20).await.keys().collect::<Vec<_>>(), ["2"]);
    sick.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(spread(&mesh, 20).await.keys().collect::<Vec<_>>(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn failover_prefers_the_written_region_and_labels() {
    let all = [(1, "us/a"), (2, "asia/a"), (3, "asia/b")];
    for (setting, expected) in [
        ("{failover: [{from: eu, to: asia}]}", &["2", "3"][..]),
        ("{failover: [{from: eu, to: us}]}", &["1"]),
        (
            "{failoverPriority: ['topology.kubernetes.io/zone=b']}",
            &["3"],
        ),
        ("{enabled: false}", &["1", "2", "3"]),
    ] {
        let policy =
            format!("{{outlierDetection: {{}}, loadBalancer: {{localityLbSetting: {setting}}}}}");
        let world = named(1..=3);
        let (mesh, _publisher) = world.mesh(istio(&all, &policy)).await;
        let found = spread(&mesh, 60).await;
        assert_eq!(found.keys().collect::<Vec<_>>(), expected, "{setting}");
    }
}

#[tokio::test(start_paused = true)]
async fn localities_get_the_shares_that_are_distributed() {
    let policy = "{loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {distribute: \
                  [{from: 'us/*', to: {us: 100}}, {from: 'eu/*', to: {'eu/a': 70, 'eu/*': 30}}]}}}";
    let world = named(1..=4);
    let all = [(1, "eu/a"), (2, "eu/b"), (3, "eu/c"), (4, "us/a")];
    let (mesh, _publisher) = world.mesh(istio(&all, policy)).await;
    let found = spread(&mesh, 4_000).await;
    assert!(found["1"].abs_diff(2_800) < 120, "{found:?}");
    assert!(
        found["2"].abs_diff(600) < 100 && found["3"].abs_diff(600) < 100,
        "{found:?}"
    );
    assert_eq!(found.get("4"), None, "not named");
}

// === Hashes ===

fn hashed(key: &str) -> String {
    format!("{{loadBalancer: {{consistentHash: {{{key}}}}}}}")
}

async fn hashing(key: &str) -> (Mesh, (World, Publisher)) {
    let world = named(1..=5);
    let resources = istio(&near(&[1, 2, 3, 4, 5]), &hashed(key));
    let (mesh, publisher) = world.mesh(resources).await;
    (mesh, (world, publisher))
}

fn with(name: &'static str, value: &str) -> Request<Body> {
    let mut request = get("http://catalog.example/?user=fixed");
    let value = HeaderValue::from_str(value).unwrap();
    request
        .headers_mut()
        .insert(HeaderName::from_static(name), value);
    request
}

#[tokio::test(start_paused = true)]
async fn one_key_has_one_endpoint_and_keys_spread() {
    for algorithm in [
        "ringHash: {minimumRingSize: 2048}",
        "maglev: {tableSize: 1009}",
    ] {
        let (header, _keep) = hashing(&format!("httpHeaderName: x-user, {algorithm}")).await;
        let (query, _keep) = hashing(&format!("httpQueryParameterName: user, {algorithm}")).await;
        let mut ports = BTreeSet::new();
        for user in 0..50 {
            let user = user.to_string();
            let port = ask(&header, with("x-user", &user)).await;
            for _ in 0..3 {
                assert_eq!(ask(&header, with("x-user", &user)).await, port);
                let uri = format!("http://catalog.example/items?a=b&user={user}&user=x");
                assert_eq!(
                    ask(&query, get(&uri)).await,
                    port,
                    "the same value, the same hash"
                );
                let mut own = with("x-user", "another");
                own.extensions_mut()
                    .insert(CallOptions::new().hash_key(&user));
                assert_eq!(ask(&header, own).await, port);
            }
            ports.insert(port);
        }
        assert_eq!(ports.len(), 5);
        let found = spread(&header, 100).await;
        assert_eq!(found.len(), 5, "without a key an endpoint is drawn");
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_has_one_endpoint_by_its_address() {
    let (mesh, _keep) = hashing("useSourceIp: true").await;
    assert_eq!(spread(&mesh, 50).await.len(), 1);
    let mut ports = BTreeSet::new();
    for last in 0..20 {
        let (publisher, feed) =
            meshwork::source::feed(istio(&near(&[1, 2, 3]), &hashed("useSourceIp: true")));
        let world = named(1..=3);
        let mesh = Mesh::builder()
            .feed(feed)
            .connector(world)
            .address([10, 1, 0, last].into())
            .start()
            .await
            .unwrap();
        ports.extend(spread(&mesh, 3).await.into_keys());
        drop(publisher);
    }
    assert_eq!(ports.len(), 3, "other addresses have others");
}

#[tokio::test(start_paused = true)]
async fn a_missing_cookie_is_made_and_leads_back() {
    let key = "httpCookie: {name: user, ttl: 60s, path: /, attributes: \
               [{name: SameSite, value: Strict}]}";
    let (mesh, _keep) = hashing(key).await;
    let mut ports = BTreeSet::new();
    for _ in 0..30 {
        let response = mesh
            .client()
            .request(get("http://catalog.example/"))
            .await
            .unwrap();
        let made = response.headers()[SET_COOKIE].to_str().unwrap().to_owned();
        let port = response.into_body().collect().await.unwrap().to_bytes();
        assert!(
            made.ends_with("; Max-Age=60; Path=/; SameSite=Strict; HttpOnly"),
            "{made}"
        );
        let (cookie, _) = made.split_once(';').unwrap();
        let mut request = get("http://catalog.example/");
        request
            .headers_mut()
            .insert(COOKIE, cookie.parse().unwrap());
        let response = mesh.client().request(request).await.unwrap();
        assert_eq!(response.headers().get(SET_COOKIE), None);
        let again = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(again, port);
        ports.insert(port);
    }
    assert_eq!(ports.len(), 5);
}

/// A session survives a change of the weights, and ends when its endpoint is gone.
#[tokio::test(start_paused = true)]
async fn a_session_stays_with_its_endpoint_and_cluster() {
    let world = named(1..=6);
    let mut all = forward(weighted(&[("v1", 50), ("v2", 50)]));
    let cookie = SessionCookie {
        cookie: "at".into(),
        path: Some("/shop".into()),
        ttl: Duration::from_secs(60),
    };
    all.affinity.session = Some(Session::from(SessionKey::Cookie(cookie)));
    let plan = |ports: &[u16]| {
        Plan::default()
            .cluster(cluster("v1", Protocol::Http1), ports)
            .cluster(cluster("v2", Protocol::Http1), &[4, 5, 6])
            .host(
                "catalog.example",
                vec![route("all", RouteMatcher::everything(), all.clone())],
            )
            .build()
    };
    let (mesh, publisher) = world.mesh(plan(&[1, 2, 3])).await;
    let send = |path: &str, cookie: &str| {
        let mut request = get(&format!("http://catalog.example{path}"));
        request
            .headers_mut()
            .insert(COOKIE, cookie.parse().unwrap());
        let mesh = mesh.clone();
        async move {
            let response = mesh.client().request(request).await.unwrap();
            let made = response.headers().get(SET_COOKIE);
            let made = made.map(|made| made.to_str().unwrap().to_owned());
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (String::from_utf8(body.to_vec()).unwrap(), made)
        }
    };
    // "10.0.0.1:2;v1"
    let cookie = "at=\"MTAuMC4wLjE6Mjt2MQ==\"";
    for _ in 0..20 {
        assert_eq!(send("/shop/cart", cookie).await, ("2".to_owned(), None));
    }
    let mut elsewhere = BTreeSet::new();
    for _ in 0..100 {
        elsewhere.insert(send("/other", cookie).await.0);
    }
    assert_eq!(elsewhere.len(), 6, "the cookie is not for that path");
    publisher.publish(plan(&[1, 3])).await.unwrap();
    let (port, made) = send("/shop", cookie).await;
    let made = made.unwrap();
    assert_ne!(port, "2");
    assert!(
        made.ends_with("; Max-Age=60; Path=/shop; HttpOnly"),
        "{made}"
    );
    let (fresh, _) = made.split_once(';').unwrap();
    for _ in 0..20 {
        assert_eq!(send("/shop", fresh).await, (port.clone(), None));
    }
}

// === Slow start, latency, reports, subsets ===

#[tokio::test(start_paused = true)]
async fn f10_a_new_endpoint_is_warmed_up() {
    for simple in ["ROUND_ROBIN", "LEAST_REQUEST"] {
        let policy = format!(
            "{{loadBalancer: {{simple: {simple}, \
             warmup: {{duration: 60s, minimumPercent: 20, aggression: 1}}}}}}"
        );
        let world = named(1..=5);
        let (mesh, publisher) = world.mesh(istio(&near(&[1, 2, 3, 4]), &policy)).await;
        tokio::time::sleep(Duration::from_secs(100)).await;
        publisher
            .publish(istio(&near(&[1, 2, 3, 4, 5]), &policy))
            .await
            .unwrap();
        for (seconds, part) in [(0, 0.2), (30, 0.5), (31, 1.0)] {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            let found = spread(&mesh, 3_000).await["5"];
            let expected = 3_000.0 * part / (4.0 + part);
            assert!(
                (f64::from(found) - expected).abs() < 60.0,
                "{simple} {part}: {found}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f4_peak_ewma_leaves_a_slow_endpoint() {
    let world = named(1..=10);
    world.serve(1, |_| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        text("1")
    });
    let mut model = cluster("v1", Protocol::Http1);
    model.balancing = Balancing::PeakEwma(PeakEwma::default());
    let plan = Plan::default()
        .cluster(model, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
        .host("catalog.example", vec![all_to("v1")]);
    let (mesh, _publisher) = world.mesh(plan.build()).await;
    spread(&mesh, 100).await;
    let found = spread(&mesh, 1_000).await;
    assert!(found.get("1").copied().unwrap_or(0) <= 20, "{found:?}");
    assert_eq!(found.keys().filter(|port| *port != "1").count(), 9);
}

#[tokio::test(start_paused = true)]
async fn f14_reported_loads_become_weights() {
    let world = World::default();
    for (port, used) in [(1, "0.2"), (2, "0.8")] {
        world.serve(port, move |_| async move {
            let mut response = text(port.to_string());
            let report = format!("TEXT cpu_utilization={used}, rps_fractional=100");
            let report = report.parse().unwrap();
            response
                .headers_mut()
                .insert("endpoint-load-metrics", report);
            response
        });
    }
    let mut model = cluster("v1", Protocol::Http1);
    model.balancing = Balancing::WeightedRoundRobin(WeightedRoundRobin::default());
    let plan = Plan::default()
        .cluster(model, &[1, 2])
        .host("catalog.example", vec![all_to("v1")]);
    let (mesh, _publisher) = world.mesh(plan.build()).await;
    assert!(spread(&mesh, 100).await["1"].abs_diff(50) <= 1);
    tokio::time::sleep(Duration::from_secs(11)).await;
    spread(&mesh, 2).await;
    let found = spread(&mesh, 1_000).await;
    assert!(found["1"].abs_diff(800) <= 5, "{found:?}");
}

/// gRPC A114: the largest of the metrics that are asked for, before what else is reported. The reports
/// are added up for the control plane as well.
#[tokio::test(start_paused = true)]
async fn f14_metrics_that_are_asked_for_become_weights() {
    let world = World::default();
    for (port, disk) in [(1, "0.2"), (2, "0.8")] {
        world.serve(port, move |_| async move {
            let mut response = text(port.to_string());
            let report = format!(
                "TEXT utilization.disk={disk}, named_metrics.queue=0.1, cpu_utilization=0.5, \
                 rps_fractional=100"
            );
            let headers = response.headers_mut();
            headers.insert("endpoint-load-metrics", report.parse().unwrap());
            response
        });
    }
    let mut model = cluster("v1", Protocol::Http1);
    let asked = ["named_metrics.queue", "utilization.disk"];
    model.balancing = Balancing::WeightedRoundRobin(WeightedRoundRobin {
        utilization: asked
            .iter()
            .map(|name| ReportedMetric::parse(name).unwrap())
            .collect(),
        ..WeightedRoundRobin::default()
    });
    model.load_metrics = vec![LoadMetric::AllNamed];
    let plan = Plan::default()
        .cluster(model, &[1, 2])
        .host("catalog.example", vec![all_to("v1")]);
    let (mesh, _publisher) = world.mesh(plan.build()).await;
    assert!(spread(&mesh, 100).await["1"].abs_diff(50) <= 1);
    tokio::time::sleep(Duration::from_secs(11)).await;
    spread(&mesh, 2).await;
    let found = spread(&mesh, 1_000).await;
    assert!(found["1"].abs_diff(800) <= 5, "{found:?}");
}

/// What an endpoint with this utilization says at 100 requests per second, in a gRPC frame.
fn told(used: f64) -> Bytes {
    let mut frame = vec![0, 0, 0, 0, 18];
    for (field, value) in [(1, used), (6, 100.0)] {
        frame.push(field << 3 | 1);
        frame.extend_from_slice(&f64::to_le_bytes(value));
    }
    frame.into()
}

/// The first two tell it on a stream of their own, the third does not know that service; what
/// responses say does not count.
#[tokio::test(start_paused = true)]
async fn f14_loads_that_are_reported_out_of_band_become_weights() {
    let world = World::default();
    let asked: [Arc<AtomicUsize>; 3] = Default::default();
    for (port, used, asked) in [
        (1, 0.2, &asked[0]),
        (2, 0.8, &asked[1]),
        (3, 0.1, &asked[2]),
    ] {
        let asked = asked.clone();
        world.serve(port, move |request| {
            let asked = asked.clone();
            async move {
                let path = request.uri().path();
                if path != "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics" {
                    let mut response = text(port.to_string());
                    let report = "TEXT cpu_utilization=0.01, rps_fractional=100";
                    let headers = response.headers_mut();
                    headers.insert("endpoint-load-metrics", report.parse().unwrap());
                    return response;
                }
                asked.fetch_add(1, Relaxed);
                let question = request.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(&*question, [0, 0, 0, 0, 4, 0x0a, 2, 0x08, 10]);
                if port == 3 {
                    let mut response = text(String::new());
                    response
                        .headers_mut()
                        .insert("grpc-status", "12".parse().unwrap());
                    return response;
                }
                // Once, and then nothing for as long as the stream lives.
                let first = tokio_stream::once(Ok::<_, Infallible>(Frame::data(told(used))));
                let stream = first.chain(tokio_stream::pending());
                http::Response::new(Body::new(StreamBody::new(stream)))
            }
        });
    }
    let mut model = cluster("v1", Protocol::Http2);
    model.balancing = Balancing::WeightedRoundRobin(WeightedRoundRobin {
        out_of_band: Some(Duration::from_secs(10)),
        ..WeightedRoundRobin::default()
    });
    let plan = Plan::default()
        .cluster(model, &[1, 2, 3])
        .host("catalog.example", vec![all_to("v1")]);
    let (mesh, publisher) = world.mesh(plan.build()).await;
    // Nobody was called yet, and all but the third are known when the blackout is over.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let found = spread(&mesh, 1_000).await;
    // 500 and 125 requests per utilization; who tells nothing has their mean (A58).
    let expected = [("1", 533), ("2", 133), ("3", 333)];
    for (port, expected) in expected {
        assert!(found[port].abs_diff(expected) <= 5, "{found:?}");
    }
    let times = || asked.each_ref().map(|asked| asked.load(Relaxed));
    assert_eq!(
        times(),
        [1, 1, 1],
        "who does not know the service is left alone"
    );
    // An edit of the others leaves a stream alone; it ends when nobody wants reports any more.
    let plan = Plan::default()
        .cluster(cluster("v1", Protocol::Http2), &[1, 2])
        .host("catalog.example", vec![all_to("v1")]);
    publisher.publish(plan.build()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    spread(&mesh, 10).await;
    assert_eq!(times(), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn f13_a_client_uses_only_its_subset() {
    let world = named(1..=40);
    let mut model = cluster("v1", Protocol::Http1);
    model.spread.subset = NonZeroU32::new(5);
    let ports: Vec<u16> = (1..=40).collect();
    let plan = Plan::default()
        .cluster(model, &ports)
        .host("catalog.example", vec![all_to("v1")]);
    let (mesh, _publisher) = world.mesh(plan.build()).await;
    assert_eq!(spread(&mesh, 200).await.len(), 5);
    let dialled = ports.iter().filter(|port| world.dials(**port) > 0);
    assert_eq!(dialled.count(), 5);
}
