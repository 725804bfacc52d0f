//! `RequestAuthentication`: which tokens are valid (`security.istio.io`).

use schemars::JsonSchema;
use serde::Deserialize;

use super::authorization::PolicyTarget;
use super::{GoDuration, LabelSelector};
use crate::source::istio::yaml::Located;

/// Whose tokens some workloads believe. A request without a token passes; one with an invalid token
/// does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RequestAuthentication {
    /// Which workloads; absent or empty means all of the namespace, in the root namespace all of
    /// the mesh.
    pub selector: Option<Located<LabelSelector>>,
    /// A gateway, waypoint or service that the policy is attached to.
    pub target_ref: Option<Located<PolicyTarget>>,
    /// Several of them.
    pub target_refs: Vec<Located<PolicyTarget>>,
    /// The issuers; a token must be good for one of them.
    pub jwt_rules: Vec<Located<JwtRule>>,
}

/// One issuer of tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct JwtRule {
    /// Must be the token's `iss`; absent means any, where `jwksUri` is given.
    pub issuer: Option<Located<String>>,
    /// Of which one must be among the token's `aud`; empty means any.
    pub audiences: Vec<Located<String>>,
    /// Where the keys are; absent with `jwks` absent means where the issuer's OpenID configuration says.
    pub jwks_uri: Option<Located<String>>,
    /// The keys themselves, as a JSON Web Key Set.
    pub jwks: Option<Located<String>>,
    /// How long fetching the keys may take; absent means 5 s.
    pub timeout: Option<GoDuration>,
    /// Headers in which tokens are; with no location given, `Authorization: Bearer` and the query
    /// parameter `access_token`.
    pub from_headers: Vec<Located<JwtHeader>>,
    /// Query parameters in which tokens are.
    pub from_params: Vec<Located<String>>,
    /// Cookies in which tokens are.
    pub from_cookies: Vec<Located<String>>,
    /// Whether the service sees the token; absent means no.
    pub forward_original_token: bool,
    /// A header for the service with the token's claims, as base64url of JSON.
    pub output_payload_to_header: Option<Located<String>>,
    /// Headers for the service with single claims.
    pub output_claim_to_headers: Vec<Located<ClaimToHeader>>,
    /// Claims that are lists with spaces between; `scope` and `permission` always are.
    pub space_delimited_claims: Vec<Located<String>>,
}

/// A header with a token in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct JwtHeader {
    /// Its name.
    pub name: Located<String>,
    /// What stands before the token, such as `Bearer ` with its space.
    pub prefix: Option<String>,
}

/// A claim that the service gets as a header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ClaimToHeader {
    /// The header's name.
    pub header: Located<String>,
    /// The claim's name; points lead into objects.
    pub claim: Located<String>,
}
