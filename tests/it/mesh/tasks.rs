//! What runs behind a mesh, and for how long.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use meshwork::model::cluster::Protocol;
use meshwork::model::outlier::Outlier;

use super::world::{Plan, World, all_to, call, cluster, get};

#[tokio::test(start_paused = true)]
async fn sweeps_go_on_when_nobody_publishes_any_more() {
    let world = World::default();
    world.status(1, 503);
    let mut failing = cluster("c", Protocol::Http1);
    failing.outlier = Some(Arc::new(Outlier {
        consecutive_5xx: NonZeroU32::new(1),
        ..Outlier::default()
    }));
    let plan = Plan::default()
        .cluster(failing, &[1, 2])
        .host("catalog", vec![all_to("c")]);
    world.named(2);
    let (mesh, publisher) = world.mesh(plan.build()).await;
    drop(publisher);
    for _ in 0..2 {
        call(&mesh, get("http://catalog/")).await.unwrap();
    }
    assert_eq!(mesh.stats().clusters[0].ejections, 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(mesh.stats().clusters[0].readmissions, 1);
}
