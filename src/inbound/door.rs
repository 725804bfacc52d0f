//! What all requests that arrive share.

use std::fmt;
use std::sync::Arc;

use http::{Request, Response};
use tokio::sync::watch;

use super::answer::Answer;
use super::judge::Asked;
use crate::body::Body;
use crate::error::Error;
use crate::model::Inbound;
use crate::model::security::MutualTls;
use crate::name::Target;
use crate::outbound::{self, Core, Dialect, Scope, Work};
use crate::snapshot::InboundCounts;
use crate::telemetry::Registry;

/// The door of one mesh.
pub(super) struct Door {
    core: Arc<Core>,
    #[cfg(feature = "jwt")]
    witness: super::token::Witness,
    #[cfg(feature = "rate-limit")]
    limits: super::limits::Limits,
}

impl Door {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            #[cfg(feature = "jwt")]
            witness: super::token::Witness::new(core.clone()),
            #[cfg(feature = "rate-limit")]
            limits: super::limits::Limits::new(),
            core,
        }
    }

    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    /// Counts a request until the work is dropped.
    pub(super) fn admit(&self) -> Result<Work, Error> {
        self.core.drain.admit()
    }

    /// What is asked of requests at this moment. Called once for each request and once for each
    /// edit while it is under way.
    pub(super) fn policies(&self) -> Arc<Inbound> {
        self.asked_on(None).0
    }

    /// The same, and whether callers of this port must come by mutual TLS. Where the port is not
    /// known the strictest of all ports counts.
    pub(super) fn asked_on(&self, port: Option<u16>) -> (Arc<Inbound>, MutualTls) {
        let snapshot = self.core.live.load();
        let peers = &snapshot.peers;
        let mode = port.map_or_else(|| peers.strictest(), |port| peers.on(port));
        (snapshot.inbound.clone(), mode)
    }

    /// Tells when another configuration is in force.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.core.generation.subscribe()
    }

    pub(super) fn counts(&self) -> &InboundCounts {
        &self.core.inbound
    }

    /// Sends a request of the door's own through the mesh, to `host:port`.
    pub(super) async fn send(
        &self,
        authority: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let target = Target::parse(authority)?;
        let dialect = Dialect::of(request.headers());
        outbound::send(&self.core, Scope::Target(&target), dialect, &mut request).await
    }

    /// The answer to a request that may come in and is one too many.
    #[cfg(feature = "rate-limit")]
    pub(super) fn limited<B>(
        &self,
        asked: &Asked,
        request: &Request<B>,
        dialect: Dialect,
    ) -> Option<Answer> {
        let random = &self.core.environment.random;
        let refused = match asked.policies.limits.is_empty() {
            true => None,
            false => self.limits.check(asked, request, dialect, random),
        };
        refused.inspect(|_| self.counts().limited())
    }

    /// Limits that nobody can count refuse what they are about: everything.
    #[cfg(not(feature = "rate-limit"))]
    pub(super) fn limited<B>(
        &self,
        asked: &Asked,
        _: &Request<B>,
        dialect: Dialect,
    ) -> Option<Answer> {
        if asked.policies.limits.is_empty() {
            return None;
        }
        self.counts().denied();
        tracing::warn!("request denied: limits need the feature `rate-limit`");
        Some(super::answer::denied(dialect))
    }

    /// Where requests are measured.
    pub(super) fn telemetry(&self) -> &Registry {
        &self.core.environment.telemetry
    }

    /// Who looks at tokens.
    #[cfg(feature = "jwt")]
    pub(super) fn witness(&self) -> &super::token::Witness {
        &self.witness
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}
