//! Where servers listen, and which of them can share a port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::{gateways, is_for};
use crate::source::istio::fault::{Code, Faults};
use crate::source::istio::kinds::{
    GatewayServer, Kind, Object, ServerProtocol, ServerTlsMode, ServicePort,
};
use crate::source::istio::registry::{chooses, origin, place, warning};
use crate::source::istio::yaml::Located;
use crate::workload::Workload;

/// A server and its Gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server<'a> {
    pub(super) object: &'a Object,
    pub(super) index: usize,
    pub(super) spec: &'a Located<GatewayServer>,
    /// The port that VirtualServices know it by.
    pub(super) port: u16,
    /// The port that the Envoy opens.
    pub(super) opened: u16,
}

/// The servers of one address.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// Whether they are told apart by the names that callers ask for in the handshake.
    pub(super) secured: bool,
    pub(super) servers: Vec<Server<'a>>,
    /// The names that the servers are asked for which end the encryption, each with its owner.
    pub(super) taken: BTreeMap<String, String>,
}

/// All places of the Gateways that are for a client; what cannot share one is left out.
pub(super) fn places<'a>(
    objects: &[&'a Object],
    client: &Workload,
    router: bool,
    faults: &mut Faults,
) -> BTreeMap<SocketAddr, Place<'a>> {
    let mut places: BTreeMap<SocketAddr, Place<'a>> = BTreeMap::new();
    let targets = targets(objects, client);
    for (object, gateway) in gateways(objects) {
        if !is_for(gateway, client, router) {
            continue;
        }
        for (index, spec) in gateway.servers.iter().enumerate() {
            let number = spec.port.as_ref().map_or(0, |port| port.number);
            let server = Server {
                object,
                index,
                spec,
                port: number,
                opened: targets.get(&number).copied().unwrap_or(number),
            };
            let (Some(secured), Some(address)) = (secured(spec), server.address()) else {
                continue;
            };
            let place = places.entry(address).or_insert_with(|| Place {
                secured,
                servers: Vec::new(),
                taken: BTreeMap::new(),
            });
            place.add(server, secured, faults);
        }
    }
    places
}

/// Whether connections are told apart in the handshake; `None`: the server is not served.
fn secured(server: &GatewayServer) -> Option<bool> {
    let mode = server.tls.as_ref().map(|tls| tls.mode);
    match (server.protocol(), mode) {
        (ServerProtocol::Http | ServerProtocol::GrpcWeb, _) => Some(false),
        (ServerProtocol::Https, Some(_))
        | (ServerProtocol::Tls, Some(ServerTlsMode::Passthrough)) => Some(true),
        (ServerProtocol::Https | ServerProtocol::Tls | ServerProtocol::Other, _) => None,
    }
}

/// The ports that an Envoy opens in place of those that its servers say: callers reach it through a
/// Service as a rule, whose `targetPort` it is then (istiod does the same). Of two Services with one
/// port the first counts.
fn targets(objects: &[&Object], client: &Workload) -> BTreeMap<u16, u16> {
    let mut targets = BTreeMap::new();
    for object in objects {
        let Kind::Service(service) = &object.kind else {
            continue;
        };
        let before = *object.meta.namespace == *client.namespace()
            && chooses(&service.selector, client.labels());
        let written = |port: &&Located<ServicePort>| before && port.target_port.is_some();
        for port in service.ports.iter().filter(written) {
            // A name is one of a pod's, which nobody knows here.
            let target = port.target_number().unwrap_or(port.port);
            targets.entry(port.port).or_insert(target);
        }
    }
    targets
}

impl<'a> Server<'a> {
    fn address(&self) -> Option<SocketAddr> {
        let bind = match &self.spec.bind {
            None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Some(bind) => bind.parse().ok()?,
        };
        (self.opened > 0).then(|| SocketAddr::new(bind, self.opened))
    }

    /// Its route configuration, if it ends the encryption.
    pub(super) fn secured_routes(&self) -> Arc<str> {
        let meta = &self.object.meta;
        let port = self.spec.port.as_ref();
        let name = port.and_then(|port| port.name.as_deref());
        let name = name.unwrap_or_default();
        let (gateway, namespace) = (&meta.name, &meta.namespace);
        format!(
            "https.{}.{name}.{gateway}.{namespace}{}",
            self.opened,
            self.bound()
        )
        .into()
    }

    /// What is added to the names of route configurations.
    fn bound(&self) -> String {
        let bind = self.spec.bind.as_ref();
        bind.map_or_else(String::new, |bind| format!(".{}", bind.value))
    }

    /// The names that callers ask for; empty: any.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        let names = self.spec.hosts.iter().map(|host| host_of(host));
        let names: BTreeSet<String> = names.collect();
        match names.contains("*") {
            true => Vec::new(),
            false => names.into_iter().map(Into::into).collect(),
        }
    }

    /// A warning of it.
    pub(super) fn left_out(&self, text: String, faults: &mut Faults) {
        let fault = warning(self.object, Code::Conflict, place(self.spec), text);
        faults.push(fault.field(format!("servers[{}]", self.index)));
    }
}

/// The host of a server without the namespace before it, in lower case.
pub(super) fn host_of(written: &str) -> String {
    let host = written.split_once('/').map_or(written, |(_, host)| host);
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// The route configuration of plaintext servers, which share it.
pub(super) fn plain_routes(address: SocketAddr, servers: &[Server<'_>]) -> Arc<str> {
    let bound = servers.first().map(Server::bound).unwrap_or_default();
    format!("http.{}{bound}", address.port()).into()
}

impl<'a> Place<'a> {
    fn add(&mut self, server: Server<'a>, secured: bool, faults: &mut Faults) {
        let first = self.servers.first();
        if let Some(first) = first.filter(|_| self.secured != secured) {
            let word = |secured: bool| if secured { "TLS" } else { "plaintext" };
            let text = format!(
                "has no listener: {} has the port {} for {}, and this server is one of {}",
                origin(first.object),
                server.port,
                word(self.secured),
                word(secured),
            );
            return server.left_out(text, faults);
        }
        if secured && !server.spec.passes_through() {
            let own = server.sni();
            if let Some((name, owner)) = own.iter().find_map(|name| self.taken.get_key_value(name))
            {
                let text = format!(
                    "has no listener: {owner} has the name {name} on the port {}, and callers could \
                     not be told apart",
                    server.port,
                );
                return server.left_out(text, faults);
            }
            let owner = origin(server.object).to_string();
            let own = own.into_iter().map(|name| (name, owner.clone()));
            self.taken.extend(own);
        }
        self.servers.push(server);
    }
}

impl Server<'_> {
    /// The names by which a chain is chosen; `*` stands for any.
    fn sni(&self) -> BTreeSet<String> {
        let names = self.names();
        match names.is_empty() {
            true => [String::from("*")].into(),
            false => names.iter().map(ToString::to_string).collect(),
        }
    }
}
