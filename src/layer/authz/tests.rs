//! The rows of the catalogue that are decided without IO.

mod metamorphic;
mod reference;
mod rows;
mod service;

use http::{HeaderMap, Request};

use super::*;
use crate::layer::canonical::{Normalization, canonicalize};
use crate::model::authorization::{
    Action, Audit, Authorization, ClaimMatcher, Condition, Enforcement, External, Network,
    PathPattern, PeerPattern, Policy, PortRange, Stage, Template,
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

#[test]
fn the_decision_names_the_policy_that_let_the_request_in_or_kept_it_out() {
    let stage =
        |action, name: &str, condition| Stage::enforced(action, vec![Policy::new(name, condition)]);
    let named = |stages: Vec<Stage>| {
        let policies = Authorization {
            stages,
            ..Authorization::default()
        };
        let request = request("http://catalog/items");
        let decision = decide(
            &policies,
            &Attributes::of(&request, Caller::default()),
            &mut |_| {},
        );
        (
            decision.allowed,
            decision.policy.map(|policy| policy.name.to_string()),
        )
    };
    let items = || path(exact("/items"));
    let elsewhere = || path(exact("/admin"));
    // What is asked after it, or does not match, takes nothing from it.
    let stages = vec![
        stage(Action::Deny, "deny", elsewhere()),
        stage(Action::Allow, "allow", items()),
        stage(Action::Audit, "audit", items()),
    ];
    assert_eq!(named(stages), (true, Some("allow".into())));
    let stages = vec![
        stage(Action::Deny, "deny", items()),
        stage(Action::Allow, "allow", items()),
    ];
    assert_eq!(named(stages), (false, Some("deny".into())));
    assert_eq!(
        named(vec![stage(Action::Allow, "allow", elsewhere())]),
        (false, None)
    );
    assert_eq!(
        named(vec![stage(Action::Audit, "audit", items())]),
        (true, None)
    );
}

#[test]
fn a_token_shows_whose_it_is_and_no_claim() {
    let token = Token {
        principal: Some("issuer/me".into()),
        claims: vec![("password".into(), Claim::Text("secret".into()))],
        ..Token::default()
    };
    let shown = format!("{token:?}");
    assert!(
        shown.contains("issuer/me") && !shown.contains("secret") && !shown.contains("password"),
        "{shown}"
    );
}

#[test]
fn a_dot_behind_the_host_is_seen_through_with_a_port_too_and_only_to_the_same_host() {
    let denied = |wanted: &str, host: &str| {
        let policies = one(Action::Deny, Condition::Host(exact(wanted)));
        !passes(&policies, &request(&format!("http://{host}/")))
    };
    assert!(denied("catalog:80", "catalog.:80"));
    assert!(denied("catalog", "catalog.:80"));
    assert!(!denied("order:80", "catalog.:80"));
    assert!(!denied("catalog:80", "catalog.:81"));
    // What follows the last colon of an address is no port.
    assert!(!denied("[:", "[::1]"));
}

#[test]
fn a_denial_of_a_service_account_is_of_that_account_in_that_namespace() {
    let pattern = PeerPattern::ServiceAccount {
        namespace: "my-app".into(),
        account: "order".into(),
    };
    let deny = one(Action::Deny, Condition::Peer(pattern));
    let passes =
        |principal: &str| passes_from(&deny, &request("http://catalog/"), known(principal));
    assert!(!passes("spiffe://cluster.local/ns/my-app/sa/order"));
    assert!(passes("spiffe://cluster.local/ns/my-app/sa/cart"));
    assert!(passes("spiffe://cluster.local/ns/shop/sa/order"));
}

#[test]
fn method_and_scheme_are_matched_as_headers_and_inverted_too() {
    let plain = request("http://catalog/");
    for (key, found) in [(HeaderKey::Method, "GET"), (HeaderKey::Scheme, "http")] {
        for (wanted, invert) in [
            (found, false),
            (found, true),
            ("other", false),
            ("other", true),
        ] {
            let matcher = HeaderMatcher {
                key: key.clone(),
                test: HeaderTest::Value(exact(wanted)),
                invert,
                missing_is_empty: false,
            };
            let allow = one(Action::Allow, Condition::Header(matcher));
            assert_eq!(
                passes(&allow, &plain),
                (wanted == found) != invert,
                "{key:?} {wanted} {invert}"
            );
        }
    }
}
