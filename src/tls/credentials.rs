//! The pair of identity and trust that is in force, and the handle by which it rotates.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::identity::Identity;
use super::refusal::Refusal;
use super::trust::Trust;

/// An identity and a trust that are renewed while connections use them.
///
/// Clones are cheap and are the same handle. Whoever renews publishes; each handshake takes what is
/// in force at its moment. A new identity touches no connection: those that are up end in their own
/// time. A new trust is held against every connection that is up. One whose peer was revoked is cut at
/// once; one whose issuer is trusted no longer is replaced behind its last requests, and cut if they
/// take longer than 45 s.
#[derive(Clone)]
pub struct Credentials {
    shared: Arc<Shared>,
}

struct Shared {
    state: watch::Sender<Arc<State>>,
    counters: Counters,
}

/// What is in force.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) identity: Option<Identity>,
    pub(super) trust: Arc<Trust>,
    pub(super) generation: u64,
}

impl State {
    /// Whether there is an identity that a peer could be shown at the time `now` since 1970.
    pub(super) fn presentable(&self, now: Duration) -> Result<(), Refusal> {
        match &self.identity {
            None => Err(Refusal::NoIdentity),
            Some(own) if own.not_after() < now => Err(Refusal::IdentityExpired),
            Some(_) => Ok(()),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) connected: AtomicU64,
    pub(super) cut: AtomicU64,
    pub(super) disbelieved: AtomicU64,
    refused: AtomicU64,
    /// For what; one entry for each word that there is. Locked when a handshake fails.
    reasons: Mutex<BTreeMap<&'static str, u64>>,
    renewal_failures: AtomicU64,
    rotations: AtomicU64,
    trust_changes: AtomicU64,
}

impl Counters {
    /// Counts a handshake that failed, by the word for what it failed for.
    pub(super) fn refuse(&self, reason: &'static str) {
        self.refused.fetch_add(1, Relaxed);
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        *reasons.entry(reason).or_default() += 1;
    }
}

/// What has been counted with one pair of [`Credentials`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counts {
    /// Handshakes as a server that succeeded.
    pub accepted: u64,
    /// Handshakes as a client that succeeded.
    pub connected: u64,
    /// Connections that were cut because a new trust does not accept their peer: at once if it was
    /// revoked, else those that had not ended in time.
    pub cut: u64,
    /// Connections whose peer a new trust does not accept, and which were given time to end.
    pub disbelieved: u64,
    /// Handshakes that failed, on either side; for what, [`Credentials::refusals`] says.
    pub refused: u64,
    /// Attempts to renew that failed.
    pub renewal_failures: u64,
    /// Identities that came into force.
    pub rotations: u64,
    /// Trusts that came into force.
    pub trust_changes: u64,
}

impl Credentials {
    /// Begins with an identity and a trust. Without an identity no handshake succeeds that would
    /// have to present one.
    #[must_use]
    pub fn new(identity: Option<Identity>, trust: Trust) -> Self {
        let state = State {
            identity,
            trust: Arc::new(trust),
            generation: 1,
        };
        Self {
            shared: Arc::new(Shared {
                state: watch::Sender::new(Arc::new(state)),
                counters: Counters::default(),
            }),
        }
    }

    /// Puts another identity in force and returns the generation. The same one again changes
    /// nothing.
    pub fn rotate(&self, identity: Identity) -> u64 {
        let changed = self.change(|state| {
            let new = state.identity.as_ref() != Some(&identity);
            state.identity = Some(identity);
            new
        });
        self.count(changed, &self.shared.counters.rotations)
    }

    /// Takes the identity away: handshakes that need one fail until there is another.
    pub fn withdraw(&self) -> u64 {
        let changed = self.change(|state| state.identity.take().is_some());
        self.count(changed, &self.shared.counters.rotations)
    }

    /// Puts another trust in force and returns the generation. The same one again changes nothing.
    pub fn trust(&self, trust: Trust) -> u64 {
        let changed = self.change(|state| {
            let new = *state.trust != trust;
            state.trust = Arc::new(trust);
            new
        });
        self.count(changed, &self.shared.counters.trust_changes)
    }

    /// Puts another identity and another trust in force at once, and returns the generation: as
    /// [`rotate`](Self::rotate) and [`trust`](Self::trust), without a moment at which one is new and the
    /// other old.
    pub fn replace(&self, identity: Identity, trust: Trust) -> u64 {
        let (mut rotated, mut trusted) = (false, false);
        self.change(|state| {
            rotated = state.identity.as_ref() != Some(&identity);
            trusted = *state.trust != trust;
            state.identity = Some(identity);
            state.trust = Arc::new(trust);
            rotated || trusted
        });
        self.count(rotated, &self.shared.counters.rotations);
        self.count(trusted, &self.shared.counters.trust_changes)
    }

    fn change(&self, change: impl FnOnce(&mut State) -> bool) -> bool {
        self.shared.state.send_if_modified(|current| {
            let mut next = State::clone(current);
            if !change(&mut next) {
                return false;
            }
            next.generation += 1;
            *current = Arc::new(next);
            true
        })
    }

    fn count(&self, changed: bool, counter: &AtomicU64) -> u64 {
        counter.fetch_add(u64::from(changed), Relaxed);
        self.generation()
    }

    /// Counts a renewal that failed; the old identity stays in force.
    pub fn renewal_failed(&self) {
        self.shared.counters.renewal_failures.fetch_add(1, Relaxed);
    }

    /// How often identity or trust have changed, from 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.state().generation
    }

    /// The identity in force.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.state().identity.clone()
    }

    /// The trust in force.
    #[must_use]
    pub fn trusted(&self) -> Arc<Trust> {
        self.state().trust.clone()
    }

    /// Waits until a generation later than `generation` is in force and returns it. Cancel-safe.
    pub async fn changed(&self, generation: u64) -> u64 {
        let mut watch = self.watch();
        match watch.wait_for(|state| state.generation > generation).await {
            Ok(state) => state.generation,
            // Cannot happen: this handle holds the sender.
            Err(_) => generation,
        }
    }

    /// What has been counted up to this moment.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let Counters {
            accepted,
            connected,
            cut,
            disbelieved,
            refused,
            reasons: _,
            renewal_failures,
            rotations,
            trust_changes,
        } = &self.shared.counters;
        Counts {
            accepted: accepted.load(Relaxed),
            connected: connected.load(Relaxed),
            cut: cut.load(Relaxed),
            disbelieved: disbelieved.load(Relaxed),
            refused: refused.load(Relaxed),
            renewal_failures: renewal_failures.load(Relaxed),
            rotations: rotations.load(Relaxed),
            trust_changes: trust_changes.load(Relaxed),
        }
    }

    /// How many handshakes failed for what, on either side: the words of
    /// [`Refusal::reason`](super::Refusal::reason) and [`Unaccepted::reason`](super::Unaccepted::reason).
    ///
    /// ```
    /// assert!(meshwork::tls::Credentials::default().refusals().is_empty());
    /// ```
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        let reasons = &self.shared.counters.reasons;
        reasons
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    pub(super) fn state(&self) -> Arc<State> {
        self.shared.state.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.shared.state.subscribe()
    }

    /// Whether there is another handle than this one.
    pub(super) fn is_used_elsewhere(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    /// A handle that keeps nothing alive.
    pub(super) fn downgrade(&self) -> Weak {
        Weak(Arc::downgrade(&self.shared))
    }

    /// Whether both are the same handle.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

/// A handle for whoever renews: it ends when nobody uses the credentials any more.
#[derive(Clone)]
pub(super) struct Weak(std::sync::Weak<Shared>);

impl Weak {
    pub(super) fn upgrade(&self) -> Option<Credentials> {
        self.0.upgrade().map(|shared| Credentials { shared })
    }

    /// Ready when nobody uses the credentials any more. Cancel-safe.
    #[cfg(feature = "spiffe")]
    pub(super) async fn unused(&self) {
        let Some(mut watch) = self.upgrade().map(|used| used.watch()) else {
            return;
        };
        // The sender goes with the last handle.
        while watch.changed().await.is_ok() {}
    }
}

impl Default for Credentials {
    /// Nobody, who trusts nobody.
    fn default() -> Self {
        Self::new(None, Trust::default())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Credentials")
            .field("identity", &state.identity)
            .field("generation", &state.generation)
            .finish_non_exhaustive()
    }
}

/// Gives rustls the identity of this moment.
#[derive(Debug)]
pub(super) struct Present(pub(super) Credentials);

impl Present {
    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        let state = self.0.state();
        Some(state.identity.as_ref()?.certified().clone())
    }
}

impl ResolvesServerCert for Present {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

impl ResolvesClientCert for Present {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
