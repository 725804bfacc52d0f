//! Everything that is measured between one caller and one callee.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::Instruments;
use super::cells::{Cell, Cells, Key, Measured, Reading, Whose};
use super::labels::Labels;
use super::meter::Reporter;
use super::method::{METHODS, Method, Methods};
#[cfg(not(feature = "otel"))]
use super::off::Bound;
#[cfg(feature = "otel")]
use super::otel::Bound;
use super::registry::Standing;
use super::shape::{self, Pairs, Verb};
use super::tries::{Difference, Repeats, Tries};
use crate::model::telemetry::Metric;

/// The measurements under one set of labels.
pub(crate) struct Series {
    pub(crate) labels: Arc<Labels>,
    /// Made with the first request: most of what a large configuration names is never called by one
    /// process.
    cells: OnceLock<Box<Cells>>,
    /// Those of calls of methods that are told by name, by their place; each is made with its first call.
    named: OnceLock<Box<[OnceLock<Box<Cells>>]>>,
    common: Arc<Common>,
}

/// What all series of a mesh have in common.
pub(super) struct Common {
    pub(super) instruments: Option<Instruments>,
    /// How metrics deviate from the standard.
    pub(super) told: Standing,
    pub(super) methods: Arc<Methods>,
}

/// What was measured of the calls of one method, as of one moment.
pub(super) struct OfMethod<'s> {
    pub(super) method: String,
    pub(super) readings: Vec<Reading>,
    /// What of it is not calls but tries.
    pub(super) differences: Vec<Difference>,
    pub(super) tries: &'s Tries,
}

impl Series {
    pub(super) fn new(labels: Arc<Labels>, common: Arc<Common>) -> Self {
        Self {
            labels,
            cells: OnceLock::new(),
            named: OnceLock::new(),
            common,
        }
    }

    /// A try of a gRPC call has begun, or, of a callee, a call.
    pub(crate) fn begun(&self, method: Method) {
        let cells = self.made(method);
        cells.tries.begun();
        if let Some(bound) = &cells.bound {
            bound.begun();
        }
    }

    /// A try of a gRPC call has ended that was not its answer.
    pub(crate) fn tried(&self, method: Method, status: u8, took: Duration) {
        let cells = self.made(method);
        cells.tries.tried(status, took);
        if let Some(bound) = &cells.bound {
            bound.tried(status, took);
        }
    }

    /// What a gRPC call did to be tried again.
    pub(crate) fn repeated(&self, method: Method, repeats: Repeats) {
        // Of a call that was not tried again nothing is told (gRFC A96).
        if repeats == Repeats::default() {
            return;
        }
        let cells = self.made(method);
        cells.tries.repeated(repeats);
        if let Some(bound) = &cells.bound {
            bound.repeated(repeats);
        }
    }

    /// A call has ended that was tried more than once, and its last try took so long.
    pub(super) fn record_repeated(
        &self,
        method: Method,
        key: Key,
        measured: Measured,
        last: Duration,
    ) {
        let cells = self.made(method);
        let _together = cells.tries.together();
        let cell = self.cell(cells, key);
        cell.record(measured, last);
        // A call that is not told apart has no status, and none is taken off.
        if let Some(status) = cell.key.and_then(|key| key.grpc) {
            cells.tries.answered(status, measured.took, last);
        }
    }

    /// Counts a request.
    pub(super) fn record(&self, method: Method, key: Key, measured: Measured) {
        let cells = self.made(method);
        self.cell(cells, key).record(measured, measured.took);
    }

    /// All that was measured, by the methods of gRPC that are told by name.
    pub(super) fn read_by_method(&self) -> Vec<OfMethod<'_>> {
        let read = |cells: &'_ Cells| {
            let _together = cells.tries.together();
            (
                cells.all().map(Cell::read).collect(),
                cells.tries.differences(),
            )
        };
        let all = self.all().map(|cells| {
            let (readings, differences) = read(cells);
            OfMethod {
                method: self.common.methods.name(cells.method),
                readings,
                differences,
                tries: &cells.tries,
            }
        });
        all.collect()
    }

    /// All that was measured, by how requests ended.
    pub(crate) fn read(&self) -> Vec<Reading> {
        let mut sums: Vec<Reading> = Vec::new();
        for reading in self.all().flat_map(Cells::all).map(Cell::read) {
            match sums.iter_mut().find(|sum| sum.key == reading.key) {
                Some(sum) => sum.add(&reading),
                None => sums.push(reading),
            }
        }
        sums
    }

    /// Whose requests were measured, if there were any: those of no method first.
    fn all(&self) -> impl Iterator<Item = &Cells> {
        let named = self.named.get().into_iter().flatten();
        let all = [&self.cells].into_iter().chain(named);
        all.filter_map(OnceLock::get).map(|cells| &**cells)
    }

    /// What is measured of a method, made with its first call. Where there is no place for it, it is none
    /// in particular.
    fn made(&self, method: Method) -> &Cells {
        let named = method.index().and_then(|index| {
            let table = self.named.get_or_init(|| {
                let places = (0..METHODS).map(|_| OnceLock::new());
                places.collect()
            });
            self.made_at(table.get(index)?, method)
        });
        named.unwrap_or_else(|| {
            let other = || self.new_cells(Method::OTHER);
            self.cells.get_or_init(other)
        })
    }

    fn made_at<'s>(&self, place: &'s OnceLock<Box<Cells>>, method: Method) -> Option<&'s Cells> {
        if let Some(cells) = place.get() {
            return Some(cells);
        }
        if !self.common.methods.take_pair() {
            return None;
        }
        let mut first = false;
        let cells = place.get_or_init(|| {
            first = true;
            self.new_cells(method)
        });
        if !first {
            self.common.methods.give_back(1);
        }
        Some(cells)
    }

    fn new_cells(&self, method: Method) -> Box<Cells> {
        let instruments = self.common.instruments.as_ref();
        let bound = instruments.map(|all| {
            let method = self.common.methods.name(method);
            all.bind_tries(self.whose(&method))
        });
        Box::new(Cells::new(method, bound))
    }

    fn whose<'s>(&'s self, method: &'s str) -> Whose<'s> {
        Whose {
            reporter: self.labels.reporter,
            target: &self.labels.service,
            method,
        }
    }

    fn cell<'c>(&self, cells: &'c Cells, key: Key) -> &'c Cell {
        cells.cell(key, |key| self.new_cell(cells.method, key))
    }

    fn new_cell(&self, method: Method, key: Option<Key>) -> Box<Cell> {
        let status = key.and_then(|key| key.status());
        let call = self.common.instruments.as_ref().zip(status);
        let call = call.map(|(all, status)| {
            let method = self.common.methods.name(method);
            all.bind_call(self.whose(&method), status)
        });
        Box::new(Cell::new(key, ArcSwapOption::new(self.bound(key)), call))
    }

    /// The instruments of a cell, by the shapes in force.
    fn bound(&self, key: Option<Key>) -> Option<Arc<Bound>> {
        let instruments = self.common.instruments.as_ref();
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
        let told = self.common.told.load();
        let side = match self.labels.reporter {
            Reporter::Destination => &told.model.server,
            Reporter::Source => &told.model.client,
        };
        let verb = key.map_or(Verb::Other, |key| key.verb);
        shape::apply(side.metrics.get(&metric), labels, verb.label())
    }

    /// Whether all metrics are told as the standard has them.
    pub(super) fn is_standard(&self) -> bool {
        self.common.told.load().model.has_standard_metrics()
    }

    /// The configuration in force has changed.
    pub(super) fn rebind(&self) {
        if self.common.instruments.is_none() {
            return;
        }
        for cell in self.all().flat_map(Cells::all) {
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
}

impl Drop for Series {
    fn drop(&mut self) {
        let named = self.named.get().into_iter().flatten();
        let made = named.filter(|place| place.get().is_some()).count();
        self.common.methods.give_back(made);
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
    use super::super::cells::CELLS;
    use super::super::labels::Party;
    use super::super::meter::Protocol;
    use super::*;

    fn over(methods: Arc<Methods>) -> Series {
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
            Arc::new(Common {
                instruments: None,
                told: Standing::default(),
                methods,
            }),
        )
    }

    fn series() -> Series {
        over(Arc::default())
    }

    const ONE: Measured = Measured {
        took: Duration::from_millis(3),
        request_bytes: 10,
        response_bytes: 20,
    };
    const LAST: Duration = Duration::from_millis(1);

    #[test]
    fn statuses_are_told_apart_up_to_a_bound_and_none_is_lost() {
        let series = series();
        for code in 0..500 {
            let key = Key {
                code,
                ..Key::default()
            };
            series.record(Method::OTHER, key, ONE);
            series.record(Method::OTHER, key, ONE);
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
            series.record_repeated(Method::OTHER, call(code), ONE, LAST);
        }
        let read = &series.read_by_method()[0];
        assert_eq!(read.readings.len(), CELLS + 1);
        let [(status, tries, whole)] = &read.differences[..] else {
            panic!("{:?}", read.differences);
        };
        let taken = (*status, tries.count(), whole.count());
        assert_eq!(taken, ("OK", CELLS as u64, CELLS as u64));
    }

    #[test]
    fn what_is_read_of_repeated_calls_is_of_one_moment() {
        let series = series();
        let read = || {
            let Some(OfMethod {
                readings,
                differences,
                ..
            }) = series.read_by_method().pop()
            else {
                return (0, 0, 0);
            };
            let calls: u64 = readings.iter().map(|one| one.duration.count()).sum();
            let tries: u64 = differences.iter().map(|(_, tries, _)| tries.count()).sum();
            let whole: u64 = differences.iter().map(|(.., whole)| whole.count()).sum();
            (calls, tries, whole)
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    series.record_repeated(Method::OTHER, call(200), ONE, LAST);
                }
            });
            for _ in 0..500 {
                let (calls, tries, whole) = read();
                assert_eq!((tries, whole), (calls, calls));
            }
        });
        assert_eq!(read(), (2_000, 2_000, 2_000));
    }

    fn ask(path: &str) -> http::Request<()> {
        let mut request = http::Request::new(());
        *request.uri_mut() = path.parse().expect("a path");
        request
    }

    #[test]
    fn methods_are_measured_apart_and_requests_are_their_sum() {
        let names = ["a.B/c".to_owned(), "a.B/d".to_owned()];
        let methods = Arc::new(Methods::new(&names).expect("names"));
        let series = over(methods.clone());
        for (path, count) in [("/a.B/c", 1), ("/a.B/d", 2), ("/a.B/e", 4)] {
            let method = methods.of(&ask(path));
            for _ in 0..count {
                series.begun(method);
                series.record(method, call(200), ONE);
            }
        }
        let by_method = series.read_by_method();
        let told = by_method.iter().map(|one| {
            let calls = one.readings.iter().map(|one| one.duration.count()).sum();
            (one.method.as_str(), one.tries.count(), calls)
        });
        let told: Vec<(&str, u64, u64)> = told.collect();
        assert_eq!(told, [("other", 4, 4), ("a.B/c", 1, 1), ("a.B/d", 2, 2)]);
        let [all] = &series.read()[..] else {
            panic!("one status");
        };
        assert_eq!((all.duration.count(), all.duration.sum), (7, 21.0));
    }

    #[test]
    fn pairs_without_a_place_are_other_and_those_of_a_series_that_goes_come_free() {
        let names = ["a.B/c".to_owned(), "a.B/d".to_owned()];
        let methods = Arc::new(Methods::new(&names).expect("names"));
        let [c, d] = ["/a.B/c", "/a.B/d"].map(|path| methods.of(&ask(path)));
        let first = over(methods.clone());
        first.record(c, call(200), ONE);
        while methods.take_pair() {}
        let second = over(methods.clone());
        let told = |series: &Series| -> Vec<String> {
            let all = series.read_by_method().into_iter();
            all.map(|one| one.method).collect()
        };
        second.record(d, call(200), ONE);
        assert_eq!(told(&second), ["other"]);
        assert_eq!(second.read()[0].duration.count(), 1, "none is lost");
        drop(first);
        second.record(d, call(200), ONE);
        assert_eq!(told(&second), ["other", "a.B/d"]);
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
                        series.record(Method::OTHER, key, ONE);
                    }
                });
            }
        });
        let read = series.read();
        let counts: Vec<u64> = read.iter().map(|one| one.duration.count()).collect();
        assert_eq!(counts, [4_000, 4_000, 4_000]);
    }
}
