//! The other side of the rules: what is accepted, and as what (defaults, first of a list, what is left
//! alone as gRFC A27 wants it).

mod balancing;
mod clusters;
mod endpoints;
mod security;

use std::sync::Arc;

use prost::Message;

use super::clusters::good_cluster;
use super::decode;
use crate::model::{Cluster, Endpoints};
use crate::source::xds::Kind;
use crate::source::xds::proto::{cluster as wire, endpoint};
use crate::source::xds::resource::Resource;

/// The good cluster with a change, read.
#[track_caller]
fn cluster(change: impl FnOnce(&mut wire::Cluster)) -> Arc<Cluster> {
    whole(change).0
}

/// The same, with whether loads are reported.
#[track_caller]
fn whole(change: impl FnOnce(&mut wire::Cluster)) -> (Arc<Cluster>, bool) {
    let mut message = good_cluster();
    change(&mut message);
    match decode(Kind::Cluster, &message.encode_to_vec()).map(|decoded| decoded.resource) {
        Ok(Resource::Cluster {
            cluster, reports, ..
        }) => (cluster, reports),
        Ok(_) => panic!("a cluster came back as another kind"),
        Err(rejection) => panic!("a good cluster was refused: {rejection}"),
    }
}

#[track_caller]
fn endpoints(message: &endpoint::ClusterLoadAssignment) -> Arc<Endpoints> {
    match decode(Kind::Endpoints, &message.encode_to_vec()).map(|decoded| decoded.resource) {
        Ok(Resource::Endpoints(endpoints)) => endpoints,
        Ok(_) => panic!("endpoints came back as another kind"),
        Err(rejection) => panic!("good endpoints were refused: {rejection}"),
    }
}
