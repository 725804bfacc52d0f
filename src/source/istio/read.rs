//! From texts to valid objects: find the documents, expand lists, choose the kind, decode, check.

use std::collections::HashMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::fault::{Code, Fault, Faults, ObjectRef, Severity, Sources, did_you_mean, quoted};
use super::kinds::catalog::{
    CATALOG, CatalogEntry, Reads, Treatment, find, is_mesh_group, split_api_version,
};
use super::kinds::{Kind, Meta, Object, Workload};
use super::validate::{Checker, Finding, annotations, metadata, rules};
use super::yaml::{Decoded, Dialect, FieldFault, Node, Path, Segment, Value, decode, parse};
use super::{OnDuplicate, Options, Strictness};
use crate::model::Origin;

/// Objects of one set of files.
const OBJECTS: usize = 100_000;

/// What a set of files says.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// The objects without faults, by file and place in it.
    pub objects: Vec<Object>,
    /// All that is wrong. With an error among them the objects are not the whole configuration.
    pub faults: Faults,
    /// The texts, so that later stages can show their lines.
    pub sources: Sources,
    /// Files of xDS resources, as they were read: where they were written, and in them.
    #[cfg(feature = "control-plane")]
    pub(crate) raw: Vec<super::raw::RawFile>,
    /// Where these begin, so that whoever does not serve them says so.
    pub(super) beside: Vec<Fault>,
}

/// Reads the texts of a set of files, given with the names under which faults show them.
///
/// It does no IO and cannot fail: what is wrong is in [`Read::faults`]. The result depends on the
/// order of the files only where the same object is written twice.
///
/// ```
/// use meshwork::source::istio::{Options, kinds::Kind, read};
///
/// let text = r#"
/// apiVersion: networking.istio.io/v1
/// kind: VirtualService
/// metadata: {name: catalog, namespace: my-app}
/// spec:
///   hosts: [catalog]
///   http:
///   - timeout: 5s
///     route: [{destination: {host: catalog}}]
/// "#;
/// let read = read([("catalog.yaml", text)], &Options::default());
/// assert!(read.faults.is_empty(), "{}", read.faults);
/// let Kind::VirtualService(service) = &read.objects[0].kind else { panic!("another kind") };
/// assert_eq!(service.http[0].route.len(), 1);
/// ```
pub fn read<P, T>(files: impl IntoIterator<Item = (P, T)>, options: &Options) -> Read
where
    P: Into<Arc<str>>,
    T: AsRef<str>,
{
    let mut reader = Reader::new(options);
    for (file, text) in files {
        reader.file(&file.into(), text.as_ref());
    }
    reader.finish()
}

/// Where an object was written.
#[derive(Clone, Debug)]
struct Place {
    file: Arc<str>,
    document: u32,
    line: u32,
    column: u32,
}

pub(super) struct Reader<'a> {
    options: &'a Options,
    #[cfg(feature = "control-plane")]
    raw: Vec<super::raw::Document>,
    beside: Vec<Fault>,
    objects: Vec<Option<Object>>,
    pub(super) faults: Faults,
    sources: Sources,
    /// Place of each object that was named, and its index when it is without faults.
    names: HashMap<(String, ObjectRef), (Place, Option<usize>)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(options: &'a Options) -> Self {
        Self {
            options,
            #[cfg(feature = "control-plane")]
            raw: Vec::new(),
            beside: Vec::new(),
            objects: Vec::new(),
            faults: Faults::default(),
            sources: Sources::default(),
            names: HashMap::new(),
        }
    }

    pub(super) fn file(&mut self, file: &Arc<str>, text: &str) {
        let (documents, faults) = parse(file, text);
        self.faults.extend(faults);
        self.sources.insert(Arc::clone(file), text);
        for document in documents {
            let place = Place {
                file: Arc::clone(file),
                document: document.number,
                line: document.root.line,
                column: document.root.column,
            };
            self.document(document.root, place);
        }
    }

    pub(super) fn finish(mut self) -> Read {
        #[cfg(feature = "control-plane")]
        let raw = super::raw::files(&self.raw, self.options.on_duplicate, &mut self.faults);
        self.faults.show(&self.sources);
        Read {
            #[cfg(feature = "control-plane")]
            raw,
            beside: self.beside,
            objects: self.objects.into_iter().flatten().collect(),
            faults: self.faults,
            sources: self.sources,
        }
    }

    fn fault(&mut self, severity: Severity, code: Code, place: &Place, text: String) {
        let fault = Fault::new(severity, code, text);
        self.faults
            .push(fault.at(&place.file, place.line, place.column));
    }

    fn document(&mut self, root: Node, place: Place) {
        if root.is_null() {
            return;
        }
        let api_version = root.get("apiVersion").and_then(Node::text);
        let kind = root.get("kind").and_then(Node::text);
        if let Some(mesh) = mesh_of(&root) {
            self.mesh(mesh, place);
            return;
        }
        if is_of_resources(&root) {
            self.resources(root, &place);
            return;
        }
        let (Some(api_version), Some(kind)) = (api_version, kind) else {
            let text = "expected an object with apiVersion and kind";
            let text = match root.value {
                Value::Mapping(_) => text.to_owned(),
                Value::Pruned | Value::Scalar(_) | Value::Sequence(_) => {
                    format!("found {}, {text}", root.found())
                }
            };
            self.fault(Severity::Error, Code::NotAnObject, &place, text);
            return;
        };
        if is_list(&root, kind, api_version) {
            self.list(root, &place);
            return;
        }
        match choose(kind, api_version) {
            Choice::Entry(entry) => self.entry(root, place, entry),
            Choice::Fault(severity, code, text, hint) => {
                let (line, column) = Path(vec!["kind".into()]).locate(&root);
                let place = Place {
                    line,
                    column,
                    ..place
                };
                let fault = Fault::new(severity, code, text);
                let fault = fault.at(&place.file, line, column);
                self.faults.push(match hint {
                    Some(hint) => fault.hinted(hint),
                    None => fault,
                });
            }
        }
    }

    /// A file of xDS resources; without a control plane nobody could serve it.
    fn resources(&mut self, root: Node, place: &Place) {
        let text = "xDS resources are served by `meshwork serve`; a mesh that reads these files itself \
                    does not use them";
        let fault = Fault::new(Severity::Warning, Code::NotEnforced, text);
        self.beside
            .push(fault.at(&place.file, place.line, place.column));
        #[cfg(feature = "control-plane")]
        self.raw.push(super::raw::Document {
            file: Arc::clone(&place.file),
            root,
        });
        #[cfg(not(feature = "control-plane"))]
        drop(root);
    }

    fn list(&mut self, root: Node, place: &Place) {
        let Value::Mapping(entries) = root.value else {
            return;
        };
        for entry in entries.into_iter().filter(|entry| entry.key == "items") {
            let Value::Sequence(items) = entry.value.value else {
                let text = "items of a List must be a list".to_owned();
                self.fault(Severity::Error, Code::NotAnObject, place, text);
                continue;
            };
            for item in items {
                let place = Place {
                    line: item.line,
                    column: item.column,
                    ..place.clone()
                };
                // The depth of the tree is bounded, so lists of lists end.
                self.document(item, place);
            }
        }
    }

    fn entry(&mut self, mut root: Node, place: Place, entry: &'static CatalogEntry) {
        let cluster_scoped = entry.treatment == Treatment::Read(Reads::Namespace);
        let (meta, mut findings) = metadata(&mut root, cluster_scoped);
        let object = ObjectRef {
            kind: entry.kind.into(),
            namespace: cut(&meta.namespace),
            name: cut(&meta.name),
        };
        let kind = match entry.treatment {
            Treatment::Read(reads) => {
                if is_mesh_group(entry.group) {
                    findings.extend(self.top_level(&root));
                }
                let kind = self.decode(&mut root, reads, &meta, &mut findings);
                if let Some(kind) = &kind {
                    findings.extend(annotations(&root, kind, &meta));
                }
                kind
            }
            Treatment::Idle | Treatment::Never | Treatment::Unenforced => {
                let (severity, text, hint) = self.unenforced(entry);
                let fault = Fault::new(severity, Code::NotEnforced, text);
                let fault = fault.at(&place.file, place.line, place.column);
                let fault = fault.object_ref(object.clone());
                self.faults.push(match hint {
                    Some(hint) => fault.hinted(hint),
                    None => fault,
                });
                None
            }
        };
        self.add(entry.group, object, meta, place, kind, findings);
    }

    /// Tells what was found and keeps the object if nothing of it is an error.
    fn add(
        &mut self,
        group: &str,
        object: ObjectRef,
        meta: Meta,
        place: Place,
        kind: Option<Kind>,
        findings: Vec<Finding>,
    ) {
        let mut good = true;
        for (severity, finding) in findings {
            good &= severity != Severity::Error;
            self.faults
                .push(to_fault(severity, finding, &place, &object));
        }
        let valid = kind.filter(|_| good).map(|kind| Object {
            origin: Origin::file(Arc::clone(&place.file), place.line, object.to_string()),
            meta,
            file: Arc::clone(&place.file),
            document: place.document,
            line: place.line,
            kind,
        });
        self.name(group, object, place, valid);
    }

    /// The mesh configuration, which is no object of its own: a document, or text in a ConfigMap.
    fn mesh(&mut self, mesh: &Node, place: Place) {
        let mut node = mesh.clone();
        if let Some(text) = mesh.text() {
            let (mut documents, faults) = parse(&place.file, text);
            for fault in faults.iter() {
                let text = format!("in the text of mesh: {}", fault.message());
                let fault = Fault::new(fault.severity(), fault.code(), text);
                self.faults
                    .push(fault.at(&place.file, mesh.line, mesh.column));
            }
            let Some(document) = documents.pop() else {
                return;
            };
            node = document.root;
            // Its first line is where the text begins.
            node.shift(mesh.line.saturating_sub(1));
        }
        let object = ObjectRef {
            kind: "MeshConfig".into(),
            namespace: "".into(),
            name: "mesh".into(),
        };
        let mut findings = Vec::new();
        let mut body = Body {
            node: &mut node,
            dialect: Dialect::Proto,
            // What istiod and its proxies are told besides does not concern this client.
            strictness: Strictness::Warn,
            findings: &mut findings,
        };
        let kind = body.decode().map(Kind::MeshConfig);
        if let Some(kind) = &kind {
            let mut check = Checker::new(&node);
            rules(&mut check, kind, "");
            findings.extend(check.into_findings());
        }
        for (_, finding) in &mut findings {
            if finding.code == Code::UnknownField && finding.path.0.len() == 1 {
                finding.text = format!("{} has no effect in this client", finding.path);
            }
        }
        let meta = Meta {
            name: object.name.clone(),
            ..Meta::default()
        };
        self.add("", object, meta, place, kind, findings);
    }

    /// Decodes and checks what an object says; `None` when not even faults of rules can be told.
    fn decode(
        &self,
        root: &mut Node,
        reads: Reads,
        meta: &Meta,
        findings: &mut Vec<Finding>,
    ) -> Option<Kind> {
        let dialect = match reads {
            Reads::AuthorizationPolicy
            | Reads::DestinationRule
            | Reads::Gateway
            | Reads::PeerAuthentication
            | Reads::RequestAuthentication
            | Reads::ServiceEntry
            | Reads::Sidecar
            | Reads::Telemetry
            | Reads::VirtualService
            | Reads::WorkloadEntry
            | Reads::WorkloadGroup => Dialect::Proto,
            Reads::BackendTlsPolicy
            | Reads::BackendTrafficPolicy
            | Reads::GrpcRoute
            | Reads::HttpLocalRateLimitPolicy
            | Reads::HttpRoute
            | Reads::LinkerdServer
            | Reads::ReferenceGrant => Dialect::Strict,
            Reads::EndpointSlice
            | Reads::Endpoints
            | Reads::Namespace
            | Reads::Pod
            | Reads::Service
            | Reads::ServiceAccount
            | Reads::Workload(_) => Dialect::Kubernetes,
        };
        let whole = matches!(
            reads,
            Reads::EndpointSlice
                | Reads::Endpoints
                | Reads::Namespace
                | Reads::Pod
                | Reads::ServiceAccount
        );
        let mut empty = spec_of(root);
        let spec = match &mut root.value {
            _ if whole => root,
            Value::Mapping(entries) => match entries.iter_mut().find(|e| e.key == "spec") {
                Some(entry) => &mut entry.value,
                None => &mut empty,
            },
            Value::Pruned | Value::Scalar(_) | Value::Sequence(_) => &mut empty,
        };
        let mut body = Body {
            node: spec,
            dialect,
            strictness: self.options.strictness,
            findings,
        };
        let kind = match reads {
            Reads::AuthorizationPolicy => body.decode().map(Kind::AuthorizationPolicy),
            Reads::BackendTlsPolicy => body.decode().map(Kind::BackendTlsPolicy),
            Reads::BackendTrafficPolicy => body.decode().map(Kind::BackendTrafficPolicy),
            Reads::DestinationRule => body.decode().map(Kind::DestinationRule),
            Reads::EndpointSlice => body.decode().map(Kind::EndpointSlice),
            Reads::Endpoints => body.decode().map(Kind::Endpoints),
            Reads::Gateway => body.decode().map(Kind::Gateway),
            Reads::GrpcRoute => body.decode().map(Kind::GrpcRoute),
            Reads::HttpRoute => body.decode().map(Kind::HttpRoute),
            Reads::HttpLocalRateLimitPolicy => body.decode().map(Kind::HttpLocalRateLimitPolicy),
            Reads::LinkerdServer => body.decode().map(Kind::LinkerdServer),
            Reads::Namespace => body.decode().map(Kind::Namespace),
            Reads::PeerAuthentication => body.decode().map(Kind::PeerAuthentication),
            Reads::Pod => body.decode().map(Kind::Pod),
            Reads::ReferenceGrant => body.decode().map(Kind::ReferenceGrant),
            Reads::RequestAuthentication => body.decode().map(Kind::RequestAuthentication),
            Reads::Service => body.decode().map(Kind::Service),
            Reads::ServiceAccount => body.decode().map(Kind::ServiceAccount),
            Reads::ServiceEntry => body.decode().map(Kind::ServiceEntry),
            Reads::Sidecar => body.decode().map(Kind::Sidecar),
            Reads::Telemetry => body.decode().map(Kind::Telemetry),
            Reads::VirtualService => body.decode().map(Kind::VirtualService),
            Reads::Workload(controller) => body.decode().map(|workload: Box<Workload>| {
                Kind::Workload(Box::new(Workload {
                    controller,
                    ..*workload
                }))
            }),
            Reads::WorkloadEntry => body.decode().map(Kind::WorkloadEntry),
            Reads::WorkloadGroup => body.decode().map(Kind::WorkloadGroup),
        }?;
        let mut check = Checker::new(body.node);
        rules(&mut check, &kind, &meta.namespace);
        let found = check.into_findings();
        body.findings.extend(found);
        Some(kind)
    }

    /// The keys beside `spec`, which the webhook checks too.
    fn top_level(&self, root: &Node) -> Vec<Finding> {
        const KEYS: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];
        let unknown = root.entries().iter();
        unknown
            .filter(|entry| !KEYS.contains(&&*entry.key))
            .map(|entry| {
                let near = did_you_mean(&entry.key, KEYS.iter().copied());
                let near = near.map(|near| format!("did you mean {near:?}?"));
                let under = || "fields of the kind belong under spec".to_owned();
                let fault = FieldFault {
                    code: Code::UnknownField,
                    path: Path(vec![Segment::Key(entry.key.clone())]),
                    line: entry.line,
                    column: entry.column,
                    text: format!("unknown field {}", quoted(&entry.key)),
                    hint: Some(near.unwrap_or_else(under)),
                };
                (self.options.strictness.severity(), fault)
            })
            .collect()
    }

    fn unenforced(&self, entry: &CatalogEntry) -> (Severity, String, Option<String>) {
        let kind = entry.kind;
        match entry.treatment {
            Treatment::Never => {
                let text = format!("{kind} is known and will never be enforced");
                let hint = "it configures a proxy, and there is none in this mesh".to_owned();
                (Severity::Warning, text, Some(hint))
            }
            Treatment::Unenforced if !self.options.allow_unenforced => {
                let text = format!("{kind} is known, not enforced yet: what it forbids is allowed");
                let hint = "pass --allow-unenforced to go on without this policy".to_owned();
                (Severity::Error, text, Some(hint))
            }
            Treatment::Unenforced => {
                let text = format!("{kind} is known, not enforced yet: what it forbids is allowed");
                (Severity::Warning, text, None)
            }
            Treatment::Idle | Treatment::Read(_) => {
                let text = format!("{kind} is known, not enforced yet");
                (Severity::Warning, text, None)
            }
        }
    }

    /// Keeps an object under its name, which must be free.
    fn name(&mut self, group: &str, object: ObjectRef, place: Place, valid: Option<Object>) {
        let key = (group.to_owned(), object.clone());
        if let Some((first, index)) = self.names.get(&key).filter(|_| !object.name.is_empty()) {
            let (first, index) = (first.clone(), *index);
            let severity = match self.options.on_duplicate {
                OnDuplicate::Last => Severity::Warning,
                OnDuplicate::Reject => Severity::Error,
            };
            let text = format!("written twice, first at {}:{}", first.file, first.line);
            let fault = Fault::new(severity, Code::DuplicateObject, text);
            let fault = fault.at(&place.file, place.line, place.column);
            let fault = fault.object_ref(object);
            self.faults.push(match self.options.on_duplicate {
                OnDuplicate::Last => fault.hinted("the last one is used"),
                OnDuplicate::Reject => fault.hinted(
                    "remove one of them, or pass --on-duplicate last to use the last one, \
                     as kubectl apply would",
                ),
            });
            // In either case one object remains: the last.
            if let Some(slot) = index.and_then(|index| self.objects.get_mut(index)) {
                *slot = None;
            }
        }
        let index = valid.and_then(|object| self.keep(object, &place));
        self.names.insert(key, (place, index));
    }

    fn keep(&mut self, object: Object, place: &Place) -> Option<usize> {
        if self.objects.len() >= OBJECTS {
            let text = format!("more than {OBJECTS} objects in one set of files");
            self.fault(Severity::Error, Code::Budget, place, text);
            return None;
        }
        self.objects.push(Some(object));
        Some(self.objects.len() - 1)
    }
}

/// The mesh configuration in a document: the key `mesh` of one that has no other key, or of the
/// data of a ConfigMap that is named as istiod's (`istio`, or `istio-` and a revision).
fn mesh_of(root: &Node) -> Option<&Node> {
    if let [entry] = root.entries() {
        return (entry.key == "mesh").then_some(&entry.value);
    }
    let text = |key: &str| root.get(key).and_then(Node::text);
    if (text("apiVersion"), text("kind")) != (Some("v1"), Some("ConfigMap")) {
        return None;
    }
    let name = root.get("metadata")?.get("name")?.text()?;
    let istiod = name == "istio" || name.starts_with("istio-");
    root.get("data")?.get("mesh").filter(|_| istiod)
}

/// A name as faults show it: one that is longer than any valid name is not repeated a thousand
/// times.
fn cut(name: &Arc<str>) -> Arc<str> {
    const NAME: usize = 253;
    match name.char_indices().nth(NAME) {
        Some((end, _)) => name[..end].into(),
        None => Arc::clone(name),
    }
}

/// What stands for a missing `spec`: nothing, at the place of the object.
fn spec_of(root: &Node) -> Node {
    Node {
        line: root.line,
        column: root.column,
        value: Value::Mapping(Vec::new()),
    }
}

/// The node that an object's kind is decoded from.
struct Body<'a> {
    node: &'a mut Node,
    dialect: Dialect,
    strictness: Strictness,
    findings: &'a mut Vec<Finding>,
}

impl Body<'_> {
    fn decode<T: DeserializeOwned>(&mut self) -> Option<Box<T>> {
        let Decoded { value, faults } = decode::<T>(self.node, self.dialect);
        for fault in faults {
            let unknown = fault.code == Code::UnknownField;
            let severity = if unknown {
                self.strictness.severity()
            } else {
                Severity::Error
            };
            // Rules that miss this field would only repeat the fault.
            if unknown && severity == Severity::Error {
                let node = fault.path.find_mut(self.node);
                if let Some(node) = node {
                    node.value = Value::Pruned;
                }
            }
            self.findings.push((severity, fault));
        }
        value.map(Box::new)
    }
}

fn to_fault(severity: Severity, finding: FieldFault, place: &Place, object: &ObjectRef) -> Fault {
    let FieldFault {
        code,
        path,
        line,
        column,
        text,
        hint,
    } = finding;
    let fault = Fault::new(severity, code, text)
        .at(&place.file, line, column)
        .object_ref(object.clone())
        .field(path.to_string());
    match hint {
        Some(hint) => fault.hinted(hint),
        None => fault,
    }
}

/// xDS resources in Envoy's format of files: no object, but a list of resources.
fn is_of_resources(root: &Node) -> bool {
    let has = |key| root.get(key).is_some();
    has("resources") && !has("kind") && !has("apiVersion")
}

/// `kind: List`, and the typed lists that `kubectl get -o yaml` of old and `client-go` write.
fn is_list(root: &Node, kind: &str, api_version: &str) -> bool {
    let typed = || {
        let (group, _) = split_api_version(api_version);
        let of = kind.strip_suffix("List");
        of.is_some_and(|of| find(of, group).is_some()) && root.get("items").is_some()
    };
    (kind == "List" && api_version == "v1") || typed()
}

/// What a kind and an apiVersion lead to.
enum Choice {
    Entry(&'static CatalogEntry),
    Fault(Severity, Code, String, Option<String>),
}

fn choose(kind: &str, api_version: &str) -> Choice {
    let (group, version) = split_api_version(api_version);
    if let Some(entry) = find(kind, group) {
        if entry.versions.contains(&version) {
            return Choice::Entry(entry);
        }
        return wrong_version(entry, api_version);
    }
    // A kind of a mesh under a foreign group is a slip, unless the group has a kind of that name.
    let meant = CATALOG
        .iter()
        .find(|e| e.kind == kind && is_mesh_group(e.group));
    if let Some(entry) = meant {
        return wrong_version(entry, api_version);
    }
    let kinds = CATALOG.iter().filter(|entry| entry.group == group);
    let near = did_you_mean(kind, kinds.clone().map(|entry| entry.kind));
    let near = near.map(|near| format!("did you mean {near:?}?"));
    if is_mesh_group(group) {
        let text = format!("{} has no kind {}", quoted(group), quoted(kind));
        let known: Vec<_> = kinds.map(|entry| entry.kind).collect();
        let known = match known[..] {
            [] => "check apiVersion".to_owned(),
            [..] => format!("known: {}", known.join(", ")),
        };
        return Choice::Fault(
            Severity::Error,
            Code::UnknownKind,
            text,
            Some(near.unwrap_or(known)),
        );
    }
    let text = format!("{} {} is not read", quoted(api_version), quoted(kind));
    Choice::Fault(Severity::Warning, Code::NotRead, text, near)
}

fn wrong_version(entry: &CatalogEntry, api_version: &str) -> Choice {
    let kind = entry.kind;
    let text = format!(
        "{kind} does not exist in apiVersion {}",
        quoted(api_version)
    );
    let hint = format!("allowed: {}", entry.api_versions().join(", "));
    Choice::Fault(Severity::Error, Code::Version, text, Some(hint))
}
