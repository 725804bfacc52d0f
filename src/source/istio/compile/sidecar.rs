//! What a `Sidecar` lets its workloads see.
//!
//! One `Sidecar` counts for a client, nothing is merged: one of its namespace that selects it, else
//! the one of its namespace without a selector, else that of the root namespace. A service that
//! the client does not see does not exist for it, which is what keeps a large mesh small in each
//! process. The destinations of a VirtualService that it sees are seen too, as in Istio: otherwise
//! every route would have to be repeated in the `Sidecar`.
//!
//! `port` and `bind` of an egress listener are those of a proxy's listeners; there are none here,
//! so the hosts of all listeners are seen on all ports.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::host::{covers, expand, resource_name};
use super::matches::includes_mesh;
use super::virtual_host::HTTP_PORT;
use crate::model::OutboundTraffic;
use crate::source::istio::defaults::{Defaults, traffic};
use crate::source::istio::fault::{Code, Fault, Faults};
use crate::source::istio::kinds::gateway_api::ParentReference;
use crate::source::istio::kinds::{ConnectionPool, Kind, Object, Sidecar, VirtualService};
use crate::source::istio::registry::{View, origin, selects, warning};
use crate::source::istio::yaml::Located;
use crate::workload::Workload;

/// What a client sees.
#[derive(Debug, Default)]
pub(super) struct Imports<'a> {
    sidecar: Option<(&'a Object, &'a Sidecar)>,
    /// `None`: everything.
    hosts: Option<Vec<Import>>,
    /// Where the VirtualServices that are seen lead.
    destinations: BTreeSet<Arc<str>>,
}

/// One entry of `egress[].hosts`.
#[derive(Debug)]
struct Import {
    /// `None`: any.
    namespace: Option<Arc<str>>,
    /// `*`, `*.suffix` or a full name.
    host: Arc<str>,
}

impl<'a> Imports<'a> {
    /// Reads what counts for the client; `objects` are in the order of age.
    pub(super) fn of(
        objects: &[&'a Object],
        client: &Workload,
        defaults: Defaults<'a>,
        faults: &mut Faults,
    ) -> Self {
        let Some((object, sidecar)) = choose(objects, client, defaults, faults) else {
            return Self::default();
        };
        let hosts = (!sidecar.egress.is_empty()).then(|| {
            let written = sidecar.egress.iter().flat_map(|listener| &listener.hosts);
            written
                .filter_map(|host| Import::read(host, object, client))
                .collect()
        });
        let mut imports = Self {
            sidecar: Some((object, sidecar)),
            hosts,
            destinations: BTreeSet::new(),
        };
        if imports.hosts.is_some() {
            imports.destinations = imports.led_to(objects, client, defaults);
        }
        imports
    }

    /// What happens to hosts that are not seen, if the `Sidecar` says.
    pub(super) fn outbound_traffic(&self) -> Option<OutboundTraffic> {
        let (_, sidecar) = self.sidecar?;
        let policy = sidecar.outbound_traffic_policy.as_ref()?;
        Some(traffic(policy))
    }

    /// How much the workload's ports take, if the `Sidecar` says.
    pub(super) fn inbound_pool(&self) -> Option<&'a ConnectionPool> {
        let (_, sidecar) = self.sidecar?;
        sidecar
            .inbound_connection_pool
            .as_ref()
            .map(|pool| &pool.value)
    }

    /// The cluster of requests for hosts that are not seen, if the `Sidecar` has one for them. As in
    /// Istio it counts where such requests pass, and its service has to be seen.
    pub(super) fn egress_proxy(&self, view: &View<'_>, client: &Workload) -> Option<Arc<str>> {
        let (object, sidecar) = self.sidecar?;
        let policy = sidecar.outbound_traffic_policy.as_ref()?;
        let to = policy.egress_proxy.as_ref()?;
        if traffic(policy) != OutboundTraffic::AllowAny {
            return None;
        }
        let host = expand(&to.host, &object.meta.namespace, client.cluster_domain());
        let sole = || match view
            .services()
            .find(|one| one.host == host)?
            .ports
            .as_slice()
        {
            [only] => Some(only.number),
            _none_or_several => None,
        };
        let port = to.port.as_ref().map(|port| port.number).or_else(sole);
        let subset = to.subset.as_ref().map_or("", |name| name.as_str());
        Some(resource_name(port.unwrap_or(HTTP_PORT), subset, &host))
    }

    /// Whether a service is seen.
    pub(super) fn service(&self, namespace: &str, host: &str) -> bool {
        self.host(namespace, host) || self.destinations.contains(host)
    }

    /// Whether a VirtualService is seen: one of its hosts is.
    pub(super) fn virtual_service(
        &self,
        object: &Object,
        spec: &VirtualService,
        domain: &str,
    ) -> bool {
        let namespace = &*object.meta.namespace;
        let mut hosts = spec.hosts.iter();
        hosts.any(|host| self.host(namespace, &expand(host, namespace, domain)))
    }

    fn host(&self, namespace: &str, host: &str) -> bool {
        let Some(imports) = &self.hosts else {
            return true;
        };
        imports.iter().any(|import| import.takes(namespace, host))
    }

    /// The services that routes which are seen lead to.
    fn led_to(
        &self,
        objects: &[&Object],
        client: &Workload,
        defaults: Defaults<'_>,
    ) -> BTreeSet<Arc<str>> {
        let domain = client.cluster_domain();
        let mut all = BTreeSet::new();
        for &object in objects {
            let namespace = &*object.meta.namespace;
            match &object.kind {
                Kind::VirtualService(spec) => {
                    let exported = spec.export_to.iter().map(|entry| entry.value.as_str());
                    let exported = defaults.virtual_service(exported, namespace);
                    if exported.includes(client.namespace())
                        && includes_mesh(&spec.gateways)
                        && self.virtual_service(object, spec, domain)
                    {
                        lead(spec, namespace, objects, domain, &mut all);
                    }
                }
                Kind::HttpRoute(spec) if self.any(&spec.parent_refs, namespace, domain) => {
                    let backends = spec.rules.iter().flat_map(|rule| &rule.backend_refs);
                    let mirrors = spec.rules.iter().flat_map(|rule| &rule.filters);
                    let mirrors = mirrors.filter_map(|filter| filter.request_mirror.as_ref());
                    let named = backends.map(|to| (&to.name, &to.namespace));
                    let mirrored =
                        mirrors.map(|to| (&to.backend_ref.name, &to.backend_ref.namespace));
                    all.extend(
                        named
                            .chain(mirrored)
                            .map(|to| service(to, namespace, domain)),
                    );
                }
                Kind::GrpcRoute(spec) if self.any(&spec.parent_refs, namespace, domain) => {
                    let backends = spec.rules.iter().flat_map(|rule| &rule.backend_refs);
                    let mirrors = spec.rules.iter().flat_map(|rule| &rule.filters);
                    let mirrors = mirrors.filter_map(|filter| filter.request_mirror.as_ref());
                    let named = backends.map(|to| (&to.name, &to.namespace));
                    let mirrored =
                        mirrors.map(|to| (&to.backend_ref.name, &to.backend_ref.namespace));
                    all.extend(
                        named
                            .chain(mirrored)
                            .map(|to| service(to, namespace, domain)),
                    );
                }
                _leads_nowhere => {}
            }
        }
        all
    }

    /// Whether one of the services that a route is attached to is seen.
    fn any(&self, parents: &[Located<ParentReference>], own: &str, domain: &str) -> bool {
        parents.iter().any(|parent| {
            let host = service((&parent.name, &parent.namespace), own, domain);
            self.host(parent.namespace.as_deref().unwrap_or(own), &host)
        })
    }
}

/// Where the rules of a VirtualService and of its delegates lead.
fn lead(
    spec: &VirtualService,
    namespace: &str,
    objects: &[&Object],
    domain: &str,
    all: &mut BTreeSet<Arc<str>>,
) {
    for route in &spec.http {
        let forwarded = route
            .route
            .iter()
            .filter_map(|one| one.destination.as_ref());
        let mirrored = route
            .mirrors
            .iter()
            .filter_map(|one| one.destination.as_ref());
        let destinations = forwarded.chain(mirrored).chain(&route.mirror);
        all.extend(destinations.map(|one| expand(&one.host, namespace, domain)));
        let Some(delegate) = &route.delegate else {
            continue;
        };
        let elsewhere = delegate.namespace.as_ref().map(|name| name.value.as_str());
        let at = elsewhere
            .filter(|name| !name.is_empty())
            .unwrap_or(namespace);
        for object in objects {
            let named = *object.meta.namespace == *at && *object.meta.name == *delegate.name.value;
            match &object.kind {
                // There is one level: a delegate has no delegates.
                Kind::VirtualService(child) if named && child.hosts.is_empty() => {
                    lead(child, at, &[], domain, all);
                }
                _other => {}
            }
        }
    }
}

/// The host of a Kubernetes service that a route of the Gateway API names.
fn service(
    (name, namespace): (&Located<String>, &Option<String>),
    own: &str,
    domain: &str,
) -> Arc<str> {
    let namespace = namespace.as_deref().unwrap_or(own);
    format!("{}.{namespace}.svc.{domain}", name.value).into()
}

impl Import {
    /// `None` for the namespace `~`, which has no hosts.
    fn read(written: &str, object: &Object, client: &Workload) -> Option<Self> {
        let (namespace, host) = written.split_once('/')?;
        let host = match host {
            "*" => host.into(),
            host => expand(host, &object.meta.namespace, client.cluster_domain()),
        };
        let namespace = match namespace {
            "~" => return None,
            "*" => None,
            // In the root namespace too it is the client's, for whom the Sidecar speaks.
            "." => Some(client.namespace().into()),
            name => Some(name.into()),
        };
        Some(Self { namespace, host })
    }

    fn takes(&self, namespace: &str, host: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
            && (&*self.host == "*" || covers(&self.host, host) || covers(host, &self.host))
    }
}

/// A second one for the same workloads (Istio's IST0110, IST0111).
pub(super) fn second(object: &Object, first: &Object) -> Fault {
    let text = format!(
        "has no effect: {} speaks for the same workloads",
        origin(first)
    );
    warning(object, Code::Conflict, (0, 0), text)
}

fn choose<'a>(
    objects: &[&'a Object],
    client: &Workload,
    defaults: Defaults<'_>,
    faults: &mut Faults,
) -> Option<(&'a Object, &'a Sidecar)> {
    let of = |namespace: &str| -> Vec<(&'a Object, &'a Sidecar)> {
        let all = objects.iter().filter_map(|object| match &object.kind {
            Kind::Sidecar(sidecar) => Some((*object, &**sidecar)),
            _other_kinds => None,
        });
        all.filter(|(object, _)| &*object.meta.namespace == namespace)
            .collect()
    };
    let (own, root) = (of(client.namespace()), of(defaults.root_namespace()));
    let selected = |(_, sidecar): &&(&Object, &Sidecar)| {
        let selector = sidecar.workload_selector.as_ref();
        selector.is_some_and(|selector| selects(&selector.labels, client.labels()))
    };
    let whole = |(_, sidecar): &&(&Object, &Sidecar)| sidecar.workload_selector.is_none();
    for of_one_place in [
        own.iter().filter(selected).collect::<Vec<_>>(),
        own.iter().filter(whole).collect(),
    ] {
        if let [first, later @ ..] = &of_one_place[..] {
            for (object, _) in later {
                faults.push(second(object, first.0));
            }
            return Some(**first);
        }
    }
    root.iter().find(whole).copied()
}
