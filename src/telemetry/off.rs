//! Without the feature `otel` there is nobody to export to.

use std::time::Duration;

use super::cells::{Measured, Whose};
use super::shape::Pairs;
use super::tries::Repeats;
use crate::model::telemetry::Metric;

/// There are none.
#[derive(Clone, Debug)]
pub(crate) enum Instruments {}

/// There is none.
#[derive(Debug)]
pub(super) enum Bound {}

/// There is none.
#[derive(Debug)]
pub(super) enum BoundCall {}

/// There are none.
#[derive(Debug)]
pub(super) enum BoundTries {}

impl Instruments {
    pub(super) fn bind(&self, _: impl Fn(Metric) -> Option<Pairs>) -> Bound {
        match *self {}
    }

    pub(super) fn bind_call(&self, _: Whose<'_>, _: &'static str) -> BoundCall {
        match *self {}
    }

    pub(super) fn bind_tries(&self, _: Whose<'_>) -> BoundTries {
        match *self {}
    }
}

impl Bound {
    pub(super) fn record(&self, _: f64, _: u64, _: u64) {
        match *self {}
    }
}

impl BoundCall {
    pub(super) fn record(&self, _: Measured, _: Duration) {
        match *self {}
    }
}

impl BoundTries {
    pub(super) fn begun(&self) {
        match *self {}
    }

    pub(super) fn tried(&self, _: u8, _: Duration) {
        match *self {}
    }

    pub(super) fn repeated(&self, _: Repeats) {
        match *self {}
    }
}
