//! What requests to an endpoint count for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::link::Environment;
use crate::model;
use crate::telemetry::Series;

/// What the endpoints of a cluster count for. Neighbours mostly are replicas of one workload, so that
/// the last answer is the next.
pub(super) struct Counted<'a> {
    model: &'a model::Cluster,
    environment: &'a Environment,
    last: Option<(Arc<EndpointLabels>, Arc<Series>)>,
}

pub(super) type EndpointLabels = BTreeMap<Box<str>, Box<str>>;

impl<'a> Counted<'a> {
    pub(super) fn new(model: &'a model::Cluster, environment: &'a Environment) -> Self {
        Self {
            model,
            environment,
            last: None,
        }
    }

    pub(super) fn series(&mut self, labels: &Arc<EndpointLabels>) -> Arc<Series> {
        if let Some((known, series)) = &self.last
            && (Arc::ptr_eq(known, labels) || known == labels)
        {
            return series.clone();
        }
        let series = series(self.model, labels, self.environment);
        self.last = Some((labels.clone(), series.clone()));
        series
    }
}

pub(super) fn series(
    model: &model::Cluster,
    labels: &EndpointLabels,
    environment: &Environment,
) -> Arc<Series> {
    let telemetry = &environment.telemetry;
    if !telemetry.measures() {
        return telemetry.unknown().clone();
    }
    telemetry.toward(&model.name, |name| labels.get(name).map(AsRef::as_ref))
}
