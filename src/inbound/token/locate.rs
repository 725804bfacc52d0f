//! Where tokens stand in a request, and how they are taken out of it.

use http::header::COOKIE;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri};

use super::verify::Invalid;
use crate::model::token::{Location, TokenRule};

/// Tokens that are looked at in one request, for one rule.
const TOKENS: usize = 8;

/// All tokens in the places of a rule.
///
/// # Errors
/// If there are more than anybody has.
pub(super) fn find(rule: &TokenRule, head: &Request<()>) -> Result<Vec<Box<str>>, Invalid> {
    let mut found: Vec<Box<str>> = Vec::new();
    let mut keep = |token: &str| {
        if token.is_empty() || found.iter().any(|other| &**other == token) {
            return Ok(());
        }
        if found.len() == TOKENS {
            return Err(Invalid::TooMany);
        }
        found.push(token.into());
        Ok(())
    };
    for location in &rule.locations {
        match location {
            Location::Header { name, prefix } => {
                for value in head.headers().get_all(name) {
                    let text = value.to_str().unwrap_or_default();
                    if let Some(token) = behind(text, prefix) {
                        keep(token)?;
                    }
                }
            }
            Location::Parameter(name) => {
                let query = head.uri().query().unwrap_or_default();
                for (own, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
                    if own == &**name {
                        keep(value)?;
                    }
                }
            }
            Location::Cookie(name) => {
                for value in head.headers().get_all(COOKIE) {
                    for pair in value.to_str().unwrap_or_default().split(';') {
                        match pair.trim().split_once('=') {
                            Some((own, value)) if own == &**name => keep(value)?,
                            Some(_) | None => {}
                        }
                    }
                }
            }
        }
    }
    Ok(found)
}

/// What stands behind the prefix. The words of authentication schemes have no case (RFC 9110 11.1), and a
/// handler may know that: `bearer` is found where `Bearer ` is looked for.
fn behind<'v>(value: &'v str, prefix: &str) -> Option<&'v str> {
    let start = value.get(..prefix.len())?;
    if !start.eq_ignore_ascii_case(prefix) {
        return None;
    }
    Some(value[prefix.len()..].trim())
}

/// Takes the tokens out of the places of a rule.
pub(super) fn remove(rule: &TokenRule, head: &mut Request<()>) {
    for location in &rule.locations {
        match location {
            Location::Header { name, .. } => {
                head.headers_mut().remove(name);
            }
            Location::Parameter(name) => remove_parameter(head, name),
            Location::Cookie(name) => remove_cookie(head, name),
        }
    }
}

fn remove_parameter(head: &mut Request<()>, name: &str) {
    let Some(query) = head.uri().query() else {
        return;
    };
    let is_it = |pair: &&str| pair.split_once('=').is_some_and(|(own, _)| own == name);
    if !query.split('&').any(|pair| is_it(&pair)) {
        return;
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_it(pair)).collect();
    let path = head.uri().path();
    let text = match &kept[..] {
        [] => path.to_owned(),
        kept => format!("{path}?{}", kept.join("&")),
    };
    let mut parts = head.uri().clone().into_parts();
    // A part of what was one is one.
    parts.path_and_query = PathAndQuery::try_from(text).ok().or(parts.path_and_query);
    if let Ok(uri) = Uri::from_parts(parts) {
        *head.uri_mut() = uri;
    }
}

fn remove_cookie(head: &mut Request<()>, name: &str) {
    let fields: Vec<HeaderValue> = head.headers().get_all(COOKIE).iter().cloned().collect();
    head.headers_mut().remove(COOKIE);
    for field in fields {
        let Ok(text) = field.to_str() else {
            head.headers_mut().append(COOKIE, field);
            continue;
        };
        let pairs = text.split(';').map(str::trim).filter(|pair| {
            pair.split_once('=').is_none_or(|(own, _)| own != name) && !pair.is_empty()
        });
        let kept: Vec<&str> = pairs.collect();
        if let (false, Ok(value)) = (kept.is_empty(), HeaderValue::try_from(kept.join("; "))) {
            head.headers_mut().append(COOKIE, value);
        }
    }
}
