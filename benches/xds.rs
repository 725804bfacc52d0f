//! What a large configuration costs an xDS client: all of it, and one change of each kind.
//!
//! ```sh
//! cargo bench --all-features --bench xds                       # 10,000 clusters of 10 endpoints
//! cargo bench --all-features --bench xds -- --clusters 1000
//! cargo bench --all-features --bench xds -- --publish          # into docs/PERFORMANCE.md
//! ```
//!
//! Server and client are in this process, with a real socket between them: a time is from the
//! publication until a call sees what was published, so it has decoding, linking and the swap in it,
//! and the server's encoding and both ends of the wire too. How long the three take by themselves the
//! library's spans tell (see `stages`). Endpoints are not connected to.

#[path = "control/document.rs"]
mod document;
#[path = "xds/stages.rs"]
mod stages;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::{Any, UInt32Value};
use http::Request;
use meshwork::control::{Content, Encoded, Kind, Server, Store};
use meshwork::source::xds::Bootstrap;
use meshwork::{Body, CallReport, Mesh};
use prost::{Message, Name};
use tokio::net::TcpListener;
use tokio::time::Instant;

use stages::Stages;

const MEMBERS: u32 = 10;
const CHANGES: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let at = arguments.iter().position(|one| one == "--clusters");
    let clusters = at.and_then(|at| arguments.get(at + 1)?.parse().ok());
    let stages = Stages::watched();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let table = runtime.block_on(measure(clusters.unwrap_or(10_000), stages));
    print!("{table}");
    if !arguments.iter().any(|one| one == "--publish") {
        return ExitCode::SUCCESS;
    }
    let text = format!("{}\n{table}", document::machine(&[]));
    match document::publish("xds", &text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration, as it is served.
struct World {
    listener: Encoded,
    routes: Encoded,
    clusters: Vec<Encoded>,
    endpoints: Vec<Encoded>,
}

impl World {
    fn new(clusters: u32) -> Self {
        Self {
            listener: listener(),
            routes: routes(clusters, "first"),
            clusters: (0..clusters).map(|number| cluster(number, 1_000)).collect(),
            endpoints: (0..clusters).map(|number| endpoints(number, 0)).collect(),
        }
    }

    fn publish(&self, store: &Store) {
        let all = [&self.listener, &self.routes].into_iter();
        let all = all.chain(&self.clusters).chain(&self.endpoints);
        store.publish(Content::default().with_resources(all.cloned()));
    }
}

async fn measure(clusters: u32, stages: &Stages) -> String {
    let store = Store::new();
    let mut world = World::new(clusters);
    world.publish(&store);
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    let server = Server::new(store.clone());
    tokio::spawn(async move { server.serve(socket, std::future::pending()).await });
    let bootstrap = Bootstrap::server(&address.to_string(), "bench").expect("an address");
    let mesh = Mesh::builder().xds(bootstrap).start().await;
    let mesh = mesh.expect("it starts");

    let before = resident();
    let mut steps = Steps::new(stages);
    let began = Instant::now();
    let mut generation = seen(&mesh, "first").await;
    steps.took(began.elapsed());
    let each = resident().saturating_sub(before) as f64 / 1024.0 / f64::from(clusters);
    let mut table = format!(
        "{clusters} clusters of {MEMBERS} endpoints each; memory of a cluster, with both sides of the \
         wire in one process: {each:.1} KiB.\n\n| what | median, ms | worst, ms | of it decoding, ms \
         | linking, ms | swap, ms |\n| --- | ---: | ---: | ---: | ---: | ---: |\n"
    );
    table.push_str(&steps.told("all of it in force"));
    for change in 0..CHANGES {
        let number = change as u32 % clusters;
        world.endpoints[number as usize] = endpoints(number, change as u32 + 1);
        generation = timed(&mesh, &store, &world, generation, &mut steps).await;
    }
    table.push_str(&steps.told("one endpoint changed"));
    for change in 0..CHANGES {
        let number = change as u32 % clusters;
        world.clusters[number as usize] = cluster(number, 2_000 + change as u32);
        generation = timed(&mesh, &store, &world, generation, &mut steps).await;
    }
    table.push_str(&steps.told("one cluster changed"));
    for change in 0..CHANGES {
        world.routes = routes(clusters, &format!("later {change}"));
        generation = timed(&mesh, &store, &world, generation, &mut steps).await;
    }
    table.push_str(&steps.told("all routes changed"));
    table
}

/// From a publication to the generation that it makes.
async fn timed(
    mesh: &Mesh,
    store: &Store,
    world: &World,
    before: u64,
    steps: &mut Steps<'_>,
) -> u64 {
    let began = Instant::now();
    world.publish(store);
    while mesh.generation() == before {
        tokio::task::yield_now().await;
    }
    steps.took(began.elapsed());
    mesh.generation()
}

/// The times of the same step, again and again: the whole, and what the library says of its stages.
struct Steps<'s> {
    stages: &'s Stages,
    whole: Vec<Duration>,
    of_it: [Vec<Duration>; 3],
}

impl<'s> Steps<'s> {
    fn new(stages: &'s Stages) -> Self {
        stages.taken();
        Self {
            stages,
            whole: Vec::new(),
            of_it: Default::default(),
        }
    }

    fn took(&mut self, whole: Duration) {
        self.whole.push(whole);
        for (times, time) in self.of_it.iter_mut().zip(self.stages.taken()) {
            times.push(time);
        }
    }

    /// A row of the table; the next step begins with nothing.
    fn told(&mut self, what: &str) -> String {
        self.whole.sort();
        let last = self.whole.len() - 1;
        let worst = match last {
            0 => String::new(),
            last => format!("{:.2}", millis(self.whole[last])),
        };
        let mut row = format!("| {what}");
        if last > 0 {
            row.push_str(&format!(", {} times", last + 1));
        }
        row.push_str(&format!(
            " | {:.2} | {worst} |",
            millis(self.whole[last / 2])
        ));
        for times in &mut self.of_it {
            times.sort();
            row.push_str(&format!(" {:.2} |", millis(times[last / 2])));
            times.clear();
        }
        self.whole.clear();
        row.push('\n');
        row
    }
}

/// Calls until a route of this name takes the call; returns the generation that it is in.
async fn seen(mesh: &Mesh, name: &str) -> u64 {
    loop {
        let report = CallReport::default();
        let mut request = Request::get("http://catalog/none").body(Body::empty());
        if let Ok(request) = &mut request {
            request.extensions_mut().insert(report.clone());
        }
        // Answered by the mesh itself, so that no endpoint is asked.
        let _ = mesh.client().request(request.expect("it is valid")).await;
        if report.route().as_deref() == Some(name) {
            return report.generation();
        }
    }
}

fn ads() -> core::ConfigSource {
    core::ConfigSource {
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource::default(),
        )),
        ..core::ConfigSource::default()
    }
}

fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

fn listener() -> Encoded {
    let manager = hcm::HttpConnectionManager {
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::Rds(
            hcm::Rds {
                config_source: Some(ads()),
                route_config_name: "routes".into(),
            },
        )),
        http_filters: vec![hcm::HttpFilter {
            name: "router".into(),
            config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any(
                &Router::default(),
            ))),
            ..hcm::HttpFilter::default()
        }],
        ..hcm::HttpConnectionManager::default()
    };
    let message = listener::Listener {
        name: "catalog:80".into(),
        api_listener: Some(listener::ApiListener {
            api_listener: Some(any(&manager)),
        }),
        ..listener::Listener::default()
    };
    encoded(Kind::Listener, "catalog:80", &message)
}

/// One route to each cluster, and one that the mesh answers, of this name.
fn routes(clusters: u32, name: &str) -> Encoded {
    let matched = |prefix: String| {
        Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::Prefix(prefix)),
            ..route::RouteMatch::default()
        })
    };
    let direct = route::Route {
        name: name.to_owned(),
        r#match: matched("/none".into()),
        action: Some(route::route::Action::DirectResponse(
            route::DirectResponseAction {
                status: 204,
                ..route::DirectResponseAction::default()
            },
        )),
        ..route::Route::default()
    };
    let to = |number: u32| route::Route {
        r#match: matched(format!("/{number}/")),
        action: Some(route::route::Action::Route(route::RouteAction {
            cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(format!(
                "c{number}"
            ))),
            ..route::RouteAction::default()
        })),
        ..route::Route::default()
    };
    let message = route::RouteConfiguration {
        name: "routes".into(),
        virtual_hosts: vec![route::VirtualHost {
            name: "all".into(),
            domains: vec!["*".into()],
            routes: [direct].into_iter().chain((0..clusters).map(to)).collect(),
            ..route::VirtualHost::default()
        }],
        ..route::RouteConfiguration::default()
    };
    encoded(Kind::Routes, "routes", &message)
}

fn cluster(number: u32, requests: u32) -> Encoded {
    let name = format!("c{number}");
    let message = cluster::Cluster {
        name: name.clone(),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
            cluster::cluster::DiscoveryType::Eds.into(),
        )),
        eds_cluster_config: Some(cluster::cluster::EdsClusterConfig {
            eds_config: Some(ads()),
            service_name: String::new(),
        }),
        circuit_breakers: Some(cluster::CircuitBreakers {
            thresholds: vec![cluster::circuit_breakers::Thresholds {
                max_requests: Some(UInt32Value { value: requests }),
                ..cluster::circuit_breakers::Thresholds::default()
            }],
            ..cluster::CircuitBreakers::default()
        }),
        ..cluster::Cluster::default()
    };
    encoded(Kind::Cluster, name, &message)
}

/// Ten endpoints, of which the last is another one for each edit.
fn endpoints(number: u32, edit: u32) -> Encoded {
    let name = format!("c{number}");
    let member = |member: u32| {
        let host = match member == MEMBERS - 1 {
            true => edit,
            false => 0,
        };
        let address = core::SocketAddress {
            address: format!(
                "10.{}.{}.{}",
                number >> 8 & 0xff,
                number & 0xff,
                host & 0xff
            ),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(
                1_000 + member,
            )),
            ..core::SocketAddress::default()
        };
        endpoint::LbEndpoint {
            host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
                endpoint::Endpoint {
                    address: Some(core::Address {
                        address: Some(core::address::Address::SocketAddress(address)),
                    }),
                    ..endpoint::Endpoint::default()
                },
            )),
            ..endpoint::LbEndpoint::default()
        }
    };
    let message = endpoint::ClusterLoadAssignment {
        cluster_name: name.clone(),
        endpoints: vec![endpoint::LocalityLbEndpoints {
            locality: Some(core::Locality::default()),
            load_balancing_weight: Some(UInt32Value { value: 1 }),
            lb_endpoints: (0..MEMBERS).map(member).collect(),
            ..endpoint::LocalityLbEndpoints::default()
        }],
        ..endpoint::ClusterLoadAssignment::default()
    };
    encoded(Kind::Endpoints, name, &message)
}

fn encoded(kind: Kind, name: impl Into<Arc<str>>, message: &impl Message) -> Encoded {
    Encoded::new(kind, name, &message.encode_to_vec())
}

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split(' ').nth(1).and_then(|text| text.parse().ok());
    pages.unwrap_or(0u64) * 4_096
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
