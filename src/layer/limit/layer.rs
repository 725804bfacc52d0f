//! The tower layer.

use std::sync::Arc;

use tower_layer::Layer;

use super::{Limited, Limits};

/// Limits the requests that are in flight at once; see [`Limited`].
///
/// All services that one layer (or its clones) makes share the limits.
///
/// ```
/// use std::sync::Arc;
///
/// use meshwork::layer::limit::{LimitLayer, Limits};
/// use tower_layer::Layer;
///
/// # fn wrap<S>(inner: S) {
/// let limits = Limits::new(&meshwork::model::limit::Limits { requests: 100, ..Default::default() });
/// let service = LimitLayer::new(Arc::new(limits)).layer(inner);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LimitLayer {
    limits: Arc<Limits>,
}

impl LimitLayer {
    /// A layer that takes its permits from `limits`, which others may share, read and change.
    #[must_use]
    pub fn new(limits: Arc<Limits>) -> Self {
        Self { limits }
    }
}

impl<S> Layer<S> for LimitLayer {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited::new(inner, self.limits.clone())
    }
}
