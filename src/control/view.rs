//! The view that one kind of client has of the mesh, made of content.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Dialect;
use super::edge;
use super::inbound::{Doors, asked};
use super::kind::Kind;
use super::node::Node;
use super::references;
use super::resource::{Encoded, Parts};
use super::snapshot::Snapshot;
use super::spelling::Spellings;
use super::store::Content;
use super::told::Told;
use super::workshop::Workshop;
use crate::model::Resources;
use crate::source::istio::{self, Faults, ReadLabels, compile, unopened};
use crate::source::xds::{Lost, encode};
use crate::workload::Workload;

/// How the id of an Envoy at the edge begins, as istiod's agents write it.
const ROUTER: &str = "router~";

/// In place of the labels of a client of which none is read: it is not one that says none.
const UNREAD: &str = "";

/// What a view depends on. Clients whose keys are equal share one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key {
    dialect: Dialect,
    /// With those of its labels that something in the content reads.
    workload: Arc<Workload>,
    proven: bool,
    /// Whether it is an Envoy at the edge and nothing else.
    router: bool,
    /// Which of the restricted resources it sees.
    files: Vec<usize>,
}

impl Key {
    pub(super) fn of(content: &Content, read: &ReadLabels, node: &Node) -> Self {
        let files = content.files.iter().enumerate();
        let seen = files.filter(|(_, file)| file.nodes.contains(node.id()));
        Self {
            proven: node.is_proven(),
            router: node.dialect() == Dialect::Envoy && node.id().starts_with(ROUTER),
            files: seen.map(|(index, _)| index).collect(),
            dialect: node.dialect(),
            workload: read_part(node.shared_workload(), read),
        }
    }
}

#[cfg(test)]
impl Key {
    /// One with all labels, read or not.
    pub(super) fn whole(content: &Content, node: &Node) -> Self {
        Self {
            workload: node.shared_workload().clone(),
            ..Self::of(content, &ReadLabels::default(), node)
        }
    }
}

/// A workload without the labels that nothing reads.
fn read_part(workload: &Arc<Workload>, read: &ReadLabels) -> Arc<Workload> {
    let labels = workload.labels();
    if labels.keys().all(|key| read.contains(key)) {
        return workload.clone();
    }
    let mut part = Workload::clone(workload);
    part.retain_labels(|key| read.contains(key));
    if part.labels().is_empty() {
        part = part.label(UNREAD, "");
    }
    Arc::new(part)
}

/// Compiles, encodes, and compares with what was there before.
pub(super) fn make(
    content: &Content,
    key: &Key,
    before: &Snapshot,
    workshop: &Workshop,
) -> Snapshot {
    let told = &workshop.told;
    let mut compiled = compile(&content.objects, &key.workload, &content.options);
    tell(told, compiled.faults.iter());
    // Envoys are no servers of gRPC, and nobody else opens listeners at an edge.
    let (edge, doors) = match key.dialect {
        Dialect::Envoy => {
            let edge = Edge::new(content, key, &mut compiled.resources);
            (edge, Doors::default())
        }
        Dialect::Grpc | Dialect::Meshwork => {
            tell(told, unopened(&content.objects, &key.workload).iter());
            let client = (&*key.workload, key.proven);
            let doors = Doors::new(content, client, &compiled.resources);
            (Edge::default(), doors)
        }
    };
    tell(told, edge.faults.iter());
    tell(told, edge.texts.iter());
    let encoding = encode(&compiled.resources, key.dialect);
    let lost = encoding.lost.iter().chain(doors.lost()).chain(&edge.lost);
    for lost in lost {
        let text = lost.to_string();
        if told.is_new(&text) {
            tracing::warn!(target: "meshwork::control", dialect = ?key.dialect, "{text}");
        }
    }
    tell(told, doors.closed().iter());
    let encoded = encoding.resources.iter().map(|resource| {
        let kind = kind(resource.kind);
        Arc::new(encoded(kind, resource.name.clone(), &resource.bytes))
    });
    let egress = content
        .egress
        .iter()
        .filter(|_| key.dialect == Dialect::Envoy);
    // Those of services come later, in place of these.
    let no_routes = egress.clone().map(|egress| Arc::new(egress.no_routes()));
    let egress = egress.map(|egress| Arc::new(egress.encode()));
    let files = key.files.iter();
    let restricted = files.flat_map(|index| &content.files[*index].resources);
    let resources = no_routes
        .chain(encoded)
        .chain(egress)
        .chain(edge.listeners)
        .chain(content.resources.iter().cloned())
        .chain(restricted.cloned());
    let resources = workshop.interned.share(resources.collect());
    let spellings = (key.dialect != Dialect::Envoy)
        .then(|| Spellings::new(&key.workload, key.dialect, &compiled.resources, doors));
    before.with(resources, spellings.map(|found| Arc::new(found) as Arc<_>))
}

/// Logs what was not logged already.
fn tell(told: &Told, texts: impl Iterator<Item = impl std::fmt::Display>) {
    for text in texts {
        let text = text.to_string();
        if told.is_new(&text) {
            tracing::warn!(target: "meshwork::control", "{text}");
        }
    }
}

/// The listeners of an Envoy at the edge.
#[derive(Default)]
struct Edge {
    listeners: Vec<Arc<Encoded>>,
    faults: Faults,
    lost: BTreeSet<Lost>,
    texts: Vec<String>,
}

impl Edge {
    /// Those of the Gateways that select a client; their routes become a part of its resources.
    fn new(content: &Content, key: &Key, resources: &mut Resources) -> Self {
        let client = &*key.workload;
        let made = istio::edge(&content.objects, client, key.router, &content.options);
        let mut edge = Self {
            faults: made.faults,
            ..Self::default()
        };
        for routes in made.routes {
            resources.insert_routes(routes);
        }
        if made.listeners.is_empty() {
            return edge;
        }
        let (asked, closed) = asked(content, client, &resources.inbound);
        edge.texts = closed;
        for (address, chains) in &made.listeners {
            let mut declared = content.egress.iter();
            if declared.any(|egress| egress.address == *address) {
                edge.texts.push(format!(
                    "a Gateway has no listener at {address}: one of the command line has the address"
                ));
                continue;
            }
            let listener = edge::listener(*address, chains, &asked, &mut edge.lost);
            edge.listeners.push(Arc::new(listener));
        }
        edge
    }
}

/// A resource with what it refers to.
pub(super) fn encoded(kind: Kind, name: Arc<str>, body: &[u8]) -> Encoded {
    let mut parts = Parts::new(kind, name, body);
    parts.references = references::of(kind, body);
    parts.finish()
}

pub(super) fn kind(of: crate::source::xds::Kind) -> Kind {
    use crate::source::xds::Kind as Source;
    match of {
        Source::Cluster => Kind::Cluster,
        Source::Endpoints => Kind::Endpoints,
        Source::Listener => Kind::Listener,
        Source::RouteConfiguration => Kind::Routes,
        Source::Secret => Kind::Secret,
    }
}
