//! The rows of the catalogue that are decided without IO.

mod metamorphic;
mod reference;
mod rows;

use http::{HeaderMap, Request};

use super::*;
use crate::layer::canonical::{Normalization, canonicalize};
use crate::model::authorization::{
    Action, Audit, Authorization, ClaimMatcher, Condition, Enforcement, External, Network,
    PathPattern, PeerPattern, Policy, PortRange, Stage,
};
use crate::model::matcher::{HeaderKey, HeaderMatcher, HeaderTest, Regex, StringMatcher};

fn exact(text: &str) -> StringMatcher {
    StringMatcher::Exact(text.into())
}

fn path(matcher: StringMatcher) -> Condition {
    Condition::Path(PathPattern::Text(matcher))
}

fn header(name: &str, test: HeaderTest) -> HeaderMatcher {
    HeaderMatcher {
        key: HeaderKey::Field(name.parse().unwrap()),
        test,
        invert: false,
        missing_is_empty: false,
    }
}

fn is(name: &str, value: &str) -> Condition {
    Condition::Header(header(name, HeaderTest::Value(exact(value))))
}

fn one(action: Action, condition: Condition) -> Authorization {
    Authorization {
        stages: vec![Stage::enforced(action, vec![Policy::new("p", condition)])],
        ..Authorization::default()
    }
}

fn request(target: &str) -> Request<()> {
    Request::get(target).body(()).unwrap()
}

fn with(headers: &[(&str, &str)]) -> Request<()> {
    let mut request = request("http://catalog/");
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    request
}

/// Whether the request passes as it is, from this caller.
fn passes_from(policies: &Authorization, request: &Request<()>, caller: Caller<'_>) -> bool {
    decide(policies, &Attributes::of(request, caller), &mut |_| {}).allowed
}

fn passes(policies: &Authorization, request: &Request<()>) -> bool {
    passes_from(policies, request, Caller::default())
}

fn known(principal: &str) -> Caller<'_> {
    Caller {
        principal: Some(principal),
        encrypted: true,
        ..Caller::default()
    }
}

/// Envoy's header `:path` has the query, its `url_path` has not: a denial by the former must see it.
#[test]
fn a_path_with_its_query_is_another_thing_than_a_path() {
    let text = || StringMatcher::Contains("?debug=".into());
    let asked = request("http://catalog/items?debug=1");
    let whole = one(Action::Deny, Condition::PathAndQuery(text()));
    assert!(!passes(&whole, &asked));
    assert!(passes(&whole, &request("http://catalog/items")));
    assert!(passes(&one(Action::Deny, path(text())), &asked));
    let written = one(Action::Allow, Condition::PathAndQuery(exact("/items")));
    assert!(!passes(&written, &asked) && passes(&written, &request("http://catalog/items")));
}
