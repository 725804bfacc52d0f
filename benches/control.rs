//! What the xDS server costs: streams held, memory of each, one change pushed to all.
//!
//! ```sh
//! cargo bench --all-features --bench control                      # 1,000 streams
//! cargo bench --all-features --bench control -- --streams 10000
//! ```
//!
//! The server is in this process, the clients are in a child, so that what is measured is the
//! server alone. Each client is a stream of its own that wants all of 50 clusters and, by name,
//! their endpoints, ten each; it acknowledges everything. Then one endpoint changes, twenty times;
//! the time is from the publication to the last acknowledgement.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use meshwork::control::{Content, Encoded, Kind, Limits, Server, Store};
use pb::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

const CLUSTERS: usize = 50;
const ENDPOINTS: u32 = 10;
const PUSHES: u32 = 20;
/// Streams on one connection.
const SHARE: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1).cloned()
    };
    let streams = after("--streams")
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match after("--clients-of") {
        Some(address) => runtime.block_on(clients(address.parse().expect("an address"), streams)),
        None => runtime.block_on(measure(streams)),
    }
}

async fn measure(streams: usize) {
    let store = Store::new();
    store.publish(content(0));
    let limits = Limits {
        streams: streams + 1,
        ..Limits::default()
    };
    let server = Server::new(store).with_limits(limits);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });

    let before = resident();
    let (cpu, began) = (processor(), Instant::now());
    let mut child = start(address, streams);
    acknowledged(&server, streams as u64, streams as u64).await;
    let synced = began.elapsed();
    println!("streams held                     {streams:>10}");
    println!(
        "first state to all               {:>10.0} ms",
        millis(synced)
    );
    println!(
        "  processor time of it           {:>10.0} ms",
        millis(processor() - cpu)
    );
    let each = (resident().saturating_sub(before)) as f64 / streams as f64 / 1024.0;
    println!("memory per stream                {each:>10.1} KiB");

    let mut times = Vec::new();
    let cpu = processor();
    for push in 1..=PUSHES {
        let began = Instant::now();
        server.store().publish(content(push));
        acknowledged(
            &server,
            streams as u64,
            streams as u64 * u64::from(push + 1),
        )
        .await;
        times.push(began.elapsed());
    }
    let each = (processor() - cpu) / PUSHES;
    times.sort();
    println!(
        "one change to all, median        {:>10.1} ms",
        millis(times[times.len() / 2])
    );
    println!(
        "one change to all, worst         {:>10.1} ms",
        millis(times[times.len() - 1])
    );
    println!("  processor time of one          {:>10.1} ms", millis(each));
    println!(
        "  of one stream                  {:>10.1} us",
        each.as_secs_f64() * 1e6 / streams as f64
    );
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits until so many clusters and endpoints were acknowledged.
async fn acknowledged(server: &Server, clusters: u64, endpoints: u64) {
    loop {
        let report = server.report();
        if report.acknowledged(Kind::Cluster) >= clusters
            && report.acknowledged(Kind::Endpoints) >= endpoints
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn start(address: SocketAddr, streams: usize) -> Child {
    let own = std::env::current_exe().expect("this program has a path");
    let mut child = Command::new(own)
        .args([
            "--clients-of",
            &address.to_string(),
            "--streams",
            &streams.to_string(),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("it says so");
    child
}

async fn clients(address: SocketAddr, streams: usize) {
    println!("ready");
    std::io::stdout().flush().expect("somebody listens");
    let mut all = tokio::task::JoinSet::new();
    for first in (0..streams).step_by(SHARE) {
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .expect("a URL")
            .connect()
            .await;
        let channel = channel.expect("it listens");
        for number in first..streams.min(first + SHARE) {
            all.spawn(client(channel.clone(), number));
        }
    }
    while all.join_next().await.is_some() {}
}

async fn client(channel: tonic::transport::Channel, number: usize) {
    let (sender, receiver) = mpsc::channel(8);
    let request = |kind: Kind, names: Vec<String>| pb::DiscoveryRequest {
        node: Some(Node {
            id: format!("client-{number}"),
            user_agent_name: "envoy".into(),
            ..Node::default()
        }),
        type_url: kind.type_url().into(),
        resource_names: names,
        ..pb::DiscoveryRequest::default()
    };
    let names: Vec<String> = (0..CLUSTERS).map(name).collect();
    sender
        .send(request(Kind::Cluster, Vec::new()))
        .await
        .expect("room");
    sender
        .send(request(Kind::Endpoints, names.clone()))
        .await
        .expect("room");
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let answers = client
        .stream_aggregated_resources(ReceiverStream::new(receiver))
        .await;
    let mut answers = answers.expect("it is served").into_inner();
    while let Ok(Some(response)) = answers.message().await {
        let of_endpoints = response.type_url == Kind::Endpoints.type_url();
        let answer = pb::DiscoveryRequest {
            version_info: response.version_info,
            type_url: response.type_url,
            response_nonce: response.nonce,
            resource_names: if of_endpoints {
                names.clone()
            } else {
                Vec::new()
            },
            ..pb::DiscoveryRequest::default()
        };
        if sender.send(answer).await.is_err() {
            return;
        }
    }
}

fn name(number: usize) -> String {
    format!("outbound|80||service-{number}.my-app.svc.cluster.local")
}

/// The mesh, in which the first cluster's endpoints depend on `push`.
fn content(push: u32) -> Content {
    let resources = (0..CLUSTERS).flat_map(|number| {
        let moved = if number == 0 { push } else { 0 };
        let cluster = envoy_types::pb::envoy::config::cluster::v3::Cluster {
            name: name(number),
            ..Default::default()
        };
        [
            Encoded::new(Kind::Cluster, name(number), &cluster.encode_to_vec()),
            Encoded::new(
                Kind::Endpoints,
                name(number),
                &assignment(number, moved).encode_to_vec(),
            ),
        ]
    });
    Content::default().with_resources(resources)
}

fn assignment(number: usize, moved: u32) -> endpoint::ClusterLoadAssignment {
    use envoy_types::pb::envoy::config::core::v3::{
        Address, SocketAddress, address, socket_address,
    };
    let one = |port: u32| endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
            endpoint::Endpoint {
                address: Some(Address {
                    address: Some(address::Address::SocketAddress(SocketAddress {
                        address: "10.0.0.1".into(),
                        port_specifier: Some(socket_address::PortSpecifier::PortValue(port)),
                        ..Default::default()
                    })),
                }),
                ..Default::default()
            },
        )),
        ..Default::default()
    };
    endpoint::ClusterLoadAssignment {
        cluster_name: name(number),
        endpoints: vec![endpoint::LocalityLbEndpoints {
            lb_endpoints: (0..ENDPOINTS).map(|at| one(1_000 + moved + at)).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = text
        .split(' ')
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    pages * 4096
}

/// What this process has had of the processors.
fn processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
