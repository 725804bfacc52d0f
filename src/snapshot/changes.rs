//! Which endpoints came and went between two configurations.

use std::sync::Arc;

use crate::event::{Announcer, Event};

use super::cluster::Endpoint;
use super::members::Moves;

/// Tells the endpoints that joined and left.
pub(crate) fn announce(moves: &Moves, events: &Announcer) {
    let names = |endpoint: &Arc<Endpoint>| (endpoint.cluster.clone(), endpoint.label.clone());
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
