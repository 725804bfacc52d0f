//! From the model to messages: the other direction of [decode](super::decode).
//!
//! Clients differ in what they take, so there are three [dialects](Dialect). In *Meshwork*
//! nothing is lost: what Envoy's messages cannot say stands in metadata of our own, which other
//! clients leave alone; `decode(encode(m)) == m` for every model, which a property test holds.
//! *Grpc* contains nothing that a gRPC client refuses, since a refused resource would take the good
//! part with it; *Envoy* nothing that Envoy refuses. What the latter two lose is one table,
//! [`Loss`], which tests and `docs/XDS-FIELDS.md` share; each loss is reported by the resource in
//! which it happened, so that whoever serves can say so once.

mod action;
mod affinity;
mod balancing;
mod canonical;
mod cluster;
mod connection;
mod endpoints;
mod fault;
mod headers;
mod health;
mod inbound;
mod listener;
mod loss;
mod matches;
mod outlier;
mod retry;
mod routes;
mod security;
mod value;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::Kind;
use crate::model::cluster::Discovery;
use crate::model::{Endpoints, Resources};
#[cfg(test)]
pub(crate) use inbound::tests::grpc;
pub(crate) use inbound::{Port, gates, inbound};
pub(crate) use loss::{Loss, Lost};

/// Whom messages are for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Dialect {
    /// Envoy: nothing that it refuses.
    Envoy,
    /// Proxyless gRPC of any language: nothing that it refuses (gRFC A27 and its followers).
    Grpc,
    /// This library: nothing is lost.
    Meshwork,
}

/// A resource as it is sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Encoded {
    pub(crate) kind: Kind,
    pub(crate) name: Arc<str>,
    /// The message, which is the `value` of an `Any` of the kind's type.
    pub(crate) bytes: Bytes,
}

/// A set of resources as it is sent, in the order of kinds and names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Encoding {
    pub(crate) resources: Vec<Encoded>,
    /// What the dialect cannot say, each loss of a resource once.
    pub(crate) lost: BTreeSet<Lost>,
}

/// Encodes all resources.
///
/// Listeners of a client are left out for Envoy, which has no such thing. Endpoints that a cluster
/// contains are in its message; they are also a resource of their own if another cluster wants
/// them so, or nobody does.
pub(crate) fn encode(resources: &Resources, dialect: Dialect) -> Encoding {
    let mut encoding = Encoding::default();
    let mut add =
        |kind: Kind, name: &Arc<str>, encode: &mut dyn FnMut(&mut Pen<'_>) -> Option<Vec<u8>>| {
            let mut pen = Pen {
                dialect,
                kind,
                name,
                lost: &mut encoding.lost,
            };
            if let Some(bytes) = encode(&mut pen) {
                encoding.resources.push(Encoded {
                    kind,
                    name: name.clone(),
                    bytes: bytes.into(),
                });
            }
        };
    for (name, listener) in &resources.listeners {
        add(Kind::Listener, name, &mut |pen| {
            (dialect != Dialect::Envoy).then(|| listener::listener(pen, listener).encode_to_vec())
        });
    }
    for (name, routes) in &resources.routes {
        add(Kind::RouteConfiguration, name, &mut |pen| {
            Some(canonical::sorted(
                routes::configuration(pen, routes).encode_to_vec(),
                &canonical::ROUTES,
            ))
        });
    }
    let mut contained: BTreeSet<&Arc<str>> = BTreeSet::new();
    let mut wanted: BTreeSet<&Arc<str>> = BTreeSet::new();
    for (name, model) in &resources.clusters {
        let endpoints = endpoints_of(&model.discovery, resources);
        let inside = cluster::contains_endpoints(model, endpoints, dialect);
        if let Discovery::Endpoints(name)
        | Discovery::Dns(crate::model::cluster::Dns {
            endpoints: name, ..
        }) = &model.discovery
        {
            match inside {
                true => contained.insert(name),
                false => wanted.insert(name),
            };
        }
        add(Kind::Cluster, name, &mut |pen| {
            cluster::cluster(pen, model, endpoints)
                .map(|message| canonical::sorted(message.encode_to_vec(), &canonical::CLUSTER))
        });
    }
    for (name, endpoints) in &resources.endpoints {
        if contained.contains(name) && !wanted.contains(name) {
            continue;
        }
        add(Kind::Endpoints, name, &mut |pen| {
            Some(canonical::sorted(
                endpoints::assignment(pen, endpoints).encode_to_vec(),
                &canonical::ASSIGNMENT,
            ))
        });
    }
    encoding
}

fn endpoints_of<'r>(discovery: &Discovery, resources: &'r Resources) -> Option<&'r Arc<Endpoints>> {
    match discovery {
        Discovery::Endpoints(name) => resources.endpoints.get(name),
        Discovery::Dns(dns) => resources.endpoints.get(&dns.endpoints),
        Discovery::Aggregate(_) | Discovery::OnDemand { .. } | Discovery::Passthrough => None,
    }
}

/// What writes one resource: for whom, and what cannot be said.
struct Pen<'a> {
    dialect: Dialect,
    kind: Kind,
    name: &'a Arc<str>,
    lost: &'a mut BTreeSet<Lost>,
}

impl Pen<'_> {
    fn lose(&mut self, loss: Loss) {
        self.lost.insert(Lost {
            kind: self.kind,
            name: self.name.clone(),
            loss,
        });
    }

    /// Notes a loss if there is one to note.
    fn lose_if(&mut self, lost: bool, loss: Loss) {
        if lost {
            self.lose(loss);
        }
    }

    fn is_grpc(&self) -> bool {
        self.dialect == Dialect::Grpc
    }

    fn is_meshwork(&self) -> bool {
        self.dialect == Dialect::Meshwork
    }
}
