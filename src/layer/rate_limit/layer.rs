//! The tower layer of the calling side.

use std::sync::Arc;

use tower_layer::Layer;

use super::{RateLimit, RateLimited};

/// Limits the rate of the requests to a service; see [`RateLimited`].
///
/// All services that one layer (or its clones) makes share the buckets.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use meshwork::layer::rate_limit::{Rate, RateLimit, RateLimitLayer};
/// use tower_layer::Layer;
///
/// # fn wrap<S>(inner: S) -> Result<(), meshwork::layer::rate_limit::InvalidRate> {
/// let limit = RateLimit::new().total(Rate::new(100, 50, Duration::from_secs(1))?);
/// let service = RateLimitLayer::new(Arc::new(limit)).layer(inner);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct RateLimitLayer {
    limit: Arc<RateLimit>,
}

impl RateLimitLayer {
    /// A layer that takes its tokens from `limit`, which others may share and read.
    #[must_use]
    pub fn new(limit: Arc<RateLimit>) -> Self {
        Self { limit }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimited<S>;

    fn layer(&self, inner: S) -> RateLimited<S> {
        RateLimited::new(inner, self.limit.clone())
    }
}
