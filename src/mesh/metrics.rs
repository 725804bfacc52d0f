//! What a mesh has measured, as Prometheus reads it.

mod grpc;
#[cfg(feature = "tls-core")]
mod identity;
#[cfg(feature = "inbound")]
mod inbound;
#[cfg(feature = "xds")]
mod planes;

use super::Mesh;
use crate::snapshot::{ClusterStats, RouteStats, Stats};
use crate::telemetry::family::{Families, Kind};
use crate::telemetry::prometheus::{CONTENT_TYPE, Text};

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
        let mut text = Text::default();
        let series = telemetry.all();
        text.requests(&series);
        text.calls(&series);
        self.tell(&mut text);
        text.into_string()
    }

    /// All that is counted elsewhere than at requests.
    pub(super) fn tell(&self, all: &mut dyn Families) {
        let telemetry = &self.shared.core.environment.telemetry;
        let stats = self.stats();
        all.family("istio_build", Kind::Gauge, "The version of the mesh.");
        let version = [("component", "proxy"), ("tag", env!("CARGO_PKG_VERSION"))];
        all.sample("istio_build", &version, 1);
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
            all.family(name, kind, help);
            all.sample(name, &[], value);
        }
        #[cfg(feature = "tls-core")]
        identity::tell(&self.shared.core.environment.materials, all);
        #[cfg(feature = "xds")]
        if let Some(dump) = self.xds() {
            planes::tell(&dump, all);
        }
        #[cfg(feature = "inbound")]
        inbound::tell(&stats.inbound, &self.shared.core.inbound.ports(), all);
        grpc::tell(&stats, all);
        clusters(&stats, all);
        routes(&stats, all);
    }

    /// Tells the same to who asks for it through this meter, for as long as the mesh lives.
    #[cfg(feature = "otel")]
    pub(super) fn observe(&self, meter: &opentelemetry::metrics::Meter) {
        let shared = std::sync::Arc::downgrade(&self.shared);
        crate::telemetry::observe(meter, move |all| {
            if let Some(shared) = shared.upgrade() {
                Self { shared }.tell(all);
            }
        });
    }
}

type Of = fn(&ClusterStats) -> u64;

/// Counters of clusters: name without the prefix `meshwork_cluster_`, help, value.
const COUNTERS: [(&str, &str, Of); 12] = [
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
        "dropped_total",
        "Requests that the control plane wanted dropped.",
        |one| one.dropped,
    ),
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

fn clusters(stats: &Stats, all: &mut dyn Families) {
    let counters = COUNTERS.iter().map(|family| (Kind::Counter, family));
    let gauges = GAUGES.iter().map(|family| (Kind::Gauge, family));
    for (kind, (name, help, of)) in counters.chain(gauges) {
        let name = format!("meshwork_cluster_{name}");
        all.family(&name, kind, help);
        for cluster in &stats.clusters {
            all.sample(&name, &[("cluster", &cluster.name)], of(cluster));
        }
    }
}

/// Answers of routes that are counted, by the class of their status.
fn routes(stats: &Stats, all: &mut dyn Families) {
    let name = "meshwork_route_answers_total";
    let help = "Answers of routes with a prefix for statistics, by the class of their status.";
    all.family(name, Kind::Counter, help);
    for route in &stats.routes {
        for (class, count) in RouteStats::CLASSES.iter().zip(route.answers) {
            let labels = [("route", &*route.prefix), ("response_code_class", class)];
            all.sample(name, &labels, count);
        }
    }
    let name = "meshwork_route_timeouts_total";
    all.family(
        name,
        Kind::Counter,
        "Answers of these routes that came too late.",
    );
    for route in &stats.routes {
        all.sample(name, &[("route", &*route.prefix)], route.timeouts);
    }
}
