//! Listeners of servers that are configured by this server.
//!
//! A server of gRPC asks for a listener by the address that it listens on, filled into the template
//! `xds.istio.io/grpc/lds/inbound/%s`. It gets one if a service of its namespace that selects its
//! labels has that target port, with what PeerAuthentication, AuthorizationPolicy and
//! RequestAuthentication ask of its callers.
//!
//! A plain bootstrap file says no labels. Such a server may listen on the target ports of all
//! services of its namespace, but policies that select by labels may be meant for it: if there are
//! any, its listeners deny every request, and the log says which labels are missed. They are served
//! all the same, because a listener that goes away leaves the one before it in force (gRFC A88).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::listener::v3 as listener;
use prost::Message as _;

use super::egress::socket_address;
use super::kind::Kind;
use super::resource::Encoded;
use super::store::Content;
use super::view::encoded;
use crate::model::{Inbound, Resources};
use crate::source::istio::{chooses, kinds, selected_by_labels};
use crate::source::xds::{Lost, Port, inbound};
use crate::workload::Workload;

/// Before the address of a server's listener, as istiod's bootstrap has it.
pub(super) const PREFIX: &str = "xds.istio.io/grpc/lds/inbound/";

/// The label of a slice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The label by which a workload says that it takes mutual TLS.
const TLS_MODE: &str = "security.istio.io/tlsMode";

/// The ports on which a client may serve, each with its listener.
#[derive(Debug, Default)]
pub(super) struct Doors {
    by_port: BTreeMap<u16, listener::Listener>,
    lost: BTreeSet<Lost>,
    closed: Vec<String>,
}

impl Doors {
    /// Those of a workload, which may have shown a certificate; `resources` are its view.
    pub(super) fn new(
        content: &Content,
        (workload, proven): (&Workload, bool),
        resources: &Resources,
    ) -> Self {
        let mut doors = Self::default();
        let ports = target_ports(content, workload);
        if ports.is_empty() {
            return doors;
        }
        let (asked, closed) = asked(content, workload, &resources.inbound);
        doors.closed = closed;
        let meshed = workload.labels().get(TLS_MODE);
        let meshed = meshed.is_some_and(|mode| mode == "istio");
        for number in ports {
            let port = Port {
                number,
                inbound: &asked,
                peers: &resources.peers,
                capacity: resources.capacities.on(number),
                meshed,
                certified: meshed || proven,
            };
            let name = Arc::from(format!("{PREFIX}*:{number}"));
            let listener = inbound(port, &name, &mut doors.lost);
            doors.by_port.insert(number, listener);
        }
        doors
    }

    /// What could not be said: most of it denies instead, limits are left out.
    pub(super) fn lost(&self) -> impl Iterator<Item = &Lost> {
        self.lost.iter()
    }

    /// Why all requests are denied, if they are because labels are missed.
    pub(super) fn closed(&self) -> &[String] {
        &self.closed
    }

    /// The listener of an address, under the name that was asked for.
    pub(super) fn listener(&self, name: &str, address: &str) -> Option<Encoded> {
        let address: SocketAddr = address.parse().ok()?;
        let message = listener::Listener {
            name: name.into(),
            address: Some(socket_address(address)),
            ..self.by_port.get(&address.port())?.clone()
        };
        Some(encoded(
            Kind::Listener,
            name.into(),
            &message.encode_to_vec(),
        ))
    }
}

/// What is asked of the callers of a workload's listeners, which is `own` or all that can be; and why it
/// is, if labels are missed.
pub(super) fn asked(
    content: &Content,
    workload: &Workload,
    own: &Arc<Inbound>,
) -> (Arc<Inbound>, Vec<String>) {
    let missed = missed_labels(content, workload);
    match missed.is_empty() {
        true => (own.clone(), missed),
        false => (Arc::new(Inbound::closed()), missed),
    }
}

/// Policies that may be meant for a workload which says no labels, each told.
fn missed_labels(content: &Content, workload: &Workload) -> Vec<String> {
    if !workload.labels().is_empty() {
        return Vec::new();
    }
    let policies = selected_by_labels(&content.objects, workload.namespace());
    policies.map(|object| missed(object, workload)).collect()
}

fn missed(object: &kinds::Object, workload: &Workload) -> String {
    format!(
        "{} selects workloads by labels, and a client of namespace {} says none: requests to it are \
         denied; add LABELS to the metadata of its node",
        object.reference(),
        workload.namespace(),
    )
}

/// The target ports of the services that select a workload. One without labels is selected by all
/// services of its namespace: a plain bootstrap file cannot say more.
fn target_ports(content: &Content, workload: &Workload) -> BTreeSet<u16> {
    let labels = workload.labels();
    let mut ports = BTreeSet::new();
    for object in content.objects.iter() {
        let kinds::Kind::Service(service) = &object.kind else {
            continue;
        };
        let before = labels.is_empty() || chooses(&service.selector, labels);
        if *object.meta.namespace == *workload.namespace() && before {
            for port in &service.ports {
                match port.target_number() {
                    Some(number) => drop(ports.insert(number)),
                    None => ports.extend(named_ports(content, object, port)),
                }
            }
        }
    }
    ports
}

/// The numbers of a service's port whose target is the name of a container's port: its slices have them.
fn named_ports<'c>(
    content: &'c Content,
    service: &'c kinds::Object,
    port: &'c kinds::ServicePort,
) -> impl Iterator<Item = u16> + 'c {
    let wanted = port.name.as_deref().map_or("", String::as_str);
    let slices = content.objects.iter().filter_map(|object| {
        let kinds::Kind::EndpointSlice(slice) = &object.kind else {
            return None;
        };
        let of = object.meta.labels.get(SERVICE_NAME)?;
        let theirs = object.meta.namespace == service.meta.namespace && **of == *service.meta.name;
        theirs.then_some(slice)
    });
    let ports = slices.flat_map(|slice| &slice.ports);
    let found = ports.filter(move |one| one.name.as_deref().unwrap_or_default() == wanted);
    found.filter_map(|one| one.port)
}

#[cfg(test)]
mod tests;
