//! Endpoints that fail are ejected and come back.

use std::num::NonZeroU32;

use meshwork::model::Percent;
use meshwork::model::cluster::{Cluster, Protocol};
use meshwork::model::outlier::{LocalOrigin, Outlier};
use meshwork::{Flag, Mesh};

use super::world::{World, call, cluster, counted, get, one, seconds, settle};

/// The article's `outlierDetection`: 3, 30 s, 30 s; at most 10 % by default.
fn article() -> Outlier {
    Outlier {
        consecutive_5xx: NonZeroU32::new(3),
        interval: seconds(30),
        base_ejection_time: seconds(30),
        ..Outlier::default()
    }
}

fn watched(outlier: Outlier) -> Cluster {
    Cluster {
        outlier: Some(outlier.into()),
        ..cluster("c", Protocol::Http2)
    }
}

fn ejected(mesh: &Mesh) -> Vec<u16> {
    let endpoints = counted(mesh, "c").endpoints;
    let out = endpoints.iter().filter(|one| one.ejected);
    out.map(|one| one.address.rsplit_once(':').unwrap().1.parse().unwrap())
        .collect()
}

/// Calls until an endpoint has had so many requests.
async fn until(mesh: &Mesh, index: usize, requests: u64) {
    while counted(mesh, "c").endpoints[index].requests < requests {
        let _ = call(mesh, get("http://catalog/")).await;
    }
}

fn three(world: &World) {
    (1..=3).for_each(|port| world.named(port));
}

#[tokio::test(start_paused = true)]
async fn exactly_the_third_error_in_a_row_ejects_one_of_three() {
    let world = World::default();
    three(&world);
    world.status(2, 503);
    let (mesh, _publisher) = world
        .mesh(one(watched(article()), &[1, 2, 3], |_| {}))
        .await;
    until(&mesh, 1, 2).await;
    assert!(ejected(&mesh).is_empty(), "two are not enough");
    // A success in between starts the count anew.
    world.named(2);
    until(&mesh, 1, 3).await;
    world.status(2, 500);
    until(&mesh, 1, 5).await;
    assert!(
        ejected(&mesh).is_empty(),
        "two after a success are not enough"
    );
    until(&mesh, 1, 6).await;
    assert_eq!(ejected(&mesh), [2], "the third one is");
    for _ in 0..30 {
        assert_eq!(call(&mesh, get("http://catalog/")).await.unwrap().0, 200);
    }
    let counted = counted(&mesh, "c");
    assert_eq!((counted.endpoints[1].requests, counted.ejections), (6, 1));
}

#[tokio::test(start_paused = true)]
async fn it_comes_back_after_its_time_and_stays_out_longer_the_next_time() {
    let world = World::default();
    three(&world);
    world.status(2, 503);
    let (mesh, _publisher) = world
        .mesh(one(watched(article()), &[1, 2, 3], |_| {}))
        .await;
    until(&mesh, 1, 3).await;
    assert_eq!(ejected(&mesh), [2]);
    tokio::time::sleep(seconds(29)).await;
    assert_eq!(ejected(&mesh), [2]);
    // Sweeps come every 30 s: at the latest at the second one it is back.
    tokio::time::sleep(seconds(32)).await;
    assert!(ejected(&mesh).is_empty());
    assert_eq!(counted(&mesh, "c").readmissions, 1);
    until(&mesh, 1, 6).await;
    assert_eq!(ejected(&mesh), [2], "it fails on");
    tokio::time::sleep(seconds(58)).await;
    assert_eq!(ejected(&mesh), [2], "twice the time");
    world.named(2);
    tokio::time::sleep(seconds(34)).await;
    assert!(ejected(&mesh).is_empty());
    until(&mesh, 1, 8).await;
    assert_eq!(counted(&mesh, "c").endpoints[1].failures, 6);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_cap_are_ejected_and_at_least_one() {
    for (cap, always_one, expected) in
        [(10, true, 1), (10, false, 0), (67, true, 2), (100, true, 3)]
    {
        let world = World::default();
        (1..=3).for_each(|port| world.status(port, 503));
        let outlier = Outlier {
            max_ejection: Percent::new(cap).unwrap(),
            always_eject_one: always_one,
            ..article()
        };
        let (mesh, _publisher) = world.mesh(one(watched(outlier), &[1, 2, 3], |_| {})).await;
        for _ in 0..30 {
            let _ = call(&mesh, get("http://catalog/")).await;
        }
        assert_eq!(ejected(&mesh).len(), expected, "{cap} % {always_one}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_all_ejected_there_is_no_healthy_endpoint_and_panic_ignores_that() {
    for (panic, answered) in [(0, false), (50, true)] {
        let world = World::default();
        (1..=2).for_each(|port| world.status(port, 503));
        let outlier = Outlier {
            max_ejection: Percent::new(100).unwrap(),
            ..article()
        };
        let cluster = Cluster {
            panic_threshold: Percent::new(panic).unwrap(),
            ..watched(outlier)
        };
        let (mesh, _publisher) = world.mesh(one(cluster, &[1, 2], |_| {})).await;
        for _ in 0..6 {
            call(&mesh, get("http://catalog/")).await.unwrap();
        }
        assert_eq!(ejected(&mesh), [1, 2]);
        match call(&mesh, get("http://catalog/")).await {
            Ok((status, _)) => assert!(status == 503 && answered),
            Err(error) => {
                assert!(!answered);
                assert_eq!(error.to_string(), "no healthy endpoint (cluster c)");
                assert_eq!(error.flag(), Some(Flag::NoHealthyUpstream));
            }
        }
        // All come back.
        (1..=2).for_each(|port| world.named(port));
        tokio::time::sleep(seconds(61)).await;
        assert_eq!(call(&mesh, get("http://catalog/")).await.unwrap().0, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_of_this_side_count_apart_where_the_policy_says_so() {
    let local = |consecutive| {
        Some(LocalOrigin {
            consecutive: NonZeroU32::new(consecutive),
        })
    };
    for (row, split, answers, expected) in [
        (
            "not split: refused connections are 5xx",
            None,
            false,
            &[2][..],
        ),
        (
            "split: refused connections have their own count",
            local(5),
            false,
            &[],
        ),
        ("split: and eject at it", local(3), false, &[2]),
        ("split: answers count as before", local(5), true, &[2]),
    ] {
        let world = World::default();
        three(&world);
        match answers {
            true => world.status(2, 503),
            false => world.remove(2),
        }
        let outlier = Outlier {
            local_origin: split,
            ..article()
        };
        let (mesh, _publisher) = world.mesh(one(watched(outlier), &[1, 2, 3], |_| {})).await;
        until(&mesh, 1, 3).await;
        assert_eq!(ejected(&mesh), expected, "{row}");
    }
}

#[tokio::test(start_paused = true)]
async fn gateway_errors_have_a_count_of_their_own() {
    for (status, expected) in [(500, 0), (502, 1), (503, 1), (504, 1), (404, 0)] {
        let world = World::default();
        three(&world);
        world.status(2, status);
        let outlier = Outlier {
            consecutive_5xx: None,
            consecutive_gateway: NonZeroU32::new(3),
            ..article()
        };
        let (mesh, _publisher) = world.mesh(one(watched(outlier), &[1, 2, 3], |_| {})).await;
        for _ in 0..18 {
            let _ = call(&mesh, get("http://catalog/")).await;
        }
        assert_eq!(ejected(&mesh).len(), expected, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_the_policy_takes_effect_and_its_removal_readmits() {
    let world = World::default();
    three(&world);
    world.status(2, 503);
    let (mesh, publisher) = world
        .mesh(one(watched(article()), &[1, 2, 3], |_| {}))
        .await;
    until(&mesh, 1, 3).await;
    assert_eq!(ejected(&mesh), [2]);
    let shorter = Outlier {
        interval: seconds(1),
        base_ejection_time: seconds(2),
        ..article()
    };
    publisher
        .publish(one(watched(shorter), &[1, 2, 3], |_| {}))
        .await
        .unwrap();
    settle().await;
    assert_eq!(ejected(&mesh), [2]);
    tokio::time::sleep(seconds(4)).await;
    assert!(
        ejected(&mesh).is_empty(),
        "the new times hold for those who are out"
    );
    until(&mesh, 1, 6).await;
    assert_eq!(ejected(&mesh), [2]);
    let none = cluster("c", Protocol::Http2);
    publisher
        .publish(one(none, &[1, 2, 3], |_| {}))
        .await
        .unwrap();
    assert!(ejected(&mesh).is_empty());
    until(&mesh, 1, 12).await;
}
