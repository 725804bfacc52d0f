//! Headers that may be there more than once.

use http::header::{CONNECTION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::model::matcher::{HeaderKey, HeaderMatcher, HeaderTest, RequestView, StringMatcher};

use super::Lean;
use super::evaluate::host_holds;

/// Headers of one hop: what they say is not part of the request (gRFC A41, RFC 9110 7.6.1).
const OF_ONE_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that are no lists although commas stand in them, so that the value as a whole is what a policy
/// means.
const NO_LISTS: &[&str] = &[
    "authorization",
    "cookie",
    "date",
    "from",
    "if-modified-since",
    "if-unmodified-since",
    "origin",
    "referer",
    "user-agent",
];

/// Whether the request has what the matcher wants.
///
/// An absent header is decided by A41's table: it matches nothing, inverted or not, but an inverted
/// "present"; or it counts as empty, where the matcher says so.
pub(super) fn holds(matcher: &HeaderMatcher, request: &RequestView<'_>, lean: Lean) -> bool {
    let inner = if matcher.invert { lean.turned() } else { lean };
    let pseudo = match &matcher.key {
        HeaderKey::Authority => return authority(matcher, request, inner),
        HeaderKey::Field(name) if name == HOST => return authority(matcher, request, inner),
        HeaderKey::Method => request.method,
        HeaderKey::Scheme => request.scheme,
        HeaderKey::Field(name) => return field(matcher, name, request.headers, inner),
    };
    matcher.test.holds(pseudo) != matcher.invert
}

fn authority(matcher: &HeaderMatcher, request: &RequestView<'_>, lean: Lean) -> bool {
    let holds = match &matcher.test {
        HeaderTest::Value(wanted) => host_holds(wanted, request.authority, lean),
        HeaderTest::Present | HeaderTest::Range { .. } => matcher.test.holds(request.authority),
    };
    holds != matcher.invert
}

fn field(matcher: &HeaderMatcher, name: &HeaderName, headers: &HeaderMap, lean: Lean) -> bool {
    let counts = !OF_ONE_HOP.contains(&name.as_str())
        && headers.contains_key(name)
        && (lean == Lean::Broad || !is_dropped(name, headers));
    if !counts {
        return match matcher.test {
            HeaderTest::Present => matcher.invert,
            HeaderTest::Range { .. } | HeaderTest::Value(_) => {
                matcher.missing_is_empty && matcher.test.holds("") != matcher.invert
            }
        };
    }
    let mut fields = headers.get_all(name).iter();
    let holds = match (&matcher.test, lean) {
        (HeaderTest::Present, _) => true,
        (test, Lean::Narrow) => fields.all(|value| all_hold(test, name, value.as_bytes())),
        (test, Lean::Broad) => {
            let some = fields.any(|value| any_holds(test, value.as_bytes(), lean));
            some || joined_holds(test, name, headers)
        }
    };
    holds != matcher.invert
}

/// Whether `Connection` says that the header ends with this hop. Who forwards the request drops it
/// then; who reads it here sees it.
fn is_dropped(name: &HeaderName, headers: &HeaderMap) -> bool {
    let mut lists = headers.get_all(CONNECTION).iter();
    lists.any(|list| {
        let mut names = list.as_bytes().split(|byte| *byte == b',');
        names.any(|one| {
            one.trim_ascii()
                .eq_ignore_ascii_case(name.as_str().as_bytes())
        })
    })
}

/// The value as it is, without spaces around it, or one of its elements.
fn any_holds(test: &HeaderTest, value: &[u8], lean: Lean) -> bool {
    value_holds(test, value, lean)
        || value
            .split(|byte| *byte == b',')
            .any(|element| value_holds(test, element.trim_ascii(), lean))
}

/// The value as it is, and where the test is about a part of it or a pattern, also each of its
/// elements: a list that ends with `admin` is not a value that does.
fn all_hold(test: &HeaderTest, name: &HeaderName, value: &[u8]) -> bool {
    let lean = Lean::Narrow;
    let whole = match test {
        HeaderTest::Present | HeaderTest::Range { .. } => true,
        HeaderTest::Value(matcher) => matches!(
            matcher,
            StringMatcher::Exact(_) | StringMatcher::ExactIgnoreCase(_)
        ),
    };
    value_holds(test, value, lean)
        && (whole || NO_LISTS.contains(&name.as_str()) || {
            let mut elements = value.split(|byte| *byte == b',');
            elements.all(|element| value_holds(test, element.trim_ascii(), lean))
        })
}

fn value_holds(test: &HeaderTest, value: &[u8], lean: Lean) -> bool {
    match std::str::from_utf8(value) {
        Ok(text) => test.holds(text),
        Err(_) => lean.in_doubt(),
    }
}

/// All fields as one, as Envoy and gRPC see them.
fn joined_holds(test: &HeaderTest, name: &HeaderName, headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let (Some(first), Some(second)) = (fields.next(), fields.next()) else {
        return false;
    };
    let mut all = first.to_vec();
    for value in std::iter::once(second).chain(fields) {
        all.push(b',');
        all.extend_from_slice(value);
    }
    value_holds(test, &all, Lean::Broad)
}
