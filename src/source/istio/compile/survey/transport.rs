//! Connections that one side refuses, ports of the other kind, and what a sidecar does otherwise.

use super::super::host::expand;
use super::super::policy::Ejection;
use super::workload::{INJECT, Runs};
use super::{DOMAIN, Survey};
use crate::model::security::MutualTls;
use crate::source::istio::Options;
use crate::source::istio::fault::{Code, Fault};
use crate::source::istio::kinds::{
    ClientTls, DestinationRule, Kind, Object, Service, ServicePort, TlsMode,
};
use crate::source::istio::registry::warning;
use crate::source::istio::yaml::Located;

/// Envoy's share of endpoints that may be ejected where nothing is said.
const EJECTED_PERCENT: u32 = 10;

fn collect(survey: &mut Survey<'_>, of: impl Fn(&Survey<'_>, &Object) -> Vec<Fault>) {
    let found: Vec<Fault> = {
        let objects = survey.objects.iter();
        objects.flat_map(|object| of(survey, object)).collect()
    };
    found
        .into_iter()
        .for_each(|fault| survey.faults.push(fault));
}

/// The service of the set that a rule is for.
fn service<'a>(
    survey: &Survey<'a>,
    object: &Object,
    rule: &DestinationRule,
) -> Option<(&'a Object, &'a Service)> {
    let host = expand(&rule.host, &object.meta.namespace, DOMAIN);
    let mut services = survey.census.services.iter();
    let found = services
        .find(|(service, _)| *expand(&service.meta.name, &service.meta.namespace, DOMAIN) == *host);
    found.copied()
}

/// What callers are told to speak, against what is asked of them.
pub(super) fn client_tls(survey: &mut Survey<'_>) {
    collect(survey, |survey, object| {
        let Kind::DestinationRule(rule) = &object.kind else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (port, tls) in blocks(rule) {
            let place = (tls.line, tls.column);
            let of_files = matches!(tls.mode, TlsMode::Simple | TlsMode::Mutual);
            let unsaid = tls.ca_certificates.is_none() && tls.credential_name.is_none();
            if of_files && unsaid && tls.insecure_skip_verify != Some(true) {
                let text = "no caCertificates: whoever an authority of the system vouches for may be \
                            the server";
                let fault = warning(object, Code::RootsOfSystem, place, text).field("tls");
                found.push(
                    fault.hinted("name the file of the authorities that the server is signed by"),
                );
            }
            found.extend(refused(survey, object, (rule, port), (tls.mode, place)));
        }
        found
    });
}

/// What a rule says of TLS: for one port of the service, or for all for which nothing else is said.
fn blocks(rule: &DestinationRule) -> Vec<(Option<u16>, &Located<ClientTls>)> {
    let subsets = rule.subsets.iter();
    let subsets = subsets.filter_map(|one| one.traffic_policy.as_ref());
    let mut found = Vec::new();
    for policy in rule.traffic_policy.iter().chain(subsets) {
        found.extend(policy.tls.iter().map(|tls| (None, tls)));
        for one in &policy.port_level_settings {
            let port = one.port.as_ref().map(|port| port.number);
            found.extend(
                port.zip(one.tls.as_ref())
                    .map(|(port, tls)| (Some(port), tls)),
            );
        }
    }
    found
}

/// Whether what callers speak to some port, or to those of which nothing else is said, is refused there.
fn refused(
    survey: &Survey<'_>,
    object: &Object,
    (rule, port): (&DestinationRule, Option<u16>),
    (mode, place): (TlsMode, (u32, u32)),
) -> Option<Fault> {
    let (service, spec) = service(survey, object, rule)?;
    let namespace = &*service.meta.namespace;
    let mut behind = survey
        .census
        .selected(Some(namespace), Some(&spec.selector));
    let apart = |number: u16| {
        let mut policies = rule.traffic_policy.iter();
        policies.any(|policy| {
            let mut ports = policy.port_level_settings.iter();
            ports.any(|one| one.port.as_ref().is_some_and(|port| port.number == number))
        })
    };
    let ports: Vec<&ServicePort> = spec
        .ports
        .iter()
        .filter(|one| port.map_or(!apart(one.port), |port| one.port == port))
        .map(|one| &**one)
        .collect();
    let asked = behind.find_map(|one| {
        let policy = survey.peers.policy(one.namespace, one.labels);
        ports.iter().find_map(|port| {
            let asked = one
                .port(&port.target())
                .map_or(policy.mode, |port| policy.on(port));
            match (mode, asked) {
                (TlsMode::Disable | TlsMode::Simple, MutualTls::Strict) => Some(("STRICT", one)),
                (TlsMode::IstioMutual, MutualTls::Disable) => Some(("DISABLE", one)),
                _fitting => None,
            }
        })
    });
    let (asked, one) = asked?;
    let mode = match mode {
        TlsMode::Disable => "DISABLE",
        TlsMode::IstioMutual => "ISTIO_MUTUAL",
        TlsMode::Mutual => "MUTUAL",
        TlsMode::Simple => "SIMPLE",
    };
    let text = format!(
        "callers speak {mode}, and {} asks for {asked}: their connections are refused",
        one.object.reference()
    );
    Some(warning(object, Code::TlsMismatch, place, text).field("tls"))
}

/// Workloads that are kept out of the mesh, beside those that let nobody in without an identity.
pub(super) fn outside(survey: &mut Survey<'_>) {
    collect(survey, |survey, object| {
        let one = survey
            .census
            .all
            .iter()
            .find(|one| std::ptr::eq(one.object, object) && !one.meshed);
        let Some(one) = one.filter(|one| !matches!(one.object.kind, Kind::WorkloadEntry(_))) else {
            return Vec::new();
        };
        let mut found = vec![
            warning(
                object,
                Code::Deprecated,
                (0, 0),
                format!("{INJECT}: nothing is injected here: a workload is a part of the mesh when it links it"),
            )
            .field("metadata"),
        ];
        found.extend(shut_out(survey, one));
        found
    });
}

fn shut_out(survey: &Survey<'_>, one: &Runs<'_>) -> Option<Fault> {
    let meshed = |other: &&Runs<'_>| {
        other.meshed && survey.peers.policy(other.namespace, other.labels).mode == MutualTls::Strict
    };
    let strict = survey
        .census
        .selected(Some(one.namespace), None)
        .find(meshed)?;
    let text = format!(
        "is not a part of the mesh and has no identity: {}, which is STRICT, refuses its connections",
        strict.object.reference()
    );
    Some(warning(one.object, Code::TlsMismatch, (0, 0), text))
}

/// Ports of services where those of workloads are meant.
pub(super) fn ports(survey: &mut Survey<'_>) {
    collect(survey, |survey, object| {
        let namespace = &*object.meta.namespace;
        match &object.kind {
            Kind::PeerAuthentication(policy) => {
                let labels = policy.selector.as_ref().map(|one| &one.match_labels);
                let named = policy.port_level_mtls.iter();
                let named = named
                    .filter_map(|(port, tls)| Some((port.parse().ok()?, (tls.line, tls.column))));
                let all = survey.census.selected(Some(namespace), labels);
                let all: Vec<_> = all.collect();
                named
                    .filter_map(|(port, place)| of_service(survey, &all, object, port, place))
                    .collect()
            }
            Kind::AuthorizationPolicy(policy) => {
                let labels = policy.selector.as_ref().map(|one| &one.match_labels);
                let all: Vec<_> = survey.census.selected(Some(namespace), labels).collect();
                let to = policy.rules.iter().flat_map(|rule| &rule.to);
                let operations = to.filter_map(|to| to.operation.as_ref());
                let ports = operations.flat_map(|one| one.ports.iter().chain(&one.not_ports));
                ports
                    .filter_map(|text| {
                        let place = (text.line, text.column);
                        of_service(survey, &all, object, text.parse().ok()?, place)
                    })
                    .collect()
            }
            _other_kinds => Vec::new(),
        }
    });
}

/// The port is one that clients of a service call, and no workload listens there.
fn of_service(
    survey: &Survey<'_>,
    all: &[&Runs<'_>],
    object: &Object,
    port: u16,
    place: (u32, u32),
) -> Option<Fault> {
    if all.iter().any(|one| one.listens(port)) {
        return None;
    }
    let services = all.iter().flat_map(|one| survey.census.before(one));
    let ports =
        services.flat_map(|(service, spec)| spec.ports.iter().map(move |one| (service, one)));
    let mut ports: Vec<_> = ports.collect();
    if ports
        .iter()
        .any(|(_, one)| one.target_number() == Some(port))
    {
        return None;
    }
    ports.retain(|(_, one)| one.port == port);
    let (service, written) = ports.first()?;
    let text = format!(
        "{port} is the port of {}; its workload listens on {}, and that is what counts here",
        service.reference(),
        written.target()
    );
    Some(warning(object, Code::ServicePort, place, text))
}

/// Outlier detection under which a sidecar would eject nobody.
pub(super) fn never_ejects(survey: &mut Survey<'_>, options: &Options) {
    if options.ejection == Ejection::Envoy {
        // Clients are told of it, with the number of endpoints that they see.
        return;
    }
    collect(survey, |survey, object| {
        let Kind::DestinationRule(rule) = &object.kind else {
            return Vec::new();
        };
        let policy = rule.traffic_policy.as_ref();
        let Some(outlier) = policy.and_then(|policy| policy.outlier_detection.as_ref()) else {
            return Vec::new();
        };
        let Some((service, spec)) = service(survey, object, rule) else {
            return Vec::new();
        };
        let count = survey.census.behind(service, spec);
        let percent = outlier.max_ejection_percent;
        let percent = percent.unwrap_or(EJECTED_PERCENT);
        if count == 0 || count.saturating_mul(percent) >= 100 {
            return Vec::new();
        }
        let text = format!(
            "a sidecar would never eject: {percent} % of {count} endpoints is less than one; this mesh \
             ejects one"
        );
        let place = (outlier.line, outlier.column);
        let fault = warning(object, Code::SidecarDiffers, place, text).field("outlierDetection");
        vec![fault.hinted("raise maxEjectionPercent, so that both do the same")]
    });
}
