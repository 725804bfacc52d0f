//! How much the workload's own ports take at once.
//!
//! A `Sidecar` with an `inboundConnectionPool` says it for all ports. Without one the DestinationRule of
//! a service that the workload serves says it for the ports of that service, since whoever limits
//! callers to so many requests means that the service bears so many (istiod's inbound clusters). It is
//! the rule that the workload itself would use to call the service, without its subsets, and never one
//! with a `workloadSelector`: that chooses callers (istiod honours it for outbound only).
//!
//! A service's port is not the port that its pods listen on: `targetPort` leads there, or where that is
//! the name of a container's port the endpoints, which have its number. Of two services with one port
//! of the workload the lower limits hold.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use super::Scope;
use super::policy::Blocks;
use super::rules::Rules;
use super::sidecar::Imports;
use crate::model::capacity::{Capacities, Capacity};
use crate::model::endpoint::Address;
use crate::source::istio::kinds::{ConnectionPool, Kind, ServiceEntryPort, ServicePort};
use crate::source::istio::registry::{Port, Service, chooses};

/// What holds for the workload that is compiled for.
pub(super) fn capacities(
    scope: &Scope<'_>,
    rules: &Rules<'_>,
    imports: &Imports<'_>,
) -> Capacities {
    if let Some(pool) = imports.inbound_pool() {
        return Capacities {
            every: capacity(pool),
            ..Capacities::default()
        };
    }
    let mut all = Capacities::default();
    for service in scope.view.services().filter(|one| is_own(scope, one)) {
        let rule = rules.of_server(&service.host, &service.namespace, scope.client);
        let policy = rule.and_then(|rule| rule.policy);
        for port in &service.ports {
            let Some(pool) = Blocks::of([None, policy, None], port.number).pool else {
                continue;
            };
            let capacity = capacity(pool);
            for number in listening(service, port) {
                let known = all.ports.entry(number).or_default();
                *known = known.and(capacity);
            }
        }
    }
    all.ports.retain(|_, one| *one != Capacity::default());
    all
}

/// Zero is "not said", as everywhere in a pool.
fn capacity(pool: &ConnectionPool) -> Capacity {
    let count = |limit: Option<u32>| limit.and_then(NonZeroU32::new);
    Capacity {
        connections: count(pool.tcp.as_ref().and_then(|tcp| tcp.max_connections)),
        requests: count(pool.http.as_ref().and_then(|http| http.http2_max_requests)),
    }
}

/// Whether the workload serves it: its selector takes the workload.
fn is_own(scope: &Scope<'_>, service: &Service<'_>) -> bool {
    let selector = match &service.object.kind {
        Kind::Service(spec) => &spec.selector,
        Kind::ServiceEntry(spec) => match &spec.workload_selector {
            Some(selector) => &selector.labels,
            None => return false,
        },
        _declares_no_service => return false,
    };
    *service.namespace == *scope.client.namespace() && chooses(selector, scope.client.labels())
}

/// The ports of the workload behind a port of a service; more than one where its endpoints differ.
fn listening(service: &Service<'_>, port: &Port) -> BTreeSet<u16> {
    let target = match &service.object.kind {
        Kind::Service(spec) => {
            let written = spec.ports.iter().find(|one| one.port == port.number);
            written.map_or(Some(port.number), |one| ServicePort::target_number(one))
        }
        Kind::ServiceEntry(spec) => {
            let written = spec.ports.iter().find(|one| one.number == port.number);
            Some(written.map_or(port.number, |one| ServiceEntryPort::target(one)))
        }
        _declares_no_service => None,
    };
    if let Some(target) = target {
        return BTreeSet::from([target]);
    }
    let numbers = port
        .members
        .iter()
        .filter_map(|member| match &member.address {
            Address::Name { port, .. } => Some(*port),
            Address::Several(several) => Some(several.first().port()),
            Address::Socket(address) => Some(address.port()),
            Address::Unix(_) => None,
        });
    numbers.collect()
}
