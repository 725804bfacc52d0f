//! The tower layer.

use std::sync::Arc;

use tower_layer::Layer;

use super::{Adaptive, Concurrency};

/// Limits the requests in flight by what the service can take; see [`Adaptive`].
///
/// All services that one layer (or its clones) makes share the limit. Put it around one
/// destination: response times of different ones must not be averaged.
///
/// ```
/// use std::sync::Arc;
///
/// use meshwork::layer::concurrency::{Concurrency, ConcurrencyLayer, Settings};
/// use tower_layer::Layer;
///
/// # fn wrap<S>(inner: S) -> Result<(), meshwork::layer::concurrency::InvalidSettings> {
/// let concurrency = Concurrency::new(Settings { max: 1_000, ..Settings::default() })?;
/// let service = ConcurrencyLayer::new(Arc::new(concurrency)).layer(inner);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ConcurrencyLayer {
    concurrency: Arc<Concurrency>,
}

impl ConcurrencyLayer {
    /// A layer under this limit, which others may share and read.
    #[must_use]
    pub fn new(concurrency: Arc<Concurrency>) -> Self {
        Self { concurrency }
    }
}

impl<S> Layer<S> for ConcurrencyLayer {
    type Service = Adaptive<S>;

    fn layer(&self, inner: S) -> Adaptive<S> {
        Adaptive::new(inner, self.concurrency.clone())
    }
}
