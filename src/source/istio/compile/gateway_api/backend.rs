//! Where the requests of a rule go: which references hold, and what the others cost.

use std::sync::Arc;

use super::filter::Filters;
use super::rule::Rule;
use crate::source::istio::compile::Scope;
use crate::source::istio::compile::host::{closest, resource_name};
use crate::source::istio::fault::{Code, Faults};
use crate::source::istio::kinds::gateway_api::{GROUP, ReferenceGrantSpec};
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

/// A backend that can be reached.
#[derive(Debug)]
pub(super) struct Reachable<'r, 'a> {
    pub(super) backend: &'r Backend<'a>,
    pub(super) cluster: Arc<str>,
    pub(super) weight: u32,
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
}

impl Backend<'_> {
    fn weight(&self) -> u32 {
        self.weight.unwrap_or(1)
    }

    /// The cluster that the reference means.
    fn cluster(&self, scope: &Scope<'_>, route: &Object) -> Result<Arc<str>, Unresolved> {
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
        Ok(resource_name(port.number, "", &service.host))
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
        match backend.cluster(scope, rule.object) {
            Ok(cluster) => resolved.reachable.push(Reachable {
                backend,
                cluster,
                weight: backend.weight(),
            }),
            Err(unresolved) => {
                let weight = u64::from(backend.weight());
                resolved.lost += weight;
                let Unresolved { reason, text, hint } = unresolved;
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
                let text = format!("ResolvedRefs=False ({reason}): {text}; {share}");
                let fault = warning(rule.object, Code::UnresolvedRefs, backend.place, text);
                let fault = fault.field(rule.path(&format!("backendRefs[{index}]")));
                faults.push(match hint {
                    Some(hint) => fault.hinted(hint),
                    None => fault,
                });
            }
        }
    }
    resolved
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
