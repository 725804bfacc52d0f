//! The services that one client sees.
//!
//! A host may be declared several times. Istio's order is: the client's own namespace, then
//! Kubernetes before `ServiceEntry`, then the oldest. `ServiceEntry`s of one namespace for the same
//! host are one service with the ports of all; otherwise the first takes the host alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Home, Registry, Service, origin, warning};
use crate::source::istio::fault::{Code, Faults};

/// Aliases of aliases are followed this far.
const ALIAS_DEPTH: usize = 8;

/// Visible services by host, and the names that stand for them.
#[derive(Debug, Default)]
pub(in crate::source::istio) struct View<'a> {
    services: BTreeMap<Arc<str>, Service<'a>>,
    /// `ExternalName` services by the host that they stand for.
    aliases: BTreeMap<Arc<str>, Vec<Service<'a>>>,
}

/// Where an alias leads.
enum End {
    /// To itself, or further than anybody follows.
    Circle,
    /// To a name that DNS may know.
    Outside,
    /// To a service of the mesh.
    Service(Arc<str>),
}

impl<'a> View<'a> {
    /// What a client of `namespace` sees, of which the services `seen` (namespace and host) are
    /// those that its `Sidecar` lets through.
    pub(in crate::source::istio) fn new(
        registry: Registry<'a>,
        namespace: &str,
        seen: impl Fn(&str, &str) -> bool,
        faults: &mut Faults,
    ) -> Self {
        let mut visible = registry.services;
        visible.retain(|service| {
            service.visibility.includes(namespace) && seen(&service.namespace, &service.host)
        });
        // Stable, so that age decides between equals.
        visible.sort_by_key(|service| {
            let foreign = &*service.namespace != namespace;
            (foreign, matches!(service.home, Home::Entry))
        });
        let mut view = Self::default();
        for service in visible {
            match view.services.get_mut(&service.host) {
                Some(first) => first.join(service, faults),
                None => {
                    view.services.insert(service.host.clone(), service);
                }
            }
        }
        view.follow_aliases(faults);
        view
    }

    fn follow_aliases(&mut self, faults: &mut Faults) {
        let aliases: Vec<Arc<str>> = self
            .services
            .values()
            .filter(|service| matches!(service.home, Home::Alias(_)))
            .map(|service| service.host.clone())
            .collect();
        let ends: Vec<(Arc<str>, End)> = aliases
            .into_iter()
            .map(|host| {
                let end = self.end(&host);
                (host, end)
            })
            .collect();
        for (host, end) in ends {
            let Some(mut alias) = self.services.remove(&host) else {
                continue;
            };
            let problem = match end {
                End::Service(target) => {
                    self.aliases.entry(target).or_default().push(alias);
                    continue;
                }
                End::Outside if !alias.ports.is_empty() => {
                    alias.home = Home::Kubernetes;
                    self.services.insert(host, alias);
                    continue;
                }
                End::Outside => {
                    "has no ports: requests for it are those for an unknown host; name the ports \
                     that it serves"
                }
                End::Circle => "the names behind this ExternalName service lead to itself",
            };
            let fault = warning(alias.object, Code::NoEndpoints, (0, 0), problem);
            faults.push(fault.field("externalName"));
        }
    }

    /// Where a chain of aliases ends.
    fn end(&self, alias: &Arc<str>) -> End {
        let mut host = alias;
        for _ in 0..ALIAS_DEPTH {
            match self.services.get(host).map(|service| &service.home) {
                Some(Home::Alias(next)) => host = next,
                Some(Home::Kubernetes | Home::Entry) => return End::Service(host.clone()),
                None => return End::Outside,
            }
        }
        End::Circle
    }

    /// All services by host.
    pub(in crate::source::istio) fn services(&self) -> impl Iterator<Item = &Service<'a>> {
        self.services.values()
    }

    /// The service of a host, or the one that an alias stands for.
    pub(in crate::source::istio) fn service(&self, host: &str) -> Option<&Service<'a>> {
        self.services.get(host).or_else(|| {
            let (target, _) = self
                .aliases
                .iter()
                .find(|(_, aliases)| aliases.iter().any(|alias| &*alias.host == host))?;
            self.services.get(target)
        })
    }

    /// The other names of a host.
    pub(in crate::source::istio) fn aliases(&self, host: &str) -> &[Service<'a>] {
        self.aliases.get(host).map_or(&[], Vec::as_slice)
    }
}

impl<'a> Service<'a> {
    /// Takes in a later declaration of the same host.
    fn join(&mut self, later: Service<'a>, faults: &mut Faults) {
        let together = self.home == Home::Entry
            && later.home == Home::Entry
            && self.namespace == later.namespace;
        if !together {
            faults.push(warning(
                later.object,
                Code::Conflict,
                (0, 0),
                format!(
                    "the host {} is declared by {} too, which takes it",
                    later.host,
                    origin(self.object)
                ),
            ));
            return;
        }
        for port in later.ports {
            if let Some(first) = self.ports.iter().find(|one| one.number == port.number) {
                let what = if first.protocol == port.protocol {
                    "is"
                } else {
                    "is, with another protocol,"
                };
                faults.push(warning(
                    later.object,
                    Code::Conflict,
                    (port.line, 1),
                    format!(
                        "port {} of the host {} {what} declared by {} too, which takes it",
                        port.number,
                        self.host,
                        origin(self.object)
                    ),
                ));
            } else {
                self.ports.push(port);
            }
        }
        self.addresses.extend(later.addresses);
        self.addresses.sort_unstable();
        self.addresses.dedup();
    }

    /// The port of that number.
    pub(in crate::source::istio) fn port(&self, number: u16) -> Option<&super::Port> {
        self.ports.iter().find(|port| port.number == number)
    }
}
