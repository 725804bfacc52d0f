//! Which requests a route takes.

use super::place::{Place, Quoted};
use super::value;
use crate::model::matcher::{
    HeaderKey, HeaderMatcher, HeaderTest, PathMatcher, QueryMatcher, Regex, RouteMatcher,
    StringMatcher,
};
use crate::source::xds::extra::RouteExtra;
use crate::source::xds::proto::{matcher, percent, route as wire};

pub(super) fn route(
    place: &Place<'_>,
    message: &wire::RouteMatch,
    extra: &RouteExtra,
) -> Option<RouteMatcher> {
    let path = path(place, message, extra);
    let headers_place = place.field("headers");
    let mut headers: Vec<Option<HeaderMatcher>> = message
        .headers
        .iter()
        .enumerate()
        .map(|(index, header_message)| header(&headers_place.index(index), header_message))
        .collect();
    if message.grpc.is_some() {
        headers.push(grpc());
    }
    let query_place = place.field("query_parameters");
    let query: Vec<Option<QueryMatcher>> = message
        .query_parameters
        .iter()
        .enumerate()
        .map(|(index, message)| query(&query_place.index(index), message))
        .collect();
    let share = match message.runtime_fraction.clone() {
        None => Some(None),
        some => value::runtime_fraction(&place.field("runtime_fraction"), some).map(Some),
    };
    let restricted = restrictions(place, message);
    restricted?;
    Some(RouteMatcher {
        path: path?,
        headers: headers.into_iter().collect::<Option<_>>()?,
        query: query.into_iter().collect::<Option<_>>()?,
        share: share?,
    })
}

/// Conditions that are not looked at here. To leave them out would send requests where they do not
/// belong.
fn restrictions(place: &Place<'_>, message: &wire::RouteMatch) -> Option<()> {
    let refused = [
        ("cookies", !message.cookies.is_empty()),
        ("dynamic_metadata", !message.dynamic_metadata.is_empty()),
        ("filter_state", !message.filter_state.is_empty()),
        ("tls_context", message.tls_context.is_some()),
    ];
    let mut found = Some(());
    for (field, set) in refused {
        if set {
            found = place.field(field).fault(
                "is a condition that is not supported; path, headers, query_parameters, \
                 runtime_fraction and grpc are",
            );
        }
    }
    found
}

/// `grpc {}`: the content type is gRPC's.
fn grpc() -> Option<HeaderMatcher> {
    Some(HeaderMatcher {
        key: HeaderKey::Field(http::header::CONTENT_TYPE),
        test: HeaderTest::Value(StringMatcher::Regex(
            Regex::new(r"application/grpc([+;].*)?").ok()?,
        )),
        invert: false,
        missing_is_empty: false,
    })
}

fn path(place: &Place<'_>, message: &wire::RouteMatch, extra: &RouteExtra) -> Option<PathMatcher> {
    use wire::route_match::PathSpecifier as Specifier;
    let exact_case = message.case_sensitive.is_none_or(|flag| flag.value);
    let Some(specifier) = &message.path_specifier else {
        return place.fault(
            "has no path specifier; prefix, path, safe_regex and path_separated_prefix are allowed",
        );
    };
    let unsupported = |field: &str| {
        place.field(field).fault(
            "is not supported; prefix, path, safe_regex and path_separated_prefix are allowed",
        )
    };
    Some(match specifier {
        Specifier::Prefix(text) if extra.segment_prefix => {
            PathMatcher::SegmentPrefix(text.as_str().into())
        }
        Specifier::Prefix(text) if exact_case => PathMatcher::Prefix(text.as_str().into()),
        Specifier::Prefix(text) => PathMatcher::PrefixIgnoreCase(text.as_str().into()),
        Specifier::Path(text) if exact_case => PathMatcher::Exact(text.as_str().into()),
        Specifier::Path(text) => PathMatcher::ExactIgnoreCase(text.as_str().into()),
        // `case_sensitive` does not count for expressions (gRFC A28).
        Specifier::SafeRegex(regex) => {
            PathMatcher::Regex(value::regex(&place.field("safe_regex"), regex)?)
        }
        Specifier::PathSeparatedPrefix(text) => {
            separated(&place.field("path_separated_prefix"), text, exact_case)?
        }
        Specifier::ConnectMatcher(_) => return unsupported("connect_matcher"),
        Specifier::PathMatchPolicy(_) => return unsupported("path_match_policy"),
    })
}

fn separated(place: &Place<'_>, text: &str, exact_case: bool) -> Option<PathMatcher> {
    let valid = text.len() > 1 && !text.ends_with('/') && !text.contains(['?', '#']);
    if !valid {
        return place.fault(format_args!(
            "{} is no prefix of whole segments; \"/a/b\" without '?' and '#' is allowed, without a \
             '/' at its end",
            Quoted(text)
        ));
    }
    if exact_case {
        return Some(PathMatcher::SegmentPrefix(text.into()));
    }
    let pattern = format!("(?i:{})(/.*)?", escaped(text));
    match Regex::new(&pattern) {
        Ok(regex) => Some(PathMatcher::Regex(regex)),
        Err(error) => place.fault(error),
    }
}

/// `text` as an expression that matches it and nothing else.
pub(in crate::source::xds) fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

fn key(place: &Place<'_>, name: &str) -> Option<HeaderKey> {
    match name {
        ":authority" => Some(HeaderKey::Authority),
        ":method" => Some(HeaderKey::Method),
        ":scheme" => Some(HeaderKey::Scheme),
        _ if name.starts_with(':') => place.fault(format_args!(
            "{} cannot be matched; :authority, :method, :scheme and header fields can",
            Quoted(name)
        )),
        // Over HTTP/2 there is no such field, and the caller may have set either.
        _ if name.eq_ignore_ascii_case("host") => Some(HeaderKey::Authority),
        _ => value::header_name(place, name).map(HeaderKey::Field),
    }
}

pub(super) fn header(place: &Place<'_>, message: &wire::HeaderMatcher) -> Option<HeaderMatcher> {
    use wire::header_matcher::HeaderMatchSpecifier as Specifier;
    let wire::HeaderMatcher {
        name,
        invert_match,
        treat_missing_header_as_empty,
        header_match_specifier,
    } = message;
    let key = key(&place.field("name"), name);
    let text = |field: &str, text: &String, make: fn(Box<str>) -> StringMatcher| {
        let text = value::filled(&place.field(field), text)?;
        Some(HeaderTest::Value(make(text.into())))
    };
    let mut invert = *invert_match;
    let test = match header_match_specifier {
        None => place.fault(
            "has no specifier; string_match, safe_regex_match, range_match and present_match are \
             allowed",
        ),
        Some(Specifier::PresentMatch(present)) => {
            invert ^= !present;
            Some(HeaderTest::Present)
        }
        Some(Specifier::RangeMatch(percent::Int64Range { start, end })) => {
            Some(HeaderTest::Range {
                from: *start,
                to: *end,
            })
        }
        Some(Specifier::StringMatch(string)) => {
            string_matcher(&place.field("string_match"), string).map(HeaderTest::Value)
        }
        Some(Specifier::SafeRegexMatch(regex)) => {
            value::regex(&place.field("safe_regex_match"), regex)
                .map(|regex| HeaderTest::Value(StringMatcher::Regex(regex)))
        }
        // An empty exact value is legal, an empty prefix would match everything.
        Some(Specifier::ExactMatch(exact)) => Some(HeaderTest::Value(StringMatcher::Exact(
            exact.as_str().into(),
        ))),
        Some(Specifier::PrefixMatch(prefix)) => text("prefix_match", prefix, StringMatcher::Prefix),
        Some(Specifier::SuffixMatch(suffix)) => text("suffix_match", suffix, StringMatcher::Suffix),
        Some(Specifier::ContainsMatch(part)) => {
            text("contains_match", part, StringMatcher::Contains)
        }
    };
    Some(HeaderMatcher {
        key: key?,
        test: test?,
        invert,
        missing_is_empty: *treat_missing_header_as_empty,
    })
}

pub(super) fn string_matcher(
    place: &Place<'_>,
    message: &matcher::StringMatcher,
) -> Option<StringMatcher> {
    use matcher::string_matcher::MatchPattern as Pattern;
    let matcher::StringMatcher {
        ignore_case,
        match_pattern,
    } = message;
    let filled = |field: &str, text: &String| -> Option<Box<str>> {
        value::filled(&place.field(field), text).map(Into::into)
    };
    Some(match (match_pattern.as_ref(), ignore_case) {
        (None, _) => {
            return place.fault(
                "has no pattern; exact, prefix, suffix, contains and safe_regex are allowed",
            );
        }
        (Some(Pattern::Exact(text)), false) => StringMatcher::Exact(text.as_str().into()),
        (Some(Pattern::Exact(text)), true) => StringMatcher::ExactIgnoreCase(text.as_str().into()),
        (Some(Pattern::Prefix(text)), false) => StringMatcher::Prefix(filled("prefix", text)?),
        (Some(Pattern::Prefix(text)), true) => {
            StringMatcher::PrefixIgnoreCase(filled("prefix", text)?)
        }
        (Some(Pattern::Suffix(text)), false) => StringMatcher::Suffix(filled("suffix", text)?),
        (Some(Pattern::Suffix(text)), true) => {
            StringMatcher::SuffixIgnoreCase(filled("suffix", text)?)
        }
        (Some(Pattern::Contains(text)), false) => {
            StringMatcher::Contains(filled("contains", text)?)
        }
        (Some(Pattern::Contains(text)), true) => {
            StringMatcher::ContainsIgnoreCase(filled("contains", text)?)
        }
        // The flag does not count for expressions (gRFC A63).
        (Some(Pattern::SafeRegex(regex)), _) => {
            StringMatcher::Regex(value::regex(&place.field("safe_regex"), regex)?)
        }
        (Some(Pattern::Custom(_)), _) => {
            return place.field("custom").fault(
                "is not supported; exact, prefix, suffix, contains and safe_regex are allowed",
            );
        }
    })
}

fn query(place: &Place<'_>, message: &wire::QueryParameterMatcher) -> Option<QueryMatcher> {
    use wire::query_parameter_matcher::QueryParameterMatchSpecifier as Specifier;
    let wire::QueryParameterMatcher {
        name,
        query_parameter_match_specifier,
    } = message;
    let name = value::filled(&place.field("name"), name);
    let value = match query_parameter_match_specifier {
        // Without a specifier it is enough that the parameter is there, as in Envoy.
        None | Some(Specifier::PresentMatch(true)) => Some(None),
        Some(Specifier::PresentMatch(false)) => place
            .field("present_match")
            .fault("is false, which is not supported; true is allowed"),
        Some(Specifier::StringMatch(string)) => {
            string_matcher(&place.field("string_match"), string).map(Some)
        }
    };
    Some(QueryMatcher {
        name: name?.into(),
        value: value?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_text_matches_itself_and_nothing_else() {
        let text = "/a.b*c(d)[e]{f}|g^h$i\\j+k?l#m&n~o-p";
        let regex = Regex::new(&escaped(text)).unwrap();
        assert!(regex.matches(text));
        assert!(!regex.matches(&text.replace('.', "x")));
    }
}
