//! What the server tells in lines.

use std::fmt::Write as _;

use crate::control::house::{Connected, House, Report};
use crate::control::kind::Kind;

/// Metrics without what is for Prometheus alone: `name{labels}: number`.
pub(super) fn plain(metrics: &str) -> String {
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.filter_map(|line| line.rsplit_once(' '));
    lines
        .map(|(name, number)| format!("{name}: {number}\n"))
        .collect()
}

/// What clients reported, as sums, in the form of Envoy's `/clusters`:
/// `cluster::region/zone/sub-zone::rq_total::7`.
pub(super) fn clusters(house: &House) -> String {
    let mut out = String::new();
    for ((cluster, locality), load) in house.loads.all() {
        for (name, number) in [
            ("rq_total", load.issued),
            ("rq_success", load.succeeded),
            ("rq_error", load.failed),
            ("rq_dropped", load.dropped),
        ] {
            // A String takes everything.
            let _ = writeln!(
                out,
                "{}::{}::{name}::{number}",
                cluster.escape_debug(),
                locality.escape_debug()
            );
        }
    }
    out
}

/// Prometheus' text format. Every name begins with `meshwork_control_`.
pub(super) fn metrics(house: &House) -> String {
    let report = Report::of(house);
    let mut out = String::new();
    let mut one = |name: &str, kind: &str, help: &str, value: u64| {
        // A String takes everything.
        let _ = write!(
            out,
            "# HELP meshwork_control_{name} {help}\n# TYPE meshwork_control_{name} {kind}\n\
             meshwork_control_{name} {value}\n"
        );
    };
    one(
        "streams",
        "gauge",
        "Streams that are open.",
        report.streams as u64,
    );
    one(
        "streams_waiting",
        "gauge",
        "Streams that wait for their turn to get their first state.",
        report.waiting as u64,
    );
    one(
        "streams_opened_total",
        "counter",
        "Streams that were served.",
        report.opened,
    );
    one(
        "streams_turned_away_total",
        "counter",
        "Streams beyond the limit.",
        report.turned_away,
    );
    one(
        "calls_turned_away_total",
        "counter",
        "Calls of other services and for certificates beyond the limit.",
        report.calls_turned_away,
    );
    one(
        "streams_stuck_total",
        "counter",
        "Streams ended because nobody read them.",
        report.stuck,
    );
    one(
        "stale_requests_total",
        "counter",
        "Requests about an old response.",
        report.stale,
    );
    one(
        "sent_bytes_total",
        "counter",
        "Bytes of responses.",
        report.bytes,
    );
    one(
        "generation",
        "gauge",
        "Number of the content in force.",
        house.store.generation(),
    );
    one(
        "edits_rejected_total",
        "counter",
        "Edits with faults.",
        house.store.rejections(),
    );
    let rejected = u64::from(house.store.rejected().is_some());
    one(
        "edit_rejected",
        "gauge",
        "Whether the last edit was rejected.",
        rejected,
    );
    one(
        "views",
        "gauge",
        "Views in use.",
        house.store.views() as u64,
    );
    for (name, help, value) in [
        (
            "responses_total",
            "Responses.",
            Report::pushed as fn(&Report, Kind) -> u64,
        ),
        (
            "acknowledged_total",
            "Responses that were acknowledged.",
            Report::acknowledged,
        ),
        (
            "refused_total",
            "Responses that were refused.",
            Report::refused,
        ),
    ] {
        let _ = write!(
            out,
            "# HELP meshwork_control_{name} {help}\n# TYPE meshwork_control_{name} counter\n"
        );
        for kind in Kind::ALL {
            let value = value(&report, kind);
            let _ = writeln!(out, "meshwork_control_{name}{{type=\"{kind}\"}} {value}");
        }
    }
    out
}

/// One line for each stream, and one for each kind that it refused.
pub(super) fn clients(house: &House) -> String {
    let mut out = String::new();
    for client in house.clients() {
        let client = Connected::of(&client);
        let node = &client.node;
        let (sent, acknowledged) = client.resources;
        let _ = writeln!(
            out,
            "{}\t{}\t{}\t{}/{}\t{:?}\t{acknowledged} of {sent} acknowledged\t{} s",
            node.id().escape_debug(),
            client.scope,
            node.user_agent().escape_debug(),
            node.workload().namespace().escape_debug(),
            node.workload().service_account().escape_debug(),
            node.dialect(),
            client.age.as_secs(),
        );
        for (kind, version, error) in &client.refusals {
            let _ = writeln!(out, "\trefused {kind} {version}: {}", error.escape_debug());
        }
    }
    out
}
