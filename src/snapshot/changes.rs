//! Which endpoints came and went between two configurations.

use std::collections::HashSet;
use std::sync::Arc;

use crate::event::{Announcer, Event};

use super::cluster::Cluster;
use super::endpoint::{Endpoint, Member};

/// Which endpoints came and went.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Those whose address nobody in the cluster had before.
    pub(super) up: Vec<Arc<Endpoint>>,
    /// Those whose address nobody in the cluster has any more.
    pub(super) down: Vec<Arc<Endpoint>>,
    /// Those that run on under other settings: the connections of the old ones are let go.
    pub(super) replaced: Vec<Arc<Endpoint>>,
}

impl Moves {
    /// Retires the connections of all endpoints that are not used any more.
    ///
    /// Requests that are on their way to them finish, also those that have not been sent yet: a
    /// cluster in use lives until its last request leaves. The connections close behind them.
    pub(super) fn retire(&self) {
        for endpoint in self.down.iter().chain(&self.replaced) {
            endpoint.connections.retire();
        }
    }

    /// All endpoints of a cluster that is gone.
    pub(super) fn all_down(&mut self, cluster: &Cluster) {
        let members = cluster.balancer.members();
        self.down.extend(once_each(&members));
    }
}

/// The endpoints of members; two members may have one.
pub(super) fn once_each(members: &[Arc<Member>]) -> impl Iterator<Item = Arc<Endpoint>> {
    let mut seen = HashSet::new();
    members
        .iter()
        .map(|member| &member.endpoint)
        .filter(move |endpoint| seen.insert(Arc::as_ptr(endpoint)))
        .cloned()
}

/// Tells the endpoints that joined and left.
pub(crate) fn announce(moves: &Moves, events: &Announcer) {
    let names = |endpoint: &Arc<Endpoint>| (endpoint.cluster().clone(), endpoint.label().clone());
    for gone in &moves.down {
        events.tell(|| {
            let (cluster, endpoint) = names(gone);
            Event::EndpointDown { cluster, endpoint }
        });
    }
    for new in &moves.up {
        events.tell(|| {
            let (cluster, endpoint) = names(new);
            Event::EndpointUp { cluster, endpoint }
        });
    }
}
