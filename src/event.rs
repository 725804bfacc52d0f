//! What happens in a mesh, for programs that react to it.
//!
//! Counters tell how often, logs tell people; an event tells a program now, as a value: to page
//! somebody when a retry budget is empty, to refuse readiness while a callee is ejected, to wait in a
//! test. Events are sent to whoever listens at that moment and are not kept for others. Nobody who
//! listens can slow the mesh down: the queue is bounded, and a listener that lags is told how much
//! it has missed. With no listener an event costs one atomic read and is not even made.
//!
//! A callback was rejected: it would run in the mesh's tasks, with locks held and panics to catch.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::layer::outlier::Cause;

/// How many events a listener may lag behind.
const QUEUE: usize = 1_024;

/// Something that happened in a mesh; see [`Mesh::events`](crate::Mesh::events).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A retry was wanted and the cluster's budget or limit denied it. Told once, and again after a
    /// retry was granted in between: an outage is one event and not thousands.
    BudgetEmpty {
        /// The cluster's name.
        cluster: Arc<str>,
    },
    /// A configuration is in force.
    ConfigApplied {
        /// Its number, counted from 1.
        generation: u64,
    },
    /// A configuration has faults; the one before stays in force.
    ConfigRejected {
        /// All faults, as they are shown to people.
        text: Arc<str>,
    },
    /// Outlier detection took an endpoint out.
    Ejected {
        /// The cluster's name.
        cluster: Arc<str>,
        /// The endpoint's address.
        endpoint: Arc<str>,
        /// Why.
        cause: Cause,
        /// For how long, if the policy stays as it is.
        time: Duration,
    },
    /// An endpoint left its cluster: a configuration without it is in force.
    EndpointDown {
        /// The cluster's name.
        cluster: Arc<str>,
        /// The endpoint's address.
        endpoint: Arc<str>,
    },
    /// An endpoint joined its cluster: a configuration with it is in force.
    EndpointUp {
        /// The cluster's name.
        cluster: Arc<str>,
        /// The endpoint's address.
        endpoint: Arc<str>,
    },
    /// An active health check passed, and the endpoint counts as healthy from now on.
    Healthy {
        /// The cluster's name.
        cluster: Arc<str>,
        /// The endpoint's address.
        endpoint: Arc<str>,
    },
    /// Outlier detection let an endpoint in again.
    Readmitted {
        /// The cluster's name.
        cluster: Arc<str>,
        /// The endpoint's address.
        endpoint: Arc<str>,
    },
    /// Active health checks failed, and the endpoint gets no requests until they pass.
    Unhealthy {
        /// The cluster's name.
        cluster: Arc<str>,
        /// The endpoint's address.
        endpoint: Arc<str>,
    },
}

/// The events of a mesh from the moment on at which this was made.
///
/// ```no_run
/// # async fn example(mesh: meshwork::Mesh) {
/// use meshwork::Event;
///
/// let mut events = mesh.events();
/// while let Some(event) = events.next().await {
///     match event {
///         Ok(Event::Ejected { endpoint, .. }) => eprintln!("{endpoint} is out"),
///         Ok(_) => {}
///         Err(lagged) => eprintln!("{lagged}"),
///     }
/// }
/// # }
/// ```
pub struct Events {
    receiver: broadcast::Receiver<Event>,
}

/// A listener was too slow and has missed events; those that follow are not lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{missed} events were missed: the listener was more than 1024 behind")]
#[non_exhaustive]
pub struct Lagged {
    /// How many.
    pub missed: u64,
}

impl Events {
    /// The next event; `None` when the mesh is gone. Cancel-safe.
    ///
    /// # Errors
    /// [`Lagged`] once for each time that events were missed; the next call goes on with the oldest
    /// that is left.
    pub async fn next(&mut self) -> Option<Result<Event, Lagged>> {
        match self.receiver.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(RecvError::Lagged(missed)) => Some(Err(Lagged { missed })),
            Err(RecvError::Closed) => None,
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("waiting", &self.receiver.len())
            .finish_non_exhaustive()
    }
}

/// Tells events to whoever listens.
#[derive(Clone, Debug)]
pub(crate) struct Announcer {
    sender: broadcast::Sender<Event>,
}

impl Default for Announcer {
    fn default() -> Self {
        Self {
            sender: broadcast::Sender::new(QUEUE),
        }
    }
}

impl Announcer {
    pub(crate) fn listen(&self) -> Events {
        Events {
            receiver: self.sender.subscribe(),
        }
    }

    /// Whether anybody listens: nothing needs to be found out for nobody.
    pub(crate) fn is_heard(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if self.is_heard() {
            // The last listener may leave between the two lines.
            let _ = self.sender.send(event());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_listener_is_told_what_it_missed_and_nobody_costs_nothing() {
        let announcer = Announcer::default();
        announcer.tell(|| unreachable!("nobody listens"));
        let mut events = announcer.listen();
        for generation in 0..QUEUE as u64 + 3 {
            announcer.tell(|| Event::ConfigApplied { generation });
        }
        assert_eq!(events.next().await, Some(Err(Lagged { missed: 3 })));
        let next = Event::ConfigApplied { generation: 3 };
        assert_eq!(events.next().await, Some(Ok(next)));
        drop(announcer);
        let mut rest = 0;
        while events.next().await.is_some() {
            rest += 1;
        }
        assert_eq!(rest, QUEUE - 1);
    }
}
