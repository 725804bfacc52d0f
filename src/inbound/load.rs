//! What is under way on a port, against what the configuration lets it take.
//!
//! The counts belong to the port and the limits to the configuration, which changes: so each question
//! brings the limits of its moment, and an edit that lowers one ends nothing that is under way.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::layer::limit::{Limits, Overloaded, Permit};
use crate::model;
use crate::model::capacity::Capacity;

/// The counts of one port.
#[derive(Debug, Default)]
pub(super) struct Load {
    limits: Arc<Limits>,
    /// What `limits` were set to: connections in the upper half, requests in the lower, 0 for no limit.
    known: AtomicU64,
    /// Held while both are written, after an edit.
    setting: Mutex<()>,
}

impl Load {
    /// Takes up a connection until the permit is dropped.
    ///
    /// # Errors
    /// If there are as many as `capacity` has.
    pub(super) fn connection(&self, capacity: Capacity) -> Result<Permit, Overloaded> {
        self.set(capacity);
        self.limits.connection()
    }

    /// The same for a request. Without a limit it is not counted, since a permit costs its response a
    /// wrapper: those that are under way when an edit brings one are above it.
    ///
    /// # Errors
    /// If there are as many as `capacity` has.
    pub(super) fn request(&self, capacity: Capacity) -> Result<Option<Permit>, Overloaded> {
        if capacity.requests.is_none() {
            return Ok(None);
        }
        self.set(capacity);
        self.limits.request().map(Some)
    }

    fn set(&self, capacity: Capacity) {
        let number = |limit: Option<NonZeroU32>| limit.map_or(0, NonZeroU32::get);
        let (connections, requests) = (number(capacity.connections), number(capacity.requests));
        let wanted = u64::from(connections) << 32 | u64::from(requests);
        if self.known.load(Ordering::Relaxed) == wanted {
            return;
        }
        let _setting = self.setting.lock().unwrap_or_else(PoisonError::into_inner);
        self.known.store(wanted, Ordering::Relaxed);
        let most = |limit| if limit == 0 { u32::MAX } else { limit };
        self.limits.set(&model::limit::Limits {
            connections: most(connections),
            requests: most(requests),
            ..model::limit::Limits::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_changes_what_is_taken_and_ends_nothing() {
        let of = |most| Capacity {
            connections: NonZeroU32::new(most),
            requests: NonZeroU32::new(most + 1),
        };
        let load = Load::default();
        let held: Vec<_> = (0..3).flat_map(|_| load.connection(of(2))).collect();
        assert_eq!(held.len(), 2);
        let requests: Vec<_> = (0..9).flat_map(|_| load.request(of(2))).collect();
        assert_eq!(requests.len(), 3, "they are counted apart");
        assert!(load.connection(of(1)).is_err());
        drop(held);
        let held = load.connection(of(1));
        assert!(held.is_ok() && load.connection(of(1)).is_err());
        assert!(load.connection(Capacity::default()).is_ok());
        assert!(load.request(of(2)).is_err());
        assert!(load.request(Capacity::default()).unwrap().is_none());
    }
}
