//! Endpoints that come, fall silent or swallow everything (rows F3 and F5 of the catalogue).

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use meshwork::model::Percent;
use meshwork::model::cluster::{Cluster, Protocol};
use meshwork::model::outlier::Outlier;
use tokio::time::Instant;

use super::world::{World, call, cluster, counted, get, one, retries, seconds, settle};

#[tokio::test(start_paused = true)]
async fn f3_a_new_endpoint_serves_from_the_first_request_on_without_being_warmed_by_any() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::default();
        (1..=2).for_each(|port| world.named(port));
        let resources = |ports: &[u16]| one(cluster("c", protocol), ports, |_| {});
        let (mesh, publisher) = world.mesh(resources(&[1])).await;
        for round in 0..20 {
            publisher.publish(resources(&[1, 2])).await.unwrap();
            let mut who = Vec::new();
            for _ in 0..2 {
                who.push(call(&mesh, get("http://catalog/")).await.unwrap().1);
            }
            who.sort();
            assert_eq!(who, ["1", "2"], "{protocol:?} round {round}");
            publisher.publish(resources(&[1])).await.unwrap();
            settle().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f5_a_black_hole_costs_one_timeout_of_one_try_and_is_left_out_after_five() {
    let connect = Duration::from_secs(1);
    let per_try = Duration::from_secs(2);
    for (row, silent, costs) in [
        ("accepts nothing", true, connect),
        ("says nothing", false, per_try),
    ] {
        let world = World::default();
        world.named(2);
        match silent {
            true => world.silent(1),
            false => world.hung(1),
        }
        let watched = Cluster {
            connect_timeout: connect,
            outlier: Some(Arc::new(Outlier {
                consecutive_5xx: NonZeroU32::new(5),
                base_ejection_time: seconds(300),
                max_ejection: Percent::HUNDRED,
                ..Outlier::default()
            })),
            ..cluster("c", Protocol::Http1)
        };
        let resources = one(watched, &[1, 2], |to| {
            to.timeout = Some(seconds(10));
            to.retry = Some(retries(2, Some(per_try)));
        });
        let (mesh, _publisher) = world.mesh(resources).await;
        let mut slow = 0;
        for _ in 0..40 {
            let began = Instant::now();
            assert_eq!(
                call(&mesh, get("http://catalog/")).await.unwrap().1,
                "2",
                "{row}"
            );
            let took = began.elapsed();
            // The pause before the retry is at most 25 ms.
            assert!(took <= costs + Duration::from_millis(30), "{row}: {took:?}");
            slow += u32::from(took >= costs);
        }
        assert_eq!(slow, 5, "{row}");
        assert!(counted(&mesh, "c").endpoints[0].ejected, "{row}");
    }
}
