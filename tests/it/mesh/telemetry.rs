//! What a Telemetry of the configuration makes of calls and requests.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use meshwork::model::Resources;
use meshwork::source::istio::{Options, compile, read};
use meshwork::{AccessLog, Body, Mesh, Workload, source};
use tower::{Layer, ServiceExt, service_fn};

use super::world::{World, call, get, seconds};

/// Port 1 of the world as `catalog.example`.
const CATALOG: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: catalog, namespace: my-app}
spec:
  hosts: [catalog.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1, ports: {http: 1}}]
---
";

pub(super) fn telemetry(spec: &str) -> String {
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\n\
         metadata: {{name: all, namespace: istio-system}}\nspec:\n{spec}"
    )
}

pub(super) fn resources(text: &str) -> Resources {
    let options = Options::default();
    let read = read([("mesh.yaml", format!("{CATALOG}{text}"))], &options);
    assert!(!read.faults.has_errors(), "{}", read.faults);
    let client = Workload::new("my-app", "order-sa").label("app", "order");
    let compiled = compile(&read.objects, &client, &options);
    assert!(!compiled.faults.has_errors(), "{}", compiled.faults);
    compiled.resources
}

/// What was written.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    pub(super) fn all(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

const SHORT: &str = "%REQ(:PATH)% %RESPONSE_CODE% %UPSTREAM_CLUSTER% %DOWNSTREAM_REMOTE_ADDRESS%";

/// A mesh over the world whose program logs with the short format.
async fn logging(world: &World, text: &str) -> (Mesh, source::Publisher, Lines) {
    let lines = Lines::default();
    let (publisher, feed) = source::feed(resources(text));
    let log = AccessLog::format(SHORT).unwrap().to(lines.clone());
    let builder = Mesh::builder().feed(feed).connector(world.clone());
    let mesh = builder.access_log(log).start().await.unwrap();
    (mesh, publisher, lines)
}

/// A world whose answer is the status that the path names.
fn world() -> World {
    let world = World::default();
    world.serve(1, |request| async move {
        let status = request.uri().path().trim_start_matches('/').parse();
        super::world::answer(status.unwrap_or(200))
    });
    world
}

async fn ask(mesh: &Mesh, path: &str) {
    let _ = call(mesh, get(&format!("http://catalog.example/{path}"))).await;
}

/// A request that arrives, from 10.9.9.9.
async fn arrive(mesh: &Mesh, status: u16) {
    let service = mesh
        .inbound_layer()
        .layer(service_fn(move |_: Request<Body>| async move {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            Ok::<_, std::convert::Infallible>(response)
        }));
    let mut request = get(&format!("http://order/in-{status}"));
    let addresses = ("10.9.9.9:9", "10.0.0.2:8080");
    request
        .extensions_mut()
        .insert(meshwork::inbound::Peer::plaintext(
            addresses.0.parse().ok(),
            addresses.1.parse().ok(),
        ));
    let response = service.oneshot(request).await.unwrap();
    drop(http_body_util::BodyExt::collect(response.into_body()).await);
}

#[tokio::test(start_paused = true)]
async fn the_provider_of_envoy_is_the_log_of_the_program() {
    let envoy = telemetry("  accessLogging: [{providers: [{name: envoy}]}]\n");
    let (mesh, _publisher, lines) = logging(&world(), &envoy).await;
    ask(&mesh, "200").await;
    arrive(&mesh, 204).await;
    mesh.shutdown(seconds(1)).await;
    assert_eq!(
        lines.all(),
        [
            "/200 200 outbound|80||catalog.example -",
            "/in-204 204 inbound|8080|| 10.9.9.9:9",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_rule_is_for_one_side() {
    for (mode, expected) in [("CLIENT", "/200 200"), ("SERVER", "/in-204 204")] {
        let text = telemetry(&format!(
            "  accessLogging: [{{providers: [{{name: envoy}}], match: {{mode: {mode}}}}}]\n"
        ));
        let (mesh, _publisher, lines) = logging(&world(), &text).await;
        ask(&mesh, "200").await;
        arrive(&mesh, 204).await;
        mesh.shutdown(seconds(1)).await;
        let lines = lines.all();
        // Nothing is said of the other side: the program's log has its calls, as without an object.
        let own = lines.iter().filter(|line| line.starts_with(expected));
        assert_eq!(own.count(), 1, "{mode}: {lines:?}");
        let server = lines.iter().any(|line| line.starts_with("/in-"));
        assert_eq!(server, mode == "SERVER", "{mode}: {lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_the_filter_takes_gets_a_line() {
    let filter = "response.code >= 500 || request.headers['x-debug'] == '1'";
    let text = telemetry(&format!(
        "  accessLogging: [{{providers: [{{name: envoy}}], filter: {{expression: \"{filter}\"}}}}]\n"
    ));
    let (mesh, _publisher, lines) = logging(&world(), &text).await;
    for path in ["200", "404", "500"] {
        ask(&mesh, path).await;
    }
    let mut debugged = get("http://catalog.example/201");
    debugged
        .headers_mut()
        .insert("x-debug", "1".parse().unwrap());
    call(&mesh, debugged).await.unwrap();
    arrive(&mesh, 204).await;
    arrive(&mesh, 503).await;
    let explained = mesh.explain(&get("http://catalog.example/200")).to_string();
    assert!(
        explained.contains(&format!(
            "told by a line in the access log envoy if {filter}"
        )) && explained.contains("mesh.yaml:"),
        "{explained}"
    );
    mesh.shutdown(seconds(1)).await;
    let codes: Vec<String> = lines.all();
    let codes: Vec<&str> = codes
        .iter()
        .map(|line| line.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(codes, ["500", "201", "503"]);
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_logs_is_in_force_for_the_next_request() {
    let (mesh, publisher, lines) = logging(&world(), "").await;
    ask(&mesh, "200").await;
    let off = telemetry("  accessLogging: [{providers: [{name: envoy}], disabled: true}]\n");
    publisher.publish(resources(&off)).await.unwrap();
    ask(&mesh, "201").await;
    publisher.publish(resources("")).await.unwrap();
    ask(&mesh, "202").await;
    mesh.shutdown(seconds(1)).await;
    let lines = lines.all();
    let codes: Vec<&str> = lines
        .iter()
        .map(|line| line.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(codes, ["200", "202"]);
}

#[tokio::test(start_paused = true)]
async fn a_file_of_the_configuration_gets_lines_in_its_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.log");
    let text = format!(
        "mesh:\n  extensionProviders:\n  - name: file\n    envoyFileAccessLog:\n      path: {}\n      \
         logFormat: {{labels: {{code: '%RESPONSE_CODE%', path: '%REQ(:PATH)%'}}}}\n---\n{}",
        path.display(),
        telemetry("  accessLogging: [{providers: [{name: file}, {name: envoy}]}]\n")
    );
    let (mesh, _publisher, lines) = logging(&world(), &text).await;
    ask(&mesh, "404").await;
    mesh.shutdown(seconds(1)).await;
    assert_eq!(lines.all().len(), 1);
    let written = std::fs::read_to_string(path).unwrap();
    let json: serde_json::Value = serde_json::from_str(&written).expect(&written);
    assert_eq!(json, serde_json::json!({"code": 404, "path": "/404"}));
}

#[tokio::test(start_paused = true)]
async fn metrics_lose_and_gain_labels_and_add_up() {
    let text = telemetry(
        "  metrics:
  - overrides:
    - match: {metric: REQUEST_COUNT}
      tagOverrides:
        response_code: {operation: REMOVE}
        response_flags: {operation: REMOVE}
        method: {value: request.method}
        team: {value: \"'shop'\"}
    - match: {metric: RESPONSE_SIZE}
      disabled: true
",
    );
    let world = world();
    let (publisher, feed) = source::feed(resources(&text));
    let mesh = Mesh::builder().feed(feed).connector(world.clone());
    let mesh = mesh.start().await.unwrap();
    for path in ["200", "404", "404"] {
        ask(&mesh, path).await;
    }
    let post = Request::post("http://catalog.example/200").body(Body::empty());
    call(&mesh, post.unwrap()).await.unwrap();
    let made_up = Request::builder()
        .method("MADE-UP")
        .uri("http://catalog.example/200");
    call(&mesh, made_up.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let metrics = mesh.metrics();
    let counts = |metrics: &str| -> Vec<String> {
        let lines = metrics.lines().filter(|line| {
            line.starts_with("istio_requests_total{") && line.contains("\"catalog.example\"")
        });
        lines.map(str::to_owned).collect()
    };
    let lines = counts(&metrics);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for (method, count) in [("GET", 3), ("POST", 1), ("other", 1)] {
        let of = |line: &&String| line.contains(&format!("method=\"{method}\",team=\"shop\""));
        let line = lines
            .iter()
            .find(of)
            .unwrap_or_else(|| panic!("{method}: {lines:#?}"));
        assert!(line.ends_with(&format!(" {count}")), "{line}");
        assert!(
            !line.contains("response_code") && !line.contains("response_flags"),
            "{line}"
        );
    }
    assert!(!metrics.contains("istio_response_bytes_count{"));
    let durations = "istio_request_duration_milliseconds_count{";
    assert!(metrics.contains(durations) && !metrics.contains("method=\"GET\",le"));
    publisher.publish(resources("")).await.unwrap();
    let lines = counts(&mesh.metrics());
    // What was told apart is still known: by status again, and by method no more.
    let found = lines
        .iter()
        .filter(|line| line.contains("response_code=\"404\""));
    assert_eq!(found.count(), 1, "{lines:#?}");
    assert!(
        lines.iter().all(|line| !line.contains("method=")),
        "{lines:#?}"
    );
}

#[cfg(feature = "otel")]
mod spans {
    use meshwork::model::Fraction;
    use opentelemetry::global::BoxedTracer;
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::logs::{InMemoryLogExporter, SdkLoggerProvider};
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    struct Traced {
        mesh: Mesh,
        exporter: InMemorySpanExporter,
        /// Keeps the exporter from shutting down.
        _provider: SdkTracerProvider,
        _publisher: source::Publisher,
    }

    impl Traced {
        /// A mesh whose program samples every trace.
        async fn new(world: &World, text: &str) -> Self {
            let exporter = InMemorySpanExporter::default();
            let provider = SdkTracerProvider::builder()
                .with_simple_exporter(exporter.clone())
                .build();
            let tracer = BoxedTracer::new(Box::new(provider.tracer("test")));
            let (publisher, feed) = source::feed(resources(text));
            let builder = Mesh::builder()
                .feed(feed)
                .connector(world.clone())
                .workload(Workload::new("my-app", "order-sa").label("app", "order"))
                .traces(tracer)
                .trace_sampling(Fraction::ONE);
            Self {
                mesh: builder.start().await.unwrap(),
                exporter,
                _provider: provider,
                _publisher: publisher,
            }
        }

        fn calls(&self) -> Vec<SpanData> {
            let spans = self.exporter.get_finished_spans().unwrap();
            let call = |span: &SpanData| span.name == "GET catalog.example";
            spans.into_iter().filter(call).collect()
        }
    }

    /// Answers with the context that it was told.
    fn tell(world: &World) {
        world.serve(1, |request| async move {
            let told = request.headers().get("traceparent");
            let told = told.map_or("none", |told| told.to_str().unwrap());
            super::super::world::text(told.to_owned())
        });
    }

    fn request(parent: Option<&str>) -> Request<Body> {
        let mut request = get("http://catalog.example/");
        request.headers_mut().insert("x-zone", "a".parse().unwrap());
        if let Some(parent) = parent {
            let headers = request.headers_mut();
            headers.insert("traceparent", parent.parse().unwrap());
        }
        request
    }

    #[tokio::test(start_paused = true)]
    async fn sampling_is_that_of_the_configuration_and_a_parent_wins() {
        let world = World::default();
        tell(&world);
        let never = telemetry("  tracing: [{randomSamplingPercentage: 0}]\n");
        let traced = Traced::new(&world, &never).await;
        let (_, told) = call(&traced.mesh, request(None)).await.unwrap();
        assert!(told.ends_with("-00"), "{told}");
        assert!(traced.calls().is_empty());
        let (_, told) = call(&traced.mesh, request(Some(PARENT))).await.unwrap();
        assert!(told.ends_with("-01"), "{told}");
        assert_eq!(traced.calls().len(), 1);
        let explained = traced.mesh.explain(&request(None)).to_string();
        let expected = "told by spans for 0 % of the traces that begin here";
        assert!(explained.contains(expected), "{explained}");
        let said_nothing = Traced::new(&world, "").await;
        call(&said_nothing.mesh, request(None)).await.unwrap();
        assert_eq!(said_nothing.calls().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn without_reporting_traces_are_carried_on() {
        let world = World::default();
        tell(&world);
        let off = telemetry("  tracing: [{disableSpanReporting: true}]\n");
        let traced = Traced::new(&world, &off).await;
        let (_, told) = call(&traced.mesh, request(Some(PARENT))).await.unwrap();
        assert_eq!(told, PARENT);
        let (_, told) = call(&traced.mesh, request(None)).await.unwrap();
        assert_eq!(told, "none");
        assert!(traced.calls().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn without_propagation_the_callee_is_told_nothing() {
        let world = World::default();
        tell(&world);
        let off = telemetry("  tracing: [{disableContextPropagation: true}]\n");
        let traced = Traced::new(&world, &off).await;
        let (_, told) = call(&traced.mesh, request(None)).await.unwrap();
        assert_eq!(told, "none");
        assert_eq!(traced.calls().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn tags_come_from_text_environment_and_headers() {
        let world = World::default();
        tell(&world);
        let text = telemetry(
            "  tracing:
  - enableIstioTags: false
    customTags:
      text: {literal: {value: shop}}
      zone: {header: {name: X-Zone}}
      none: {header: {name: X-None, defaultValue: nobody}}
      gone: {header: {name: X-None}}
      package: {environment: {name: CARGO_PKG_NAME}}
      unset: {environment: {name: MESHWORK_IS_NOT_SET, defaultValue: other}}
",
        );
        let traced = Traced::new(&world, &text).await;
        call(&traced.mesh, request(None)).await.unwrap();
        let calls = traced.calls();
        let attribute = |name: &str| {
            let mut all = calls[0].attributes.iter();
            let found = all.find(|one| one.key.as_str() == name)?;
            Some(found.value.to_string())
        };
        for (name, value) in [
            ("text", Some("shop")),
            ("zone", Some("a")),
            ("none", Some("nobody")),
            ("gone", None),
            ("unset", Some("other")),
            ("istio.namespace", None),
            ("component", Some("proxy")),
        ] {
            assert_eq!(attribute(name).as_deref(), value, "{name}");
        }
        let expected = std::env::var("CARGO_PKG_NAME").ok();
        assert_eq!(attribute("package"), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn tags_of_operators_are_told_when_the_request_is_over() {
        let world = World::default();
        tell(&world);
        let text = telemetry(
            "  tracing:
  - customTags:
      line: {formatter: {value: '%REQ(:METHOD)% %REQ(X-ZONE)% %RESPONSE_CODE% %REQ(X-NONE)% 100%%'}}
      attempts: {formatter: {value: '%ATTEMPT_COUNT%'}}
",
        );
        let traced = Traced::new(&world, &text).await;
        call(&traced.mesh, request(None)).await.unwrap();
        let calls = traced.calls();
        let attribute = |name: &str| {
            let mut all = calls[0].attributes.iter();
            let found = all.find(|one| one.key.as_str() == name)?;
            Some(found.value.to_string())
        };
        assert_eq!(attribute("line").as_deref(), Some("GET a 200 - 100%"));
        assert_eq!(attribute("attempts").as_deref(), Some("1"));
    }

    #[tokio::test(start_paused = true)]
    async fn records_go_through_the_logger_of_the_program() {
        use opentelemetry::logs::LoggerProvider as _;

        let world = super::world();
        let exporter = InMemoryLogExporter::default();
        let provider = SdkLoggerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .build();
        let text = format!(
            "mesh:\n  extensionProviders:\n  - name: als\n    envoyOtelAls: {{service: otel, port: 4317, \
             logFormat: {{text: '%REQ(:PATH)%', labels: {{code: '%RESPONSE_CODE%'}}}}}}\n---\n{}",
            telemetry("  accessLogging: [{providers: [{name: als}]}]\n")
        );
        let (_publisher, feed) = source::feed(resources(&text));
        let builder = Mesh::builder().feed(feed).connector(world.clone());
        let mesh = builder
            .logger(provider.logger("mesh"))
            .start()
            .await
            .unwrap();
        ask(&mesh, "503").await;
        let logs = exporter.get_emitted_logs().unwrap();
        assert_eq!(logs.len(), 1);
        let record = &logs[0].record;
        let body = format!("{:?}", record.body());
        assert!(body.contains("/503"), "{body}");
        assert_eq!(record.severity_text(), Some("ERROR"));
        let attributes: Vec<_> = record.attributes_iter().collect();
        assert!(
            attributes.len() == 1 && format!("{attributes:?}").contains("503"),
            "{attributes:?}"
        );
    }
}
