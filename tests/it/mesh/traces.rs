//! Traces: carried on without a tracer, and spans with one.

use http::{Request, Response};
use meshwork::model::cluster::Protocol;
use meshwork::{Body, Mesh};
use tower::{Layer, ServiceExt, service_fn};

use super::world::{World, cluster, get, one, text};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// A backend that answers with the headers of traces that it has seen.
fn tell(world: &World) {
    world.serve(1, |request| async move {
        let names = [
            "traceparent",
            "tracestate",
            "b3",
            "x-b3-traceid",
            "x-b3-spanid",
            "x-b3-sampled",
            "x-request-id",
        ];
        let seen = names.iter().filter_map(|name| {
            let value = request.headers().get(*name)?;
            Some(format!("{name}={}", value.to_str().unwrap()))
        });
        text(seen.collect::<Vec<_>>().join(" "))
    });
}

/// Sends a request with these headers into a service that makes a call, and returns what its backend saw.
async fn through(mesh: &Mesh, headers: &[(&'static str, &str)], own: Option<&str>) -> String {
    let client = mesh.client();
    let own = own.map(str::to_owned);
    let service = mesh
        .inbound_layer()
        .layer(service_fn(move |_: Request<Body>| {
            let mut request = get("http://catalog/");
            if let Some(own) = &own {
                request
                    .headers_mut()
                    .insert("traceparent", own.parse().unwrap());
            }
            let answer = client.request(request);
            async move {
                let body = answer.await.unwrap().into_body();
                let bytes = http_body_util::BodyExt::collect(body)
                    .await
                    .unwrap()
                    .to_bytes();
                Ok::<_, std::convert::Infallible>(Response::new(Body::from(bytes)))
            }
        }));
    let mut request = get("http://order/");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let response = service.oneshot(request).await.unwrap();
    let bytes = http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap()
        .to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_call_carries_on_the_trace_of_the_request_that_it_is_made_under() {
    let world = World::default();
    tell(&world);
    let (mesh, _publisher) = world
        .mesh(one(cluster("c", Protocol::Http1), &[1], |_| {}))
        .await;
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let seen = through(
        &mesh,
        &[
            ("traceparent", &w3c),
            ("tracestate", "a=1"),
            ("x-request-id", "7"),
        ],
        None,
    )
    .await;
    assert_eq!(
        seen,
        format!("traceparent={w3c} tracestate=a=1 x-request-id=7")
    );
    let seen = through(
        &mesh,
        &[
            ("x-b3-traceid", TRACE),
            ("x-b3-spanid", SPAN),
            ("x-b3-sampled", "0"),
        ],
        None,
    )
    .await;
    assert_eq!(
        seen,
        format!("x-b3-traceid={TRACE} x-b3-spanid={SPAN} x-b3-sampled=0")
    );
    let own = format!("00-{}-{SPAN}-00", "1".repeat(32));
    let seen = through(&mesh, &[("traceparent", &w3c)], Some(&own)).await;
    assert_eq!(
        seen,
        format!("traceparent={own}"),
        "what a call says itself stands above that"
    );
    assert_eq!(
        through(&mesh, &[("traceparent", "nonsense")], None).await,
        ""
    );
}

#[cfg(feature = "otel")]
mod spans {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use meshwork::model::Fraction;
    use meshwork::{Random, source};
    use opentelemetry::global::BoxedTracer;
    use opentelemetry::trace::{SpanKind, TraceContextExt, Tracer, TracerProvider};
    use opentelemetry::{Context, KeyValue};
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};

    use super::super::world::{answer, call, retries};
    use super::*;

    struct Traced {
        exporter: InMemorySpanExporter,
        provider: SdkTracerProvider,
    }

    impl Traced {
        fn new() -> Self {
            let exporter = InMemorySpanExporter::default();
            let provider = SdkTracerProvider::builder()
                .with_simple_exporter(exporter.clone())
                .build();
            Self { exporter, provider }
        }

        fn tracer(&self, name: &'static str) -> BoxedTracer {
            BoxedTracer::new(Box::new(self.provider.tracer(name)))
        }

        /// A mesh whose host `catalog` is port 1 of the world.
        async fn mesh(
            &self,
            name: &'static str,
            world: &World,
            protocol: Protocol,
            share: Fraction,
        ) -> Mesh {
            let resources = one(cluster("c", protocol), &[1], |to| {
                to.retry = Some(retries(2, None))
            });
            let (_, feed) = source::feed(resources);
            let builder = Mesh::builder()
                .feed(feed)
                .connector(world.clone())
                .random(Random::seeded(3))
                .traces(self.tracer(name))
                .trace_sampling(share);
            builder.start().await.unwrap()
        }

        fn spans(&self) -> Vec<SpanData> {
            self.exporter.get_finished_spans().unwrap()
        }
    }

    fn attribute(span: &SpanData, name: &str) -> Option<String> {
        let found = span
            .attributes
            .iter()
            .find(|one| one.key.as_str() == name)?;
        Some(found.value.to_string())
    }

    fn child<'a>(spans: &'a [SpanData], parent: &SpanData, name: &str) -> &'a SpanData {
        let is = |span: &&SpanData| {
            span.parent_span_id == parent.span_context.span_id() && span.name.starts_with(name)
        };
        let found = spans.iter().find(is);
        found.unwrap_or_else(|| panic!("no child {name} of {parent:#?} in {spans:#?}"))
    }

    /// order calls catalog, whose first answer is a 503: by HTTP/1.1 and as gRPC over HTTP/2.
    #[tokio::test(start_paused = true)]
    async fn a_trace_of_order_and_catalog_with_a_retry_has_the_right_parents() {
        for (protocol, grpc) in [(Protocol::Http1, false), (Protocol::Http2, true)] {
            let (world, traced) = (World::default(), Traced::new());
            let nothing = Mesh::builder()
                .traces(traced.tracer("catalog"))
                .start()
                .await
                .unwrap();
            let catalog = nothing.inbound_layer();
            let tries = Arc::new(AtomicUsize::new(0));
            world.serve(1, move |request| {
                let first = tries.fetch_add(1, Ordering::Relaxed) == 0;
                let service = catalog.layer(service_fn(move |_| async move {
                    Ok::<_, std::convert::Infallible>(answer(if first { 503 } else { 200 }))
                }));
                async move {
                    let response = service.oneshot(request).await.unwrap();
                    response.map(Body::new)
                }
            });
            let order = traced.mesh("order", &world, protocol, Fraction::ONE).await;
            let client = order.client();
            let service = order
                .inbound_layer()
                .layer(service_fn(move |_: Request<Body>| {
                    let mut request = get("http://catalog/shop.Catalog/Items");
                    if grpc {
                        *request.method_mut() = http::Method::POST;
                        request
                            .headers_mut()
                            .insert("content-type", "application/grpc".parse().unwrap());
                    }
                    let answer = client.request(request);
                    async move {
                        let body = answer.await.unwrap().into_body();
                        let _ = http_body_util::BodyExt::collect(body).await;
                        Ok::<_, std::convert::Infallible>(answer_of(200))
                    }
                }));
            let response = service.oneshot(get("http://order/")).await.unwrap();
            drop(response);
            let spans = traced.spans();
            assert_eq!(spans.len(), 6, "{spans:#?}");
            let root = spans
                .iter()
                .find(|span| span.span_kind == SpanKind::Server && span.name == "GET order");
            let root = root.expect("a root");
            let method = if grpc { "POST catalog" } else { "GET catalog" };
            let call = child(&spans, root, method);
            assert_eq!(attribute(call, "upstream_cluster").as_deref(), Some("c"));
            for (number, failed) in [(1, true), (2, false)] {
                let attempt = child(&spans, call, &format!("attempt {number}"));
                assert_eq!(
                    attribute(attempt, "peer.address").as_deref(),
                    Some("10.0.0.1:1")
                );
                let error = matches!(attempt.status, opentelemetry::trace::Status::Error { .. });
                assert_eq!(error, failed, "{attempt:#?}");
                let server = child(&spans, attempt, method.split(' ').next().unwrap());
                assert_eq!(server.span_kind, SpanKind::Server);
            }
            let trace = root.span_context.trace_id();
            assert!(
                spans
                    .iter()
                    .all(|span| span.span_context.trace_id() == trace)
            );
        }
    }

    fn answer_of(status: u16) -> Response<Body> {
        answer(status)
    }

    #[tokio::test(start_paused = true)]
    async fn a_parents_decision_wins_over_the_share_and_the_callee_is_told_it() {
        let (world, traced) = (World::default(), Traced::new());
        tell(&world);
        let never = traced
            .mesh("order", &world, Protocol::Http1, Fraction::ZERO)
            .await;
        let (_, seen) = call(&never, get("http://catalog/")).await.unwrap();
        assert!(
            seen.starts_with("traceparent=00-") && seen.ends_with("-00"),
            "{seen}"
        );
        assert!(traced.spans().is_empty());
        let mut request = get("http://catalog/");
        let sampled = format!("00-{TRACE}-{SPAN}-01");
        request
            .headers_mut()
            .insert("traceparent", sampled.parse().unwrap());
        let (_, seen) = call(&never, request).await.unwrap();
        assert!(
            seen.starts_with(&format!("traceparent=00-{TRACE}-")) && seen.ends_with("-01"),
            "{seen}"
        );
        assert!(
            !seen.contains(SPAN),
            "the callee's parent is the try: {seen}"
        );
        assert_eq!(traced.spans().len(), 2);
        traced.exporter.reset();
        let always = traced
            .mesh("order", &world, Protocol::Http1, Fraction::ONE)
            .await;
        let mut request = get("http://catalog/");
        let unsampled = format!("00-{TRACE}-{SPAN}-00");
        request
            .headers_mut()
            .insert("traceparent", unsampled.parse().unwrap());
        let (_, seen) = call(&always, request).await.unwrap();
        assert!(
            seen.starts_with(&format!("traceparent=00-{TRACE}-")) && seen.ends_with("-00"),
            "{seen}"
        );
        assert!(traced.spans().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_of_the_traces_that_begin_here_is_sampled() {
        let (world, traced) = (World::default(), Traced::new());
        tell(&world);
        let tenth = Fraction::from_percent(10.0).unwrap();
        let mesh = traced.mesh("order", &world, Protocol::Http1, tenth).await;
        for _ in 0..1_000 {
            call(&mesh, get("http://catalog/")).await.unwrap();
        }
        let calls = traced
            .spans()
            .iter()
            .filter(|span| span.name == "GET catalog")
            .count();
        assert!((70..=130).contains(&calls), "{calls}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_services_own_span_is_the_parent_of_its_calls() {
        let (world, traced) = (World::default(), Traced::new());
        tell(&world);
        let mesh = traced
            .mesh("order", &world, Protocol::Http1, Fraction::ZERO)
            .await;
        let own = traced.tracer("service").start("the service's own");
        let context = Context::current_with_span(own);
        // As tracing-opentelemetry does while its span is entered; the call reads it when it is polled.
        let sent = opentelemetry::context::FutureExt::with_context(
            call(&mesh, get("http://catalog/")),
            context.clone(),
        );
        sent.await.unwrap();
        context.span().set_attribute(KeyValue::new("done", true));
        context.span().end();
        let spans = traced.spans();
        let own = spans
            .iter()
            .find(|span| span.name == "the service's own")
            .unwrap();
        let client = child(&spans, own, "GET catalog");
        child(&spans, client, "attempt 1");
    }
}
