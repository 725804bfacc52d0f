//! Several objects of one kind that select the same workload.
//!
//! A client is told of those that select it. Who checks a folder is no client, so each workload of the
//! set is asked for.

use super::super::{sidecar, telemetry};
use super::Survey;
use crate::source::istio::fault::Faults;
use crate::source::istio::kinds::{Kind, Object};
use crate::source::istio::registry::selects;

/// IST0110 and IST0159, and the same of PeerAuthentication.
pub(super) fn workloads(survey: &mut Survey<'_>) {
    let mut faults = Faults::default();
    for one in &survey.census.all {
        survey.peers.lint(one.namespace, one.labels, &mut faults);
        let here = |object: &&&Object| &*object.meta.namespace == one.namespace;
        let mut sidecars = survey.objects.iter().filter(here).filter(|object| {
            let Kind::Sidecar(sidecar) = &object.kind else {
                return false;
            };
            let selector = sidecar.workload_selector.as_ref();
            selector.is_some_and(|selector| selects(&selector.labels, one.labels))
        });
        if let Some(first) = sidecars.next() {
            sidecars.for_each(|other| faults.push(sidecar::second(other, first)));
        }
        let mut told = survey.objects.iter().filter(here).filter(|object| {
            let Kind::Telemetry(told) = &object.kind else {
                return false;
            };
            let selector = told.selector.as_ref();
            let selector = selector.filter(|selector| !selector.match_labels.is_empty());
            selector.is_some_and(|selector| selects(&selector.match_labels, one.labels))
        });
        if let Some(first) = told.next() {
            told.for_each(|other| faults.push(telemetry::merged(other, first)));
        }
    }
    survey.faults.extend(faults);
}
