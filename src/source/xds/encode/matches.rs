//! Which requests a route takes.

use super::loss::Loss;
use super::{Pen, value};
use crate::model::matcher::{
    HeaderKey, HeaderMatcher, HeaderTest, PathMatcher, QueryMatcher, RouteMatcher, StringMatcher,
};
use crate::source::xds::decode::escaped;
use crate::source::xds::extra::RouteExtra;
use crate::source::xds::proto::{matcher, percent, route as wire};

/// `None` for gRPC where the query is matched: it would skip such a route.
pub(super) fn route(
    pen: &mut Pen<'_>,
    model: &RouteMatcher,
    extra: &mut RouteExtra,
) -> Option<wire::RouteMatch> {
    let RouteMatcher {
        path: path_matcher,
        headers,
        query,
        share,
    } = model;
    if pen.is_grpc() && !query.is_empty() {
        pen.lose(Loss::QueryMatch);
        return None;
    }
    let mut message = path(pen, path_matcher, extra);
    message.headers = headers.iter().map(|model| header(pen, model)).collect();
    message.query_parameters = query.iter().map(self::query).collect();
    message.runtime_fraction = share.map(value::runtime_fraction);
    Some(message)
}

fn path(pen: &Pen<'_>, model: &PathMatcher, extra: &mut RouteExtra) -> wire::RouteMatch {
    use wire::route_match::PathSpecifier as Specifier;
    let (specifier, exact_case) = match model {
        PathMatcher::Exact(path) => (Specifier::Path(path.to_string()), true),
        PathMatcher::ExactIgnoreCase(path) => (Specifier::Path(path.to_string()), false),
        PathMatcher::Prefix(prefix) => (Specifier::Prefix(prefix.to_string()), true),
        PathMatcher::PrefixIgnoreCase(prefix) => (Specifier::Prefix(prefix.to_string()), false),
        PathMatcher::Regex(regex) => (Specifier::SafeRegex(value::regex(regex)), true),
        PathMatcher::SegmentPrefix(prefix) => (segments(pen, prefix, extra), true),
    };
    wire::RouteMatch {
        path_specifier: Some(specifier),
        case_sensitive: (!exact_case).then(|| value::flag(false)),
        ..wire::RouteMatch::default()
    }
}

/// `path_separated_prefix`, which gRPC refuses (an expression says the same there), and which
/// neither ends with a slash nor holds `?` or `#`.
fn segments(
    pen: &Pen<'_>,
    prefix: &str,
    extra: &mut RouteExtra,
) -> wire::route_match::PathSpecifier {
    use wire::route_match::PathSpecifier as Specifier;
    let sayable = prefix.len() > 1 && !prefix.ends_with('/') && !prefix.contains(['?', '#']);
    if pen.is_meshwork() && !sayable {
        extra.segment_prefix = true;
        return Specifier::Prefix(prefix.to_owned());
    }
    match sayable && !pen.is_grpc() {
        true => Specifier::PathSeparatedPrefix(prefix.to_owned()),
        false => Specifier::SafeRegex(value::pattern(&format!("{}(/.*)?", escaped(prefix)))),
    }
}

fn header(pen: &mut Pen<'_>, model: &HeaderMatcher) -> wire::HeaderMatcher {
    let HeaderMatcher {
        key,
        test,
        invert,
        missing_is_empty,
    } = model;
    pen.lose_if(pen.is_grpc() && *missing_is_empty, Loss::MissingHeader);
    let name = match key {
        HeaderKey::Authority => ":authority",
        HeaderKey::Field(name) => name.as_str(),
        HeaderKey::Method => ":method",
        HeaderKey::Scheme => ":scheme",
    };
    wire::HeaderMatcher {
        name: name.to_owned(),
        invert_match: *invert,
        treat_missing_header_as_empty: *missing_is_empty,
        header_match_specifier: Some(self::test(test)),
    }
}

pub(super) fn test(model: &HeaderTest) -> wire::header_matcher::HeaderMatchSpecifier {
    use wire::header_matcher::HeaderMatchSpecifier as Specifier;
    match model {
        HeaderTest::Present => Specifier::PresentMatch(true),
        HeaderTest::Range { from, to } => Specifier::RangeMatch(percent::Int64Range {
            start: *from,
            end: *to,
        }),
        // An empty part is in every value; messages may not say it.
        HeaderTest::Value(matcher) if is_everything(matcher) => Specifier::PresentMatch(true),
        HeaderTest::Value(matcher) => Specifier::StringMatch(string(matcher)),
    }
}

pub(super) fn is_everything(matcher: &StringMatcher) -> bool {
    match matcher {
        StringMatcher::Contains(text)
        | StringMatcher::ContainsIgnoreCase(text)
        | StringMatcher::Prefix(text)
        | StringMatcher::PrefixIgnoreCase(text)
        | StringMatcher::Suffix(text)
        | StringMatcher::SuffixIgnoreCase(text) => text.is_empty(),
        StringMatcher::Exact(_) | StringMatcher::ExactIgnoreCase(_) | StringMatcher::Regex(_) => {
            false
        }
    }
}

pub(super) fn string(model: &StringMatcher) -> matcher::StringMatcher {
    use matcher::string_matcher::MatchPattern as Pattern;
    let (pattern, ignore_case) = match model {
        StringMatcher::Contains(text) => (Pattern::Contains(text.to_string()), false),
        StringMatcher::ContainsIgnoreCase(text) => (Pattern::Contains(text.to_string()), true),
        StringMatcher::Exact(text) => (Pattern::Exact(text.to_string()), false),
        StringMatcher::ExactIgnoreCase(text) => (Pattern::Exact(text.to_string()), true),
        StringMatcher::Prefix(text) => (Pattern::Prefix(text.to_string()), false),
        StringMatcher::PrefixIgnoreCase(text) => (Pattern::Prefix(text.to_string()), true),
        StringMatcher::Regex(regex) => (Pattern::SafeRegex(value::regex(regex)), false),
        StringMatcher::Suffix(text) => (Pattern::Suffix(text.to_string()), false),
        StringMatcher::SuffixIgnoreCase(text) => (Pattern::Suffix(text.to_string()), true),
    };
    matcher::StringMatcher {
        ignore_case,
        match_pattern: Some(pattern),
    }
}

fn query(model: &QueryMatcher) -> wire::QueryParameterMatcher {
    use wire::query_parameter_matcher::QueryParameterMatchSpecifier as Specifier;
    let QueryMatcher { name, value } = model;
    let specifier = match value {
        None => Specifier::PresentMatch(true),
        Some(matcher) if is_everything(matcher) => Specifier::PresentMatch(true),
        Some(matcher) => Specifier::StringMatch(string(matcher)),
    };
    wire::QueryParameterMatcher {
        name: name.to_string(),
        query_parameter_match_specifier: Some(specifier),
    }
}
