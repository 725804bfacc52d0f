//! The turn of a stream that gets its first state.

use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::control::limits::after;

/// A turn ends when nothing was answered for this part of its time.
const SILENCE: u32 = 10;

/// Whether a stream has its turn.
#[derive(Debug)]
pub(super) enum Turn {
    Done,
    Has {
        _permit: OwnedSemaphorePermit,
        until: Instant,
        /// How long it may be silent.
        patience: Duration,
        /// When it ends, since everything was sent and nothing of it answered.
        silent: Option<Instant>,
    },
}

impl Turn {
    /// A turn that lasts for so long at most.
    pub(super) fn begin(permit: OwnedSemaphorePermit, time: Duration) -> Self {
        Self::Has {
            _permit: permit,
            until: after(Instant::now(), time),
            patience: time / SILENCE,
            silent: None,
        }
    }

    /// When it ends if nothing comes.
    pub(super) fn end(&self) -> Option<Instant> {
        match self {
            Self::Done => None,
            Self::Has { until, silent, .. } => {
                Some(silent.map_or(*until, |silent| silent.min(*until)))
            }
        }
    }

    /// All was sent, and it is the client's part to answer.
    pub(super) fn waits(&mut self, now: Instant) {
        if let Self::Has {
            silent, patience, ..
        } = self
        {
            silent.get_or_insert_with(|| after(now, *patience));
        }
    }

    /// Something was answered, or more is sent.
    pub(super) fn goes_on(&mut self) {
        if let Self::Has { silent, .. } = self {
            *silent = None;
        }
    }
}

#[cfg(test)]
mod tests;
