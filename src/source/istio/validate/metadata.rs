//! Name, namespace and labels of an object.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::names::{is_dns_label, is_dns_subdomain, labels};
use super::{Checker, Finding};
use crate::source::istio::fault::{Code, Severity, quoted};
use crate::source::istio::kinds::Meta;
use crate::source::istio::yaml::{Decoded, Dialect, Node, decode};

/// The part of a document that all kinds share.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Envelope {
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    creation_timestamp: Option<String>,
}

/// The namespace of objects whose file names none.
const DEFAULT_NAMESPACE: &str = "default";

/// Decodes and checks the metadata of a document. With faults the result still names the object as
/// well as it can, because other faults want to name it.
pub(crate) fn metadata(document: &mut Node, cluster_scoped: bool) -> (Meta, Vec<Finding>) {
    let Decoded { value, faults } = decode::<Envelope>(document, Dialect::Kubernetes);
    let metadata = value.unwrap_or_default().metadata;
    let mut check = Checker::new(document);
    check.within("metadata", |check| rules(check, &metadata));
    let wrong_types = faults.into_iter().map(|fault| (Severity::Error, fault));
    let mut findings: Vec<Finding> = wrong_types.chain(check.into_findings()).collect();
    for (_, fault) in &mut findings {
        fault.code = Code::Metadata;
    }
    let namespace: Arc<str> = match metadata.namespace {
        _ if cluster_scoped => "".into(),
        Some(namespace) => namespace.into(),
        None => DEFAULT_NAMESPACE.into(),
    };
    let meta = Meta {
        name: metadata.name.into(),
        namespace,
        labels: metadata.labels,
        annotations: metadata.annotations,
        creation: metadata.creation_timestamp.map(Into::into),
    };
    (meta, findings)
}

fn rules(check: &mut Checker<'_>, metadata: &Metadata) {
    if metadata.name.is_empty() {
        check.error_at("name", "metadata.name is required");
    } else if !is_dns_subdomain(&metadata.name) {
        let name = quoted(&metadata.name);
        check.error_at("name", format!("{name} is no DNS-1123 name of at most 253"));
    }
    if let Some(namespace) = &metadata.namespace
        && !is_dns_label(namespace)
    {
        let text = format!("{} is no DNS-1123 label of at most 63", quoted(namespace));
        check.error_at("namespace", text);
    }
    check.within("labels", |check| labels(check, &metadata.labels));
    if let Some(time) = &metadata.creation_timestamp
        && !is_utc_time(time)
    {
        let text = format!("{} is no time such as 2026-01-31T12:00:00Z", quoted(time));
        check.error_at("creationTimestamp", text);
    }
}

/// Whether a text has the one form in which Kubernetes writes times, whose order as text is their
/// order in time.
fn is_utc_time(text: &str) -> bool {
    let form = b"0000-00-00T00:00:00Z";
    text.len() == form.len()
        && text.bytes().zip(form).all(|(found, form)| match form {
            b'0' => found.is_ascii_digit(),
            other => found == *other,
        })
}
