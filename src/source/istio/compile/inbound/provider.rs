//! External authorizers of the mesh configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use crate::model::inbound::{AskBy, AskByHttp, Authorizer, OnError};
use crate::model::matcher::StringMatcher;
use crate::source::istio::compile::host::{expand, resource_name};
use crate::source::istio::defaults::Defaults;
use crate::source::istio::kinds::{ExtAuthzHttp, ExtensionProvider, GoDuration};
use crate::source::istio::yaml::Located;
use crate::workload::Workload;

use super::rule::pattern;

/// How long an authorizer may take where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The authorizers that policies may name.
pub(super) struct Providers {
    pub(super) authorizers: BTreeMap<Arc<str>, Authorizer>,
}

impl Providers {
    pub(super) fn of(defaults: Defaults<'_>, workload: &Workload) -> Self {
        let written = defaults.providers().iter();
        let authorizers = written.filter_map(|provider| {
            let authorizer = authorizer(provider, defaults.root_namespace(), workload)?;
            Some((Arc::from(provider.name.as_str()), authorizer))
        });
        Self {
            authorizers: authorizers.collect(),
        }
    }
}

fn authorizer(provider: &ExtensionProvider, root: &str, workload: &Workload) -> Option<Authorizer> {
    if let Some(http) = &provider.envoy_ext_authz_http {
        let common = (http.service.as_str(), http.port, http.timeout);
        let on_error = on_error(http.fail_open, http.status_on_error.as_ref());
        return Some(at(
            common,
            AskBy::Http(by_http(http)),
            on_error,
            root,
            workload,
        ));
    }
    let grpc = provider.envoy_ext_authz_grpc.as_ref()?;
    let common = (grpc.service.as_str(), grpc.port, grpc.timeout);
    let on_error = on_error(grpc.fail_open, grpc.status_on_error.as_ref());
    Some(at(common, AskBy::Grpc, on_error, root, workload))
}

fn at(
    (service, port, timeout): (&str, u16, Option<GoDuration>),
    protocol: AskBy,
    on_error: OnError,
    root: &str,
    workload: &Workload,
) -> Authorizer {
    // `namespace/host` says in which namespace a host is looked up that several have.
    let (namespace, host) = service.split_once('/').unwrap_or((root, service));
    let host = expand(host, namespace, workload.cluster_domain());
    Authorizer {
        cluster: resource_name(port, "", &host),
        authority: format!("{host}:{port}").into(),
        protocol,
        timeout: timeout.map_or(TIMEOUT, Duration::from),
        on_error,
    }
}

fn on_error(open: bool, status: Option<&Located<String>>) -> OnError {
    let status = status.and_then(|text| StatusCode::from_bytes(text.as_bytes()).ok());
    if open {
        OnError::Allow
    } else {
        OnError::Deny(status.unwrap_or(StatusCode::FORBIDDEN))
    }
}

fn by_http(http: &ExtAuthzHttp) -> AskByHttp {
    // Names of headers have no case.
    let patterns = |list: &[Located<String>]| -> Vec<StringMatcher> {
        let lower = list.iter().map(|text| text.to_ascii_lowercase());
        lower.map(|text| pattern(&text)).collect()
    };
    let added = http.include_additional_headers_in_check.iter();
    let mut shown = patterns(&http.include_request_headers_in_check);
    shown.extend(patterns(&http.include_headers_in_check));
    AskByHttp {
        path_prefix: http.path_prefix.as_ref().and_then(|text| text.parse().ok()),
        shown,
        added: added
            .filter_map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
                Some((name, HeaderValue::from_str(value).ok()?))
            })
            .collect(),
        to_handler: patterns(&http.headers_to_upstream_on_allow),
        to_caller_on_deny: patterns(&http.headers_to_downstream_on_deny),
        to_caller_on_allow: patterns(&http.headers_to_downstream_on_allow),
    }
}
