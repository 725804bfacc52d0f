//! Who may do what at a server's door.
//!
//! The shape is Envoy's RBAC and not Istio's: a list of [`Stage`]s, each with one [`Action`] and
//! policies that are logical expressions over one request. Istio's `AuthorizationPolicy` and the
//! RBAC filter of xDS (gRFC A41) both become this, and a mechanism that decides sees no difference.
//! It differs from both in one thing: an expression is never turned into a regular expression. A
//! namespace, a service account and a path template are questions of their own, because names that
//! are pasted into patterns are how `my.app` came to match `myXapp`.
//!
//! What cannot be understood cannot be built: there is no "unknown" condition and no condition that
//! is ignored. A source that meets one refuses the whole resource, and with it the set; without a
//! last good set the door denies all ([`Authorization::closed`]).

mod condition;
mod path;
mod principal;
mod range;

use std::sync::Arc;

use super::Origin;

pub use condition::{ClaimMatcher, Condition};
pub use path::{InvalidTemplate, PathPattern, Template};
pub use principal::{PeerPattern, SpiffeParts};
pub use range::{InvalidNetwork, Network, PortRange};

/// All that decides about requests at one door, in the order in which it is asked.
///
/// A request passes if every enforced stage lets it pass. Without any stage everything passes.
///
/// ```
/// use meshwork::model::authorization::{Action, Authorization, Condition, Policy, Stage};
/// use meshwork::model::matcher::StringMatcher;
///
/// let reads = Policy::new("reads", Condition::Method(StringMatcher::Exact("GET".into())));
/// let only_reads = Authorization {
///     stages: vec![Stage::enforced(Action::Allow, vec![reads])],
///     ..Authorization::default()
/// };
/// assert_ne!(only_reads, Authorization::default());
/// ```
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Authorization {
    /// Requests that are shown to an external authorizer before anything else is asked, each
    /// with the name of the provider (Istio's action `CUSTOM`).
    pub external: Vec<External>,
    /// Asked in this order.
    pub stages: Vec<Stage>,
}

impl Authorization {
    /// Denies every request: what holds while nothing that can be understood is there.
    #[must_use]
    pub fn closed() -> Self {
        Self {
            external: Vec::new(),
            stages: vec![Stage::enforced(Action::Allow, Vec::new())],
        }
    }

    /// Whether nothing is ever denied, looked at or written down.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.external.is_empty() && self.stages.is_empty()
    }
}

/// Requests that an external authorizer decides about.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct External {
    /// The provider's name.
    pub provider: Arc<str>,
    /// Which requests; one match is enough.
    pub policies: Vec<Policy>,
}

/// Policies of one action.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Stage {
    /// What it is called in audits: the name of the filter in xDS, empty otherwise.
    pub name: Arc<str>,
    /// What a match means.
    pub action: Action,
    /// Any number; none of them needs to match for [`Action::Audit`] and [`Action::Deny`], one of
    /// them must for [`Action::Allow`]. So an empty `Allow` stage denies every request.
    pub policies: Vec<Policy>,
    /// Whether the stage decides, or only says what it would have decided.
    pub enforcement: Enforcement,
    /// Which of its decisions are written down.
    pub audit: Audit,
    /// Who writes them (gRFC A59), beside the event that is always told.
    pub loggers: Vec<AuditLogger>,
}

impl Stage {
    /// A stage that decides and writes nothing down.
    #[must_use]
    pub fn enforced(action: Action, policies: Vec<Policy>) -> Self {
        Self {
            name: "".into(),
            action,
            policies,
            enforcement: Enforcement::Enforced,
            audit: Audit::Never,
            loggers: Vec::new(),
        }
    }
}

/// What it means that a policy of a stage matches.
///
/// Exhaustive: a door that does not know an action cannot be secure.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Action {
    /// The request may pass this stage; without a match it is denied.
    Allow,
    /// The request is written down and passes (Envoy's `LOG`, Istio's `AUDIT`).
    Audit,
    /// The request is denied; without a match it passes this stage.
    Deny,
}

/// Whether a stage decides.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Enforcement {
    /// It only says what it would have decided (Envoy's shadow rules, Istio's dry run).
    DryRun,
    /// It decides.
    Enforced,
}

/// Which decisions of a stage are written down (gRFC A59's `audit_condition`).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Audit {
    /// None.
    Never,
    /// Requests that pass the stage.
    OnAllow,
    /// Requests that it denies.
    OnDeny,
    /// All.
    Always,
}

/// Who writes decisions down.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum AuditLogger {
    /// A JSON line for each on the process' standard output (gRFC A59's `StdoutAuditLog`).
    Stdout,
}

/// One named expression.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Policy {
    /// Istio's name of a rule, `ns[namespace]-policy[name]-rule[index]`, or the key in xDS.
    pub name: Arc<str>,
    /// When it matches.
    pub condition: Condition,
    /// Where it was written.
    pub origin: Origin,
}

impl Policy {
    /// A policy that nobody wrote in a file.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, condition: Condition) -> Self {
        Self {
            name: name.into(),
            condition,
            origin: Origin::built_in(),
        }
    }
}
