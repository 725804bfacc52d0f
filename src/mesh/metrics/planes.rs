//! Metrics of control planes and of what they sent, as gRPC's clients tell them (gRFC A78, A88).

use std::collections::BTreeMap;

use crate::source::xds::{Dump, Kind as Resource, ResourceDump, ResourceState, ServerDump};
use crate::telemetry::family::{Families, Kind};

/// All channels of a mesh have one client.
const TARGET: (&str, &str) = ("grpc.target", "#mesh");

type Updates = fn(&ServerDump) -> &BTreeMap<Resource, u64>;

/// Resources that came, good and bad.
const UPDATES: [(&str, &str, Updates); 2] = [
    (
        "grpc.xds_client.resource_updates_valid",
        "Good resources that were received.",
        |server| &server.valid,
    ),
    (
        "grpc.xds_client.resource_updates_invalid",
        "Resources that were refused.",
        |server| &server.invalid,
    ),
];

pub(super) fn tell(dump: &Dump, all: &mut dyn Families) {
    servers(dump, all);
    resources(dump, all);
}

fn servers(dump: &Dump, all: &mut dyn Families) {
    let name = "grpc.xds_client.connected";
    all.family(name, Kind::Gauge, "Whether a stream to the server works.");
    for server in &dump.servers {
        let labels = [TARGET, ("grpc.xds.server", &*server.uri)];
        all.sample(name, &labels, u64::from(server.connected));
    }
    let name = "grpc.xds_client.server_failure";
    all.family(
        name,
        Kind::Counter,
        "Streams that ended before any response.",
    );
    for server in &dump.servers {
        let labels = [TARGET, ("grpc.xds.server", &*server.uri)];
        all.sample(name, &labels, server.failures);
    }
    for (name, help, of) in UPDATES {
        all.family(name, Kind::Counter, help);
        for server in &dump.servers {
            for (kind, count) in of(server) {
                let kind = kind.to_string();
                let labels = [
                    TARGET,
                    ("grpc.xds.server", &*server.uri),
                    ("grpc.xds.resource_type", &*kind),
                ];
                all.sample(name, &labels, *count);
            }
        }
    }
}

fn resources(dump: &Dump, all: &mut dyn Families) {
    let name = "grpc.xds_client.resources";
    all.family(
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
            ("grpc.xds.cache_state", state),
            ("grpc.xds.resource_type", &**kind),
        ];
        all.sample(name, &labels, *count);
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
