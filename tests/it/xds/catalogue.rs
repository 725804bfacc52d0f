//! Rows of the catalogue of failures that are seen through the front door only: D14, E3, E6, E10 and
//! E12.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as cluster_wire;
use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::google::protobuf::{Any, Duration as Seconds};
use meshwork::model::endpoint::Address;
use meshwork::source::xds::{Bootstrap, Kind};
use meshwork::transport::{Connect, Connecting, Io, Settings};
use meshwork::{Mesh, Random};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use super::calls::port;
use super::messages::{
    cluster, cluster_with, endpoints, endpoints_with, listener, routes, routes_with, service,
};
use super::plane::{PORT, Plane, bootstrap, mesh};
use crate::mesh::world::World;

#[tokio::test(start_paused = true)]
async fn d14_of_a_response_the_good_count_the_bad_keep_and_the_missing_are_told() {
    for bootstrap in [bootstrap(), bootstrap().delta()] {
        let world = World::default();
        (1..=9).for_each(|port| world.named(port));
        let plane = Plane::new(&world);
        let names: Vec<String> = (0..7).map(|number| format!("c{number}")).collect();
        let weights: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        plane.put([listener("catalog:80", "r"), routes("r", &weights)]);
        plane.put(names.iter().map(|name| cluster(name)));
        // Five are good, the endpoints of one stand twice, those of another are not there.
        plane.put(
            names[..5]
                .iter()
                .zip(1..)
                .map(|(name, port)| endpoints(name, &[port])),
        );
        plane.put([endpoints("c5", &[6, 6])]);
        let mesh = mesh(&world, bootstrap).await;
        let (mut good, mut failed) = (0, 0);
        for _ in 0..700 {
            match port(&mesh).await {
                Ok(_) => good += 1,
                Err(error) => {
                    assert!(error.is_no_endpoint(), "{error}");
                    failed += 1;
                }
            }
        }
        // Two of seven, within four standard deviations.
        assert!((152..=248).contains(&failed), "{good} and {failed}");
        // All are there, then one becomes bad: the value before it stays in use.
        plane.put([endpoints("c5", &[6]), endpoints("c6", &[7])]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        plane.put([endpoints("c0", &[8]), endpoints("c5", &[9, 9])]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            seen.insert(port(&mesh).await.unwrap());
        }
        assert_eq!(Vec::from_iter(seen), ["2", "3", "4", "5", "6", "7", "8"]);
    }
}

/// What becomes of all connections to the plane that there are.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// Both ends stay, and neither hears of the other again.
    Silence,
    /// The plane ends them, since it was asked too often whether it is there.
    TooManyPings,
}

/// A network to the plane that loses connections.
#[derive(Clone)]
struct Lossy {
    world: World,
    losing: watch::Receiver<Loss>,
}

impl fmt::Debug for Lossy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lossy")
    }
}

/// GOAWAY with ENHANCE_YOUR_CALM and all streams within its last id, as grpc-go sends it.
const TOO_MANY_PINGS: &[u8] =
    b"\x00\x00\x16\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x0btoo_many_pings";

impl Connect for Lossy {
    fn connect(&self, address: &Address, settings: &Settings) -> Connecting {
        let there = self.world.connect(address, settings);
        let to_plane = matches!(address, Address::Name { port: PORT, .. });
        if !to_plane {
            return there;
        }
        // What was lost before is nothing to this connection.
        let mut losing = self.losing.clone();
        losing.borrow_and_update();
        Box::pin(async move {
            let mut there = there.await?;
            let (ours, mut theirs) = tokio::io::duplex(64 << 10);
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut theirs, &mut there) => return,
                    _ = losing.changed() => {}
                }
                let loss = *losing.borrow();
                match loss {
                    Loss::Silence => std::future::pending().await,
                    Loss::TooManyPings => drop(theirs.write_all(TOO_MANY_PINGS).await),
                }
            });
            Ok(Io::boxed(ours))
        })
    }
}

/// A mesh over such a network, with one endpoint that the plane knows of.
async fn lossy() -> (Plane, Mesh, watch::Sender<Loss>) {
    let world = World::default();
    world.named(1);
    world.named(2);
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "c", &[1]));
    let (lose, losing) = watch::channel(Loss::Silence);
    let mesh = Mesh::builder()
        .xds(bootstrap())
        .connector(Lossy { world, losing })
        .random(Random::seeded(7));
    let mesh = mesh.start().await.unwrap();
    assert_eq!(port(&mesh).await.unwrap(), "1");
    assert_eq!(plane.streams(), 1);
    (plane, mesh, lose)
}

/// Silence falls, and one endpoint is replaced by another: how long until a call sees that.
async fn found_out(plane: &Plane, mesh: &Mesh, lose: &watch::Sender<Loss>) -> Duration {
    lose.send_replace(Loss::Silence);
    plane.put([endpoints("c", &[2])]);
    let began = tokio::time::Instant::now();
    while port(mesh).await.unwrap() == "1" {
        assert!(began.elapsed() < Duration::from_secs(400), "never");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn e3_a_stream_that_is_half_open_is_found_out_and_costs_no_call() {
    let (plane, mesh, lose) = lossy().await;
    // A PING is sent after ten seconds of silence and answered within five, or never; the next stream
    // is begun within a second.
    let after = found_out(&plane, &mesh, &lose).await;
    assert!(after >= Duration::from_secs(10), "{after:?}");
    assert!(after <= Duration::from_millis(16_500), "{after:?}");
    assert_eq!(plane.streams(), 2);
}

#[tokio::test(start_paused = true)]
async fn e3_a_server_that_complains_of_pings_is_asked_seldom_from_then_on() {
    let (plane, mesh, lose) = lossy().await;
    lose.send_replace(Loss::TooManyPings);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(plane.streams(), 2, "it came back at once");
    let after = found_out(&plane, &mesh, &lose).await;
    assert!(after >= Duration::from_secs(300), "{after:?}");
    assert!(after <= Duration::from_secs(330), "{after:?}");
    assert_eq!(plane.streams(), 3);
}

#[tokio::test(start_paused = true)]
async fn e6_a_fallback_serves_until_the_preferred_server_is_back_and_no_call_is_lost() {
    let world = World::default();
    world.named(1);
    world.named(2);
    let (preferred, other) = (Plane::away(PORT), Plane::away(PORT + 1));
    preferred.put(service("catalog:80", "of-the-preferred", &[1]));
    other.put(service("catalog:80", "of-the-fallback", &[2]));
    other.up(&world);
    let servers: Vec<String> = [PORT, PORT + 1]
        .iter()
        .map(|port| {
            format!(
                r#"{{"server_uri": "plane:{port}", "channel_creds": [{{"type": "insecure"}}]}}"#
            )
        })
        .collect();
    let text = format!(r#"{{"xds_servers": [{}]}}"#, servers.join(","));
    let mesh = mesh(&world, Bootstrap::from_json(&text).unwrap()).await;
    let first = loop {
        // Until the fallback is asked, there is nobody who knows.
        match port(&mesh).await {
            Ok(port) => break port,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    assert_eq!(first, "2");
    preferred.up(&world);
    let began = tokio::time::Instant::now();
    while port(&mesh).await.expect("no call is lost") == "2" {
        assert!(began.elapsed() < Duration::from_secs(180));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for _ in 0..50 {
        assert_eq!(port(&mesh).await.unwrap(), "1");
    }
    // It goes away again: everything is known, so nothing changes.
    preferred.down(&world);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(port(&mesh).await.unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn e10_policies_that_flip_in_place_keep_connections_and_counters() {
    let world = World::default();
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    world.serve(1, move |_| {
        count.fetch_add(1, Relaxed);
        async { crate::mesh::world::text("1") }
    });
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "c", &[1]));
    let mesh = mesh(&world, bootstrap()).await;
    assert_eq!(port(&mesh).await.unwrap(), "1");
    for flip in 0..100_i64 {
        let (policy, seconds) = match flip % 2 {
            0 => (cluster_wire::cluster::LbPolicy::LeastRequest, 5),
            _ => (cluster_wire::cluster::LbPolicy::RoundRobin, 7),
        };
        let policy = cluster_with("c", |message| message.lb_policy = policy.into());
        let timeout = routes_with("catalog:80 routes", &[("c", 1)], |routes| {
            let route = &mut routes.virtual_hosts[0].routes[0];
            if let Some(route::route::Action::Route(action)) = &mut route.action {
                action.timeout = Some(Seconds { seconds, nanos: 0 });
            }
        });
        plane.put([policy, timeout]);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(port(&mesh).await.unwrap(), "1");
    }
    assert!(mesh.generation() >= 100);
    assert_eq!(world.dials(1), 1, "one connection through all of it");
    let stats = mesh.stats();
    assert_eq!(stats.clusters[0].requests, 101);
    assert_eq!(served.load(Relaxed), 101);
}

#[tokio::test(start_paused = true)]
async fn e12_of_two_sources_the_last_one_that_was_named_is_the_source() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::default();
    world.named(1);
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "c", &[1]));
    let builder = || Mesh::builder().connector(world.clone());
    let by_files = builder().xds(bootstrap()).yaml(folder.path());
    let by_files = by_files.start().await.unwrap();
    assert!(by_files.xds().is_none());
    assert_eq!(plane.streams(), 0);
    let by_plane = builder().yaml(folder.path()).xds(bootstrap());
    let by_plane = by_plane.start().await.unwrap();
    assert_eq!(port(&by_plane).await.unwrap(), "1");
    let known = by_plane.xds().unwrap().resources;
    assert!(known.iter().any(|one| one.kind == Kind::Listener));
}

#[tokio::test(start_paused = true)]
async fn d9_ten_thousand_endpoints_are_taken_and_each_is_used() {
    let world = World::default();
    world.named(1);
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "c", &[1]));
    let ports: Vec<u16> = (1..=10_000).collect();
    ports.iter().for_each(|port| world.named(*port));
    plane.put([endpoints_with("c", &[("a", 0, 1, &ports)], |_message| {})]);
    let mesh = mesh(&world, bootstrap()).await;
    port(&mesh).await.unwrap();
    assert_eq!(mesh.stats().clusters[0].endpoints.len(), 10_000);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..300 {
        seen.insert(port(&mesh).await.unwrap());
    }
    assert!(seen.len() > 250, "{}", seen.len());
}

/// What was received is printed by Envoy's descriptors, also what is refused by nobody and known to
/// nobody.
#[tokio::test(start_paused = true)]
async fn a_dump_is_json_with_every_message_as_it_was_received() {
    let world = World::default();
    world.named(1);
    let plane = Plane::new(&world);
    plane.put(service("catalog:80", "c", &[1]));
    let unknown = Any {
        type_url: "type.googleapis.com/nobody.Knows".into(),
        value: vec![1, 2, 3],
    };
    plane.put([cluster_with("c", |cluster| {
        let options = HashMap::from([("nobody.knows".to_owned(), unknown)]);
        cluster.metadata = Some(Metadata {
            filter_metadata: HashMap::new(),
            typed_filter_metadata: options,
        });
    })]);
    let mesh = mesh(&world, bootstrap()).await;
    assert_eq!(port(&mesh).await.unwrap(), "1");
    plane.put([endpoints("c", &[9, 9])]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let text = mesh.xds().unwrap().to_json();
    let dump: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(dump["servers"][0]["connected"], true, "{text}");
    assert_eq!(dump["servers"][0]["invalid"]["endpoints"], 1, "{text}");
    let named = |kind: &str| {
        let all = dump["resources"].as_array().unwrap();
        let found = all.iter().find(|one| one["kind"] == kind);
        found.unwrap_or_else(|| panic!("no {kind} in {text}"))
    };
    let cluster = &named("cluster")["resource"];
    assert_eq!(cluster["@type"], Kind::Cluster.type_url(), "{text}");
    let nobody = &cluster["metadata"]["typed_filter_metadata"]["nobody.knows"];
    assert_eq!(
        nobody["@type"], "type.googleapis.com/nobody.Knows",
        "{text}"
    );
    assert_eq!(nobody["value"], "AQID", "{text}");
    let endpoints = named("endpoints");
    assert_eq!(endpoints["state"], "Nacked", "{text}");
    assert!(
        endpoints["trouble"]
            .as_str()
            .unwrap()
            .contains("stands twice"),
        "{text}"
    );
    let member = &endpoints["resource"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    let port = &member["address"]["socket_address"]["port_value"];
    assert_eq!(port, 1, "the last good one: {text}");
}
