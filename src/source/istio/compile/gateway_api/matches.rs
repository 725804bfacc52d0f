//! Match blocks of routes as questions, and which question is the more specific.

use std::cmp::Reverse;

use http::HeaderName;

use crate::model::matcher::{
    HeaderKey, HeaderMatcher, HeaderTest, PathMatcher, QueryMatcher, Regex, RouteMatcher,
    StringMatcher,
};
use crate::source::istio::compile::action::Unusable;
use crate::source::istio::kinds::gateway_api::{
    GrpcMethodMatch, GrpcRouteMatch, HttpHeaderMatch, HttpPathMatch, HttpRouteMatch, PathMatchType,
    ValueMatchType,
};
use crate::source::istio::yaml::Located;

/// How specific a match is; the smaller comes first.
///
/// The Gateway API's order: an exact path, then a prefix, then an expression; the longer one; with
/// a method; with more headers; with more parameters. A match that takes every request is last
/// whatever its path says: the API leaves the place of expressions open, and in front of them it
/// would hide them all.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Specificity {
    everything: bool,
    path: PathKind,
    length: Reverse<usize>,
    any_method: bool,
    headers: Reverse<usize>,
    parameters: Reverse<usize>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum PathKind {
    Exact,
    Prefix,
    Regex,
}

/// How specific a matcher is.
pub(super) fn rank(matcher: &RouteMatcher) -> Specificity {
    let (path, length) = match &matcher.path {
        PathMatcher::Exact(text) | PathMatcher::ExactIgnoreCase(text) => {
            (PathKind::Exact, text.len())
        }
        PathMatcher::Prefix(text)
        | PathMatcher::PrefixIgnoreCase(text)
        | PathMatcher::SegmentPrefix(text) => (PathKind::Prefix, text.len()),
        PathMatcher::Regex(regex) => (PathKind::Regex, regex.pattern().len()),
    };
    let is_method = |header: &&HeaderMatcher| header.key == HeaderKey::Method;
    let methods = matcher.headers.iter().filter(is_method).count();
    Specificity {
        everything: matcher.is_everything(),
        path,
        length: Reverse(length),
        any_method: methods == 0,
        headers: Reverse(matcher.headers.len() - methods),
        parameters: Reverse(matcher.query.len()),
    }
}

/// The questions of an HTTPRoute's match.
pub(super) fn http(block: &HttpRouteMatch) -> Result<RouteMatcher, Unusable> {
    let HttpRouteMatch {
        path,
        headers,
        query_params,
        method,
    } = block;
    let mut asked = Vec::new();
    if let Some(method) = method {
        asked.push(HeaderMatcher {
            key: HeaderKey::Method,
            test: HeaderTest::Value(StringMatcher::Exact(method.as_str().into())),
            invert: false,
            missing_is_empty: false,
        });
    }
    asked.extend(self::headers(headers)?);
    let query = query_params.iter().map(|parameter| {
        Ok(QueryMatcher {
            name: parameter.name.as_str().into(),
            value: Some(text(parameter.match_type, &parameter.value.value)?),
        })
    });
    Ok(RouteMatcher {
        path: path
            .as_ref()
            .map_or_else(|| Ok(any()), |path| self::path(path))?,
        headers: asked,
        query: query.collect::<Result<_, Unusable>>()?,
        share: None,
    })
}

/// The questions of a GRPCRoute's match: a call's path is `/service/method`.
pub(super) fn grpc(block: &GrpcRouteMatch) -> Result<RouteMatcher, Unusable> {
    let GrpcRouteMatch { method, headers } = block;
    Ok(RouteMatcher {
        path: method.as_ref().map_or_else(|| Ok(any()), |one| call(one))?,
        headers: self::headers(headers)?,
        query: Vec::new(),
        share: None,
    })
}

fn any() -> PathMatcher {
    PathMatcher::Prefix("/".into())
}

fn path(path: &HttpPathMatch) -> Result<PathMatcher, Unusable> {
    let value = path.value.as_ref().map_or("/", |text| text.as_str());
    Ok(match path.match_type {
        PathMatchType::Exact => PathMatcher::Exact(value.into()),
        // A slash at the end means nothing: `/foo/` takes `/foo` too.
        PathMatchType::PathPrefix => match value.trim_end_matches('/') {
            "" => any(),
            prefix => PathMatcher::SegmentPrefix(prefix.into()),
        },
        PathMatchType::RegularExpression => PathMatcher::Regex(regex(value)?),
    })
}

fn call(call: &GrpcMethodMatch) -> Result<PathMatcher, Unusable> {
    if let Some(pattern) = call.pattern() {
        return Ok(PathMatcher::Regex(regex(&pattern)?));
    }
    Ok(match (&call.service, &call.method) {
        (Some(service), Some(method)) => {
            PathMatcher::Exact(format!("/{}/{}", service.value, method.value).into())
        }
        (Some(service), None) => PathMatcher::Prefix(format!("/{}/", service.value).into()),
        (None, Some(method)) => {
            let method = regex::escape(method);
            PathMatcher::Regex(regex(&format!("/[^/]+/{method}"))?)
        }
        (None, None) => any(),
    })
}

/// Of names that differ in case only the first counts.
fn headers(written: &[Located<HttpHeaderMatch>]) -> Result<Vec<HeaderMatcher>, Unusable> {
    let mut asked: Vec<HeaderMatcher> = Vec::with_capacity(written.len());
    for header in written {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| {
            let name = &header.name.value;
            Unusable::new("matches", format!("{name:?} is not a header name"))
        })?;
        let key = HeaderKey::Field(name);
        if asked.iter().any(|one| one.key == key) {
            continue;
        }
        asked.push(HeaderMatcher {
            key,
            test: HeaderTest::Value(text(header.match_type, &header.value.value)?),
            invert: false,
            missing_is_empty: false,
        });
    }
    Ok(asked)
}

fn text(how: ValueMatchType, value: &str) -> Result<StringMatcher, Unusable> {
    Ok(match how {
        ValueMatchType::Exact => StringMatcher::Exact(value.into()),
        ValueMatchType::RegularExpression => StringMatcher::Regex(regex(value)?),
    })
}

fn regex(pattern: &str) -> Result<Regex, Unusable> {
    Regex::new(pattern).map_err(|error| Unusable::new("matches", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(path: &str) -> PathMatcher {
        PathMatcher::Exact(path.into())
    }

    fn prefix(path: &str) -> PathMatcher {
        let written = HttpPathMatch {
            value: Some(path.to_owned().into()),
            ..HttpPathMatch::default()
        };
        self::path(&written).unwrap()
    }

    fn expression(pattern: &str) -> PathMatcher {
        PathMatcher::Regex(Regex::new(pattern).unwrap())
    }

    fn matcher(path: PathMatcher, method: bool, fields: usize, parameters: usize) -> RouteMatcher {
        let test = HeaderTest::Value(StringMatcher::Exact("x".into()));
        let header = |key| HeaderMatcher {
            key,
            test: test.clone(),
            invert: false,
            missing_is_empty: false,
        };
        let field = |n| HeaderKey::Field(HeaderName::try_from(format!("x-{n}")).unwrap());
        let mut headers: Vec<_> = (0..fields).map(|n| header(field(n))).collect();
        headers.extend(method.then(|| header(HeaderKey::Method)));
        let query = (0..parameters).map(|n| QueryMatcher {
            name: n.to_string().into(),
            value: None,
        });
        RouteMatcher {
            path,
            headers,
            query: query.collect(),
            share: None,
        }
    }

    #[test]
    fn exact_before_prefix_before_regex_then_length_method_headers_and_parameters() {
        let rows = [
            ("exact, longer", matcher(exact("/foo/bar"), false, 0, 0)),
            ("exact", matcher(exact("/foo"), false, 0, 0)),
            ("prefix, longer", matcher(prefix("/foo/bar"), false, 0, 0)),
            ("prefix, method", matcher(prefix("/foo"), true, 0, 0)),
            ("prefix, two headers", matcher(prefix("/foo"), false, 2, 0)),
            ("header and parameter", matcher(prefix("/foo"), false, 1, 1)),
            ("prefix, one header", matcher(prefix("/foo"), false, 1, 0)),
            ("two parameters", matcher(prefix("/foo"), false, 0, 2)),
            ("one parameter", matcher(prefix("/foo"), false, 0, 1)),
            ("prefix", matcher(prefix("/foo/"), false, 0, 0)),
            ("all paths, header", matcher(prefix("/"), false, 1, 0)),
            ("regex, longer", matcher(expression("/foo/.+"), false, 0, 0)),
            ("regex", matcher(expression("/fo+"), false, 0, 0)),
            ("everything", matcher(prefix("/"), false, 0, 0)),
        ];
        for pair in rows.windows(2) {
            let [(before, first), (after, second)] = pair else {
                unreachable!("windows of two");
            };
            assert!(rank(first) < rank(second), "{before} before {after}");
        }
    }

    #[test]
    fn prefix_is_of_segments_and_a_slash_at_its_end_means_nothing() {
        for (written, path, expected) in [
            ("/foo", "/foo", true),
            ("/foo", "/foo/bar", true),
            ("/foo", "/foobar", false),
            ("/foo/", "/foo", true),
            ("/", "/anything", true),
        ] {
            assert_eq!(prefix(written).matches(path), expected, "{written} {path}");
        }
    }

    #[test]
    fn grpc_method_is_a_path_a_prefix_or_an_expression() {
        let located = |text: &str| Some(Located::from(text.to_owned()));
        let of = |match_type, service: &str, method: &str| {
            let part = |text: &str| located(text).filter(|text| !text.is_empty());
            let block = GrpcRouteMatch {
                method: Some(Located::from(GrpcMethodMatch {
                    match_type,
                    service: part(service),
                    method: part(method),
                })),
                headers: Vec::new(),
            };
            grpc(&block).unwrap().path
        };
        use ValueMatchType::{Exact, RegularExpression};
        assert_eq!(of(Exact, "a.B", "C"), exact("/a.B/C"));
        assert_eq!(of(Exact, "a.B", ""), PathMatcher::Prefix("/a.B/".into()));
        let method = of(Exact, "", "C");
        assert!(method.matches("/a.B/C") && !method.matches("/a/b/C"));
        let both = of(RegularExpression, "a|b", "C.*");
        assert!(both.matches("/b/Cd") && !both.matches("/a") && !both.matches("/c/C"));
        let service = of(RegularExpression, "a\\.[A-Z]", "");
        assert!(service.matches("/a.B/C") && !service.matches("/a.B/C/D"));
        assert!(grpc(&GrpcRouteMatch::default()).unwrap().is_everything());
    }

    #[test]
    fn of_headers_that_differ_in_case_the_first_counts() {
        let header = |name: &str, value: &str| {
            Located::from(HttpHeaderMatch {
                name: name.to_owned().into(),
                value: value.to_owned().into(),
                ..HttpHeaderMatch::default()
            })
        };
        let asked = headers(&[header("X-A", "1"), header("x-a", "2")]).unwrap();
        assert_eq!(asked.len(), 1);
        let one = HeaderTest::Value(StringMatcher::Exact("1".into()));
        assert_eq!(asked[0].test, one);
    }
}
