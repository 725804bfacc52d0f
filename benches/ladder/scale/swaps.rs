//! What callers feel of edits: the latency of calls to endpoints that answer at once, while
//! configurations of ten thousand clusters are put in force.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use meshwork::model::{Endpoints, Resources};
use meshwork::source::Publisher;
use meshwork::{Body, Channel};
use tokio::time::Instant;

use super::quantile;
use crate::call::HOST_NAME;
use crate::mesh::{self, Speaks};
use crate::scenario::{self, STABLE, Step};

const CLUSTERS: u32 = 10_000;
const ENDPOINTS: usize = 10_000;
const CALLERS: usize = 4;
const TIME: Duration = Duration::from_secs(3);

/// What is edited while calls are made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Edit {
    Nothing,
    /// One endpoint of ten thousand.
    Endpoint,
    /// One cluster of ten thousand, told as a whole configuration.
    Cluster,
    /// All ten thousand clusters.
    All,
}

pub(super) fn table() -> String {
    let mut text = String::from(
        "| edits, one after the other | a second | calls a second | p50, us | p99, us | p99.9, us | worst, us | failed |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let rows = [
        (Edit::Nothing, "none"),
        (Edit::Endpoint, "an endpoint of 10,000"),
        (Edit::Cluster, "a cluster of 10,000"),
        (Edit::All, "all of 10,000 clusters"),
    ];
    for (edit, name) in rows {
        row(&mut text, name, edit);
    }
    text
}

fn row(text: &mut String, name: &str, edit: Edit) {
    let runtime = tokio::runtime::Runtime::new().expect("a process may have a few runtimes");
    let (edits, mut calls, failed) = runtime.block_on(measure(edit));
    calls.sort_by(f64::total_cmp);
    let per_second = |count: usize| count as f64 / TIME.as_secs_f64();
    let [half, most, nearly_all, all] =
        [0.5, 0.99, 0.999, 1.0].map(|share| quantile(&calls, share) * 1e6);
    writeln!(
        text,
        "| {name} | {:.0} | {:.0} | {half:.1} | {most:.1} | {nearly_all:.1} | {all:.0} | {failed} |",
        per_second(edits),
        per_second(calls.len()),
    )
    .expect("a string takes all");
}

/// How many edits were put in force, the seconds of each call, and how many calls failed.
async fn measure(edit: Edit) -> (usize, Vec<f64>, usize) {
    let mut resources = mesh::addressless(Step::Mesh, Speaks::Http2, ENDPOINTS);
    let others = scenario::clusters(CLUSTERS);
    resources.clusters.extend(others.clusters);
    resources.endpoints.extend(others.endpoints);
    let resources = Arc::new(resources);
    let (mesh, publisher) = mesh::published(Resources::clone(&resources)).await;
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let channel = mesh.channel(HOST_NAME).expect("it is a host");
            tokio::spawn(call(channel, over.clone()))
        })
        .collect();
    let edits = edits(edit, &publisher, &resources).await;
    over.store(true, Ordering::Relaxed);
    let (mut calls, mut failed) = (Vec::new(), 0);
    for caller in callers {
        let (own, lost) = caller.await.expect("it does not panic");
        calls.extend(own);
        failed += lost;
    }
    (edits, calls, failed)
}

/// Edits for as long as is measured.
async fn edits(edit: Edit, publisher: &Publisher, resources: &Arc<Resources>) -> usize {
    let began = Instant::now();
    let mut endpoints = resources.endpoints[STABLE].clone();
    // From here on what is published shares what is in force.
    let published = publisher.publish(resources.clone()).await;
    published.expect("the mesh is there");
    let mut count = 0;
    while began.elapsed() < TIME {
        let turn = count as u64 + 1;
        match edit {
            Edit::Nothing => {
                tokio::time::sleep(TIME).await;
                continue;
            }
            Edit::Endpoint => {
                another(&mut endpoints, turn);
                publisher.publish_endpoints(endpoints.clone()).await
            }
            Edit::Cluster => publisher.publish(edited(resources, turn, 1)).await,
            Edit::All => publisher.publish(edited(resources, turn, usize::MAX)).await,
        }
        .expect("the mesh is there");
        count += 1;
        // Others have their turn too: a mesh that is edited without a pause is not what is asked.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    count
}

fn another(endpoints: &mut Arc<Endpoints>, turn: u64) {
    let list = &mut Arc::make_mut(endpoints).localities[0].endpoints;
    let mut endpoint = list.swap_remove(0).expect("there are endpoints");
    endpoint.address = scenario::address(u32::MAX / 2 + turn as u32).into();
    list.push(endpoint);
}

fn edited(resources: &Arc<Resources>, turn: u64, count: usize) -> Arc<Resources> {
    let mut edited = Resources::clone(resources);
    for cluster in edited.clusters.values_mut().take(count) {
        Arc::make_mut(cluster).connect_timeout = Duration::from_secs(20 + turn);
    }
    Arc::new(edited)
}

/// Calls until it is over; each call's seconds, and how many failed.
async fn call(channel: Channel, over: Arc<AtomicBool>) -> (Vec<f64>, usize) {
    let (mut seconds, mut failed) = (Vec::new(), 0);
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let mut channel = channel.clone();
        let request = Request::get("/")
            .body(Body::empty())
            .expect("it is a request");
        let answer = tower_service::Service::call(&mut channel, request).await;
        seconds.push(began.elapsed().as_secs_f64());
        failed += usize::from(!answer.is_ok_and(|response| response.status().is_success()));
        tokio::task::yield_now().await;
    }
    (seconds, failed)
}
