//! `extensionProviders` of the mesh configuration, as far as they decide about requests.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::GoDuration;
use super::mesh::Anything;
use crate::source::istio::yaml::Located;

/// Something outside of the mesh that it works with, by its name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ExtensionProvider {
    /// The name that policies refer to.
    pub name: Located<String>,
    /// An authorizer that is asked by HTTP.
    pub envoy_ext_authz_http: Option<Located<ExtAuthzHttp>>,
    /// An authorizer that is asked by gRPC (`envoy.service.auth.v3.Authorization`).
    pub envoy_ext_authz_grpc: Option<Located<ExtAuthzGrpc>>,
}

/// An authorizer that is asked by HTTP: a status of 200 lets the request pass.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ExtAuthzHttp {
    /// Its host, perhaps with a namespace and a slash before it.
    pub service: Located<String>,
    /// Its port.
    pub port: u16,
    /// How long it may take; absent means 600 s.
    pub timeout: Option<GoDuration>,
    /// What is put before the path of the request.
    pub path_prefix: Option<Located<String>>,
    /// Whether a request passes when it cannot be asked; absent means no.
    pub fail_open: bool,
    /// The status when it cannot be asked; absent means 403.
    pub status_on_error: Option<Located<String>>,
    /// Whether a proxy chooses the route anew.
    pub clear_route_cache: Option<bool>,
    /// Headers of the request that it is shown, beside method, path and host.
    pub include_request_headers_in_check: Vec<Located<String>>,
    /// The same, under the name that is deprecated.
    pub include_headers_in_check: Vec<Located<String>>,
    /// Headers that it is shown besides.
    pub include_additional_headers_in_check: BTreeMap<String, String>,
    /// Whether it is shown the body.
    pub include_request_body_in_check: Option<Located<Anything>>,
    /// Headers of its answer that the service gets.
    pub headers_to_upstream_on_allow: Vec<Located<String>>,
    /// Headers of its answer that the caller gets when the request is denied.
    pub headers_to_downstream_on_deny: Vec<Located<String>>,
    /// Headers of its answer that the caller gets when the request passes.
    pub headers_to_downstream_on_allow: Vec<Located<String>>,
}

/// An authorizer that is asked by gRPC.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ExtAuthzGrpc {
    /// Its host, perhaps with a namespace and a slash before it.
    pub service: Located<String>,
    /// Its port.
    pub port: u16,
    /// How long it may take; absent means 600 s.
    pub timeout: Option<GoDuration>,
    /// Whether a request passes when it cannot be asked; absent means no.
    pub fail_open: bool,
    /// The status when it cannot be asked; absent means 403.
    pub status_on_error: Option<Located<String>>,
    /// Whether a proxy chooses the route anew.
    pub clear_route_cache: Option<bool>,
    /// Whether it is shown the body.
    pub include_request_body_in_check: Option<Located<Anything>>,
}
