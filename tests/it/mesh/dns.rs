//! Clusters of names: what DNS says is what requests meet.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshwork::dns::{Answer, Question, Resolution, Resolve, Target};
use meshwork::model::cluster::{Cluster, Discovery, Dns, Families, Lookup, Protocol};
use meshwork::model::endpoint::Address;
use meshwork::model::{OutboundTraffic, Resources};
use meshwork::source::Publisher;
use meshwork::transport::{Connect, Connecting, Settings};
use meshwork::{Mesh, Random};

use super::world::{Plan, World, all_to, call, cluster, endpoints, get, text};

/// Name servers that say what a test tells them to; other names do not exist.
#[derive(Clone, Debug, Default)]
struct Servers {
    answers: Arc<Mutex<HashMap<Question, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Servers {
    /// Says that a name has the addresses `10.0.0.x`, for 30 s.
    fn say(&self, name: &str, last: &[u8]) {
        let targets = last
            .iter()
            .map(|last| IpAddr::from([10, 0, 0, *last]).into());
        self.answer(name, targets.collect());
    }

    fn answer(&self, name: &str, targets: Vec<Target>) {
        let ttl = Some(Duration::from_secs(30));
        let answer = Answer { targets, ttl };
        self.answers
            .lock()
            .unwrap()
            .insert(Question::of(name), answer);
    }

    fn fail(&self, name: &str) {
        self.answers.lock().unwrap().remove(&Question::of(name));
    }
}

impl Resolve for Servers {
    fn resolve(&self, question: &Question) -> Resolution {
        self.asked.lock().unwrap().push(question.name().to_owned());
        let answer = self.answers.lock().unwrap().get(question).cloned();
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("NXDOMAIN")) })
    }
}

/// Address `10.0.0.x` is the world's backend `x`, whatever the port, and `fd00::x` its backend `100 + x`.
#[derive(Clone, Debug)]
struct ByAddress(World);

impl Connect for ByAddress {
    fn connect(&self, address: &Address, settings: &Settings) -> Connecting {
        let Address::Socket(address) = address else {
            panic!("{address} was not resolved")
        };
        let port = match address.ip() {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(ip) => 100 + ip.octets()[15],
        };
        let mut address = *address;
        address.set_port(port.into());
        self.0.connect(&Address::Socket(address), settings)
    }
}

async fn mesh(world: &World, servers: &Servers, resources: Resources) -> (Mesh, Publisher) {
    let (publisher, feed) = meshwork::source::feed(resources);
    let builder = Mesh::builder().feed(feed).random(Random::seeded(7));
    let builder = builder
        .connector(ByAddress(world.clone()))
        .resolver(servers.clone());
    (builder.start().await.unwrap(), publisher)
}

/// A cluster that is the name `db`, called as `http://app/`.
fn named(lookup: Lookup, host: &str) -> Resources {
    let dns = Dns {
        endpoints: "c".into(),
        lookup,
        families: Families::Both,
        refresh: Duration::from_secs(60),
    };
    let cluster = Cluster {
        discovery: Discovery::Dns(dns),
        ..cluster("c", Protocol::Http1)
    };
    let mut resources = Plan::default()
        .cluster(cluster, &[])
        .host("app", vec![all_to("c")])
        .build();
    let mut endpoints = endpoints("c", &[80]);
    let host = host.into();
    endpoints.localities[0].endpoints[0].address = Address::Name { host, port: 80 };
    resources.insert_endpoints(endpoints);
    resources
}

/// Who answers so many calls, in the order of names.
async fn answers(mesh: &Mesh, calls: usize) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..calls {
        all.push(call(mesh, get("http://app/")).await.unwrap().1);
    }
    all.sort();
    all
}

async fn later_than(mesh: &Mesh, generation: u64) {
    let changed = mesh.changed(generation);
    tokio::time::timeout(Duration::from_secs(100), changed)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_address_of_a_name_is_an_endpoint_and_failures_keep_them() {
    let (world, servers) = (World::default(), Servers::default());
    (1..=3).for_each(|port| world.named(port));
    servers.say("db", &[1, 2]);
    let (mesh, _publisher) = mesh(&world, &servers, named(Lookup::Each, "db")).await;
    // The first call need not wait for the change: its connection resolves the name.
    answers(&mesh, 1).await;
    later_than(&mesh, 1).await;
    assert_eq!(answers(&mesh, 4).await, ["1", "1", "2", "2"]);
    servers.fail("db");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(answers(&mesh, 4).await, ["1", "1", "2", "2"]);
    let before = mesh.generation();
    servers.say("db", &[2, 3]);
    later_than(&mesh, before).await;
    assert_eq!(answers(&mesh, 4).await, ["2", "2", "3", "3"]);
}

#[tokio::test(start_paused = true)]
async fn i2_when_all_addresses_change_calls_under_way_finish_and_none_is_lost() {
    let (world, servers) = (World::default(), Servers::default());
    for port in 1..=4 {
        world.serve(port, move |_| async move {
            tokio::time::sleep(Duration::from_secs(7)).await;
            text(port.to_string())
        });
    }
    servers.say("db", &[1, 2]);
    let (mesh, _publisher) = mesh(&world, &servers, named(Lookup::Each, "db")).await;
    later_than(&mesh, 1).await;
    let mut calls = tokio::task::JoinSet::new();
    for second in 0..60 {
        if second == 30 {
            servers.say("db", &[3, 4]);
        }
        for _ in 0..4 {
            let mesh = mesh.clone();
            calls.spawn(async move { call(&mesh, get("http://app/")).await.unwrap().0 });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let statuses = calls.join_all().await;
    assert!(statuses.len() == 240 && statuses.iter().all(|status| *status == 200));
    assert_eq!(answers(&mesh, 4).await, ["3", "3", "4", "4"]);
    let stats = mesh.stats();
    let endpoints = &stats.clusters[0].endpoints;
    let addresses: Vec<_> = endpoints.iter().map(|one| &*one.address).collect();
    assert_eq!(addresses, ["10.0.0.3:80", "10.0.0.4:80"]);
    assert!(endpoints.iter().all(|one| one.active_requests == 0));
}

#[tokio::test(start_paused = true)]
async fn connections_of_a_logical_host_go_to_its_addresses_in_turn() {
    let (world, servers) = (World::default(), Servers::default());
    (1..=3).for_each(|port| world.named(port));
    servers.say("db", &[1, 2, 3]);
    let mut resources = named(Lookup::One, "db");
    let mut one = Cluster::clone(&resources.clusters["c"]);
    one.connection.max_requests = NonZeroU32::new(1);
    resources.insert_cluster(one);
    let (mesh, _publisher) = mesh(&world, &servers, resources).await;
    assert_eq!(answers(&mesh, 6).await, ["1", "1", "2", "2", "3", "3"]);
    assert_eq!(mesh.stats().clusters[0].endpoints.len(), 1);
    assert_eq!(*servers.asked.lock().unwrap(), ["db"]);
    // One that refuses is passed over by the connection itself.
    world.remove(2);
    assert!(
        answers(&mesh, 6)
            .await
            .iter()
            .all(|name| name == "1" || name == "3")
    );
}

#[tokio::test(start_paused = true)]
async fn both_families_of_a_host_are_one_endpoint_and_ipv6_has_a_quarter_second() {
    let (world, servers) = (World::default(), Servers::default());
    world.named(1);
    let both = ["10.0.0.1", "fd00::1"].map(|text| Target::from(text.parse::<IpAddr>().unwrap()));
    servers.answer("db", both.to_vec());
    // What IPv6 does, how long the first call takes, who answers.
    for (silent, millis, expected) in [
        (Some(true), 250, "1"),
        (None, 0, "1"),
        (Some(false), 0, "101"),
    ] {
        match silent {
            Some(true) => world.silent(101),
            Some(false) => world.named(101),
            None => world.remove(101),
        }
        let (mesh, _publisher) = mesh(&world, &servers, named(Lookup::Each, "db")).await;
        later_than(&mesh, 1).await;
        let begun = tokio::time::Instant::now();
        assert_eq!(answers(&mesh, 1).await, [expected]);
        assert_eq!(begun.elapsed().as_millis(), millis, "{silent:?}");
        let endpoints = &mesh.stats().clusters[0].endpoints;
        assert_eq!(endpoints.len(), 1, "{endpoints:?}");
        assert_eq!(&*endpoints[0].address, "[fd00::1]:80,10.0.0.1:80");
    }
}

/// Whether each address is an endpoint or all are one.
#[tokio::test(start_paused = true)]
async fn only_the_families_that_are_wanted_are_dialled() {
    let (world, servers) = (World::default(), Servers::default());
    [1, 101].into_iter().for_each(|port| world.named(port));
    let both = ["10.0.0.1", "fd00::1"].map(|text| Target::from(text.parse::<IpAddr>().unwrap()));
    servers.answer("db", both.to_vec());
    for (families, expected, address) in [
        (Families::Both, "101", "[fd00::1]:80,10.0.0.1:80"),
        (Families::V4, "1", "10.0.0.1:80"),
        (Families::V6, "101", "[fd00::1]:80"),
        (Families::PreferV4, "1", "10.0.0.1:80"),
    ] {
        for lookup in [Lookup::Each, Lookup::One] {
            let mut resources = named(lookup, "db");
            let mut one = Cluster::clone(&resources.clusters["c"]);
            let Discovery::Dns(dns) = &mut one.discovery else {
                panic!("{one:?}");
            };
            dns.families = families;
            resources.insert_cluster(one);
            let (mesh, _publisher) = mesh(&world, &servers, resources).await;
            if lookup == Lookup::Each {
                later_than(&mesh, 1).await;
                let endpoints = &mesh.stats().clusters[0].endpoints;
                assert_eq!(endpoints.len(), 1, "{endpoints:?}");
                assert_eq!(&*endpoints[0].address, address);
            }
            assert_eq!(
                answers(&mesh, 1).await,
                [expected],
                "{families:?} {lookup:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_name_is_looked_up_as_srv_with_ports_and_priorities() {
    let (world, servers) = (World::default(), Servers::default());
    (1..=2).for_each(|port| world.named(port));
    let target = |last, priority| Target {
        priority,
        port: Some(8_000 + u16::from(last)),
        ..Target::from(IpAddr::from([10, 0, 0, last]))
    };
    servers.answer("_http._tcp.db", vec![target(2, 20), target(1, 10)]);
    let resources = named(Lookup::Each, "_http._tcp.db");
    let (mesh, _publisher) = mesh(&world, &servers, resources).await;
    later_than(&mesh, 1).await;
    assert_eq!(answers(&mesh, 2).await, ["1", "1"]);
    assert_eq!(
        &*mesh.stats().clusters[0].endpoints[0].address,
        "10.0.0.1:8001"
    );
}

#[tokio::test(start_paused = true)]
async fn a_name_that_never_resolved_is_named_in_the_error() {
    let (world, servers) = (World::default(), Servers::default());
    let (mesh, _publisher) = mesh(&world, &servers, named(Lookup::Each, "db")).await;
    let error = call(&mesh, get("http://app/")).await.unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    assert!(text.contains("db cannot be resolved: NXDOMAIN"), "{text}");
    // As soon as it exists it is found.
    world.named(1);
    servers.say("db", &[1]);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(answers(&mesh, 1).await, ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_host_found_on_demand_is_resolved_once_and_counted_with_its_cluster() {
    let (world, servers) = (World::default(), Servers::default());
    (1..=2).for_each(|port| world.named(port));
    servers.say("a.example", &[1]);
    servers.say("b.example", &[2]);
    let cluster = Cluster {
        discovery: Discovery::OnDemand { port: 8080 },
        ..cluster("wild", Protocol::Http1)
    };
    let resources = Plan::default()
        .cluster(cluster, &[])
        .host("*.example", vec![all_to("wild")]);
    let (mesh, _publisher) = mesh(&world, &servers, resources.build()).await;
    for (host, name) in [("a", "1"), ("B", "2"), ("a", "1"), ("b", "2")] {
        let uri = format!("http://{host}.example/");
        assert_eq!(call(&mesh, get(&uri)).await.unwrap().1, name);
    }
    assert_eq!(*servers.asked.lock().unwrap(), ["a.example", "b.example"]);
    let stats = mesh.stats();
    assert_eq!(
        (stats.clusters[0].requests, stats.clusters[0].attempts),
        (4, 4)
    );
}

#[cfg(feature = "yaml")]
#[tokio::test]
async fn yaml_with_names_and_wildcards_reaches_who_dns_says() {
    let (world, servers) = (World::default(), Servers::default());
    (1..=3).for_each(|port| world.named(port));
    servers.say("db.example", &[1]);
    servers.say("eu.cdn.example", &[2]);
    servers.say("shelf.my-app.svc.cluster.local", &[3]);
    let directory = tempfile::tempdir().unwrap();
    let entry = |name: &str, host: &str, resolution: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: {name}, namespace: my-app}}\nspec: {{hosts: ['{host}'], \
             ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: {resolution}}}\n---\n"
        )
    };
    let text = entry("db", "db.example", "DNS")
        + &entry("cdn", "*.cdn.example", "DYNAMIC_DNS")
        + "apiVersion: v1\nkind: Service\nmetadata: {name: shelf, namespace: my-app}\n\
           spec: {ports: [{name: http, port: 80}]}\n";
    std::fs::write(directory.path().join("mesh.yaml"), text).unwrap();
    let mesh = Mesh::builder()
        .yaml(directory.path())
        .workload(meshwork::Workload::new("my-app", "order"))
        .connector(ByAddress(world.clone()))
        .resolver(servers.clone())
        .outbound_traffic(OutboundTraffic::RegistryOnly);
    let mesh = mesh.start().await.unwrap();
    for (host, name) in [("db.example", "1"), ("eu.cdn.example", "2"), ("shelf", "3")] {
        let uri = format!("http://{host}/");
        assert_eq!(
            call(&mesh, get(&uri)).await.unwrap(),
            (200, name.to_owned())
        );
    }
    let error = call(&mesh, get("http://elsewhere.example/"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("elsewhere.example"), "{error}");
}

#[cfg(all(feature = "yaml", unix))]
#[tokio::test]
async fn yaml_with_a_unix_socket_reaches_it() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("db.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = |_| async { Ok::<_, std::convert::Infallible>(text("by socket")) };
        let service = hyper::service::service_fn(answer);
        let io = hyper_util::rt::TokioIo::new(stream);
        hyper::server::conn::http1::Builder::new()
            .serve_connection(io, service)
            .await
    });
    let yaml = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: db, namespace: my-app}}\nspec: {{hosts: [db.example], \
         ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, \
         endpoints: [{{address: 'unix://{}'}}]}}\n",
        socket.display()
    );
    let file = directory.path().join("mesh.yaml");
    std::fs::write(&file, yaml).unwrap();
    let mesh = Mesh::builder().yaml(&file).start().await.unwrap();
    let answer = call(&mesh, get("http://db.example/")).await.unwrap();
    assert_eq!(answer, (200, "by socket".to_owned()));
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn the_program_decides_about_unknown_hosts_before_the_configuration() {
    let (world, servers) = (World::default(), Servers::default());
    world.named(1);
    servers.say("elsewhere", &[1]);
    for (said, configured, passes) in [
        (None, None, true),
        (None, Some(OutboundTraffic::RegistryOnly), false),
        (
            Some(OutboundTraffic::AllowAny),
            Some(OutboundTraffic::RegistryOnly),
            true,
        ),
        (Some(OutboundTraffic::RegistryOnly), None, false),
    ] {
        let resources = Resources {
            outbound_traffic: configured,
            ..Resources::default()
        };
        let (_publisher, feed) = meshwork::source::feed(resources);
        let mut builder = Mesh::builder().feed(feed);
        builder = builder
            .connector(ByAddress(world.clone()))
            .resolver(servers.clone());
        if let Some(said) = said {
            builder = builder.outbound_traffic(said);
        }
        let mesh = builder.start().await.unwrap();
        let result = call(&mesh, get("http://elsewhere/")).await;
        assert_eq!(result.is_ok(), passes, "{said:?}, {configured:?}");
    }
}
