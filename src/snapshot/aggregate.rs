//! Clusters that are lists of other clusters (Envoy's aggregate, gRFC A37).
//!
//! A request goes to the first member that has an admitted endpoint, and is balanced, limited and
//! secured there as that member says (gRFC A75); the aggregate's own policies decide nothing. So a
//! region whose endpoints are all ejected or gone is left for the next one, and returned to when one
//! of them is back. Where nobody is admitted the first member that has any endpoint gets the request
//! and decides about panic itself.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::cluster::Cluster;
use crate::model;
use crate::model::cluster::Discovery;

/// How deep aggregates may stand in aggregates (gRFC A37); what is deeper is left out.
const MAX_DEPTH: usize = 16;

/// The clusters that an aggregate stands for, in order, each once and none of them an aggregate.
/// What does not exist is left out (gRFC A74), circles end where they begin.
pub(super) fn leaves(
    members: &[Arc<str>],
    models: &BTreeMap<Arc<str>, Arc<model::Cluster>>,
    running: &HashMap<Arc<str>, Arc<Cluster>>,
) -> Vec<Arc<Cluster>> {
    let mut leaves = Vec::new();
    let mut seen = HashSet::new();
    let mut stack: Vec<(&Arc<str>, usize)> = members.iter().rev().map(|name| (name, 1)).collect();
    while let Some((name, depth)) = stack.pop() {
        if !seen.insert(name) {
            continue;
        }
        let Some(model) = models.get(name) else {
            continue;
        };
        match &model.discovery {
            Discovery::Aggregate(members) if depth < MAX_DEPTH => {
                stack.extend(members.iter().rev().map(|name| (name, depth + 1)));
            }
            Discovery::Aggregate(_) => {}
            Discovery::Dns(_)
            | Discovery::Endpoints(_)
            | Discovery::OnDemand { .. }
            | Discovery::Passthrough => leaves.extend(running.get(name).cloned()),
        }
    }
    leaves
}

impl Cluster {
    /// Whether requests to it may go by a key.
    pub(crate) fn hashes(&self) -> bool {
        self.balancer.hashes() || self.leaves.iter().any(|leaf| leaf.balancer.hashes())
    }

    /// The member that a request goes to by now; `None`: this is no aggregate, or one of nobody.
    pub(super) fn member(&self) -> Option<&Arc<Self>> {
        let admits = |leaf: &&Arc<Self>| leaf.on_demand.is_some() || leaf.balancer.admitted() > 0;
        let has_any = |leaf: &&Arc<Self>| !leaf.balancer.is_empty();
        let leaves = &self.leaves;
        let admitting = leaves.iter().find(admits);
        admitting
            .or_else(|| leaves.iter().find(has_any))
            .or_else(|| leaves.first())
    }
}
