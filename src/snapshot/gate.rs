//! A cluster's limits, as the connections of its endpoints see them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::cluster::Counters;
use crate::layer::limit::Limits;
use crate::transport::{Claim, Gate, Permit, Turn};

/// Lets endpoints ask the limits of their cluster.
#[derive(Debug)]
pub(super) struct ClusterGate {
    pub(super) limits: Arc<Limits>,
    pub(super) counters: Arc<Counters>,
}

impl Gate for ClusterGate {
    fn connection(&self, claim: Claim) -> Option<Permit> {
        match claim {
            Claim::First => Some(Permit::new(self.limits.connection_for_empty_endpoint())),
            Claim::Further => self.limits.connection().ok().map(Permit::new),
        }
    }

    fn pending(&self) -> Option<Permit> {
        self.limits.pending().ok().map(Permit::new)
    }

    fn released(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.limits.connection_released())
    }

    fn turned(&self, turn: Turn) {
        self.counters.turns.count(turn);
    }
}
