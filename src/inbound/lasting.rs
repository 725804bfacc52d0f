//! What a request that has switched protocols goes on to hold.
//!
//! A response with status 101 has no body that could hold it, so it is given to whoever has the connection: the port
//! puts a [`Keeper`] among the extensions of each request that may switch, and the door leaves there what it would
//! have given to the body. The extensions of the response were rejected: a layer on the way that makes the response
//! anew would have lost it without a word, and with it the policies. A server that is not
//! [`Mesh::listen`](crate::Mesh)'s keeps nothing and lets go of it with the response: the request is over for the
//! mesh at the moment of the switch then.

use std::fmt;
#[cfg(feature = "tls-core")]
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
#[cfg(feature = "tls-core")]
use std::task::Poll;

use super::Held;
use super::recheck::Recheck;

/// What one door leaves with whoever has the connection.
#[cfg_attr(
    not(feature = "tls-core"),
    allow(dead_code, reason = "only the mesh's own ports can cut a stream")
)]
pub(super) struct Lasting {
    watch: Option<Box<Recheck>>,
    held: Option<Held>,
}

/// Where it is left; each door that the request passes leaves its own.
#[derive(Clone, Default)]
pub(super) struct Keeper(Arc<Mutex<Vec<Lasting>>>);

impl Keeper {
    pub(super) fn keep(&self, watch: Option<Box<Recheck>>, held: Option<Held>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(Lasting { watch, held });
    }

    #[cfg(feature = "tls-core")]
    pub(super) fn take(&self) -> Vec<Lasting> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *kept)
    }
}

/// Ready when policies deny the request by now, at any of the doors. Cancel-safe.
#[cfg(feature = "tls-core")]
pub(super) async fn denied(all: &mut [Lasting]) {
    poll_fn(|cx| {
        let mut watches = all.iter_mut().filter_map(|one| one.watch.as_mut());
        match watches.any(|watch| watch.denied_now(cx).is_some()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

#[cfg(feature = "tls-core")]
impl Lasting {
    pub(super) fn broke(&mut self) {
        if let Some(meter) = self.held.as_mut().and_then(|held| held.meter.as_mut()) {
            meter.broke();
        }
    }
}

impl Drop for Lasting {
    /// The stream is over, whoever let go of it.
    fn drop(&mut self) {
        if let Some(meter) = self.held.as_mut().and_then(|held| held.meter.as_mut()) {
            meter.ended();
        }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}
