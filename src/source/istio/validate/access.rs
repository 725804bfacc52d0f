//! The rules of AuthorizationPolicy, after Istio's `security.ValidateAuthorizationPolicy`.

use super::names::{is_address_or_network, is_dns_label, labels};
use super::{Checker, Finding};
use crate::model::authorization::{InvalidTemplate, Template};
use crate::source::istio::fault::{did_you_mean, quoted};
use crate::source::istio::kinds::{
    AccessAction, AccessRule, AuthorizationPolicy, Kind, LabelSelector, Meta, PolicyTarget,
    RuleCondition, RuleOperation, RuleSource,
};
use crate::source::istio::when::{Attribute, KEYS, NoAttribute};
use crate::source::istio::yaml::{Located, Node};

/// The annotation by which a policy only pretends.
pub(crate) const DRY_RUN: &str = "istio.io/dry-run";

/// Objects that one policy may be attached to.
const TARGETS: usize = 16;
/// Service accounts of one list, and their length.
const ACCOUNTS: usize = 16;
const ACCOUNT: usize = 320;

pub(super) fn authorization_policy(check: &mut Checker<'_>, policy: &AuthorizationPolicy) {
    let AuthorizationPolicy {
        selector,
        target_ref,
        target_refs,
        rules,
        action,
        provider,
    } = policy;
    attachment(check, selector.as_ref(), target_ref.as_ref(), target_refs);
    match action {
        AccessAction::Custom => {
            if rules.is_empty() {
                check.error("CUSTOM action without rules is meaningless: it asks about no request");
            }
            let named = provider
                .as_ref()
                .is_some_and(|provider| !provider.name.is_empty());
            if !named {
                check.error_at("provider", "CUSTOM action needs provider.name");
            }
        }
        AccessAction::Deny if rules.is_empty() => {
            check.error("DENY action without rules is meaningless: it will never be triggered");
        }
        AccessAction::Allow | AccessAction::Audit | AccessAction::Deny => {}
    }
    if *action != AccessAction::Custom && provider.is_some() {
        check.error_at("provider", "provider is for CUSTOM action only");
    }
    check.each("rules", rules, |check, rule| {
        access_rule(check, rule, *action == AccessAction::Custom);
    });
}

/// The annotation is a boolean, and only of policies that could pretend.
pub(crate) fn dry_run(value: &str, action: AccessAction) -> Result<bool, String> {
    let pretends = match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
        "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
        other => {
            return Err(format!(
                "{DRY_RUN} is {}: expected true or false",
                quoted(other)
            ));
        }
    };
    match action {
        AccessAction::Allow | AccessAction::Deny => Ok(pretends),
        AccessAction::Audit | AccessAction::Custom => {
            Err(format!("{DRY_RUN} is for ALLOW and DENY only"))
        }
    }
}

/// The rules of annotations that say something about the spec.
pub(crate) fn annotations(document: &Node, kind: &Kind, meta: &Meta) -> Vec<Finding> {
    let mut check = Checker::new(document);
    if let (Kind::AuthorizationPolicy(policy), Some(value)) = (kind, meta.annotations.get(DRY_RUN))
        && let Err(text) = dry_run(value, policy.action)
    {
        check.within("metadata", |check| {
            check.within("annotations", |check| {
                check.within_key(DRY_RUN, |check| check.error(text));
            });
        });
    }
    check.into_findings()
}

/// What a policy applies to: some workloads, or something that it is attached to.
pub(super) fn attachment(
    check: &mut Checker<'_>,
    selector: Option<&Located<LabelSelector>>,
    target: Option<&Located<PolicyTarget>>,
    targets: &[Located<PolicyTarget>],
) {
    let attached = target.is_some() || !targets.is_empty();
    if selector.is_some() && attached {
        check.error_at("selector", "only one of selector and targetRefs can be set");
    }
    if target.is_some() && !targets.is_empty() {
        check.error_at(
            "targetRef",
            "only one of targetRef and targetRefs can be set",
        );
    }
    if targets.len() > TARGETS {
        let found = targets.len();
        check.error_at(
            "targetRefs",
            format!("{found} targets; at most {TARGETS} are allowed"),
        );
    }
    let reason =
        "it attaches the policy to a gateway or waypoint, and there is none in this process";
    check.no_effect("targetRef", target.is_some(), reason);
    check.no_effect("targetRefs", !targets.is_empty(), reason);
    check.some("selector", selector, |check, selector| {
        check.within("matchLabels", |check| {
            labels(check, &selector.match_labels);
        });
    });
}

fn access_rule(check: &mut Checker<'_>, rule: &AccessRule, custom: bool) {
    if check.is_null() {
        check.error("a rule must not be null; {} matches every request");
        return;
    }
    let AccessRule { from, to, when } = rule;
    check.each("from", from, |check, from| match &from.source {
        None => check.error_at("source", "source must be given"),
        Some(source) => check.within("source", |check| rule_source(check, source, custom)),
    });
    check.each("to", to, |check, to| match &to.operation {
        None => check.error_at("operation", "operation must be given"),
        Some(operation) => check.within("operation", |check| rule_operation(check, operation)),
    });
    check.each("when", when, |check, when| condition(check, when, custom));
}

fn rule_source(check: &mut Checker<'_>, source: &RuleSource, custom: bool) {
    let RuleSource {
        principals,
        not_principals,
        request_principals,
        not_request_principals,
        namespaces,
        not_namespaces,
        service_accounts,
        not_service_accounts,
        trust_domains,
        not_trust_domains,
        ip_blocks,
        not_ip_blocks,
        remote_ip_blocks,
        not_remote_ip_blocks,
    } = source;
    let texts = [
        ("principals", principals),
        ("notPrincipals", not_principals),
        ("requestPrincipals", request_principals),
        ("notRequestPrincipals", not_request_principals),
        ("namespaces", namespaces),
        ("notNamespaces", not_namespaces),
        ("serviceAccounts", service_accounts),
        ("notServiceAccounts", not_service_accounts),
        ("trustDomains", trust_domains),
        ("notTrustDomains", not_trust_domains),
    ];
    let addresses = [
        ("ipBlocks", ip_blocks),
        ("notIpBlocks", not_ip_blocks),
        ("remoteIpBlocks", remote_ip_blocks),
        ("notRemoteIpBlocks", not_remote_ip_blocks),
    ];
    if texts
        .iter()
        .chain(&addresses)
        .all(|(_, list)| list.is_empty())
    {
        check.error("a source must have at least one field");
    }
    for (field, list) in texts {
        not_empty(check, field, list);
        if custom && !list.is_empty() {
            let text = format!("{field} is not known yet when CUSTOM action decides");
            check.error_at(field, text);
        }
    }
    for (field, list) in addresses {
        check.each(field, list, |check, text| address(check, text));
    }
    for (field, list) in [
        ("serviceAccounts", service_accounts),
        ("notServiceAccounts", not_service_accounts),
    ] {
        accounts(check, field, list);
    }
    let identities = [principals, not_principals, namespaces, not_namespaces];
    let named = !service_accounts.is_empty() || !not_service_accounts.is_empty();
    if named && identities.iter().any(|list| !list.is_empty()) {
        check.error("serviceAccounts cannot be used with principals or namespaces");
    }
}

fn accounts(check: &mut Checker<'_>, field: &'static str, list: &[Located<String>]) {
    if list.len() > ACCOUNTS {
        let found = list.len();
        check.error_at(
            field,
            format!("{found} accounts; at most {ACCOUNTS} are allowed"),
        );
    }
    check.each(field, list, |check, text| account(check, text));
}

fn account(check: &mut Checker<'_>, text: &str) {
    if text.len() > ACCOUNT {
        check.error(format!(
            "{} bytes; at most {ACCOUNT} are allowed",
            text.len()
        ));
    } else if text.contains('*') {
        check.error(format!(
            "{}: wildcards are not supported in serviceAccounts",
            quoted(text)
        ));
    } else if text.split('/').count() > 2 || text.split('/').any(str::is_empty) && !text.is_empty()
    {
        check.error(format!(
            "{} is neither account nor namespace/account",
            quoted(text)
        ));
    }
}

fn rule_operation(check: &mut Checker<'_>, operation: &RuleOperation) {
    let RuleOperation {
        hosts,
        not_hosts,
        ports,
        not_ports,
        methods,
        not_methods,
        paths,
        not_paths,
    } = operation;
    let lists = [
        ("hosts", hosts),
        ("notHosts", not_hosts),
        ("methods", methods),
        ("notMethods", not_methods),
        ("paths", paths),
        ("notPaths", not_paths),
    ];
    let numbers = [("ports", ports), ("notPorts", not_ports)];
    if lists
        .iter()
        .chain(&numbers)
        .all(|(_, list)| list.is_empty())
    {
        check.error("an operation must have at least one field");
    }
    for (field, list) in lists {
        not_empty(check, field, list);
    }
    for (field, list) in numbers {
        check.each(field, list, |check, text| port(check, text));
    }
    for (field, list) in [("hosts", hosts), ("notHosts", not_hosts)] {
        check.each(field, list, |check, text| {
            if text.contains(['{', '}']) {
                check.error(format!("{}: templates are for paths only", quoted(text)));
            }
        });
    }
    for (field, list) in [("paths", paths), ("notPaths", not_paths)] {
        check.each(field, list, |check, text| path(check, text));
    }
}

fn not_empty(check: &mut Checker<'_>, field: &'static str, list: &[Located<String>]) {
    check.each(field, list, |check, text| {
        if text.is_empty() {
            check.error("must not be empty");
        }
    });
}

fn address(check: &mut Checker<'_>, text: &str) {
    if !is_address_or_network(text) {
        let expected = "is neither an IP address nor a network such as 10.0.0.0/8";
        check.error(format!("{} {expected}", quoted(text)));
    }
}

fn port(check: &mut Checker<'_>, text: &str) {
    if !text.parse::<u16>().is_ok_and(|port| port > 0) {
        check.error(format!("{} is no port: expected 1 to 65535", quoted(text)));
    }
}

fn path(check: &mut Checker<'_>, text: &str) {
    let template = text.parse::<Template>();
    if Template::is_meant(text) {
        if let Err(error) = template {
            check.error(format!("{}: {error}", quoted(text)));
        }
    } else if text.contains(['{', '}']) {
        let segment = text
            .split('/')
            .find(|s| s.contains(['{', '}']))
            .unwrap_or(text);
        let error = InvalidTemplate::Segment(segment.into());
        check.error(format!("{}: {error}", quoted(text)));
    }
}

fn condition(check: &mut Checker<'_>, when: &RuleCondition, custom: bool) {
    let RuleCondition {
        key,
        values,
        not_values,
    } = when;
    if values.is_empty() && not_values.is_empty() {
        check.error("a condition needs values or notValues");
    }
    let attribute = match Attribute::parse(key) {
        Ok(attribute) => attribute,
        Err(why) => {
            check.within("key", |check| no_attribute(check, key, &why));
            return;
        }
    };
    if custom && is_late(&attribute) {
        let text = format!(
            "{} is not known yet when CUSTOM action decides",
            quoted(key)
        );
        check.error_at("key", text);
    }
    for (field, list) in [("values", values), ("notValues", not_values)] {
        check.each(field, list, |check, text| match attribute {
            Attribute::DestinationIp | Attribute::RemoteIp | Attribute::SourceIp => {
                address(check, text);
            }
            Attribute::DestinationPort => port(check, text),
            Attribute::ServiceAccount => account(check, text),
            Attribute::Namespace if !text.contains('*') && !is_dns_label(text) => {
                check.error(format!("{} is no namespace (DNS-1123 label)", quoted(text)));
            }
            _ if text.is_empty() => check.error("must not be empty"),
            _ => {}
        });
    }
}

/// Istio asks external authorizers before it knows whom the request is from.
fn is_late(attribute: &Attribute) -> bool {
    match attribute {
        Attribute::Audiences
        | Attribute::Claim(_)
        | Attribute::Namespace
        | Attribute::Presenter
        | Attribute::Principal
        | Attribute::RequestPrincipal
        | Attribute::ServiceAccount
        | Attribute::TrustDomain => true,
        Attribute::DestinationIp
        | Attribute::DestinationPort
        | Attribute::Header(_)
        | Attribute::RemoteIp
        | Attribute::Sni
        | Attribute::SourceIp => false,
    }
}

fn no_attribute(check: &mut Checker<'_>, key: &str, why: &NoAttribute) {
    match why {
        NoAttribute::Experimental => check.refuse_value(&quoted(key), None),
        NoAttribute::Name => {
            check.error(format!(
                "{} names nothing: expected [name] behind it",
                quoted(key)
            ));
        }
        NoAttribute::Obsolete => {
            let text = format!("{} is obsolete", quoted(key));
            check.error_hint(text, "select the workloads with selector.matchLabels");
        }
        NoAttribute::Unknown => {
            let text = format!("unknown attribute {}", quoted(key));
            match did_you_mean(key, KEYS.iter().copied()) {
                Some(near) => check.error_hint(text, format!("did you mean {near:?}?")),
                None => check.error_hint(text, format!("known: {}", KEYS.join(", "))),
            }
        }
    }
}
