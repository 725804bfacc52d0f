//! Who asks: a client's node message, and what of it decides on its view.
//!
//! Istio's clients say in their metadata which namespace, labels and service account they have; that
//! is what is read here, under istiod's names. A plain gRPC bootstrap says nothing but an id: such a
//! client is in the namespace `default` (or the one that its id ends with, if that is written as
//! istiod's agents do), has no labels, and speaks the dialect of its user agent.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node as Wire;
use envoy_types::pb::google::protobuf::{Struct, Value, value};

use super::ads::Refusal;
use super::limits::beginning;
use crate::model::endpoint::Locality;
use crate::model::identity::SpiffeId;
use crate::source::xds::Dialect;
use crate::workload::Workload;

/// The most of a node's id or user agent that is kept.
const TEXT: usize = 512;
/// Labels of one node.
const LABELS: usize = 256;

/// A client of the server.
///
/// ```
/// use meshwork::control::Node;
///
/// let node = Node::new("sidecar~10.0.0.7~order-1.my-app~my-app.svc.cluster.local");
/// assert_eq!(node.workload().namespace(), "my-app");
/// assert_eq!(Node::new("client-1").workload().namespace(), "default");
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    id: Arc<str>,
    cluster: Arc<str>,
    user_agent: Arc<str>,
    dialect: Dialect,
    /// Shared with the keys of views that its streams look for at each edit.
    workload: Arc<Workload>,
    proven: bool,
}

impl Node {
    /// A node of which nothing is known but its id. It speaks the dialect of gRPC, which is the
    /// narrowest.
    #[must_use]
    pub fn new(id: &str) -> Self {
        let wire = Wire {
            id: id.into(),
            ..Wire::default()
        };
        let workload = workload(&wire.id, &Struct::default(), None);
        Self::of(wire, workload, false)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Its cluster, as its bootstrap says it.
    #[must_use]
    pub fn cluster(&self) -> &Arc<str> {
        &self.cluster
    }

    /// The name of its implementation, and its version.
    #[must_use]
    pub fn user_agent(&self) -> &Arc<str> {
        &self.user_agent
    }

    /// What it understands.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whose view of the mesh it gets.
    #[must_use]
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// The same of another implementation.
    #[cfg(test)]
    pub(super) fn speaking(self, user_agent: &str) -> Self {
        let dialect = dialect(user_agent, None);
        Self { dialect, ..self }
    }

    pub(super) fn shared_workload(&self) -> &Arc<Workload> {
        &self.workload
    }

    /// Whether it has shown a certificate, so that it can show one to others.
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Reads a node message. What a certificate says of its peer is what counts: the node must not
    /// say otherwise.
    ///
    /// # Errors
    /// The node is in another namespace, or has another service account, than its certificate.
    pub(super) fn read(wire: Wire, peer: Option<&SpiffeId>) -> Result<Self, Refusal> {
        let said = workload(
            &wire.id,
            wire.metadata.as_ref().unwrap_or(&Struct::default()),
            None,
        );
        let metadata = wire.metadata.clone().unwrap_or_default();
        let proven = peer.and_then(|peer| Some((peer.namespace()?, peer.service_account()?)));
        if let Some((namespace, account)) = proven {
            let says_namespace = text(&metadata, "NAMESPACE").is_some() || wire.id.contains('~');
            let says_account = text(&metadata, "SERVICE_ACCOUNT").is_some();
            if (says_namespace && said.namespace() != namespace)
                || (says_account && said.service_account() != account)
            {
                return Err(Refusal::denied(format!(
                    "the node says {}/{}, its certificate {namespace}/{account}",
                    said.namespace(),
                    said.service_account(),
                )));
            }
        }
        let workload = workload(&wire.id, &metadata, proven);
        Ok(Self::of(wire, workload, peer.is_some()))
    }

    fn of(wire: Wire, mut workload: Workload, proven: bool) -> Self {
        let Wire {
            id,
            cluster,
            metadata,
            locality,
            user_agent_name,
            user_agent_version_type,
            ..
        } = wire;
        let metadata = metadata.unwrap_or_default();
        let agent_version = version(user_agent_version_type);
        if let Some(found) = locality.filter(|found| !found.region.is_empty()) {
            workload = workload.with_locality(Locality {
                region: found.region.into(),
                zone: found.zone.into(),
                sub_zone: found.sub_zone.into(),
            });
        }
        Self {
            dialect: dialect(&user_agent_name, text(&metadata, "GENERATOR")),
            id: cut(&id),
            cluster: cut(&cluster),
            user_agent: cut(format!("{user_agent_name} {agent_version}").trim()),
            workload: Arc::new(workload),
            proven,
        }
    }
}

/// The dialect: what the client asks for, else what its implementation understands.
fn dialect(user_agent: &str, generator: Option<&str>) -> Dialect {
    let agent = user_agent.to_ascii_lowercase();
    match generator {
        Some("grpc") => Dialect::Grpc,
        _ if agent == "meshwork" => Dialect::Meshwork,
        _ if agent == "envoy" => Dialect::Envoy,
        _ => Dialect::Grpc,
    }
}

/// The workload that a node says it is, under the namespace and service account that are proven.
fn workload(id: &str, metadata: &Struct, proven: Option<(&str, &str)>) -> Workload {
    // istiod: `type~ip~name.namespace~namespace.svc.domain`.
    let domain = match id.split('~').collect::<Vec<_>>()[..] {
        [_, _, _, domain] => domain,
        _ => "",
    };
    let (of_id, rest) = domain.split_once('.').unwrap_or((domain, ""));
    let namespace = text(metadata, "NAMESPACE").filter(|text| !text.is_empty());
    let account = text(metadata, "SERVICE_ACCOUNT").unwrap_or_default();
    let (namespace, account) = proven.unwrap_or((namespace.unwrap_or(of_id), account));
    let mut workload = Workload::new(namespace, account);
    if let Some(domain) = rest
        .strip_prefix("svc.")
        .filter(|domain| !domain.is_empty())
    {
        workload = workload.with_cluster_domain(domain);
    }
    if let Some(value::Kind::StructValue(labels)) = kind(metadata, "LABELS") {
        // Which of too many are taken must not depend on the order of a hash map.
        let labels: BTreeMap<&String, &Value> = labels.fields.iter().collect();
        for (key, value) in labels.into_iter().take(LABELS) {
            if let Some(value::Kind::StringValue(value)) = &value.kind {
                workload = workload.label(key.clone(), value.clone());
            }
        }
    }
    workload
}

fn kind<'a>(metadata: &'a Struct, key: &str) -> Option<&'a value::Kind> {
    metadata.fields.get(key)?.kind.as_ref()
}

fn text<'a>(metadata: &'a Struct, key: &str) -> Option<&'a str> {
    match kind(metadata, key)? {
        value::Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

fn version(
    of: Option<envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType>,
) -> String {
    use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType as Type;
    match of {
        Some(Type::UserAgentVersion(version)) => version,
        Some(Type::UserAgentBuildVersion(build)) => build.version.map_or_else(String::new, |v| {
            format!("{}.{}.{}", v.major_number, v.minor_number, v.patch)
        }),
        None => String::new(),
    }
}

fn cut(text: &str) -> Arc<str> {
    beginning(text, TEXT).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ads::Reason;

    fn metadata(pairs: &[(&str, value::Kind)]) -> Struct {
        let fields = pairs.iter().map(|(key, kind)| {
            let value = Value {
                kind: Some(kind.clone()),
            };
            (key.to_string(), value)
        });
        Struct {
            fields: fields.collect(),
        }
    }

    fn string(text: &str) -> value::Kind {
        value::Kind::StringValue(text.into())
    }

    #[test]
    fn istio_metadata_is_read() {
        let labels = metadata(&[
            ("app", string("order")),
            ("number", value::Kind::NumberValue(1.0)),
        ]);
        let wire = Wire {
            id: "sidecar~10.0.0.7~order-1.shop~shop.svc.mesh.example".into(),
            metadata: Some(metadata(&[
                ("NAMESPACE", string("my-app")),
                ("SERVICE_ACCOUNT", string("order-sa")),
                ("GENERATOR", string("grpc")),
                ("LABELS", value::Kind::StructValue(labels)),
            ])),
            user_agent_name: "envoy".into(),
            ..Wire::default()
        };
        let node = Node::read(wire, None).expect("nothing contradicts it");
        assert_eq!(node.workload().namespace(), "my-app");
        assert_eq!(node.workload().service_account(), "order-sa");
        assert_eq!(node.workload().labels().len(), 1);
        assert_eq!(node.workload().cluster_domain(), "mesh.example");
        assert_eq!(node.dialect(), Dialect::Grpc);
    }

    #[test]
    fn k4_a_certificate_says_who_a_node_is_and_the_node_must_not_say_otherwise() {
        let peer = SpiffeId::new("spiffe://cluster.local/ns/shop/sa/cart").expect("an identity");
        let read = |id: &str, pairs: &[(&str, value::Kind)]| {
            let wire = Wire {
                id: id.into(),
                metadata: Some(metadata(pairs)),
                ..Wire::default()
            };
            Node::read(wire, Some(&peer))
        };
        let plain = read("anything", &[]).expect("it says nothing");
        assert_eq!(plain.workload().namespace(), "shop");
        assert_eq!(plain.workload().service_account(), "cart");
        assert!(read("n", &[("NAMESPACE", string("shop"))]).is_ok());
        for (id, pairs) in [
            ("n", vec![("NAMESPACE", string("bank"))]),
            ("n", vec![("SERVICE_ACCOUNT", string("admin"))]),
            ("sidecar~10.0.0.1~x.bank~bank.svc.cluster.local", vec![]),
        ] {
            let refusal = read(id, &pairs).expect_err("refused");
            assert_eq!(refusal.reason, Reason::Denied);
            assert!(
                refusal.message.ends_with("its certificate shop/cart"),
                "{}",
                refusal.message
            );
        }
    }

    #[test]
    fn plain_nodes_have_defaults_and_the_dialect_of_their_implementation() {
        let agent = |name: &str| {
            let wire = Wire {
                id: "n".into(),
                user_agent_name: name.into(),
                ..Wire::default()
            };
            Node::read(wire, None)
                .expect("nothing contradicts it")
                .dialect()
        };
        assert_eq!(agent("envoy"), Dialect::Envoy);
        assert_eq!(agent("meshwork"), Dialect::Meshwork);
        for grpc in [
            "gRPC Go",
            "gRPC C-core linux",
            "gRPC Node Pure JS",
            "gRPC Java",
            "",
        ] {
            assert_eq!(agent(grpc), Dialect::Grpc, "{grpc}");
        }
        let node = Node::new(&"é".repeat(5_000));
        assert!(node.id().len() <= TEXT);
        assert_eq!(node.workload(), &Workload::new("default", ""));
    }
}
