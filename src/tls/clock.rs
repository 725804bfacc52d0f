//! What time it is, for certificates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use tokio::time::Instant;

/// Where the time comes from that the validity of certificates is compared with.
///
/// Everything else in this crate runs on a clock that only goes forward. Validity is about the
/// calendar, so a process reads its system's wall clock: if that was wrong at the start and is set
/// right later, the certificates are judged by the right time from then on. A test reads tokio's
/// clock instead, which it can pause and move.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    kind: Kind,
    skew: Duration,
}

/// The most by which clocks may be apart.
const MAX_SKEW: Duration = Duration::from_secs(3_600);

#[derive(Clone, Copy, Debug, Default)]
enum Kind {
    #[default]
    System,
    Tokio {
        /// Since 1970.
        epoch: Duration,
        begun: Instant,
    },
}

impl Clock {
    /// The system's wall clock.
    #[must_use]
    pub fn system() -> Self {
        Self {
            kind: Kind::System,
            skew: Duration::ZERO,
        }
    }

    /// A clock that shows `time` at this moment and goes on with tokio's, for tests. A time before
    /// 1970 counts as 1970.
    #[must_use]
    pub fn starting_at(time: SystemTime) -> Self {
        Self {
            kind: Kind::Tokio {
                epoch: since_1970(time),
                begun: Instant::now(),
            },
            skew: Duration::ZERO,
        }
    }

    /// Takes the clocks of others to be wrong by up to `skew`: certificates of peers are believed so long
    /// before their begin and after their end. The default is zero, the most is an hour; what is above it
    /// counts as an hour.
    ///
    /// Authorities mostly date certificates back for this. It is for those that do not; a certificate
    /// that was stolen is believed longer by it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use meshwork::tls::Clock;
    ///
    /// let builder = meshwork::Mesh::builder().clock(Clock::system().with_skew(Duration::from_secs(10)));
    /// ```
    #[must_use]
    pub fn with_skew(mut self, skew: Duration) -> Self {
        self.skew = skew.min(MAX_SKEW);
        self
    }

    /// How far the clocks of others may be apart from this one.
    #[must_use]
    pub fn skew(&self) -> Duration {
        self.skew
    }

    /// The time since 1970.
    #[must_use]
    pub fn now(&self) -> Duration {
        match self.kind {
            Kind::System => since_1970(SystemTime::now()),
            Kind::Tokio { epoch, begun } => epoch.saturating_add(begun.elapsed()),
        }
    }

    pub(super) fn unix(&self) -> UnixTime {
        UnixTime::since_unix_epoch(self.now())
    }
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.unix())
    }
}
