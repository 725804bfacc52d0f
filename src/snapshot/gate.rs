//! A cluster's limits, as the connections of its endpoints see them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::layer::limit::Limits;
use crate::transport::{Claim, Gate, Permit};

/// Lets endpoints ask the limits of their cluster.
#[derive(Debug)]
pub(super) struct ClusterGate(pub(super) Arc<Limits>);

impl Gate for ClusterGate {
    fn connection(&self, claim: Claim) -> Option<Permit> {
        match claim {
            Claim::First => Some(Permit::new(self.0.connection_for_empty_endpoint())),
            Claim::Further => self.0.connection().ok().map(Permit::new),
        }
    }

    fn pending(&self) -> Option<Permit> {
        self.0.pending().ok().map(Permit::new)
    }

    fn released(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.0.connection_released())
    }
}
