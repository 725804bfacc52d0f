//! From the answers to a decision.

use crate::model::authorization::{
    Action, Audit, Authorization, ClaimMatcher, Enforcement, External, Policy, Stage,
};

use super::evaluate::{Lean, holds};
use super::{Attributes, Claim};

/// What was decided, and by whom. It is for logs and counters, not for the caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decision<'m> {
    /// Whether the request may pass.
    pub allowed: bool,
    /// The policy that decided; `None`: no policy allowed it although there are some that could
    /// have, or no enforced stage had anything to say.
    pub policy: Option<&'m Policy>,
}

/// What a stage said of one request, where that is to be written down: a match of an audit stage,
/// what a dry run would have decided, a decision that somebody audits.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'m> {
    /// The stage.
    pub stage: &'m Stage,
    /// The policy that matched; `None`: none did.
    pub policy: Option<&'m Policy>,
    /// Whether the stage lets the request pass, or would.
    pub allowed: bool,
}

/// Asks every stage in order; the first enforced one that denies decides.
///
/// Stages that are audited or only pretend are told to `observe`, as they are asked. Those behind
/// a denial are not asked.
pub fn decide<'m>(
    policies: &'m Authorization,
    attributes: &Attributes<'_>,
    observe: &mut dyn FnMut(Observation<'m>),
) -> Decision<'m> {
    let mut by = None;
    for stage in &policies.stages {
        let policy = matching(&stage.policies, attributes, lean(stage.action));
        let allowed = match stage.action {
            Action::Allow => policy.is_some(),
            Action::Audit => true,
            Action::Deny => policy.is_none(),
        };
        let seen = Observation {
            stage,
            policy,
            allowed,
        };
        if is_observed(&seen) {
            observe(seen);
        }
        match stage.enforcement {
            Enforcement::DryRun => {}
            Enforcement::Enforced if !allowed => return Decision { allowed, policy },
            Enforcement::Enforced if stage.action == Action::Allow => by = policy,
            Enforcement::Enforced => {}
        }
    }
    Decision {
        allowed: true,
        policy: by,
    }
}

/// The external authorizers that must be asked about this request, in order, each with the policy
/// that says so.
pub fn external<'m>(
    policies: &'m Authorization,
    attributes: &Attributes<'_>,
) -> impl Iterator<Item = (&'m External, &'m Policy)> {
    policies.external.iter().filter_map(move |external| {
        let policy = matching(&external.policies, attributes, Lean::Broad)?;
        Some((external, policy))
    })
}

fn matching<'m>(
    policies: &'m [Policy],
    attributes: &Attributes<'_>,
    lean: Lean,
) -> Option<&'m Policy> {
    policies
        .iter()
        .find(|policy| holds(&policy.condition, attributes, lean))
}

fn lean(action: Action) -> Lean {
    match action {
        Action::Allow => Lean::Narrow,
        Action::Audit | Action::Deny => Lean::Broad,
    }
}

fn is_observed(seen: &Observation<'_>) -> bool {
    let audited = match seen.stage.audit {
        Audit::Never => false,
        Audit::OnAllow => seen.allowed,
        Audit::OnDeny => !seen.allowed,
        Audit::Always => true,
    };
    let pretends = seen.stage.enforcement == Enforcement::DryRun;
    let matched = seen.stage.action == Action::Audit && seen.policy.is_some();
    audited || pretends || matched
}

/// Whether a claim has the value: it is the text, or a list that has it.
pub(super) fn claim_holds(claim: &Claim, lean: Lean, holds: impl Fn(&str) -> bool) -> bool {
    match claim {
        Claim::List(items) => items.iter().any(|item| holds(item)),
        Claim::Bool(_) | Claim::Object(_) | Claim::Other => lean.in_doubt(),
        Claim::Text(text) => holds(text),
    }
}

/// Whether a claim is what is asked for; no kind of value is taken for another one.
pub(super) fn claim_is(claim: &Claim, wanted: &ClaimMatcher) -> bool {
    match (wanted, claim) {
        (ClaimMatcher::Any(any), _) => any.iter().any(|one| claim_is(claim, one)),
        (ClaimMatcher::Bool(wanted), Claim::Bool(found)) => wanted == found,
        (ClaimMatcher::Item(wanted), Claim::List(items)) => {
            items.iter().any(|item| wanted.matches(item))
        }
        (ClaimMatcher::Present, _) => true,
        (ClaimMatcher::Text(wanted), Claim::Text(text)) => wanted.matches(text),
        (ClaimMatcher::Bool(_) | ClaimMatcher::Item(_) | ClaimMatcher::Text(_), _) => false,
    }
}
