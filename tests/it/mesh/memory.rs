//! What a large mesh keeps for what nobody calls.

use std::sync::Arc;

use meshwork::model::Resources;
use meshwork::model::cluster::{Balancing, Cluster, Discovery, Protocol};
use meshwork::model::endpoint::Endpoints;
use meshwork::model::limit::Limits;
use meshwork::model::outlier::Outlier;

use super::world::{World, cluster, endpoints};
use crate::allocation;

const MANY: u32 = 400;

/// As of a service of Kubernetes whose DestinationRule limits and ejects, with one endpoint.
fn clusters(count: u32) -> Resources {
    let mut resources = Resources::default();
    for number in 0..count {
        let name: Arc<str> =
            format!("outbound|80||service-{number}.my-app.svc.cluster.local").into();
        resources.insert_endpoints(Endpoints {
            name: name.clone(),
            ..endpoints(&name, &[80])
        });
        resources.insert_cluster(Cluster {
            name: name.clone(),
            discovery: Discovery::Endpoints(name.clone()),
            balancing: Balancing::LeastRequest,
            limits: Limits {
                requests: 4_096,
                ..Limits::default()
            },
            outlier: Some(Outlier::default().into()),
            ..cluster(&name, Protocol::Http2)
        });
    }
    resources
}

/// The bytes that a mesh over these clusters holds, and those of their configuration.
fn held(count: u32) -> i64 {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let before = allocation::live();
    let mesh = runtime.block_on(World::default().mesh(clusters(count)));
    let held = allocation::live() - before;
    drop(mesh);
    held
}

/// The bar of docs/PERFORMANCE.md: 4 KiB, the configuration included.
#[test]
fn an_idle_cluster_keeps_less_than_four_kib() {
    let (one, many) = (held(1), held(MANY));
    let each = (many - one) / i64::from(MANY - 1);
    assert!(each > 1_000, "somebody counts: {each}");
    assert!(each <= 4_096, "{each} bytes for an idle cluster");
}
