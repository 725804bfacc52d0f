//! What a route changes on the way, or answers instead.

use schemars::JsonSchema;
use serde::Deserialize;

use super::BackendObjectReference;
use crate::source::istio::yaml::Located;

/// One filter of an HTTPRoute: its type, and the block of that name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpRouteFilter {
    /// Which of the blocks it is.
    #[serde(rename = "type")]
    pub filter_type: Option<Located<HttpRouteFilterType>>,
    /// Changes headers of the request.
    pub request_header_modifier: Option<HttpHeaderFilter>,
    /// Changes headers of the response.
    pub response_header_modifier: Option<HttpHeaderFilter>,
    /// Sends a copy of each request elsewhere.
    pub request_mirror: Option<HttpRequestMirrorFilter>,
    /// Answers with a redirect.
    pub request_redirect: Option<HttpRequestRedirectFilter>,
    /// Changes path and authority of the request.
    #[serde(rename = "urlRewrite")]
    pub url_rewrite: Option<HttpUrlRewriteFilter>,
    /// Rules for browsers of other origins.
    pub cors: Option<HttpCorsFilter>,
    /// An extension of some implementation.
    pub extension_ref: Option<LocalObjectReference>,
}

/// The types of filters of an HTTPRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
pub enum HttpRouteFilterType {
    /// `cors`.
    #[serde(rename = "CORS")]
    Cors,
    /// `extensionRef`.
    ExtensionRef,
    /// `requestHeaderModifier`.
    RequestHeaderModifier,
    /// `requestMirror`.
    RequestMirror,
    /// `requestRedirect`.
    RequestRedirect,
    /// `responseHeaderModifier`.
    ResponseHeaderModifier,
    /// `urlRewrite`.
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
}

/// One filter of a GRPCRoute: its type, and the block of that name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct GrpcRouteFilter {
    /// Which of the blocks it is.
    #[serde(rename = "type")]
    pub filter_type: Option<Located<GrpcRouteFilterType>>,
    /// Changes headers of the request.
    pub request_header_modifier: Option<HttpHeaderFilter>,
    /// Changes headers of the response.
    pub response_header_modifier: Option<HttpHeaderFilter>,
    /// Sends a copy of each request elsewhere.
    pub request_mirror: Option<HttpRequestMirrorFilter>,
    /// An extension of some implementation.
    pub extension_ref: Option<LocalObjectReference>,
}

/// The types of filters of a GRPCRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
pub enum GrpcRouteFilterType {
    /// `extensionRef`.
    ExtensionRef,
    /// `requestHeaderModifier`.
    RequestHeaderModifier,
    /// `requestMirror`.
    RequestMirror,
    /// `responseHeaderModifier`.
    ResponseHeaderModifier,
}

/// Changes of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpHeaderFilter {
    /// Headers that get this value alone.
    pub set: Vec<Located<HttpHeader>>,
    /// Headers that get one more value.
    pub add: Vec<Located<HttpHeader>>,
    /// Headers that are removed.
    pub remove: Vec<Located<String>>,
}

/// A header with its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpHeader {
    /// The name.
    pub name: Located<String>,
    /// The value, sent as it is written.
    pub value: Located<String>,
}

/// Where copies of requests go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpRequestMirrorFilter {
    /// The destination of the copies.
    pub backend_ref: BackendObjectReference,
    /// Their share in percent.
    pub percent: Option<u32>,
    /// Their share as a fraction.
    pub fraction: Option<MirrorFraction>,
}

/// A share as a fraction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MirrorFraction {
    /// The part.
    pub numerator: u32,
    /// The whole; absent means 100.
    pub denominator: Option<u32>,
}

/// An answer that sends the caller elsewhere; what is absent stays as the request has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpRequestRedirectFilter {
    /// `http` or `https`.
    pub scheme: Option<Located<String>>,
    /// The host.
    pub hostname: Option<Located<String>>,
    /// The path.
    pub path: Option<HttpPathModifier>,
    /// The port; absent means that of `scheme`, else that of the request.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308; absent means 302.
    pub status_code: Option<u16>,
}

/// Changes of path and authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpUrlRewriteFilter {
    /// The authority.
    pub hostname: Option<Located<String>>,
    /// The path.
    pub path: Option<HttpPathModifier>,
}

/// A change of the path: its type, and the field of that name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpPathModifier {
    /// Which of the two it is.
    #[serde(rename = "type")]
    pub modifier_type: Option<HttpPathModifierType>,
    /// What stands in place of the whole path.
    pub replace_full_path: Option<Located<String>>,
    /// What stands in place of the prefix that was matched.
    pub replace_prefix_match: Option<Located<String>>,
}

/// The types of changes of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
pub enum HttpPathModifierType {
    /// `replaceFullPath`.
    ReplaceFullPath,
    /// `replacePrefixMatch`.
    ReplacePrefixMatch,
}

/// Rules for browsers of other origins; without effect, since no browser calls through a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HttpCorsFilter {
    /// Origins that may call.
    pub allow_origins: Vec<String>,
    /// Whether they may send credentials.
    pub allow_credentials: Option<bool>,
    /// Methods that they may use.
    pub allow_methods: Vec<String>,
    /// Headers that they may send.
    pub allow_headers: Vec<String>,
    /// Headers of the response that they may see.
    pub expose_headers: Vec<String>,
    /// Seconds for which they may keep this.
    pub max_age: Option<u32>,
}

/// An object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LocalObjectReference {
    /// Its API group.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}
