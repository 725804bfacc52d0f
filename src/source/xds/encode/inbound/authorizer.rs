//! External authorizers as filters of Envoy (`ext_authz`), for what Istio calls CUSTOM.
//!
//! Envoy asks an authorizer about all requests of a filter or about none, so two filters stand together, as in
//! istiod: an RBAC filter whose rules have no effect but to write down whether one of the policies matches
//! (shadow rules), and `ext_authz`, which reads that. It asks unless it is written that no policy matches:
//! where nothing is written, nothing passes unasked.

use std::collections::HashMap;

use prost::{Message, Name};

use super::{canonical, filter};
use crate::model::inbound::{AskBy, AskByHttp, Authorizer, OnError};
use crate::model::matcher::StringMatcher;
use crate::source::xds::encode::{matches, value};
use crate::source::xds::extra::any;
use crate::source::xds::proto::{
    Any, authz, core, hcm, matcher, percent, rbac as wire, rbac_filter,
};

/// Where RBAC filters write.
const WRITTEN: &str = "envoy.filters.http.rbac";
/// What they write of requests that shadow rules, were they others, would let pass.
const ALLOWED: &str = "allowed";

/// The filters that ask `authorizer` about the requests of `policies`, under a name of their own.
pub(super) fn filters(
    name: &str,
    authorizer: &Authorizer,
    policies: HashMap<String, wire::Policy>,
) -> [hcm::HttpFilter; 2] {
    let prefix = format!("{name}_");
    let marks = rbac_filter::Rbac {
        shadow_rules: Some(wire::Rbac {
            action: wire::rbac::Action::Deny.into(),
            policies,
            audit_logging_options: None,
        }),
        shadow_rules_stat_prefix: prefix.clone(),
        ..rbac_filter::Rbac::default()
    };
    let marks = Any {
        type_url: rbac_filter::Rbac::type_url(),
        value: canonical::sorted(marks.encode_to_vec(), &canonical::RBAC),
    };
    [
        filter(&format!("{WRITTEN}.{name}"), marks),
        filter(
            &format!("envoy.filters.http.ext_authz.{name}"),
            any(&asks(authorizer, &prefix)),
        ),
    ]
}

fn asks(authorizer: &Authorizer, prefix: &str) -> authz::ExtAuthz {
    let Authorizer {
        cluster: _,
        authority: _,
        protocol,
        timeout: _,
        on_error,
    } = authorizer;
    let (service, shown) = match protocol {
        AskBy::Grpc => (by_grpc(authorizer), None),
        AskBy::Http(by) => (by_http(authorizer, by), list(&by.shown)),
    };
    let (open, status) = match on_error {
        OnError::Allow => (true, None),
        OnError::Deny(status) => (false, Some(i32::from(status.as_u16()))),
    };
    authz::ExtAuthz {
        services: Some(service),
        transport_api_version: core::ApiVersion::V3.into(),
        failure_mode_allow: open,
        status_on_error: status.map(|code| percent::HttpStatus { code }),
        allowed_headers: shown,
        filter_enabled_metadata: Some(unless_allowed(prefix)),
        ..authz::ExtAuthz::default()
    }
}

/// Holds unless the shadow rules have written that none of them matches.
fn unless_allowed(prefix: &str) -> matcher::MetadataMatcher {
    use matcher::metadata_matcher::{PathSegment, path_segment::Segment};
    use matcher::value_matcher::MatchPattern;
    let allowed = matches::string(&StringMatcher::Exact(ALLOWED.into()));
    matcher::MetadataMatcher {
        filter: WRITTEN.to_owned(),
        path: vec![PathSegment {
            segment: Some(Segment::Key(format!("{prefix}shadow_engine_result"))),
        }],
        value: Some(matcher::ValueMatcher {
            match_pattern: Some(MatchPattern::StringMatch(allowed)),
        }),
        invert: true,
    }
}

fn by_grpc(authorizer: &Authorizer) -> authz::ext_authz::Services {
    use core::grpc_service::{EnvoyGrpc, TargetSpecifier};
    authz::ext_authz::Services::GrpcService(core::GrpcService {
        timeout: Some(value::limit(authorizer.timeout)),
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: authorizer.cluster.to_string(),
            authority: authorizer.authority.to_string(),
            ..EnvoyGrpc::default()
        })),
        ..core::GrpcService::default()
    })
}

fn by_http(authorizer: &Authorizer, by: &AskByHttp) -> authz::ext_authz::Services {
    use core::http_uri::HttpUpstreamType;
    let AskByHttp {
        path_prefix,
        // Envoy has them beside the service.
        shown: _,
        added,
        to_handler,
        to_caller_on_deny,
        to_caller_on_allow,
    } = by;
    let prefix = path_prefix.as_ref().map(|prefix| prefix.path());
    let added = added.iter().map(|(name, value)| core::HeaderValue {
        key: name.to_string(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
        ..core::HeaderValue::default()
    });
    authz::ext_authz::Services::HttpService(authz::HttpService {
        server_uri: Some(core::HttpUri {
            uri: format!("http://{}", authorizer.authority),
            timeout: Some(value::limit(authorizer.timeout)),
            http_upstream_type: Some(HttpUpstreamType::Cluster(authorizer.cluster.to_string())),
        }),
        path_prefix: prefix.unwrap_or_default().trim_end_matches('/').to_owned(),
        authorization_request: Some(authz::AuthorizationRequest {
            headers_to_add: added.collect(),
            ..authz::AuthorizationRequest::default()
        }),
        authorization_response: Some(authz::AuthorizationResponse {
            allowed_upstream_headers: list(to_handler),
            allowed_client_headers: list(to_caller_on_deny),
            allowed_client_headers_on_success: list(to_caller_on_allow),
            ..authz::AuthorizationResponse::default()
        }),
        ..authz::HttpService::default()
    })
}

/// An empty list is none: Envoy has a meaning of its own for its absence, which is ours for an empty one.
fn list(patterns: &[StringMatcher]) -> Option<matcher::ListStringMatcher> {
    (!patterns.is_empty()).then(|| matcher::ListStringMatcher {
        patterns: patterns.iter().map(matches::string).collect(),
    })
}
