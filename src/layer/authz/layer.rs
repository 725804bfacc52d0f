//! The tower layer.

use std::fmt;
use std::sync::Arc;

use http::Extensions;
use tower_layer::Layer;

use super::{Authorized, Caller};
use crate::model::authorization::Authorization;

/// Says who the caller is, from what a server's accept loop has put among the extensions.
pub(super) type Introduce = dyn for<'a> Fn(&'a Extensions) -> Caller<'a> + Send + Sync;

/// Lets only those requests pass that policies allow; see [`Authorized`].
///
/// ```
/// use std::net::SocketAddr;
/// use std::sync::Arc;
///
/// use meshwork::layer::authz::{AuthorizationLayer, Caller};
/// use meshwork::model::authorization::Authorization;
/// use tower_layer::Layer;
///
/// # fn wrap<S>(inner: S, policies: Authorization) {
/// // This server puts the peer's address among the extensions.
/// let layer = AuthorizationLayer::new(Arc::new(policies)).caller(|extensions| Caller {
///     source: extensions.get::<SocketAddr>().map(SocketAddr::ip),
///     ..Caller::default()
/// });
/// let service = layer.layer(inner);
/// # }
/// ```
#[derive(Clone)]
pub struct AuthorizationLayer {
    policies: Arc<Authorization>,
    introduce: Arc<Introduce>,
}

impl AuthorizationLayer {
    /// A layer that knows nobody: conditions about the caller do not hold in policies that allow.
    #[must_use]
    pub fn new(policies: Arc<Authorization>) -> Self {
        Self {
            policies,
            introduce: Arc::new(|_| Caller::default()),
        }
    }

    /// Says who the caller is. Called for each request; should not allocate.
    #[must_use]
    pub fn caller<F>(mut self, introduce: F) -> Self
    where
        F: for<'a> Fn(&'a Extensions) -> Caller<'a> + Send + Sync + 'static,
    {
        self.introduce = Arc::new(introduce);
        self
    }
}

impl<S> Layer<S> for AuthorizationLayer {
    type Service = Authorized<S>;

    fn layer(&self, inner: S) -> Authorized<S> {
        Authorized::new(inner, self.policies.clone(), self.introduce.clone())
    }
}

impl fmt::Debug for AuthorizationLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationLayer")
            .field("policies", &self.policies)
            .finish_non_exhaustive()
    }
}
