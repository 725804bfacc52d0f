//! What is measured of requests, and how it is told.
//!
//! Dashboards for Istio ask for `istio_requests_total` and its relatives with a dozen labels. Looking
//! a counter up by a dozen texts costs more than the rest of the mesh, so nothing is looked up on the
//! way of a request: a [`Series`](series::Series) is one set of labels that does not change from
//! request to request (who calls whom), made when a configuration is linked and held by the endpoint
//! itself. What does change (status, flags, protocol) is a number that finds one of 32 cells by its
//! hash. A request is recorded when the last byte of its response is gone: eight atomic additions, no
//! lock, no allocation but the first time that a series sees a status.
//!
//! **Cardinality is bounded by construction.** A series has 32 cells and one for all others; there are
//! at most [`SERIES`](registry::SERIES) series and one for all others; nothing that a peer or caller
//! writes (a host, a path, a header) becomes a label. That is the one deviation from Istio, which falls
//! back to the `Host` header for `destination_service`: here that is `unknown`.
//!
//! The text of Prometheus is made here, by hand: it is three rules of escaping, and the crates for it
//! bring a registry that would have to be kept equal to ours. OpenTelemetry (feature `otel`) gets the
//! same measurements through [`Instruments`] that are bound when a cell is made.
//!
//! A [`Meter`] is one request on its way; what else is told of it (a line in the [access log](access),
//! a [span](trace)) rides with it and ends with it.

pub(crate) mod access;
mod cells;
pub(crate) mod family;
mod grpc;
mod histogram;
mod labels;
mod meter;
mod method;
#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod otel;
pub(crate) mod prometheus;
mod registry;
mod series;
mod shape;
mod told;
pub(crate) mod trace;
mod tries;

pub(crate) use meter::{Meter, Protocol};
pub(crate) use method::{Method, Methods};
#[cfg(not(feature = "otel"))]
pub(crate) use off::Instruments;
#[cfg(feature = "otel")]
pub(crate) use otel::{Instruments, observe};
pub(crate) use registry::{Registry, Settings};
pub(crate) use series::Series;
#[cfg(feature = "otel")]
pub(crate) use told::ToLogger;
pub(crate) use trace::Span;
pub(crate) use tries::Repeats;
