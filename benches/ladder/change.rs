//! One endpoint of many leaves and another one comes, from the edit to its effect.

use std::sync::Arc;

use meshwork::model::cluster::Balancing;
use meshwork::model::{Endpoints, Resources};
use meshwork::source::Publisher;
use meshwork::{Mesh, Random};
use tokio::runtime::Runtime;

use crate::allocation;
use crate::call::{self, Caller};
use crate::mesh;
use crate::scenario::{self, STABLE};

/// How many edits it takes until what they share is spread as in a long life.
const WARM: u32 = 300;

/// Each of its calls edits the endpoints in force and waits until that is in force.
struct Changing {
    publisher: Publisher,
    endpoints: Arc<Endpoints>,
    random: Random,
    /// How many addresses have been given out.
    addresses: u32,
    /// Whether anything is edited; the floor publishes what is in force.
    edits: bool,
    _mesh: Mesh,
    // Dropped last: what the mesh runs belongs to it.
    runtime: Runtime,
}

/// Changes among so many endpoints.
pub(crate) fn among(endpoints: usize, balancing: Balancing, edits: bool) -> Box<dyn Caller> {
    Box::new(Changing::new(endpoints, balancing, edits))
}

/// The bytes that an edit of one of ten thousand endpoints leaves behind, when each was replaced
/// about twice before.
pub(crate) fn left_behind() -> f64 {
    const EDITS: u32 = 20_000;
    let mut changing = Changing::new(10_000, Balancing::LeastRequest, true);
    changing.run(EDITS, &mut || {});
    let before = allocation::live();
    changing.run(EDITS, &mut || {});
    (allocation::live() - before) as f64 / f64::from(EDITS)
}

impl Changing {
    fn new(endpoints: usize, balancing: Balancing, edits: bool) -> Self {
        let runtime = call::runtime();
        let mut resources =
            mesh::addressless(scenario::Step::Retry, mesh::Speaks::Http2, endpoints);
        set(&mut resources, balancing);
        let endpoints = resources.endpoints[STABLE].clone();
        let (mesh, publisher) = runtime.block_on(mesh::published(resources));
        let mut changing = Changing {
            publisher,
            addresses: u32::MAX / 2,
            endpoints,
            random: Random::seeded(scenario::SEED),
            edits,
            _mesh: mesh,
            runtime,
        };
        changing.run(WARM, &mut || {});
        changing
    }

    fn edit(&mut self) {
        if !self.edits {
            return;
        }
        self.addresses += 1;
        let list = &mut Arc::make_mut(&mut self.endpoints).localities[0].endpoints;
        let at = self.random.below(list.len() as u32) as usize;
        let mut endpoint = list.swap_remove(at).expect("it is below the length");
        endpoint.address = scenario::address(self.addresses).into();
        list.push(endpoint);
    }
}

fn set(resources: &mut Resources, balancing: Balancing) {
    for cluster in resources.clusters.values_mut() {
        Arc::make_mut(cluster).balancing = balancing.clone();
    }
}

impl Caller for Changing {
    fn run(&mut self, calls: u32, lap: &mut dyn FnMut()) {
        for _ in 0..calls {
            self.edit();
            let published = self.publisher.publish_endpoints(self.endpoints.clone());
            self.runtime.block_on(published).expect("the mesh is there");
            lap();
        }
    }
}
