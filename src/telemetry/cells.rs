//! How requests of a series ended: one cell for each way, found by its number.

use std::sync::OnceLock;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::histogram::{Distribution, Histogram};
use super::meter::{Flags, Protocol, Reporter};
use super::method::Method;
#[cfg(not(feature = "otel"))]
use super::off::{Bound, BoundCall, BoundTries};
#[cfg(feature = "otel")]
use super::otel::{Bound, BoundCall, BoundTries};
use super::shape::Verb;
use super::tries::Tries;
use crate::error::GRPC_STATUSES;
use crate::model::telemetry::Metric;

/// How many combinations of status, flags and protocol are told apart. A callee that answers with more of
/// them is measured as "other" beyond that.
pub(super) const CELLS: usize = 32;

/// The measurements of the requests of one series that call one method of gRPC, or none that is told by
/// name.
pub(super) struct Cells {
    pub(super) method: Method,
    told_apart: [OnceLock<Box<Cell>>; CELLS],
    other: OnceLock<Box<Cell>>,
    /// Of calls of gRPC.
    pub(super) tries: Tries,
    /// The instruments of the same.
    pub(super) bound: Option<BoundTries>,
}

/// Whose calls of gRPC are told.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "otel"),
    allow(dead_code, reason = "only instruments of OpenTelemetry are told")
)]
pub(super) struct Whose<'a> {
    pub(super) reporter: Reporter,
    /// The host that is called.
    pub(super) target: &'a str,
    pub(super) method: &'a str,
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

    /// The status of a call of gRPC in words; `None`: it was none, or has no status (the caller went away).
    pub(super) fn status(&self) -> Option<&'static str> {
        let grpc = self.grpc.filter(|_| self.protocol == Protocol::Grpc)?;
        // A number that gRPC does not know is UNKNOWN to every client.
        let known = GRPC_STATUSES.get(usize::from(grpc)).copied();
        Some(known.unwrap_or("UNKNOWN"))
    }
}

/// The measurements of all requests that ended alike.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) key: Option<Key>,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
    /// Replaced when the configuration gives metrics another shape.
    pub(super) bound: ArcSwapOption<Bound>,
    /// Of calls of gRPC that have a status.
    call: Option<BoundCall>,
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

    /// Takes in what was measured of other requests that ended alike.
    pub(super) fn add(&mut self, other: &Self) {
        self.duration.add(&other.duration);
        self.request_bytes.add(&other.request_bytes);
        self.response_bytes.add(&other.response_bytes);
    }
}

impl Cells {
    pub(super) fn new(method: Method, bound: Option<BoundTries>) -> Self {
        Self {
            method,
            told_apart: Default::default(),
            other: OnceLock::new(),
            tries: Tries::default(),
            bound,
        }
    }

    /// The cell of this key, or that of all others. Once a cell is made it stays, so that finding it
    /// reads memory and nothing else.
    pub(super) fn cell(&self, key: Key, make: impl Fn(Option<Key>) -> Box<Cell>) -> &Cell {
        let start = key.hash();
        for step in 0..CELLS {
            let cell = &self.told_apart[(start + step) % CELLS];
            let cell = cell.get_or_init(|| make(Some(key)));
            if cell.key == Some(key) {
                return cell;
            }
        }
        self.other.get_or_init(|| make(None))
    }

    /// The cells that there are.
    pub(super) fn all(&self) -> impl Iterator<Item = &Cell> {
        let all = self.told_apart.iter().chain([&self.other]);
        all.filter_map(OnceLock::get).map(|cell| &**cell)
    }
}

impl Cell {
    pub(super) fn new(
        key: Option<Key>,
        bound: ArcSwapOption<Bound>,
        call: Option<BoundCall>,
    ) -> Self {
        Self {
            key,
            duration: Histogram::default(),
            request_bytes: Histogram::default(),
            response_bytes: Histogram::default(),
            bound,
            call,
        }
    }

    /// Counts a request, whose last try took so long.
    pub(super) fn record(&self, measured: Measured, last: Duration) {
        let micros = u64::try_from(measured.took.as_micros()).unwrap_or(u64::MAX);
        self.duration.record(micros);
        if let Some(bound) = &*self.bound.load() {
            let millis = measured.took.as_secs_f64() * 1_000.0;
            bound.record(millis, measured.request_bytes, measured.response_bytes);
        }
        if let Some(call) = &self.call {
            call.record(measured, last);
        }
        self.request_bytes
            .record(measured.request_bytes.saturating_mul(1_000));
        self.response_bytes
            .record(measured.response_bytes.saturating_mul(1_000));
    }

    pub(super) fn read(&self) -> Reading {
        Reading {
            key: self.key,
            duration: self.duration.read(),
            request_bytes: self.request_bytes.read(),
            response_bytes: self.response_bytes.read(),
        }
    }
}
