//! How much one server takes on.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Thirty years, which is as far as Tokio looks ahead.
pub(super) const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// The least of [`Limits::idle`].
const SHORTEST_IDLE: Duration = Duration::from_millis(10);

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
    /// Connections at a time; further ones wait in the listener's queue. Zero counts as one. Default: 20,000.
    pub connections: usize,
    /// Discovery streams at a time, as many calls of the services beside them (load reports, client
    /// status, reflection, health's `Watch`), and as many requests for certificates; further ones end with
    /// `RESOURCE_EXHAUSTED`. A client may have many: gRPC opens one for each target. Default: 20,000.
    pub streams: usize,
    /// Names that one stream may subscribe to or bring from another one, of all kinds together; beyond
    /// them it ends with `RESOURCE_EXHAUSTED`. Default: 100,000. Whatever their number, all names have 16 MiB, one
    /// has 8 KiB, and the listeners that are made for spellings of the stream's own have 4 MiB.
    pub names: usize,
    /// Views that clients have of the mesh at a time: those that are alike share one, and a new stream that
    /// would need one more ends with `RESOURCE_EXHAUSTED`. An edit takes away no view that somebody has.
    /// Zero counts as one. Default: 10,000.
    pub views: usize,
    /// Bytes of one request. Default: 4 MiB, as gRPC has it.
    pub message_bytes: usize,
    /// Streams that get their first state at the same time, from the making of their view on; others wait
    /// for their turn, so that a restart with thousands of clients serves some at once instead of all late.
    /// Zero counts as one. Default: 100.
    pub initial_syncs: usize,
    /// For how long a stream may keep such a turn; one that answers nothing keeps it for a tenth of that.
    /// Default: 5 s.
    pub initial_sync: Duration,
    /// How long a stream may leave a response unread before it is ended. A call with one answer takes its
    /// connection with it when it lasts longer than this and [`Limits::hello`]. Default: 30 s.
    pub write: Duration,
    /// How long a new connection may take to begin with HTTP/2, a new stream to say who it is, and a call with
    /// one answer to say what it asks. Default: 30 s.
    pub hello: Duration,
    /// How long a connection may carry no call before it is ended, with a `GOAWAY`. Less than 10 ms
    /// count as that, so that a connection lives until its first call. Default: 5 minutes.
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

impl Limits {
    /// The same, with those raised that would let nobody in.
    pub(super) fn that_let_in(self) -> Self {
        Self {
            connections: self.connections.clamp(1, Semaphore::MAX_PERMITS),
            views: self.views.max(1),
            initial_syncs: self.initial_syncs.clamp(1, Semaphore::MAX_PERMITS),
            idle: self.idle.max(SHORTEST_IDLE),
            ..self
        }
    }
}

/// When a time is over that begins now; as far away as waiting goes if it is longer than time itself.
pub(super) fn after(now: Instant, time: Duration) -> Instant {
    now.checked_add(time).unwrap_or_else(|| now + FAR)
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
    fn k6_a_limit_of_any_length_is_waited_for() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(after(now, second), now + second);
        assert_eq!(after(now, Duration::ZERO), now);
        assert!(after(now, Duration::MAX) > now + Duration::from_secs(1_000_000_000 / 2));
    }

    #[test]
    fn k6_limits_that_would_let_nobody_in_are_raised() {
        let none = Limits {
            connections: 0,
            views: 0,
            initial_syncs: 0,
            idle: Duration::ZERO,
            ..Limits::default()
        };
        let least = Limits {
            connections: 1,
            views: 1,
            initial_syncs: 1,
            idle: SHORTEST_IDLE,
            ..Limits::default()
        };
        assert_eq!(none.that_let_in(), least);
        assert_eq!(Limits::default().that_let_in(), Limits::default());
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(beginning("abc", 5), "abc");
        assert_eq!(beginning("abc", 2), "ab");
        assert_eq!(beginning("\u{e9}\u{e9}", 3), "\u{e9}");
        assert_eq!(beginning("\u{e9}", 1), "");
    }
}
