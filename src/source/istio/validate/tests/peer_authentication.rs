//! The rules of PeerAuthentication.

use super::{accepts, faults, messages, refuses, rule_tests};
use crate::source::istio::Severity;

/// The rule refuses the spec, at this place first.
#[track_caller]
fn begins(kind: &str, spec: &str, place: &str) {
    let faults = faults(kind, spec);
    let errors = messages(&faults, Severity::Error);
    assert!(
        errors.first().is_some_and(|first| first.starts_with(place)),
        "{faults}"
    );
}

fn policy(text: &str) -> (&'static str, String) {
    ("PeerAuthentication", text.to_owned())
}

rule_tests! {
    ports_are_those_of_a_workload: refuses(policy, "{portLevelMtls: {8080: {mode: DISABLE}}}")
        => "portLevelMtls: port level mTLS is for policies with a selector: ports are those of a \
            workload";
    a_map_of_ports_is_not_empty: refuses(policy, "{selector: {matchLabels: {app: a}}, portLevelMtls: {}}")
        => "portLevelMtls: must have at least one entry where it is written; leave it out otherwise";
    a_port_is_a_number: refuses(policy,
        "{selector: {matchLabels: {app: a}}, portLevelMtls: {http: {mode: DISABLE}}}")
        => "portLevelMtls: \"http\" is no port (1 to 65535)";
}

#[test]
fn what_istio_accepts_is_accepted() {
    for text in [
        "{}",
        "{mtls: {mode: STRICT}}",
        "{mtls: {mode: UNSET}}",
        "{mtls: {}}",
        "{selector: {}}",
        "{selector: {matchLabels: {app: a}}, portLevelMtls: {8080: {mode: DISABLE}}}",
    ] {
        accepts("PeerAuthentication", text);
    }
}

#[test]
fn a_mode_is_one_of_four() {
    begins("PeerAuthentication", "{mtls: {mode: MAYBE}}", "mtls.mode: ");
}

#[test]
fn a_selector_has_no_wildcard() {
    let spec = "{selector: {matchLabels: {app: a*}}}";
    begins("PeerAuthentication", spec, "selector.matchLabels");
}
