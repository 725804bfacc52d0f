//! What a request that has switched protocols goes on to hold.
//!
//! A response with status 101 has no body that could hold it, so it is given to whoever has the connection: the port
//! puts a [`Keeper`] among the extensions of each request that may switch, and the door leaves there what it would
//! have given to the body. The extensions of the response were rejected: a layer on the way that makes the response
//! anew would have lost it without a word, and with it the policies. A server that is not
//! [`Mesh::listen`](crate::Mesh)'s keeps nothing and lets go of it with the response: the request is over for the
//! mesh at the moment of the switch then.
//!
//! Which of the two it is, a request says by what its port has put beside it ([`Offer`]). A port says too that a
//! request may not switch: the door then answers for a handler that switches all the same, so that metrics and
//! logs tell what the caller gets. The port looks at every answer itself as well, since not every handler stands
//! behind a door.

use std::fmt;
#[cfg(feature = "tls-core")]
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
#[cfg(feature = "tls-core")]
use std::task::Poll;

use http::{Method, Request, Response, StatusCode};
#[cfg(feature = "tls-core")]
use http_body::Body as _;

use super::Held;
use super::recheck::Recheck;
#[cfg(feature = "tls-core")]
use crate::body::Body;

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

/// Stands beside a request of the mesh's own port that may not switch its connection. Without a size, since every
/// request but few has it.
#[derive(Clone)]
#[cfg_attr(
    not(feature = "tls-core"),
    allow(dead_code, reason = "only the mesh's own ports know it")
)]
pub(super) struct Unoffered;

/// Whether a request may switch its connection.
pub(super) enum Offer {
    /// Its server knows, which is not a port of the mesh.
    Elsewhere,
    /// It may, and this is where what it holds goes to.
    Made(Keeper),
    /// It may not.
    Unmade {
        /// Whether any success opens a tunnel.
        tunnel: bool,
    },
}

impl Offer {
    pub(super) fn to<B>(request: &Request<B>) -> Self {
        let beside = request.extensions();
        if let Some(keeper) = beside.get::<Keeper>() {
            return Self::Made(keeper.clone());
        }
        match beside.get::<Unoffered>() {
            Some(Unoffered) => Self::Unmade {
                tunnel: request.method() == Method::CONNECT,
            },
            None => Self::Elsewhere,
        }
    }

    /// Whether an answer switches although it may not.
    pub(super) fn is_exceeded_by<R>(&self, answer: &Response<R>) -> bool {
        match self {
            Self::Elsewhere | Self::Made(_) => false,
            Self::Unmade { tunnel } => switches(*tunnel, answer.status()),
        }
    }
}

/// Whether a server would hand the connection over behind an answer with this status.
pub(super) fn switches(tunnel: bool, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || tunnel && status.is_success()
}

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

    /// The caller gets this in place of the answer that switches.
    pub(super) fn refused(&mut self, why: &'static str, answer: &Response<Body>) {
        if let Some(meter) = self.held.as_mut().and_then(|held| held.meter.as_mut()) {
            meter.refused(why);
            meter.answered(answer);
            meter.received(answer.body().size_hint().exact().unwrap_or_default());
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
