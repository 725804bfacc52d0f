//! Resources that stand in the folder as they are: Envoy's filesystem format.
//!
//! A document with `resources` and without `kind` is a set of xDS resources, in YAML or JSON:
//!
//! ```yaml
//! version_info: "7"          # optional: the label that clients are told as version
//! nodes: [edge-1, edge-2]    # optional: the ids of the nodes that see the file; absent: all
//! resources:
//! - "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
//!   name: legacy
//! ```
//!
//! What a resource says is the business of whoever knows its type; here it becomes JSON.

use std::fmt::Write as _;
use std::sync::Arc;

use super::fault::{Code, Fault, Faults, Severity};
use super::yaml::{Node, Resolved, Value, parse};

/// A document of raw resources.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RawDocument {
    pub(crate) file: Arc<str>,
    /// The version label, if the document has one.
    pub(crate) version: Option<Arc<str>>,
    /// Who sees it; `None`: everybody.
    pub(crate) nodes: Option<Vec<Arc<str>>>,
    /// The resources.
    pub(crate) resources: Vec<RawResource>,
}

/// One resource, as JSON.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RawResource {
    /// Its line, from 1.
    pub(crate) line: u32,
    pub(crate) json: String,
}

/// The documents of a text, if it is one of raw resources: every document has `resources` and no
/// `kind`.
pub(super) fn raw(file: &Arc<str>, text: &str) -> Option<(Vec<RawDocument>, Faults)> {
    // Most files say neither, and are not read twice.
    if !text.contains("resources") || !text.contains("@type") {
        return None;
    }
    let (documents, mut faults) = parse(file, text);
    let mut roots = documents.iter().map(|document| &document.root).filter(|root| !root.is_null());
    let all = roots.all(|root| root.get("resources").is_some() && root.get("kind").is_none());
    if !all || documents.is_empty() {
        return None;
    }
    let documents = documents.iter().filter(|document| !document.root.is_null());
    let documents = documents.map(|found| document(file, &found.root, &mut faults)).collect();
    Some((documents, faults))
}

fn document(file: &Arc<str>, root: &Node, faults: &mut Faults) -> RawDocument {
    let mut wrong = |node: &Node, field: &str, wanted: &str| {
        let text = format!("{field}: found {}, expected {wanted}", node.found());
        let fault = Fault::new(Severity::Error, Code::Value, text);
        faults.push(fault.at(file, node.line, node.column));
    };
    let mut document = RawDocument {
        file: file.clone(),
        version: None,
        nodes: None,
        resources: Vec::new(),
    };
    for entry in root.entries() {
        let node = &entry.value;
        match (&*entry.key, &node.value) {
            ("resources", Value::Sequence(items)) => {
                for (at, item) in items.iter().enumerate() {
                    match &item.value {
                        Value::Mapping(_) => document.resources.push(RawResource {
                            line: item.line,
                            json: json(item),
                        }),
                        _ => wrong(item, &format!("resources[{at}]"), "a resource with @type"),
                    }
                }
            }
            ("resources", _) => wrong(node, "resources", "a list of resources"),
            ("version_info" | "versionInfo", _) => match node.text() {
                Some(text) => document.version = Some(text.into()),
                None => wrong(node, "version_info", "a text"),
            },
            ("nodes", Value::Sequence(items)) => {
                let mut nodes = Vec::new();
                for item in items {
                    match item.text() {
                        Some(id) => nodes.push(id.into()),
                        None => wrong(item, "nodes", "ids of nodes"),
                    }
                }
                document.nodes = Some(nodes);
            }
            ("nodes", _) => wrong(node, "nodes", "a list of node ids"),
            ("nonce" | "type_url" | "typeUrl" | "canary" | "control_plane", _) => {}
            (other, _) => {
                let wanted = "version_info, nodes or resources";
                wrong(node, other, &format!("{wanted}: a file of resources has no such field"));
            }
        }
    }
    document
}

/// A tree as JSON. Scalars are what YAML's core schema makes of them.
fn json(node: &Node) -> String {
    let mut out = String::new();
    write(node, &mut out);
    out
}

fn write(node: &Node, out: &mut String) {
    match &node.value {
        Value::Mapping(entries) => {
            out.push('{');
            for (at, entry) in entries.iter().enumerate() {
                separate(at, out);
                quote(&entry.key, out);
                out.push(':');
                write(&entry.value, out);
            }
            out.push('}');
        }
        Value::Sequence(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                separate(at, out);
                write(item, out);
            }
            out.push(']');
        }
        Value::Pruned => out.push_str("null"),
        Value::Scalar(scalar) => match scalar.resolve() {
            Resolved::Bool(bool) => out.push_str(if bool { "true" } else { "false" }),
            Resolved::Null => out.push_str("null"),
            Resolved::Integer(number) => drop(write!(out, "{number}")),
            Resolved::Float(number) if number.is_finite() => drop(write!(out, "{number}")),
            Resolved::Float(_) => quote(&scalar.text, out),
            Resolved::Text(text) => quote(text, out),
        },
    }
}

fn separate(at: usize, out: &mut String) {
    if at > 0 {
        out.push(',');
    }
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            control if control.is_control() => {
                let mut units = [0; 2];
                for unit in control.encode_utf16(&mut units) {
                    // A String takes everything.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(Vec<RawDocument>, Faults)> {
        raw(&"raw.yaml".into(), text)
    }

    #[test]
    fn a_document_with_resources_is_raw_and_becomes_json() {
        let text = r#"
version_info: "7"
nodes: [a, b]
resources:
- "@type": type.googleapis.com/x.Y
  name: 'it "is"'
  number: 5
  share: 0.5
  on: true
  nothing:
  list: [1, {a: "2"}]
"#;
        let (documents, faults) = read(text).expect("it is raw");
        assert!(faults.is_empty(), "{faults}");
        let [document] = &documents[..] else {
            panic!("{documents:?}");
        };
        assert_eq!(document.version.as_deref(), Some("7"));
        assert_eq!(document.nodes.as_ref().map(Vec::len), Some(2));
        let expected = r#"{"@type":"type.googleapis.com/x.Y","name":"it \"is\"","number":5,"share":0.5,"on":true,"nothing":null,"list":[1,{"a":"2"}]}"#;
        assert_eq!(document.resources[0].json, expected);
        assert_eq!(document.resources[0].line, 5);
    }

    #[test]
    fn objects_are_not_raw() {
        assert!(read("kind: Service\nresources: ['@type']").is_none());
        assert!(read("apiVersion: v1\nkind: X\nmetadata: {name: a}").is_none());
        let mixed = "resources: [{'@type': a}]\n---\nkind: Service\napiVersion: v1";
        assert!(read(mixed).is_none(), "told as an object without a kind");
    }

    #[test]
    fn what_has_the_wrong_form_is_a_fault_with_its_place() {
        for (text, expected) in [
            ("resources: '@type'", "resources: found"),
            ("resources: ['@type']", "resources[0]: found"),
            ("resources: [{'@type': a}]\nnodes: 5", "nodes: found"),
            ("resources: [{'@type': a}]\nversion_info: [1]", "version_info: found"),
            ("resources: [{'@type': a}]\nresorces: []", "resorces: found"),
        ] {
            let (_, faults) = read(text).expect("it is raw");
            let fault = faults.iter().next().unwrap_or_else(|| panic!("{text}"));
            assert!(fault.text().starts_with(expected), "{}", fault.text());
        }
    }
}
