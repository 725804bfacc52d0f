//! RequestAuthentication, and the authorizers of the mesh configuration.

use super::{Severity, accepts, messages, refuses, rule_tests, warns};
use crate::source::istio::{Options, read};

type Shape = (&'static str, String);

const KEYS: &str = r#"jwks: '{"keys": [{"kty": "EC", "crv": "P-256", "x": "", "y": ""}]}'"#;

fn policy(text: &str) -> Shape {
    ("RequestAuthentication", format!("{{{text}}}"))
}

fn rule(text: &str) -> Shape {
    policy(&format!("jwtRules: [{{{text}}}]"))
}

fn keyed(text: &str) -> Shape {
    rule(&format!("issuer: https://me, {KEYS}, {text}"))
}

rule_tests! {
    selector_or_targets: refuses(policy, "selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: a}]")
        => "selector: only one of selector and targetRefs can be set";
    a_rule_has_an_issuer: refuses(rule, "audiences: [a]")
        => "jwtRules[0]: a rule needs issuer or jwksUri";
    an_audience_is_not_empty: refuses(keyed, "audiences: ['']")
        => "jwtRules[0].audiences[0]: must not be empty";
    keys_stand_in_one_place: refuses(keyed, "jwksUri: https://me/keys")
        => "jwtRules[0].jwks: only one of jwks and jwksUri can be set";
    keys_have_an_address: refuses(rule, "jwksUri: 'ftp://me/keys'")
        => "jwtRules[0].jwksUri: \"ftp://me/keys\" is no address: expected http:// or https:// and \
            a host";
    keys_without_tls_are_told: warns(rule, "jwksUri: 'http://me/keys'")
        => "jwtRules[0].jwksUri: keys that come without TLS can be replaced by whoever is in between";
    an_issuer_says_where: refuses(rule, "issuer: me@example.com")
        => "jwtRules[0].issuer: \"me@example.com\" says nowhere where its keys are";
    keys_are_json: refuses(rule, "issuer: a, jwks: '{}'")
        => "jwtRules[0].jwks: is no JSON Web Key Set: missing field `keys` at line 1 column 2";
    keys_are_public: warns(rule, r#"issuer: a, jwks: '{"keys": [{"kty": "RSA", "d": "AQ"}]}'"#)
        => "jwtRules[0].jwks: the set has a private key: whoever reads this file can make tokens";
    a_header_has_a_name: refuses(keyed, "fromHeaders: [{prefix: a}]")
        => "jwtRules[0].fromHeaders[0].name: \"\" is no header name";
    a_parameter_has_a_name: refuses(keyed, "fromParams: ['']")
        => "jwtRules[0].fromParams[0]: must not be empty";
    a_cookie_has_a_name: refuses(keyed, "fromCookies: ['']")
        => "jwtRules[0].fromCookies[0]: must not be empty";
    a_claim_header_is_plain: refuses(keyed, "outputClaimToHeaders: [{header: a.b, claim: c}]")
        => "jwtRules[0].outputClaimToHeaders[0].header: \"a.b\" is no header name: expected \
            letters, digits, - and _";
    a_claim_has_a_name: refuses(keyed, "outputClaimToHeaders: [{header: a, claim: 'a..b'}]")
        => "jwtRules[0].outputClaimToHeaders[0].claim: \"a..b\" names no claim";
    a_payload_header_has_a_name: refuses(keyed, "outputPayloadToHeader: 'a b'")
        => "jwtRules[0].outputPayloadToHeader: \"a b\" is no header name";
    a_list_has_a_name: refuses(keyed, "spaceDelimitedClaims: ['']")
        => "jwtRules[0].spaceDelimitedClaims[0]: must not be empty";
    a_timeout_is_long_enough: refuses(keyed, "timeout: 1us")
        => "jwtRules[0].timeout: 1\u{b5}s is shorter than 1ms";
}

#[test]
fn what_istio_accepts_of_an_authentication_is_accepted() {
    for text in [
        "",
        "selector: {matchLabels: {app: a}}",
        &format!(
            "jwtRules: [{{issuer: me, audiences: [a], {KEYS}, fromHeaders: [{{name: x-a, prefix: 'A '}}], \
             fromParams: [a], fromCookies: [b], forwardOriginalToken: true, timeout: 1s, \
             outputPayloadToHeader: x-b, outputClaimToHeaders: [{{header: x-c, claim: a.b}}], \
             spaceDelimitedClaims: [roles]}}]"
        ),
    ] {
        let (kind, spec) = policy(text);
        accepts(kind, &spec);
    }
}

/// Errors about the only provider.
fn said(provider: &str) -> Vec<String> {
    let text = format!("mesh:\n  extensionProviders:\n  - {{{provider}}}\n");
    let faults = read([("mesh.yaml", text)], &Options::default()).faults;
    messages(&faults, Severity::Error)
}

#[test]
fn an_authorizer_has_a_service_and_a_port() {
    let http =
        |text: &str| format!("name: p, envoyExtAuthzHttp: {{service: a.b, port: 80, {text}}}");
    assert!(said(&http("timeout: 1s, pathPrefix: /a, statusOnError: '503'")).is_empty());
    let at = "extensionProviders[0]";
    for (provider, message) in [
        (
            "envoyExtAuthzGrpc: {service: a, port: 1}".to_owned(),
            "name: a provider needs a name",
        ),
        (
            "name: p, envoyExtAuthzGrpc: {service: '', port: 1}".to_owned(),
            "envoyExtAuthzGrpc.service: \"\" is no host",
        ),
        (
            "name: p, envoyExtAuthzGrpc: {service: a}".to_owned(),
            "envoyExtAuthzGrpc.port: port 0 does not exist: expected 1 to 65535",
        ),
        (
            http("pathPrefix: a"),
            "envoyExtAuthzHttp.pathPrefix: \"a\" is no path",
        ),
        (
            http("statusOnError: '99'"),
            "envoyExtAuthzHttp.statusOnError: \"99\" is no status that Envoy answers with: expected \
             one of envoy.type.v3.StatusCode from 200 on, such as 403 or 503",
        ),
        (
            "name: p, envoyExtAuthzGrpc: {service: a, port: 1, statusOnError: '599'}".to_owned(),
            "envoyExtAuthzGrpc.statusOnError: \"599\" is no status that Envoy answers with: expected \
             one of envoy.type.v3.StatusCode from 200 on, such as 403 or 503",
        ),
        (
            http("headersToUpstreamOnAllow: ['']"),
            "envoyExtAuthzHttp.headersToUpstreamOnAllow[0]: must not be empty",
        ),
        (
            http("includeRequestBodyInCheck: {maxRequestBytes: 1}"),
            "envoyExtAuthzHttp.includeRequestBodyInCheck: includeRequestBodyInCheck is known, not \
             yet supported",
        ),
    ] {
        assert_eq!(said(&provider), [format!("{at}.{message}")]);
    }
    let twice = "name: p, envoyExtAuthzGrpc: {service: a, port: 1}}\n  - {name: p";
    assert_eq!(
        said(twice),
        ["extensionProviders[1].name: \"p\" stands twice"]
    );
}
