//! Files of xDS resources, in the format in which Envoy reads them from its file system.
//!
//! ```yaml
//! version_info: "7"
//! nodes: [order-1]
//! resources:
//! - "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
//!   name: catalog
//!   type: EDS
//! ```
//!
//! They are documents beside those of the kinds, told from them by having `resources` and neither
//! `kind` nor `apiVersion`, and are served as they are. A resource may also stand in an
//! `envoy.service.discovery.v3.Resource`, which gives it a name, a version and a time to live of its
//! own. What a message means to a client is not judged, since another maker's client decides; that it
//! is such a message is, field by field, so that a slip is found before it is served.

mod variant;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Number, Value as Json};

use super::OnDuplicate;
use super::fault::{Code, Fault, Faults, ObjectRef, Severity, quoted};
use super::yaml::{Node, Path, Resolved, Segment, Value};
use crate::source::xds::json::{self, Misfit};

/// Kinds of resources by the names of their messages, each with the field that is its name.
const KINDS: &[(&str, &str)] = &[
    ("envoy.config.cluster.v3.Cluster", "name"),
    ("envoy.config.core.v3.TypedExtensionConfig", "name"),
    (
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name",
    ),
    ("envoy.config.listener.v3.Listener", "name"),
    ("envoy.config.route.v3.RouteConfiguration", "name"),
    ("envoy.config.route.v3.ScopedRouteConfiguration", "name"),
    ("envoy.config.route.v3.VirtualHost", "name"),
    (SECRET, "name"),
    ("envoy.service.runtime.v3.Runtime", "name"),
];
/// Whose faults show no line of the file.
const SECRET: &str = "envoy.extensions.transport_sockets.tls.v3.Secret";
/// What a resource may be wrapped in.
const WRAPPER: &str = "envoy.service.discovery.v3.Resource";
/// What a document may say.
const FIELDS: &[&str] = &["nodes", "resources", "version_info"];

/// A document of resources.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct RawFile {
    /// The ids of the nodes that see it; empty: all.
    pub(crate) nodes: Vec<Arc<str>>,
    pub(crate) resources: Vec<RawResource>,
}

/// One resource.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RawResource {
    pub(crate) type_url: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) aliases: Vec<Arc<str>>,
    pub(crate) ttl: Option<Duration>,
    /// What clients are told as its version.
    pub(crate) version: Option<Arc<str>>,
    pub(crate) bytes: Vec<u8>,
    /// What it asks of the parameters of subscriptions, as a message, if it is one variant of several.
    pub(crate) constraints: Option<Vec<u8>>,
    file: Arc<str>,
    line: u32,
}

/// A document as it was parsed.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) file: Arc<str>,
    pub(super) root: Node,
}

/// Reads documents of resources; what is wrong with any of them goes to `faults`.
pub(super) fn files(
    documents: &[Document],
    duplicates: OnDuplicate,
    faults: &mut Faults,
) -> Vec<RawFile> {
    let mut read = Vec::new();
    for document in documents {
        let mut reader = Reader {
            file: &document.file,
            faults,
        };
        read.push(reader.document(&document.root));
    }
    if duplicates == OnDuplicate::Reject {
        twice(&read, faults);
    }
    read
}

struct Reader<'a> {
    file: &'a Arc<str>,
    faults: &'a mut Faults,
}

impl Reader<'_> {
    fn fault(&mut self, (line, column): (u32, u32), code: Code, path: &str, text: String) {
        let fault = Fault::new(Severity::Error, code, text);
        self.faults
            .push(fault.at(self.file, line, column).field(path));
    }

    fn document(&mut self, root: &Node) -> RawFile {
        for entry in root.entries() {
            if !FIELDS.contains(&&*entry.key) && entry.key != "versionInfo" {
                let text = format!(
                    "a file of xDS resources has no field of this name; allowed: {}",
                    FIELDS.join(", ")
                );
                let place = (entry.line, entry.column);
                self.fault(place, Code::UnknownField, &entry.key, text);
            }
        }
        let version = root.get("version_info").or_else(|| root.get("versionInfo"));
        let version = version.and_then(|node| self.text(node, "version_info"));
        let nodes = root.get("nodes").map(|node| self.nodes(node));
        let mut file = RawFile {
            nodes: nodes.unwrap_or_default(),
            resources: Vec::new(),
        };
        let Some(resources) = root.get("resources") else {
            return file;
        };
        if !matches!(resources.value, Value::Sequence(_)) {
            let text = format!("found {}, expected a list of resources", resources.found());
            let place = (resources.line, resources.column);
            self.fault(place, Code::Value, "resources", text);
        }
        for (index, item) in resources.items().iter().enumerate() {
            let path = format!("resources[{index}]");
            let read = self.resource(item, &path, version.as_ref());
            file.resources.extend(read);
        }
        file
    }

    fn text(&mut self, node: &Node, path: &str) -> Option<Arc<str>> {
        match node.text().filter(|text| !text.is_empty()) {
            Some(text) => Some(text.into()),
            None => {
                let text = format!("found {}, expected a text that is not empty", node.found());
                self.fault((node.line, node.column), Code::Value, path, text);
                None
            }
        }
    }

    /// An empty list would be seen by nobody, or by everybody: it is neither.
    fn nodes(&mut self, node: &Node) -> Vec<Arc<str>> {
        let items = node.items();
        if items.is_empty() {
            let text = format!("found {}, expected a list of ids of nodes", node.found());
            self.fault((node.line, node.column), Code::Value, "nodes", text);
        }
        let ids = items.iter().enumerate();
        ids.filter_map(|(index, item)| self.text(item, &format!("nodes[{index}]")))
            .collect()
    }

    fn resource(
        &mut self,
        node: &Node,
        path: &str,
        version: Option<&Arc<str>>,
    ) -> Option<RawResource> {
        let place = (node.line, node.column);
        let Json::Object(mut object) = json(node) else {
            let text = format!("found {}, expected a resource", node.found());
            self.fault(place, Code::Value, path, text);
            return None;
        };
        if type_name(&object) != WRAPPER {
            return self.message(node, path, object, version);
        }
        let inner = object.remove("resource");
        let within = format!("{path}.resource");
        let (Some(Json::Object(inner)), Some(inner_node)) = (inner, node.get("resource")) else {
            let text = "has no resource, which is what it is around".to_owned();
            self.fault(place, Code::Value, path, text);
            return None;
        };
        // The rest is checked as the message that it is, and taken apart by hand.
        let of = json::descriptor(WRAPPER)?;
        if let Err(misfits) = json::read(&of, object.clone()) {
            self.misfits(node, path, None, misfits);
            return None;
        }
        let text = |key: &str| object.get(key).and_then(Json::as_str).map(Arc::<str>::from);
        let own = text("version").filter(|version| !version.is_empty());
        let mut resource = self.message(inner_node, &within, inner, own.as_ref().or(version))?;
        let name = text("name").filter(|name| !name.is_empty());
        if let Some((variant, constraints)) = self.variant(node, path, &object, name.as_ref())? {
            resource.name = variant;
            resource.constraints = constraints;
        }
        resource.name = name.unwrap_or(resource.name);
        let aliases = object.get("aliases").and_then(Json::as_array);
        let aliases = aliases.into_iter().flatten().filter_map(Json::as_str);
        resource.aliases = aliases.map(Arc::from).collect();
        resource.ttl = object.get("ttl").and_then(Json::as_str).and_then(seconds);
        Some(resource)
    }

    fn message(
        &mut self,
        node: &Node,
        path: &str,
        object: Map<String, Json>,
        version: Option<&Arc<str>>,
    ) -> Option<RawResource> {
        let place = (node.line, node.column);
        let named = type_name(&object).to_owned();
        let known = KINDS.iter().find(|(kind, _)| *kind == named);
        let (Some((kind, name_field)), Some(of)) = (known, json::descriptor(&named)) else {
            let place = Path(vec!["@type".into()]).locate(node);
            let kinds = KINDS.iter().map(|(kind, _)| *kind).collect::<Vec<_>>();
            let text = format!(
                "found {}, expected type.googleapis.com/ and one of {}",
                match &*named {
                    "" => "no \"@type\"".to_owned(),
                    name => quoted(name),
                },
                kinds.join(", ")
            );
            self.fault(place, Code::UnknownKind, &format!("{path}.@type"), text);
            return None;
        };
        let camel = if *name_field == "name" {
            "name"
        } else {
            "clusterName"
        };
        let name = object.get(*name_field).or_else(|| object.get(camel));
        let name = name.and_then(Json::as_str).unwrap_or_default().to_owned();
        let reference = ObjectRef {
            kind: kind.rsplit('.').next().unwrap_or(kind).into(),
            namespace: "".into(),
            name: name.as_str().into(),
        };
        match json::read(&of, object) {
            Err(misfits) if *kind == SECRET => {
                self.secret(place, path, &reference, &misfits);
                None
            }
            Err(misfits) => {
                self.misfits(node, path, Some(&reference), misfits);
                None
            }
            Ok(_) if name.is_empty() => {
                let text = format!("{name_field} is missing, by which clients ask for it");
                self.fault(place, Code::Value, path, text);
                None
            }
            Ok(bytes) => Some(RawResource {
                type_url: format!("type.googleapis.com/{kind}").into(),
                name: name.into(),
                aliases: Vec::new(),
                ttl: None,
                version: version.cloned(),
                bytes,
                constraints: None,
                file: Arc::clone(self.file),
                line: node.line,
            }),
        }
    }

    fn misfits(
        &mut self,
        node: &Node,
        path: &str,
        object: Option<&ObjectRef>,
        misfits: Vec<Misfit>,
    ) {
        for misfit in misfits {
            let (line, column) = way(&misfit.path).locate(node);
            let code = match misfit.text.contains("no field of this name") {
                true => Code::UnknownField,
                false => Code::Value,
            };
            let dot = if misfit.path.is_empty() { "" } else { "." };
            let mut fault = Fault::new(Severity::Error, code, misfit.text)
                .at(self.file, line, column)
                .field(format!("{path}{dot}{}", misfit.path));
            if let Some(object) = object {
                fault = fault.object_ref(object.clone());
            }
            self.faults.push(match misfit.hint {
                Some(hint) => fault.hinted(hint),
                None => fault,
            });
        }
    }

    /// Where a secret is wrong, without what is there: faults are logged, and show lines.
    fn secret(
        &mut self,
        (line, _): (u32, u32),
        path: &str,
        object: &ObjectRef,
        misfits: &[Misfit],
    ) {
        for misfit in misfits {
            let text = format!(
                "does not fit at {:?} of the secret that begins at line {line}; what was found is \
                 not shown",
                misfit.path
            );
            let fault = Fault::new(Severity::Error, Code::Value, text);
            let fault = fault.at(self.file, 0, 0).object_ref(object.clone());
            self.faults.push(fault.field(path));
        }
    }
}

/// The same resource twice for one node.
fn twice(files: &[RawFile], faults: &mut Faults) {
    type Key<'k> = (&'k str, &'k str, Option<&'k [u8]>);
    let mut known: HashMap<Key<'_>, Vec<(&RawFile, &RawResource)>> = HashMap::new();
    for file in files {
        for resource in &file.resources {
            let constraints = resource.constraints.as_deref();
            let key = (&*resource.type_url, &*resource.name, constraints);
            let others = known.entry(key).or_default();
            if let Some((_, first)) = others.iter().find(|(other, _)| overlap(other, file)) {
                let text = format!(
                    "{} stands at {}:{} already",
                    quoted(&resource.name),
                    first.file,
                    first.line
                );
                let fault = Fault::new(Severity::Error, Code::DuplicateObject, text);
                let fault = fault.at(&resource.file, resource.line, 1);
                faults.push(fault.hinted("remove one, or say whose it is with \"nodes\""));
            }
            others.push((file, resource));
        }
    }
}

fn overlap(one: &RawFile, other: &RawFile) -> bool {
    let all = one.nodes.is_empty() || other.nodes.is_empty();
    all || one.nodes.iter().any(|node| other.nodes.contains(node))
}

fn type_name(object: &Map<String, Json>) -> &str {
    let url = object.get("@type").and_then(Json::as_str);
    url.and_then(|url| url.rsplit('/').next())
        .unwrap_or_default()
}

/// `1.5s`; protobuf's JSON has been read before.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// A path of a message as a way through the tree.
fn way(path: &str) -> Path {
    let mut segments = Vec::new();
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let (field, indices) = part.split_once('[').unwrap_or((part, ""));
        segments.push(Segment::Field(field.to_owned().into()));
        let indices = indices.split('[').map(|index| index.trim_end_matches(']'));
        let indices = indices.filter_map(|index| index.parse().ok());
        segments.extend(indices.map(Segment::Index));
    }
    Path(segments)
}

/// The tree as JSON; its depth is bounded by the parser.
fn json(node: &Node) -> Json {
    match &node.value {
        Value::Pruned => Json::Null,
        Value::Mapping(entries) => {
            let entries = entries.iter();
            Json::Object(
                entries
                    .map(|entry| (entry.key.clone(), json(&entry.value)))
                    .collect(),
            )
        }
        Value::Sequence(items) => items.iter().map(json).collect(),
        Value::Scalar(scalar) => match scalar.resolve() {
            Resolved::Null => Json::Null,
            Resolved::Bool(flag) => flag.into(),
            Resolved::Float(number) => Number::from_f64(number).map_or(Json::Null, Json::Number),
            Resolved::Integer(number) => {
                let signed = i64::try_from(number).map(Number::from);
                let number = signed.or_else(|_| u64::try_from(number).map(Number::from));
                number.map_or_else(|_| scalar.text.as_str().into(), Json::Number)
            }
            Resolved::Text(text) => text.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::istio::{Options, read};

    const GOOD: &str = r#"
version_info: "7"
nodes: [order-1, order-2]
resources:
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: catalog
  type: EDS
  connectTimeout: 1s
- "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: catalog
  endpoints:
  - lb_endpoints:
    - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 80}}}
- "@type": type.googleapis.com/envoy.service.discovery.v3.Resource
  name: other
  version: "9"
  ttl: 2.5s
  aliases: [another]
  resource:
    "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
    name: inner
"#;

    fn faults(text: &str) -> Vec<String> {
        let read = read([("raw.yaml", text)], &Options::default());
        read.faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn resources_of_mixed_types_are_read_beside_objects() {
        let service =
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n";
        let json = r#"{"resources": [{"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "l"}]}"#;
        let both = format!("{service}---{GOOD}");
        let read = read([("a.yaml", &*both), ("b.json", json)], &Options::default());
        assert!(read.faults.is_empty(), "{}", read.faults);
        assert_eq!((read.objects.len(), read.raw.len()), (1, 2));
        let file = &read.raw[0];
        assert_eq!(file.nodes, ["order-1".into(), "order-2".into()]);
        let told: Vec<(&str, Option<&str>)> = file
            .resources
            .iter()
            .map(|one| (&*one.name, one.version.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                ("catalog", Some("7")),
                ("catalog", Some("7")),
                ("other", Some("9"))
            ]
        );
        let wrapped = &file.resources[2];
        assert_eq!(wrapped.ttl, Some(Duration::from_millis(2_500)));
        assert_eq!(wrapped.aliases, ["another".into()]);
        assert!(read.raw[1].nodes.is_empty() && read.raw[1].resources[0].version.is_none());
    }

    #[test]
    fn every_slip_is_told_with_its_line_and_what_is_allowed() {
        let text = GOOD
            .replace("type: EDS", "typ: EDS")
            .replace("port_value: 80", "port_value: many")
            .replace("nodes: [order-1, order-2]", "nods: [order-1]");
        let told = faults(&text);
        assert_eq!(told.len(), 3, "{told:#?}");
        for (wanted, line) in [
            ("did you mean \"type\"?", 7),
            ("port_value", 13),
            ("nods", 3),
        ] {
            let found = told.iter().find(|text| text.contains(wanted));
            let found = found.unwrap_or_else(|| panic!("{wanted}: {told:#?}"));
            assert!(found.contains(&format!("raw.yaml:{line}:")), "{found}");
        }
    }

    #[test]
    fn what_is_no_resource_is_refused() {
        for (text, wanted) in [
            ("resources: 7\n", "expected a list"),
            ("resources: [7]\n", "expected a resource"),
            ("resources: [{name: a}]\n", "no \"@type\""),
            (
                "resources: [{'@type': type.googleapis.com/envoy.type.v3.Percent}]\n",
                "expected type.googleapis.com/",
            ),
            (
                "resources: [{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster}]\n",
                "name is missing",
            ),
            ("nodes: []\nresources: []\n", "ids of nodes"),
            (
                "resources: [{'@type': type.googleapis.com/envoy.service.discovery.v3.Resource}]\n",
                "has no resource",
            ),
        ] {
            let told = faults(text);
            assert!(
                told.len() == 1 && told[0].contains(wanted),
                "{text}: {told:#?}"
            );
        }
    }

    #[test]
    fn the_same_resource_twice_is_an_error_unless_no_node_sees_both() {
        let one = "resources: [{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: a}]\n";
        let count =
            |first: &str, second: &str| faults(&format!("{first}{one}---\n{second}{one}")).len();
        assert_eq!(count("", ""), 1);
        assert_eq!(count("nodes: [x]\n", ""), 1);
        assert_eq!(count("nodes: [x]\n", "nodes: [y, x]\n"), 1);
        assert_eq!(count("nodes: [x]\n", "nodes: [y]\n"), 0);
    }

    #[test]
    fn faults_of_a_secret_show_nothing_of_it() {
        let text = "resources:\n- '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret\n  name: s\n  tls_certificate:\n    private_key: PRIVATE\n";
        let told = faults(text);
        assert_eq!(told.len(), 1);
        assert!(!told[0].contains("PRIVATE"), "{told:?}");
        assert!(told[0].contains("tls_certificate.private_key"), "{told:?}");
    }
}
