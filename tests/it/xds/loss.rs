//! The control plane dies, returns, flaps, and changes everything under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use meshwork::Mesh;
use meshwork::source::xds::Kind;

use super::calls::{get, port};
use super::messages::{cluster, endpoints, routes, service};
use super::plane::{PORT, Plane, bootstrap, mesh};
use crate::mesh::world::World;

/// Calls until it is told to stop; counts what failed.
struct Load {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(usize, Vec<String>)>,
}

impl Load {
    fn start(mesh: &Mesh, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mesh, ends) = (mesh.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let (mut calls, mut failures) = (0, Vec::new());
            while !ends.load(Ordering::Relaxed) {
                calls += 1;
                if let Err(error) = port(&mesh).await {
                    failures.push(error.to_string());
                }
                tokio::time::sleep(pause).await;
            }
            (calls, failures)
        });
        Self { stop, task }
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let (calls, failures) = self.task.await.unwrap();
        assert_eq!(failures, [] as [String; 0], "of {calls} calls");
        calls
    }
}

async fn ready(world: &World) -> (Plane, Mesh) {
    for port in 1..=4 {
        world.named(port);
    }
    let plane = Plane::new(world);
    plane.put(service("catalog:80", "c", &[1]));
    let mesh = mesh(world, bootstrap()).await;
    assert_eq!(port(&mesh).await.unwrap(), "1");
    (plane, mesh)
}

#[tokio::test(start_paused = true)]
async fn e1_a_control_plane_that_is_dead_for_an_hour_costs_no_call() {
    let world = World::default();
    let (plane, mesh) = ready(&world).await;
    let generation = mesh.generation();
    let load = Load::start(&mesh, Duration::from_millis(500));
    plane.down(&world);
    let dials = world.dials(PORT);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    // 1 s, 1.6 times as long, ... 120 s: some ten to get there, then one in two minutes.
    let tries = world.dials(PORT) - dials;
    assert!((30..=60).contains(&tries), "{tries}");
    assert_eq!(mesh.generation(), generation);
    plane.put([endpoints("c", &[2])]);
    plane.up(&world);
    tokio::time::sleep(Duration::from_secs(150)).await;
    assert_eq!(port(&mesh).await.unwrap(), "2", "the control plane is back");
    assert!(load.end().await > 7_000);
}

#[tokio::test(start_paused = true)]
async fn e2_a_restart_asks_for_everything_again_and_restarts_nothing() {
    let world = World::default();
    let (plane, mesh) = ready(&world).await;
    let (generation, dials) = (mesh.generation(), world.dials(1));
    plane.asked();
    plane.cut();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(plane.streams(), 2);
    let asked = plane.asked();
    let first = asked.iter().take(4);
    assert!(
        first
            .clone()
            .all(|asked| asked.nonce.is_empty() && !asked.version.is_empty()),
        "{asked:?}"
    );
    assert_eq!(asked[0].node, "order-1");
    assert_eq!(port(&mesh).await.unwrap(), "1");
    assert_eq!((mesh.generation(), world.dials(1)), (generation, dials));
}

#[tokio::test(start_paused = true)]
async fn e2_delta_says_what_it_knows() {
    let world = World::default();
    world.named(1);
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "c", &[1]));
    let mesh = mesh(&world, bootstrap().delta()).await;
    assert_eq!(port(&mesh).await.unwrap(), "1");
    plane.asked();
    plane.cut();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let asked = plane.asked();
    let known = asked.iter().filter(|asked| !asked.known.is_empty()).count();
    assert_eq!(known, 4, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn e4_a_control_plane_that_flaps_is_asked_by_the_schedule_and_costs_no_call() {
    let world = World::default();
    let (plane, mesh) = ready(&world).await;
    let load = Load::start(&mesh, Duration::from_millis(100));
    let begun = plane.streams();
    for turn in 0..3_000 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        match turn % 2 {
            0 => plane.down(&world),
            _ => plane.up(&world),
        }
    }
    plane.up(&world);
    let streams = plane.streams() - begun;
    assert!(streams < 600, "{streams} streams in ten minutes");
    load.end().await;
}

#[tokio::test(start_paused = true)]
async fn e5_a_start_without_a_control_plane_fails_fast_and_recovers() {
    let world = World::default();
    world.named(1);
    let mesh = mesh(&world, bootstrap()).await;
    let error = port(&mesh).await.unwrap_err();
    assert!(error.is_discovery(), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("listener \"catalog:80\": the control plane plane:18000 cannot be reached"),
        "{text}"
    );
    assert_eq!(error.status(), 503);
    assert_eq!(error.grpc_status(), 14);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "c", &[1]));
    tokio::time::sleep(Duration::from_secs(150)).await;
    assert_eq!(port(&mesh).await.unwrap(), "1");
}

/// Catalogue E7 and A74: routes, clusters and endpoints change all the time.
#[tokio::test(start_paused = true)]
async fn e7_a_thousand_flips_of_routes_and_clusters_fail_no_call_and_each_is_seen() {
    let world = World::default();
    let (plane, mesh) = ready(&world).await;
    let load = Load::start(&mesh, Duration::from_millis(3));
    for flip in 0..1_000_u32 {
        let (new, old) = (format!("c{flip}"), format!("c{}", flip.wrapping_sub(1)));
        let at = u16::try_from(flip % 4 + 1).unwrap();
        plane.put([
            routes("catalog:80 routes", &[(&new, 1)]),
            cluster(&new),
            endpoints(&new, &[at]),
        ]);
        plane.drop_resource(Kind::Cluster, &old);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(port(&mesh).await.unwrap(), at.to_string(), "flip {flip}");
    }
    assert!(load.end().await > 4_000);
    assert_eq!(mesh.stats().clusters.len(), 1, "what is not needed is gone");
}

#[tokio::test(start_paused = true)]
async fn e9_calls_under_way_outlive_their_cluster() {
    let world = World::default();
    let (plane, mesh) = ready(&world).await;
    world.slow(4, Duration::from_secs(30));
    plane.put([endpoints("c", &[4])]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let done = Arc::new(AtomicUsize::new(0));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (mesh, done) = (mesh.clone(), done.clone());
        calls.spawn(async move {
            let response = mesh.client().request(get("http://catalog/")).await.unwrap();
            assert_eq!(response.status(), 200);
            done.fetch_add(1, Ordering::Relaxed);
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    plane.put([
        cluster("d"),
        endpoints("d", &[1]),
        routes("catalog:80 routes", &[("d", 1)]),
    ]);
    plane.drop_resource(Kind::Cluster, "c");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(port(&mesh).await.unwrap(), "1");
    assert_eq!(done.load(Ordering::Relaxed), 0);
    while let Some(ended) = calls.join_next().await {
        ended.unwrap();
    }
    assert_eq!(done.load(Ordering::Relaxed), 100);
}

#[tokio::test(start_paused = true)]
async fn e13_a_hundred_clients_of_a_server_that_restarts_return_spread_out() {
    let world = World::default();
    world.named(1);
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "c", &[1]));
    let mut meshes = Vec::new();
    for seed in 0..100 {
        let mesh = meshwork::Mesh::builder()
            .xds(bootstrap())
            .connector(world.clone())
            .random(meshwork::Random::seeded(seed * 7_919))
            .start()
            .await
            .unwrap();
        assert_eq!(port(&mesh).await.unwrap(), "1");
        meshes.push(mesh);
    }
    let before = world.dials(PORT);
    plane.cut();
    let mut most = 0;
    let mut last = before;
    for _ in 0..11 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = world.dials(PORT);
        most = most.max(now - last);
        last = now;
    }
    assert_eq!(last - before, 100, "all are back");
    assert!(most <= 25, "{most} in a tenth of a second");
}

#[tokio::test]
async fn a_process_that_starts_without_a_control_plane_serves_what_the_last_one_kept() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::default();
    world.named(1);
    world.named(2);
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "c", &[1]));
    let with_cache = || bootstrap().cache(folder.path());
    let first = mesh(&world, with_cache()).await;
    assert_eq!(port(&first).await.unwrap(), "1");
    while !folder.path().join("resources.pb").exists() {
        tokio::task::yield_now().await;
    }
    drop(first);
    plane.down(&world);
    let second = mesh(&world, with_cache()).await;
    assert_eq!(port(&second).await.unwrap(), "1");
    let dump = second.xds().unwrap();
    assert!(
        dump.resources
            .iter()
            .all(|resource| resource.value.as_ref().unwrap().from_disk)
    );
    plane.put([endpoints("c", &[2])]);
    plane.up(&world);
    let mut generation = second.generation();
    while port(&second).await.unwrap() != "2" {
        generation = second.changed(generation).await;
    }
    let dump = second.xds().unwrap();
    let from_disk = |resource: &&meshwork::source::xds::ResourceDump| {
        resource.value.as_ref().is_some_and(|value| value.from_disk)
    };
    assert_eq!(dump.resources.iter().filter(from_disk).count(), 0);
    assert!(dump.servers[0].connected);
}
