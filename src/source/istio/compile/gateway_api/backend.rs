//! Where the requests of a rule go: which references hold, and what the others cost.

use std::sync::Arc;

use super::filter::Filters;
use super::rule::Rule;
use crate::model::Fraction;
use crate::model::route::Mirror;
use crate::source::istio::compile::Scope;
use crate::source::istio::compile::host::{closest, resource_name};
use crate::source::istio::fault::{Code, Fault, Faults};
use crate::source::istio::kinds::gateway_api::{
    GROUP, HttpRequestMirrorFilter, ReferenceGrantSpec,
};
use crate::source::istio::kinds::{Kind, Object};
use crate::source::istio::registry::warning;

/// The group of Istio's own kind of backend.
const ISTIO: &str = "networking.istio.io";

/// A reference to a backend, of either kind of route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backend<'a> {
    pub(super) group: Option<&'a str>,
    pub(super) kind: Option<&'a str>,
    pub(super) name: &'a str,
    pub(super) namespace: Option<&'a str>,
    pub(super) port: Option<u16>,
    pub(super) weight: Option<u32>,
    pub(super) filters: Filters<'a>,
    /// Line and column.
    pub(super) place: (u32, u32),
}

/// A target of copies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copies<'a> {
    pub(super) to: Backend<'a>,
    pub(super) share: Fraction,
    /// The place of its filter in the rule.
    filter: usize,
}

impl<'a> Copies<'a> {
    /// Reads a filter of the place `filter`; all requests, unless a share is written.
    pub(super) fn new(
        written: &'a HttpRequestMirrorFilter,
        filter: usize,
        place: (u32, u32),
    ) -> Self {
        let HttpRequestMirrorFilter {
            backend_ref: to,
            percent,
            fraction,
        } = written;
        let (part, whole) = match (percent, fraction) {
            (Some(percent), _) => (*percent, 100),
            (None, Some(share)) => (share.numerator, share.denominator.unwrap_or(100)),
            (None, None) => (1, 1),
        };
        let parts = (u64::from(part) * 1_000_000).checked_div(u64::from(whole));
        let parts = parts.and_then(|parts| u32::try_from(parts).ok());
        Self {
            to: Backend {
                group: to.group.as_deref(),
                kind: to.kind.as_deref(),
                name: &to.name,
                namespace: to.namespace.as_deref(),
                port: to.port,
                weight: None,
                filters: Filters::default(),
                place,
            },
            // Reading refuses more than the whole, and a whole of nothing.
            share: parts
                .and_then(|parts| Fraction::from_parts_per_million(parts).ok())
                .unwrap_or(Fraction::ONE),
            filter,
        }
    }
}

/// A backend that can be reached.
#[derive(Debug)]
pub(super) struct Reachable<'r, 'a> {
    pub(super) backend: &'r Backend<'a>,
    pub(super) port: Port,
    pub(super) weight: u32,
}

/// A port of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Port {
    pub(super) host: Arc<str>,
    pub(super) number: u16,
}

impl Port {
    /// The name of its cluster.
    pub(super) fn cluster(&self) -> Arc<str> {
        resource_name(self.number, "", &self.host)
    }
}

/// The backends of a rule.
#[derive(Debug, Default)]
pub(super) struct Resolved<'r, 'a> {
    pub(super) reachable: Vec<Reachable<'r, 'a>>,
    /// The weights of those that cannot be reached.
    pub(super) lost: u64,
}

/// Why a backend cannot be reached: the reason of the condition `ResolvedRefs`, and what was found.
struct Unresolved {
    reason: &'static str,
    text: String,
    hint: Option<String>,
}

impl Unresolved {
    fn new(reason: &'static str, text: String) -> Self {
        Self {
            reason,
            text,
            hint: None,
        }
    }

    /// The condition of the route, with what it costs.
    fn condition(self, route: &Object, at: (u32, u32), path: String, cost: &str) -> Fault {
        let Self { reason, text, hint } = self;
        let text = format!("ResolvedRefs=False ({reason}): {text}; {cost}");
        let fault = warning(route, Code::UnresolvedRefs, at, text).field(path);
        match hint {
            Some(hint) => fault.hinted(hint),
            None => fault,
        }
    }
}

impl Backend<'_> {
    fn weight(&self) -> u32 {
        self.weight.unwrap_or(1)
    }

    /// The port of a service that the reference means.
    fn find(&self, scope: &Scope<'_>, route: &Object) -> Result<Port, Unresolved> {
        let own = &*route.meta.namespace;
        let host = match (self.group.unwrap_or(""), self.kind.unwrap_or("Service")) {
            ("", "Service") => {
                let namespace = self.namespace.unwrap_or(own);
                if namespace != own && !scope.attached.grants.allow(route, namespace, self.name) {
                    let kind = route.kind.name();
                    let text = format!(
                        "no ReferenceGrant of the namespace {namespace} lets a {kind} of {own} \
                         refer to the Service {}",
                        self.name
                    );
                    return Err(Unresolved::new("RefNotPermitted", text));
                }
                let domain = scope.client.cluster_domain();
                format!("{}.{namespace}.svc.{domain}", self.name)
            }
            // A host is everybody's, so no namespace has to allow it.
            (ISTIO, "Hostname") if self.namespace.is_none() => self.name.to_owned(),
            (group, kind) => {
                let text = format!(
                    "found {kind:?} of the group {group:?}; a Service (group \"\"), or a Hostname \
                     (group {ISTIO:?}) without a namespace, is allowed"
                );
                return Err(Unresolved::new("InvalidKind", text));
            }
        };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let Some(service) = scope.view.service(&host) else {
            let text = format!("no service that the client sees has the host {host}");
            let known = scope.view.services().map(|service| &*service.host);
            let near = closest(&host, known);
            return Err(Unresolved {
                hint: near.map(|name| format!("did you mean {name}?")),
                ..Unresolved::new("BackendNotFound", text)
            });
        };
        let only = match service.ports.as_slice() {
            [only] => Some(only.number),
            _ => None,
        };
        let port = self.port.or(only).and_then(|port| service.port(port));
        let Some(port) = port else {
            let numbers = service.ports.iter().map(|port| port.number.to_string());
            let numbers: Vec<_> = numbers.collect();
            let text = match self.port {
                Some(port) => format!(
                    "the host {host} has no port {port}, only {}",
                    numbers.join(", ")
                ),
                None => format!("the host {host} needs a port: {}", numbers.join(", ")),
            };
            return Err(Unresolved::new("BackendNotFound", text));
        };
        Ok(Port {
            host: service.host.clone(),
            number: port.number,
        })
    }
}

/// Finds the clusters of a rule's backends and tells of those that have none.
pub(super) fn resolve<'r, 'a>(
    scope: &Scope<'_>,
    rule: &Rule<'a>,
    backends: &'r [Backend<'a>],
    faults: &mut Faults,
) -> Resolved<'r, 'a> {
    let total: u64 = backends.iter().map(|one| u64::from(one.weight())).sum();
    let mut resolved = Resolved::default();
    for (index, backend) in backends.iter().enumerate() {
        match backend.find(scope, rule.object) {
            Ok(port) => resolved.reachable.push(Reachable {
                backend,
                port,
                weight: backend.weight(),
            }),
            Err(unresolved) => {
                let weight = u64::from(backend.weight());
                resolved.lost += weight;
                let share = match (weight * 100).checked_div(total) {
                    None | Some(0) if weight == 0 => "no request goes there".to_owned(),
                    None | Some(0) => {
                        format!(
                            "less than 1 % of the requests are answered with {}",
                            rule.status
                        )
                    }
                    Some(percent) => {
                        format!(
                            "{percent} % of the requests are answered with {}",
                            rule.status
                        )
                    }
                };
                let path = rule.path(&format!("backendRefs[{index}]"));
                faults.push(unresolved.condition(rule.object, backend.place, path, &share));
            }
        }
    }
    resolved
}

/// Who gets copies of a rule's requests, and of which share; tells of targets that are not there.
pub(super) fn mirrors(
    scope: &Scope<'_>,
    rule: &Rule<'_>,
    written: &[Copies<'_>],
    faults: &mut Faults,
) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    for Copies { to, share, filter } in written {
        match to.find(scope, rule.object) {
            Ok(port) if *share != Fraction::ZERO => mirrors.push(Mirror {
                cluster: port.cluster(),
                share: *share,
            }),
            Ok(_) => {}
            Err(unresolved) => {
                let path = rule.path(&format!("filters[{filter}].requestMirror.backendRef"));
                let cost = "no request is copied";
                faults.push(unresolved.condition(rule.object, to.place, path, cost));
            }
        }
    }
    mirrors
}

/// All ReferenceGrants.
#[derive(Debug)]
pub(in super::super) struct Grants<'a> {
    all: Vec<(&'a str, &'a ReferenceGrantSpec)>,
}

impl<'a> Grants<'a> {
    pub(super) fn new(objects: &[&'a Object]) -> Self {
        let all = objects.iter().filter_map(|object| {
            let Kind::ReferenceGrant(grant) = &object.kind else {
                return None;
            };
            Some((&*object.meta.namespace, &**grant))
        });
        Self { all: all.collect() }
    }

    /// Whether the namespace lets a route send requests to one of its services.
    fn allow(&self, route: &Object, namespace: &str, service: &str) -> bool {
        let (kind, own) = (route.kind.name(), &*route.meta.namespace);
        let from = |grant: &ReferenceGrantSpec| {
            let mut all = grant.from.iter();
            all.any(|from| from.group == GROUP && from.kind == kind && from.namespace == own)
        };
        let to = |grant: &ReferenceGrantSpec| {
            grant.to.iter().any(|to| {
                to.group.is_empty()
                    && to.kind == "Service"
                    && to.name.as_deref().is_none_or(|name| name == service)
            })
        };
        let mut grants = self.all.iter();
        grants.any(|(home, grant)| *home == namespace && from(grant) && to(grant))
    }
}
