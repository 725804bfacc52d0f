//! Changes of a request and its response that a route asks for.

use std::borrow::Cow;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Uri};

use crate::error::{Error, Kind};
use crate::model::route::{HeaderChange, PathRewrite, RewritePattern};

/// Applies header changes in order.
pub(crate) fn headers(changes: &[HeaderChange], headers: &mut HeaderMap) {
    for change in changes {
        match change {
            HeaderChange::Add(name, value) => {
                headers.append(name, value.clone());
            }
            HeaderChange::AddIfAbsent(name, value) => {
                headers.entry(name).or_insert_with(|| value.clone());
            }
            HeaderChange::Remove(name) => {
                headers.remove(name);
            }
            HeaderChange::Set(name, value) => {
                headers.insert(name, value.clone());
            }
            HeaderChange::SetIfPresent(name, value) => {
                if headers.contains_key(name) {
                    headers.insert(name, value.clone());
                }
            }
        }
    }
}

/// The rewritten path, without the query.
pub(crate) fn path<'a>(rewrite: &'a PathRewrite, path: &'a str) -> Cow<'a, str> {
    match rewrite {
        PathRewrite::Full(to) => Cow::Borrowed(to),
        // The length counts, not the text: the route may have matched in another case.
        PathRewrite::Prefix { from, to } => match path.get(from.len()..) {
            Some(rest) => Cow::Owned(format!("{to}{rest}")),
            None => Cow::Borrowed(path),
        },
        PathRewrite::Regex { pattern, to } => regex(pattern, to, path),
    }
}

/// `text` with every match replaced.
pub(crate) fn regex<'a>(pattern: &RewritePattern, to: &str, text: &'a str) -> Cow<'a, str> {
    pattern
        .compiled()
        .replace_all(text, |groups: &regex::Captures<'_>| substituted(to, groups))
}

/// `\0` to `\9` stand for groups, `\\` for a backslash (RE2's syntax, which Envoy uses).
fn substituted(to: &str, groups: &regex::Captures<'_>) -> String {
    let mut text = String::with_capacity(to.len());
    let mut characters = to.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some(digit @ '0'..='9') => {
                let group = groups.get(digit as usize - '0' as usize);
                text.push_str(group.map_or("", |group| group.as_str()));
            }
            Some(other) => text.push(other),
            None => text.push('\\'),
        }
    }
    text
}

/// The URI that is sent: absolute, with the rewritten path and authority.
pub(crate) fn uri(
    uri: Uri,
    rewrite: Option<&PathRewrite>,
    authority: &Authority,
) -> Result<Uri, Error> {
    let mut parts = uri.into_parts();
    if let Some(rewrite) = rewrite {
        parts.path_and_query = Some(rewritten(rewrite, parts.path_and_query.as_ref())?);
    }
    parts
        .path_and_query
        .get_or_insert(PathAndQuery::from_static("/"));
    parts.scheme.get_or_insert(Scheme::HTTP);
    parts.authority = Some(authority.clone());
    Uri::from_parts(parts).map_err(|error| {
        Error::new(Kind::Request {
            why: "its URI has no valid form",
        })
        .caused_by(error)
    })
}

fn rewritten(rewrite: &PathRewrite, old: Option<&PathAndQuery>) -> Result<PathAndQuery, Error> {
    let new = path(rewrite, old.map_or("/", PathAndQuery::path));
    let new = match old.and_then(PathAndQuery::query) {
        Some(query) => PathAndQuery::try_from(format!("{new}?{query}")),
        None => PathAndQuery::try_from(new.as_ref()),
    };
    new.map_err(|error| {
        Error::new(Kind::Request {
            why: "the rewritten path is not valid",
        })
        .caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::route::RewritePattern;

    #[test]
    fn path_is_rewritten_and_the_query_stays() {
        let prefix = PathRewrite::Prefix {
            from: "/api".into(),
            to: "/".into(),
        };
        let regex = PathRewrite::Regex {
            pattern: RewritePattern::new("^/v([0-9]+)/(.*)$").unwrap(),
            to: r"/\2/\1\\".into(),
        };
        for (rewrite, before, after) in [
            (
                PathRewrite::Full("/x".into()),
                "http://a/b?c=d",
                "http://n/x?c=d",
            ),
            (prefix, "http://a/api/b?c", "http://n//b?c"),
            (regex, "http://a/v2/items", r"http://n/items/2\"),
        ] {
            let authority = Authority::from_static("n");
            let uri = uri(before.parse().unwrap(), Some(&rewrite), &authority);
            match uri {
                Ok(uri) => assert_eq!(uri.to_string(), after),
                Err(error) => assert!(after.contains('\\'), "{error}"),
            }
        }
    }

    #[test]
    fn headers_are_added_set_and_removed_in_order() {
        use http::{HeaderName, HeaderValue};
        let name = HeaderName::from_static("x");
        let value = HeaderValue::from_static;
        let mut map = HeaderMap::new();
        headers(
            &[
                HeaderChange::Add(name.clone(), value("1")),
                HeaderChange::Add(name.clone(), value("2")),
            ],
            &mut map,
        );
        assert_eq!(map.get_all("x").iter().count(), 2);
        headers(&[HeaderChange::Set(name.clone(), value("3"))], &mut map);
        assert_eq!(map.get_all("x").iter().collect::<Vec<_>>(), ["3"]);
        headers(&[HeaderChange::Remove(name)], &mut map);
        assert!(map.is_empty());
    }
}
