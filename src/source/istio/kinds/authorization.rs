//! `AuthorizationPolicy`: who may do what (`security.istio.io`).

use schemars::JsonSchema;
use serde::Deserialize;

use super::{LabelSelector, filled};
use crate::source::istio::yaml::Located;

/// Rules about requests that arrive at some workloads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AuthorizationPolicy {
    /// Which workloads; absent or empty means all of the namespace, in the root namespace all of
    /// the mesh.
    pub selector: Option<Located<LabelSelector>>,
    /// A gateway, waypoint or service that the policy is attached to.
    pub target_ref: Option<Located<PolicyTarget>>,
    /// Several of them.
    pub target_refs: Vec<Located<PolicyTarget>>,
    /// Of which one must match; absent matches nothing.
    pub rules: Vec<Located<AccessRule>>,
    /// What a match means.
    pub action: AccessAction,
    /// Who decides, for the action CUSTOM.
    pub provider: Option<Located<ProviderReference>>,
}

/// What a policy is attached to, instead of selecting workloads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PolicyTarget {
    /// The group of its kind.
    pub group: Option<String>,
    /// Its kind.
    pub kind: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
}

/// What a match of a policy means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum AccessAction {
    /// The request may pass; without any match it is denied.
    #[default]
    Allow,
    /// The request is denied.
    Deny,
    /// The request is written down.
    Audit,
    /// Somebody else decides.
    Custom,
}

/// An external authorizer by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ProviderReference {
    /// A name among the mesh configuration's `extensionProviders`.
    pub name: Located<String>,
}

/// One rule: somebody, who does something, under conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AccessRule {
    /// Of which one must be the caller; absent means everybody.
    #[serde(deserialize_with = "filled")]
    #[schemars(length(min = 1))]
    pub from: Vec<Located<RuleFrom>>,
    /// Of which one must be what is asked; absent means everything.
    #[serde(deserialize_with = "filled")]
    #[schemars(length(min = 1))]
    pub to: Vec<Located<RuleTo>>,
    /// Which all must hold.
    pub when: Vec<Located<RuleCondition>>,
}

/// One kind of caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RuleFrom {
    /// Who it is.
    pub source: Option<Located<RuleSource>>,
}

/// One kind of request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RuleTo {
    /// What it asks.
    pub operation: Option<Located<RuleOperation>>,
}

/// A caller: all fields must match, of each field one value. Texts are exact, `prefix*`, `*suffix`
/// or `*` (anybody who has one).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RuleSource {
    /// Identities without `spiffe://`: `cluster.local/ns/my-app/sa/order`.
    pub principals: Vec<Located<String>>,
    /// None of these.
    pub not_principals: Vec<Located<String>>,
    /// Owners of tokens, as `issuer/subject`.
    pub request_principals: Vec<Located<String>>,
    /// None of these.
    pub not_request_principals: Vec<Located<String>>,
    /// Namespaces of identities.
    pub namespaces: Vec<Located<String>>,
    /// None of these.
    pub not_namespaces: Vec<Located<String>>,
    /// Service accounts, as `account` (of the policy's namespace) or `namespace/account`.
    pub service_accounts: Vec<Located<String>>,
    /// None of these.
    pub not_service_accounts: Vec<Located<String>>,
    /// Trust domains of identities.
    pub trust_domains: Vec<Located<String>>,
    /// None of these.
    pub not_trust_domains: Vec<Located<String>>,
    /// Addresses or networks of the connection's peer.
    pub ip_blocks: Vec<Located<String>>,
    /// None of these.
    pub not_ip_blocks: Vec<Located<String>>,
    /// Addresses or networks of the client before trusted proxies.
    pub remote_ip_blocks: Vec<Located<String>>,
    /// None of these.
    pub not_remote_ip_blocks: Vec<Located<String>>,
}

/// A request: all fields must match, of each field one value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RuleOperation {
    /// Authorities, compared whole: write `host` and `host:*` for both.
    pub hosts: Vec<Located<String>>,
    /// None of these.
    pub not_hosts: Vec<Located<String>>,
    /// Ports that the workload listens on.
    pub ports: Vec<Located<String>>,
    /// None of these.
    pub not_ports: Vec<Located<String>>,
    /// Methods; gRPC is always `POST`.
    pub methods: Vec<Located<String>>,
    /// None of these.
    pub not_methods: Vec<Located<String>>,
    /// Paths without query, or templates with `{*}` and `{**}`.
    pub paths: Vec<Located<String>>,
    /// None of these.
    pub not_paths: Vec<Located<String>>,
}

/// A condition about one attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RuleCondition {
    /// The attribute, such as `request.headers[x-role]`.
    pub key: Located<String>,
    /// Of which one must be its value.
    pub values: Vec<Located<String>>,
    /// None of these.
    pub not_values: Vec<Located<String>>,
}
