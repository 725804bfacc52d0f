use std::time::Duration;

use tower_layer::Layer;

use super::Timeout;

/// Makes [`Timeout`] services; the [module](super) has an example.
#[derive(Clone, Copy, Debug)]
pub struct TimeoutLayer {
    after: Duration,
}

impl TimeoutLayer {
    /// Fails calls that have no response headers `after` they were made, with an
    /// [`Error`](crate::Error) that [is a timeout](crate::Error::is_timeout).
    ///
    /// Zero fails every call that is not ready at once. (Envoy's zero, "no timeout", is this layer
    /// left out.) Very long durations never fire.
    #[must_use]
    pub const fn new(after: Duration) -> Self {
        Self { after }
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout::new(inner, self.after)
    }
}
