//! Connections to one address: dialled, kept, shared and let go.
//!
//! [`Connections`] is what an endpoint of a cluster owns: give it a request and it finds a
//! connection, or makes one, and sends it. It knows addresses and HTTP, no meshes: running
//! endpoints survive edits of the configuration, so what they own ranks below what is edited.
//!
//! # Why not a ready-made pool
//!
//! hyper-util's client keys its pool by authority, spawns a task for each HTTP/1.1 response and
//! offers no bound on connections; tonic's channel has one HTTP/2 connection for an address and
//! waits where that is full. A mesh has to count connections and waiters against limits of the
//! cluster, to open a next connection when the peer's limit of streams is reached, to replace
//! connections by age and number of requests without losing a call, and to know for each failure
//! whether the peer can have seen the request. So this is built on hyper's connection API, which
//! has the protocols, and adds the keeping.
//!
//! # How it works
//!
//! A connection is one task, its driver, which dials, moves bytes, follows the peer's SETTINGS and
//! GOAWAY, and closes the connection when it is too old, idle, used up or retired. A request takes
//! a place on a connection with one atomic operation (HTTP/2) or takes the connection from the idle
//! list (HTTP/1.1), and gives it back when the response body has ended; no task is needed for that.
//! If there is no place, it waits, counted, while a connection is dialled: one dial for any number
//! of HTTP/2 requests, one each for HTTP/1.1.
//!
//! An HTTP/2 connection counts as made when the peer's SETTINGS have arrived, within the connect
//! timeout. That costs up to a round trip for the first request and buys two things: a peer that
//! accepts and stays silent is found out by the connect timeout, not by the caller's, and no
//! stream is opened that the peer would have to refuse.
//!
//! # Failures
//!
//! A request of which nothing was sent goes to another connection by itself, a few times. One that
//! cannot is handed back in [`Unanswered::unsent`]. One that the peer certainly did not look at
//! (GOAWAY below its stream, REFUSED_STREAM) has an error that
//! [is unprocessed](crate::Error::is_unprocessed). Whatever else broke may have been processed.
//!
//! # Switching
//!
//! A request may turn its connection into something else, see [`upgrade`].
//!
//! # Dropping
//!
//! Dropping [`Connections::send`]'s future or a response body gives back everything at once: the
//! stream is reset, or the HTTP/1.1 connection closed, and a request body still on its way ends.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use meshwork::Body;
//! use meshwork::model::cluster::{Connection, Families, Protocol};
//! use meshwork::model::endpoint::Address;
//! use meshwork::transport::{Connections, Settings, TcpConnector, Unlimited};
//!
//! # async fn example(address: std::net::SocketAddr) -> Result<(), meshwork::Error> {
//! let settings = Settings {
//!     protocol: Protocol::Http2,
//!     connect_timeout: Duration::from_secs(10),
//!     families: Families::Both,
//!     connection: Connection::default(),
//! };
//! let connections = Connections::new(
//!     Address::from(address),
//!     Arc::new(settings),
//!     Arc::new(TcpConnector),
//!     Arc::new(Unlimited),
//! );
//! let request = http::Request::get("http://catalog/items").body(Body::empty()).unwrap();
//! let response = connections.send(request, ()).await.map_err(|unanswered| unanswered.error)?;
//! println!("{}", response.status());
//! # Ok(()) }
//! ```

mod connect;
mod connections;
mod driver;
mod failure;
mod gate;
mod lease;
mod outgoing;
mod proxy;
pub(crate) mod race;
mod reach;
mod remote;
mod request;
mod response;
mod secure;
mod settings;
mod single;
mod slot;
pub mod upgrade;
mod wire;

pub use connect::{Connect, Connecting, Io, Stream, TcpConnector};
pub(crate) use connections::Lost;
pub use connections::{Answer, Connections, Stats};
pub use failure::{Unanswered, is_exhausted};
pub use gate::{Claim, Gate, Permit, Turn, Unlimited, Why};
pub(crate) use reach::{Means, Reach, Stand};
pub use response::{End, Guard};
pub(crate) use secure::known_as;
pub use secure::{Secure, Unprepared};
pub use settings::Settings;
pub(crate) use single::Single;

use settings::Http;
