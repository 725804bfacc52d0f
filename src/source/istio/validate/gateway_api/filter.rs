//! The rules of the filters of both kinds of routes.

use super::{Backend, HEADERS, PATH, at_most, backend};
use crate::source::istio::fault::{Code, quoted};
use crate::source::istio::kinds::gateway_api::{
    GrpcRouteFilter, GrpcRouteFilterType, HttpHeaderFilter, HttpPathModifier, HttpPathModifierType,
    HttpRequestMirrorFilter, HttpRequestRedirectFilter, HttpRouteFilter, HttpRouteFilterType,
    HttpRouteMatch, HttpUrlRewriteFilter, MirrorFraction, PathMatchType,
};
use crate::source::istio::validate::Checker;
use crate::source::istio::validate::names::{header_name, is_dns_subdomain, port};
use crate::source::istio::yaml::Located;

/// A filter of either kind of route: a GRPCRoute's can be fewer things.
#[derive(Clone, Copy)]
pub(super) struct Filter<'a> {
    filter_type: Option<HttpRouteFilterType>,
    request_headers: Option<&'a HttpHeaderFilter>,
    response_headers: Option<&'a HttpHeaderFilter>,
    mirror: Option<&'a HttpRequestMirrorFilter>,
    redirect: Option<&'a HttpRequestRedirectFilter>,
    rewrite: Option<&'a HttpUrlRewriteFilter>,
    cors: bool,
    extension: bool,
}

impl<'a> Filter<'a> {
    pub(super) fn http(filter: &'a HttpRouteFilter) -> Self {
        Self {
            filter_type: filter.filter_type.as_ref().map(|one| one.value),
            request_headers: filter.request_header_modifier.as_ref(),
            response_headers: filter.response_header_modifier.as_ref(),
            mirror: filter.request_mirror.as_ref(),
            redirect: filter.request_redirect.as_ref(),
            rewrite: filter.url_rewrite.as_ref(),
            cors: filter.cors.is_some(),
            extension: filter.extension_ref.is_some(),
        }
    }

    pub(super) fn grpc(filter: &'a GrpcRouteFilter) -> Self {
        let named = filter.filter_type.as_ref().map(|one| match one.value {
            GrpcRouteFilterType::ExtensionRef => HttpRouteFilterType::ExtensionRef,
            GrpcRouteFilterType::RequestHeaderModifier => {
                HttpRouteFilterType::RequestHeaderModifier
            }
            GrpcRouteFilterType::RequestMirror => HttpRouteFilterType::RequestMirror,
            GrpcRouteFilterType::ResponseHeaderModifier => {
                HttpRouteFilterType::ResponseHeaderModifier
            }
        });
        Self {
            filter_type: named,
            request_headers: filter.request_header_modifier.as_ref(),
            response_headers: filter.response_header_modifier.as_ref(),
            mirror: filter.request_mirror.as_ref(),
            redirect: None,
            rewrite: None,
            cors: false,
            extension: filter.extension_ref.is_some(),
        }
    }

    pub(super) fn redirects(&self) -> bool {
        self.redirect.is_some()
    }

    /// Every block with its type, in the words of the file.
    fn blocks(&self) -> [(HttpRouteFilterType, &'static str, &'static str, bool); 7] {
        use HttpRouteFilterType as Type;
        [
            (
                Type::RequestHeaderModifier,
                "RequestHeaderModifier",
                "requestHeaderModifier",
                self.request_headers.is_some(),
            ),
            (
                Type::ResponseHeaderModifier,
                "ResponseHeaderModifier",
                "responseHeaderModifier",
                self.response_headers.is_some(),
            ),
            (
                Type::RequestMirror,
                "RequestMirror",
                "requestMirror",
                self.mirror.is_some(),
            ),
            (
                Type::RequestRedirect,
                "RequestRedirect",
                "requestRedirect",
                self.redirect.is_some(),
            ),
            (
                Type::UrlRewrite,
                "URLRewrite",
                "urlRewrite",
                self.rewrite.is_some(),
            ),
            (Type::Cors, "CORS", "cors", self.cors),
            (
                Type::ExtensionRef,
                "ExtensionRef",
                "extensionRef",
                self.extension,
            ),
        ]
    }
}

/// Filters of a rule or of a backend.
pub(super) fn list<'a>(check: &mut Checker<'_>, filters: impl Iterator<Item = Filter<'a>>) {
    let filters: Vec<Filter<'_>> = filters.collect();
    check.within("filters", |check| {
        for (index, filter) in filters.iter().enumerate() {
            check.within(index, |check| one(check, filter));
        }
        together(check, &filters);
    });
}

fn together(check: &mut Checker<'_>, filters: &[Filter<'_>]) {
    use HttpRouteFilterType as Type;
    let count = |wanted: Type| {
        let of_type = filters.iter().filter(|one| one.filter_type == Some(wanted));
        of_type.count()
    };
    if count(Type::RequestRedirect) > 0 && count(Type::UrlRewrite) > 0 {
        check.error(
            "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, \
             but not both",
        );
    }
    if count(Type::RequestRedirect) > 0 && count(Type::RequestMirror) > 0 {
        let text = "RequestMirror has no effect: requests that are answered here are not copied";
        check.warn(Code::NoEffect, text);
    }
    for (single, name) in [
        (Type::RequestHeaderModifier, "RequestHeaderModifier"),
        (Type::ResponseHeaderModifier, "ResponseHeaderModifier"),
        (Type::RequestRedirect, "RequestRedirect"),
        (Type::UrlRewrite, "URLRewrite"),
        (Type::Cors, "CORS"),
    ] {
        if count(single) > 1 {
            check.error(format!("{name} filter cannot be repeated"));
        }
    }
}

fn one(check: &mut Checker<'_>, filter: &Filter<'_>) {
    if filter.filter_type.is_none() {
        check.error_at("type", "type is required");
        return;
    }
    for (block, name, field, given) in filter.blocks() {
        let named = filter.filter_type == Some(block);
        if given && !named {
            check.error(format!(
                "filter.{field} must be nil if the filter.type is not {name}"
            ));
        } else if named && !given {
            check.error(format!(
                "filter.{field} must be specified for {name} filter.type"
            ));
        }
    }
    for (field, changes) in [
        ("requestHeaderModifier", filter.request_headers),
        ("responseHeaderModifier", filter.response_headers),
    ] {
        check.some(field, changes, |check, changes| headers(check, changes));
    }
    check.some("requestMirror", filter.mirror, mirror);
    check.some("requestRedirect", filter.redirect, redirect);
    check.some("urlRewrite", filter.rewrite, rewrite);
    let reason = "CORS is for browsers, which do not call through it";
    check.no_effect("cors", filter.cors, reason);
}

fn headers(check: &mut Checker<'_>, changes: &HttpHeaderFilter) {
    let HttpHeaderFilter { set, add, remove } = changes;
    for (field, list) in [("set", set), ("add", add)] {
        at_most(check, field, list.len(), HEADERS);
        let mut seen: Vec<&str> = Vec::new();
        check.each(field, list, |check, header| {
            check.within("name", |check| {
                header_name(check, &header.name);
                super::name_is_new(check, &header.name, &mut seen, true);
            });
            check.within("value", |check| {
                if http::HeaderValue::from_str(&header.value.value).is_err() {
                    check.error(format!(
                        "{} is no header value",
                        quoted(&header.value.value)
                    ));
                }
            });
        });
    }
    at_most(check, "remove", remove.len(), HEADERS);
    check.each("remove", remove, |check, name| {
        if name.eq_ignore_ascii_case("host") {
            check.error("the host header cannot be removed");
        }
        header_name(check, name);
    });
}

fn mirror(check: &mut Checker<'_>, mirror: &HttpRequestMirrorFilter) {
    let to = &mirror.backend_ref;
    check.within("backendRef", |check| {
        backend(
            check,
            &Backend {
                group: to.group.as_deref(),
                kind: to.kind.as_deref(),
                name: &to.name,
                namespace: to.namespace.as_deref(),
                port: to.port,
            },
        );
    });
    if mirror.percent.is_some() && mirror.fraction.is_some() {
        check.error("Only one of percent or fraction may be specified in HTTPRequestMirrorFilter");
    }
    if mirror.percent.is_some_and(|percent| percent > 100) {
        check.error_at("percent", "a share is at most 100 %");
    }
    let nothing = |share: &MirrorFraction| share.denominator == Some(0);
    if mirror.fraction.as_ref().is_some_and(nothing) {
        check.error_at("fraction", "denominator must be at least 1");
        return;
    }
    let above = |part: u32, whole: Option<u32>| part > whole.unwrap_or(100);
    let fraction = mirror.fraction.as_ref();
    if fraction.is_some_and(|share| above(share.numerator, share.denominator)) {
        let text = "numerator must be less than or equal to denominator";
        check.error_at("fraction", text);
    }
}

fn redirect(check: &mut Checker<'_>, redirect: &HttpRequestRedirectFilter) {
    let HttpRequestRedirectFilter {
        scheme,
        hostname: host,
        path,
        port: number,
        status_code,
    } = redirect;
    check.some("scheme", scheme.as_ref(), |check, scheme| {
        if !matches!(scheme.as_str(), "http" | "https") {
            check.error(format!("{} is neither http nor https", quoted(scheme)));
        }
    });
    check.some("hostname", host.as_ref(), |check, host| {
        hostname(check, host)
    });
    check.some("path", path.as_ref(), path_modifier);
    port(check, "port", *number);
    if let Some(code) = status_code.filter(|code| !matches!(code, 301..=303 | 307 | 308)) {
        let text = format!("{code} is not 301, 302, 303, 307 or 308");
        check.error_at("statusCode", text);
    }
}

fn rewrite(check: &mut Checker<'_>, rewrite: &HttpUrlRewriteFilter) {
    let host = rewrite.hostname.as_ref();
    check.some("hostname", host, |check, host| hostname(check, host));
    check.some("path", rewrite.path.as_ref(), path_modifier);
    if rewrite.hostname.is_none() && rewrite.path.is_none() {
        check.warn(Code::NoEffect, "the filter changes nothing");
    }
}

fn hostname(check: &mut Checker<'_>, host: &str) {
    if !is_dns_subdomain(host) {
        check.error(format!("{} is no host name", quoted(host)));
    }
}

fn path_modifier(check: &mut Checker<'_>, modifier: &HttpPathModifier) {
    let HttpPathModifier {
        modifier_type,
        replace_full_path,
        replace_prefix_match,
    } = modifier;
    use HttpPathModifierType as Type;
    if modifier_type.is_none() {
        check.error_at("type", "type is required");
        return;
    }
    for (wanted, name, field, text) in [
        (
            Type::ReplaceFullPath,
            "ReplaceFullPath",
            "replaceFullPath",
            replace_full_path,
        ),
        (
            Type::ReplacePrefixMatch,
            "ReplacePrefixMatch",
            "replacePrefixMatch",
            replace_prefix_match,
        ),
    ] {
        match (*modifier_type == Some(wanted), text) {
            (true, None) => check.error(format!(
                "{field} must be specified when type is set to '{name}'"
            )),
            (false, Some(_)) => {
                check.error(format!("type must be '{name}' when {field} is set"));
            }
            (true, Some(text)) => check.within(field, |check| new_path(check, text)),
            (false, None) => {}
        }
    }
}

/// What is written into a path must be one; an empty one stands for `/`.
fn new_path(check: &mut Checker<'_>, path: &str) {
    if path.len() > PATH {
        check.error(format!("{} bytes; a path has at most {PATH}", path.len()));
    }
    let valid = path.is_empty() || path.starts_with('/');
    let parses = path.parse::<http::uri::PathAndQuery>();
    if !valid || path.contains(['?', '#']) || (!path.is_empty() && parses.is_err()) {
        check.error(format!("{} is no absolute path", quoted(path)));
    }
}

/// A prefix can be replaced only where exactly one was matched.
pub(super) fn prefix_needs_one_match<'a>(
    check: &mut Checker<'_>,
    filters: impl Iterator<Item = Filter<'a>>,
    matches: &[Located<HttpRouteMatch>],
) {
    let one_prefix = match matches {
        // The default is the prefix `/`.
        [] => true,
        [only] => only
            .path
            .as_ref()
            .is_none_or(|path| path.match_type == PathMatchType::PathPrefix),
        [..] => false,
    };
    let replaces = |path: Option<&HttpPathModifier>| {
        path.is_some_and(|path| path.replace_prefix_match.is_some())
    };
    for filter in filters {
        let found = [
            (
                "RequestRedirect",
                replaces(filter.redirect.and_then(|one| one.path.as_ref())),
            ),
            (
                "URLRewrite",
                replaces(filter.rewrite.and_then(|one| one.path.as_ref())),
            ),
        ];
        for (name, _) in found.iter().filter(|(_, found)| *found && !one_prefix) {
            check.error(format!(
                "When using {name} filter with path.replacePrefixMatch, exactly one PathPrefix \
                 match must be specified"
            ));
        }
    }
}

/// A single backend can only change headers here.
pub(super) fn of_backend<'a>(check: &mut Checker<'_>, filters: impl Iterator<Item = Filter<'a>>) {
    let filters: Vec<Filter<'_>> = filters.collect();
    check.within("filters", |check| {
        for (index, filter) in filters.iter().enumerate() {
            check.within(index, |check| {
                let hint = "write the filter on the rule";
                for (field, given) in [
                    ("requestMirror", filter.mirror.is_some()),
                    ("requestRedirect", filter.redirect.is_some()),
                    ("urlRewrite", filter.rewrite.is_some()),
                    ("extensionRef", filter.extension),
                ] {
                    check.refuse_hint(field, given, Some(hint));
                }
            });
        }
    });
}
