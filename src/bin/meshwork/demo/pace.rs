//! How long things take: as in the article, or shortened.

use std::time::Duration;

/// Each of the article's intervals with its line, and what `--fast` writes instead.
const SHORTENED: [(&str, &str); 4] = [
    ("interval: 30s", "interval: 1s"),
    ("baseEjectionTime: 30s", "baseEjectionTime: 3s"),
    ("perTryTimeout: 2s", "perTryTimeout: 800ms"),
    ("    timeout: 5s", "    timeout: 2s"),
];

/// The times that a demo runs by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    fast: bool,
}

impl Pace {
    pub(super) fn new(fast: bool) -> Self {
        Self { fast }
    }

    /// The text of a file with this pace's intervals.
    pub(super) fn shorten(self, text: &str) -> String {
        if !self.fast {
            return text.to_owned();
        }
        SHORTENED
            .iter()
            .fold(text.to_owned(), |text, (long, short)| {
                text.replace(long, short)
            })
    }

    /// How long a scene is shown, so that somebody can read it.
    pub(super) fn scene(self, seconds: u64) -> Duration {
        if self.fast {
            Duration::from_millis(seconds * 150)
        } else {
            Duration::from_secs(seconds)
        }
    }

    /// Calls per second.
    pub(super) fn rate(self) -> u32 {
        if self.fast { 400 } else { 150 }
    }

    /// `outlierDetection.baseEjectionTime`
    pub(super) fn ejection(self) -> Duration {
        Duration::from_secs(if self.fast { 3 } else { 30 })
    }

    /// When an ejected backend is back at the latest: after the ejection time and the sweep that
    /// follows it, and somebody must call it.
    pub(super) fn patience(self) -> Duration {
        self.ejection() * 3 + Duration::from_secs(5)
    }

    /// `retries.perTryTimeout`
    pub(super) fn per_try(self) -> Duration {
        Duration::from_millis(if self.fast { 800 } else { 2_000 })
    }

    /// `timeout`
    pub(super) fn timeout(self) -> Duration {
        Duration::from_secs(if self.fast { 2 } else { 5 })
    }
}
