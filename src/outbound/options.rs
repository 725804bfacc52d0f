//! What a caller may say about one call.

use std::time::Duration;

use crate::layer::balance::HashKey;

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
    pub(crate) hash_key: Option<HashKey>,
}

impl CallOptions {
    /// Overrides nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            timeout: None,
            retry: true,
            hash_key: None,
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

    /// Sends the request once, whatever the route's retry policy says; the policy's per-try timeout
    /// still bounds that one try.
    #[must_use]
    pub const fn without_retries(mut self) -> Self {
        self.retry = false;
        self
    }

    /// Sends this call where all calls with the same key go, if its cluster balances by hash; the
    /// hash policies of its route are not looked at.
    ///
    /// ```
    /// let options = meshwork::CallOptions::new().hash_key("user 7");
    /// ```
    #[must_use]
    pub fn hash_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.hash_key = Some(HashKey::of(key));
        self
    }
}

impl Default for CallOptions {
    fn default() -> Self {
        Self::new()
    }
}
