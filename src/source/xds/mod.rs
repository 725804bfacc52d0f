//! An xDS control plane as a source: resources by a stream, taken one by one, in force together.
//!
//! ```text
//! bytes ── ads: versions, nonces, subscriptions, what is answered ── Any
//!       ── decode: each resource alone is a valid value, or a list of faults
//!       ── the last good value of each name stays, and who needs whom is known
//!       ── complete: listener, routes, clusters and endpoints together ── Resources
//! ```
//!
//! Files are accepted as a set; a control plane sends one resource at a time and says of none that
//! it is the last. So a resource is accepted or refused alone (gRFC A46), a refused one leaves the
//! value before it in force, and what a listener needs is put in force only when all of it has
//! arrived (gRFC A74): no request sees the new route and not yet its cluster.
//!
//! Types of the wire (prost, `envoy_types`) stay in here. What leaves is the
//! [model](crate::model), the same that files become.

#[allow(
    dead_code,
    reason = "the stream that carries resources is not joined to it in this commit"
)]
#[allow(deprecated, reason = "control planes still write Envoy's older fields")]
mod decode;
#[allow(
    dead_code,
    reason = "the server that sends resources is not joined to it in this commit"
)]
#[allow(deprecated, reason = "older clients read Envoy's older fields only")]
mod encode;
mod extra;
mod kind;
mod proto;
#[allow(
    dead_code,
    reason = "the machine that drives it is not joined to it in this commit"
)]
mod resource;
#[cfg(test)]
mod tests;

pub use encode::Dialect;
pub use kind::Kind;
#[allow(unused_imports, reason = "as above")]
pub(crate) use resource::{Context, Decode, Decoded, Fault, Rejection, Resource};
