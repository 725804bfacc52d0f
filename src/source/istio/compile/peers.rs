//! What PeerAuthentication asks of the callers of each workload.
//!
//! Three scopes: the workload (a selector), its namespace, the mesh (the root namespace). In each the
//! oldest policy counts and the others are told. A workload's policy takes from above what it leaves
//! UNSET; ports are those of the workload and only a workload's policy has them. A policy with a
//! selector in the root namespace counts nowhere, as in Istio (`ComposePeerAuthentication`).

use std::borrow::Borrow;
use std::collections::BTreeMap;

use crate::model::security::{MutualTls, PeerPolicy};
use crate::source::istio::defaults::Defaults;
use crate::source::istio::fault::{Code, Fault, Faults};
use crate::source::istio::kinds::{Kind, Object, PeerAuthentication, PeerTls, PeerTlsMode};
use crate::source::istio::registry::{selects, warning};
use crate::source::istio::yaml::Located;

/// All policies, by scope.
#[derive(Debug, Default)]
pub(super) struct Peers<'a> {
    mesh: Option<(&'a Object, &'a PeerAuthentication)>,
    namespaces: BTreeMap<&'a str, (&'a Object, &'a PeerAuthentication)>,
    /// Those with a selector, oldest first.
    workloads: Vec<(&'a Object, &'a PeerAuthentication)>,
}

impl<'a> Peers<'a> {
    /// Sorts the policies of `objects`, which are in the order of age.
    pub(super) fn of(objects: &[&'a Object], defaults: Defaults<'_>, faults: &mut Faults) -> Self {
        let mut peers = Self::default();
        for &object in objects {
            let Kind::PeerAuthentication(policy) = &object.kind else {
                continue;
            };
            let policy = &**policy;
            let namespace = &*object.meta.namespace;
            let root = namespace == defaults.root_namespace();
            let first = match (is_selective(policy), root) {
                (true, true) => {
                    faults.push(ignored(object));
                    continue;
                }
                (true, false) => {
                    peers.workloads.push((object, policy));
                    continue;
                }
                (false, true) => *peers.mesh.get_or_insert((object, policy)),
                (false, false) => *peers
                    .namespaces
                    .entry(namespace)
                    .or_insert((object, policy)),
            };
            if !std::ptr::eq(first.0, object) {
                faults.push(second(object, first.0));
            }
        }
        peers
    }

    /// What is asked of the callers of a workload.
    pub(super) fn policy<K, V>(&self, namespace: &str, labels: &BTreeMap<K, V>) -> PeerPolicy
    where
        K: Borrow<str> + Ord,
        V: AsRef<str>,
    {
        let above = [self.namespaces.get(namespace), self.mesh.as_ref()];
        let above = above.into_iter().flatten();
        let above = above
            .filter_map(|(_, policy)| said(policy.mtls.as_ref()))
            .next();
        let above = above.unwrap_or_default();
        let own = self.workloads.iter().find(|(object, policy)| {
            let selector = policy.selector.as_ref();
            &*object.meta.namespace == namespace
                && selector.is_some_and(|selector| selects(&selector.match_labels, labels))
        });
        let Some((_, own)) = own else {
            return PeerPolicy {
                mode: above,
                ports: BTreeMap::new(),
            };
        };
        let mode = said(own.mtls.as_ref()).unwrap_or(above);
        let ports = own.port_level_mtls.iter().filter_map(|(port, tls)| {
            // Reading has refused keys that are no numbers.
            Some((port.parse().ok()?, said(Some(tls)).unwrap_or(mode)))
        });
        PeerPolicy {
            mode,
            ports: ports.collect(),
        }
    }

    /// Tells of a second policy for the workload that is compiled for.
    pub(super) fn lint(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        faults: &mut Faults,
    ) {
        let mut all = self.workloads.iter().filter(|(object, policy)| {
            let selector = policy.selector.as_ref();
            &*object.meta.namespace == namespace
                && selector.is_some_and(|selector| selects(&selector.match_labels, labels))
        });
        if let Some((first, _)) = all.next() {
            for (other, _) in all {
                faults.push(second(other, first));
            }
        }
    }
}

fn is_selective(policy: &PeerAuthentication) -> bool {
    let selector = policy.selector.as_ref();
    selector.is_some_and(|selector| !selector.match_labels.is_empty())
}

fn said(tls: Option<&Located<PeerTls>>) -> Option<MutualTls> {
    match tls?.mode {
        PeerTlsMode::Unset => None,
        PeerTlsMode::Disable => Some(MutualTls::Disable),
        PeerTlsMode::Permissive => Some(MutualTls::Permissive),
        PeerTlsMode::Strict => Some(MutualTls::Strict),
    }
}

fn ignored(object: &Object) -> Fault {
    let text = "a policy with a selector in the root namespace counts for no workload";
    warning(object, Code::NoEffect, (0, 0), text)
        .field("selector")
        .hinted("move it to the namespace of the workload, or remove the selector")
}

fn second(object: &Object, first: &Object) -> Fault {
    let text = format!(
        "{} at {}:{} is older and for the same workloads, so this one has no effect",
        first.reference(),
        first.file,
        first.line
    );
    warning(object, Code::Conflict, (0, 0), text)
}
