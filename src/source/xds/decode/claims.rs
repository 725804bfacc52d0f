//! What RBAC asks of the claims of tokens (gRFC A41; Envoy's `metadata`).

use super::matches;
use super::place::Place;
use super::rbac::deeper;
use crate::model::authorization::{ClaimMatcher, Condition};
use crate::source::xds::proto::matcher;

/// Under which name the filter of tokens writes metadata, whatever its own name in a chain.
const TOKENS: &str = "envoy.filters.http.jwt_authn";

/// Metadata of a request. The filter of tokens leaves the claims of a good one, by the name that its
/// provider gives them; nobody else leaves anything here, so that such a question never holds (gRFC A41).
pub(super) fn metadata(place: &Place<'_>, message: &matcher::MetadataMatcher) -> Option<Condition> {
    use matcher::metadata_matcher::path_segment::Segment;
    let condition = if message.filter == TOKENS {
        let list = place.field("path");
        let keys = message.path.iter().enumerate();
        let keys: Vec<Option<Box<str>>> = keys
            .map(|(index, segment)| match &segment.segment {
                Some(Segment::Key(key)) => Some(key.as_str().into()),
                None => list.index(index).fault("has no key"),
            })
            .collect();
        let value = place.field("value");
        let wanted = value.required(message.value.as_ref());
        let wanted = wanted.and_then(|wanted| claim(&value, wanted, 0));
        let mut keys = keys.into_iter().collect::<Option<Vec<_>>>()?.into_iter();
        let (payload, path) = (keys.next(), keys.collect::<Vec<_>>());
        let Some(payload) = payload.filter(|_| !path.is_empty()) else {
            return list.fault(
                "leads to no claim; the provider's payload_in_metadata and the names of a claim do",
            );
        };
        Condition::TokenMetadata {
            payload,
            path,
            value: wanted?,
        }
    } else {
        Condition::never()
    };
    Some(match message.invert {
        true => condition.not(),
        false => condition,
    })
}

/// What a claim should be.
fn claim(place: &Place<'_>, message: &matcher::ValueMatcher, depth: usize) -> Option<ClaimMatcher> {
    use matcher::list_matcher::MatchPattern as List;
    use matcher::value_matcher::MatchPattern as Pattern;
    let depth = deeper(place, depth)?;
    match message.match_pattern.as_ref() {
        Some(Pattern::BoolMatch(wanted)) => Some(ClaimMatcher::Bool(*wanted)),
        Some(Pattern::StringMatch(text)) => {
            matches::string_matcher(&place.field("string_match"), text).map(ClaimMatcher::Text)
        }
        Some(Pattern::PresentMatch(true)) => Some(ClaimMatcher::Present),
        Some(Pattern::ListMatch(list)) => {
            let place = place.field("list_match.one_of");
            let List::OneOf(item) = place.required(list.match_pattern.as_ref())?;
            match claim(&place, item, depth)? {
                ClaimMatcher::Text(text) => Some(ClaimMatcher::Item(text)),
                ClaimMatcher::Any(_)
                | ClaimMatcher::Bool(_)
                | ClaimMatcher::Item(_)
                | ClaimMatcher::Present => {
                    place.fault("is no string_match, which alone is supported in a list")
                }
            }
        }
        Some(Pattern::OrMatch(any)) => {
            let list = place.field("or_match");
            let list = list.field("value_matchers");
            let all = any.value_matchers.iter().enumerate();
            all.map(|(index, one)| claim(&list.index(index), one, depth))
                .collect::<Option<_>>()
                .map(ClaimMatcher::Any)
        }
        Some(Pattern::NullMatch(_) | Pattern::DoubleMatch(_) | Pattern::PresentMatch(false)) => {
            place.fault(
                "asks for null, a number or an absence, which is not supported; string_match, \
                 bool_match, present_match: true, list_match and or_match are",
            )
        }
        None => place.fault("says nothing"),
    }
}
