//! What a mesh keeps for each endpoint and each cluster that nobody calls.

use std::net::SocketAddr;

use meshwork::model::Resources;
use meshwork::model::cluster::Protocol;

use crate::allocation;
use crate::call;
use crate::mesh;
use crate::scenario::{self, Step};

/// Bytes for each of ten thousand endpoints of one cluster, its place in the configuration included.
pub(crate) fn of_an_endpoint() -> f64 {
    const MANY: u32 = 10_000;
    let with = |count| held(|| scenario::resources(Step::Retry, Protocol::Http2, addresses(count)));
    (with(MANY) - with(1)) / f64::from(MANY - 1)
}

/// Bytes for each of a thousand clusters with one endpoint, that included.
pub(crate) fn of_a_cluster() -> f64 {
    const MANY: u32 = 1_000;
    let with = |count| held(|| scenario::clusters(count));
    (with(MANY) - with(1)) / f64::from(MANY - 1)
}

fn addresses(count: u32) -> impl Iterator<Item = SocketAddr> + Clone {
    (0..count).map(scenario::address)
}

/// The bytes that a mesh over these resources holds, and those of the resources.
fn held(resources: impl FnOnce() -> Resources) -> f64 {
    let runtime = call::runtime();
    let before = allocation::live();
    let (mesh, publisher) = runtime.block_on(mesh::dialling(resources()));
    let held = allocation::live() - before;
    drop((mesh, publisher));
    held as f64
}
