//! What is read of Istio's `Gateway`: its name and the hosts that it takes.
//!
//! There is no gateway in this mesh, so the kind is not enforced, and a file of it is only told of. But a
//! VirtualService that is for the mesh and for a gateway is one object, and whether the gateway takes
//! its hosts is a question that nobody but this file answers (Istio's IST0101 and IST0132). So as much is
//! kept as that question needs. It is read leniently: a fault in it is the gateway's.

use std::sync::Arc;

use super::kinds::Meta;
use super::yaml::Node;

/// The group of Istio's kind; that of the Gateway API has routes of its own.
const GROUP: &str = "networking.istio.io";
/// How many hosts of one gateway are kept, and how long they may be; what is more takes anything.
const HOSTS: usize = 1_024;
const LENGTH: usize = 512;

/// A gateway of the set.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    /// As written: `host`, or `namespace/host`.
    pub(crate) hosts: Vec<String>,
}

impl Gateway {
    /// The gateway that a document describes, if it does.
    pub(super) fn of(kind: &str, group: &str, root: &Node, meta: &Meta) -> Option<Self> {
        if (kind, group) != ("Gateway", GROUP) {
            return None;
        }
        let servers = root.get("spec").and_then(|spec| spec.get("servers"));
        let servers = servers.map(Node::items).unwrap_or_default().iter();
        let hosts =
            servers.flat_map(|server| server.get("hosts").map(Node::items).unwrap_or_default());
        let mut hosts: Vec<String> = hosts
            .filter_map(Node::text)
            .map(str::to_ascii_lowercase)
            .take(HOSTS + 1)
            .collect();
        if hosts.len() > HOSTS || hosts.iter().any(|host| host.len() > LENGTH) {
            hosts = vec!["*".to_owned()];
        }
        Some(Self {
            namespace: Arc::clone(&meta.namespace),
            name: Arc::clone(&meta.name),
            hosts,
        })
    }

    /// The hosts that it takes of objects of a namespace.
    pub(crate) fn hosts_for<'g>(&'g self, namespace: &'g str) -> impl Iterator<Item = &'g str> {
        self.hosts.iter().filter_map(move |written| {
            let Some((from, host)) = written.split_once('/') else {
                return Some(written.as_str());
            };
            let own = from == "." && *self.namespace == *namespace;
            (from == "*" || own || from == namespace).then_some(host)
        })
    }
}
