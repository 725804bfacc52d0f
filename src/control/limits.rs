//! How much one server takes on.

use std::time::Duration;

/// The bounds of a server. Whatever exceeds one is refused by name, and nothing waits without one.
///
/// ```
/// use meshwork::control::Limits;
///
/// let limits = Limits { streams: 100, ..Limits::default() };
/// assert_eq!(limits.message_bytes, 4 << 20);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Connections at a time; further ones wait in the listener's queue. Default: 20,000.
    pub connections: usize,
    /// Discovery streams at a time, and as many calls of the services beside them (load reports, client
    /// status, reflection, health's `Watch`); further ones end with `RESOURCE_EXHAUSTED`. A client may have
    /// many: gRPC opens one for each target. Default: 20,000.
    pub streams: usize,
    /// Names that one stream may subscribe to or bring from another one, of all kinds together; beyond
    /// them it ends with `RESOURCE_EXHAUSTED`. Default: 100,000.
    pub names: usize,
    /// Views that clients have of the mesh at a time: those that are alike share one, and a new stream that
    /// would need one more ends with `RESOURCE_EXHAUSTED`. An edit takes away no view that somebody has.
    /// Default: 10,000.
    pub views: usize,
    /// Bytes of one request. Default: 4 MiB, as gRPC has it.
    pub message_bytes: usize,
    /// Streams that get their first state at the same time, from the making of their view on; others wait
    /// for their turn, so that a restart with thousands of clients serves some at once instead of all late.
    /// Default: 100.
    pub initial_syncs: usize,
    /// For how long a stream may keep such a turn; one that answers nothing keeps it for a tenth of that.
    /// Default: 5 s.
    pub initial_sync: Duration,
    /// How long a stream may leave a response unread before it is ended. Default: 30 s.
    pub write: Duration,
    /// How long a new connection may take to begin with HTTP/2, and a new stream to say who it is. Default:
    /// 30 s.
    pub hello: Duration,
    /// How long a connection may carry no call before it is ended, with a `GOAWAY`. Default: 5 minutes.
    pub idle: Duration,
    /// How long a shutdown waits for streams to end, and spreads their ends over half of that, so
    /// that not all clients come to another server in one moment. Default: 2 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            streams: 20_000,
            names: 100_000,
            views: 10_000,
            message_bytes: 4 << 20,
            initial_syncs: 100,
            initial_sync: Duration::from_secs(5),
            write: Duration::from_secs(30),
            hello: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            drain: Duration::from_secs(2),
        }
    }
}

/// The longest beginning of a text of at most so many bytes that ends between characters.
pub(super) fn beginning(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(beginning("abc", 5), "abc");
        assert_eq!(beginning("abc", 2), "ab");
        assert_eq!(beginning("\u{e9}\u{e9}", 3), "\u{e9}");
        assert_eq!(beginning("\u{e9}", 1), "");
    }
}
