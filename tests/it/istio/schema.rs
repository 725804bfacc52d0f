//! The schema for editors.

use meshwork::source::istio::schema;
use serde_json::{Value, json};

fn kind<'a>(schema: &'a Value, name: &str) -> &'a Value {
    let kinds = schema["oneOf"].as_array().expect("a list of kinds");
    kinds
        .iter()
        .find(|kind| kind["properties"]["kind"]["const"] == name)
        .unwrap_or_else(|| panic!("no schema of {name}"))
}

/// Follows a `$ref` into the definitions.
fn follow<'a>(schema: &'a Value, node: &'a Value) -> &'a Value {
    match node["$ref"].as_str() {
        Some(path) => {
            let path = path.strip_prefix('#').expect("a reference inside");
            schema.pointer(path).expect("a definition")
        }
        None => node,
    }
}

#[test]
fn each_kind_that_is_read_has_a_schema() {
    let schema = schema();
    let names: Vec<_> = schema["oneOf"]
        .as_array()
        .expect("a list of kinds")
        .iter()
        .filter_map(|kind| kind["properties"]["kind"]["const"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "VirtualService",
            "DestinationRule",
            "ServiceEntry",
            "WorkloadEntry",
            "Service",
            "EndpointSlice",
            "Endpoints",
            "Pod",
            "Deployment",
            "StatefulSet",
            "ReplicaSet",
            "DaemonSet",
            "Namespace",
            "ServiceAccount",
            "HTTPRoute",
            "GRPCRoute",
            "ReferenceGrant",
            "BackendTLSPolicy",
            "XBackendTrafficPolicy",
            "PeerAuthentication",
            "AuthorizationPolicy",
            "RequestAuthentication",
            "Telemetry",
            "Gateway",
            "Sidecar",
            "WorkloadGroup",
            "HTTPLocalRateLimitPolicy",
            "Server",
        ]
    );
    assert_eq!(
        kind(&schema, "VirtualService")["properties"]["apiVersion"]["enum"],
        json!([
            "networking.istio.io/v1",
            "networking.istio.io/v1beta1",
            "networking.istio.io/v1alpha3",
        ])
    );
}

#[test]
fn fields_are_described_and_located_values_are_plain() {
    let schema = schema();
    let spec = follow(
        &schema,
        &kind(&schema, "VirtualService")["properties"]["spec"],
    );
    assert_eq!(spec["additionalProperties"], json!(false));
    let hosts = &spec["properties"]["hosts"];
    assert!(
        hosts["description"]
            .as_str()
            .is_some_and(|text| text.contains("rules own"))
    );
    assert_eq!(hosts["items"]["type"], "string");
    let route = follow(&schema, &spec["properties"]["http"]["items"]);
    assert!(
        route["properties"]["match"].is_object(),
        "by the names of the file"
    );
    assert!(route["properties"]["corsPolicy"].is_object());
}

#[test]
fn all_references_lead_somewhere() {
    fn check(schema: &Value, node: &Value) {
        match node {
            Value::Array(items) => items.iter().for_each(|item| check(schema, item)),
            Value::Object(fields) => {
                follow(schema, node);
                fields.values().for_each(|field| check(schema, field));
            }
            Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {}
        }
    }
    let schema = schema();
    check(&schema, &schema);
}
