//! Metrics of control planes and of what they sent, as gRPC's clients tell them (gRFC A78, A88), in
//! Prometheus' names.

use std::collections::BTreeMap;

use crate::source::xds::{Dump, Kind as Resource, ResourceDump, ResourceState, ServerDump};
use crate::telemetry::prometheus::{Kind, Text};

/// All channels of a mesh have one client.
const TARGET: (&str, &str) = ("grpc_target", "#mesh");

type Updates = fn(&ServerDump) -> &BTreeMap<Resource, u64>;

/// Resources that came, good and bad.
const UPDATES: [(&str, &str, Updates); 2] = [
    (
        "grpc_xds_client_resource_updates_valid_total",
        "Good resources that were received.",
        |server| &server.valid,
    ),
    (
        "grpc_xds_client_resource_updates_invalid_total",
        "Resources that were refused.",
        |server| &server.invalid,
    ),
];

pub(super) fn tell(dump: &Dump, text: &mut Text) {
    servers(dump, text);
    resources(dump, text);
}

fn servers(dump: &Dump, text: &mut Text) {
    let name = "grpc_xds_client_connected";
    text.family(name, Kind::Gauge, "Whether a stream to the server works.");
    for server in &dump.servers {
        let labels = [TARGET, ("grpc_xds_server", &*server.uri)];
        text.sample(name, &labels, u8::from(server.connected));
    }
    let name = "grpc_xds_client_server_failure_total";
    text.family(
        name,
        Kind::Counter,
        "Streams that ended before any response.",
    );
    for server in &dump.servers {
        let labels = [TARGET, ("grpc_xds_server", &*server.uri)];
        text.sample(name, &labels, server.failures);
    }
    for (name, help, of) in UPDATES {
        text.family(name, Kind::Counter, help);
        for server in &dump.servers {
            for (kind, count) in of(server) {
                let kind = kind.to_string();
                let labels = [
                    TARGET,
                    ("grpc_xds_server", &*server.uri),
                    ("grpc_xds_resource_type", &*kind),
                ];
                text.sample(name, &labels, count);
            }
        }
    }
}

fn resources(dump: &Dump, text: &mut Text) {
    let name = "grpc_xds_client_resources";
    text.family(
        name,
        Kind::Gauge,
        "Resources, by kind and by how they stand.",
    );
    let mut resources: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for resource in &dump.resources {
        let state = cache_state(resource);
        *resources
            .entry((resource.kind.to_string(), state))
            .or_default() += 1;
    }
    for ((kind, state), count) in &resources {
        let labels = [
            TARGET,
            ("grpc_xds_cache_state", state),
            ("grpc_xds_resource_type", &**kind),
        ];
        text.sample(name, &labels, count);
    }
}

/// The words of gRFC A88.
fn cache_state(resource: &ResourceDump) -> &'static str {
    match (resource.state, resource.value.is_some()) {
        (ResourceState::Acked, _) => "acked",
        (ResourceState::DoesNotExist, false) => "does_not_exist",
        (ResourceState::DoesNotExist, true) => "does_not_exist_but_cached",
        (ResourceState::Nacked, false) => "nacked",
        (ResourceState::Nacked, true) => "nacked_but_cached",
        (ResourceState::ReceivedError, false) => "received_error",
        (ResourceState::ReceivedError, true) => "received_error_but_cached",
        (ResourceState::Requested, _) => "requested",
        (ResourceState::Timeout, _) => "timeout",
    }
}
