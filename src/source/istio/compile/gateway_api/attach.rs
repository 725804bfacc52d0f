//! Which routes are attached to which services, as seen by one client.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::rule::Rule;
use super::{Grants, Set, taken};
use crate::source::istio::compile::virtual_service::precedence;
use crate::source::istio::fault::{Code, Fault, Faults};
use crate::source::istio::kinds::gateway_api::{GrpcRouteSpec, HttpRouteSpec, ParentReference};
use crate::source::istio::kinds::{Kind, Object};
use crate::source::istio::registry::{Service, View, place, warning};
use crate::source::istio::yaml::Located;
use crate::workload::Workload;

/// The group of a ServiceEntry.
const ISTIO: &str = "networking.istio.io";

/// What a route says, by its kind.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spec<'a> {
    Grpc(&'a GrpcRouteSpec),
    Http(&'a HttpRouteSpec),
}

/// A route at one of its services.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attachment<'a> {
    pub(super) object: &'a Object,
    pub(super) spec: Spec<'a>,
    /// Its place among all objects by age.
    pub(super) age: usize,
    /// Whether it is of the client's own namespace.
    pub(super) own: bool,
    /// The only port it is for.
    port: Option<u16>,
}

/// All routes that concern a client, by the host of the service that they are attached to.
#[derive(Debug)]
pub(in super::super) struct Attached<'a> {
    by_host: BTreeMap<Arc<str>, Vec<Attachment<'a>>>,
    pub(super) grants: Grants<'a>,
}

impl<'a> Attached<'a> {
    /// Reads the routes; `objects` are in the order of age.
    pub(in super::super) fn new(
        objects: &[&'a Object],
        client: &Workload,
        view: &View<'a>,
        faults: &mut Faults,
    ) -> Self {
        let mut by_host: BTreeMap<Arc<str>, Vec<Attachment<'a>>> = BTreeMap::new();
        let parents = Parents {
            objects,
            client,
            view,
        };
        for (age, &object) in objects.iter().enumerate() {
            let Some(spec) = spec(object) else { continue };
            let mut found = Vec::new();
            for (index, written) in spec.parents().iter().enumerate() {
                match parents.find(object, written) {
                    Ok(hosts) => found.extend(hosts),
                    Err(text) => faults.push(not_accepted(object, index, written, &text)),
                }
            }
            if found.is_empty() || !supported(object, spec, faults) {
                continue;
            }
            for Spot { host, port } in found {
                by_host.entry(host).or_default().push(Attachment {
                    object,
                    spec,
                    age,
                    own: *object.meta.namespace == *client.namespace(),
                    port,
                });
            }
        }
        for attachments in by_host.values_mut() {
            // The Gateway API's order: age where there is one, then namespace and name.
            attachments.sort_by_key(|one| {
                let meta = &one.object.meta;
                let creation = meta.creation.as_deref();
                (creation.is_none(), creation, &*meta.namespace, &*meta.name)
            });
        }
        Self {
            by_host,
            grants: Grants::new(objects),
        }
    }

    /// The routes that count for a port of a service: those of the client's own namespace if there
    /// are any, and of these the ones whose kind is that of the oldest.
    pub(super) fn set(&self, host: &str, port: u16, faults: &mut Faults) -> Option<Set<'_, 'a>> {
        let concerning = |one: &&Attachment<'a>| one.port.is_none_or(|wanted| wanted == port);
        let mut all: Vec<_> = self.by_host.get(host)?.iter().filter(concerning).collect();
        if all.iter().any(|one| one.own) {
            all.retain(|one| one.own);
        }
        // A route may name the service and, once more, one of its ports.
        all.dedup_by(|later, first| std::ptr::eq(later.object, first.object));
        let first = *all.first()?;
        all.retain(|one| {
            let same = one.spec.kind() == first.spec.kind();
            if !same {
                let why = precedence_by_name(first.object, one.object);
                taken(one.object, first.object, host, why, faults);
            }
            same
        });
        Some(Set { first, all })
    }
}

/// Without a creation time routes are in the order of their names, not of their files.
fn precedence_by_name(first: &Object, second: &Object) -> &'static str {
    match (&first.meta.creation, &second.meta.creation) {
        (None, None) => "first by its name",
        (_, _) => precedence(first, second),
    }
}

impl<'a> Attachment<'a> {
    /// The rules of the route.
    pub(super) fn rules(&self, faults: &mut Faults) -> Vec<Rule<'a>> {
        let (rules, refused) = match self.spec {
            Spec::Grpc(spec) => Rule::of_grpc(self.object, spec),
            Spec::Http(spec) => Rule::of_http(self.object, spec),
        };
        faults.extend(refused);
        rules
    }
}

impl<'a> Spec<'a> {
    fn parents(self) -> &'a [Located<ParentReference>] {
        match self {
            Self::Grpc(spec) => &spec.parent_refs,
            Self::Http(spec) => &spec.parent_refs,
        }
    }

    /// Which rules ask for an extension.
    fn extended(self) -> Vec<bool> {
        match self {
            Self::Grpc(spec) => {
                let rules = spec.rules.iter();
                rules
                    .map(|rule| rule.filters.iter().any(|one| one.extension_ref.is_some()))
                    .collect()
            }
            Self::Http(spec) => {
                let rules = spec.rules.iter();
                rules
                    .map(|rule| rule.filters.iter().any(|one| one.extension_ref.is_some()))
                    .collect()
            }
        }
    }
}

fn spec(object: &Object) -> Option<Spec<'_>> {
    match &object.kind {
        Kind::GrpcRoute(spec) => Some(Spec::Grpc(spec)),
        Kind::HttpRoute(spec) => Some(Spec::Http(spec)),
        Kind::AuthorizationPolicy(_)
        | Kind::DestinationRule(_)
        | Kind::EndpointSlice(_)
        | Kind::HttpLocalRateLimitPolicy(_)
        | Kind::LinkerdServer(_)
        | Kind::Endpoints(_)
        | Kind::MeshConfig(_)
        | Kind::Namespace(_)
        | Kind::PeerAuthentication(_)
        | Kind::Pod(_)
        | Kind::BackendTlsPolicy(_)
        | Kind::BackendTrafficPolicy(_)
        | Kind::ReferenceGrant(_)
        | Kind::RequestAuthentication(_)
        | Kind::Service(_)
        | Kind::ServiceAccount(_)
        | Kind::ServiceEntry(_)
        | Kind::Gateway(_)
        | Kind::Sidecar(_)
        | Kind::Telemetry(_)
        | Kind::VirtualService(_)
        | Kind::Workload(_)
        | Kind::WorkloadEntry(_)
        | Kind::WorkloadGroup(_) => None,
    }
}

/// Says which rules cannot be carried out; false if all of them cannot.
fn supported(object: &Object, spec: Spec<'_>, faults: &mut Faults) -> bool {
    let extended = spec.extended();
    let why = "the filter ExtensionRef is of another implementation";
    if !extended.is_empty() && extended.iter().all(|one| *one) {
        let text = format!("Accepted=False (UnsupportedValue): {why}, in all rules");
        faults.push(warning(object, Code::NotAccepted, (0, 0), text).field("rules"));
        return false;
    }
    for (index, _) in extended.iter().enumerate().filter(|(_, one)| **one) {
        let text = format!(
            "PartiallyInvalid=True (UnsupportedValue): {why}; requests of this rule are answered \
             with {}",
            spec.unresolved()
        );
        let fault = warning(object, Code::PartiallyInvalid, (0, 0), text);
        faults.push(fault.field(format!("rules[{index}].filters")));
    }
    true
}

fn not_accepted(
    object: &Object,
    index: usize,
    written: &Located<ParentReference>,
    text: &str,
) -> Fault {
    let text = format!("Accepted=False {text}");
    warning(object, Code::NotAccepted, place(written), text).field(format!("parentRefs[{index}]"))
}

/// What a route is attached to: a service, or one port of it.
struct Spot {
    host: Arc<str>,
    port: Option<u16>,
}

/// Finds what routes are attached to.
struct Parents<'s, 'a> {
    objects: &'s [&'a Object],
    client: &'s Workload,
    view: &'s View<'a>,
}

impl<'a> Parents<'_, 'a> {
    /// Hosts and ports; none if the parent does not concern this client.
    fn find(&self, route: &Object, parent: &ParentReference) -> Result<Vec<Spot>, String> {
        if parent.is_gateway() {
            return Ok(Vec::new());
        }
        let own = &*route.meta.namespace;
        let namespace = parent.namespace.as_deref().unwrap_or(own);
        // A producer route speaks for all clients, a consumer route for those of its namespace.
        let concerns = own == namespace || own == self.client.namespace();
        let hosts = match (parent.group(), parent.kind()) {
            ("", "Service") => {
                let domain = self.client.cluster_domain();
                vec![format!("{}.{namespace}.svc.{domain}", parent.name.value)]
            }
            (ISTIO, "ServiceEntry") => self.entry_hosts(namespace, &parent.name)?,
            (group, kind) => {
                return Err(format!(
                    "(InvalidKind): found {kind:?} of the group {group:?}; a Service (group \"\") \
                     or ServiceEntry (group {ISTIO:?}) is allowed"
                ));
            }
        };
        if !concerns {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for host in hosts {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            // Another name of a service has the rules of the service.
            let service = self.view.service(&host);
            let Some(service) = service.filter(|service| *service.host == *host) else {
                let text = "no service that the client sees has the host";
                return Err(format!("(NoMatchingParent): {text} {host}"));
            };
            found.push(Spot {
                host: service.host.clone(),
                port: port(service, parent)?,
            });
        }
        Ok(found)
    }

    fn entry_hosts(&self, namespace: &str, name: &str) -> Result<Vec<String>, String> {
        let entry = self.objects.iter().find_map(|object| {
            let Kind::ServiceEntry(spec) = &object.kind else {
                return None;
            };
            let meta = &object.meta;
            (*meta.namespace == *namespace && *meta.name == *name).then_some(spec)
        });
        let entry = entry
            .ok_or_else(|| format!("(NoMatchingParent): no ServiceEntry {namespace}/{name}"))?;
        Ok(entry.hosts.iter().map(|host| host.value.clone()).collect())
    }
}

/// The port that a parent reference narrows itself to.
fn port(service: &Service<'_>, parent: &ParentReference) -> Result<Option<u16>, String> {
    let named = match parent.section_name.as_deref() {
        None => None,
        Some(name) => {
            let mut ports = service.ports.iter();
            let port = ports.find(|port| *port.name == *name);
            let unknown = || {
                format!(
                    "(NoMatchingParent): {} has no port named {name:?}",
                    service.host
                )
            };
            Some(port.ok_or_else(unknown)?.number)
        }
    };
    let number = match (named, parent.port) {
        (Some(named), Some(number)) if named != number => {
            return Err(format!(
                "(NoMatchingParent): sectionName is port {named}, port says {number}"
            ));
        }
        (named, number) => named.or(number),
    };
    let Some(number) = number else {
        let http = service.ports.iter().any(|port| port.protocol.routes_http());
        let text = "(UnsupportedProtocol): no port is HTTP by its name or appProtocol on";
        if http || service.ports.is_empty() {
            return Ok(None);
        }
        return Err(format!("{text} {}", service.host));
    };
    let Some(port) = service.port(number) else {
        let text = format!("(NoMatchingParent): {} has no port {number}", service.host);
        return Err(text);
    };
    if !port.protocol.routes_http() {
        return Err(format!(
            "(UnsupportedProtocol): port {number} of {} is not HTTP by its name or appProtocol",
            service.host
        ));
    }
    Ok(Some(number))
}
