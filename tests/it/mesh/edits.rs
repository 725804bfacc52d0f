//! Edits of the configuration while requests are under way.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderName, HeaderValue};
use meshwork::model::Resources;
use meshwork::model::cluster::{Cluster, Protocol};
use meshwork::model::limit::Limits;
use meshwork::model::matcher::RouteMatcher;
use meshwork::model::outlier::Outlier;
use meshwork::model::route::HeaderChange;
use meshwork::{CallReport, Mesh, Random};

use tokio::sync::watch;

use super::world::{
    Fed, Plan, World, all_to, call, cluster, counted, forward, get, one, retries, route, seconds,
    settle, text, to, weighted,
};

const STAMP: HeaderName = HeaderName::from_static("x-generation");

/// The configuration of one generation: each answer carries its stamp; now and then clusters come
/// and go and endpoints move.
fn edition(generation: u64) -> Resources {
    let epoch = generation / 16;
    let random = Random::seeded(generation / 8);
    let protocol = |name: u64| match name % 2 {
        0 => Protocol::Http1,
        _ => Protocol::Http2,
    };
    let mut plan = Plan::default();
    let names: Vec<String> = (0..2)
        .map(|turn| format!("c{}", (epoch + turn) % 5))
        .collect();
    for (turn, name) in (0..).zip(&names) {
        let first = 1 + u16::try_from(random.below(6)).unwrap();
        let mut cluster = cluster(name, protocol((epoch + turn) % 5));
        // Now and then the settings change, and with them connections that could have stayed.
        cluster.connect_timeout = seconds(5 + generation / 50 % 2);
        plan = plan.cluster(cluster, &[first, first + 1, first + 2]);
    }
    let split = weighted(&[(&names[0], 50), (&names[1], 50)]);
    let mut stamped = route("stamped", RouteMatcher::everything(), forward(split));
    stamped.headers.response = vec![HeaderChange::Set(STAMP, HeaderValue::from(generation))];
    plan.host("catalog", vec![stamped]).build()
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_edits_under_load_fail_no_request_and_each_is_seen() {
    const EDITS: u64 = 10_000;
    let world = World::default();
    for port in 1..=8 {
        // Some answer at once, some let edits overtake them.
        world.serve(port, move |_| async move {
            for _ in 0..port {
                tokio::task::yield_now().await;
            }
            text(port.to_string())
        });
    }
    let (mesh, publisher) = world.mesh(edition(1)).await;
    let (seen, mut newest) = watch::channel(0);
    let seen = Arc::new(seen);
    let callers: Vec<_> = (0..2)
        .map(|_| tokio::spawn(keep_calling(mesh.clone(), seen.clone())))
        .collect();
    for generation in 1..=EDITS {
        // The next edit comes when the traffic has shown this one, and finds calls under way.
        newest.wait_for(|seen| *seen >= generation).await.unwrap();
        assert_eq!(*newest.borrow(), generation, "one after the other");
        let published = publisher.publish(edition(generation + 1)).await.unwrap();
        assert_eq!(published, generation + 1);
    }
    newest.wait_for(|seen| *seen > EDITS).await.unwrap();
    drop(newest);
    for caller in callers {
        caller.await.unwrap();
    }
    // Nothing but the last edition runs.
    let stats = mesh.stats();
    assert_eq!((stats.generation, stats.clusters.len()), (EDITS + 1, 2));
    assert!(stats.clusters.iter().all(|one| one.active_requests == 0));
}

/// Calls until nobody wants to know what has been seen.
async fn keep_calling(mesh: Mesh, seen: Arc<watch::Sender<u64>>) {
    while !seen.is_closed() {
        let stamp = stamp_of_a_call(&mesh).await;
        seen.send_if_modified(|newest| {
            let newer = stamp > *newest;
            *newest = stamp.max(*newest);
            newer
        });
    }
}

/// Makes a call, which must not fail, and returns the generation that it was routed by.
async fn stamp_of_a_call(mesh: &Mesh) -> u64 {
    let report = CallReport::default();
    let mut request = get("http://catalog/");
    request.extensions_mut().insert(report.clone());
    let response = mesh.client().request(request).await;
    let response = response.unwrap_or_else(|error| panic!("{error:?} {report:?}"));
    assert_eq!(response.status(), 200, "{report:?}");
    let stamp = response.headers()[STAMP].to_str().unwrap().parse().unwrap();
    assert_eq!(report.generation(), stamp, "one request, one snapshot");
    let body = http_body_util::BodyExt::collect(response.into_body()).await;
    assert!(!body.unwrap().to_bytes().is_empty());
    stamp
}

fn strict(name: &str) -> Cluster {
    Cluster {
        limits: Limits {
            requests: 2,
            ..Limits::default()
        },
        outlier: Some(Arc::new(Outlier {
            consecutive_5xx: std::num::NonZeroU32::new(3),
            ..Outlier::default()
        })),
        ..cluster(name, Protocol::Http2)
    }
}

/// Two hosts; an edit of `other` does not concern `kept`.
fn two_hosts(kept_ports: &[u16], other: &str) -> Resources {
    Plan::default()
        .cluster(strict("kept"), kept_ports)
        .cluster(cluster(other, Protocol::Http1), &[9])
        .host("catalog", vec![all_to("kept")])
        .host("other", vec![all_to(other)])
        .build()
}

#[tokio::test(start_paused = true)]
async fn balancer_limit_and_outlier_state_survive_edits_that_do_not_concern_them() {
    let world = World::default();
    (1..=3).for_each(|port| world.named(port));
    world.status(2, 500);
    world.hung(4);
    let (mesh, publisher) = world.mesh(two_hosts(&[1, 2, 3], "a")).await;
    for _ in 0..9 {
        call(&mesh, get("http://catalog/")).await.unwrap();
    }
    let ejected = |mesh: &Mesh| {
        let endpoints = counted(mesh, "kept").endpoints;
        let out = endpoints.iter().filter(|one| one.ejected);
        out.map(|one| one.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ejected(&mesh), ["10.0.0.1:2"]);
    let before = counted(&mesh, "kept");
    // Another cluster comes and goes, and the own one gets an endpoint more.
    for (ports, other) in [(&[1, 2, 3][..], "b"), (&[1, 2, 3, 4], "c")] {
        publisher.publish(two_hosts(ports, other)).await.unwrap();
        assert_eq!(ejected(&mesh), ["10.0.0.1:2"]);
        let after = counted(&mesh, "kept");
        assert_eq!(after.requests, before.requests);
        assert_eq!(after.ejections, 1);
    }
    // Two requests hang at the new endpoint: the limit counts them on through edits.
    let mut hanging = Vec::new();
    while counted(&mesh, "kept").active_requests < 2 {
        let mesh = mesh.clone();
        hanging.push(tokio::spawn(async move {
            call(&mesh, get("http://catalog/")).await
        }));
        settle().await;
    }
    assert_eq!(counted(&mesh, "kept").active_requests, 2);
    publisher
        .publish(two_hosts(&[1, 2, 3, 4], "d"))
        .await
        .unwrap();
    assert_eq!(counted(&mesh, "kept").active_requests, 2);
    let error = call(&mesh, get("http://catalog/")).await.unwrap_err();
    assert_eq!(error.limit(), Some(meshwork::Limit::Requests));
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn round_robin_goes_on_where_it_was() {
    let world = World::default();
    (1..=4).for_each(|port| world.named(port));
    let plan = |other: &str| {
        Plan::default()
            .cluster(cluster("kept", Protocol::Http1), &[1, 2, 3, 4])
            .cluster(cluster(other, Protocol::Http1), &[9])
            .host("catalog", vec![all_to("kept")])
            .build()
    };
    let (mesh, publisher) = world.mesh(plan("x0")).await;
    let mut order = Vec::new();
    for turn in 0..8 {
        order.push(call(&mesh, get("http://catalog/")).await.unwrap().1);
        publisher.publish(plan(&format!("x{turn}"))).await.unwrap();
    }
    assert_eq!(order[..4], order[4..]);
    assert_eq!(order.iter().collect::<HashSet<_>>().len(), 4, "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_in_use_lives_until_its_last_request_leaves() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::default();
        world.slow(1, seconds(3));
        world.named(2);
        let (mesh, publisher) = world
            .mesh(one(cluster("old", protocol), &[1], |_| {}))
            .await;
        let under_way = {
            let mesh = mesh.clone();
            tokio::spawn(async move { call(&mesh, get("http://catalog/")).await })
        };
        settle().await;
        publisher
            .publish(one(cluster("new", protocol), &[2], |_| {}))
            .await
            .unwrap();
        assert_eq!(call(&mesh, get("http://catalog/")).await.unwrap().1, "2");
        assert_eq!(under_way.await.unwrap().unwrap().1, "1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_a_connection_or_a_retry_is_not_lost_to_an_edit() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::default();
        let tries = Arc::new(AtomicU64::new(0));
        let count = tries.clone();
        world.serve(1, move |_| {
            let tried = count.fetch_add(1, Ordering::Relaxed);
            async move { super::world::answer(if tried == 0 { 503 } else { 200 }) }
        });
        world.named(2);
        let old = one(cluster("old", protocol), &[1], |terms| {
            let mut policy = retries(1, None);
            policy.backoff.base = seconds(1);
            policy.backoff.max = seconds(1);
            terms.retry = Some(policy);
        });
        let (mesh, publisher) = world.mesh(old).await;
        let under_way = {
            let mesh = mesh.clone();
            tokio::spawn(async move { call(&mesh, get("http://catalog/")).await })
        };
        // Sometimes the edit comes while it dials, sometimes while it pauses before the retry.
        if protocol == Protocol::Http2 {
            settle().await;
        } else {
            tokio::task::yield_now().await;
        }
        publisher
            .publish(one(cluster("new", protocol), &[2], |_| {}))
            .await
            .unwrap();
        assert_eq!(under_way.await.unwrap().unwrap().0, 200, "{protocol:?}");
        assert_eq!(tries.load(Ordering::Relaxed), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn connections_of_unchanged_endpoints_are_kept() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::default();
        (1..=4).for_each(|port| world.named(port));
        let edition = |ports: &[u16], requests: u32| {
            let cluster = Cluster {
                limits: Limits {
                    requests,
                    ..Limits::default()
                },
                ..cluster("c", protocol)
            };
            one(cluster, ports, |_| {})
        };
        let (mesh, publisher) = world.mesh(edition(&[1, 2], 10)).await;
        for turn in 0..50u16 {
            // Endpoint 1 stays; the other one, the limits and the routes change.
            let moving = 2 + turn % 3;
            publisher
                .publish(edition(&[1, moving], 10 + u32::from(turn)))
                .await
                .unwrap();
            for _ in 0..2 {
                call(&mesh, get("http://catalog/")).await.unwrap();
            }
        }
        assert_eq!(world.dials(1), 1, "{protocol:?}");
        settle().await;
        assert_eq!(counted(&mesh, "c").connections, 2, "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_the_edits_under_it() {
    let world = World::default();
    world.serve(1, |_| async {
        let (sender, body) = Fed::body();
        tokio::spawn(async move {
            for chunk in 0..100 {
                tokio::time::sleep(seconds(1)).await;
                let frame = http_body::Frame::data(format!("{chunk};").into());
                if sender.send(Ok(frame)).await.is_err() {
                    return;
                }
            }
        });
        http::Response::new(body)
    });
    world.named(2);
    let (mesh, publisher) = world
        .mesh(one(cluster("c", Protocol::Http2), &[1], |_| {}))
        .await;
    let response = mesh.client().request(get("http://catalog/")).await.unwrap();
    let streamed = tokio::spawn(http_body_util::BodyExt::collect(response.into_body()));
    for turn in 0..20 {
        tokio::time::sleep(seconds(2)).await;
        let name = format!("c{turn}");
        let next = Plan::default()
            .cluster(cluster(&name, Protocol::Http2), &[2])
            .host("catalog", vec![to(&name, |_| {})])
            .build();
        publisher.publish(next).await.unwrap();
    }
    let text = streamed.await.unwrap().unwrap().to_bytes();
    assert!(text.ends_with(b"98;99;"), "all of it came");
}

#[tokio::test(start_paused = true)]
async fn a_publisher_hears_when_the_mesh_is_gone() {
    let world = World::default();
    let (mesh, publisher) = world.mesh(Resources::default()).await;
    let empty = || Plan::default().host("x", vec![]).build();
    assert_eq!(publisher.publish(empty()).await.unwrap(), 2);
    assert_eq!(mesh.changed(1).await, 2);
    drop(mesh);
    settle().await;
    let error = publisher.publish(empty()).await.unwrap_err();
    assert!(error.is_config(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_an_endpoint_has_counted_survives_an_edit_of_its_connections() {
    let world = World::default();
    world.status(1, 500);
    world.hung(2);
    let resources = |seconds: u64| {
        let cluster = Cluster {
            connect_timeout: std::time::Duration::from_secs(seconds),
            ..cluster("c", Protocol::Http1)
        };
        one(cluster, &[1, 2], |_| {})
    };
    let (mesh, publisher) = world.mesh(resources(10)).await;
    let hanging = mesh.clone();
    for _ in 0..4 {
        let hanging = hanging.clone();
        tokio::spawn(async move { call(&hanging, get("http://catalog/")).await });
        settle().await;
    }
    publisher.publish(resources(5)).await.unwrap();
    let endpoints = counted(&mesh, "c").endpoints;
    assert_eq!((endpoints[0].requests, endpoints[0].failures), (2, 2));
    assert_eq!(
        (endpoints[1].requests, endpoints[1].active_requests),
        (2, 2)
    );
}
