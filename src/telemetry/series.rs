//! Everything that is measured between one caller and one callee.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::Instruments;
use super::histogram::{Distribution, Histogram};
use super::meter::{Flags, Protocol, Reporter};
#[cfg(not(feature = "otel"))]
use super::off::Bound;
#[cfg(feature = "otel")]
use super::otel::Bound;
use super::registry::Standing;
use super::shape::{self, Pairs, Verb};
use super::tries::{Difference, Repeats, Tries};
use crate::model::telemetry::Metric;

/// How many combinations of status, flags and protocol a series tells apart. A callee that answers
/// with more of them is measured as "other" beyond that.
const CELLS: usize = 32;

/// What does not change from request to request: who calls whom. Each text is a label of Istio's
/// metrics; what is not known is `unknown`, as there.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Labels {
    pub(crate) reporter: Reporter,
    pub(crate) source: Arc<Party>,
    /// Shared by all that call the same workload, or one of which nothing is known.
    pub(crate) destination: Arc<Party>,
    /// The host that was called.
    pub(crate) service: Box<str>,
    /// Its first part, or the cluster that stands for hosts nobody declared.
    pub(crate) service_name: Box<str>,
    pub(crate) service_namespace: Box<str>,
    /// `mutual_tls`, `none`, or `unknown`, which a caller always says (as Istio has it).
    pub(crate) security: &'static str,
}

/// One side of a request.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Party {
    pub(crate) workload: Box<str>,
    pub(crate) namespace: Box<str>,
    pub(crate) principal: Box<str>,
    pub(crate) app: Box<str>,
    pub(crate) version: Box<str>,
    pub(crate) canonical_service: Box<str>,
    pub(crate) canonical_revision: Box<str>,
}

const UNKNOWN: &str = "unknown";

impl Party {
    /// Nobody in particular.
    pub(crate) fn unknown() -> Self {
        Self::of(|_| None, UNKNOWN)
    }

    /// What the labels of a workload say, by Istio's rules.
    pub(crate) fn of<'a>(label: impl Fn(&str) -> Option<&'a str>, namespace: &str) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| label(name));
        let app = first(&["app", "app.kubernetes.io/name"]);
        let canonical = first(&["service.istio.io/canonical-name"])
            .or(first(&["app.kubernetes.io/name", "app"]));
        let workload = first(&["service.istio.io/workload-name"]).or(canonical);
        let version = first(&["version", "app.kubernetes.io/version"]);
        let revision = first(&["service.istio.io/canonical-revision"]).or(version);
        let or = |text: Option<&str>, other: &str| Box::from(text.unwrap_or(other));
        Self {
            workload: or(workload, UNKNOWN),
            namespace: namespace.into(),
            principal: UNKNOWN.into(),
            app: or(app, UNKNOWN),
            version: or(version, UNKNOWN),
            canonical_service: or(canonical, UNKNOWN),
            canonical_revision: or(revision, "latest"),
        }
    }
}

impl Labels {
    /// The labels in Istio's order, by their names.
    pub(crate) fn pairs(&self) -> [(&'static str, &str); 20] {
        let (source, destination) = (&self.source, &self.destination);
        [
            ("reporter", self.reporter.label()),
            ("source_workload", &source.workload),
            ("source_canonical_service", &source.canonical_service),
            ("source_canonical_revision", &source.canonical_revision),
            ("source_workload_namespace", &source.namespace),
            ("source_principal", &source.principal),
            ("source_app", &source.app),
            ("source_version", &source.version),
            ("source_cluster", UNKNOWN),
            ("destination_workload", &destination.workload),
            ("destination_workload_namespace", &destination.namespace),
            ("destination_principal", &destination.principal),
            ("destination_app", &destination.app),
            ("destination_version", &destination.version),
            ("destination_service", &self.service),
            (
                "destination_canonical_service",
                &destination.canonical_service,
            ),
            (
                "destination_canonical_revision",
                &destination.canonical_revision,
            ),
            ("destination_service_name", &self.service_name),
            ("destination_service_namespace", &self.service_namespace),
            ("destination_cluster", UNKNOWN),
        ]
    }
}

/// The measurements under one set of labels.
pub(crate) struct Series {
    pub(crate) labels: Arc<Labels>,
    /// Made with the first request: most of what a large configuration names is never called by one
    /// process.
    cells: OnceLock<Box<Cells>>,
    instruments: Option<Instruments>,
    /// How metrics deviate from the standard.
    told: Standing,
}

#[derive(Default)]
struct Cells {
    told_apart: [OnceLock<Box<Cell>>; CELLS],
    other: OnceLock<Box<Cell>>,
    /// Of calls of gRPC.
    tries: Tries,
}

/// What changes from request to request, in one number.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Key {
    pub(super) protocol: Protocol,
    /// The HTTP status; 0: the caller went away before there was one.
    pub(super) code: u16,
    /// The gRPC status.
    pub(super) grpc: Option<u8>,
    pub(super) flags: Flags,
    /// The method as a label, if the configuration asks for it.
    pub(super) verb: Verb,
}

impl Key {
    /// Of statuses that peers make up only so many can be told apart.
    fn hash(&self) -> usize {
        let grpc = self.grpc.map_or(0, |code| u64::from(code) + 1);
        let number = (self.verb as u64) << 52
            | u64::from(self.code) << 32
            | grpc << 20
            | u64::from(self.flags.bits()) << 2
            | self.protocol as u64;
        (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 59) as usize
    }
}

/// The measurements of all requests that ended alike.
#[derive(Debug)]
pub(super) struct Cell {
    key: Option<Key>,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
    /// Replaced when the configuration gives metrics another shape.
    bound: ArcSwapOption<Bound>,
}

/// What one request measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) took: Duration,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
}

/// The measurements of a cell at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// `None`: of all that no cell was left for.
    pub(super) key: Option<Key>,
    pub(super) duration: Distribution,
    pub(super) request_bytes: Distribution,
    pub(super) response_bytes: Distribution,
}

impl Reading {
    /// What a metric tells of it; the count of requests is that of their durations.
    pub(super) fn of(&self, metric: Metric) -> &Distribution {
        match metric {
            Metric::RequestCount | Metric::RequestDuration => &self.duration,
            Metric::RequestSize => &self.request_bytes,
            Metric::ResponseSize => &self.response_bytes,
        }
    }
}

impl Series {
    pub(super) fn new(
        labels: Arc<Labels>,
        instruments: Option<Instruments>,
        told: Standing,
    ) -> Self {
        Self {
            labels,
            instruments,
            told,
            cells: OnceLock::new(),
        }
    }

    /// A try of a gRPC call has begun, or, of a callee, a call.
    pub(crate) fn begun(&self) {
        self.made().tries.begun();
    }

    /// A try of a gRPC call has ended that was not its answer.
    pub(crate) fn tried(&self, status: u8, took: Duration) {
        self.made().tries.tried(status, took);
    }

    /// What a gRPC call did to be tried again.
    pub(crate) fn repeated(&self, repeats: Repeats) {
        self.made().tries.repeated(repeats);
    }

    /// A call has ended that was tried more than once, and its last try took so long.
    pub(super) fn record_repeated(&self, key: Key, measured: Measured, last: Duration) {
        let tries = &self.made().tries;
        let _together = tries.together();
        let cell = self.cell(key);
        cell.record(measured);
        // A call that is not told apart has no status, and none is taken off.
        if let Some(status) = cell.key.and_then(|key| key.grpc) {
            tries.answered(status, measured.took, last);
        }
    }

    /// All that was measured, and what of it is not calls but tries, as of one moment.
    pub(super) fn read_with_tries(&self) -> (Vec<Reading>, Vec<Difference>) {
        let Some(tries) = self.tries() else {
            return (Vec::new(), Vec::new());
        };
        let _together = tries.together();
        (self.read(), tries.differences())
    }

    /// What was measured of tries; `None`: there was no request.
    pub(super) fn tries(&self) -> Option<&Tries> {
        self.cells.get().map(|cells| &cells.tries)
    }

    fn made(&self) -> &Cells {
        self.cells.get_or_init(Box::default)
    }

    /// Counts a request.
    pub(super) fn record(&self, key: Key, measured: Measured) {
        self.cell(key).record(measured);
    }

    /// The cell of this key, or that of all others. Once a cell is made it stays, so that finding it
    /// reads memory and nothing else.
    fn cell(&self, key: Key) -> &Cell {
        let cells = self.made();
        let start = key.hash();
        for step in 0..CELLS {
            let cell = &cells.told_apart[(start + step) % CELLS];
            let cell = cell.get_or_init(|| self.new_cell(Some(key)));
            if cell.key == Some(key) {
                return cell;
            }
        }
        cells.other.get_or_init(|| self.new_cell(None))
    }

    /// The cells that there are.
    fn cells(&self) -> impl Iterator<Item = &Cell> {
        let made = self.cells.get().into_iter();
        let all = made.flat_map(|cells| cells.told_apart.iter().chain([&cells.other]));
        all.filter_map(OnceLock::get).map(|cell| &**cell)
    }

    fn new_cell(&self, key: Option<Key>) -> Box<Cell> {
        Box::new(Cell {
            bound: ArcSwapOption::new(self.bound(key)),
            key,
            duration: Histogram::default(),
            request_bytes: Histogram::default(),
            response_bytes: Histogram::default(),
        })
    }

    /// The instruments of a cell, by the shapes in force.
    fn bound(&self, key: Option<Key>) -> Option<Arc<Bound>> {
        let instruments = self.instruments.as_ref();
        let bound = instruments.map(|all| {
            self.with_labels(key, |labels| {
                all.bind(|metric| self.shaped(metric, key, labels))
            })
        });
        bound.map(Arc::new)
    }

    /// The labels of a metric as the configuration wants them; `None`: it is not told.
    pub(super) fn shaped(
        &self,
        metric: Metric,
        key: Option<Key>,
        labels: &[(&'static str, &str)],
    ) -> Option<Pairs> {
        let told = self.told.load();
        let side = match self.labels.reporter {
            Reporter::Destination => &told.model.server,
            Reporter::Source => &told.model.client,
        };
        let verb = key.map_or(Verb::Other, |key| key.verb);
        shape::apply(side.metrics.get(&metric), labels, verb.label())
    }

    /// Whether all metrics are told as the standard has them.
    pub(super) fn is_standard(&self) -> bool {
        self.told.load().model.has_standard_metrics()
    }

    /// The configuration in force has changed.
    pub(super) fn rebind(&self) {
        if self.instruments.is_none() {
            return;
        }
        for cell in self.cells() {
            cell.bound.store(self.bound(cell.key));
        }
    }

    /// The labels of the series and of one way in which requests end, in Istio's order.
    pub(super) fn with_labels<T>(
        &self,
        key: Option<Key>,
        then: impl FnOnce(&[(&'static str, &str)]) -> T,
    ) -> T {
        let other = || "other".to_owned();
        let code = key.map_or_else(other, |key| key.code.to_string());
        let flags = key.map_or_else(other, |key| key.flags.text());
        let grpc = key
            .and_then(|key| key.grpc)
            .map(|status| status.to_string());
        let mut labels: Vec<(&'static str, &str)> = self.labels.pairs().into();
        labels.push((
            "request_protocol",
            key.map_or("other", |key| key.protocol.label()),
        ));
        labels.push(("response_code", &code));
        if let Some(status) = &grpc {
            labels.push(("grpc_response_status", status));
        }
        labels.push(("response_flags", &flags));
        labels.push(("connection_security_policy", self.labels.security));
        then(&labels)
    }

    /// All that was measured.
    pub(crate) fn read(&self) -> Vec<Reading> {
        self.cells().map(Cell::read).collect()
    }
}

impl Cell {
    fn record(&self, measured: Measured) {
        let micros = u64::try_from(measured.took.as_micros()).unwrap_or(u64::MAX);
        self.duration.record(micros);
        if let Some(bound) = &*self.bound.load() {
            let millis = measured.took.as_secs_f64() * 1_000.0;
            bound.record(millis, measured.request_bytes, measured.response_bytes);
        }
        self.request_bytes
            .record(measured.request_bytes.saturating_mul(1_000));
        self.response_bytes
            .record(measured.response_bytes.saturating_mul(1_000));
    }

    fn read(&self) -> Reading {
        Reading {
            key: self.key,
            duration: self.duration.read(),
            request_bytes: self.request_bytes.read(),
            response_bytes: self.response_bytes.read(),
        }
    }
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Series")
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> Series {
        Series::new(
            Arc::new(Labels {
                reporter: Reporter::Source,
                source: Arc::new(Party::unknown()),
                destination: Arc::new(Party::unknown()),
                service: "catalog".into(),
                service_name: "catalog".into(),
                service_namespace: "shop".into(),
                security: "unknown",
            }),
            None,
            Standing::default(),
        )
    }

    const ONE: Measured = Measured {
        took: Duration::from_millis(3),
        request_bytes: 10,
        response_bytes: 20,
    };

    #[test]
    fn statuses_are_told_apart_up_to_a_bound_and_none_is_lost() {
        let series = series();
        for code in 0..500 {
            let key = Key {
                code,
                ..Key::default()
            };
            series.record(key, ONE);
            series.record(key, ONE);
        }
        let read = series.read();
        assert_eq!(read.len(), CELLS + 1);
        let counts: Vec<u64> = read.iter().map(|one| one.duration.count()).collect();
        assert!(
            counts[..CELLS].iter().all(|count| *count == 2),
            "{counts:?}"
        );
        assert_eq!(counts.iter().sum::<u64>(), 1_000);
        assert_eq!(read[CELLS].key, None);
    }

    fn call(code: u16) -> Key {
        Key {
            code,
            protocol: Protocol::Grpc,
            grpc: Some(0),
            ..Key::default()
        }
    }

    #[test]
    fn of_a_repeated_call_that_is_not_told_apart_nothing_is_taken_off() {
        let series = series();
        for code in 0..500 {
            series.record_repeated(call(code), ONE, Duration::from_millis(1));
        }
        let (readings, differences) = series.read_with_tries();
        assert_eq!(readings.len(), CELLS + 1);
        let [(status, tries, whole)] = &differences[..] else {
            panic!("{differences:?}");
        };
        let taken = (*status, tries.count(), whole.count());
        assert_eq!(taken, ("OK", CELLS as u64, CELLS as u64));
    }

    #[test]
    fn what_is_read_of_repeated_calls_is_of_one_moment() {
        let series = series();
        let read = || {
            let (readings, differences) = series.read_with_tries();
            let calls: u64 = readings.iter().map(|one| one.duration.count()).sum();
            let tries: u64 = differences.iter().map(|(_, tries, _)| tries.count()).sum();
            let whole: u64 = differences.iter().map(|(.., whole)| whole.count()).sum();
            (calls, tries, whole)
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    series.record_repeated(call(200), ONE, Duration::from_millis(1));
                }
            });
            for _ in 0..500 {
                let (calls, tries, whole) = read();
                assert_eq!((tries, whole), (calls, calls));
            }
        });
        assert_eq!(read(), (2_000, 2_000, 2_000));
    }

    #[test]
    fn labels_are_those_of_istio() {
        let labels = [
            ("service.istio.io/canonical-name", "reviews"),
            ("app", "reviews-app"),
            ("version", "v2"),
        ];
        let find = |name: &str| {
            labels
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| *value)
        };
        let party = Party::of(find, "shop");
        assert_eq!((&*party.app, &*party.version), ("reviews-app", "v2"));
        assert_eq!(&*party.canonical_service, "reviews");
        assert_eq!(&*party.canonical_revision, "v2");
        assert_eq!(&*party.workload, "reviews");
        assert_eq!(&*Party::unknown().canonical_revision, "latest");
    }

    #[test]
    fn threads_that_meet_a_status_at_once_share_its_cell() {
        let series = series();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for code in [200, 503, 404].repeat(1_000) {
                        let key = Key {
                            code,
                            ..Key::default()
                        };
                        series.record(key, ONE);
                    }
                });
            }
        });
        let read = series.read();
        let counts: Vec<u64> = read.iter().map(|one| one.duration.count()).collect();
        assert_eq!(counts, [4_000, 4_000, 4_000]);
    }
}
