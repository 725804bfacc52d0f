//! Policies of the Gateway API for backends, in the terms of a DestinationRule.
//!
//! A `BackendTLSPolicy` is the `tls` block in mode SIMPLE, an `XBackendTrafficPolicy` the `retryBudget`.
//! A block that a DestinationRule has for the port stands above them. The policy is in the namespace of
//! its service; of two for one port the one that names the port counts, then the older, and the other is
//! told.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::source::istio::compile::policy::Blocks;
use crate::source::istio::fault::{Code, Fault, Faults, quoted};
use crate::source::istio::kinds::gateway_api::{
    BackendTlsPolicySpec, BackendTrafficPolicySpec, PolicyTargetReference,
};
use crate::source::istio::kinds::{ClientTls, GoDuration, Kind, Object, RetryBudget, TlsMode};
use crate::source::istio::registry::{View, origin, place, warning};
use crate::source::istio::yaml::Located;

/// The API's budget, where the policy does not say it.
const PERCENT: u32 = 20;
const INTERVAL: std::time::Duration = std::time::Duration::from_secs(10);
const RATE: u32 = 10;

/// What is attached to the ports of all services.
#[derive(Debug, Default)]
pub(in super::super) struct Policies<'a> {
    tls: BTreeMap<(Arc<str>, u16), Attached<'a, ClientTls>>,
    budgets: BTreeMap<(Arc<str>, u16), Attached<'a, RetryBudget>>,
}

#[derive(Debug)]
struct Attached<'a, T> {
    block: Located<T>,
    object: &'a Object,
    /// The target by which it is attached.
    target: &'a Located<PolicyTargetReference>,
    /// Whether it names the port.
    precise: bool,
}

impl<'a> Policies<'a> {
    /// Reads what is attached; `objects` are in the order of age.
    pub(in super::super) fn new(
        objects: &[&'a Object],
        view: &View<'_>,
        faults: &mut Faults,
    ) -> Self {
        let mut all = Self::default();
        for &object in objects {
            match &object.kind {
                Kind::BackendTlsPolicy(policy) => {
                    let Some(block) = tls(policy) else { continue };
                    let targets = &policy.target_refs;
                    attach(&mut all.tls, object, targets, &block, view, faults);
                }
                Kind::BackendTrafficPolicy(policy) => {
                    let Some(block) = budget(policy) else {
                        continue;
                    };
                    let targets = &policy.target_refs;
                    attach(&mut all.budgets, object, targets, &block, view, faults);
                }
                _other_kinds => {}
            }
        }
        all
    }

    /// The blocks of a port, with what is attached where a rule has none.
    pub(in super::super) fn complete<'b>(
        &'b self,
        host: &Arc<str>,
        port: u16,
        blocks: Blocks<'b>,
    ) -> Blocks<'b> {
        if self.tls.is_empty() && self.budgets.is_empty() {
            return blocks;
        }
        let key = (host.clone(), port);
        let tls = self.tls.get(&key).map(|one| &one.block);
        let budget = self.budgets.get(&key).map(|one| &one.block);
        Blocks {
            tls: blocks.tls.or(tls),
            budget: blocks.budget.or(budget),
            ..blocks
        }
    }
}

/// Reading has seen to it that there is one source of roots.
fn tls(policy: &BackendTlsPolicySpec) -> Option<ClientTls> {
    let validation = &policy.validation.value;
    let names = validation.subject_alt_names.iter();
    let names = names.filter_map(|name| name.hostname.clone().or_else(|| name.uri.clone()));
    let roots = validation.ca_certificate_refs.first();
    if roots.is_none() && validation.well_known_ca_certificates.is_none() {
        return None;
    }
    Some(ClientTls {
        mode: TlsMode::Simple,
        credential_name: roots.map(|reference| reference.name.clone()),
        sni: Some(validation.hostname.clone()),
        subject_alt_names: names.collect(),
        ..ClientTls::default()
    })
}

fn budget(policy: &BackendTrafficPolicySpec) -> Option<RetryBudget> {
    let constraint = policy.retry_constraint.as_ref()?;
    let budget = constraint.budget.as_ref();
    let percent = budget.and_then(|budget| budget.percent).unwrap_or(PERCENT);
    let interval = budget.and_then(|budget| budget.interval);
    let rate = constraint.min_retry_rate.as_ref();
    Some(RetryBudget {
        percent: Some(percent.into()),
        min_retry_concurrency: Some(rate.and_then(|rate| rate.count).unwrap_or(RATE)),
        budget_interval: Some(GoDuration(interval.map_or(INTERVAL, Into::into))),
    })
}

fn attach<'a, T: Clone>(
    all: &mut BTreeMap<(Arc<str>, u16), Attached<'a, T>>,
    object: &'a Object,
    targets: &'a [Located<PolicyTargetReference>],
    block: &T,
    view: &View<'_>,
    faults: &mut Faults,
) {
    for target in targets {
        let ports = ports(object, target, view);
        if ports.is_empty() {
            faults.push(nowhere(object, target));
        }
        for key in ports {
            let precise = target.section_name.is_some();
            let attached = Attached {
                block: Located::from(block.clone()),
                object,
                target,
                precise,
            };
            match all.get(&key) {
                Some(known) if known.precise >= precise => {
                    if !std::ptr::eq(known.object, object) {
                        faults.push(second(object, target, known.object, &key));
                    }
                }
                Some(_) | None => {
                    // An older one for all ports gives way to one that names this port.
                    if let Some(known) = all.insert(key.clone(), attached)
                        && !std::ptr::eq(known.object, object)
                    {
                        faults.push(second(known.object, known.target, object, &key));
                    }
                }
            }
        }
    }
}

/// The ports that a target means, of services in the namespace of the policy.
fn ports(object: &Object, target: &PolicyTargetReference, view: &View<'_>) -> Vec<(Arc<str>, u16)> {
    let services = view.services().filter(|service| {
        let kind = match &service.object.kind {
            Kind::Service(_) => ("", "Service"),
            Kind::ServiceEntry(_) => ("networking.istio.io", "ServiceEntry"),
            _declares_no_service => return false,
        };
        kind == (&*target.group, &*target.kind)
            && *service.object.meta.name == *target.name
            && service.object.meta.namespace == object.meta.namespace
    });
    let ports = services.flat_map(|service| {
        let named = service.ports.iter().filter(move |port| {
            let section = target.section_name.as_deref();
            section.is_none_or(|section| section == &*port.name)
        });
        named.map(move |port| (service.host.clone(), port.number))
    });
    ports.collect()
}

fn nowhere(object: &Object, target: &Located<PolicyTargetReference>) -> Fault {
    let section = target.section_name.as_deref();
    let port = section.map_or_else(String::new, |name| format!(" with a port {}", quoted(name)));
    let text = format!(
        "has no effect: there is no {} {} in the namespace {}{port} that the client sees",
        target.kind,
        quoted(&target.name),
        object.meta.namespace
    );
    warning(object, Code::NotFound, place(target), text).field("targetRefs")
}

fn second(
    object: &Object,
    target: &Located<PolicyTargetReference>,
    first: &Object,
    (host, port): &(Arc<str>, u16),
) -> Fault {
    let text = format!(
        "has no effect on port {port} of {host}: {} says it already",
        origin(first)
    );
    warning(object, Code::Conflict, place(target), text).field("targetRefs")
}
