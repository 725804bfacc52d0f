//! Questions about strings, headers, paths and queries.
//!
//! Matchers ask; they are pure, never allocate for a request that has no repeated headers, and
//! take time linear in their input (regular expressions come from the `regex` crate, which has no
//! backtracking, with a bound on the compiled size).

use std::fmt;
use std::hash::{Hash, Hasher};

use http::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

use super::Fraction;

/// The longest regular expression that is accepted, in bytes (Istio's limit).
pub const MAX_PATTERN: usize = 1_024;

/// A regular expression that must match the whole text, as Envoy's `safe_regex` does.
///
/// ```
/// use meshwork::model::matcher::Regex;
///
/// let version = Regex::new("v[0-9]+")?;
/// assert!(version.matches("v12"));
/// assert!(!version.matches("xv12"), "a regex matches the whole value");
/// # Ok::<(), meshwork::model::matcher::InvalidRegex>(())
/// ```
#[derive(Clone)]
pub struct Regex {
    whole: regex::Regex,
    pattern: Box<str>,
}

/// A regular expression that cannot be used.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum InvalidRegex {
    /// Longer than [`MAX_PATTERN`].
    #[error("the regular expression has {0} bytes; at most {MAX_PATTERN} are allowed")]
    TooLong(usize),
    /// Not in RE2 syntax, or its compiled form is too large.
    #[error("not a regular expression in RE2 syntax: {0}")]
    Syntax(String),
}

impl Regex {
    /// Compiles a pattern in RE2 syntax.
    ///
    /// # Errors
    /// If it is longer than [`MAX_PATTERN`], is not valid, or compiles to more than 256 KiB.
    pub fn new(pattern: &str) -> Result<Self, InvalidRegex> {
        if pattern.len() > MAX_PATTERN {
            return Err(InvalidRegex::TooLong(pattern.len()));
        }
        // Checked alone first: `(?:` + `a)|(b` + `)` is valid only together.
        let build = |text: &str| {
            regex::RegexBuilder::new(text)
                .size_limit(1 << 18)
                .dfa_size_limit(1 << 20)
                .build()
                .map_err(|error| InvalidRegex::Syntax(error.to_string()))
        };
        build(pattern)?;
        Ok(Self {
            whole: build(&format!(r"\A(?:{pattern})\z"))?,
            pattern: pattern.into(),
        })
    }

    /// Whether the whole of `text` matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.whole.is_match(text)
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for Regex {}

impl Hash for Regex {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.pattern.hash(state);
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regex({:?})", self.pattern)
    }
}

/// A question about one string.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum StringMatcher {
    /// Contains the text.
    Contains(Box<str>),
    /// Contains the text, whatever the case of ASCII letters.
    ContainsIgnoreCase(Box<str>),
    /// Is the text.
    Exact(Box<str>),
    /// Is the text, whatever the case of ASCII letters.
    ExactIgnoreCase(Box<str>),
    /// Begins with the text.
    Prefix(Box<str>),
    /// Begins with the text, whatever the case of ASCII letters.
    PrefixIgnoreCase(Box<str>),
    /// Matches the expression as a whole.
    Regex(Regex),
    /// Ends with the text.
    Suffix(Box<str>),
    /// Ends with the text, whatever the case of ASCII letters.
    SuffixIgnoreCase(Box<str>),
}

impl StringMatcher {
    /// Whether `text` matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Contains(part) => text.contains(&**part),
            Self::ContainsIgnoreCase(part) => contains_ignore_case(text, part),
            Self::Exact(whole) => text == &**whole,
            Self::ExactIgnoreCase(whole) => text.eq_ignore_ascii_case(whole),
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::PrefixIgnoreCase(prefix) => starts_with_ignore_case(text, prefix),
            Self::Regex(regex) => regex.matches(text),
            Self::Suffix(suffix) => text.ends_with(&**suffix),
            Self::SuffixIgnoreCase(suffix) => ends_with_ignore_case(text, suffix),
        }
    }
}

fn starts_with_ignore_case(text: &str, prefix: &str) -> bool {
    text.as_bytes()
        .get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

fn ends_with_ignore_case(text: &str, suffix: &str) -> bool {
    let begin = text.len().checked_sub(suffix.len());
    begin.is_some_and(|begin| text.as_bytes()[begin..].eq_ignore_ascii_case(suffix.as_bytes()))
}

/// In time proportional to the product of both lengths, of which the second is the
/// configuration's.
fn contains_ignore_case(text: &str, part: &str) -> bool {
    part.is_empty()
        || text
            .as_bytes()
            .windows(part.len())
            .any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}

/// What a header matcher looks at.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum HeaderKey {
    /// `:authority`.
    Authority,
    /// A header field.
    Field(HeaderName),
    /// `:method`.
    Method,
    /// `:scheme`.
    Scheme,
}

/// What a header matcher wants to see.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum HeaderTest {
    /// The header is there.
    Present,
    /// The value is a decimal number in `from..to`.
    Range {
        /// The smallest number.
        from: i64,
        /// The first number that is too large.
        to: i64,
    },
    /// The value, or all values joined with `,`, matches.
    Value(StringMatcher),
}

/// A question about one header.
///
/// Repeated fields are joined with a comma before they are matched, as gRFC A28 and Envoy say.
/// An absent header matches nothing, also not an inverted test, unless
/// `missing_is_empty` says that it counts as the empty string (Istio's `withoutHeaders`).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HeaderMatcher {
    /// Which header.
    pub key: HeaderKey,
    /// What it should be.
    pub test: HeaderTest,
    /// Whether the answer is turned around.
    pub invert: bool,
    /// Whether an absent header is matched as if it were empty.
    pub missing_is_empty: bool,
}

/// The parts of a request that routes are matched against.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// `:method`.
    pub method: &'a str,
    /// `:scheme`.
    pub scheme: &'a str,
    /// `:authority`, as the caller wrote it.
    pub authority: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The query, without the `?`.
    pub query: Option<&'a str>,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

impl HeaderMatcher {
    /// Whether the request has what this matcher wants.
    #[must_use]
    pub fn matches(&self, request: &RequestView<'_>) -> bool {
        let pseudo = match &self.key {
            HeaderKey::Authority => Some(request.authority),
            HeaderKey::Method => Some(request.method),
            HeaderKey::Scheme => Some(request.scheme),
            HeaderKey::Field(_) => None,
        };
        if let Some(text) = pseudo {
            return self.test.holds(text) != self.invert;
        }
        let HeaderKey::Field(name) = &self.key else {
            return false;
        };
        self.matches_field(request.headers, name)
    }

    fn matches_field(&self, headers: &HeaderMap, name: &HeaderName) -> bool {
        let mut values = headers.get_all(name).iter();
        let Some(first) = values.next() else {
            return match self.test {
                HeaderTest::Present => self.invert,
                HeaderTest::Range { .. } | HeaderTest::Value(_) => {
                    self.missing_is_empty && self.test.holds("") != self.invert
                }
            };
        };
        let holds = if matches!(self.test, HeaderTest::Present) {
            true
        } else if let Some(second) = values.next() {
            self.test.holds_bytes(&joined(first, second, values))
        } else {
            self.test.holds_bytes(first.as_bytes())
        };
        holds != self.invert
    }
}

fn joined<'a>(
    first: &HeaderValue,
    second: &'a HeaderValue,
    rest: impl Iterator<Item = &'a HeaderValue>,
) -> Vec<u8> {
    let mut all = first.as_bytes().to_vec();
    for value in std::iter::once(second).chain(rest) {
        all.push(b',');
        all.extend_from_slice(value.as_bytes());
    }
    all
}

impl HeaderTest {
    pub(crate) fn holds(&self, text: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Range { from, to } => text
                .parse::<i64>()
                .is_ok_and(|number| (*from..*to).contains(&number)),
            Self::Value(matcher) => matcher.matches(text),
        }
    }

    /// A value that is no UTF-8 matches nothing.
    fn holds_bytes(&self, value: &[u8]) -> bool {
        std::str::from_utf8(value).is_ok_and(|text| self.holds(text))
    }
}

/// A question about the path, without the query.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum PathMatcher {
    /// Is the path.
    Exact(Box<str>),
    /// Is the path, whatever the case of ASCII letters.
    ExactIgnoreCase(Box<str>),
    /// Begins with the text; `/foo` matches `/foobar`, as in Envoy and Istio.
    Prefix(Box<str>),
    /// Begins with the text, whatever the case of ASCII letters.
    PrefixIgnoreCase(Box<str>),
    /// Matches the expression as a whole.
    Regex(Regex),
    /// Begins with whole segments: `/foo` matches `/foo` and `/foo/bar` but not `/foobar`.
    SegmentPrefix(Box<str>),
}

impl PathMatcher {
    /// Whether `path` matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(whole) => path == &**whole,
            Self::ExactIgnoreCase(whole) => path.eq_ignore_ascii_case(whole),
            Self::Prefix(prefix) => path.starts_with(&**prefix),
            Self::PrefixIgnoreCase(prefix) => starts_with_ignore_case(path, prefix),
            Self::Regex(regex) => regex.matches(path),
            Self::SegmentPrefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }

    /// Whether every path matches.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        match self {
            Self::Prefix(prefix) | Self::PrefixIgnoreCase(prefix) | Self::SegmentPrefix(prefix) => {
                &**prefix == "/" || prefix.is_empty()
            }
            Self::Regex(regex) => regex.pattern() == ".*",
            Self::Exact(_) | Self::ExactIgnoreCase(_) => false,
        }
    }
}

/// A question about one query parameter; the first one of its name is looked at.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct QueryMatcher {
    /// The parameter's name, as it stands in the query (not percent-decoded, as in Envoy).
    pub name: Box<str>,
    /// What its value should be; `None`: it is enough that it is there.
    pub value: Option<StringMatcher>,
}

impl QueryMatcher {
    /// Whether the query has what this matcher wants.
    #[must_use]
    pub fn matches(&self, query: Option<&str>) -> bool {
        let Some(value) = query
            .into_iter()
            .flat_map(|query| query.split('&'))
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find(|(name, _)| *name == &*self.name)
            .map(|(_, value)| value)
        else {
            return false;
        };
        self.value.as_ref().is_none_or(|test| test.matches(value))
    }
}

/// Which requests a route takes: all of its questions must be answered with yes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RouteMatcher {
    /// The path.
    pub path: PathMatcher,
    /// Headers and pseudo-headers.
    pub headers: Vec<HeaderMatcher>,
    /// Query parameters.
    pub query: Vec<QueryMatcher>,
    /// The share of the requests that match otherwise; `None`: all.
    pub share: Option<Fraction>,
}

impl RouteMatcher {
    /// A matcher that takes every request.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            path: PathMatcher::Prefix("/".into()),
            headers: Vec::new(),
            query: Vec::new(),
            share: None,
        }
    }

    /// Whether the request matches; `draw` yields a number from `0..1_000_000` and is asked only
    /// if the route takes a share.
    pub fn matches(&self, request: &RequestView<'_>, draw: impl FnOnce() -> u32) -> bool {
        self.mismatch(request).is_none() && self.share.is_none_or(|share| share.includes(draw()))
    }

    /// The first question that the request answers with no; `None`: it matches, apart from the
    /// share.
    #[must_use]
    pub fn mismatch(&self, request: &RequestView<'_>) -> Option<Mismatch<'_>> {
        if !self.path.matches(request.path) {
            return Some(Mismatch::Path(&self.path));
        }
        let header = self.headers.iter().find(|one| !one.matches(request));
        let query = || self.query.iter().find(|one| !one.matches(request.query));
        header
            .map(Mismatch::Header)
            .or_else(|| query().map(Mismatch::Query))
    }

    /// Whether every request matches, so that routes after this one are never reached.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.path.is_everything()
            && self.headers.is_empty()
            && self.query.is_empty()
            && self.share.is_none_or(|share| share == Fraction::ONE)
    }
}

/// The question of a [`RouteMatcher`] that a request answers with no.
///
/// ```
/// use meshwork::model::matcher::{Mismatch, PathMatcher, RequestView, RouteMatcher};
///
/// let items = RouteMatcher { path: PathMatcher::Exact("/items".into()), ..RouteMatcher::everything() };
/// let headers = http::HeaderMap::new();
/// let request = RequestView {
///     method: "GET", scheme: "http", authority: "catalog", path: "/", query: None, headers: &headers,
/// };
/// assert!(matches!(items.mismatch(&request), Some(Mismatch::Path(_))));
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Mismatch<'a> {
    /// One of its headers or pseudo-headers.
    Header(&'a HeaderMatcher),
    /// Its path.
    Path(&'a PathMatcher),
    /// One of its query parameters.
    Query(&'a QueryMatcher),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view<'a>(headers: &'a HeaderMap, path: &'a str, query: Option<&'a str>) -> RequestView<'a> {
        RequestView {
            method: "GET",
            scheme: "http",
            authority: "catalog:80",
            path,
            query,
            headers,
        }
    }

    fn header(name: &'static str, test: HeaderTest) -> HeaderMatcher {
        HeaderMatcher {
            key: HeaderKey::Field(HeaderName::from_static(name)),
            test,
            invert: false,
            missing_is_empty: false,
        }
    }

    #[test]
    fn regex_matches_the_whole_value_and_alternation_is_enclosed() {
        let regex = Regex::new("a|b").unwrap();
        assert!(regex.matches("a") && regex.matches("b"));
        assert!(!regex.matches("ab") && !regex.matches("a\n"));
        assert!(matches!(Regex::new("a)|(b"), Err(InvalidRegex::Syntax(_))));
    }

    #[test]
    fn regex_is_bounded_in_length_and_size() {
        assert_eq!(
            Regex::new(&"a".repeat(1_025)),
            Err(InvalidRegex::TooLong(1_025))
        );
        assert!(matches!(
            Regex::new("(a{1000}){1000}"),
            Err(InvalidRegex::Syntax(_))
        ));
    }

    #[test]
    fn header_value_is_case_sensitive_and_repeated_fields_are_joined() {
        let canary = header(
            "x-canary",
            HeaderTest::Value(StringMatcher::Exact("true".into())),
        );
        let mut headers = HeaderMap::new();
        headers.insert("X-Canary", HeaderValue::from_static("true"));
        assert!(canary.matches(&view(&headers, "/", None)));
        headers.insert("x-canary", HeaderValue::from_static("True"));
        assert!(!canary.matches(&view(&headers, "/", None)));
        headers.insert("x-canary", HeaderValue::from_static("a"));
        headers.append("x-canary", HeaderValue::from_static("b"));
        let both = header(
            "x-canary",
            HeaderTest::Value(StringMatcher::Exact("a,b".into())),
        );
        assert!(both.matches(&view(&headers, "/", None)));
    }

    #[test]
    fn absent_header_truth_table() {
        let empty = HeaderMap::new();
        let exact = HeaderTest::Value(StringMatcher::Exact("a".into()));
        // (test, invert, missing_is_empty) -> matches an absent header
        for (test, invert, missing_is_empty, expected) in [
            (exact.clone(), false, false, false),
            (exact.clone(), true, false, false),
            (exact.clone(), false, true, false),
            (exact, true, true, true),
            (HeaderTest::Present, false, false, false),
            (HeaderTest::Present, true, false, true),
            (HeaderTest::Range { from: 0, to: 9 }, true, false, false),
        ] {
            let matcher = HeaderMatcher {
                invert,
                missing_is_empty,
                ..header("x", test.clone())
            };
            assert_eq!(
                matcher.matches(&view(&empty, "/", None)),
                expected,
                "{matcher:?}"
            );
        }
    }

    #[test]
    fn header_that_is_no_text_matches_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert("x", HeaderValue::from_bytes(b"\xff").unwrap());
        let any = Regex::new(".*").unwrap();
        let matcher = header("x", HeaderTest::Value(StringMatcher::Regex(any)));
        assert!(!matcher.matches(&view(&headers, "/", None)));
    }

    #[test]
    fn prefix_is_of_characters_and_segment_prefix_of_segments() {
        let plain = PathMatcher::Prefix("/foo".into());
        let segments = PathMatcher::SegmentPrefix("/foo".into());
        assert!(plain.matches("/foobar") && !segments.matches("/foobar"));
        assert!(plain.matches("/foo/a") && segments.matches("/foo/a") && segments.matches("/foo"));
        assert!(PathMatcher::PrefixIgnoreCase("/FOO".into()).matches("/foobar"));
        assert!(!PathMatcher::PrefixIgnoreCase("/fooé".into()).matches("/foo"));
    }

    #[test]
    fn query_matcher_looks_at_the_first_of_its_name() {
        let exact = QueryMatcher {
            name: "a".into(),
            value: Some(StringMatcher::Exact("1".into())),
        };
        let present = QueryMatcher {
            name: "a".into(),
            value: None,
        };
        assert!(exact.matches(Some("b=2&a=1&a=3")));
        assert!(!exact.matches(Some("a=3&a=1")) && !exact.matches(None));
        assert!(present.matches(Some("a")) && !present.matches(Some("ab=1")));
    }
}
