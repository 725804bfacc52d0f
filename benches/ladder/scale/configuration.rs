//! Ten to a hundred thousand of one thing, and one thing of ten otherwise.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use meshwork::model::{Endpoints, Resources};
use tokio::runtime::Runtime;

use super::{grouped, quantile};
use crate::allocation;
use crate::call::{self, Form, Tower};
use crate::measure::processor_time;
use crate::mesh::{self, Speaks};
use crate::scenario::{self, STABLE, Step};

const COUNTS: [u32; 5] = [10, 100, 1_000, 10_000, 100_000];
const CHANGES: usize = 11;
const ROUNDS: usize = 11;
const CALLS: u32 = 100;

/// What there is much of.
#[derive(Clone, Copy, Debug)]
enum Many {
    VirtualHosts,
    Routes,
    Clusters,
    Endpoints,
}

/// What so many cost.
struct Cost {
    /// Until all is in force, from the model's values.
    start: f64,
    /// Bytes of everything, the model's values included.
    held: i64,
    /// One call.
    call: f64,
    /// One of them has changed: until that is in force.
    change: f64,
}

pub(super) fn table() -> String {
    let mut text = String::from(
        "| what | how many | all in force, ms | MiB | bytes of one | a call, ns | one changed, in force, us |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let rows = [
        (Many::VirtualHosts, "virtual hosts"),
        (
            Many::Routes,
            "routes of one virtual host, of which the last matches",
        ),
        (Many::Clusters, "clusters of one endpoint"),
        (Many::Endpoints, "endpoints of one cluster"),
    ];
    for (many, name) in rows {
        for count in COUNTS {
            let cost = measure(many, count);
            writeln!(
                text,
                "| {name} | {} | {:.1} | {:.1} | {:.0} | {:.0} | {:.0} |",
                grouped(count),
                cost.start * 1e3,
                cost.held as f64 / f64::from(1 << 20),
                cost.held as f64 / f64::from(count),
                cost.call * 1e9,
                cost.change * 1e6,
            )
            .expect("a string takes all");
        }
    }
    text
}

fn resources(many: Many, count: u32) -> Resources {
    let endpoints = match many {
        Many::Endpoints => count as usize,
        Many::VirtualHosts | Many::Routes | Many::Clusters => 1,
    };
    let mut resources = mesh::addressless(Step::Mesh, Speaks::Http2, endpoints);
    match many {
        Many::VirtualHosts => scenario::add_hosts(&mut resources, count),
        Many::Routes => scenario::add_routes(&mut resources, count),
        Many::Clusters => {
            let others = scenario::clusters(count);
            resources.clusters.extend(others.clusters);
            resources.endpoints.extend(others.endpoints);
        }
        Many::Endpoints => {}
    }
    resources
}

fn measure(many: Many, count: u32) -> Cost {
    let runtime = call::runtime();
    let before = allocation::live();
    let initial = resources(many, count);
    let began = processor_time();
    let (mesh, publisher) = runtime.block_on(mesh::published(initial));
    let start = processor_time() - began;
    let held = allocation::live() - before;
    let channel = mesh.channel(call::HOST_NAME).expect("it is a host");
    let call = calls(&runtime, Tower(channel));
    // What is edited shares all else with what is in force, as a source's next set does.
    let resources = Arc::new(resources(many, count));
    let publish = |edited| {
        let began = processor_time();
        let published = runtime.block_on(async {
            match edited {
                Edited::All(resources) => publisher.publish(resources).await,
                Edited::Endpoints(endpoints) => publisher.publish_endpoints(endpoints).await,
            }
        });
        published.expect("the mesh is there");
        processor_time() - began
    };
    publish(Edited::All(resources.clone()));
    let changes = (0..CHANGES as u64).map(|turn| publish(edited(many, &resources, turn)));
    let change = median(changes.collect());
    Cost {
        start,
        held,
        call,
        change,
    }
}

/// Seconds of one call.
fn calls(runtime: &Runtime, mut client: Tower<meshwork::Channel>) -> f64 {
    let mut round = |calls| {
        let began = processor_time();
        runtime.block_on(call::make(&mut client, Form::Path, calls, &mut || {}));
        (processor_time() - began) / f64::from(calls)
    };
    round(CALLS);
    median((0..ROUNDS).map(|_| round(CALLS)).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

/// What is published: everything, or the endpoints of one cluster.
enum Edited {
    All(Arc<Resources>),
    Endpoints(Arc<Endpoints>),
}

/// The same but for one of the many, which is another one in each turn; all else is shared.
fn edited(many: Many, resources: &Arc<Resources>, turn: u64) -> Edited {
    let mut edited = Resources::clone(resources);
    match many {
        Many::VirtualHosts | Many::Routes => {
            let routes = edited.routes.values_mut().next();
            let hosts = &mut Arc::make_mut(routes.expect("it has routes")).virtual_hosts;
            let host = Arc::make_mut(hosts.last_mut().expect("it has virtual hosts"));
            let route = Arc::make_mut(host.routes.first_mut().expect("each has a route"));
            route.name = format!("edit {turn}").into();
        }
        Many::Clusters => {
            let cluster = edited.clusters.values_mut().next();
            let cluster = Arc::make_mut(cluster.expect("there are clusters"));
            cluster.connect_timeout = Duration::from_secs(20 + turn);
        }
        Many::Endpoints => {
            let mut endpoints = resources.endpoints[STABLE].clone();
            let list = &mut Arc::make_mut(&mut endpoints).localities[0].endpoints;
            let mut endpoint = list.swap_remove(0).expect("there are endpoints");
            endpoint.address = scenario::address(u32::MAX / 2 + turn as u32).into();
            list.push(endpoint);
            return Edited::Endpoints(endpoints);
        }
    }
    Edited::All(Arc::new(edited))
}
