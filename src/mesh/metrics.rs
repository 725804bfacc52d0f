//! What a mesh has measured, as Prometheus reads it.

use super::Mesh;
use crate::snapshot::{ClusterStats, Stats};
use crate::telemetry::prometheus::{CONTENT_TYPE, Kind, Text};

impl Mesh {
    /// The content type of [`metrics`](Self::metrics), for who serves it.
    pub const METRICS_CONTENT_TYPE: &str = CONTENT_TYPE;

    /// All metrics in the text format of Prometheus 0.0.4: Istio's standard ones of requests
    /// (`istio_requests_total` and its relatives, with their labels), and the mesh's own counters and
    /// gauges by cluster. `docs/METRICS.md` lists them.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), meshwork::Error> {
    /// let mesh = meshwork::Mesh::builder().start().await?;
    /// assert!(mesh.metrics().contains("\nmeshwork_config_generation 1\n"));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn metrics(&self) -> String {
        let telemetry = &self.shared.core.environment.telemetry;
        let stats = self.stats();
        let mut text = Text::default();
        let all = telemetry.all();
        text.requests(&all);
        text.calls(&all);
        text.family("istio_build", Kind::Gauge, "The version of the mesh.");
        let version = [("component", "proxy"), ("tag", env!("CARGO_PKG_VERSION"))];
        text.sample("istio_build", &version, 1);
        let single = [
            (
                "meshwork_config_generation",
                Kind::Gauge,
                "The configuration in force, counted from 1.",
                stats.generation,
            ),
            (
                "meshwork_config_rejected_total",
                Kind::Counter,
                "Configurations that had faults and changed nothing.",
                telemetry.rejected().read(),
            ),
            (
                "meshwork_access_log_dropped_total",
                Kind::Counter,
                "Lines of the access log that were not written.",
                telemetry.dropped_lines(),
            ),
            (
                "meshwork_buffered_bytes",
                Kind::Gauge,
                "Bytes of request bodies that are kept for retries.",
                stats.buffered_bytes as u64,
            ),
            (
                "meshwork_active_work",
                Kind::Gauge,
                "Calls, response bodies and inbound requests under way.",
                self.shared.core.drain.active() as u64,
            ),
        ];
        for (name, kind, help, value) in single {
            text.family(name, kind, help);
            text.sample(name, &[], value);
        }
        #[cfg(feature = "tls-core")]
        if let Some(credentials) = self.credentials() {
            certificates(&credentials, &mut text);
        }
        #[cfg(feature = "xds")]
        if let Some(dump) = self.xds() {
            planes(&dump, &mut text);
        }
        clusters(&stats, &mut text);
        text.into_string()
    }
}

/// What is presented and believed on connections.
#[cfg(feature = "tls-core")]
fn certificates(credentials: &crate::tls::Credentials, text: &mut Text) {
    if let Some(identity) = credentials.identity() {
        let (name, help) = (
            "meshwork_certificate_expiration_timestamp_seconds",
            "When the certificate of this process expires, as seconds since 1970.",
        );
        text.family(name, Kind::Gauge, help);
        text.sample(name, &[], identity.not_after().as_secs());
    }
    let counts = credentials.counts();
    let single = [
        (
            "meshwork_certificate_rotations_total",
            "Certificates that came into force after the first.",
            counts.rotations,
        ),
        (
            "meshwork_certificate_renewal_failures_total",
            "Times that no next certificate could be had.",
            counts.renewal_failures,
        ),
        (
            "meshwork_trust_changes_total",
            "Times that other roots came into force.",
            counts.trust_changes,
        ),
        (
            "meshwork_tls_handshakes_accepted_total",
            "Handshakes with callers that succeeded.",
            counts.accepted,
        ),
        (
            "meshwork_tls_handshakes_connected_total",
            "Handshakes with callees that succeeded.",
            counts.connected,
        ),
        (
            "meshwork_tls_handshakes_refused_total",
            "Handshakes that one side refused.",
            counts.refused,
        ),
    ];
    for (name, help, value) in single {
        text.family(name, Kind::Counter, help);
        text.sample(name, &[], value);
    }
}

/// Control planes and what they sent, as gRPC's clients tell it (gRFC A78, A88), in Prometheus' names.
#[cfg(feature = "xds")]
fn planes(dump: &crate::source::xds::Dump, text: &mut Text) {
    use std::collections::BTreeMap;

    const TARGET: (&str, &str) = ("grpc_target", "#mesh");
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
        text.sample(
            name,
            &[TARGET, ("grpc_xds_server", &*server.uri)],
            server.failures,
        );
    }
    type Updates = fn(&crate::source::xds::ServerDump) -> &BTreeMap<crate::source::xds::Kind, u64>;
    let updates: [(&str, &str, Updates); 2] = [
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
    for (name, help, of) in updates {
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
#[cfg(feature = "xds")]
fn cache_state(resource: &crate::source::xds::ResourceDump) -> &'static str {
    use crate::source::xds::ResourceState;

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

type Of = fn(&ClusterStats) -> u64;

/// Counters of clusters: name without the prefix `meshwork_cluster_`, help, value.
const COUNTERS: [(&str, &str, Of); 11] = [
    (
        "requests_total",
        "Requests that were sent to the cluster.",
        |one| one.requests,
    ),
    (
        "failures_total",
        "Requests whose last answer was an error of this side or a 5xx.",
        |one| one.failures,
    ),
    ("attempts_total", "Tries, including first ones.", |one| {
        one.attempts
    }),
    ("retries_total", "Tries after the first one.", |one| {
        one.retries
    }),
    (
        "retries_denied_total",
        "Retries that the budget or a limit denied.",
        |one| one.retries_denied,
    ),
    (
        "hedges_total",
        "Tries that were begun while an earlier one was under way.",
        |one| one.hedges,
    ),
    ("overflows_total", "Requests that a limit refused.", |one| {
        one.overflows
    }),
    (
        "mirrored_total",
        "Copies of other requests that were sent.",
        |one| one.mirrored,
    ),
    (
        "mirrors_dropped_total",
        "Copies that were not sent.",
        |one| one.mirrors_dropped,
    ),
    ("ejections_total", "Endpoints that were ejected.", |one| {
        one.ejections
    }),
    ("readmissions_total", "Endpoints that came back.", |one| {
        one.readmissions
    }),
];

/// Gauges of clusters, in the same form.
const GAUGES: [(&str, &str, Of); 6] = [
    ("active_requests", "Requests in flight.", |one| {
        one.active_requests.into()
    }),
    (
        "connections",
        "Connections, those being dialled included.",
        |one| one.connections.into(),
    ),
    (
        "pending_requests",
        "Requests that wait for a connection.",
        |one| one.pending.into(),
    ),
    ("retry_budget", "Retries that the budget has left.", |one| {
        one.retry_budget.into()
    }),
    ("endpoints", "Endpoints.", |one| one.endpoints.len() as u64),
    (
        "endpoints_ejected",
        "Endpoints that are ejected now.",
        |one| {
            one.endpoints
                .iter()
                .filter(|endpoint| endpoint.ejected)
                .count() as u64
        },
    ),
];

fn clusters(stats: &Stats, text: &mut Text) {
    let counters = COUNTERS.iter().map(|family| (Kind::Counter, family));
    let gauges = GAUGES.iter().map(|family| (Kind::Gauge, family));
    for (kind, (name, help, of)) in counters.chain(gauges) {
        let name = format!("meshwork_cluster_{name}");
        text.family(&name, kind, help);
        for cluster in &stats.clusters {
            text.sample(&name, &[("cluster", &cluster.name)], of(cluster));
        }
    }
}
