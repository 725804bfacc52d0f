//! Judges a request again while it is under way.
//!
//! A stream may live for days, and a policy that was tightened yesterday must hold for it too. Who
//! polls the stream also polls this: it sleeps until a configuration comes into force whose
//! policies are others, and asks them. A request that is answered at once never gets here: the first wait is
//! what arms it.
//!
//! What is judged is what was judged at first: the head as it was then, and of a port that a control plane
//! configures the route that it was given. An authorizer or a token that has changed headers, a filter that
//! writes another path, or the dice of a route that takes a share could otherwise lead a stream to rules
//! that are not its own.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::watch;

use super::Peer;
use super::door::Door;
use super::judge::{Asked, caller_by};
use super::seen::Seen;
use crate::layer::authz::{Attributes, Token, decide};
use crate::model::Inbound;
use crate::outbound::Dialect;

type Changed = Pin<Box<dyn Future<Output = watch::Receiver<u64>> + Send + Sync>>;

/// What is needed to judge a request again.
pub(super) struct Recheck {
    door: Arc<Door>,
    /// What it was asked, with the policies that it passed last.
    asked: Asked,
    evidence: Evidence,
    dialect: Dialect,
    changed: Option<Changed>,
}

/// What a request is judged by.
pub(super) struct Evidence {
    /// The request without its body, as it was judged.
    pub(super) seen: Seen,
    /// Who is at the other end of its connection.
    pub(super) peer: Option<Peer>,
    pub(super) token: Option<Arc<Token>>,
}

impl Recheck {
    pub(super) fn new(door: Arc<Door>, asked: Asked, evidence: Evidence, dialect: Dialect) -> Self {
        Self {
            door,
            asked,
            evidence,
            dialect,
            changed: None,
        }
    }

    /// In which language to say that the request is denied by now, if it is; else the task is
    /// woken when that may have changed.
    pub(super) fn denied_now(&mut self, cx: &mut Context<'_>) -> Option<Dialect> {
        // Asked at each pause of the stream, so it looks at policies only when others may be in force.
        let mut changed = match self.changed.take() {
            None => wait(self.door.subscribe()),
            Some(mut changed) => match changed.as_mut().poll(cx) {
                Poll::Ready(receiver) => wait(receiver),
                Poll::Pending => {
                    self.changed = Some(changed);
                    return None;
                }
            },
        };
        // Subscribed first and looked at then: no edit falls between the two.
        while self.passes() {
            match changed.as_mut().poll(cx) {
                Poll::Ready(receiver) => changed = wait(receiver),
                Poll::Pending => {
                    self.changed = Some(changed);
                    return None;
                }
            }
        }
        Some(self.dialect)
    }

    /// Whether the policies of now let it pass; they are those that it passed last from here on.
    fn passes(&mut self) -> bool {
        let current = match &mut self.asked.routed {
            None => self.door.policies(),
            Some(routed) => routed
                .asks(self.door.core(), &self.evidence.seen)
                .unwrap_or_else(|| self.asked.policies.clone()),
        };
        if Arc::ptr_eq(&current, &self.asked.policies) {
            return true;
        }
        if self.denies(&current) {
            return false;
        }
        self.asked.policies = current;
        true
    }

    fn denies(&self, current: &Inbound) -> bool {
        let Evidence { seen, peer, token } = &self.evidence;
        let Some(request) = seen.request() else {
            self.door.counts().cut();
            tracing::warn!("request under way cannot be judged by a new policy and ends");
            return true;
        };
        let attributes = Attributes::of(&request, caller_by(peer.as_ref()));
        let attributes = attributes.with_token(token.as_deref());
        let decision = decide(&current.authorization, &attributes, &mut |_| {});
        if !decision.allowed {
            self.door.counts().cut();
            let policy = decision.policy.map(|policy| &*policy.name);
            tracing::info!(
                policy,
                "request under way is denied by a new policy and ends"
            );
        }
        !decision.allowed
    }
}

fn wait(mut receiver: watch::Receiver<u64>) -> Changed {
    Box::pin(async move {
        if receiver.changed().await.is_err() {
            // The mesh is gone, and with it the edits.
            std::future::pending::<()>().await;
        }
        receiver
    })
}

impl fmt::Debug for Recheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recheck").finish_non_exhaustive()
    }
}
