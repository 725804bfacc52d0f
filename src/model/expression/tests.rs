//! What conditions say of requests, and which are refused.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A request of which only what a test gives is known, by the names of attributes.
#[derive(Default)]
struct Known(BTreeMap<&'static str, Value<'static>>);

impl Attributes for Known {
    fn value(&self, of: &Attribute) -> Option<Value<'_>> {
        let name = match of {
            Attribute::RequestHeader(name) => name.as_str(),
            other => NAMES.iter().find(|(_, one, _)| one == other)?.0,
        };
        self.0.get(name).cloned()
    }
}

fn known() -> Known {
    let text = |text: &'static str| Value::Text(text.into());
    Known(BTreeMap::from([
        ("response.code", Value::Int(503)),
        ("request.path", text("/items?a=b")),
        ("request.method", text("GET")),
        ("x-canary", text("true")),
        ("connection.mtls", Value::Bool(true)),
        (
            "request.duration",
            Value::Duration(Duration::from_millis(1_500)),
        ),
    ]))
}

#[test]
fn conditions_hold_as_in_cel() {
    for (text, holds) in [
        ("response.code >= 400", true),
        ("response.code < 400", false),
        ("response.code == 503 && connection.mtls", true),
        ("!(response.code == 503)", false),
        ("response.code in [500, 503]", true),
        ("response.code in []", false),
        ("request.path.startsWith('/items')", true),
        ("request.path.endsWith(\"=c\")", false),
        ("request.path.contains('?')", true),
        ("request.path.matches('^/[a-z]+')", true),
        (
            "request.method != 'GET' || request.headers['X-Canary'] == 'true'",
            true,
        ),
        ("request.duration > duration('1s')", true),
        ("request.duration > duration('1.6s')", false),
        ("response.code > -1", true),
        ("true || false && false", true),
        ("connection.mtls == true", true),
    ] {
        let read = Expression::parse(text).expect(text);
        assert_eq!(read.holds(&known()), holds, "{text}");
    }
}

#[test]
fn what_is_absent_is_neither_true_nor_false() {
    for (text, holds) in [
        ("response.grpc_status == 0", false),
        ("!(response.grpc_status == 0)", false),
        ("has(response.grpc_status)", false),
        ("!has(response.grpc_status)", true),
        ("response.grpc_status == 0 || response.code == 503", true),
        ("response.grpc_status == 0 && response.code == 503", false),
        ("!(response.grpc_status == 0 && response.code == 200)", true),
        ("request.headers['x-none'].contains('')", false),
    ] {
        let read = Expression::parse(text).expect(text);
        assert_eq!(read.holds(&known()), holds, "{text}");
    }
}

#[test]
fn what_is_not_known_is_refused_with_its_place() {
    for (text, why) in [
        ("", "expected a value or an attribute (at character 1)"),
        (
            "response.code",
            "true or false, this is a number (at character 1)",
        ),
        (
            "response.kode > 1",
            "response.kode is not known here: known are connection.mtls",
        ),
        (
            "response.code > '1'",
            "expected a number, this is a text (at character 17)",
        ),
        (
            "response.code > 1 && 2",
            "expected a boolean, this is a number (at character 22)",
        ),
        (
            "response.code > 1 true",
            "more follows where the condition is over (at character 19)",
        ),
        ("(response.code > 1", "expected ) (at character 19)"),
        (
            "request.path.size() > 1",
            "size is not known here: known are contains",
        ),
        ("request.path.matches('(')", "is no regular expression"),
        ("request.headers['a b'] == ''", "is no name of a header"),
        (
            "request.path == 'a",
            "a quoted text is not closed (at character 17)",
        ),
        ("request.path == '\\q'", "is known to be none of"),
        ("response.code > 99999999999999999999", "is too large"),
        (
            "response.code % 2 == 0",
            "the character '%' has no meaning here",
        ),
        ("duration('5') < request.duration", "is no duration"),
        ("connection.mtls ? true : false", "more follows"),
    ] {
        let error = Expression::parse(text).expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    let deep = format!("{}true", "!".repeat(1_000));
    let error = Expression::parse(&deep).expect_err("too deep").to_string();
    assert!(error.contains("deeper than 64 levels"), "{error}");
    let long = "true || ".repeat(1_000) + "true";
    let error = Expression::parse(&long).expect_err("too long").to_string();
    assert!(error.contains("4096 are allowed"), "{error}");
}

proptest! {
    #![proptest_config(crate::random::properties(256))]

    #[test]
    fn no_text_panics(
        text in "[a-z.()\\[\\]'\"&|!<>=0-9, -]{0,60}",
        any in ".{0,40}",
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "response.code", ">=", "400", "&&", "||", "!", "(", ")", "request.path",
                ".contains('a')", "in", "[1,2]", "has(", "connection.mtls", "'x'", "==",
            ]),
            0..12,
        ),
    ) {
        for text in [text, any, parts.join(" ")] {
            if let Ok(read) = Expression::parse(&text) {
                let _ = read.holds(&known());
            }
        }
    }
}
