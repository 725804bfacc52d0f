//! Where a request stands in its trace.
//!
//! A service that forwards nothing breaks every trace that passes it; with a sidecar each service
//! must copy the headers itself. Here the inbound layer takes in what its request brought (W3C's
//! `traceparent`, or B3 in one header or several) and calls that are made under it carry it on, in the
//! words in which it came. That needs no tracer.
//!
//! With a tracer (feature `otel`, `Builder::traces`) a call is a client span, each of its tries a
//! child of that, and an inbound request a server span. The parent of a call is, in this order: the
//! context in the request's own headers; the active span of OpenTelemetry, which is the service's own if
//! it uses `tracing-opentelemetry`; the inbound request. A parent's decision about sampling wins;
//! where there is none the mesh decides by its share, and tells the callee also if it decided against.

mod context;
#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod otel;

#[cfg(feature = "inbound")]
use tokio::task::futures::TaskLocalFuture;

pub(crate) use context::Parent;
#[cfg(all(feature = "inbound", not(feature = "otel")))]
pub(crate) use off::enter;
#[cfg(not(feature = "otel"))]
pub(crate) use off::{Span, Tracing};
#[cfg(all(feature = "inbound", feature = "otel"))]
pub(crate) use otel::enter;
#[cfg(feature = "otel")]
pub(crate) use otel::{Span, Tracing};

tokio::task_local! {
    static INHERITED: Option<Parent>;
}

/// The context of the inbound request that the current task works for.
pub(crate) fn inherited() -> Option<Parent> {
    INHERITED.try_with(Clone::clone).ok().flatten()
}

/// Lets calls under `future` inherit a context.
#[cfg(feature = "inbound")]
pub(crate) fn scope<F: Future>(
    parent: Option<Parent>,
    future: F,
) -> TaskLocalFuture<Option<Parent>, F> {
    INHERITED.scope(parent, future)
}

/// The future of [`scope`].
#[cfg(feature = "inbound")]
pub(crate) type Scoped<F> = TaskLocalFuture<Option<Parent>, F>;
