//! Envoy with the same bench config: as the client's sidecar, and as the servers'.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::driver::HOST;
use crate::folder;
use crate::process::Running;

const HTTP: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const CLIENT_TLS: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const SERVER_TLS: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";

/// What a proxy is told, and where it will listen.
#[derive(Debug)]
pub(crate) struct Config {
    content: Value,
    addresses: Vec<SocketAddr>,
}

impl Config {
    /// Starts it on one thread and waits until it listens.
    #[expect(
        clippy::disallowed_methods,
        reason = "this process has no runtime of its own"
    )]
    pub(crate) fn start(
        &self,
        program: &Path,
        folder: &Path,
        name: &str,
    ) -> Result<Running, String> {
        let path = folder.join(format!("{name}.json"));
        std::fs::write(&path, self.content.to_string()).map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args([
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "error",
            "-c",
        ]);
        command.arg(&path);
        let addresses: Vec<_> = self.addresses.iter().map(SocketAddr::to_string).collect();
        let running = Running::silent(command, addresses.join(","))?;
        let began = Instant::now();
        for address in &self.addresses {
            while TcpStream::connect(address).is_err() {
                if began.elapsed() > Duration::from_secs(15) {
                    return Err(format!(
                        "Envoy does not listen on {address}; its configuration is {}",
                        self.content
                    ));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(running)
    }
}

/// Ports that were free a moment ago: Envoy does not tell which it got.
fn free(count: usize) -> Vec<SocketAddr> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect();
    listeners
        .into_iter()
        .map(|listener| {
            listener
                .and_then(|listener| listener.local_addr())
                .expect("there is a loopback interface")
        })
        .collect()
}

/// The client's sidecar: the bench config in front of these servers.
pub(crate) fn egress(servers: &str, identity: Option<&Path>) -> Config {
    let addresses = free(1);
    let (stable, canary) = servers.rsplit_once(',').unwrap_or((servers, servers));
    let routes = json!({"name": "80", "virtual_hosts": virtual_hosts()});
    let clusters = vec![
        cluster("stable", stable, identity),
        cluster("canary", canary, identity),
    ];
    Config {
        content: proxied(
            vec![listener(addresses[0], "egress", &routes, None)],
            clusters,
        ),
        addresses,
    }
}

/// The servers' sidecars: one listener with mutual TLS in front of each server.
pub(crate) fn ingress(servers: &str, identity: &Path) -> Config {
    let servers: Vec<&str> = servers.split(',').collect();
    let addresses = free(servers.len());
    let tls = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": SERVER_TLS, "require_client_certificate": true, "common_tls_context": common(identity)},
    });
    let (mut listeners, mut clusters) = (Vec::new(), Vec::new());
    for (at, (server, address)) in servers.iter().zip(&addresses).enumerate() {
        let name = format!("server-{at}");
        let route = json!({"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "0s"}});
        let hosts = json!([{"name": "all", "domains": ["*"], "routes": [route]}]);
        let routes = json!({"name": name, "virtual_hosts": hosts});
        listeners.push(listener(*address, &name, &routes, Some(&tls)));
        clusters.push(cluster(&name, server, None));
    }
    Config {
        content: proxied(listeners, clusters),
        addresses,
    }
}

fn proxied(listeners: Vec<Value>, clusters: Vec<Value>) -> Value {
    json!({"static_resources": {"listeners": listeners, "clusters": clusters}})
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn listener(address: SocketAddr, name: &str, routes: &Value, tls: Option<&Value>) -> Value {
    let manager = json!({
        "@type": MANAGER,
        "stat_prefix": name,
        "codec_type": "HTTP2",
        "route_config": routes,
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
    });
    let mut chain = json!({
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
    });
    if let Some(tls) = tls {
        chain["transport_socket"] = tls.clone();
    }
    json!({"name": name, "address": socket(address), "filter_chains": [chain]})
}

fn virtual_hosts() -> Value {
    let action = |to: Value| {
        let mut action = json!({
            "timeout": "5s",
            "retry_policy": {"retry_on": "connect-failure,reset,5xx", "num_retries": 3, "per_try_timeout": "2s"},
        });
        let fields = to.as_object().cloned().unwrap_or_default();
        action
            .as_object_mut()
            .expect("it is written above")
            .extend(fields);
        action
    };
    let stable = action(json!({"cluster": "stable"}));
    let mut routes: Vec<Value> = ["/admin/", "/internal/", "/static/", "/legacy/"]
        .map(|prefix| json!({"match": {"prefix": prefix}, "route": stable}))
        .into();
    let header = json!({"name": "x-canary", "string_match": {"exact": "true"}});
    let canary = action(json!({"cluster": "canary"}));
    routes.push(json!({"match": {"prefix": "/", "headers": [header]}, "route": canary}));
    let split = json!({"weighted_clusters": {"clusters": [
        {"name": "stable", "weight": 90},
        {"name": "canary", "weight": 10},
    ]}});
    routes.push(json!({"match": {"prefix": "/"}, "route": action(split)}));
    let other = json!([{"match": {"prefix": "/"}, "route": stable}]);
    json!([
        {"name": "order", "domains": ["order.my-app.svc.cluster.local"], "routes": other},
        {"name": "catalog", "domains": [HOST, format!("{HOST}:80")], "routes": routes},
    ])
}

fn cluster(name: &str, servers: &str, identity: Option<&Path>) -> Value {
    let endpoints: Vec<Value> = servers
        .split(',')
        .filter_map(|server| Some(json!({"endpoint": {"address": socket(server.parse().ok()?)}})))
        .collect();
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "10s",
        "circuit_breakers": {"thresholds": [{"max_connections": 100, "max_pending_requests": 1024, "max_requests": 4096}]},
        "outlier_detection": {"consecutive_5xx": 5},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": HTTP,
            "explicit_http_config": {"http2_protocol_options": {}},
        }},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    });
    if let Some(identity) = identity {
        cluster["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {"@type": CLIENT_TLS, "sni": HOST, "common_tls_context": common(identity)},
        });
    }
    cluster
}

fn common(identity: &Path) -> Value {
    let file = |name: &str| json!({"filename": identity.join(name)});
    json!({
        "alpn_protocols": ["h2"],
        "tls_certificates": [{"certificate_chain": file(folder::LEAF), "private_key": file(folder::KEY)}],
        "validation_context": {"trusted_ca": file(folder::AUTHORITY)},
    })
}
