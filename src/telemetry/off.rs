//! Without the feature `otel` there is nobody to export to.

use super::shape::Pairs;
use crate::model::telemetry::Metric;

/// There are none.
#[derive(Clone, Debug)]
pub(crate) enum Instruments {}

/// There is none.
#[derive(Debug)]
pub(super) enum Bound {}

impl Instruments {
    pub(super) fn bind(&self, _: impl Fn(Metric) -> Option<Pairs>) -> Bound {
        match *self {}
    }
}

impl Bound {
    pub(super) fn record(&self, _: f64, _: u64, _: u64) {
        match *self {}
    }
}
