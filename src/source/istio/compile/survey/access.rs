//! Policies that decide otherwise than they seem to.

use std::collections::BTreeMap;

use super::Survey;
use super::workload::{HttpProbe, Runs};
use crate::model::security::MutualTls;
use crate::source::istio::fault::{Code, Fault};
use crate::source::istio::kinds::{
    AccessAction, AccessRule, AuthorizationPolicy, Kind, Object, RuleOperation, RuleSource,
};
use crate::source::istio::registry::{selects, warning};
use crate::source::istio::yaml::Located;

/// Lints of each policy.
pub(super) fn policies(survey: &mut Survey<'_>) {
    let mut found = Vec::new();
    for object in &survey.objects {
        let Kind::AuthorizationPolicy(policy) = &object.kind else {
            continue;
        };
        found.extend(unproved(survey, object, policy));
        found.extend(not_grpc(survey, object, policy));
        found.extend(nobody_runs_as(survey, object, policy));
    }
    found
        .into_iter()
        .for_each(|fault| survey.faults.push(fault));
}

fn labels(policy: &AuthorizationPolicy) -> Option<&BTreeMap<String, String>> {
    policy.selector.as_ref().map(|one| &one.match_labels)
}

fn sources(policy: &AuthorizationPolicy) -> impl Iterator<Item = &RuleSource> {
    let from = policy.rules.iter().flat_map(|rule| &rule.from);
    from.filter_map(|from| from.source.as_ref().map(|source| &source.value))
}

fn operations(policy: &AuthorizationPolicy) -> impl Iterator<Item = &RuleOperation> {
    let to = policy.rules.iter().flat_map(|rule| &rule.to);
    to.filter_map(|to| to.operation.as_ref().map(|operation| &operation.value))
}

/// A policy that asks who the caller is, where callers need not prove it.
fn unproved(survey: &Survey<'_>, object: &Object, policy: &AuthorizationPolicy) -> Option<Fault> {
    let mut asked = sources(policy).filter_map(|source| {
        let named = [
            &source.principals,
            &source.namespaces,
            &source.service_accounts,
            &source.trust_domains,
        ];
        let others = [
            &source.not_principals,
            &source.not_namespaces,
            &source.not_service_accounts,
            &source.not_trust_domains,
        ];
        // Who has no name is none of those who are named, and one of all others: to deny these is what such
        // a rule is written for.
        let named = named.into_iter().flatten().next().map(|one| (one, false));
        let others = others.into_iter().flatten().next().map(|one| (one, true));
        named.or(others.filter(|_| policy.action != AccessAction::Deny))
    });
    let (first, finds) = asked.next()?;
    let none = BTreeMap::new();
    let mode = survey
        .peers
        .policy(&object.meta.namespace, labels(policy).unwrap_or(&none))
        .mode;
    if mode == MutualTls::Strict {
        return None;
    }
    let mode = match mode {
        MutualTls::Disable => "DISABLE",
        _ => "PERMISSIVE",
    };
    let outcome = match policy.action {
        AccessAction::Deny => "a rule about their names does not find them: they are not denied",
        AccessAction::Allow if finds => {
            "they are among all others than the rule names: they are let in"
        }
        AccessAction::Allow => "they are denied, whoever they are",
        AccessAction::Audit | AccessAction::Custom if finds => {
            "they are among all others than the rule names"
        }
        AccessAction::Audit | AccessAction::Custom => "rules about their names do not find them",
    };
    let text = format!(
        "asks who the caller is, and by {mode} callers may come in plaintext, without an identity: \
         {outcome}"
    );
    let fault = warning(object, Code::Unproved, (first.line, first.column), text);
    Some(fault.hinted("a PeerAuthentication with mode STRICT lets nobody in without an identity"))
}

/// Methods that gRPC never uses, at a workload behind a port of gRPC.
fn not_grpc(survey: &Survey<'_>, object: &Object, policy: &AuthorizationPolicy) -> Option<Fault> {
    let reaches_post = |text: &Located<String>| {
        let text = text.value.as_str();
        match (text.strip_suffix('*'), text.strip_prefix('*')) {
            (Some(prefix), _) => "POST".starts_with(prefix),
            (None, Some(suffix)) => "POST".ends_with(suffix),
            (None, None) => text == "POST",
        }
    };
    let misses = |operation: &&RuleOperation| {
        !operation.methods.is_empty() && !operation.methods.iter().any(reaches_post)
    };
    let operation = operations(policy).find(misses)?;
    let namespace = Some(&*object.meta.namespace);
    let mut grpc = survey
        .census
        .selected(namespace, labels(policy))
        .filter_map(|one| {
            let mut services = survey.census.before(one);
            services.find_map(|(service, spec)| {
                let port = spec.ports.iter().find(|port| {
                    let said = port.app_protocol.as_ref().or(port.name.as_ref());
                    said.is_some_and(|said| said.to_ascii_lowercase().starts_with("grpc"))
                })?;
                Some((service, port.port))
            })
        });
    let (service, port) = grpc.next()?;
    let first = operation.methods.first()?;
    let text = format!(
        "no request of gRPC has this method, each is a POST: port {port} of {} is gRPC",
        service.reference()
    );
    let fault = warning(object, Code::GrpcMethod, (first.line, first.column), text);
    Some(fault.hinted("name methods of gRPC by paths: /package.Service/Method"))
}

/// Identities that nobody of the set has, where it knows the namespace.
fn nobody_runs_as(
    survey: &Survey<'_>,
    object: &Object,
    policy: &AuthorizationPolicy,
) -> Vec<Fault> {
    let own = &*object.meta.namespace;
    let wanted = sources(policy).flat_map(|source| {
        let principals = source.principals.iter().filter_map(|text| {
            let (_, account) = text.split_once("/ns/")?;
            Some((text, format!("ns/{account}")))
        });
        let accounts = source.service_accounts.iter().map(move |text| {
            let (namespace, account) = text.split_once('/').unwrap_or((own, text));
            (text, format!("ns/{namespace}/sa/{account}"))
        });
        principals.chain(accounts)
    });
    let mut faults = Vec::new();
    for (written, account) in wanted.filter(|(_, account)| !account.contains('*')) {
        let namespace = account.split('/').nth(1).unwrap_or_default();
        let all: Vec<&Runs<'_>> = survey.census.selected(Some(namespace), None).collect();
        let runs = |one: &&Runs<'_>| one.account.as_deref().is_none_or(|one| one == account);
        if all.is_empty() || all.iter().any(runs) {
            continue;
        }
        let mut accounts: Vec<&str> = all
            .iter()
            .filter_map(|one| one.account.as_deref())
            .collect();
        accounts.sort_unstable();
        accounts.dedup();
        let text = format!(
            "no workload of {namespace} runs as {account}: they run as {}",
            accounts.join(", ")
        );
        let place = (written.line, written.column);
        let fault = warning(object, Code::PrincipalUnknown, place, text);
        faults.push(fault.hinted("the account of a pod is its serviceAccountName, else default"));
    }
    faults
}

/// Probes of the kubelet, which has no certificate and no identity.
pub(super) fn probes(survey: &mut Survey<'_>) {
    let mut found = Vec::new();
    for one in survey.census.all.iter().filter(|one| one.meshed) {
        for probe in one.probes() {
            found.extend(strict(survey, one, &probe));
            found.extend(denied(survey, one, &probe));
        }
    }
    found
        .into_iter()
        .for_each(|fault| survey.faults.push(fault));
}

const PROBE_HINT: &str =
    "answer probes on a port of their own (Mesh::health), which asks nobody who it is";

fn strict(survey: &Survey<'_>, one: &Runs<'_>, probe: &HttpProbe<'_>) -> Option<Fault> {
    let policy = survey.peers.policy(one.namespace, one.labels);
    if policy.on(probe.port) != MutualTls::Strict {
        return None;
    }
    let text = format!(
        "the probe GET {} comes without a certificate, and port {} is STRICT: it fails",
        probe.path, probe.port
    );
    let fault = warning(one.object, Code::ProbeDenied, probe.place, text);
    Some(fault.hinted(PROBE_HINT))
}

/// No policy that allows lets the probe in.
fn denied(survey: &Survey<'_>, one: &Runs<'_>, probe: &HttpProbe<'_>) -> Option<Fault> {
    let root = survey.defaults.root_namespace();
    let mut first = None;
    for object in &survey.objects {
        let Kind::AuthorizationPolicy(policy) = &object.kind else {
            continue;
        };
        let namespace = &*object.meta.namespace;
        let concerns = (namespace == one.namespace || namespace == root)
            && labels(policy).is_none_or(|labels| selects(labels, one.labels));
        if !concerns || policy.action != AccessAction::Allow {
            continue;
        }
        if policy.rules.iter().any(|rule| lets_in(rule, probe)) {
            return None;
        }
        first.get_or_insert(*object);
    }
    let object = first?;
    let text = format!(
        "denies the probe GET {} at port {} of {}, which comes without an identity",
        probe.path,
        probe.port,
        one.object.reference()
    );
    let fault = warning(object, Code::ProbeDenied, (0, 0), text);
    Some(fault.hinted(PROBE_HINT))
}

fn lets_in(rule: &AccessRule, probe: &HttpProbe<'_>) -> bool {
    let any = |list: &[Located<String>], value: &str| {
        list.is_empty()
            || list.iter().any(|text| match text.strip_suffix('*') {
                Some(prefix) => value.starts_with(prefix),
                None => text.value == value,
            })
    };
    let operation = |operation: &RuleOperation| {
        any(&operation.methods, "GET")
            && any(&operation.paths, probe.path)
            && any(&operation.ports, &probe.port.to_string())
            && operation.hosts.is_empty()
    };
    // Conditions and addresses may let it in; who writes them has thought of who comes.
    let anybody = rule.from.iter().all(|from| {
        let source = from.source.as_ref();
        source.is_none_or(|source| !source.ip_blocks.is_empty())
    });
    let mut to = rule.to.iter().filter_map(|to| to.operation.as_ref());
    anybody && (rule.to.is_empty() || to.any(|to| operation(to)))
}
