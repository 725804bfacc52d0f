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

impl<'a> View<'a> {
    /// What a client of `namespace` sees.
    pub(in crate::source::istio) fn new(
        registry: Registry<'a>,
        namespace: &str,
        faults: &mut Faults,
    ) -> Self {
        let mut visible = registry.services;
        visible.retain(|service| service.visibility.includes(namespace));
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
        let targets: Vec<(Arc<str>, Option<Arc<str>>)> = aliases
            .into_iter()
            .map(|host| {
                let target = self.target(&host);
                (host, target)
            })
            .collect();
        for (host, target) in targets {
            let Some(alias) = self.services.remove(&host) else {
                continue;
            };
            match target {
                Some(target) => self.aliases.entry(target).or_default().push(alias),
                None => faults.push(
                    warning(
                        alias.object,
                        Code::NotSupported,
                        (0, 0),
                        "the name behind this ExternalName service is no service of the mesh; \
                         DNS discovery not yet supported",
                    )
                    .field("externalName"),
                ),
            }
        }
    }

    /// The service at the end of a chain of aliases.
    fn target(&self, alias: &Arc<str>) -> Option<Arc<str>> {
        let mut host = alias;
        for _ in 0..ALIAS_DEPTH {
            match &self.services.get(host)?.home {
                Home::Alias(next) => host = next,
                Home::Kubernetes | Home::Entry => return Some(host.clone()),
            }
        }
        None
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
