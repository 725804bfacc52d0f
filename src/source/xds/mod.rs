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

mod ads;
mod bootstrap;
mod client;
mod decode {
    #[derive(Debug)]
    pub(crate) struct Messages;
    impl super::Decode for Messages {
        fn decode(
            &self,
            _: super::Kind,
            _: &[u8],
            _: super::Context<'_>,
        ) -> Result<super::Decoded, super::Rejection> {
            Err(super::Rejection {
                name: None,
                faults: Vec::new(),
            })
        }
    }
}
mod graph;
mod kind;
mod name;
mod reading;
#[allow(
    dead_code,
    reason = "the machine that drives it is not joined to it in this commit"
)]
mod resource;
mod store;
mod stream;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use bootstrap::Bootstrap;
pub use kind::Kind;
pub(crate) use resource::{Context, Decode, Decoded, Fault, Rejection, Resource};
pub(crate) use stream::{Driver, Surroundings};

/// An xDS client with the real messages. It runs when its driver is run.
pub(crate) async fn start(bootstrap: &Bootstrap, surroundings: Surroundings) -> Arc<Driver> {
    Driver::new(
        bootstrap,
        Arc::new(decode::Messages),
        surroundings,
        BTreeMap::new(),
    )
}
