use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tower_layer::Layer;

use super::service::Shared;
use super::{Policy, Quota, Retry};
use crate::body::replay::Buffers;
use crate::model::limit::RetryLimit;
use crate::random::Random;

/// Makes [`Retry`] services; all that one layer makes share its quota and its buffers.
///
/// ```
/// use std::sync::Arc;
/// use meshwork::Random;
/// use meshwork::layer::retry::{Policy, Quota, RetryLayer};
/// use meshwork::model::limit::RetryLimit;
///
/// let layer = RetryLayer::new(Policy::standard())
///     .quota(Arc::new(Quota::new(RetryLimit::Concurrent(10))))
///     .replay_limit(16 * 1024)
///     .random(Random::seeded(1));
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct RetryLayer {
    shared: Shared,
}

impl RetryLayer {
    /// Repeats what `policy` says, within the default [`Budget`](super::Budget).
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            shared: Shared {
                policy: Arc::new(policy),
                quota: Arc::new(Quota::new(RetryLimit::Budget)),
                random: Random::from_entropy(),
                buffers: Buffers::default(),
                active: Arc::new(AtomicU32::new(0)),
            },
        }
    }

    /// [`Policy::standard`]: at most two retries of what is safe and likely to help.
    #[must_use]
    pub fn standard() -> Self {
        Self::new(Policy::standard())
    }

    /// Another quota, perhaps shared with other layers.
    #[must_use]
    pub fn quota(mut self, quota: Arc<Quota>) -> Self {
        self.shared.quota = quota;
        self
    }

    /// How many bytes of a streamed request body are kept for retries. Default 64 KiB; zero keeps
    /// none, so that only bodies that are known whole can be sent again. All bodies together are
    /// bounded by 64 MiB.
    #[must_use]
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.shared.buffers = self.shared.buffers.with_per_request(bytes);
        self
    }

    /// How many bytes of request bodies this layer's services keep at the moment.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.shared.buffers.used()
    }

    /// Where the jitter of the pauses comes from.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.shared.random = random;
        self
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry::new(inner, Arc::new(self.shared.clone()))
    }
}
