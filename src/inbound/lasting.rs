//! What a request that has switched protocols goes on to hold.
//!
//! A response with status 101 has no body that could hold it, so it goes in the response's extensions to
//! whoever has the connection. A server that is not [`Mesh::listen`](crate::Mesh)'s lets go of it with the
//! response: the request is over for the mesh at the moment of the switch then.

use std::fmt;
#[cfg(feature = "tls-core")]
use std::future::poll_fn;
#[cfg(feature = "tls-core")]
use std::sync::PoisonError;
use std::sync::{Arc, Mutex};
#[cfg(feature = "tls-core")]
use std::task::Poll;

use super::Held;
use super::recheck::Recheck;

/// What a request that has switched goes on to hold, on its way through the response's extensions.
#[cfg_attr(
    not(feature = "tls-core"),
    allow(dead_code, reason = "only the mesh's own ports can cut a stream")
)]
#[derive(Clone)]
pub(super) struct Standing(Arc<Mutex<Option<Standings>>>);

/// The same, in the hands of who has the connection.
#[cfg_attr(
    not(feature = "tls-core"),
    allow(dead_code, reason = "only the mesh's own ports can cut a stream")
)]
#[derive(Default)]
pub(super) struct Standings {
    watch: Option<Box<Recheck>>,
    held: Option<Held>,
}

impl Standing {
    pub(super) fn new(watch: Option<Box<Recheck>>, held: Option<Held>) -> Self {
        Self(Arc::new(Mutex::new(Some(Standings { watch, held }))))
    }

    #[cfg(feature = "tls-core")]
    pub(super) fn take(&self) -> Option<Standings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(feature = "tls-core")]
impl Standings {
    /// Ready when policies deny the request by now. Cancel-safe.
    pub(super) async fn denied(&mut self) {
        let Some(watch) = &mut self.watch else {
            return std::future::pending().await;
        };
        poll_fn(|cx| match watch.denied_now(cx) {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        })
        .await;
    }

    pub(super) fn broke(&mut self) {
        if let Some(meter) = self.held.as_mut().and_then(|held| held.meter.as_mut()) {
            meter.broke();
        }
    }
}

impl Drop for Standings {
    /// The stream is over, whoever let go of it.
    fn drop(&mut self) {
        if let Some(meter) = self.held.as_mut().and_then(|held| held.meter.as_mut()) {
            meter.ended();
        }
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").finish_non_exhaustive()
    }
}
