//! The JSON schema of all kinds, for editors.
//!
//! With it an editor completes fields and marks slips while somebody writes, before `check` is run.
//! It says what types can say; rules such as "one of these fields" are `validate`'s.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::kinds::catalog::{CATALOG, CatalogEntry, Reads, Treatment};
use super::kinds::gateway_api::{
    BackendTlsPolicySpec, BackendTrafficPolicySpec, GrpcRouteSpec, HttpRouteSpec,
    ReferenceGrantSpec,
};
use super::kinds::{
    AuthorizationPolicy, DestinationRule, EndpointSlice, Endpoints, Gateway,
    HttpLocalRateLimitPolicy, LinkerdServer, Namespace, PeerAuthentication, Pod,
    RequestAuthentication, Service, ServiceAccount, ServiceEntry, Sidecar, Telemetry,
    VirtualService, Workload, WorkloadEntry, WorkloadGroup,
};

/// The JSON schema (draft 2020-12) of one document: one of the kinds that take effect, told apart
/// by `kind` and `apiVersion`.
///
/// ```
/// let schema = meshwork::source::istio::schema();
/// let kinds = schema["oneOf"].as_array().expect("a list of kinds");
/// assert!(kinds.iter().any(|kind| kind["properties"]["kind"]["const"] == "VirtualService"));
/// ```
#[must_use]
pub fn schema() -> Value {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let kinds: Vec<Value> = CATALOG
        .iter()
        .filter_map(|entry| match entry.treatment {
            Treatment::Read(reads) => Some(kind(&mut generator, entry, reads)),
            Treatment::Idle | Treatment::Never | Treatment::Unenforced => None,
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The kinds that meshwork reads",
        "oneOf": kinds,
        "$defs": generator.take_definitions(true),
    })
}

fn kind(generator: &mut SchemaGenerator, entry: &CatalogEntry, reads: Reads) -> Value {
    let mut properties = Map::new();
    properties.insert("apiVersion".into(), json!({ "enum": entry.api_versions() }));
    properties.insert("kind".into(), json!({ "const": entry.kind }));
    properties.insert("metadata".into(), metadata());
    let mut under_spec = |body: Value| properties.insert("spec".into(), body);
    let top_level = match reads {
        Reads::AuthorizationPolicy => under_spec(body::<AuthorizationPolicy>(generator)),
        Reads::BackendTlsPolicy => under_spec(body::<BackendTlsPolicySpec>(generator)),
        Reads::BackendTrafficPolicy => under_spec(body::<BackendTrafficPolicySpec>(generator)),
        Reads::DestinationRule => under_spec(body::<DestinationRule>(generator)),
        Reads::GrpcRoute => under_spec(body::<GrpcRouteSpec>(generator)),
        Reads::HttpRoute => under_spec(body::<HttpRouteSpec>(generator)),
        Reads::HttpLocalRateLimitPolicy => under_spec(body::<HttpLocalRateLimitPolicy>(generator)),
        Reads::LinkerdServer => under_spec(body::<LinkerdServer>(generator)),
        Reads::ReferenceGrant => under_spec(body::<ReferenceGrantSpec>(generator)),
        Reads::RequestAuthentication => under_spec(body::<RequestAuthentication>(generator)),
        Reads::PeerAuthentication => under_spec(body::<PeerAuthentication>(generator)),
        Reads::Service => under_spec(body::<Service>(generator)),
        Reads::ServiceEntry => under_spec(body::<ServiceEntry>(generator)),
        Reads::Gateway => under_spec(body::<Gateway>(generator)),
        Reads::Sidecar => under_spec(body::<Sidecar>(generator)),
        Reads::Telemetry => under_spec(body::<Telemetry>(generator)),
        Reads::VirtualService => under_spec(body::<VirtualService>(generator)),
        Reads::Workload(_) => under_spec(body::<Workload>(generator)),
        Reads::WorkloadEntry => under_spec(body::<WorkloadEntry>(generator)),
        Reads::WorkloadGroup => under_spec(body::<WorkloadGroup>(generator)),
        Reads::EndpointSlice => Some(body::<EndpointSlice>(generator)),
        Reads::Endpoints => Some(body::<Endpoints>(generator)),
        Reads::Namespace => Some(body::<Namespace>(generator)),
        Reads::Pod => Some(body::<Pod>(generator)),
        Reads::ServiceAccount => Some(body::<ServiceAccount>(generator)),
    };
    let mut schema = json!({
        "title": entry.kind,
        "type": "object",
        "properties": properties,
        "required": ["apiVersion", "kind", "metadata"],
    });
    if let Some(body) = top_level {
        schema["allOf"] = json!([body]);
    }
    schema
}

fn body<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn metadata() -> Value {
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 253 },
            "namespace": { "type": "string", "maxLength": 63 },
            "labels": texts,
            "annotations": texts,
        },
        "required": ["name"],
    })
}
