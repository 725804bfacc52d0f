//! tokio's clock for governor.

use std::time::Duration;

use governor::clock::Clock;
use governor::nanos::Nanos;
use tokio::time::Instant;

/// Nanoseconds since the limit was made, by the clock that tests can pause.
#[derive(Clone, Debug)]
pub(super) struct TokioClock {
    started: Instant,
}

impl Default for TokioClock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let elapsed: Duration = Instant::now().saturating_duration_since(self.started);
        // Stops after 584 years; governor's own conversion panics there.
        Nanos::new(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }
}
