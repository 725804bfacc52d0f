//! What became of connections and of failing endpoints, as gRPC's clients tell it (gRFC A94, A91), in
//! Prometheus' names.
//!
//! A subchannel is an endpoint of a cluster here. Connections of plain HTTP are told like those of gRPC,
//! since nobody can tell them apart before a request.

use crate::layer::outlier::{Cause, Reason};
use crate::snapshot::{ClusterStats, Stats};
use crate::telemetry::Registry;
use crate::telemetry::prometheus::{Kind, Text};

const SUBCHANNEL: &str = "grpc_subchannel";
const OUTLIER: &str = "grpc_lb_outlier_detection_ejections";

pub(super) fn tell(stats: &Stats, text: &mut Text) {
    connections(&stats.clusters, text);
    detections(&stats.clusters, text);
}

/// The labels that all of them have.
fn labels(cluster: &ClusterStats) -> [(&str, &str); 2] {
    [
        ("grpc_target", Registry::target(&cluster.name)),
        ("grpc_lb_backend_service", &cluster.name),
    ]
}

fn connections(clusters: &[ClusterStats], text: &mut Text) {
    type Of = fn(&ClusterStats) -> u64;
    let families: [(&str, Kind, &str, Of); 3] = [
        (
            "connection_attempts_succeeded_total",
            Kind::Counter,
            "Connections that came up.",
            |one| one.turns.connected,
        ),
        (
            "connection_attempts_failed_total",
            Kind::Counter,
            "Connections that could not be made.",
            |one| one.turns.failed,
        ),
        (
            "open_connections",
            Kind::Gauge,
            "Connections that are up.",
            |one| one.turns.open(),
        ),
    ];
    for (name, kind, help, of) in families {
        let name = format!("{SUBCHANNEL}_{name}");
        text.family(&name, kind, help);
        for cluster in clusters {
            text.sample(&name, &labels(cluster), of(cluster));
        }
    }
    let name = format!("{SUBCHANNEL}_disconnections_total");
    text.family(
        &name,
        Kind::Counter,
        "Connections that were up and are gone.",
    );
    for cluster in clusters {
        for (why, count) in &cluster.turns.gone {
            let [target, service] = labels(cluster);
            let why = ("grpc_disconnect_error", why.as_str());
            text.sample(&name, &[target, service, why], count);
        }
    }
}

/// The words of A91, and in their manner those for rules that gRPC does not have.
fn method(cause: Cause) -> (&'static str, &'static str) {
    let word = match cause {
        Cause::Consecutive5xx => "consecutive_5xx",
        Cause::ConsecutiveGateway => "consecutive_gateway_failure",
        Cause::ConsecutiveLocal => "consecutive_local_origin_failure",
        Cause::FailurePercentage => "failure_percentage",
        Cause::SuccessRate => "success_rate",
    };
    ("grpc_lb_outlier_detection_detection_method", word)
}

fn detections(clusters: &[ClusterStats], text: &mut Text) {
    let name = format!("{OUTLIER}_enforced_total");
    text.family(&name, Kind::Counter, "Endpoints that were ejected.");
    for cluster in clusters {
        for (cause, count) in &cluster.detections.ejected {
            let [target, service] = labels(cluster);
            text.sample(&name, &[target, service, method(*cause)], count);
        }
    }
    let name = format!("{OUTLIER}_unenforced_total");
    text.family(
        &name,
        Kind::Counter,
        "Endpoints that would have been ejected.",
    );
    for cluster in clusters {
        for (cause, reason, count) in &cluster.detections.spared {
            let [target, service] = labels(cluster);
            let reason = match reason {
                Reason::Enforcement => "enforcement_percentage",
                Reason::Overflow => "max_ejection_overflow",
            };
            let reason = ("grpc_lb_outlier_detection_unenforced_reason", reason);
            text.sample(&name, &[target, service, method(*cause), reason], count);
        }
    }
}
