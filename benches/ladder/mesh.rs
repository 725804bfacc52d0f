//! The mesh, with as much of the bench config as a rung asks for.

use std::sync::Arc;

use http::Request;
use meshwork::model::Resources;
use meshwork::model::cluster::Protocol;
use meshwork::model::security::{Alpn, ClientTls, Material, Security, Sni, Verification};
use meshwork::source::Publisher;
use meshwork::tls::{Bundle, Credentials, Identity, Trust};
use meshwork::{AccessLog, Body, Builder, Channel, Client, Mesh, Random, source};
#[cfg(feature = "otel")]
use {
    meshwork::model::Fraction,
    opentelemetry::Context,
    opentelemetry::global::BoxedTracer,
    opentelemetry::trace::TracerProvider as _,
    opentelemetry_sdk::error::OTelSdkResult,
    opentelemetry_sdk::trace::{SdkTracerProvider, Span, SpanData, SpanProcessor},
    std::time::Duration,
};

use crate::call::HOST_NAME;
use crate::host::HOST;
use crate::identity::Pems;
use crate::scenario::{self, Step};
use crate::wire::{self, Memory};

pub(crate) use crate::wire::Speaks;

/// A channel over endpoints that answer at once.
pub(crate) async fn answering(step: Step, endpoints: usize) -> Channel {
    channel(
        &start(
            answered(Mesh::builder()),
            addressless(step, Speaks::Http2, endpoints),
        )
        .await,
    )
}

/// The whole bench config over endpoints that answer at once, with metrics off.
pub(crate) async fn unmeasured(step: Step) -> Channel {
    let resources = addressless(step, Speaks::Http2, scenario::ENDPOINTS);
    channel(&start(answered(Mesh::builder()).metrics(false), resources).await)
}

/// The same with metrics on and a line of an access log for each call, which nobody keeps.
pub(crate) async fn logged() -> Channel {
    let log = AccessLog::text().to(std::io::sink());
    channel(&start(answered(Mesh::builder()).access_log(log), whole()).await)
}

/// The same with metrics on and this share of traces sampled; what the SDK does with a span that has ended is
/// left out, for that is the exporter's.
#[cfg(feature = "otel")]
pub(crate) async fn traced(share: Fraction) -> Channel {
    let provider = SdkTracerProvider::builder().with_span_processor(Forget);
    let tracer = BoxedTracer::new(Box::new(provider.build().tracer("ladder")));
    let builder = answered(Mesh::builder()).traces(tracer);
    channel(&start(builder.trace_sampling(share), whole()).await)
}

/// Forgets spans that have ended.
#[cfg(feature = "otel")]
#[derive(Debug)]
struct Forget;

#[cfg(feature = "otel")]
impl SpanProcessor for Forget {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, _: SpanData) {}

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The whole bench config.
fn whole() -> Resources {
    addressless(Step::Retry, Speaks::Http2, scenario::ENDPOINTS)
}

/// A client over endpoints that answer at once.
pub(crate) async fn client(step: Step) -> Client {
    let resources = addressless(step, Speaks::Http2, scenario::ENDPOINTS);
    start(answered(Mesh::builder()), resources).await.client()
}

/// A channel over servers in memory.
pub(crate) async fn in_memory(step: Step, speaks: Speaks) -> Channel {
    let builder = Mesh::builder().connector(Memory { speaks, tls: None });
    channel(&start(builder, addressless(step, speaks, scenario::ENDPOINTS)).await)
}

/// The same with metrics off.
pub(crate) async fn unmeasured_in_memory(step: Step, speaks: Speaks) -> Channel {
    let builder = Mesh::builder().connector(Memory { speaks, tls: None });
    let resources = addressless(step, speaks, scenario::ENDPOINTS);
    channel(&start(builder.metrics(false), resources).await)
}

/// A channel over servers in memory that want mutual TLS.
pub(crate) async fn secured(step: Step, speaks: Speaks) -> Channel {
    let pems = Pems::make().expect("rcgen makes certificates");
    let tls = ClientTls {
        identity: Some(Material::Mesh),
        trust: Material::Mesh,
        verification: Verification::Name,
        names: Vec::new(),
        sni: Sni::Name(HOST.into()),
        alpn: Alpn::Http,
    };
    let mut resources = addressless(step, speaks, scenario::ENDPOINTS);
    for cluster in resources.clusters.values_mut() {
        Arc::make_mut(cluster).security = Security::Tls(Arc::new(tls.clone()));
    }
    let identity = Identity::from_pem(pems.leaf.as_bytes(), pems.key.as_bytes());
    let authority = Bundle::from_pem(pems.authority.as_bytes()).expect("the authority is one");
    let credentials = Credentials::new(
        Some(identity.expect("the leaf is an SVID")),
        Trust::default().with_roots(authority),
    );
    let tls = pems.acceptor(speaks.protocol()).expect("they fit");
    let memory = Memory {
        speaks,
        tls: Some(tls),
    };
    let builder = Mesh::builder().connector(memory).identity(credentials);
    channel(&start(builder, resources).await)
}

/// A channel over servers on the loopback interface.
pub(crate) async fn tcp(step: Step) -> Channel {
    let mut addresses = Vec::new();
    for _ in 0..scenario::ENDPOINTS {
        addresses.push(wire::listen(Speaks::Http2).await);
    }
    let resources = scenario::resources(step, Protocol::Http2, addresses.into_iter());
    channel(&start(Mesh::builder(), resources).await)
}

fn answered(builder: Builder) -> Builder {
    builder.answering(Arc::new(|_: Request<Body>| wire::message().map(Body::from)))
}

/// Endpoints whose addresses only tell them apart.
pub(crate) fn addressless(step: Step, speaks: Speaks, endpoints: usize) -> Resources {
    let protocol = match speaks {
        Speaks::Http1 => Protocol::Http1,
        Speaks::Http2 => Protocol::Http2,
    };
    let addresses = (0..endpoints).map(|index| scenario::address(index as u32));
    scenario::resources(step, protocol, addresses)
}

/// A channel among so many virtual hosts.
pub(crate) async fn hosts(count: u32) -> Channel {
    let mut resources = addressless(Step::Mesh, Speaks::Http2, 1);
    scenario::add_hosts(&mut resources, count);
    channel(&start(answered(Mesh::builder()), resources).await)
}

/// A mesh whose endpoints answer at once, and what feeds it.
pub(crate) async fn published(resources: Resources) -> (Mesh, Publisher) {
    feeding(answered(Mesh::builder()), resources).await
}

/// A mesh whose endpoints are dialled over TCP.
pub(crate) async fn over_tcp(resources: Resources) -> Mesh {
    start(Mesh::builder(), resources).await
}

/// A mesh whose endpoints are dialled when they are called, and what feeds it.
pub(crate) async fn dialling(resources: Resources) -> (Mesh, Publisher) {
    let memory = Memory {
        speaks: Speaks::Http2,
        tls: None,
    };
    feeding(Mesh::builder().connector(memory), resources).await
}

async fn feeding(builder: Builder, resources: Resources) -> (Mesh, Publisher) {
    let (publisher, feed) = source::feed(resources);
    let builder = builder.feed(feed).random(Random::seeded(scenario::SEED));
    let mesh = builder.start().await.expect("the bench config is good");
    (mesh, publisher)
}

async fn start(builder: Builder, resources: Resources) -> Mesh {
    // The publisher is dropped: a mesh outlives it.
    feeding(builder, resources).await.0
}

fn channel(mesh: &Mesh) -> Channel {
    mesh.channel(HOST_NAME).expect("it is a host")
}
