//! The xDS server: the mesh's configuration for proxyless gRPC of every language, for Envoy and for
//! this library.
//!
//! One folder of Istio's YAML configures clients that do not link this crate, too: they get it as a
//! stream from a server. What they get is the same: objects are compiled for the view of each client
//! by the compiler that an embedded mesh uses, and encoded in the dialect that the client takes.
//!
//! ```text
//! folder, program ── Store: judged as a whole, in force or rejected ── Content
//!        ── compile for a node's view, encode in its dialect, once for all who are alike ── Snapshot
//!        ── one machine per stream (`ads`): what differs, in the right order ── bytes, shared
//! ```
//!
//! The parts know little of each other. The machine has no IO and knows names and references, not
//! messages. The store knows no streams: it hands out immutable snapshots. A stream is one task
//! between the two.
//!
//! # Example
//!
//! ```no_run
//! use meshwork::control::{self, Store};
//! use meshwork::source::istio::Options;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::follow("mesh/", Options::default()).await.map_err(|faults| faults.to_string())?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:15010").await?;
//! control::serve(listener, store, std::future::pending()).await?;
//! # Ok(()) }
//! ```

mod admin;
mod ads;
mod ca;
mod calls;
mod csds;
mod door;
mod dump;
mod edge;
mod egress;
mod house;
mod inbound;
mod interned;
mod introduction;
mod kind;
mod limits;
mod lock;
mod lrs;
mod node;
mod page;
mod references;
mod resource;
mod seats;
mod server;
mod services;
mod snapshot;
mod spelling;
mod store;
mod stream;
mod told;
mod variant;
mod view;
mod wire;
mod workshop;

use tokio::net::TcpListener;

pub use self::ca::{Ca, JoinTokens, Kubernetes};
pub use self::egress::{Egress, InvalidEgress};
pub use self::house::{Connected, Report};
pub use self::kind::Kind;
pub use self::limits::Limits;
pub use self::lrs::Load;
pub use self::node::Node;
pub use self::resource::Encoded;
pub use self::server::Server;
pub use self::snapshot::Snapshot;
pub use self::store::{Content, Store};
pub use crate::source::xds::Dialect;

/// Serves a store on a listener until `shutdown` ends, then drains; yields how many connections had
/// to be cut. The limits are the [default ones](Limits); a [`Server`] has others, and tells what it
/// does.
///
/// Dropping the future cuts all connections.
///
/// # Errors
/// The listener has no address.
pub async fn serve(
    listener: TcpListener,
    store: Store,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<usize> {
    Server::new(store).serve(listener, shutdown).await
}
