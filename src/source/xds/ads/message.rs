//! What is said on a stream, without protobuf: both variants of the protocol in one form.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::source::xds::Kind;

/// A message to the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    /// Whether the node is in it: in the first message of a stream and no other.
    pub(crate) introduces: bool,
    /// The response that is answered, or the newest one; empty before the first.
    pub(crate) nonce: Arc<str>,
    /// Why the response is refused.
    pub(crate) refusal: Option<Arc<str>>,
    pub(crate) ask: Ask,
    /// The names that the server did not know of on this stream before.
    pub(crate) fresh: Vec<Arc<str>>,
    /// Of these, the ones that it may not see as new ones.
    pub(crate) returned: Vec<Arc<str>>,
}

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Ask {
    /// What changes, by name.
    Delta {
        subscribe: Vec<Arc<str>>,
        unsubscribe: Vec<Arc<str>>,
        /// What is known already, with versions: in the first message of a kind.
        known: Vec<(Arc<str>, Arc<str>)>,
    },
    /// The state of the world: all names, and the last version that was accepted.
    Sotw {
        names: Vec<Arc<str>>,
        version: Arc<str>,
    },
}

/// A message from the server.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Response {
    pub(crate) type_url: String,
    pub(crate) version: Arc<str>,
    pub(crate) nonce: Arc<str>,
    pub(crate) resources: Vec<Incoming>,
    /// Names that do not exist (delta).
    pub(crate) removed: Vec<Arc<str>>,
    /// Names that cannot be had, and why (xRFC TP3).
    pub(crate) errors: Vec<Unavailable>,
}

/// A resource, not yet read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Incoming {
    /// From the envelope, if it came in one.
    pub(crate) name: Option<Arc<str>>,
    pub(crate) version: Option<Arc<str>>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) content: Content,
}

/// What is in a resource's envelope.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Content {
    /// Not even an envelope.
    Broken(String),
    /// Nothing: the resource is what it was, and its time to live begins anew.
    Heartbeat,
    /// A message.
    Message(Raw),
}

/// A message as it was received: an `Any`.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Raw {
    pub(crate) type_url: Arc<str>,
    pub(crate) bytes: Bytes,
}

/// Without the bytes: there may be a key in them.
impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw")
            .field("type_url", &self.type_url)
            .field("length", &self.bytes.len())
            .finish()
    }
}

/// Why a resource cannot be had.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Unavailable {
    pub(crate) name: Arc<str>,
    /// A code of gRPC.
    pub(crate) code: u32,
    pub(crate) text: String,
}
