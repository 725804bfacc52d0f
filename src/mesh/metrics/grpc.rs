//! What became of connections and of failing endpoints, as gRPC's clients tell it (gRFC A94, A91).
//!
//! A subchannel is an endpoint of a cluster here. Connections of plain HTTP are told like those of gRPC,
//! since nobody can tell them apart before a request.

use crate::layer::outlier::{Cause, Reason};
use crate::snapshot::{ClusterStats, Stats};
use crate::telemetry::Registry;
use crate::telemetry::family::{Families, Kind};

const SUBCHANNEL: &str = "grpc.subchannel";
const OUTLIER: &str = "grpc.lb.outlier_detection.ejections";

pub(super) fn tell(stats: &Stats, all: &mut dyn Families) {
    connections(&stats.clusters, all);
    detections(&stats.clusters, all);
}

/// The labels that all of them have.
fn labels(cluster: &ClusterStats) -> [(&str, &str); 2] {
    [
        ("grpc.target", Registry::target(&cluster.name)),
        ("grpc.lb.backend_service", &cluster.name),
    ]
}

fn connections(clusters: &[ClusterStats], all: &mut dyn Families) {
    type Of = fn(&ClusterStats) -> u64;
    let families: [(&str, Kind, &str, Of); 3] = [
        (
            "connection_attempts_succeeded",
            Kind::Counter,
            "Connections that came up.",
            |one| one.turns.connected,
        ),
        (
            "connection_attempts_failed",
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
        let name = format!("{SUBCHANNEL}.{name}");
        all.family(&name, kind, help);
        for cluster in clusters {
            all.sample(&name, &labels(cluster), of(cluster));
        }
    }
    let name = format!("{SUBCHANNEL}.disconnections");
    all.family(
        &name,
        Kind::Counter,
        "Connections that were up and are gone.",
    );
    for cluster in clusters {
        for (why, count) in &cluster.turns.gone {
            let [target, service] = labels(cluster);
            let why = ("grpc.disconnect_error", why.as_str());
            all.sample(&name, &[target, service, why], *count);
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
    ("grpc.lb.outlier_detection.detection_method", word)
}

fn detections(clusters: &[ClusterStats], all: &mut dyn Families) {
    let name = format!("{OUTLIER}_enforced");
    all.family(&name, Kind::Counter, "Endpoints that were ejected.");
    for cluster in clusters {
        for (cause, count) in &cluster.detections.ejected {
            let [target, service] = labels(cluster);
            all.sample(&name, &[target, service, method(*cause)], *count);
        }
    }
    let name = format!("{OUTLIER}_unenforced");
    all.family(
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
            let reason = ("grpc.lb.outlier_detection.unenforced_reason", reason);
            all.sample(&name, &[target, service, method(*cause), reason], *count);
        }
    }
}
