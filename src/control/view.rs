//! The view that one kind of client has of the mesh, made of content.

use std::sync::Arc;

use super::Dialect;
use super::inbound::Doors;
use super::kind::Kind;
use super::node::Node;
use super::references;
use super::resource::{Encoded, Parts};
use super::snapshot::Snapshot;
use super::spelling::Spellings;
use super::store::{Content, Told};
use crate::source::istio::compile;
use crate::source::xds::encode;
use crate::workload::Workload;

/// What a view depends on. Clients whose keys are equal share one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key {
    dialect: Dialect,
    workload: Workload,
    proven: bool,
    /// Which of the restricted resources it sees.
    files: Vec<usize>,
}

impl Key {
    pub(super) fn of(content: &Content, node: &Node) -> Self {
        let files = content.files.iter().enumerate();
        let seen = files.filter(|(_, file)| file.nodes.contains(node.id()));
        Self {
            proven: node.is_proven(),
            files: seen.map(|(index, _)| index).collect(),
            dialect: node.dialect(),
            workload: node.workload().clone(),
        }
    }
}

/// Compiles, encodes, and compares with what was there before.
pub(super) fn make(content: &Content, key: &Key, before: &Snapshot, told: &Told) -> Snapshot {
    let compiled = compile(&content.objects, &key.workload, &content.options);
    for fault in compiled.faults.iter() {
        let text = fault.to_string();
        if told.is_new(&text) {
            tracing::warn!(target: "meshwork::control", "{text}");
        }
    }
    let encoding = encode(&compiled.resources, key.dialect);
    // Envoys are no servers of gRPC: theirs are empty.
    let doors = match key.dialect {
        Dialect::Envoy => Doors::default(),
        Dialect::Grpc | Dialect::Meshwork => {
            Doors::new(content, (&key.workload, key.proven), &compiled.resources)
        }
    };
    for lost in encoding.lost.iter().chain(doors.lost()) {
        let text = lost.to_string();
        if told.is_new(&text) {
            tracing::warn!(target: "meshwork::control", dialect = ?key.dialect, "{text}");
        }
    }
    for text in doors.closed() {
        if told.is_new(text) {
            tracing::warn!(target: "meshwork::control", "{text}");
        }
    }
    let encoded = encoding.resources.iter().map(|resource| {
        let kind = kind(resource.kind);
        Arc::new(encoded(kind, resource.name.clone(), &resource.bytes))
    });
    let egress = content
        .egress
        .iter()
        .filter(|_| key.dialect == Dialect::Envoy);
    let egress = egress.map(|egress| Arc::new(egress.encode()));
    let files = key.files.iter();
    let restricted = files.flat_map(|index| &content.files[*index].resources);
    let resources = encoded
        .chain(egress)
        .chain(content.resources.iter().cloned())
        .chain(restricted.cloned());
    let spellings = (key.dialect != Dialect::Envoy)
        .then(|| Spellings::new(&key.workload, key.dialect, &compiled.resources, doors));
    before.with(resources, spellings.map(|found| Arc::new(found) as Arc<_>))
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
