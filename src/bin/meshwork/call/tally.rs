//! The answers of a load, counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use meshwork::{Mesh, Stats};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Status};

/// Different names and endpoints that are counted apart; they are up to the peers.
const KEYS: usize = 1_000;
/// What the rest is counted under.
const OTHERS: &str = "(others)";
/// An hour: longer latencies count as this.
const LONGEST: u64 = 3_600_000_000;

/// What came of a number of calls.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) ok: u64,
    pub(super) failed: u64,
    pub(super) by_status: BTreeMap<u16, u64>,
    pub(super) by_grpc_status: BTreeMap<u32, u64>,
    pub(super) by_flag: BTreeMap<&'static str, u64>,
    pub(super) by_endpoint: BTreeMap<Arc<str>, u64>,
    pub(super) by_name: BTreeMap<String, u64>,
    pub(super) attempts: u64,
    pub(super) retries: u64,
    pub(super) retries_denied: u64,
    pub(super) ejections: u64,
    pub(super) generation: u64,
    pub(super) elapsed: Duration,
    pub(super) last_error: Option<String>,
    latency: Histogram<u64>,
}

/// Latencies that are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            sent: 0,
            ok: 0,
            failed: 0,
            by_status: BTreeMap::new(),
            by_grpc_status: BTreeMap::new(),
            by_flag: BTreeMap::new(),
            by_endpoint: BTreeMap::new(),
            by_name: BTreeMap::new(),
            attempts: 0,
            retries: 0,
            retries_denied: 0,
            ejections: 0,
            generation: 0,
            elapsed: Duration::ZERO,
            last_error: None,
            latency: Histogram::new_with_bounds(1, LONGEST, 3)
                .expect("1 to an hour with three digits are bounds of a histogram"),
        }
    }

    /// A result that says why nothing was sent.
    pub(super) fn refused(why: String) -> Self {
        Self {
            last_error: Some(why),
            ..Self::new()
        }
    }

    pub(super) fn count(&mut self, answer: Answer) {
        self.sent += 1;
        if answer.ok() {
            self.ok += 1;
        } else {
            self.failed += 1;
        }
        match answer.status {
            Status::Grpc(code) => *self.by_grpc_status.entry(code).or_default() += 1,
            Status::Http(code) => *self.by_status.entry(code).or_default() += 1,
        }
        if let Some(echo) = answer.echo {
            count_bounded(&mut self.by_name, echo.name, || OTHERS.to_owned());
        }
        let report = answer.report;
        for flag in report.flags() {
            *self.by_flag.entry(flag.code()).or_default() += 1;
        }
        for attempt in report.attempts() {
            self.attempts += 1;
            count_bounded(&mut self.by_endpoint, attempt.endpoint, || OTHERS.into());
        }
        self.retries += u64::from(report.retries());
        self.retries_denied += u64::from(report.retries_denied());
        let micros = u64::try_from(answer.latency.as_micros()).unwrap_or(LONGEST);
        self.latency.saturating_record(micros.max(1));
        if answer.error.is_some() {
            self.last_error = answer.error;
        }
    }

    /// Adds what only the mesh as a whole knows: what happened to it since `before`.
    pub(super) fn close(&mut self, mesh: &Mesh, before: &Stats, elapsed: Duration) {
        let after = mesh.stats();
        let ejections = |stats: &Stats| -> BTreeMap<Arc<str>, u64> {
            let clusters = stats.clusters.iter();
            clusters
                .map(|cluster| (cluster.name.clone(), cluster.ejections))
                .collect()
        };
        let before = ejections(before);
        self.ejections = ejections(&after)
            .iter()
            .map(|(name, now)| now.saturating_sub(before.get(name).copied().unwrap_or(0)))
            .sum();
        self.generation = after.generation;
        self.elapsed = elapsed;
    }

    pub(super) fn latency(&self) -> Latency {
        Latency {
            p50: self.latency.value_at_quantile(0.5),
            p90: self.latency.value_at_quantile(0.9),
            p99: self.latency.value_at_quantile(0.99),
            max: self.latency.max(),
        }
    }

    /// The result in one object.
    pub(super) fn json(&self) -> Value {
        let latency = self.latency();
        json!({
            "sent": self.sent,
            "ok": self.ok,
            "failed": self.failed,
            "by_status": object(&self.by_status),
            "by_grpc_status": object(&self.by_grpc_status),
            "by_flag": object(&self.by_flag),
            "by_endpoint": object(&self.by_endpoint),
            "by_name": object(&self.by_name),
            "attempts": self.attempts,
            "retries": self.retries,
            "retries_denied": self.retries_denied,
            "ejections": self.ejections,
            "latency_us": {
                "p50": latency.p50,
                "p90": latency.p90,
                "p99": latency.p99,
                "max": latency.max,
            },
            "elapsed_us": u64::try_from(self.elapsed.as_micros()).unwrap_or(u64::MAX),
            "generation": self.generation,
            "last_error": self.last_error,
        })
    }
}

fn object<K: ToString>(counts: &BTreeMap<K, u64>) -> Map<String, Value> {
    let entries = counts.iter();
    entries
        .map(|(key, count)| (key.to_string(), json!(count)))
        .collect()
}

fn count_bounded<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, others: impl FnOnce() -> K) {
    let key = if counts.len() < KEYS || counts.contains_key(&key) {
        key
    } else {
        others()
    };
    *counts.entry(key).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_peers_do_not_grow_the_result_without_bound() {
        let mut counts = BTreeMap::new();
        for number in 0..3_000 {
            count_bounded(&mut counts, number.to_string(), || OTHERS.to_owned());
        }
        count_bounded(&mut counts, "0".to_owned(), || OTHERS.to_owned());
        assert_eq!(counts.len(), KEYS + 1);
        assert_eq!((counts[OTHERS], counts["0"]), (2_000, 2));
    }

    #[test]
    fn nothing_sent_is_a_whole_result() {
        let json = Tally::refused("no such host".to_owned()).json();
        assert_eq!(json["sent"], 0);
        assert_eq!(
            json["latency_us"],
            json!({"p50": 0, "p90": 0, "p99": 0, "max": 0})
        );
        assert_eq!(json["last_error"], "no such host");
    }
}
