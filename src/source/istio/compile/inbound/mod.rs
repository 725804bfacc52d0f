//! What the objects ask of requests that arrive at the workload.
//!
//! Policies of the root namespace and of the workload's own count, if they have no selector or one
//! that selects it; a selector in the root namespace selects in all namespaces. Policies of one
//! action are a union, so their order means nothing but who is named in logs. The stages are
//! Istio's: AUDIT, DENY, ALLOW, each followed by the policies that only pretend.
//!
//! Where istiod's own generator for proxyless clients deviates (no AUDIT and CUSTOM, dry runs that
//! are enforced, an `ALLOW` without rules that allows everything), this follows what Istio's
//! documentation and its sidecars do.

mod limit;
mod principal;
mod provider;
mod rule;
mod token;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Defaults, Object};
use crate::model::authorization::{
    Action, Authorization, Condition, Enforcement, External, Policy, Stage,
};
use crate::model::{Inbound, Origin};
use crate::source::istio::fault::{Code, Faults, quoted};
use crate::source::istio::kinds::{
    AccessAction, AuthorizationPolicy, Kind, LabelSelector, PolicyTarget,
};
use crate::source::istio::registry::{selects, warning};
use crate::source::istio::validate::{DRY_RUN, dry_run};
use crate::source::istio::yaml::Located;
use crate::workload::Workload;
use principal::Domains;
use provider::Providers;

/// The name that Istio gives to what denies everything because an authorizer is unknown.
const BAD_CUSTOM: &str = "default-deny-all-due-to-bad-CUSTOM-action";

/// Compiles what concerns the workload; `objects` are in the order of age.
pub(super) fn inbound(
    objects: &[&Object],
    workload: &Workload,
    defaults: Defaults<'_>,
    faults: &mut Faults,
) -> Inbound {
    let scope = Scope {
        workload,
        root: defaults.root_namespace(),
        domains: Domains::new(defaults),
    };
    let providers = Providers::of(defaults, workload);
    let tokens = token::rules(objects, &scope);
    let mut parts = Parts::default();
    for object in objects {
        let Kind::AuthorizationPolicy(policy) = &object.kind else {
            continue;
        };
        let attached = (policy.target_ref.as_ref(), &policy.target_refs[..]);
        if scope.concerns(object, policy.selector.as_ref(), attached) {
            parts.add(object, policy, &scope, &providers, faults);
        }
    }
    let authorization = parts.finish();
    let mut authorizers = providers.authorizers;
    authorizers.retain(|name, _| {
        authorization
            .external
            .iter()
            .any(|one| one.provider == *name)
    });
    let limits = limit::limits(objects, &scope, faults);
    Inbound {
        authorization,
        tokens,
        // In Istio policies say whether one is needed.
        token_required: false,
        limits,
        filters: Vec::new(),
        normalization: defaults.normalization(),
        authorizers,
    }
}

/// The policies of callers and requests that look at the labels of a workload in this namespace. To one
/// that does not say its labels they may apply or not.
#[cfg(feature = "control-plane")]
pub(crate) fn selected_by_labels<'a>(
    objects: &'a [Object],
    namespace: &'a str,
) -> impl Iterator<Item = &'a Object> {
    let references: Vec<&Object> = objects.iter().collect();
    let root = Defaults::of(&references).root_namespace().to_owned();
    objects.iter().filter(move |object| {
        let selector = match &object.kind {
            Kind::AuthorizationPolicy(policy) => policy.selector.as_ref(),
            Kind::PeerAuthentication(policy) => policy.selector.as_ref(),
            Kind::RequestAuthentication(policy) => policy.selector.as_ref(),
            _other_kinds => None,
        };
        let here = *object.meta.namespace == *namespace || *object.meta.namespace == *root;
        here && selector.is_some_and(|selector| !selector.match_labels.is_empty())
    })
}

/// Whose door it is.
struct Scope<'a> {
    workload: &'a Workload,
    root: &'a str,
    domains: Domains<'a>,
}

impl Scope<'_> {
    /// Whether a policy is for the workload.
    fn concerns(
        &self,
        object: &Object,
        selector: Option<&Located<LabelSelector>>,
        (target, targets): (Option<&Located<PolicyTarget>>, &[Located<PolicyTarget>]),
    ) -> bool {
        let namespace = &*object.meta.namespace;
        let here = namespace == self.root || namespace == self.workload.namespace();
        let selected =
            selector.is_none_or(|selector| selects(&selector.match_labels, self.workload.labels()));
        here && selected && target.is_none() && targets.is_empty()
    }
}

/// Policies by what they do.
#[derive(Default)]
struct Parts {
    external: BTreeMap<Arc<str>, Vec<Policy>>,
    audit: Vec<Policy>,
    deny: Vec<Policy>,
    deny_pretended: Vec<Policy>,
    /// `None`: there is no policy that allows, so all is allowed.
    allow: Option<Vec<Policy>>,
    allow_pretended: Option<Vec<Policy>>,
}

impl Parts {
    fn add(
        &mut self,
        object: &Object,
        policy: &AuthorizationPolicy,
        scope: &Scope<'_>,
        providers: &Providers,
        faults: &mut Faults,
    ) {
        let rules = policy
            .rules
            .iter()
            .enumerate()
            .map(|(index, written)| Policy {
                name: format!(
                    "ns[{}]-policy[{}]-rule[{index}]",
                    object.meta.namespace, object.meta.name
                )
                .into(),
                condition: rule::condition(written, &object.meta.namespace, &scope.domains)
                    .unwrap_or_else(|| unreadable(policy.action)),
                origin: object.origin.at_line(written.line),
            });
        match policy.action {
            AccessAction::Allow if pretends(object, policy.action) => {
                self.allow_pretended.get_or_insert_default().extend(rules);
            }
            AccessAction::Allow => self.allow.get_or_insert_default().extend(rules),
            AccessAction::Audit => self.audit.extend(rules),
            AccessAction::Custom => {
                let named = policy.provider.as_ref();
                let name = named
                    .map(|provider| provider.name.as_str())
                    .unwrap_or_default();
                if providers.authorizers.contains_key(name) {
                    self.external.entry(name.into()).or_default().extend(rules);
                    return;
                }
                let place = named.map_or((0, 0), |provider| (provider.line, provider.column));
                let text = format!(
                    "provider {} is no ext_authz provider of the mesh configuration: all requests are denied",
                    quoted(name)
                );
                faults.push(warning(object, Code::NotFound, place, text));
                self.deny.push(Policy {
                    name: BAD_CUSTOM.into(),
                    condition: Condition::always(),
                    origin: object.origin.clone(),
                });
            }
            AccessAction::Deny if pretends(object, policy.action) => {
                self.deny_pretended.extend(rules);
            }
            AccessAction::Deny => self.deny.extend(rules),
        }
    }

    fn finish(self) -> Authorization {
        let pretended = |action, policies| Stage {
            enforcement: Enforcement::DryRun,
            ..Stage::enforced(action, policies)
        };
        let some = |policies: Vec<Policy>| (!policies.is_empty()).then_some(policies);
        let stages = [
            some(self.audit).map(|policies| Stage::enforced(Action::Audit, policies)),
            some(self.deny).map(|policies| Stage::enforced(Action::Deny, policies)),
            some(self.deny_pretended).map(|policies| pretended(Action::Deny, policies)),
            self.allow
                .map(|policies| Stage::enforced(Action::Allow, policies)),
            self.allow_pretended
                .map(|policies| pretended(Action::Allow, policies)),
        ];
        let external = self.external.into_iter();
        Authorization {
            external: external
                .map(|(provider, policies)| External { provider, policies })
                .collect(),
            stages: stages.into_iter().flatten().collect(),
        }
    }
}

/// What stands for a rule that cannot be read: it lets nobody pass.
fn unreadable(action: AccessAction) -> Condition {
    match action {
        AccessAction::Allow => Condition::never(),
        AccessAction::Audit | AccessAction::Custom | AccessAction::Deny => Condition::always(),
    }
}

/// Whether the policy only pretends; reading has refused what is no boolean.
fn pretends(object: &Object, action: AccessAction) -> bool {
    let value = object.meta.annotations.get(DRY_RUN);
    value.is_some_and(|value| dry_run(value, action) == Ok(true))
}

/// The place of something in an object.
fn at(object: &Object, line: u32) -> Origin {
    object.origin.at_line(line.max(1))
}
