//! From Linkerd's `HTTPLocalRateLimitPolicy` to limits at the door.
//!
//! A policy is for the port of one Server, and counts for the workloads that the Server selects. As in
//! Linkerd each process counts for itself, a second's requests may come at once, callers without an
//! identity are one, and a caller with an override has no other limit of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Scope;
use crate::model::Fraction;
use crate::model::rate::{Bucket, CallersBucket, LocalLimit, Refusal};
use crate::source::istio::fault::{Code, Faults, quoted};
use crate::source::istio::kinds::{
    HttpLocalRateLimitPolicy, Kind, LinkerdServer, Object, TargetPort,
};
use crate::source::istio::registry::{selects, warning};

/// All limits of the workload, in the order of the names of their policies.
pub(super) fn limits(
    objects: &[&Object],
    scope: &Scope<'_>,
    faults: &mut Faults,
) -> Vec<LocalLimit> {
    let own = |object: &&&Object| *object.meta.namespace == *scope.workload.namespace();
    let servers = objects
        .iter()
        .filter(own)
        .filter_map(|object| match &object.kind {
            Kind::LinkerdServer(server) => Some((&*object.meta.name, &**server)),
            _other_kinds => None,
        });
    let servers: BTreeMap<&str, &LinkerdServer> = servers.collect();
    let mut limits: Vec<LocalLimit> = Vec::new();
    for object in objects.iter().filter(own) {
        let Kind::HttpLocalRateLimitPolicy(policy) = &object.kind else {
            continue;
        };
        let Some(target) = &policy.target_ref else {
            continue;
        };
        let Some(server) = servers.get(&*target.name) else {
            let text = format!(
                "Server {} is not among the objects: the policy limits nothing",
                quoted(&target.name)
            );
            let place = (target.line, target.column);
            faults.push(warning(object, Code::NotFound, place, text).field("targetRef"));
            continue;
        };
        limits.extend(limit(object, policy, server, scope));
    }
    limits.sort_by(|one, other| one.scope.cmp(&other.scope));
    limits
}

fn limit(
    object: &Object,
    policy: &HttpLocalRateLimitPolicy,
    server: &LinkerdServer,
    scope: &Scope<'_>,
) -> Option<LocalLimit> {
    let selector = server.pod_selector.as_ref()?;
    if !selects(&selector.match_labels, scope.workload.labels()) {
        return None;
    }
    let Some(TargetPort::Number(port)) = server.port else {
        return None;
    };
    let bucket = |rate: u32| Bucket::new(rate, rate, Duration::from_secs(1)).ok();
    let callers = policy.overrides.iter().filter_map(|one| {
        let identities = one.client_refs.iter().flat_map(|client| {
            let namespace = client.namespace.as_deref().filter(|text| !text.is_empty());
            let namespace = namespace.unwrap_or(&object.meta.namespace);
            scope.domains.account(namespace, &client.name)
        });
        Some(CallersBucket {
            identities: identities.collect(),
            bucket: bucket(one.requests_per_second)?,
        })
    });
    let of = |rate: Option<u32>| rate.and_then(bucket);
    Some(LocalLimit {
        scope: format!("{}/{}", object.meta.namespace, object.meta.name).into(),
        port: Some(port),
        total: of(policy.total.as_ref().map(|one| one.requests_per_second)),
        per_caller: of(policy.identity.as_ref().map(|one| one.requests_per_second)),
        callers: callers.collect(),
        enabled: Fraction::ONE,
        enforced: Fraction::ONE,
        refusal: Refusal {
            exhausted: true,
            ..Refusal::default()
        },
        origin: object.origin.clone(),
    })
}
