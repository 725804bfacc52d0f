//! Paths by text and by template.
//!
//! Templates are Istio's (Envoy's `uri_template`): `{*}` is one segment, `{**}` any number of
//! characters, slashes included. They are matched segment by segment, from the left up to `{**}`
//! and from the right behind it, so that the time is linear in the path.

use std::fmt;

use thiserror::Error;

use super::super::matcher::StringMatcher;

/// One segment, whatever it is.
const ONE: &str = "{*}";
/// Any characters.
const ANY: &str = "{**}";

/// A question about the path, without the query.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum PathPattern {
    /// By segments.
    Template(Template),
    /// By text.
    Text(StringMatcher),
}

impl PathPattern {
    /// Whether the path matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Template(template) => template.matches(path),
            Self::Text(text) => text.matches(path),
        }
    }
}

/// A path in which some segments are free.
///
/// ```
/// use meshwork::model::authorization::Template;
///
/// let items: Template = "/shops/{*}/items/{**}".parse()?;
/// assert!(items.matches("/shops/7/items/a/b"));
/// assert!(!items.matches("/shops/7/8/items/a"));
/// # Ok::<(), meshwork::model::authorization::InvalidTemplate>(())
/// ```
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Template {
    /// Up to `{**}`, or all.
    head: Box<[Segment]>,
    /// Behind `{**}`, if it is there; literals only.
    tail: Option<Box<[Box<str>]>>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Segment {
    Literal(Box<str>),
    One,
}

/// Not a template.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidTemplate {
    /// It does not begin at the root.
    #[error("a path template begins with /")]
    NoRoot,
    /// An operator behind `{**}`.
    #[error("{0} stands behind {{**}}, which must be the last operator")]
    BehindAny(Box<str>),
    /// Braces or a star that are no operator.
    #[error("segment {0:?} is neither plain text nor {{*}} nor {{**}}")]
    Segment(Box<str>),
}

impl Template {
    /// Whether a text has operators, so that it is meant as a template.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.contains(ONE) || text.contains(ANY)
    }

    /// Whether the path matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let Some(mut rest) = path.strip_prefix('/') else {
            return false;
        };
        for (index, segment) in self.head.iter().enumerate() {
            let last = index + 1 == self.head.len() && self.tail.is_none();
            let (own, behind) = match rest.split_once('/') {
                Some((own, behind)) => (own, Some(behind)),
                None => (rest, None),
            };
            let fits = match segment {
                Segment::Literal(text) => own == &**text,
                Segment::One => !own.is_empty(),
            };
            match behind {
                _ if !fits => return false,
                Some(_) if last => return false,
                Some(behind) => rest = behind,
                None => return last,
            }
        }
        match &self.tail {
            None => rest.is_empty(),
            Some(tail) => ends_with(rest, tail),
        }
    }
}

/// Whether `rest` ends with these segments; what is before them is free, and so is the slash.
fn ends_with(mut rest: &str, tail: &[Box<str>]) -> bool {
    for segment in tail.iter().rev() {
        let Some(before) = rest.strip_suffix(&**segment) else {
            return false;
        };
        let Some(before) = before.strip_suffix('/') else {
            return false;
        };
        rest = before;
    }
    true
}

impl std::str::FromStr for Template {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        let inner = text.strip_prefix('/').ok_or(InvalidTemplate::NoRoot)?;
        let mut head = Vec::new();
        let mut tail: Option<Vec<Box<str>>> = None;
        for segment in inner.split('/') {
            match (segment, &mut tail) {
                (ANY, None) => tail = Some(Vec::new()),
                (ANY | ONE, Some(_)) => return Err(InvalidTemplate::BehindAny(segment.into())),
                (ONE, None) => head.push(Segment::One),
                _ if segment.contains(['{', '}', '*']) => {
                    return Err(InvalidTemplate::Segment(segment.into()));
                }
                (_, Some(tail)) => tail.push(segment.into()),
                (_, None) => head.push(Segment::Literal(segment.into())),
            }
        }
        Ok(Self {
            head: head.into(),
            tail: tail.map(Into::into),
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.head {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::One => write!(f, "/{ONE}")?,
            }
        }
        if let Some(tail) = &self.tail {
            write!(f, "/{ANY}")?;
            for segment in tail {
                write!(f, "/{segment}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        text.parse().unwrap()
    }

    #[test]
    fn a_star_is_one_segment_and_two_are_any_characters() {
        for (pattern, path, expected) in [
            ("/a/{*}", "/a/b", true),
            ("/a/{*}", "/a/", false),
            ("/a/{*}", "/a", false),
            ("/a/{*}", "/a/b/", false),
            ("/a/{*}", "/a/b/c", false),
            ("/{*}/b", "/a/b", true),
            ("/{*}/b", "//b", false),
            ("/{*}/b", "/a/c", false),
            ("/{**}", "/", true),
            ("/{**}", "/a/b", true),
            ("/a/{**}", "/a/", true),
            ("/a/{**}", "/a/b/c", true),
            ("/a/{**}", "/a", false),
            ("/a/{**}", "/ab/", false),
            ("/a/{**}/z", "/a/b/c/z", true),
            ("/a/{**}/z", "/a/b/z", true),
            ("/a/{**}/z", "/a//z", true),
            ("/a/{**}/z", "/a/z", false),
            ("/a/{**}/z", "/a/b/yz", false),
            ("/a/{**}/y/z", "/a/b/y/z", true),
            ("/a/{**}/y/z", "/a/y/z", false),
            ("/a/{*}/{**}", "/a/b/", true),
            ("/a/{*}/{**}", "/a/b", false),
            ("/a/{*}/", "/a/b/", true),
            ("/a/{*}/", "/a/b", false),
        ] {
            assert_eq!(
                template(pattern).matches(path),
                expected,
                "{pattern} {path}"
            );
        }
        assert!(!template("/{**}").matches("a"));
    }

    #[test]
    fn a_template_is_shown_as_it_was_written() {
        for text in ["/a/{*}", "/{**}", "/a/{*}/b/{**}/c/d", "/a/{*}/"] {
            assert_eq!(template(text).to_string(), text);
        }
    }

    #[test]
    fn braces_and_stars_are_whole_segments_and_any_is_the_last_operator() {
        for (text, message) in [
            ("a/{*}", "a path template begins with /"),
            (
                "/{**}/{*}",
                "{*} stands behind {**}, which must be the last operator",
            ),
            (
                "/{**}/{**}",
                "{**} stands behind {**}, which must be the last operator",
            ),
            (
                "/a{*}",
                "segment \"a{*}\" is neither plain text nor {*} nor {**}",
            ),
            (
                "/{*}/b*",
                "segment \"b*\" is neither plain text nor {*} nor {**}",
            ),
            (
                "/{*}/{b}",
                "segment \"{b}\" is neither plain text nor {*} nor {**}",
            ),
        ] {
            assert_eq!(text.parse::<Template>().unwrap_err().to_string(), message);
        }
    }
}
