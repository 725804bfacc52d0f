//! How endpoints are reached: what those of a cluster have in common, and each does not keep.

use std::fmt;
use std::sync::Arc;

use http::Request;
use http::uri::Authority;

use super::connect::Connect;
use super::connections::Answer;
use super::gate::Gate;
use super::secure::Secure;
use super::{Http, Settings};

/// What answers in place of peers.
#[derive(Clone)]
pub(crate) struct Stand {
    pub(crate) cluster: Arc<str>,
    pub(crate) hostname: Option<Arc<Authority>>,
    pub(crate) secured: bool,
    pub(crate) answer: Answer,
}

/// How the endpoints of a cluster are reached.
#[derive(Clone)]
pub(crate) enum Reach {
    Answer(Arc<Stand>),
    Remote(Arc<Means>),
}

impl Reach {
    /// Whether a peer may say that it has not looked at `request`: HTTP/2 has words for it.
    pub(crate) fn may_refuse<B>(&self, request: &Request<B>) -> bool {
        match self {
            Self::Answer(_) => false,
            Self::Remote(means) => Http::of(means.settings.protocol, request) == Http::Two,
        }
    }
}

/// What it takes to connect; endpoints of one cluster share it, but those that have a name of their own.
#[derive(Clone)]
pub(crate) struct Means {
    /// The name of the cluster.
    pub(crate) cluster: Arc<str>,
    /// What the peer is known by when a connection is secured, if not by its address.
    pub(crate) hostname: Option<Arc<Authority>>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) connector: Arc<dyn Connect>,
    pub(crate) gate: Arc<dyn Gate>,
    /// What secures connections before a request goes over them, if anything does.
    pub(crate) security: Option<Arc<dyn Secure>>,
}

impl fmt::Debug for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Means")
            .field("settings", &self.settings)
            .field("secured", &self.security.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(_) => f.write_str("Answer"),
            Self::Remote(means) => means.fmt(f),
        }
    }
}
