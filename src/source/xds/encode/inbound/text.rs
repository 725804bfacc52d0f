//! Texts of policies as regular expressions (RE2), where gRPC has no narrower question.
//!
//! Names are always [escaped], so that `my.app` never matches `myXapp`. Expressions match as a
//! whole.

use crate::model::matcher::StringMatcher;
use crate::source::xds::decode::escaped;
use crate::source::xds::encode::matches;
use crate::source::xds::encode::value;
use crate::source::xds::proto::matcher;

/// What the matcher takes, of texts without line breaks.
pub(super) fn pattern(model: &StringMatcher) -> String {
    let folded = |text: String| format!("(?i:{text})");
    match model {
        StringMatcher::Contains(text) => format!(".*{}.*", escaped(text)),
        StringMatcher::ContainsIgnoreCase(text) => folded(format!(".*{}.*", escaped(text))),
        StringMatcher::Exact(text) => escaped(text),
        StringMatcher::ExactIgnoreCase(text) => folded(escaped(text)),
        StringMatcher::Prefix(text) => format!("{}.*", escaped(text)),
        StringMatcher::PrefixIgnoreCase(text) => folded(format!("{}.*", escaped(text))),
        StringMatcher::Regex(regex) => format!("(?:{})", regex.pattern()),
        StringMatcher::Suffix(text) => format!(".*{}", escaped(text)),
        StringMatcher::SuffixIgnoreCase(text) => folded(format!(".*{}", escaped(text))),
    }
}

/// The same of one part between slashes; `None` for expressions, which know no parts.
pub(super) fn segment(model: &StringMatcher) -> Option<String> {
    Some(match model {
        StringMatcher::Contains(text) => format!("[^/]*{}[^/]*", escaped(text)),
        StringMatcher::Exact(text) => escaped(text),
        StringMatcher::Prefix(text) => format!("{}[^/]*", escaped(text)),
        StringMatcher::Suffix(text) => format!("[^/]*{}", escaped(text)),
        StringMatcher::ContainsIgnoreCase(_)
        | StringMatcher::ExactIgnoreCase(_)
        | StringMatcher::PrefixIgnoreCase(_)
        | StringMatcher::Regex(_)
        | StringMatcher::SuffixIgnoreCase(_) => return None,
    })
}

/// The matcher whatever the case of ASCII letters.
pub(super) fn folded(model: &StringMatcher) -> StringMatcher {
    match model {
        StringMatcher::Contains(text) => StringMatcher::ContainsIgnoreCase(text.clone()),
        StringMatcher::Exact(text) => StringMatcher::ExactIgnoreCase(text.clone()),
        StringMatcher::Prefix(text) => StringMatcher::PrefixIgnoreCase(text.clone()),
        StringMatcher::Suffix(text) => StringMatcher::SuffixIgnoreCase(text.clone()),
        StringMatcher::ContainsIgnoreCase(_)
        | StringMatcher::ExactIgnoreCase(_)
        | StringMatcher::PrefixIgnoreCase(_)
        | StringMatcher::Regex(_)
        | StringMatcher::SuffixIgnoreCase(_) => model.clone(),
    }
}

/// The matcher as a message; `None` if every text matches, which messages cannot say.
pub(super) fn message(model: &StringMatcher) -> Option<matcher::StringMatcher> {
    (!matches::is_everything(model)).then(|| matches::string(model))
}

/// An expression as a message.
pub(super) fn expression(pattern: &str) -> matcher::StringMatcher {
    matcher::StringMatcher {
        ignore_case: false,
        match_pattern: Some(matcher::string_matcher::MatchPattern::SafeRegex(
            value::pattern(pattern),
        )),
    }
}
