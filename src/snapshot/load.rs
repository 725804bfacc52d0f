//! What clusters were loaded with, for reports to control planes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::endpoint::Record;
use super::propagation::Reported;
use super::{Cluster, Snapshot};
use crate::model::endpoint::Locality;

/// One cluster and what its endpoints have counted, each with where it is.
#[derive(Debug)]
pub(crate) struct ClusterLoad {
    pub(crate) name: Arc<str>,
    /// The name of its endpoints, if that is another one.
    pub(crate) service: Option<Arc<str>>,
    pub(crate) endpoints: Vec<(Locality, Arc<Record>)>,
    /// Requests that were dropped, by category.
    pub(crate) dropped: Vec<(Arc<str>, u64)>,
    /// Requests that a limit refused.
    pub(crate) overflows: u64,
    /// What endpoints have reported since the cluster began.
    pub(crate) reported: Reported,
}

impl Snapshot {
    /// The loads of these clusters, as far as they are in force: O(their endpoints).
    pub(crate) fn loads(&self, names: &BTreeSet<Arc<str>>) -> Vec<ClusterLoad> {
        let clusters = names.iter().filter_map(|name| self.clusters.get(name));
        clusters.map(|cluster| cluster.load()).collect()
    }
}

impl Cluster {
    fn load(&self) -> ClusterLoad {
        let endpoints = self.endpoints.load();
        let localities = endpoints.as_ref().map_or(&[][..], |all| &all.localities);
        let located: HashMap<String, &Locality> = localities
            .iter()
            .flat_map(|one| one.endpoints.iter().map(move |endpoint| (endpoint, one)))
            .map(|(endpoint, one)| (endpoint.address.to_string(), &one.locality))
            .collect();
        let members = self.balancer.members();
        let counted = members.iter().map(|member| {
            let locality = located.get(&**member.endpoint.label());
            let locality = locality.map_or_else(Locality::default, |&one| one.clone());
            (locality, member.endpoint.record.clone())
        });
        let named = self.model.discovery.endpoints();
        ClusterLoad {
            name: self.model.name.clone(),
            service: named.filter(|name| **name != self.model.name).cloned(),
            endpoints: counted.collect(),
            dropped: self.overloads.counts(),
            overflows: self.running.counters.overflows.load(Ordering::Relaxed),
            reported: self.running.counters.reported.read(),
        }
    }
}
