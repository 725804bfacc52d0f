//! A service mesh that a Rust service links instead of running beside.
//!
//! A sidecar gives a service weighted routes, retries, timeouts, limits and outlier detection, and
//! costs two more hops and some 30 us of processor for each request, a container for each pod, and an
//! order in which things must start. This crate gives them to a tonic, hyper, axum or reqwest
//! application in its own process. It is configured by the YAML that mesh users have already:
//! Istio's and Kubernetes' kinds, unchanged.
//!
//! # Two journeys
//!
//! A request leaves. It sees one configuration from its begin to its end, and comes back to the
//! retry loop when a try fails:
//!
//! ```text
//! channel()/client() ─ route ─ fault ─ deadline ─ retry ┬─ limits ─ pick ─ connection ─ endpoint
//!                                                       └────────── failure ──────────────┘
//! ```
//!
//! A configuration arrives. It is in force as a whole, with one atomic store, or it changes nothing
//! and says everything that is wrong with it:
//!
//! ```text
//! YAML ─ read ─ compile for this workload ┐
//!                                         ├─ model ─ link ─ store ─ the next request sees it
//! the program itself ─────────────────────┘
//! ```
//!
//! # Three levels of adoption
//!
//! **Layers in any tower stack**, without a mesh and without configuration files. Everything in
//! [`layer`] stands alone:
//!
//! ```
//! use std::time::Duration;
//! use meshwork::{Body, Error};
//! use meshwork::layer::limit::{LimitLayer, Limits};
//! use meshwork::layer::retry::RetryLayer;
//! use meshwork::layer::timeout::TimeoutLayer;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
//! let inner = service_fn(|_: http::Request<Body>| async {
//!     Ok::<_, Error>(http::Response::new(Body::from("served")))
//! });
//! let service = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new(Duration::from_secs(5)))   // for all tries together
//!     .layer(LimitLayer::new(Limits::default().into()))   // how much is under way at once
//!     .layer(RetryLayer::standard())                      // two retries, within a budget
//!     .service(inner);
//! let response = service.oneshot(http::Request::new(Body::empty())).await?;
//! assert!(response.status().is_success());
//! # Ok(()) }
//! ```
//!
//! **A mesh from YAML.** The folder is watched: a good edit is in force within a second, a bad one is
//! logged with file, line and a way out. A [`Channel`] is for generated gRPC clients, a [`Client`] for
//! plain HTTP, and the layer for servers takes in the deadlines of callers:
//!
//! ```no_run
//! # #[cfg(all(feature = "inbound", feature = "outbound", feature = "yaml"))]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use meshwork::{Body, Mesh, Workload};
//!
//! let workload = Workload::new("my-app", "order-sa").label("app", "order");
//! let mesh = Mesh::builder().yaml("mesh/").workload(workload).start().await?;
//!
//! let channel = mesh.channel("catalog.my-app.svc.cluster.local")?;   // CatalogClient::new(channel)
//! let request = http::Request::get("http://catalog/items").body(Body::empty())?;
//! let response = mesh.client().request(request).await?;
//! let server: axum::Router = axum::Router::new().layer(mesh.inbound_layer());
//!
//! let left = mesh.shutdown(Duration::from_secs(5)).await;            // calls still under way
//! # Ok(()) }
//! ```
//!
//! **A mesh from the program.** Whoever keeps its configuration elsewhere builds [`model`] values and
//! publishes whole sets of them; see [`source::feed`]:
//!
//! ```
//! # #[cfg(feature = "outbound")]
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), meshwork::Error> {
//! use meshwork::{Mesh, model::Resources, source};
//!
//! let (publisher, feed) = source::feed(Resources::default());
//! let mesh = Mesh::builder().feed(feed).start().await?;
//! let generation = publisher.publish(Resources::default()).await?;
//! assert_eq!(mesh.generation(), generation);
//! # Ok(()) }
//! # #[cfg(not(feature = "outbound"))]
//! # fn main() {}
//! ```
//!
//! One call can have other terms than its route says (`CallOptions` among the request's extensions),
//! and tell what became of it (`CallReport`). What the mesh answers itself is an [`Error`] from a
//! [`Client`] or a layer, and a response from a [`Channel`], in HTTP or gRPC as the request was.
//!
//! # What is not there yet
//!
//! What a file asks and nothing here enforces is refused by name, or a warning; nothing is ignored in
//! silence. `docs/kinds` has every field of every kind. There are no gateways, and only HTTP and gRPC are routed.
//!
//! # Feature flags
//!
//! | flag | default | what it adds |
//! | --- | --- | --- |
//! | `outbound` | yes | [`Mesh`], channels, clients, connections (hyper) |
//! | `inbound` | yes | the layer for servers |
//! | `yaml` | yes | Istio's YAML as a source: [`source::istio`](source) |
//! | `tls` | yes | identities and mutual TLS (rustls with aws-lc-rs; `tls-ring` with ring) |
//! | `dns` | yes | names resolved with their TTLs (hickory-resolver) |
//! | `xds` | no | configuration by a control plane |
//! | `control-plane` | no | an xDS server as a library: `control` |
//! | `jwt` | no | tokens: `RequestAuthentication` |
//! | `otel` | no | metrics and spans through OpenTelemetry |
//! | `rate-limit` | no | `layer::rate_limit` (governor) |
//! | `test-util` | no | `testing`: a world in memory for tests of meshed services |
//! | `cli` | no | the `meshwork` binary |
//!
//! Without any of them the crate is [`layer`] and [`model`]: no hyper, no serde. Features add API and
//! never change behaviour.
//!
//! # What stands at the root
//!
//! The types that callers name, whose modules are private: the front door (`Mesh`, `Builder`,
//! [`Workload`]), the two ways out (`Channel`, `Client`, their `ResponseFuture`), the terms and the
//! report of one call (`CallOptions`, `CallReport`, `Attempt`, `OutboundTraffic`), what was counted
//! (`Stats`, `ClusterStats`, `ConnectionStats`, `DetectionStats`, `EndpointStats`, `InboundStats`, `RouteStats`), failures ([`Error`], [`Flag`], [`Limit`], [`BoxError`])
//! and the two values that all share ([`Body`], [`Random`]). Everything else is under its module.
//!
#![cfg_attr(
    feature = "outbound",
    doc = "[`Channel`]: crate::Channel\n[`Client`]: crate::Client\n[`Mesh`]: crate::Mesh"
)]
#![cfg_attr(
    not(feature = "outbound"),
    doc = "[`Channel`]: #feature-flags\n[`Client`]: #feature-flags\n[`Mesh`]: #feature-flags"
)]
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]
#![cfg_attr(
    not(feature = "outbound"),
    allow(
        dead_code,
        unused_imports,
        reason = "layers alone: what only a mesh's own path drives has no caller"
    )
)]

// The README's code compiles, or this is a test that fails.
#[cfg(all(doctest, feature = "outbound", feature = "yaml"))]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(feature = "inbound")]
mod admin;
mod body;
#[cfg(feature = "control-plane")]
pub mod control;
#[cfg(feature = "outbound")]
pub mod dns;
mod error;
#[cfg(feature = "outbound")]
mod event;
#[cfg(feature = "outbound")]
pub mod explain;
#[cfg(feature = "outbound")]
pub mod filter;
#[cfg(feature = "inbound")]
pub mod inbound;
pub mod layer;
mod list;
#[cfg(feature = "outbound")]
mod mesh;
pub mod model;
#[cfg(feature = "outbound")]
mod name;
#[cfg(any(feature = "inbound", feature = "control-plane"))]
mod operator;
#[cfg(feature = "outbound")]
mod outbound;
mod protobuf;
mod random;
#[cfg(feature = "outbound")]
mod snapshot;
pub mod source;
#[cfg(feature = "outbound")]
mod telemetry;
#[cfg(feature = "test-util")]
pub mod testing;
#[cfg(feature = "tls-core")]
pub mod tls;
#[cfg(feature = "outbound")]
pub mod transport;
mod workload;

pub use body::Body;
pub use error::{BoxError, Error, Flag, Limit};
#[cfg(feature = "outbound")]
pub use event::{Event, Events, Lagged};
#[cfg(feature = "outbound")]
pub use mesh::{Builder, Mesh};
pub use model::OutboundTraffic;
#[cfg(feature = "outbound")]
pub use outbound::{Attempt, CallOptions, CallReport, Channel, Client, ResponseFuture};
pub use random::Random;
#[cfg(feature = "outbound")]
pub use snapshot::{
    ClusterStats, ConnectionStats, DetectionStats, EndpointStats, InboundStats, RouteStats, Stats,
};
#[cfg(feature = "outbound")]
pub use telemetry::access::AccessLog;
pub use workload::Workload;
