//! Whether a port serves, as its control plane says (gRFC A36).
//!
//! A port that a control plane configures serves while there is a listener for its address. Whoever
//! runs the program learns of it in three ways: a line in the log for each change, the gauge
//! `meshwork_inbound_serving`, and a function of the program's own, which may tell a load balancer.

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "tls-core")]
use super::listener::Port;
#[cfg(feature = "tls-core")]
use super::served;
#[cfg(feature = "tls-core")]
use crate::snapshot::Held;

/// Whether a port serves; see [`Listener::on_serving`](super::Listener::on_serving).
///
/// ```
/// use meshwork::inbound::Serving;
///
/// let serving = Serving::NotServing { why: "the control plane has no listener for it".into() };
/// assert_eq!(serving.to_string(), "NOT_SERVING: the control plane has no listener for it");
/// assert_eq!(Serving::Serving.to_string(), "SERVING");
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Serving {
    /// Connections are closed without a byte.
    NotServing {
        /// What is missing.
        why: Arc<str>,
    },
    /// Connections are served as far as the listener has a chain for them.
    Serving,
}

impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotServing { why } => write!(f, "NOT_SERVING: {why}"),
            Self::Serving => f.write_str("SERVING"),
        }
    }
}

/// What is called when it changes.
#[cfg(feature = "tls-core")]
pub(super) type Told = Arc<dyn Fn(&Serving) + Send + Sync>;

/// How a port stood when somebody looked last.
#[cfg(feature = "tls-core")]
pub(super) struct State {
    port: Arc<Port>,
    last: Option<Serving>,
}

#[cfg(feature = "tls-core")]
impl State {
    pub(super) fn new(port: Arc<Port>) -> Self {
        let mut state = Self { port, last: None };
        state.look();
        state
    }

    /// Looks how it stands, and tells of it if that is another way than before.
    fn look(&mut self) {
        let Some(asked) = &self.port.asked else {
            return;
        };
        let (core, local) = (self.port.owner.core(), self.port.local);
        let next = served::standing(core, asked, local);
        if self.last.as_ref() == Some(&next) {
            return;
        }
        let listener = &**asked.name();
        match &next {
            Serving::NotServing { why } => {
                tracing::warn!(%local, listener, "the port is NOT_SERVING: {why}");
            }
            Serving::Serving => tracing::info!(%local, listener, "the port is SERVING"),
        }
        core.inbound.port(local, Some(next == Serving::Serving));
        if let Some(told) = &self.port.told {
            told(&next);
        }
        self.last = Some(next);
    }

    /// Tells of each change, for as long as it is polled. Cancel-safe: what changed meanwhile is told
    /// when it is polled again.
    pub(super) async fn follow(&mut self) -> std::convert::Infallible {
        let mut changes = self.port.owner.core().generation.subscribe();
        let mut told = self.port.asked.as_ref().map(Held::told);
        loop {
            self.look();
            let Some(told) = &mut told else {
                return std::future::pending().await;
            };
            // Neither can fail: the port holds both senders.
            tokio::select! {
                _ = changes.changed() => {}
                _ = told.changed() => {}
            }
        }
    }
}

#[cfg(feature = "tls-core")]
impl Drop for State {
    fn drop(&mut self) {
        self.port.owner.core().inbound.port(self.port.local, None);
    }
}
