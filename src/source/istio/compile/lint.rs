//! What is legal and probably not meant, found by looking at several objects at once.
//!
//! The first group are messages that `istioctl analyze` has too (`IST0101` and so on, see
//! [`Code::istio`]); the second are traps that Istio leaves in silence. Each is one function. They
//! speak of what concerns the client that is compiled for and nothing else, so a set for many
//! namespaces does not drown one of them in the troubles of the others.

use super::Scope;
use super::action::has_substitution;
use super::host::closest;
use super::policy::{Blocks, Ejection};
use super::route::{Rule, Target};
use super::rules::Rules;
use crate::model::Cluster;
use crate::model::cluster::Protocol;
use crate::source::istio::fault::{Code, Fault, Faults, Severity};
use crate::source::istio::kinds::{
    GoDuration, Headers, HttpMatch, HttpRouteDestination, Object, Retries, Subset,
};
use crate::source::istio::registry::{Home, Port, PortProtocol, Service, place, warning};
use crate::source::istio::yaml::Located;

/// Methods that may be repeated without harm (RFC 9110 §9.2.2).
const IDEMPOTENT: [&str; 6] = ["DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"];

// === Services and hosts ===

/// Lints of the services that the client sees.
pub(super) fn services(scope: &mut Scope<'_>) {
    for service in scope.view.services() {
        for port in &service.ports {
            port_without_protocol(service, port, &mut scope.faults);
        }
    }
}

/// IST0118: nothing says what a port speaks, so requests are sent as they were made.
fn port_without_protocol(service: &Service<'_>, port: &Port, faults: &mut Faults) {
    if service.home != Home::Kubernetes || port.protocol != PortProtocol::Unknown {
        return;
    }
    let text = format!(
        "the name {:?} of port {} does not say what is spoken there; requests are sent in the \
         version of HTTP in which they were made",
        &*port.name, port.number
    );
    let fault = warning(service.object, Code::PortName, (port.line, 1), text);
    faults.push(fault.hinted("begin the name with http, http2 or grpc, or write appProtocol"));
}

/// Lints of the hosts that rules speak of.
pub(super) fn hosts(scope: &mut Scope<'_>, rules: &Rules<'_>) {
    let known: Vec<&str> = scope
        .view
        .services()
        .map(|service| &*service.host)
        .collect();
    rule_without_service(scope.client.namespace(), rules, &known, &mut scope.faults);
    let mut faults = Faults::default();
    for claim in scope.claims.without_service() {
        for (index, written) in claim.spec.hosts.iter().enumerate() {
            let host = (index, written, &*claim.host);
            half_qualified(claim.object, host, &known, &mut faults);
        }
    }
    tcp_only(scope, &mut faults);
    scope.faults.extend(faults);
}

/// IST0174: a DestinationRule for a host that nobody has.
fn rule_without_service(client: &str, rules: &Rules<'_>, known: &[&str], faults: &mut Faults) {
    for (object, written, host) in rules.without_service(client, known) {
        let fault = warning(
            object,
            Code::HostUnknown,
            place(written),
            format!("has no effect: no service has the host {host}"),
        );
        faults.push(suggested(fault.field("host"), host, known));
    }
}

/// `catalog.my-app` has a dot, so it is not completed, and is the host of nobody.
fn half_qualified(
    object: &Object,
    (index, written, claimed): (usize, &Located<String>, &str),
    known: &[&str],
    faults: &mut Faults,
) {
    if !written.contains('.') || !written.eq_ignore_ascii_case(claimed) {
        return;
    }
    let Some(full) = closest(claimed, known.iter().copied()) else {
        return;
    };
    if !full.starts_with(claimed) {
        return;
    }
    let text = format!("{claimed} is not the host {full}: a name with a dot is not completed");
    faults.push(
        warning(object, Code::Suspicious, place(written), text)
            .field(format!("hosts[{index}]"))
            .hinted(format!("write {full}")),
    );
}

/// HTTP rules for a service that has no HTTP port are never asked.
fn tcp_only(scope: &Scope<'_>, faults: &mut Faults) {
    for service in scope.view.services() {
        let tcp = |port: &Port| !port.protocol.routes_http();
        let Some(claim) = scope.claims.of(&service.host) else {
            continue;
        };
        let none = !service.ports.is_empty() && service.ports.iter().all(tcp);
        if none && !claim.spec.http.is_empty() {
            let text = format!(
                "has no effect for the host {}: its ports are not HTTP by their name or appProtocol",
                service.host
            );
            faults.push(warning(claim.object, Code::NoEffect, (0, 0), text).field("http"));
        }
    }
}

fn suggested(fault: Fault, wanted: &str, known: &[&str]) -> Fault {
    match closest(wanted, known.iter().copied()) {
        Some(name) => fault.hinted(format!("did you mean {name}?")),
        None => fault,
    }
}

// === Rules of a VirtualService ===

/// Lints of one HTTP rule.
pub(super) fn rule(scope: &Scope<'_>, rule: Rule<'_, '_>, faults: &mut Faults) {
    for (index, destination) in rule.spec.route.iter().enumerate() {
        let destination = Way {
            scope,
            rule,
            index,
            written: destination,
        };
        faults_of(destination.check(), faults);
        substitutions(rule, destination.written.headers.as_ref(), faults);
    }
    substitutions(rule, rule.spec.headers.as_ref(), faults);
    if let Some(retries) = &rule.spec.retries {
        faults_of(tries_beyond_timeout(rule, retries), faults);
        faults_of(covered_token(rule, retries), faults);
        faults_of(repeats_any_method(rule, retries), faults);
    }
}

fn faults_of(found: Option<Fault>, faults: &mut Faults) {
    if let Some(fault) = found {
        faults.push(fault);
    }
}

/// One destination of a rule.
struct Way<'s, 'r, 'a> {
    scope: &'s Scope<'a>,
    rule: Rule<'r, 'a>,
    index: usize,
    written: &'s HttpRouteDestination,
}

impl Way<'_, '_, '_> {
    fn path(&self, field: &str) -> String {
        let field = format!("route[{}].destination.{field}", self.index);
        self.rule.path(&field)
    }

    fn warn(&self, code: Code, at: (u32, u32), field: &str, text: String) -> Fault {
        let fault = self.rule.fault(Severity::Warning, code, at, text);
        fault.field(self.path(field))
    }

    fn check(&self) -> Option<Fault> {
        let written = self.written.destination.as_ref()?;
        let target = self.rule.target(self.scope, written);
        let Some(service) = self.scope.view.service(&target.host) else {
            return Some(self.unknown_host(&target, place(&written.host)));
        };
        if let Some(port) = &written.port
            && service.port(port.number).is_none()
        {
            return Some(self.unknown_port(service, port.number, place(port)));
        }
        if let Some(subset) = &written.subset {
            let unknown = self.unknown_subset(&target, subset);
            if unknown.is_some() {
                return unknown;
            }
        }
        let ambiguous = written.port.is_none() && service.ports.len() > 1;
        ambiguous.then(|| self.port_required(service, place(&written.host)))
    }

    /// IST0101: nobody has the host.
    fn unknown_host(&self, target: &Target, at: (u32, u32)) -> Fault {
        let known: Vec<&str> = self
            .scope
            .view
            .services()
            .map(|service| &*service.host)
            .collect();
        let text = format!("no service has the host {}{}", target.host, self.share());
        suggested(
            self.warn(Code::NotFound, at, "host", text),
            &target.host,
            &known,
        )
    }

    /// IST0101: the service has no such port.
    fn unknown_port(&self, service: &Service<'_>, port: u16, at: (u32, u32)) -> Fault {
        let text = format!(
            "the host {} has no port {port}, only {}{}",
            service.host,
            numbers(service),
            self.share()
        );
        self.warn(Code::NotFound, at, "port.number", text)
    }

    /// IST0101: no DestinationRule that the client uses has such a subset.
    fn unknown_subset(&self, target: &Target, written: &Located<String>) -> Option<Fault> {
        let rule = self.scope.effective.get(&target.host);
        let names: Vec<&str> = rule.map_or_else(Vec::new, |rule| {
            let subsets = rule.subsets.iter();
            subsets.map(|(_, subset)| subset.name.as_str()).collect()
        });
        if names.contains(&written.as_str()) {
            return None;
        }
        let known = match names.as_slice() {
            [] => format!("no DestinationRule defines subsets of {}", target.host),
            some => format!("{} has {}", target.host, some.join(", ")),
        };
        let text = format!("no subset {:?}: {known}{}", written.value, self.share());
        let fault = self.warn(Code::NotFound, place(written), "subset", text);
        Some(suggested(fault, written, &names))
    }

    /// IST0112: the service has several ports and none is named.
    fn port_required(&self, service: &Service<'_>, at: (u32, u32)) -> Fault {
        let text = format!(
            "the host {} has several ports ({}); the one that the client calls is used",
            service.host,
            numbers(service)
        );
        self.warn(Code::PortRequired, at, "port", text)
            .hinted("write port: {number: ...}")
    }

    /// What it costs that the destination does not exist.
    fn share(&self) -> String {
        let all = &self.rule.spec.route;
        let total: u64 = all.iter().map(|one| u64::from(one.weight)).sum();
        if all.len() < 2 || total == 0 {
            return "; these requests are answered with 503".to_owned();
        }
        let percent = u64::from(self.written.weight).saturating_mul(100) / total;
        format!("; {percent} % of these requests are answered with 503")
    }
}

fn numbers(service: &Service<'_>) -> String {
    let numbers = service.ports.iter().map(|port| port.number.to_string());
    numbers.collect::<Vec<_>>().join(", ")
}

/// Envoy's `%REQ(...)%` is sent as it stands.
fn substitutions(rule: Rule<'_, '_>, headers: Option<&Headers>, faults: &mut Faults) {
    let Some(Headers { request, response }) = headers else {
        return;
    };
    let blocks = [("request", request), ("response", response)];
    for (side, block) in blocks {
        let Some(block) = block else { continue };
        for (name, value) in block.set.iter().chain(&block.add) {
            if has_substitution(value) {
                let text = format!("the header {name} is sent as it stands: {value:?}");
                let fault = rule.fault(Severity::Warning, Code::NoEffect, (0, 0), text);
                faults.push(
                    fault
                        .field(rule.path(&format!("headers.{side}")))
                        .hinted("Envoy's substitutions are not known here; %% is a percent sign"),
                );
            }
        }
    }
}

/// Tries that the timeout of the whole call cuts short or never lets begin.
fn tries_beyond_timeout(rule: Rule<'_, '_>, retries: &Located<Retries>) -> Option<Fault> {
    let total = set(rule.spec.timeout)?;
    let each = set(retries.per_try_timeout)?;
    let tries = retries.attempts.saturating_add(1);
    let at = place(retries);
    if retries.attempts == 0 {
        return None;
    }
    if each >= total {
        let text = format!("{each:?} has no effect: the whole call has {total:?}");
        let fault = rule.fault(Severity::Warning, Code::Suspicious, at, text);
        return Some(fault.field(rule.path("retries.perTryTimeout")));
    }
    if each.saturating_mul(tries) <= total {
        return None;
    }
    let text = format!(
        "{tries} tries of {each:?} do not fit into the timeout of {total:?}: the later ones are \
         cut short or never made"
    );
    let fault = rule.fault(Severity::Warning, Code::Suspicious, at, text);
    Some(fault.field(rule.path("retries.attempts")))
}

fn set(duration: Option<GoDuration>) -> Option<std::time::Duration> {
    duration
        .map(std::time::Duration::from)
        .filter(|duration| !duration.is_zero())
}

/// Tokens that `5xx` contains.
fn covered_token(rule: Rule<'_, '_>, retries: &Retries) -> Option<Fault> {
    const COVERED: [&str; 5] = [
        "connect-failure",
        "refused-stream",
        "reset",
        "reset-before-request",
        "gateway-error",
    ];
    let on = retries.retry_on.as_ref()?;
    let tokens: Vec<&str> = on.split(',').collect();
    if !tokens.contains(&"5xx") {
        return None;
    }
    let covered: Vec<&str> = COVERED
        .into_iter()
        .filter(|token| tokens.contains(token))
        .collect();
    if covered.is_empty() {
        return None;
    }
    let text = format!("5xx contains {} already", covered.join(", "));
    let fault = rule.fault(Severity::Warning, Code::Suspicious, place(on), text);
    Some(fault.field(rule.path("retries.retryOn")))
}

/// Answers that make a request be repeated although it may have had an effect.
fn repeats_any_method(rule: Rule<'_, '_>, retries: &Retries) -> Option<Fault> {
    let on = retries.retry_on.as_ref()?;
    let risky = |token: &str| {
        matches!(token, "5xx" | "gateway-error" | "reset") || token.parse::<u16>().is_ok()
    };
    let token = on.split(',').find(|token| risky(token))?;
    let safe = |block: &Located<HttpMatch>| {
        let method = block
            .method
            .as_ref()
            .and_then(|method| method.exact.as_deref());
        method.is_some_and(|method| IDEMPOTENT.contains(&method))
    };
    let all_safe = !rule.spec.matches.is_empty() && rule.spec.matches.iter().all(safe);
    if retries.attempts == 0 || all_safe {
        return None;
    }
    let text = format!("{token} repeats POST and PATCH too, which may have had an effect");
    let fault = rule.fault(Severity::Warning, Code::Suspicious, place(on), text);
    Some(
        fault
            .field(rule.path("retries.retryOn"))
            .hinted("match the methods that may be repeated in a rule of their own"),
    )
}

// === Policies and subsets ===

/// Lints of the policy of one cluster.
pub(super) fn policy(
    object: &Object,
    cluster: &Cluster,
    blocks: &Blocks<'_>,
    endpoints: usize,
    faults: &mut Faults,
) {
    faults_of(never_ejects(object, cluster, blocks, endpoints), faults);
    faults_of(short_http2_connections(object, cluster, blocks), faults);
    faults_of(rounded_budget(object, blocks), faults);
    faults_of(budget_interval(object, blocks), faults);
}

/// With Envoy's rule a small cluster never ejects anybody.
fn never_ejects(
    object: &Object,
    cluster: &Cluster,
    blocks: &Blocks<'_>,
    endpoints: usize,
) -> Option<Fault> {
    let outlier = cluster.outlier.as_ref()?;
    let ejection = if outlier.always_eject_one {
        Ejection::AtLeastOne
    } else {
        Ejection::Envoy
    };
    let percent = outlier.max_ejection.value() as usize;
    let none = endpoints > 0 && endpoints.saturating_mul(percent) < 100;
    match ejection {
        Ejection::Envoy if none => {}
        Ejection::Envoy | Ejection::AtLeastOne => return None,
    }
    let text = format!(
        "never ejects: {percent} % of {endpoints} endpoints is less than one in the cluster {}",
        cluster.name
    );
    let at = blocks.outlier.map_or((0, 0), place);
    let fault = warning(object, Code::Suspicious, at, text).field("outlierDetection");
    Some(fault.hinted("raise maxEjectionPercent"))
}

/// HTTP/2 exists to share a connection.
fn short_http2_connections(
    object: &Object,
    cluster: &Cluster,
    blocks: &Blocks<'_>,
) -> Option<Fault> {
    let most = cluster.connection.max_requests?;
    if cluster.protocol != Protocol::Http2 {
        return None;
    }
    let text =
        format!("renews an HTTP/2 connection after {most} requests, streams in flight finish");
    let at = blocks.pool.map_or((0, 0), place);
    let path = "connectionPool.http.maxRequestsPerConnection";
    Some(warning(object, Code::Suspicious, at, text).field(path))
}

/// The model has whole percentages.
fn rounded_budget(object: &Object, blocks: &Blocks<'_>) -> Option<Fault> {
    let budget = blocks.budget?;
    let percent = budget.percent.filter(|percent| percent.fract() != 0.0)?;
    let text = format!("{percent} % is rounded to {} %", percent.round());
    let fault = warning(object, Code::NoEffect, place(budget), text);
    Some(fault.field("retryBudget.percent"))
}

/// Only requests in flight count.
fn budget_interval(object: &Object, blocks: &Blocks<'_>) -> Option<Fault> {
    let budget = blocks.budget?;
    let interval = set(budget.budget_interval)?;
    let text = format!("known, not yet supported: {interval:?}; requests in flight are counted");
    let (line, column) = place(budget);
    let fault = Fault::new(Severity::Error, Code::NotSupported, text);
    Some(
        fault
            .at(&object.file, line.max(1), column)
            .object_ref(object.reference())
            .field("retryBudget.budgetInterval"),
    )
}

/// IST0173: the labels of a subset are on nobody, so its requests are answered with 503.
pub(super) fn empty_subset(
    object: &Object,
    subset: &Located<Subset>,
    service: &Service<'_>,
    port: &Port,
    selected: usize,
    faults: &mut Faults,
) {
    if selected > 0 || port.members.is_empty() {
        return;
    }
    let labels = subset.labels.iter();
    let labels: Vec<String> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let text = format!(
        "the labels {} select no endpoint of {}; its requests are answered with 503",
        labels.join(","),
        service.host
    );
    let fault = warning(object, Code::SubsetEmpty, place(&subset.name), text);
    faults.push(fault.field(format!("subsets[name={}]", subset.name.value)));
}
