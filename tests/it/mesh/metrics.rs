//! What is measured, as Prometheus would read it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::BodyExt;
use meshwork::model::cluster::Protocol;
use meshwork::model::endpoint::Endpoints;
use meshwork::model::fault::{Abort, AbortStatus, Amount, Fault};
use meshwork::model::matcher::{PathMatcher, RouteMatcher};
use meshwork::model::route::Destinations;
use meshwork::model::{Fraction, Resources};
use meshwork::{Body, Mesh, Random, Workload, source};

use super::world::{
    Fed, Plan, World, all_to, answer, call, cluster, forward, get, millis, one, retries, route,
    settle, text, to,
};

/// One line of the text.
#[derive(Debug, PartialEq)]
pub(super) struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Reads the text as strictly as Prometheus does: one head for each family, samples after their
/// head, no sample twice.
pub(super) fn read(text: &str) -> Vec<Sample> {
    let (mut heads, mut kind, mut seen) = (BTreeSet::new(), String::new(), BTreeSet::new());
    let (mut family, mut samples) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap().to_owned();
            assert!(heads.insert(family.clone()), "two heads: {line}");
            continue;
        }
        if let Some(told) = line.strip_prefix("# TYPE ") {
            kind = told.strip_prefix(&format!("{family} ")).unwrap().to_owned();
            continue;
        }
        assert!(
            seen.insert(line.rsplit_once(' ').unwrap().0.to_owned()),
            "twice: {line}"
        );
        let sample = sample(line);
        let base = match kind.as_str() {
            "histogram" => sample.name.rsplit_once('_').unwrap().0,
            _ => &sample.name,
        };
        assert_eq!(base, family, "{line}");
        samples.push(sample);
    }
    samples
}

fn sample(line: &str) -> Sample {
    let (name, value) = line.rsplit_once(' ').expect(line);
    let (name, labels) = match name.split_once('{') {
        None => (name, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}').expect(line)),
    };
    // No label of these tests has a comma and a quote in its value.
    let labels = labels.split_terminator("\",").map(|pair| {
        let (label, text) = pair.split_once("=\"").expect(line);
        (label.to_owned(), text.trim_end_matches('"').to_owned())
    });
    Sample {
        name: name.to_owned(),
        labels: labels.collect(),
        value: value.parse().expect(line),
    }
}

/// The sum of all samples of this name with these labels.
pub(super) fn sum(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |sample: &&Sample| {
        let label = |(key, value): &(&str, &str)| {
            sample.labels.get(*key).is_some_and(|found| found == value)
        };
        sample.name == name && labels.iter().all(label)
    };
    samples.iter().filter(has).map(|sample| sample.value).sum()
}

fn requests(mesh: &Mesh, labels: &[(&str, &str)]) -> f64 {
    sum(&read(&mesh.metrics()), "istio_requests_total", labels)
}

#[tokio::test(start_paused = true)]
async fn every_way_in_which_a_request_ends_is_counted_with_its_code_and_flags() {
    let world = World::default();
    world.named(1);
    world.status(2, 503);
    world.hung(3);
    world.broken(4);
    let mut aborted = all_to("ok");
    aborted.fault = Some(Fault {
        delay: None,
        abort: Some(Abort {
            status: Amount::Fixed(AbortStatus::Http(http::StatusCode::GONE)),
            share: Fraction::ONE,
        }),
        max_active: None,
    });
    let mut plan = Plan::default();
    for (name, ports) in [
        ("ok", &[1][..]),
        ("bad", &[2]),
        ("slow", &[3]),
        ("cut", &[4]),
    ] {
        plan = plan.cluster(cluster(name, Protocol::Http1), ports);
    }
    plan = plan
        .cluster(cluster("dead", Protocol::Http1), &[9])
        .cluster(cluster("empty", Protocol::Http1), &[])
        .host("ok", vec![all_to("ok")])
        .host(
            "bad",
            vec![to("bad", |to| to.retry = Some(retries(1, None)))],
        )
        .host(
            "slow",
            vec![to("slow", |to| to.timeout = Some(millis(100)))],
        )
        .host("cut", vec![all_to("cut")])
        .host("dead", vec![all_to("dead")])
        .host("empty", vec![all_to("empty")])
        .host("missing", vec![all_to("missing")])
        .host("nowhere", vec![])
        .host("aborted", vec![aborted]);
    let (mesh, _publisher) = world.mesh(plan.build()).await;
    for host in [
        "ok", "bad", "slow", "cut", "dead", "empty", "missing", "nowhere", "aborted",
    ] {
        let _ = call(&mesh, get(&format!("http://{host}/"))).await;
    }
    // A caller who does not wait.
    tokio::select! {
        biased;
        _ = call(&mesh, get("http://slow/")) => panic!("it hangs"),
        () = settle() => {}
    }
    for (service, code, flags) in [
        ("ok", "200", "-"),
        ("bad", "503", "URX"),
        ("slow", "504", "UT"),
        ("slow", "0", "DC"),
        ("cut", "503", "UC"),
        ("dead", "503", "UF"),
        ("empty", "503", "UH"),
        ("unknown", "503", "NC"),
        ("unknown", "404", "NR"),
        ("ok", "410", "FI"),
    ] {
        let labels = [
            ("destination_service", service),
            ("response_code", code),
            ("response_flags", flags),
            ("reporter", "source"),
            ("request_protocol", "http"),
        ];
        assert_eq!(
            requests(&mesh, &labels),
            1.0,
            "{labels:?}\n{}",
            mesh.metrics()
        );
    }
    assert_eq!(requests(&mesh, &[]), 10.0);
}

#[tokio::test(start_paused = true)]
async fn durations_end_with_the_last_byte_and_bytes_are_those_of_bodies() {
    let world = World::default();
    world.serve(1, |request| async {
        request.into_body().collect().await.unwrap();
        let (sender, body) = Fed::body();
        tokio::spawn(async move {
            for _ in 0..3 {
                tokio::time::sleep(millis(100)).await;
                let frame = Frame::data("0123456789".into());
                sender.send(Ok(frame)).await.unwrap();
            }
        });
        http::Response::new(body)
    });
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http2), &[1], |_| {}))
        .await;
    // A body of known length and one whose length nobody knows.
    let whole = Request::post("http://catalog/").body(Body::from("12345"));
    call(&mesh, whole.unwrap()).await.unwrap();
    let (sender, body) = Fed::body();
    sender.send(Ok(Frame::data("123".into()))).await.unwrap();
    sender.send(Ok(Frame::data("4567".into()))).await.unwrap();
    drop(sender);
    let stream = Request::post("http://catalog/").body(body);
    call(&mesh, stream.unwrap()).await.unwrap();
    let samples = read(&mesh.metrics());
    let found = |name: &str| sum(&samples, name, &[("destination_service", "c")]);
    assert_eq!(found("istio_request_bytes_sum"), 12.0);
    assert_eq!(found("istio_response_bytes_sum"), 60.0);
    assert_eq!(found("istio_request_duration_milliseconds_count"), 2.0);
    let sum_of = found("istio_request_duration_milliseconds_sum");
    assert!((600.0..610.0).contains(&sum_of), "{sum_of}");
    let bucket = "istio_request_duration_milliseconds_bucket";
    for (bound, count) in [("250", 0.0), ("500", 2.0), ("+Inf", 2.0)] {
        assert_eq!(sum(&samples, bucket, &[("le", bound)]), count, "{bound}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_of_grpc_comes_from_head_or_trailers() {
    let world = World::default();
    world.serve(1, |request| async move {
        if request.uri().path() == "/head" {
            let mut response = answer(200);
            response
                .headers_mut()
                .insert("grpc-status", "7".parse().unwrap());
            return response;
        }
        let (sender, body) = Fed::body();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        sender.send(Ok(Frame::data("x".into()))).await.unwrap();
        sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
        http::Response::new(body)
    });
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http2), &[1], |_| {}))
        .await;
    let ask = |host: &str, path: &str| {
        let request = Request::post(format!("http://{host}{path}"));
        let request = request.header("content-type", "application/grpc");
        request.body(Body::empty()).unwrap()
    };
    for path in ["/head", "/trailers"] {
        call(&mesh, ask("catalog", path)).await.unwrap();
    }
    world.remove(1);
    world.broken(1);
    call(&mesh, ask("catalog", "/broken")).await.unwrap_err();
    let metrics = mesh.metrics();
    for status in ["PERMISSION_DENIED", "OK", "UNAVAILABLE"] {
        let name = "grpc_client_call_duration_seconds_count";
        let labels =
            format!("{{grpc_method=\"other\",grpc_status=\"{status}\",grpc_target=\"c\"}} 1");
        assert!(
            metrics.contains(&format!("{name}{labels}")),
            "{status}: {metrics}"
        );
    }
    let bucket = "grpc_client_call_duration_seconds_bucket{grpc_method=\"other\",grpc_status=\"OK\",\
                  grpc_target=\"c\",le=\"0.0005\"}";
    assert!(metrics.contains(bucket), "{metrics}");
    for status in ["7", "0", "14"] {
        let labels = [
            ("request_protocol", "grpc"),
            ("response_code", "200"),
            ("grpc_response_status", status),
        ];
        assert_eq!(
            requests(&mesh, &labels),
            1.0,
            "{status}\n{}",
            mesh.metrics()
        );
    }
}

/// One cluster whose endpoints are of two versions.
fn versions() -> Resources {
    let mut resources = Plan::default()
        .cluster(
            cluster(
                "outbound|80||catalog.shop.svc.cluster.local",
                Protocol::Http1,
            ),
            &[1, 2],
        )
        .host(
            "catalog",
            vec![all_to("outbound|80||catalog.shop.svc.cluster.local")],
        )
        .build();
    let name = "outbound|80||catalog.shop.svc.cluster.local";
    let mut endpoints: Endpoints = (*resources.endpoints[name]).clone();
    for (at, version) in ["v1", "v2"].into_iter().enumerate() {
        let endpoint = &mut endpoints.localities[0].endpoints[at];
        let labels = [("app", "catalog"), ("version", version)];
        let labels = labels.map(|(key, value)| (key.into(), value.into()));
        endpoint.labels = Arc::new(labels.into());
    }
    resources.insert_endpoints(endpoints);
    resources
}

#[tokio::test(start_paused = true)]
async fn both_sides_have_the_labels_that_istios_dashboards_ask_for() {
    let world = World::default();
    world.named(1);
    world.named(2);
    let (_publisher, feed) = source::feed(versions());
    let workload = Workload::new("shop", "order-sa")
        .label("app", "order")
        .label("version", "v7");
    let mesh = Mesh::builder()
        .feed(feed)
        .workload(workload)
        .connector(world.clone())
        .random(Random::seeded(7));
    let mesh = mesh.start().await.unwrap();
    for _ in 0..4 {
        call(&mesh, get("http://catalog/")).await.unwrap();
    }
    for version in ["v1", "v2"] {
        let labels = [
            ("reporter", "source"),
            ("source_workload", "order"),
            ("source_canonical_service", "order"),
            ("source_canonical_revision", "v7"),
            ("source_workload_namespace", "shop"),
            ("source_app", "order"),
            ("source_version", "v7"),
            ("destination_workload", "catalog"),
            ("destination_workload_namespace", "shop"),
            ("destination_app", "catalog"),
            ("destination_version", version),
            ("destination_service", "catalog.shop.svc.cluster.local"),
            ("destination_service_name", "catalog"),
            ("destination_service_namespace", "shop"),
            ("destination_canonical_service", "catalog"),
            ("destination_canonical_revision", version),
            ("connection_security_policy", "unknown"),
        ];
        assert_eq!(requests(&mesh, &labels), 2.0, "{}", mesh.metrics());
    }
    let samples = read(&mesh.metrics());
    let own = [("cluster", "outbound|80||catalog.shop.svc.cluster.local")];
    assert_eq!(sum(&samples, "meshwork_cluster_requests_total", &own), 4.0);
    assert_eq!(sum(&samples, "meshwork_cluster_endpoints", &own), 2.0);
    assert_eq!(sum(&samples, "meshwork_config_generation", &[]), 1.0);
}

#[tokio::test(start_paused = true)]
async fn what_callers_write_never_becomes_a_label() {
    let world = World::default();
    world.named(80);
    let (mesh, _publisher) = world.mesh(Resources::default()).await;
    call(&mesh, get("http://first.example/")).await.unwrap();
    let before = read(&mesh.metrics()).len();
    for number in 0..50 {
        call(
            &mesh,
            get(&format!("http://host-{number}.example/path-{number}")),
        )
        .await
        .unwrap();
    }
    let after = read(&mesh.metrics());
    assert_eq!(after.len(), before);
    let labels = [
        ("destination_service_name", "PassthroughCluster"),
        ("destination_service", "unknown"),
    ];
    assert_eq!(sum(&after, "istio_requests_total", &labels), 51.0);
}

#[tokio::test(start_paused = true)]
async fn an_edit_keeps_what_was_measured_and_forgets_who_is_gone() {
    let world = World::default();
    world.named(1);
    world.named(2);
    let (mesh, publisher) = world.mesh(versions()).await;
    for _ in 0..4 {
        call(&mesh, get("http://catalog/")).await.unwrap();
    }
    let mut next = versions();
    let name = "outbound|80||catalog.shop.svc.cluster.local";
    let mut endpoints: Endpoints = (*next.endpoints[name]).clone();
    endpoints.localities[0].endpoints.pop();
    next.insert_endpoints(endpoints);
    publisher.publish(next).await.unwrap();
    assert_eq!(requests(&mesh, &[("destination_version", "v1")]), 2.0);
    assert_eq!(requests(&mesh, &[("destination_version", "v2")]), 0.0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_measured_where_nobody_wants_it() {
    let world = World::default();
    world.named(1);
    let (_publisher, feed) = source::feed(one(cluster("c", Protocol::Http1), &[1], |_| {}));
    let mesh = Mesh::builder()
        .feed(feed)
        .connector(world.clone())
        .metrics(false);
    let mesh = mesh.start().await.unwrap();
    call(&mesh, get("http://catalog/")).await.unwrap();
    assert_eq!(requests(&mesh, &[]), 0.0);
    let samples = read(&mesh.metrics());
    assert_eq!(
        sum(
            &samples,
            "meshwork_cluster_requests_total",
            &[("cluster", "c")]
        ),
        1.0
    );
}

#[tokio::test(start_paused = true)]
async fn hosts_that_are_refused_count_for_the_black_hole() {
    let world = World::default();
    let mesh = Mesh::builder()
        .connector(world)
        .outbound_traffic(meshwork::OutboundTraffic::RegistryOnly);
    let mesh = mesh.start().await.unwrap();
    call(&mesh, get("http://elsewhere/")).await.unwrap_err();
    let labels = [
        ("destination_service_name", "BlackHoleCluster"),
        ("response_code", "502"),
        ("response_flags", "NR"),
    ];
    assert_eq!(requests(&mesh, &labels), 1.0, "{}", mesh.metrics());
}

#[cfg(feature = "inbound")]
mod arriving {
    use meshwork::inbound::Peer;
    use meshwork::model::identity::SpiffeId;
    use tower::{Layer, Service, ServiceExt, service_fn};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_arrives_is_measured_by_the_callee_with_the_callers_identity() {
        let workload = Workload::new("shop", "catalog-sa").label("app", "catalog");
        let mesh = Mesh::builder().workload(workload).start().await.unwrap();
        let served = service_fn(|request: Request<Body>| async move {
            match request.uri().path() {
                "/fails" => Err("it broke"),
                "/missing" => Ok(answer(404)),
                _ => Ok(text("hello")),
            }
        });
        let mut service = mesh.inbound_layer().layer(served);
        let mut send = async |path: &str, principal: Option<&str>| {
            let mut request = get(&format!("http://catalog{path}"));
            let mut peer = Peer::plaintext(None, None);
            peer.principal = principal.map(|text| SpiffeId::new(text).unwrap());
            peer.tls = principal.is_some();
            request.extensions_mut().insert(peer);
            request
                .headers_mut()
                .insert("content-length", "3".parse().unwrap());
            let response = service.ready().await.unwrap().call(request).await;
            if let Ok(response) = response {
                response.into_body().collect().await.unwrap();
            }
        };
        let order = "spiffe://cluster.local/ns/front/sa/order-sa";
        send("/", Some(order)).await;
        send("/", Some(order)).await;
        send("/missing", None).await;
        send("/fails", None).await;
        let caller = [
            ("reporter", "destination"),
            ("source_principal", order),
            ("source_workload_namespace", "front"),
            ("connection_security_policy", "mutual_tls"),
            ("destination_workload", "catalog"),
            ("response_code", "200"),
        ];
        assert_eq!(requests(&mesh, &caller), 2.0, "{}", mesh.metrics());
        for (code, flags) in [("404", "-"), ("0", "LR")] {
            let labels = [
                ("reporter", "destination"),
                ("source_principal", "unknown"),
                ("connection_security_policy", "none"),
                ("response_code", code),
                ("response_flags", flags),
            ];
            assert_eq!(requests(&mesh, &labels), 1.0, "{code}\n{}", mesh.metrics());
        }
        let samples = read(&mesh.metrics());
        assert_eq!(sum(&samples, "istio_request_bytes_sum", &[]), 12.0);
        assert_eq!(sum(&samples, "istio_response_bytes_sum", &[]), 10.0);
    }
}

#[cfg(feature = "otel")]
mod exported {
    use opentelemetry::metrics::MeterProvider;
    use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
    use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};

    use super::*;

    /// The sum of a counter and the number of values in a histogram, over all their attributes.
    fn totals(all: &[ResourceMetrics]) -> BTreeMap<String, u64> {
        let metrics = all.iter().flat_map(ResourceMetrics::scope_metrics);
        let metrics = metrics.flat_map(|scope| scope.metrics());
        let total = metrics.map(|metric| {
            let total = match metric.data() {
                AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                    sum.data_points().map(|point| point.value()).sum()
                }
                AggregatedMetrics::U64(MetricData::Gauge(gauge)) => {
                    gauge.data_points().map(|point| point.value()).sum()
                }
                AggregatedMetrics::U64(MetricData::Histogram(values)) => {
                    values.data_points().map(|point| point.count()).sum()
                }
                AggregatedMetrics::F64(MetricData::Histogram(values)) => {
                    values.data_points().map(|point| point.count()).sum()
                }
                other => panic!("{other:?}"),
            };
            (metric.name().to_owned(), total)
        });
        total.collect()
    }

    /// An SDK without bound instruments would drop all of it in silence.
    #[tokio::test]
    async fn what_is_recorded_arrives_at_an_exporter() {
        let exporter = InMemoryMetricExporter::default();
        let reader = PeriodicReader::builder(exporter.clone()).build();
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        let world = World::default();
        world.named(1);
        world.status(2, 503);
        let plan = Plan::default()
            .cluster(cluster("ok", Protocol::Http1), &[1])
            .cluster(cluster("bad", Protocol::Http1), &[2])
            .host("ok", vec![all_to("ok")])
            .host("bad", vec![all_to("bad")]);
        let (_publisher, feed) = source::feed(plan.build());
        let builder = Mesh::builder().feed(feed).connector(world.clone());
        let mesh = builder
            .meter(provider.meter("order"))
            .start()
            .await
            .unwrap();
        for host in ["ok", "ok", "bad", "nowhere.example"] {
            let _ = call(&mesh, get(&format!("http://{host}/"))).await;
        }
        provider.force_flush().unwrap();
        let finished = exporter.get_finished_metrics().unwrap();
        let totals = totals(&finished[finished.len() - 1..]);
        for name in [
            "istio_requests_total",
            "istio_request_duration_milliseconds",
            "istio_request_bytes",
            "istio_response_bytes",
        ] {
            assert_eq!(totals.get(name), Some(&4), "{name}: {totals:?}");
        }
        assert_eq!(requests(&mesh, &[]), 4.0, "both tell the same");
    }

    /// The attributes of the points of a counter or histogram, with their counts.
    fn points(all: &[ResourceMetrics], name: &str) -> Vec<(Vec<(String, String)>, u64)> {
        fn told<'a>(
            attributes: impl Iterator<Item = &'a opentelemetry::KeyValue>,
            count: u64,
        ) -> (Vec<(String, String)>, u64) {
            let pairs = attributes.map(|one| (one.key.to_string(), one.value.to_string()));
            let mut pairs: Vec<_> = pairs.collect();
            pairs.sort();
            (pairs, count)
        }
        let metrics = all.iter().flat_map(ResourceMetrics::scope_metrics);
        let metrics = metrics.flat_map(|scope| scope.metrics());
        let found = metrics.filter(|metric| metric.name() == name);
        let mut points: Vec<_> = found
            .flat_map(|metric| -> Vec<_> {
                match metric.data() {
                    AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                        let points = sum.data_points();
                        points
                            .map(|one| told(one.attributes(), one.value()))
                            .collect()
                    }
                    AggregatedMetrics::U64(MetricData::Gauge(gauge)) => {
                        let points = gauge.data_points();
                        points
                            .map(|one| told(one.attributes(), one.value()))
                            .collect()
                    }
                    AggregatedMetrics::U64(MetricData::Histogram(values)) => {
                        let points = values.data_points();
                        points
                            .map(|one| told(one.attributes(), one.count()))
                            .collect()
                    }
                    AggregatedMetrics::F64(MetricData::Histogram(values)) => {
                        let points = values.data_points();
                        points
                            .map(|one| told(one.attributes(), one.count()))
                            .collect()
                    }
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        points.sort();
        points
    }

    fn pairs(labels: &[(&str, &str)]) -> Vec<(String, String)> {
        let labels = labels.iter();
        labels
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// Two calls of a method that is named, of which the first is tried again, and one of another.
    #[tokio::test]
    async fn calls_of_grpc_arrive_at_an_exporter_in_names_of_grpc() {
        let exporter = InMemoryMetricExporter::default();
        let reader = PeriodicReader::builder(exporter.clone()).build();
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        let world = World::default();
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        world.serve(1, move |_| {
            let first = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            async move {
                let mut response = super::super::world::answer(200);
                let status = if first { "14" } else { "0" };
                response
                    .headers_mut()
                    .insert("grpc-status", status.parse().unwrap());
                response
            }
        });
        let resources = super::super::world::one(cluster("c", Protocol::Http2), &[1], |forward| {
            let mut policy = super::super::world::retries(2, None);
            policy.on.grpc = vec![14];
            forward.retry = Some(policy);
        });
        let (_publisher, feed) = source::feed(resources);
        let builder = Mesh::builder().feed(feed).connector(world.clone());
        let builder = builder
            .grpc_methods(["a.B/c"])
            .meter(provider.meter("order"));
        let mesh = builder.start().await.unwrap();
        for path in ["/a.B/c", "/a.B/c", "/a.B/d"] {
            let request = http::Request::post(format!("http://catalog{path}"));
            let request = request.header("content-type", "application/grpc");
            let body = meshwork::Body::from("12345");
            call(&mesh, request.body(body).unwrap()).await.unwrap();
        }
        provider.force_flush().unwrap();
        let finished = exporter.get_finished_metrics().unwrap();
        let last = &finished[finished.len() - 1..];
        let of = |method, status: &'static str| {
            let labels = [
                ("grpc.method", method),
                ("grpc.status", status),
                ("grpc.target", "c"),
            ];
            pairs(&labels)
        };
        let named = |method| pairs(&[("grpc.method", method), ("grpc.target", "c")]);
        let calls = [(of("a.B/c", "OK"), 2), (of("other", "OK"), 1)];
        for name in [
            "grpc.client.call.duration",
            "grpc.client.attempt.sent_total_compressed_message_size",
            "grpc.client.attempt.rcvd_total_compressed_message_size",
        ] {
            assert_eq!(points(last, name), calls, "{name}");
        }
        assert_eq!(
            points(last, "grpc.client.attempt.duration"),
            [
                (of("a.B/c", "OK"), 2),
                (of("a.B/c", "UNAVAILABLE"), 1),
                (of("other", "OK"), 1)
            ]
        );
        let started = [(named("a.B/c"), 3), (named("other"), 1)];
        assert_eq!(points(last, "grpc.client.attempt.started"), started);
        for name in ["grpc.client.call.retries", "grpc.client.call.retry_delay"] {
            assert_eq!(points(last, name), [(named("a.B/c"), 1)], "{name}");
        }
        assert_eq!(
            points(last, "grpc.client.call.hedges"),
            [],
            "zero is not recorded"
        );
        // Cells of two methods tell Istio's metrics together.
        let all: u64 = points(last, "istio_requests_total")
            .iter()
            .map(|(_, count)| count)
            .sum();
        assert_eq!(all, 3);
        assert_eq!(points(last, "istio_requests_total").len(), 1);
    }

    #[tokio::test]
    async fn what_is_counted_elsewhere_is_observed_until_the_mesh_ends() {
        let exporter = InMemoryMetricExporter::default();
        let reader = PeriodicReader::builder(exporter.clone()).build();
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        let world = World::default();
        world.named(1);
        let plan = Plan::default()
            .cluster(cluster("ok", Protocol::Http1), &[1])
            .host("ok", vec![all_to("ok")]);
        let (publisher, feed) = source::feed(plan.build());
        let builder = Mesh::builder().feed(feed).connector(world.clone());
        let mesh = builder
            .meter(provider.meter("order"))
            .start()
            .await
            .unwrap();
        let read = || {
            exporter.reset();
            provider.force_flush().unwrap();
            exporter.get_finished_metrics().unwrap()
        };
        let requests = "meshwork_cluster_requests_total";
        let cluster_ok = pairs(&[("cluster", "ok")]);
        assert_eq!(points(&read(), requests), [(cluster_ok.clone(), 0)]);
        call(&mesh, get("http://ok/")).await.unwrap();
        let all = read();
        assert_eq!(points(&all, requests), [(cluster_ok, 1)]);
        assert_eq!(
            points(&all, "meshwork_config_generation"),
            [(Vec::new(), 1)]
        );
        let subchannel = pairs(&[("grpc.lb.backend_service", "ok"), ("grpc.target", "ok")]);
        let connected = "grpc.subchannel.connection_attempts_succeeded";
        assert_eq!(points(&all, connected), [(subchannel, 1)]);
        // Everything that the text of Prometheus has besides requests and calls is there too.
        let text = mesh.metrics();
        let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        for family in families.filter_map(|family| family.split_whitespace().next()) {
            let recorded = ["istio_re", "grpc_client", "grpc_server"];
            let observed = !recorded.iter().any(|prefix| family.starts_with(prefix));
            let has = |name: &str| {
                let mut metrics = all.iter().flat_map(ResourceMetrics::scope_metrics);
                metrics.any(|scope| scope.metrics().any(|metric| metric.name() == name))
            };
            if observed && text.contains(&format!("\n{family}{{")) {
                let dotted = family.replace("grpc_subchannel_", "grpc.subchannel.");
                assert!(
                    has(&dotted) || has(dotted.trim_end_matches("_total")),
                    "{family}"
                );
            }
        }
        drop((mesh, publisher));
        assert_eq!(points(&read(), requests), [], "nobody is there to be asked");
    }
}

/// Routes of one prefix count together and over edits; the mesh's own answers count too, and what is late.
#[tokio::test(start_paused = true)]
async fn routes_with_a_prefix_are_counted_by_the_class_of_their_answers() {
    let world = World::default();
    world.status(1, 404);
    world.hung(2);
    let counted = |name: &str, path: &str, prefix: Option<&str>, cluster: &str| {
        let mut matcher = RouteMatcher::everything();
        matcher.path = PathMatcher::Prefix(path.into());
        let mut terms = forward(Destinations::single(cluster));
        terms.timeout = Some(Duration::from_secs(1));
        let mut one = route(name, matcher, terms);
        one.stat_prefix = prefix.map(Into::into);
        one
    };
    let plan = |rest: Option<&str>| {
        let routes = vec![
            counted("a", "/a", Some("items"), "quick"),
            counted("b", "/b", Some("items"), "late"),
            counted("c", "/c", Some("others"), "gone"),
            counted("rest", "/", rest, "quick"),
        ];
        Plan::default()
            .host("catalog", routes)
            .cluster(cluster("quick", Protocol::Http2), &[1])
            .cluster(cluster("late", Protocol::Http2), &[2])
            .build()
    };
    let (mesh, publisher) = world.mesh(plan(None)).await;
    let ask = async |path: &str| {
        let _ = call(&mesh, get(&format!("http://catalog{path}"))).await;
    };
    for path in ["/a", "/a", "/b", "/c", "/"] {
        ask(path).await;
    }
    let expected = |items: [u64; 5], others: [u64; 5]| {
        BTreeMap::from([
            ("items".to_owned(), (items, 1)),
            ("others".to_owned(), (others, 0)),
        ])
    };
    let found = || -> BTreeMap<String, ([u64; 5], u64)> {
        let routes = mesh.stats().routes.into_iter();
        routes
            .map(|one| (one.prefix.to_string(), (one.answers, one.timeouts)))
            .collect()
    };
    assert_eq!(found(), expected([0, 0, 0, 2, 1], [0, 0, 0, 0, 1]));
    publisher.publish(plan(Some("items"))).await.unwrap();
    ask("/").await;
    assert_eq!(found(), expected([0, 0, 0, 3, 1], [0, 0, 0, 0, 1]));
    let text = mesh.metrics();
    for line in [
        "meshwork_route_answers_total{route=\"items\",response_code_class=\"4xx\"} 3",
        "meshwork_route_timeouts_total{route=\"items\"} 1",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }
}
