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
mod cache;
mod client;
mod csds;
#[allow(deprecated, reason = "control planes still write Envoy's older fields")]
mod decode;
mod dump;
#[cfg_attr(
    not(feature = "control-plane"),
    allow(dead_code, reason = "nobody serves")
)]
#[allow(deprecated, reason = "older clients read Envoy's older fields only")]
mod encode;
mod extra;
mod filters;
mod graph;
#[cfg_attr(
    not(feature = "control-plane"),
    allow(dead_code, reason = "nobody serves")
)]
pub(crate) mod json;
mod kind;
mod load;
mod name;
mod proto;
mod reading;
mod resource;
mod server;
#[cfg(any(feature = "inbound", feature = "control-plane"))]
mod services;
mod store;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

/// The client's machine, to be driven against the server's.
#[cfg(all(test, feature = "control-plane"))]
pub(crate) mod machine {
    pub(crate) use super::Bootstrap;
    pub(crate) use super::ads::message::{
        Ask, Content, Incoming, Raw, Request, Response, Unavailable,
    };
    pub(crate) use super::client::{Client, Status, Wish};
    pub(crate) use super::decode::Messages;
}

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::Instant;

pub use bootstrap::Bootstrap;
pub use csds::ClientStatus;
#[cfg(feature = "inbound")]
pub(crate) use csds::InForce;
pub use dump::{Dump, ResourceDump, ResourceState, ServerDump, ValueDump};
pub use encode::Dialect;
#[cfg(all(test, feature = "control-plane"))]
pub(crate) use encode::grpc;
#[cfg(feature = "control-plane")]
pub(crate) use encode::{Lost, Port, encode, gates, inbound};
pub use kind::Kind;
pub(crate) use resource::{Context, Decode, Decoded, Fault, Resource};
#[cfg(any(feature = "inbound", feature = "control-plane"))]
pub(crate) use services::{Serves, Services};
pub(crate) use stream::{Driver, Surroundings};

/// An xDS client with the real messages. It runs when its driver is run; what its cache holds is read
/// before this returns.
pub(crate) async fn start(bootstrap: &Bootstrap, surroundings: Surroundings) -> Arc<Driver> {
    let filters = surroundings.filters.clone();
    let decoder = Arc::new(decode::Messages { filters });
    let seeds = match &bootstrap.cache {
        None => BTreeMap::new(),
        Some(folder) => seeds(bootstrap, folder.clone(), decoder.clone()).await,
    };
    Driver::new(bootstrap, decoder, surroundings, seeds)
}

async fn seeds(
    bootstrap: &Bootstrap,
    folder: PathBuf,
    decoder: Arc<decode::Messages>,
) -> BTreeMap<store::Key, store::Good> {
    let (server, version) = (Arc::from(folder.display().to_string()), Arc::from(""));
    let providers: BTreeSet<Arc<str>> = bootstrap.certificate_providers.keys().cloned().collect();
    let now = Instant::now();
    let loaded = tokio::task::spawn_blocking(move || {
        let context = Context {
            server: &server,
            version: &version,
            certificate_providers: &providers,
            // Nobody vouches for a disk.
            trusted: false,
        };
        cache::load(&folder, &*decoder, context, now)
    });
    match loaded.await.map_err(std::io::Error::other).flatten() {
        Ok(seeds) => {
            if !seeds.is_empty() {
                let count = seeds.len();
                tracing::warn!(
                    target: "meshwork::source::xds",
                    count,
                    "begins with resources of an earlier process, until a control plane answers"
                );
            }
            seeds
        }
        Err(error) => {
            tracing::warn!(target: "meshwork::source::xds", %error, "the cache cannot be read");
            BTreeMap::new()
        }
    }
}
