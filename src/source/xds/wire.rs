//! The protocol's messages: to protobuf and back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::google::protobuf::{self, Any, value};
use envoy_types::pb::google::rpc::Status;
use prost::Message;
use serde_json::Value;

use super::ads::message::{Ask, Content, Incoming, Raw, Request, Response, Unavailable};
use super::bootstrap::Node;

/// The envelope that a state-of-the-world resource may come in.
const ENVELOPE: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";
/// How the client calls itself.
const AGENT: &str = "meshwork";
/// What servers may count on (gRFC A27): endpoints' health and locality weights are as they are, and
/// resources may come in envelopes.
const FEATURES: [&str; 2] = [
    "envoy.lb.does_not_support_overprovisioning",
    "xds.config.resource-in-sotw",
];
/// `INVALID_ARGUMENT`: what the protocol refuses with.
const INVALID: i32 = 3;

/// Who this client is, with `features` that the service asked for adds.
pub(crate) fn node(node: &Node, features: &[&str]) -> core::Node {
    let Node {
        id,
        cluster,
        metadata,
        locality,
    } = node;
    let fields = metadata
        .iter()
        .map(|(name, value)| (name.clone(), json(value)));
    core::Node {
        id: id.to_string(),
        cluster: cluster.to_string(),
        metadata: (!metadata.is_empty()).then(|| protobuf::Struct {
            fields: fields.collect(),
        }),
        locality: Some(core::Locality {
            region: locality.region.to_string(),
            zone: locality.zone.to_string(),
            sub_zone: locality.sub_zone.to_string(),
        }),
        user_agent_name: AGENT.into(),
        user_agent_version_type: Some(core::node::UserAgentVersionType::UserAgentVersion(
            env!("CARGO_PKG_VERSION").into(),
        )),
        client_features: FEATURES
            .iter()
            .chain(features)
            .map(|&name| name.into())
            .collect(),
        ..core::Node::default()
    }
}

fn json(value: &Value) -> protobuf::Value {
    let kind = match value {
        Value::Null => value::Kind::NullValue(0),
        Value::Bool(value) => value::Kind::BoolValue(*value),
        Value::Number(number) => value::Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => value::Kind::StringValue(text.clone()),
        Value::Array(list) => value::Kind::ListValue(protobuf::ListValue {
            values: list.iter().map(json).collect(),
        }),
        Value::Object(object) => value::Kind::StructValue(protobuf::Struct {
            fields: object
                .iter()
                .map(|(name, value)| (name.clone(), json(value)))
                .collect(),
        }),
    };
    protobuf::Value { kind: Some(kind) }
}

fn owned(names: &[Arc<str>]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn refusal(text: Option<&Arc<str>>) -> Option<Status> {
    text.map(|text| Status {
        code: INVALID,
        message: text.to_string(),
        details: Vec::new(),
    })
}

/// A message of the state-of-the-world variant; a question of the other one asks for nothing.
pub(crate) fn sotw_request(request: &Request, node: &core::Node) -> discovery::DiscoveryRequest {
    let (names, version) = match &request.ask {
        Ask::Sotw { names, version } => (owned(names), version.to_string()),
        Ask::Delta { subscribe, .. } => (owned(subscribe), String::new()),
    };
    discovery::DiscoveryRequest {
        version_info: version,
        node: request.introduces.then(|| node.clone()),
        resource_names: names,
        resource_locators: Vec::new(),
        type_url: request.kind.type_url().into(),
        response_nonce: request.nonce.to_string(),
        error_detail: refusal(request.refusal.as_ref()),
    }
}

/// A message of the incremental variant.
pub(crate) fn delta_request(
    request: &Request,
    node: &core::Node,
) -> discovery::DeltaDiscoveryRequest {
    let (subscribe, unsubscribe, known) = match &request.ask {
        Ask::Delta {
            subscribe,
            unsubscribe,
            known,
        } => (owned(subscribe), owned(unsubscribe), &**known),
        Ask::Sotw { names, .. } => (owned(names), Vec::new(), &[][..]),
    };
    let known = known
        .iter()
        .map(|(name, version)| (name.to_string(), version.to_string()));
    discovery::DeltaDiscoveryRequest {
        node: request.introduces.then(|| node.clone()),
        type_url: request.kind.type_url().into(),
        resource_names_subscribe: subscribe,
        resource_names_unsubscribe: unsubscribe,
        initial_resource_versions: known.collect::<HashMap<_, _>>(),
        response_nonce: request.nonce.to_string(),
        error_detail: refusal(request.refusal.as_ref()),
        ..discovery::DeltaDiscoveryRequest::default()
    }
}

/// A response of the state-of-the-world variant.
pub(crate) fn sotw_response(response: discovery::DiscoveryResponse) -> Response {
    let discovery::DiscoveryResponse {
        version_info,
        resources,
        type_url,
        nonce,
        resource_errors,
        ..
    } = response;
    Response {
        type_url,
        version: version_info.into(),
        nonce: nonce.into(),
        resources: resources.into_iter().map(bare_or_wrapped).collect(),
        removed: Vec::new(),
        errors: resource_errors
            .into_iter()
            .filter_map(unavailable)
            .collect(),
    }
}

/// A response of the incremental variant.
pub(crate) fn delta_response(response: discovery::DeltaDiscoveryResponse) -> Response {
    let discovery::DeltaDiscoveryResponse {
        system_version_info,
        resources,
        type_url,
        removed_resources,
        nonce,
        resource_errors,
        ..
    } = response;
    Response {
        type_url,
        version: system_version_info.into(),
        nonce: nonce.into(),
        resources: resources.into_iter().map(unwrapped).collect(),
        removed: removed_resources.into_iter().map(Arc::from).collect(),
        errors: resource_errors
            .into_iter()
            .filter_map(unavailable)
            .collect(),
    }
}

fn unavailable(error: discovery::ResourceError) -> Option<Unavailable> {
    let status = error.error_detail.unwrap_or_default();
    Some(Unavailable {
        name: error.resource_name?.name.into(),
        code: u32::try_from(status.code).unwrap_or(2),
        text: status.message,
    })
}

fn bare_or_wrapped(any: Any) -> Incoming {
    if any.type_url != ENVELOPE {
        return Incoming {
            name: None,
            version: None,
            ttl: None,
            content: Content::Message(raw(any)),
        };
    }
    match discovery::Resource::decode(&*any.value) {
        Ok(resource) => unwrapped(resource),
        Err(error) => Incoming {
            name: None,
            version: None,
            ttl: None,
            content: Content::Broken(format!("the envelope is not protobuf: {error}")),
        },
    }
}

fn unwrapped(resource: discovery::Resource) -> Incoming {
    let discovery::Resource {
        resource_name,
        name,
        version,
        resource,
        ttl,
        ..
    } = resource;
    let name = resource_name.map_or(name, |whole| whole.name);
    let ttl = ttl.and_then(|ttl| {
        let seconds = u64::try_from(ttl.seconds).ok()?;
        let nanos = u32::try_from(ttl.nanos)
            .ok()
            .filter(|nanos| *nanos < 1_000_000_000)?;
        Some(Duration::new(seconds, nanos))
    });
    Incoming {
        name: (!name.is_empty()).then(|| name.into()),
        version: (!version.is_empty()).then(|| version.into()),
        ttl,
        content: match resource {
            None => Content::Heartbeat,
            Some(any) => Content::Message(raw(any)),
        },
    }
}

fn raw(any: Any) -> Raw {
    Raw {
        type_url: any.type_url.into(),
        bytes: Bytes::from(any.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::xds::Kind;

    fn any(type_url: &str, value: Vec<u8>) -> Any {
        Any {
            type_url: type_url.into(),
            value,
        }
    }

    #[test]
    fn c1_the_node_says_what_the_client_is_and_can() {
        let mut own = Node {
            id: "order-1".into(),
            ..Node::default()
        };
        own.metadata.insert(
            "list".into(),
            serde_json::json!([1.5, "a", null, {"b": true}]),
        );
        let node = node(&own, &["extra"]);
        assert_eq!((&*node.id, &*node.user_agent_name), ("order-1", "meshwork"));
        assert_eq!(node.client_features[1], "xds.config.resource-in-sotw");
        assert_eq!(node.client_features[2], "extra");
        let metadata = node.metadata.unwrap();
        let Some(value::Kind::ListValue(list)) = &metadata.fields["list"].kind else {
            panic!("{metadata:?}");
        };
        assert_eq!(list.values.len(), 4);
        assert_eq!(list.values[0].kind, Some(value::Kind::NumberValue(1.5)));
    }

    #[test]
    fn c15_envelopes_are_opened_once() {
        let url = Kind::Cluster.type_url();
        let wrap = |resource: Option<Any>, seconds| discovery::Resource {
            name: "c".into(),
            version: "3".into(),
            resource,
            ttl: Some(protobuf::Duration { seconds, nanos: 0 }),
            ..discovery::Resource::default()
        };
        let inner = any(url, vec![1]);
        let envelope = any(ENVELOPE, wrap(Some(inner.clone()), 5).encode_to_vec());
        let twice = any(ENVELOPE, wrap(Some(envelope.clone()), -5).encode_to_vec());
        let response = sotw_response(discovery::DiscoveryResponse {
            resources: vec![inner, envelope, twice, any(ENVELOPE, vec![0xff])],
            ..discovery::DiscoveryResponse::default()
        });
        let message = |incoming: &Incoming| match &incoming.content {
            Content::Message(raw) => raw.type_url.to_string(),
            other => format!("{other:?}"),
        };
        let [bare, opened, twice, broken] = &*response.resources else {
            panic!("{response:?}");
        };
        assert_eq!((&bare.name, &*message(bare)), (&None, url));
        assert_eq!(
            (opened.name.as_deref(), &*message(opened)),
            (Some("c"), url)
        );
        assert_eq!(opened.ttl, Some(Duration::from_secs(5)));
        assert_eq!((twice.ttl, &*message(twice)), (None, ENVELOPE));
        assert!(message(broken).contains("not protobuf"), "{broken:?}");
    }

    #[test]
    fn c5_a_delta_resource_without_a_body_is_a_heartbeat() {
        let response = delta_response(discovery::DeltaDiscoveryResponse {
            resources: vec![discovery::Resource {
                name: "c".into(),
                ..discovery::Resource::default()
            }],
            removed_resources: vec!["d".into()],
            ..discovery::DeltaDiscoveryResponse::default()
        });
        assert_eq!(response.resources[0].content, Content::Heartbeat);
        assert_eq!(response.removed, [Arc::from("d")]);
    }
}
