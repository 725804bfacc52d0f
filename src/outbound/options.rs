//! What a caller may say about one call.

use std::time::Duration;

/// Overrides of the route's policy for one call; put it into the request's extensions.
///
/// ```
/// use std::time::Duration;
/// use meshwork::CallOptions;
///
/// let mut request = http::Request::get("http://catalog/items").body(()).unwrap();
/// request.extensions_mut().insert(
///     CallOptions::new().timeout(Duration::from_millis(250)).without_retries(),
/// );
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: bool,
}

impl CallOptions {
    /// Overrides nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            timeout: None,
            retry: true,
        }
    }

    /// How long the caller waits for the whole call, the response's body included.
    ///
    /// The route's timeout still holds if it is shorter, and so does the deadline of an inbound
    /// request that this call is made under.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends the request once, whatever the route's retry policy says.
    #[must_use]
    pub const fn without_retries(mut self) -> Self {
        self.retry = false;
        self
    }
}

impl Default for CallOptions {
    fn default() -> Self {
        Self::new()
    }
}
