//! Where a destination leads.

use std::sync::Arc;

use super::Scope;
use super::host::{expand, resource_name};
use crate::source::istio::kinds::{self, Object};

/// What a destination of an object means to a client that calls this port: the port is that which is
/// written, else the only port of the service, else the one that the client calls.
pub(super) fn target(
    scope: &Scope<'_>,
    object: &Object,
    port: u16,
    written: &kinds::Destination,
) -> Target {
    let namespace = &object.meta.namespace;
    let host = expand(&written.host, namespace, scope.client.cluster_domain());
    // A name that stands for a service has no clusters of its own.
    let service = scope.view.service(&host);
    let host = service.map_or(host, |service| service.host.clone());
    let only = service.and_then(|service| match service.ports.as_slice() {
        [only] => Some(only.number),
        _ => None,
    });
    let said = written.port.as_ref().map(|port| port.number);
    Target {
        port: said.or(only).unwrap_or(port),
        subset: written
            .subset
            .as_ref()
            .map(|subset| subset.value.clone())
            .unwrap_or_default(),
        host,
    }
}

/// A destination, completed.
pub(super) struct Target {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
    pub(super) subset: String,
}

impl Target {
    pub(super) fn cluster(&self) -> Arc<str> {
        resource_name(self.port, &self.subset, &self.host)
    }
}
