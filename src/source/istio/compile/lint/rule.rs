//! Lints of the HTTP rules of a VirtualService.

use std::time::Duration;

use super::super::Scope;
use super::super::action::has_substitution;
use super::super::route::Rule;
use super::super::target::Target;
use super::{found, suggested};
use crate::source::istio::fault::{Code, Fault, Faults, Severity};
use crate::source::istio::kinds::{Destination, GoDuration, Headers, HttpMatch, Retries};
use crate::source::istio::registry::{Service, place};
use crate::source::istio::yaml::Located;

/// Methods that may be repeated without harm (RFC 9110 §9.2.2).
const IDEMPOTENT: [&str; 6] = ["DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"];

/// Lints of one HTTP rule.
pub(in super::super) fn rule(scope: &Scope<'_>, rule: Rule<'_>, faults: &mut Faults) {
    for (index, destination) in rule.spec.route.iter().enumerate() {
        if let Some(written) = &destination.destination {
            let way = Way {
                scope,
                rule,
                path: format!("route[{index}].destination"),
                written,
                cost: share(rule, destination.weight),
            };
            found(way.check(), faults);
        }
        substitutions(rule, destination.headers.as_ref(), faults);
    }
    let several = rule.spec.mirrors.iter().enumerate();
    let several = several.filter_map(|(index, mirror)| {
        let path = format!("mirrors[{index}].destination");
        Some((path, mirror.destination.as_ref()?))
    });
    let one = rule.spec.mirror.iter().map(|to| ("mirror".to_owned(), to));
    for (path, written) in one.chain(several) {
        let way = Way {
            scope,
            rule,
            path,
            written,
            cost: "; no request is copied".to_owned(),
        };
        found(way.check(), faults);
    }
    substitutions(rule, rule.spec.headers.as_ref(), faults);
    if let Some(retries) = &rule.spec.retries {
        found(tries_beyond_timeout(rule, retries), faults);
        found(covered_token(rule, retries), faults);
        found(repeats_any_method(rule, retries), faults);
    }
}

/// One destination of a rule.
struct Way<'s, 'r, 'a> {
    scope: &'s Scope<'a>,
    rule: Rule<'r>,
    path: String,
    written: &'s Destination,
    /// What happens if the destination does not exist.
    cost: String,
}

impl Way<'_, '_, '_> {
    fn path(&self, field: &str) -> String {
        self.rule.path(&format!("{}.{field}", self.path))
    }

    fn warn(&self, code: Code, at: (u32, u32), field: &str, text: String) -> Fault {
        let fault = self.rule.fault(Severity::Warning, code, at, text);
        fault.field(self.path(field))
    }

    fn check(&self) -> Option<Fault> {
        let written = self.written;
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
        let text = format!("no service has the host {}{}", target.host, self.cost);
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
            self.cost
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
        let text = format!("no subset {:?}: {known}{}", written.value, self.cost);
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
}

/// What it costs that a destination of this weight does not exist.
fn share(rule: Rule<'_>, weight: u32) -> String {
    let all = &rule.spec.route;
    let total: u64 = all.iter().map(|one| u64::from(one.weight)).sum();
    if all.len() < 2 || total == 0 {
        return "; these requests are answered with 503".to_owned();
    }
    let percent = u64::from(weight).saturating_mul(100) / total;
    format!("; {percent} % of these requests are answered with 503")
}

fn numbers(service: &Service<'_>) -> String {
    let numbers = service.ports.iter().map(|port| port.number.to_string());
    numbers.collect::<Vec<_>>().join(", ")
}

/// Envoy's `%REQ(...)%` is sent as it stands.
fn substitutions(rule: Rule<'_>, headers: Option<&Headers>, faults: &mut Faults) {
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
fn tries_beyond_timeout(rule: Rule<'_>, retries: &Located<Retries>) -> Option<Fault> {
    let total = set(rule.spec.timeout)?;
    let each = set(retries.per_try_timeout)?;
    let tries = retries.attempts.saturating_add(1);
    let at = place(retries);
    if retries.attempts == 0 {
        return None;
    }
    if each >= total {
        let text = format!("{each:?} has no effect: the whole call has {total:?}");
        let fault = rule.fault(Severity::Warning, Code::TriesCut, at, text);
        return Some(fault.field(rule.path("retries.perTryTimeout")));
    }
    if each.saturating_mul(tries) <= total {
        return None;
    }
    let text = format!(
        "{tries} tries of {each:?} do not fit into the timeout of {total:?}: the later ones are \
         cut short or never made"
    );
    let fault = rule.fault(Severity::Warning, Code::TriesCut, at, text);
    Some(fault.field(rule.path("retries.attempts")))
}

/// A duration that is a limit: zero is none.
pub(super) fn set(duration: Option<GoDuration>) -> Option<Duration> {
    duration
        .map(Duration::from)
        .filter(|duration| !duration.is_zero())
}

/// Tokens that `5xx` contains.
fn covered_token(rule: Rule<'_>, retries: &Retries) -> Option<Fault> {
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
    let fault = rule.fault(Severity::Warning, Code::RetryToken, place(on), text);
    Some(fault.field(rule.path("retries.retryOn")))
}

/// Answers that make a request be repeated although it may have had an effect.
fn repeats_any_method(rule: Rule<'_>, retries: &Retries) -> Option<Fault> {
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
    let fault = rule.fault(Severity::Warning, Code::RetryUnsafe, place(on), text);
    Some(
        fault
            .field(rule.path("retries.retryOn"))
            .hinted("match the methods that may be repeated in a rule of their own"),
    )
}
