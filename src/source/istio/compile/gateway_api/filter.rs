//! Filters of routes as what the model does with a request.

use std::collections::BTreeMap;

use http::StatusCode;
use http::uri::{Authority, Scheme};

use crate::model::matcher::{PathMatcher, RouteMatcher};
use crate::model::route::{HeaderChanges, PathRewrite, Redirect, RedirectPort, RewritePattern};
use crate::source::istio::compile::action::{self, Unusable};
use crate::source::istio::kinds::gateway_api::{
    GrpcRouteFilter, HttpHeader, HttpHeaderFilter, HttpPathModifier, HttpRequestRedirectFilter,
    HttpRouteFilter, HttpUrlRewriteFilter,
};
use crate::source::istio::kinds::{HeaderOperations, Headers};
use crate::source::istio::yaml::Located;

/// The filters of a rule or of a backend, each of which reading allows once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filters<'a> {
    request_headers: Option<&'a HttpHeaderFilter>,
    response_headers: Option<&'a HttpHeaderFilter>,
    pub(super) redirect: Option<&'a HttpRequestRedirectFilter>,
    pub(super) rewrite: Option<&'a HttpUrlRewriteFilter>,
    /// Whether one of them is of another implementation.
    pub(super) extension: bool,
}

impl<'a> Filters<'a> {
    /// Mirrors are [`Copies`](super::backend::Copies), and CORS is for browsers.
    pub(super) fn http(written: &'a [Located<HttpRouteFilter>]) -> Self {
        let mut filters = Self::default();
        for filter in written {
            let HttpRouteFilter {
                filter_type: _,
                request_header_modifier,
                response_header_modifier,
                request_mirror: _,
                request_redirect,
                url_rewrite,
                cors: _,
                extension_ref,
            } = &filter.value;
            filters.take_headers(request_header_modifier, response_header_modifier);
            filters.redirect = filters.redirect.or(request_redirect.as_ref());
            filters.rewrite = filters.rewrite.or(url_rewrite.as_ref());
            filters.extension |= extension_ref.is_some();
        }
        filters
    }

    /// As [`Filters::http`].
    pub(super) fn grpc(written: &'a [Located<GrpcRouteFilter>]) -> Self {
        let mut filters = Self::default();
        for filter in written {
            let GrpcRouteFilter {
                filter_type: _,
                request_header_modifier,
                response_header_modifier,
                request_mirror: _,
                extension_ref,
            } = &filter.value;
            filters.take_headers(request_header_modifier, response_header_modifier);
            filters.extension |= extension_ref.is_some();
        }
        filters
    }

    fn take_headers(
        &mut self,
        request: &'a Option<HttpHeaderFilter>,
        response: &'a Option<HttpHeaderFilter>,
    ) {
        self.request_headers = self.request_headers.or(request.as_ref());
        self.response_headers = self.response_headers.or(response.as_ref());
    }

    /// What changes of the headers.
    pub(super) fn headers(&self) -> Result<HeaderChanges, Unusable> {
        action::headers(Some(&self.as_istio()))
    }

    /// The authority that is sent: what `urlRewrite` says, else a `host` header among the changes.
    pub(super) fn authority(&self) -> Result<Option<Authority>, Unusable> {
        let rewritten = self.rewrite.and_then(|rewrite| rewrite.hostname.as_ref());
        match rewritten {
            Some(host) => action::parse_authority(host, "filters").map(Some),
            None => action::authority(Some(&self.as_istio())),
        }
    }

    /// The changes as a VirtualService would write them, so that both are applied alike.
    fn as_istio(&self) -> Headers {
        Headers {
            request: self.request_headers.map(operations),
            response: self.response_headers.map(operations),
        }
    }

    /// How the path is rewritten.
    pub(super) fn path(&self, matched: &RouteMatcher) -> Result<Option<PathRewrite>, Unusable> {
        let path = self.rewrite.and_then(|rewrite| rewrite.path.as_ref());
        path.map(|path| modified(path, matched)).transpose()
    }
}

fn operations(filter: &HttpHeaderFilter) -> HeaderOperations {
    let HttpHeaderFilter { set, add, remove } = filter;
    HeaderOperations {
        set: values(set),
        add: values(add),
        remove: remove.iter().map(|name| name.value.clone()).collect(),
    }
}

/// Of names that are the same but for case the first counts. Values are literal here, so a percent
/// sign is no beginning of a substitution.
fn values(headers: &[Located<HttpHeader>]) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for header in headers {
        let name = header.name.to_ascii_lowercase();
        let value = header.value.value.replace('%', "%%");
        values.entry(name).or_insert(value);
    }
    values
}

/// The answer of a redirect. Without a port it goes to that of the scheme, if one is written, else
/// to the one that was called.
pub(super) fn redirect(
    filter: &HttpRequestRedirectFilter,
    matched: &RouteMatcher,
) -> Result<Redirect, Unusable> {
    let HttpRequestRedirectFilter {
        scheme,
        hostname,
        path,
        port,
        status_code,
    } = filter;
    let status = match status_code {
        None => StatusCode::FOUND,
        Some(code) => StatusCode::from_u16(*code)
            .map_err(|_| Unusable::new("filters", format!("{code} is no status")))?,
    };
    let scheme = match scheme.as_ref().map(|text| text.as_str()) {
        None => None,
        Some("http") => Some(Scheme::HTTP),
        Some("https") => Some(Scheme::HTTPS),
        Some(other) => {
            let text = format!("unknown scheme {other:?}; http and https are allowed");
            return Err(Unusable::new("filters", text));
        }
    };
    Ok(Redirect {
        status,
        host: hostname.as_ref().map(|host| host.as_str().into()),
        port: match (port, &scheme) {
            (Some(port), _) => RedirectPort::Fixed(*port),
            (None, Some(_)) => RedirectPort::FromScheme,
            (None, None) => RedirectPort::FromRequest,
        },
        path: path
            .as_ref()
            .map(|path| modified(path, matched))
            .transpose()?,
        scheme,
    })
}

/// A prefix is one of whole segments, so that neither a slash is lost nor two are left: with the
/// prefix `/foo`, `/foo/bar` becomes `/bar` for `/`, and `/xyz/bar` for `/xyz` or `/xyz/`.
fn modified(path: &HttpPathModifier, matched: &RouteMatcher) -> Result<PathRewrite, Unusable> {
    let HttpPathModifier {
        modifier_type: _,
        replace_full_path,
        replace_prefix_match,
    } = path;
    if let Some(full) = replace_full_path {
        let full = if full.is_empty() { "/" } else { full.as_str() };
        return Ok(PathRewrite::Full(full.into()));
    }
    let to = replace_prefix_match
        .as_ref()
        .map_or("", |text| text.as_str());
    let to = to.trim_end_matches('/');
    let from = match &matched.path {
        PathMatcher::SegmentPrefix(from) => from,
        PathMatcher::Prefix(from) if &**from == "/" => {
            return Ok(PathRewrite::Prefix {
                from: from.clone(),
                to: format!("{to}/").into(),
            });
        }
        PathMatcher::Exact(_)
        | PathMatcher::ExactIgnoreCase(_)
        | PathMatcher::Prefix(_)
        | PathMatcher::PrefixIgnoreCase(_)
        | PathMatcher::Regex(_) => {
            let text = "replacePrefixMatch needs a match by PathPrefix";
            return Err(Unusable::new("filters", text));
        }
    };
    if !to.is_empty() {
        return Ok(PathRewrite::Prefix {
            from: from.clone(),
            to: to.into(),
        });
    }
    // Cutting the prefix off `/foo` would leave no path at all.
    let pattern = format!("^{}/?", regex::escape(from));
    Ok(PathRewrite::Regex {
        pattern: RewritePattern::new(&pattern)
            .map_err(|error| Unusable::new("filters", error.to_string()))?,
        to: "/".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::matcher::PathMatcher;

    fn rewritten(prefix: &str, to: &str, path: &str) -> String {
        let matched = RouteMatcher {
            path: match prefix {
                "/" => PathMatcher::Prefix("/".into()),
                other => PathMatcher::SegmentPrefix(other.into()),
            },
            ..RouteMatcher::everything()
        };
        let modifier = HttpPathModifier {
            replace_prefix_match: Some(to.to_owned().into()),
            ..HttpPathModifier::default()
        };
        match modified(&modifier, &matched).unwrap() {
            PathRewrite::Full(to) => to.into(),
            PathRewrite::Prefix { from, to } => path.replacen(&*from, &to, 1),
            PathRewrite::Regex { pattern, to } => {
                pattern.compiled().replace_all(path, &*to).into_owned()
            }
        }
    }

    #[test]
    fn replaced_prefix_keeps_whole_segments() {
        // The table of HTTPPathModifier in the Gateway API's reference.
        for (path, prefix, to, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/bar", "/", "/xyz", "/xyz/bar"),
            ("/bar", "/", "/", "/bar"),
        ] {
            assert_eq!(
                rewritten(prefix, to, path),
                expected,
                "{path} {prefix} {to}"
            );
        }
    }

    #[test]
    fn header_values_are_literal_and_the_first_of_a_name_counts() {
        let header = |name: &str, value: &str| {
            Located::from(HttpHeader {
                name: name.to_owned().into(),
                value: value.to_owned().into(),
            })
        };
        let filter = HttpHeaderFilter {
            set: vec![
                header("X-A", "100%"),
                header("x-a", "2"),
                header("Host", "b.c"),
            ],
            ..HttpHeaderFilter::default()
        };
        let filters = Filters {
            request_headers: Some(&filter),
            ..Filters::default()
        };
        let changes = filters.headers().unwrap();
        assert_eq!(changes.request.len(), 1);
        assert!(format!("{:?}", changes.request[0]).contains("\"100%\""));
        let authority = filters.authority().unwrap();
        assert_eq!(authority.unwrap().as_str(), "b.c");
    }
}
