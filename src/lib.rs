//! A service mesh that a Rust service links instead of running beside.

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

mod body;
#[cfg(feature = "outbound")]
pub mod dns;
mod error;
#[cfg(feature = "inbound")]
pub mod inbound;
pub mod layer;
#[cfg(feature = "outbound")]
mod mesh;
pub mod model;
#[cfg(feature = "outbound")]
mod name;
#[cfg(feature = "outbound")]
mod outbound;
mod random;
#[cfg(feature = "outbound")]
mod snapshot;
pub mod source;
#[cfg(feature = "outbound")]
pub mod transport;
mod workload;

pub use body::Body;
pub use error::{BoxError, Error, Flag, Limit};
#[cfg(feature = "outbound")]
pub use mesh::{Builder, Mesh};
pub use model::OutboundTraffic;
#[cfg(feature = "outbound")]
pub use outbound::{Attempt, CallOptions, CallReport, Channel, Client, ResponseFuture};
pub use random::Random;
#[cfg(feature = "outbound")]
pub use snapshot::{ClusterStats, EndpointStats, Stats};
pub use workload::Workload;
