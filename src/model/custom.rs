//! Filters that the mesh knows by their name only: what they do is the program's.

use std::sync::Arc;

use bytes::Bytes;

/// One filter with its configuration.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CustomFilter {
    /// Its name in the chain.
    pub name: Arc<str>,
    /// The full name of the message that configures it.
    pub message: Arc<str>,
    /// The message.
    pub config: Bytes,
}
