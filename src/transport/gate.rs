//! What a cluster's limits say when an endpoint wants a connection.
//!
//! Connections and pending requests are limited per cluster, but used per endpoint. The transport
//! ranks below whatever counts them, so it asks through this small trait and holds what it gets
//! until it is done. Asking is rare: only a request that finds no free connection does.

use std::any::Any;
use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;

/// Which connection of an endpoint is asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Claim {
    /// The endpoint has none. Envoy always grants it, so that no endpoint starves while others
    /// hold the whole budget of their cluster.
    First,
    /// The endpoint has one or more: the cluster's limit of connections applies.
    Further,
}

/// What became of a connection, for who counts them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Turn {
    /// It is up.
    Connected,
    /// It could not be made.
    Failed,
    /// It was up and is gone.
    Gone(Why),
}

/// Why a connection is gone, in the words of gRFC A94 (`grpc.disconnect_error`). What the peer said in a
/// GOAWAY is not told by hyper.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Why {
    /// The system gave it up.
    Aborted,
    /// The peer reset it.
    Reset,
    /// This side wanted no more requests on it (age, idleness, an edit, the end), or a request switched it
    /// to another protocol and the stream ended: no request could follow in either case.
    Shutdown,
    /// Another error of the socket.
    Socket,
    /// Nothing came any more.
    TimedOut,
    /// The peer closed it, or nobody knows.
    Unknown,
}

impl Why {
    /// All of them, in their order.
    pub const ALL: [Self; 6] = [
        Self::Aborted,
        Self::Reset,
        Self::Shutdown,
        Self::Socket,
        Self::TimedOut,
        Self::Unknown,
    ];

    /// The word of gRFC A94.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "connection aborted",
            Self::Reset => "connection reset",
            Self::Shutdown => "subchannel shutdown",
            Self::Socket => "socket error",
            Self::TimedOut => "connection timed out",
            Self::Unknown => "unknown",
        }
    }

    /// What an error of a connection says.
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        use std::io::ErrorKind;
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(io) = error.downcast_ref::<std::io::Error>() {
                return match io.kind() {
                    ErrorKind::ConnectionAborted => Self::Aborted,
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Reset,
                    ErrorKind::TimedOut => Self::TimedOut,
                    ErrorKind::UnexpectedEof => Self::Unknown,
                    _ => Self::Socket,
                };
            }
            if let Some(http) = error.downcast_ref::<hyper::Error>()
                && http.is_timeout()
            {
                return Self::TimedOut;
            }
            next = error.source();
        }
        Self::Unknown
    }
}

/// The limits of a cluster, as an endpoint's connections see them. By default there are none.
///
/// Whoever grants permits is asked while the endpoint's bookkeeping is locked
/// ([`connection`](Self::connection), [`pending`](Self::pending)): that must return at once and not call
/// back into [`Connections`](super::Connections). The connection's own task calls
/// [`turned`](Self::turned), without a lock.
pub trait Gate: fmt::Debug + Send + Sync + 'static {
    /// A permit for one connection, held from the dial until the connection is gone; `None` if
    /// the limit of connections is reached (`connectionPool.tcp.maxConnections`).
    fn connection(&self, claim: Claim) -> Option<Permit> {
        let _ = claim;
        Some(Permit::free())
    }

    /// A permit to wait for a connection; `None` if too many wait already
    /// (`connectionPool.http.http1MaxPendingRequests`).
    fn pending(&self) -> Option<Permit> {
        Some(Permit::free())
    }

    /// Completes once a connection permit was given back after this method was called, also to
    /// another endpoint of the cluster. Waking too often is harmless. Cancel-safe.
    fn released(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(pending())
    }

    /// Hears what became of a connection: up or failed, and gone if it was up. A dial that nobody wanted
    /// any more is neither. No lock is held; it delays the connection's task and no other.
    fn turned(&self, turn: Turn) {
        let _ = turn;
    }
}

/// No limits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlimited;

impl Gate for Unlimited {}

/// Something that is given back when it is dropped.
pub struct Permit {
    held: Option<Box<dyn Any + Send + Sync>>,
}

impl Permit {
    /// A permit that drops `held` when it is dropped itself.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self {
            held: Some(Box::new(held)),
        }
    }

    /// A permit of something that is not counted.
    #[must_use]
    pub const fn free() -> Self {
        Self { held: None }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("counted", &self.held.is_some())
            .finish()
    }
}
