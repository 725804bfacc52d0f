//! The tower layer.

use std::sync::Arc;

use tower_layer::Layer;

use super::{Throttle, Throttled};

/// Rejects a share of the requests while the inner service fails; see [`Throttled`].
///
/// All services that one layer (or its clones) makes share what is known.
///
/// ```
/// use std::sync::Arc;
///
/// use meshwork::Random;
/// use meshwork::layer::admission::{AdmissionLayer, Settings, Throttle};
/// use tower_layer::Layer;
///
/// # fn wrap<S>(inner: S) -> Result<(), meshwork::layer::admission::InvalidSettings> {
/// let throttle = Throttle::new(Settings::default(), Random::from_entropy())?;
/// let service = AdmissionLayer::new(Arc::new(throttle)).layer(inner);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct AdmissionLayer {
    throttle: Arc<Throttle>,
}

impl AdmissionLayer {
    /// A layer that asks this throttle, which others may share and read.
    #[must_use]
    pub fn new(throttle: Arc<Throttle>) -> Self {
        Self { throttle }
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Throttled<S>;

    fn layer(&self, inner: S) -> Throttled<S> {
        Throttled::new(inner, self.throttle.clone())
    }
}
