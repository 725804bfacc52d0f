//! What goes into a stream and comes out of it, without protobuf.

use std::sync::Arc;

use crate::control::kind::Kind;
use crate::control::resource::Encoded;

/// A `DiscoveryRequest`, without its node.
#[derive(Clone, Debug)]
pub(in crate::control) struct SotwRequest {
    pub(in crate::control) kind: Kind,
    pub(in crate::control) names: Vec<String>,
    pub(in crate::control) version: String,
    pub(in crate::control) nonce: String,
    /// What the client did not like; its presence makes it a refusal.
    pub(in crate::control) error: Option<String>,
}

/// A `DeltaDiscoveryRequest`, without its node.
#[derive(Clone, Debug)]
pub(in crate::control) struct DeltaRequest {
    pub(in crate::control) kind: Kind,
    pub(in crate::control) subscribe: Vec<String>,
    pub(in crate::control) unsubscribe: Vec<String>,
    pub(in crate::control) initial: Vec<(String, String)>,
    pub(in crate::control) nonce: String,
    pub(in crate::control) error: Option<String>,
}

/// What a request was besides a subscription.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::control) enum Outcome {
    /// The acknowledgement of the last response of its kind.
    Acknowledged,
    /// The refusal of the last response of its kind, for the first time.
    Refused {
        /// The version that was refused.
        version: Arc<str>,
        /// What the client said, cut to some kilobytes.
        error: Arc<str>,
    },
    /// Neither: a subscription.
    Subscribed,
    /// About a response that is not the last one. In the state-of-the-world variant nothing of it
    /// counts.
    Stale,
}

/// Why a stream ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::control) struct Refusal {
    pub(in crate::control) reason: Reason,
    /// What was found and what is allowed.
    pub(in crate::control) message: String,
}

/// What kind of refusal it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::control) enum Reason {
    /// The client is not who it says it is.
    Denied,
    /// A limit is exceeded.
    Exhausted,
    /// The request makes no sense.
    Invalid,
}

impl Refusal {
    pub(in crate::control) fn denied(message: String) -> Self {
        Self {
            reason: Reason::Denied,
            message,
        }
    }

    pub(in crate::control) fn exhausted(message: String) -> Self {
        Self {
            reason: Reason::Exhausted,
            message,
        }
    }

    pub(in crate::control) fn invalid(message: impl Into<String>) -> Self {
        Self {
            reason: Reason::Invalid,
            message: message.into(),
        }
    }
}

/// A response of either variant.
#[derive(Clone, Debug)]
pub(in crate::control) struct Response {
    pub(in crate::control) kind: Kind,
    pub(in crate::control) nonce: u64,
    /// Of the whole response.
    pub(in crate::control) version: Arc<str>,
    pub(in crate::control) items: Vec<Item>,
    /// Names that are not there any more, or never were: `removed_resources`. Delta only.
    pub(in crate::control) removed: Vec<Arc<str>>,
    /// Variants that are not there any more: `removed_resource_names`. Delta only.
    pub(in crate::control) left: Vec<Arc<Encoded>>,
    /// Names that do not exist: `resource_errors`. State of the world only.
    pub(in crate::control) missing: Vec<Arc<str>>,
    /// Names that exist for others alone: `resource_errors` too, and `removed_resources` in delta.
    pub(in crate::control) denied: Vec<Arc<str>>,
}

/// One resource of a response.
#[derive(Clone, Debug)]
pub(in crate::control) enum Item {
    /// Name, version and time to live of a resource that the client has. Delta only.
    Beat(Arc<Encoded>),
    /// All of it.
    Full(Arc<Encoded>),
    /// A virtual host that does not exist, by the name it was asked for. Delta only.
    Unknown(Arc<str>),
}

#[cfg(test)]
impl Response {
    /// The names of its resources.
    pub(in crate::control) fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for item in &self.items {
            names.push(match item {
                Item::Beat(resource) | Item::Full(resource) => &**resource.name(),
                Item::Unknown(name) => &**name,
            });
        }
        names
    }
}
