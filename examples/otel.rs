//! Traces, metrics and access logs of a mesh, sent to a collector by OTLP.
//! Run with `OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317 cargo run --features otel --example otel`,
//! where a collector of OpenTelemetry listens.

use std::sync::atomic::{AtomicU32, Ordering};

use axum::http::{Request, StatusCode};
use axum::routing::get;
use http_body_util::BodyExt;
use meshwork::model::Fraction;
use meshwork::{Body, Mesh, Workload};
use opentelemetry::global::BoxedTracer;
use opentelemetry::logs::LoggerProvider as _;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::net::TcpListener;

/// What the mesh tells whom: records for a collector, and a label less.
const TELEMETRY: &str = "mesh:
  extensionProviders:
  - {name: collector, envoyOtelAls: {service: collector, port: 4317, logFormat: {labels: {code: '%RESPONSE_CODE%'}}}}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: all, namespace: istio-system}
spec:
  accessLogging: [{providers: [{name: collector}], match: {mode: CLIENT}}]
  metrics: [{overrides: [{tagOverrides: {response_flags: {operation: REMOVE}}}]}]
---
";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The SDK of one service; the mesh only makes spans, numbers and records.
struct Sdk {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
    logs: SdkLoggerProvider,
}

impl Sdk {
    fn new(service: &'static str) -> Result<Self, Failure> {
        let resource = Resource::builder().with_service_name(service).build();
        let spans = SpanExporter::builder().with_tonic().build()?;
        let numbers = MetricExporter::builder().with_tonic().build()?;
        let records = LogExporter::builder().with_tonic().build()?;
        Ok(Self {
            traces: SdkTracerProvider::builder()
                .with_resource(resource.clone())
                .with_batch_exporter(spans)
                .build(),
            metrics: SdkMeterProvider::builder()
                .with_resource(resource.clone())
                .with_periodic_exporter(numbers)
                .build(),
            logs: SdkLoggerProvider::builder()
                .with_resource(resource)
                .with_batch_exporter(records)
                .build(),
        })
    }

    /// Sends what waits to be sent.
    fn end(&self) -> Result<(), Failure> {
        self.traces.shutdown()?;
        self.metrics.shutdown()?;
        self.logs.shutdown()?;
        Ok(())
    }

    async fn mesh(&self, service: &'static str, text: &str) -> Result<Mesh, Failure> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("mesh.yaml"), text)?;
        let mesh = Mesh::builder()
            .yaml(folder.path())
            .workload(Workload::new("my-app", format!("{service}-sa")).label("app", service))
            .traces(BoxedTracer::new(Box::new(self.traces.tracer(service))))
            .trace_sampling(Fraction::ONE)
            .meter(self.metrics.meter(service))
            .logger(self.logs.logger(service));
        Ok(mesh.start().await?)
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // catalog: fails the first request, so that its caller tries again.
    let (catalog_sdk, order_sdk) = (Sdk::new("catalog")?, Sdk::new("order")?);
    let catalog = catalog_sdk.mesh("catalog", TELEMETRY).await?;
    let tries = std::sync::Arc::new(AtomicU32::new(0));
    let app = axum::Router::new()
        .route(
            "/items",
            get(move || async move {
                match tries.fetch_add(1, Ordering::Relaxed) {
                    0 => (StatusCode::SERVICE_UNAVAILABLE, "not yet"),
                    _ => (StatusCode::OK, "items"),
                }
            }),
        )
        .layer(catalog.inbound_layer());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let text = format!(
        "{TELEMETRY}apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: catalog, namespace: my-app}}\nspec:\n  hosts: [catalog.example]\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  \
         endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}, labels: {{app: catalog}}}}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: catalog, namespace: my-app}}\nspec:\n  hosts: [catalog.example]\n  http:\n  \
         - route: [{{destination: {{host: catalog.example}}}}]\n    \
         retries: {{attempts: 2, retryOn: '503'}}\n"
    );
    let order = order_sdk.mesh("order", &text).await?;
    let request = Request::get("http://catalog.example/items").body(Body::empty())?;
    let response = order.client().request(request).await?;
    let body = response.into_body().collect().await?.to_bytes();
    println!("{}", String::from_utf8_lossy(&body));

    // They stay until the SDK has read what they count.
    for mesh in [&order, &catalog] {
        mesh.shutdown(std::time::Duration::from_secs(5)).await;
    }
    // The SDK blocks while it sends.
    let sent = tokio::task::spawn_blocking(move || order_sdk.end().and(catalog_sdk.end()));
    if let Err(error) = sent.await? {
        eprintln!("nobody took what was told; does a collector listen? {error}");
    }
    Ok(())
}
