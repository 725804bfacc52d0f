//! The rules of policies that are attached to backends.

use std::time::Duration;

use super::super::Checker;
use super::super::names::is_dns_subdomain;
use super::{at_most, session};
use crate::source::istio::fault::quoted;
use crate::source::istio::kinds::gateway_api::{
    BackendTlsPolicySpec, BackendTlsValidation, BackendTrafficPolicySpec, GatewayDuration,
    PolicyTargetReference, RetryConstraint, SubjectAltName,
};
use crate::source::istio::yaml::Located;

const TARGETS: usize = 16;
const NAMES: usize = 5;
/// The shortest and the longest time of a budget or a rate.
const TIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3_600);
/// The highest number of a rate.
const RATE: u32 = 1_000_000;

pub(in super::super) fn tls(check: &mut Checker<'_>, policy: &BackendTlsPolicySpec) {
    let BackendTlsPolicySpec {
        target_refs,
        validation: rules,
        options,
    } = policy;
    targets(check, target_refs);
    check.within("validation", |check| validation(check, rules));
    let reason = "no option is known here";
    check.no_effect("options", !options.is_empty(), reason);
}

pub(in super::super) fn traffic(check: &mut Checker<'_>, policy: &BackendTrafficPolicySpec) {
    let BackendTrafficPolicySpec {
        target_refs,
        retry_constraint: constraint,
        session_persistence,
    } = policy;
    targets(check, target_refs);
    check.some(
        "retryConstraint",
        constraint.as_ref(),
        |check, constraint| {
            retry_constraint(check, constraint);
        },
    );
    check.some(
        "sessionPersistence",
        session_persistence.as_ref(),
        |check, block| {
            session::session(check, block);
        },
    );
    let reason =
        "a session belongs to a route here: write it in the rules that lead to the service";
    check.no_effect("sessionPersistence", session_persistence.is_some(), reason);
}

fn targets(check: &mut Checker<'_>, targets: &[Located<PolicyTargetReference>]) {
    if targets.is_empty() {
        check.error_at("targetRefs", "targetRefs must have at least one entry");
    }
    at_most(check, "targetRefs", targets.len(), TARGETS);
    check.each("targetRefs", targets, |check, target| {
        if target.name.is_empty() {
            check.error_at("name", "name is required");
        }
        if target.kind.is_empty() {
            check.error_at("kind", "kind is required");
        }
    });
}

fn validation(check: &mut Checker<'_>, rules: &BackendTlsValidation) {
    let BackendTlsValidation {
        ca_certificate_refs: references,
        well_known_ca_certificates: known,
        hostname,
        subject_alt_names,
    } = rules;
    match (references.len(), known.as_deref()) {
        (0, None) => {
            check.error("must specify either caCertificateRefs or wellKnownCACertificates");
        }
        (1.., Some(_)) => {
            check.error("must not contain both caCertificateRefs and wellKnownCACertificates");
        }
        (2.., None) => {
            let text = "one reference is supported: put the roots into one object";
            check.error_at("caCertificateRefs", text);
        }
        (0, Some(other)) if other != "System" => {
            let text = format!("{} is not System", quoted(other));
            check.error_at("wellKnownCACertificates", text);
        }
        (0 | 1, _) => {}
    }
    check.each("caCertificateRefs", references, |check, reference| {
        if reference.name.is_empty() {
            check.error_at("name", "name is required");
        }
        if !reference.group.is_empty() || !matches!(&*reference.kind, "ConfigMap" | "Secret") {
            check.error_at(
                "kind",
                "a ConfigMap or a Secret of the core group is expected",
            );
        }
    });
    if !is_dns_subdomain(hostname) {
        let text = format!("{} is no host name", quoted(hostname));
        check.error_at("hostname", text);
    }
    at_most(check, "subjectAltNames", subject_alt_names.len(), NAMES);
    check.each("subjectAltNames", subject_alt_names, |check, name| {
        subject_alt_name(check, name);
    });
}

fn subject_alt_name(check: &mut Checker<'_>, name: &SubjectAltName) {
    let some = |value: &Option<String>| value.as_deref().is_some_and(|value| !value.is_empty());
    match (&*name.name_type, some(&name.hostname), some(&name.uri)) {
        ("Hostname", true, false) | ("URI", false, true) => {}
        ("Hostname", ..) => check.error("the type Hostname has a hostname and no uri"),
        ("URI", ..) => check.error("the type URI has a uri and no hostname"),
        (other, ..) => {
            check.error_at(
                "type",
                format!("{} is neither Hostname nor URI", quoted(other)),
            );
        }
    }
}

fn retry_constraint(check: &mut Checker<'_>, constraint: &RetryConstraint) {
    let time = |check: &mut Checker<'_>, interval: Option<GatewayDuration>| {
        if interval.is_some_and(|GatewayDuration(interval)| !TIMES.contains(&interval)) {
            check.error_at("interval", "interval must be between 1s and 1h");
        }
    };
    check.some("budget", constraint.budget.as_ref(), |check, budget| {
        if let Some(percent) = budget.percent.filter(|percent| *percent > 100) {
            let text = format!("percent {percent} is outside of 0 to 100");
            check.error_at("percent", text);
        }
        time(check, budget.interval);
    });
    check.some(
        "minRetryRate",
        constraint.min_retry_rate.as_ref(),
        |check, rate| {
            if let Some(count) = rate.count.filter(|count| !(1..=RATE).contains(count)) {
                let text = format!("count {count} is outside of 1 to {RATE}");
                check.error_at("count", text);
            }
            time(check, rate.interval);
            let reason = "the number is one of retries under way, as Istio has it";
            check.no_effect("interval", rate.interval.is_some(), reason);
        },
    );
}
