//! Listeners of Envoys at the edge, and the routes behind them.
//!
//! A `Gateway` says where the Envoys that it selects listen and for which hosts; VirtualServices that
//! name it say what becomes of the requests. Their rules become routes by the same code as those of
//! services, read [for the gateway](Via): blocks of other gateways and of the mesh speak of nobody.
//! Clusters are those of the Envoy's view anyway.
//!
//! What the servers of all Gateways that select an Envoy have in common is istiod's: plaintext
//! servers of one address and port share a listener and the route configuration `http.PORT`; servers
//! of HTTPS share a listener, where the name that a caller asks for (SNI) tells them apart, and each
//! has a route configuration of its own, `https.PORT.PORTNAME.GATEWAY.NAMESPACE`. At a gateway hosts
//! are merged: the rules of all VirtualServices for a host stand one after the other, by age, those
//! that take every request last. What cannot share a port is left out, with a warning: the older
//! object stays.

mod asked;
mod hosts;
mod passthrough;
mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use self::place::{Place, Server};
use super::matches::Via;
use super::virtual_service::{Claim, at_gateway};
use super::{Options, Scope, by_age, scoped};
use crate::model::RouteConfiguration;
use crate::model::route::Destinations;
use crate::source::istio::fault::{Code, Faults};
use crate::source::istio::kinds::{Gateway, Kind, Object, ServerProtocol, ServerTls};
use crate::source::istio::registry::{selects, warning};
use crate::workload::Workload;

pub(in crate::source::istio) use self::asked::at_edge;
pub(super) use self::hosts::shared;

/// What an Envoy serves at the edge.
#[derive(Debug, Default)]
pub(crate) struct Edge {
    /// Where it listens, and what it does with the connections there.
    pub(crate) listeners: BTreeMap<SocketAddr, Vec<Chain>>,
    /// The routes of the requests.
    pub(crate) routes: Vec<RouteConfiguration>,
    /// How Gateways and VirtualServices do not fit together.
    pub(crate) faults: Faults,
}

/// What becomes of connections (Envoy's filter chain).
#[derive(Debug)]
pub(crate) struct Chain {
    /// Which servers the caller asks for (SNI); empty: any.
    pub(crate) names: Vec<Arc<str>>,
    /// The encryption that ends here.
    pub(crate) tls: Option<ServerTls>,
    /// Whether requests of gRPC-Web are translated.
    pub(crate) grpc_web: bool,
    /// The ports by which callers know it: those of its servers, and the one that is opened.
    pub(crate) ports: BTreeSet<u16>,
    /// Where they lead.
    pub(crate) leads: Leads,
}

/// Where connections lead.
#[derive(Debug)]
pub(crate) enum Leads {
    /// As bytes to a cluster.
    Clusters(Destinations),
    /// As requests to the route configuration of that name.
    Routes(Arc<str>),
}

/// Compiles the Gateways that select a workload; `router`: it is an Envoy that is nothing else.
pub(crate) fn edge(objects: &[Object], client: &Workload, router: bool, options: &Options) -> Edge {
    edge_of(&by_age(objects), client, router, options)
}

/// The same of objects in the order of age.
pub(super) fn edge_of(
    objects: &[&Object],
    client: &Workload,
    router: bool,
    options: &Options,
) -> Edge {
    let mut faults = Faults::default();
    let places = place::places(objects, client, router, &mut faults);
    if places.is_empty() {
        return Edge {
            faults,
            ..Edge::default()
        };
    }
    // What is wrong with the rest of the set is told when it is compiled for the client.
    let (scope, _) = scoped(objects, client, options);
    let mut maker = Maker {
        objects,
        scope: &scope,
        claims: BTreeMap::new(),
        names: BTreeSet::new(),
        edge: Edge {
            faults,
            ..Edge::default()
        },
    };
    for (address, place) in &places {
        maker.listener(*address, place);
    }
    maker.edge
}

/// The Gateways of a set, in its order.
pub(super) fn gateways<'a>(
    objects: &[&'a Object],
) -> impl Iterator<Item = (&'a Object, &'a Gateway)> {
    objects.iter().filter_map(|&object| match &object.kind {
        Kind::Gateway(gateway) => Some((object, &**gateway)),
        _other_kinds => None,
    })
}

/// Whether a Gateway is for a workload.
fn is_for(gateway: &Gateway, client: &Workload, router: bool) -> bool {
    match gateway.selector.is_empty() {
        true => router,
        false => selects(&gateway.selector, client.labels()),
    }
}

/// What a client is told that is no Envoy, and that a Gateway selects all the same.
pub(crate) fn unopened(objects: &[Object], client: &Workload) -> Faults {
    let mut faults = Faults::default();
    for object in objects {
        if let Kind::Gateway(gateway) = &object.kind
            && is_for(gateway, client, false)
        {
            let text = "selects this workload, which opens no listeners of Gateways";
            faults.push(warning(object, Code::NoEffect, (0, 0), text).hinted(
                "`meshwork serve` gives them to an Envoy with these labels; a program listens with \
                 Mesh::listen",
            ));
        }
    }
    faults
}

/// What is known while listeners are made.
struct Maker<'s, 'a> {
    objects: &'s [&'a Object],
    scope: &'s Scope<'a>,
    /// The VirtualServices of each Gateway.
    claims: BTreeMap<(&'a str, &'a str), Arc<[Claim<'a>]>>,
    /// Of the routes that are made.
    names: BTreeSet<Arc<str>>,
    edge: Edge,
}

impl<'a> Maker<'_, 'a> {
    fn listener(&mut self, address: SocketAddr, place: &Place<'a>) {
        let mut chains = Vec::new();
        if place.secured {
            let mut taken = place.taken.clone();
            for server in &place.servers {
                match server.spec.passes_through() {
                    true => self.passed(server, &mut taken, &mut chains),
                    false => {
                        let name = self.unused(server.secured_routes());
                        let tls = server.spec.tls.as_ref().map(|tls| tls.value.clone());
                        chains.push(Chain {
                            names: server.names(),
                            tls,
                            ..self.requests(name, std::slice::from_ref(server))
                        });
                    }
                }
            }
        } else {
            let name = place::plain_routes(address, &place.servers);
            chains.push(self.requests(name, &place.servers));
        }
        // A listener without a chain is none: Envoy refuses it.
        if !chains.is_empty() {
            self.edge.listeners.insert(address, chains);
        }
    }

    /// A name of routes that no others have: dots in the names of ports and Gateways can make two equal.
    fn unused(&self, name: Arc<str>) -> Arc<str> {
        let mut numbered = (2..).map(|number| Arc::from(format!("{name}.{number}")));
        match self.names.contains(&name) {
            false => name,
            true => numbered
                .find(|name| !self.names.contains(name))
                .expect("there are more numbers than names"),
        }
    }

    /// A chain of requests, whose routes are those of some servers.
    fn requests(&mut self, name: Arc<str>, servers: &[Server<'a>]) -> Chain {
        let routes = self.routes(name.clone(), servers);
        self.edge.routes.push(routes);
        self.names.insert(name.clone());
        let mut protocols = servers.iter().map(|server| server.spec.protocol());
        Chain {
            names: Vec::new(),
            tls: None,
            grpc_web: protocols.any(|protocol| protocol == ServerProtocol::GrpcWeb),
            ports: servers.iter().flat_map(Server::ports).collect(),
            leads: Leads::Routes(name),
        }
    }

    /// The hosts that VirtualServices claim at a server's Gateway.
    fn claims(&mut self, server: &Server<'a>) -> Arc<[Claim<'a>]> {
        let meta = &server.object.meta;
        let key = (&*meta.namespace, &*meta.name);
        let (objects, scope) = (self.objects, self.scope);
        let claims = self.claims.entry(key).or_insert_with(|| {
            let via = Via::Gateway {
                namespace: key.0,
                name: key.1,
            };
            at_gateway(objects, scope.client, scope.defaults, via).into()
        });
        claims.clone()
    }
}

#[cfg(test)]
mod tests;
