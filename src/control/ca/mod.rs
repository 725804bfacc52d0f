//! A small certificate authority beside the xDS server: istiod's `IstioCertificateService`.
//!
//! Whoever proves who it is gets a certificate for exactly that identity, for a day at most. There are
//! three proofs, looked at in this order, and no second one is tried when the first is wrong:
//!
//! 1. **A join token** (`authorization: Bearer`), which an operator made for one identity
//!    ([`JoinTokens`]). It is used up by its first use, unless its line says that it is reusable.
//! 2. **A service-account token of Kubernetes** ([`Kubernetes`]), whose signature is verified with the
//!    cluster's public keys, for one issuer and one audience.
//! 3. **The identity itself**: a certificate of this authority that still holds.
//!
//! A [`CertificateRequest`](crate::tls::CertificateRequest) contributes its public key and nothing else,
//! so there is nothing to be talked into. Every certificate and every refusal is an event of the log with
//! the target `meshwork::ca` and a count; what the caller is told of a failed proof is one sentence that
//! is the same for all of them.
//!
//! # Bounds
//!
//! An address may try fifty times at once and ten times a second from then on, all together 200 times a
//! second; an identity gets twenty certificates at once and one a second from then on, all together a
//! hundred. Those above are told `RESOURCE_EXHAUSTED`. A request has 64 KiB.
//!
//! # State
//!
//! The file of the authority and that of the join tokens are the only state of the server which is not
//! derived from its source. Both are read again when they change, so that `meshwork ca` edits them while the
//! server runs.

mod caller;
mod join;
mod keeper;
mod kubernetes;
mod office;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::identity::SpiffeId;
use crate::tls::{Authority, Clock, Unusable};

pub use join::JoinTokens;
pub(super) use keeper::Keeper;
pub use kubernetes::Kubernetes;
pub(super) use office::{Caller, Office};
pub(super) use wire::CREATE;

/// How long certificates are valid at most, unless told otherwise.
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// What an authority is made of; for [`Server::with_ca`](super::Server::with_ca).
///
/// ```no_run
/// use meshwork::control::{Ca, JoinTokens, Server, Store};
/// use meshwork::tls::Authority;
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let path = std::path::Path::new("/var/lib/mesh/authority.pem");
/// let id = "spiffe://cluster.local/ns/mesh-system/sa/control".parse()?;
/// let ca = Ca::new(path, Authority::load(path)?, id)
///     .with_names(["mesh-control.mesh-system.svc"])
///     .with_join_tokens(JoinTokens::new("/var/lib/mesh/join-tokens"));
/// let server = Server::new(Store::new()).with_ca(ca)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Ca {
    path: PathBuf,
    authority: Authority,
    id: SpiffeId,
    names: Vec<Box<str>>,
    tokens: Option<JoinTokens>,
    kubernetes: Option<Kubernetes>,
    lifetime: Duration,
    clock: Clock,
}

impl Ca {
    /// The authority in this file, which is read again when it changes. `id` is who the server itself is:
    /// it signs its own certificate.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, authority: Authority, id: SpiffeId) -> Self {
        Self {
            path: path.into(),
            authority,
            id,
            names: Vec::new(),
            tokens: None,
            kubernetes: None,
            lifetime: LIFETIME,
            clock: Clock::system(),
        }
    }

    /// DNS names that clients know the server by; its certificate is for them too.
    #[must_use]
    pub fn with_names<N: Into<Box<str>>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Believes these join tokens.
    #[must_use]
    pub fn with_join_tokens(mut self, tokens: JoinTokens) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Believes service-account tokens of this cluster.
    #[must_use]
    pub fn with_kubernetes(mut self, kubernetes: Kubernetes) -> Self {
        self.kubernetes = Some(kubernetes);
        self
    }

    /// Sets how long certificates are valid, if a client does not ask for less; the default is 24 h, and
    /// less than a second counts as one.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime.max(Duration::from_secs(1));
        self
    }

    /// Reads the time from this clock, for tests.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// The office that answers, and the task that keeps it up to date.
    pub(super) fn open(self) -> Result<(Arc<Office>, Keeper), Unusable> {
        let keeper = Keeper::new(
            self.path,
            self.authority,
            self.id,
            self.names,
            self.lifetime,
            self.clock,
        )?;
        let caller = caller::Proofs {
            tokens: self.tokens,
            kubernetes: self.kubernetes,
        };
        let office = Office::new(keeper.current(), caller, self.lifetime, self.clock);
        Ok((Arc::new(office), keeper))
    }
}
