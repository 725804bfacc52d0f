//! Selectors that select nobody.

use super::Survey;
use crate::source::istio::fault::{Code, Fault};
use crate::source::istio::kinds::{Kind, LabelSelector, Object};
use crate::source::istio::registry::warning;
use crate::source::istio::yaml::Located;

/// IST0127: an object whose selector matches no workload of the set. Sets that know no workload of the
/// namespace say nothing.
pub(super) fn nobody(survey: &mut Survey<'_>) {
    let mut found = Vec::new();
    for object in &survey.objects {
        found.extend(of_object(survey, object));
    }
    found
        .into_iter()
        .for_each(|fault| survey.faults.push(fault));
}

fn of_object(survey: &Survey<'_>, object: &Object) -> Option<Fault> {
    let (selector, everywhere): (&Option<Located<LabelSelector>>, bool) = match &object.kind {
        Kind::AuthorizationPolicy(policy) => (&policy.selector, true),
        Kind::RequestAuthentication(policy) => (&policy.selector, true),
        Kind::PeerAuthentication(policy) => (&policy.selector, false),
        Kind::Telemetry(told) => (&told.selector, false),
        _other_kinds => return None,
    };
    let selector = selector
        .as_ref()
        .filter(|selector| !selector.match_labels.is_empty())?;
    let namespace = &*object.meta.namespace;
    let root = everywhere && namespace == survey.defaults.root_namespace();
    let scope = (!root).then_some(namespace);
    let known = survey.census.selected(scope, None).next().is_some();
    let mut selected = survey.census.selected(scope, Some(&selector.match_labels));
    if !known || selected.next().is_some() {
        return None;
    }
    let labels = selector.match_labels.iter();
    let labels: Vec<String> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let place = (selector.line, selector.column);
    let text = format!(
        "selects nobody: no workload has the labels {}",
        labels.join(",")
    );
    let fault = warning(object, Code::SelectorEmpty, place, text).field("selector");
    Some(match &object.kind {
        Kind::PeerAuthentication(_) => fault.hinted(
            "a PeerAuthentication is for the workload that is called: it lets none of its own calls \
             into another",
        ),
        _other_kinds => fault,
    })
}
