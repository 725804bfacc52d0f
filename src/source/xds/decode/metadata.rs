//! What metadata says of an endpoint.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::model::endpoint::HASH_KEY;
use crate::source::xds::proto::core;

/// The key of metadata that Envoy balances by, and that labels stand under.
pub(in crate::source::xds) const LABELS: &str = "envoy.lb";
/// What is no label among them: what an endpoint is hashed by (gRPC A76).
pub(in crate::source::xds) const HASHED_BY: &str = "hash_key";
/// Where a label of that name is, which Envoy would take for what the endpoint is hashed by.
pub(in crate::source::xds) const OWN_LABELS: &str = "meshwork.labels";
/// The key of metadata that Envoy chooses transports by.
pub(in crate::source::xds) const TLS: &str = "envoy.transport_socket_match";
/// What Istio writes there of an endpoint that speaks its mutual TLS.
pub(in crate::source::xds) const TLS_MODE: &str = "tlsMode";
pub(in crate::source::xds) const ISTIO: &str = "istio";

/// A text of an endpoint's metadata.
pub(super) fn text_of<'m>(
    metadata: Option<&'m core::Metadata>,
    filter: &str,
    key: &str,
) -> Option<&'m str> {
    use envoy_types::pb::google::protobuf::value::Kind;
    let value = metadata?.filter_metadata.get(filter)?.fields.get(key)?;
    match &value.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}

/// Labels that many endpoints have in common are kept once.
#[derive(Default)]
pub(super) struct LabelSets {
    seen: HashSet<Arc<BTreeMap<Box<str>, Box<str>>>>,
}

impl LabelSets {
    pub(super) fn of(
        &mut self,
        metadata: Option<&core::Metadata>,
    ) -> Arc<BTreeMap<Box<str>, Box<str>>> {
        use envoy_types::pb::google::protobuf::value::Kind;
        let found = metadata.and_then(|metadata| metadata.filter_metadata.get(LABELS));
        let mut labels: BTreeMap<Box<str>, Box<str>> = found
            .into_iter()
            .flat_map(|labels| &labels.fields)
            .filter_map(|(key, value)| match &value.kind {
                Some(Kind::StringValue(text)) => {
                    let name = match key.as_str() {
                        HASHED_BY => HASH_KEY,
                        label => label,
                    };
                    Some((name.into(), text.as_str().into()))
                }
                _ => None,
            })
            .collect();
        if let Some(text) = text_of(metadata, OWN_LABELS, HASHED_BY) {
            labels.insert(HASHED_BY.into(), text.into());
        }
        if let Some(same) = self.seen.get(&labels) {
            return same.clone();
        }
        let labels = Arc::new(labels);
        self.seen.insert(labels.clone());
        labels
    }
}
