//! Where a target's name leads: the entry of a request's way.

use std::sync::Arc;

use super::{Origin, RouteConfiguration};

/// A client-side (API) listener: the name that a channel is opened for, and its routes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Listener {
    /// `host:port` for services of the mesh, any name for a foreign control plane.
    pub name: Arc<str>,
    /// The routes.
    pub routes: Routes,
    /// Who wrote it.
    pub origin: Origin,
}

/// The route configuration of a listener.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Routes {
    /// Contained in the listener.
    Inline(Arc<RouteConfiguration>),
    /// A resource of its own.
    Named(Arc<str>),
}
