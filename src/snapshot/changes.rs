//! Which endpoints came and went between two configurations.

use std::collections::HashSet;
use std::sync::Arc;

use crate::event::{Announcer, Event};

use super::{Cluster, Snapshot};

/// Tells the endpoints that joined and left, if anybody listens. Clusters that an edit did not
/// concern are the same values and are not looked into.
pub(crate) fn announce(before: &Snapshot, after: &Snapshot, events: &Announcer) {
    if !events.is_heard() {
        return;
    }
    for (name, new) in &after.clusters {
        let old = before.clusters.get(name);
        if old.is_some_and(|old| Arc::ptr_eq(old, new)) {
            continue;
        }
        let (was, is) = (old.map(labels).unwrap_or_default(), labels(new));
        for endpoint in was.difference(&is) {
            down(name, endpoint, events);
        }
        for endpoint in is.difference(&was) {
            let (cluster, endpoint) = (name.clone(), Arc::clone(endpoint));
            events.tell(|| Event::EndpointUp { cluster, endpoint });
        }
    }
    for (name, old) in &before.clusters {
        if !after.clusters.contains_key(name) {
            labels(old)
                .iter()
                .for_each(|endpoint| down(name, endpoint, events));
        }
    }
}

fn down(cluster: &Arc<str>, endpoint: &Arc<str>, events: &Announcer) {
    events.tell(|| Event::EndpointDown {
        cluster: cluster.clone(),
        endpoint: endpoint.clone(),
    });
}

fn labels(cluster: &Arc<Cluster>) -> HashSet<&Arc<str>> {
    let members = cluster.balancer.members().iter();
    members.map(|member| &member.endpoint.label).collect()
}
