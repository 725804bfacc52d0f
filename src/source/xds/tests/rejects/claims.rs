//! What RBAC may ask of the claims of tokens.

use super::rbac::{permits, rbac_refused};
use crate::source::xds::proto::matcher;
use crate::source::xds::proto::rbac::permission::Rule;

fn segment(key: &str) -> matcher::metadata_matcher::PathSegment {
    use matcher::metadata_matcher::{PathSegment, path_segment::Segment};
    PathSegment {
        segment: Some(Segment::Key(key.to_owned())),
    }
}

type Asked = (
    &'static [&'static str],
    Option<matcher::ValueMatcher>,
    &'static str,
);

/// What is asked of the metadata of tokens, and what is said of it.
fn metadata() -> Vec<Asked> {
    use matcher::value_matcher::{MatchPattern as Pattern, NullMatch};
    let value = |pattern: Pattern| {
        Some(matcher::ValueMatcher {
            match_pattern: Some(pattern),
        })
    };
    let in_list = |pattern: Pattern| {
        let one = matcher::list_matcher::MatchPattern::OneOf(Box::new(matcher::ValueMatcher {
            match_pattern: Some(pattern),
        }));
        value(Pattern::ListMatch(Box::new(matcher::ListMatcher {
            match_pattern: Some(one),
        })))
    };
    let text = |text: &str| {
        Pattern::StringMatch(matcher::StringMatcher {
            match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(
                text.to_owned(),
            )),
            ignore_case: false,
        })
    };
    let unsupported = "value: asks for null, a number or an absence, which is not supported";
    vec![
        (&["payload", "group"], in_list(text("admin")), ""),
        (&["payload", "group"], value(Pattern::BoolMatch(true)), ""),
        (
            &["payload", "group"],
            None,
            "permissions[0].metadata.value: is missing",
        ),
        (
            &["payload", "group"],
            Some(Default::default()),
            "metadata.value: says nothing",
        ),
        (
            &["payload"],
            value(text("a")),
            "metadata.path: leads to no claim",
        ),
        (&[], value(text("a")), "metadata.path: leads to no claim"),
        (
            &["payload", "a"],
            value(Pattern::NullMatch(NullMatch {})),
            unsupported,
        ),
        (
            &["payload", "a"],
            value(Pattern::DoubleMatch(Default::default())),
            unsupported,
        ),
        (
            &["payload", "a"],
            value(Pattern::PresentMatch(false)),
            unsupported,
        ),
        (
            &["payload", "a"],
            in_list(Pattern::BoolMatch(true)),
            "list_match.one_of: is no string_match",
        ),
        (
            &["payload", "a"],
            value(Pattern::ListMatch(Default::default())),
            "metadata.value.list_match.one_of: is missing",
        ),
        (
            &["payload", "a"],
            value(Pattern::StringMatch(Default::default())),
            "metadata.value.string_match: has no pattern",
        ),
        (
            &["payload", "a"],
            value(Pattern::OrMatch(matcher::OrMatcher {
                value_matchers: vec![matcher::ValueMatcher {
                    match_pattern: Some(Pattern::NullMatch(NullMatch {})),
                }],
            })),
            "metadata.value.or_match.value_matchers[0]: asks for null",
        ),
    ]
}

#[test]
fn d5_claims_that_cannot_be_asked_for_are_refused() {
    for (path, value, expected) in metadata() {
        let message = matcher::MetadataMatcher {
            filter: "envoy.filters.http.jwt_authn".to_owned(),
            path: path.iter().map(|key| segment(key)).collect(),
            value,
            invert: false,
        };
        rbac_refused(permits(Rule::Metadata(message)), expected);
    }
}
