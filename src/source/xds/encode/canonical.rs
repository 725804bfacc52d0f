//! The same value, the same bytes.
//!
//! Versions of served resources are hashes of their bytes, equal across restarts and replicas, and
//! whether to push is decided by them. prost writes a map in the order of its hash table, which is
//! another one each time, so the entries of the maps that can hold several are sorted afterwards,
//! on the wire: a map is a repeated field, and entries of one message may stand in any order. The
//! alternative, messages of our own with ordered maps, would be a second definition of Envoy's.

use std::borrow::Cow;

use crate::protobuf::{Fields, put_bytes};

/// Where maps are in a message, by field numbers.
pub(super) struct Maps {
    here: &'static [u32],
    inside: &'static [(u32, &'static Maps)],
}

const fn inside(inside: &'static [(u32, &'static Maps)]) -> Maps {
    Maps { here: &[], inside }
}

/// `google.protobuf.Struct`, in an entry of `filter_metadata`, in `Metadata`.
const STRUCT: Maps = Maps {
    here: &[1],
    inside: &[],
};
const METADATA_ENTRY: Maps = inside(&[(2, &STRUCT)]);
const METADATA: Maps = Maps {
    here: &[1],
    inside: &[(1, &METADATA_ENTRY)],
};
const LB_ENDPOINT: Maps = inside(&[(3, &METADATA)]);
const LOCALITY: Maps = inside(&[(2, &LB_ENDPOINT)]);
/// `ClusterLoadAssignment.endpoints.lb_endpoints.metadata`.
pub(super) const ASSIGNMENT: Maps = inside(&[(2, &LOCALITY)]);
/// `Cluster.load_assignment`.
pub(super) const CLUSTER: Maps = inside(&[(33, &ASSIGNMENT)]);
/// `Route.typed_per_filter_config`.
const ROUTE: Maps = Maps {
    here: &[13],
    inside: &[],
};
const VIRTUAL_HOST: Maps = inside(&[(3, &ROUTE)]);
/// `RouteConfiguration.virtual_hosts.routes`.
pub(super) const ROUTES: Maps = inside(&[(2, &VIRTUAL_HOST)]);
/// `HttpConnectionManager.route_config`.
pub(super) const MANAGER: Maps = inside(&[(4, &ROUTES)]);

/// `RBAC.policies`.
const RULES: Maps = Maps {
    here: &[2],
    inside: &[],
};
/// `RBAC.rules` and `shadow_rules` of the HTTP filter.
pub(super) const RBAC: Maps = inside(&[(1, &RULES), (2, &RULES)]);

/// The message with its maps in order. Bytes that are no message stay as they are, which never
/// happens to what prost has written.
pub(super) fn sorted(bytes: Vec<u8>, maps: &Maps) -> Vec<u8> {
    rewritten(&bytes, maps).unwrap_or(bytes)
}

fn rewritten(bytes: &[u8], maps: &Maps) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut entries: Vec<(u32, Cow<'_, [u8]>)> = Vec::new();
    for field in Fields(bytes) {
        let field = field.ok()?;
        let inner = maps.inside.iter().find(|(tag, _)| *tag == field.number);
        let whole = match (inner, field.content()) {
            (Some((_, maps)), Some(content)) => {
                let content = rewritten(content, maps)?;
                let mut whole = Vec::with_capacity(content.len() + 10);
                put_bytes(&mut whole, field.number, &content);
                Cow::Owned(whole)
            }
            _ => Cow::Borrowed(field.whole),
        };
        match maps.here.contains(&field.number) {
            true => entries.push((field.number, whole)),
            false => out.extend_from_slice(&whole),
        }
    }
    entries.sort_unstable();
    for (_, entry) in entries {
        out.extend_from_slice(&entry);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::source::xds::proto::core;
    use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};

    #[test]
    fn labels_are_in_order_whatever_the_hash_table() {
        let message = || {
            let fields = (0..40).map(|number| {
                let value = Value {
                    kind: Some(Kind::StringValue("x".repeat(number))),
                };
                (format!("label-{number}"), value)
            });
            let labels = Struct {
                fields: fields.collect(),
            };
            core::Metadata {
                filter_metadata: [("envoy.lb".to_owned(), labels)].into(),
                typed_filter_metadata: Default::default(),
            }
        };
        let one = sorted(message().encode_to_vec(), &METADATA);
        for _ in 0..20 {
            assert_eq!(sorted(message().encode_to_vec(), &METADATA), one);
        }
        assert_eq!(core::Metadata::decode(&*one).unwrap(), message());
    }

    #[test]
    fn bytes_that_are_no_message_stay_as_they_are() {
        for bytes in [&[0x12, 0xff][..], &[0xff; 11], &[0x0b]] {
            assert_eq!(sorted(bytes.to_vec(), &ROUTES), bytes);
        }
    }
}
