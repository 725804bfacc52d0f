//! Tokens: the filter `jwt_authn` of servers.

use jwt::jwt_provider::JwksSourceSpecifier as Source;
use jwt::jwt_requirement::RequiresType as Type;

use super::doors::told_of;
use super::routes::route_refused;
use super::seconds;
use crate::source::xds::extra::any;
use crate::source::xds::proto::{Duration, core, jwt, route};

fn inline(text: &str) -> Source {
    Source::LocalJwks(core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineString(text.to_owned())),
        ..core::DataSource::default()
    })
}

#[track_caller]
fn tokens_refused(change: impl FnOnce(&mut jwt::JwtAuthentication), expected: &str) {
    let provider = jwt::JwtProvider {
        issuer: "https://me".to_owned(),
        jwks_source_specifier: Some(inline(r#"{"keys": []}"#)),
        ..jwt::JwtProvider::default()
    };
    let mut message = jwt::JwtAuthentication {
        providers: [("me".to_owned(), provider)].into(),
        rules: vec![rule("/", named("me"))],
        ..jwt::JwtAuthentication::default()
    };
    change(&mut message);
    let told = told_of(any(&message));
    match expected {
        "" => assert_eq!(told, ""),
        expected => {
            let expected = format!("http_filters[0].typed_config.{expected}");
            assert!(told.contains(&expected), "{expected:?} is not in {told:?}");
        }
    }
}

#[track_caller]
fn provider_refused(change: impl FnOnce(&mut jwt::JwtProvider), expected: &str) {
    tokens_refused(
        |message| {
            if let Some(provider) = message.providers.get_mut("me") {
                change(provider);
            }
        },
        &format!("providers[\"me\"]{expected}"),
    );
}

fn named(provider: &str) -> Type {
    Type::ProviderName(provider.to_owned())
}

fn requirement(requires: Type) -> jwt::JwtRequirement {
    jwt::JwtRequirement {
        requires_type: Some(requires),
    }
}

fn rule(prefix: &str, requires: Type) -> jwt::RequirementRule {
    jwt::RequirementRule {
        r#match: Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::Prefix(prefix.to_owned())),
            ..route::RouteMatch::default()
        }),
        requirement_type: Some(jwt::requirement_rule::RequirementType::Requires(
            requirement(requires),
        )),
    }
}

#[test]
fn d7_providers_of_tokens_that_are_refused() {
    tokens_refused(|_| {}, "");
    type Change = fn(&mut jwt::JwtProvider);
    let rows: [(Change, &str); 8] = [
        (|p| p.subjects = Some(Default::default()), "subjects"),
        (|p| p.require_expiration = true, "require_expiration"),
        (|p| p.max_lifetime = seconds(1), "max_lifetime"),
        (|p| p.clock_skew_seconds = 600, "clock_skew_seconds"),
        (|p| p.clear_route_cache = true, "clear_route_cache"),
        (
            |p| p.header_in_metadata = "header".to_owned(),
            "header_in_metadata",
        ),
        (
            |p| p.failed_status_in_metadata = "status".to_owned(),
            "failed_status_in_metadata",
        ),
        (
            |p| p.pad_forward_payload_header = true,
            "pad_forward_payload_header",
        ),
    ];
    for (change, field) in rows {
        provider_refused(change, &format!(".{field}: is not supported; leave it out"));
    }
    provider_refused(
        |p| p.forward_payload_header = "a b".to_owned(),
        ".forward_payload_header: \"a b\" is not the name of a header",
    );
    let claim = jwt::JwtClaimToHeader {
        header_name: String::new(),
        claim_name: "sub".to_owned(),
        ..jwt::JwtClaimToHeader::default()
    };
    provider_refused(
        |p| p.claim_to_headers = vec![claim],
        ".claim_to_headers[0].header_name: \"\" is not the name of a header",
    );
    let place = |name: &str| jwt::JwtHeader {
        name: name.to_owned(),
        value_prefix: String::new(),
    };
    provider_refused(
        |p| p.from_headers = vec![place("x-token"), place("x token")],
        ".from_headers[1].name: \"x token\" is not the name of a header",
    );
    tokens_refused(
        |message| message.filter_state_rules = Some(jwt::FilterStateRule::default()),
        "filter_state_rules: is not supported; requirement_map and routes are",
    );
}

#[test]
fn d7_keys_of_tokens_that_are_refused() {
    provider_refused(
        |p| p.jwks_source_specifier = None,
        ": has no keys; remote_jwks and local_jwks are allowed",
    );
    let file = Source::LocalJwks(core::DataSource {
        specifier: Some(core::data_source::Specifier::Filename("/keys".to_owned())),
        ..core::DataSource::default()
    });
    provider_refused(
        |p| p.jwks_source_specifier = Some(file),
        ".local_jwks: is not inline; inline_string and inline_bytes are allowed",
    );
    for text in ["", "[]", "{}", r#"{"keys": 1}"#] {
        provider_refused(
            |p| p.jwks_source_specifier = Some(inline(text)),
            ".local_jwks: is no JSON Web Key Set, an object with a list \"keys\"",
        );
    }
    let remote = |uri: &str, timeout: Option<Duration>| {
        Source::RemoteJwks(jwt::RemoteJwks {
            http_uri: Some(core::HttpUri {
                uri: uri.to_owned(),
                timeout,
                ..core::HttpUri::default()
            }),
            ..jwt::RemoteJwks::default()
        })
    };
    provider_refused(
        |p| p.jwks_source_specifier = Some(Source::RemoteJwks(Default::default())),
        ".remote_jwks.http_uri: is missing",
    );
    for uri in ["", "keys.example", "ftp://keys.example/", "/keys"] {
        provider_refused(
            |p| p.jwks_source_specifier = Some(remote(uri, seconds(1))),
            &format!(".remote_jwks.http_uri.uri: {uri:?} is no address of http or https"),
        );
    }
    provider_refused(
        |p| p.jwks_source_specifier = Some(remote("https://keys.example/", seconds(0))),
        ".remote_jwks.http_uri.timeout: is zero; more than 0 s is allowed",
    );
}

#[test]
fn d7_requirements_of_tokens_that_are_refused() {
    let two = || {
        vec![
            requirement(named("me")),
            requirement(Type::AllowMissing(Default::default())),
        ]
    };
    let any_of = |requirements| Type::RequiresAny(jwt::JwtRequirementOrList { requirements });
    let all_of = |requirements| Type::RequiresAll(jwt::JwtRequirementAndList { requirements });
    let audience = Type::ProviderAndAudiences(jwt::ProviderWithAudiences {
        provider_name: "you".to_owned(),
        audiences: vec!["a".to_owned()],
    });
    let nested = any_of(vec![requirement(any_of(two()))]);
    let rows = [
        (
            named("you"),
            ".provider_name: \"you\" is none of the providers",
        ),
        (
            audience,
            ".provider_and_audiences.provider_name: \"you\" is none of the providers",
        ),
        (
            any_of(vec![requirement(named("you"))]),
            ".requires_any.requirements[0].provider_name: \"you\" is none of the providers",
        ),
        (
            nested,
            ".requires_any.requirements[0].requires_any: stands in another, which is not supported",
        ),
        (
            all_of(two()),
            ".requires_all: is not supported; requires_any is",
        ),
        (
            Type::AllowMissingOrFailed(Default::default()),
            ".allow_missing_or_failed: lets tokens pass that are wrong, which is not supported",
        ),
        (
            Type::ExtractOnlyWithoutValidation(Default::default()),
            ".extract_only_without_validation: believes tokens that nobody verified",
        ),
    ];
    for (requires, expected) in rows {
        let in_rule = rule("/", requires.clone());
        tokens_refused(
            |message| message.rules = vec![in_rule],
            &format!("rules[0].requires{expected}"),
        );
        tokens_refused(
            |message| {
                let all = [("strict".to_owned(), requirement(requires))];
                message.requirement_map = all.into();
            },
            &format!("requirement_map[\"strict\"]{expected}"),
        );
    }
    let fine = rule("/", any_of(two()));
    tokens_refused(|message| message.rules = vec![fine], "");
}

#[test]
fn d7_rules_of_tokens_that_are_refused() {
    let with = |rule: jwt::RequirementRule| {
        move |message: &mut jwt::JwtAuthentication| message.rules = vec![rule]
    };
    tokens_refused(
        with(rule("/admin", named("me"))),
        "rules[0].match: has conditions, which are not supported here",
    );
    tokens_refused(
        with(jwt::RequirementRule {
            r#match: None,
            ..rule("/", named("me"))
        }),
        "rules[0].match: is missing",
    );
    let by_name = |name: &str| jwt::RequirementRule {
        requirement_type: Some(jwt::requirement_rule::RequirementType::RequirementName(
            name.to_owned(),
        )),
        ..rule("/", named("me"))
    };
    tokens_refused(
        with(by_name("strict")),
        "rules[0].requirement_name: \"strict\" is not in the requirement_map",
    );
}

#[test]
fn d7_requirements_of_routes_that_are_refused() {
    use jwt::per_route_config::RequirementSpecifier as Specifier;
    let rows = [
        (None, ": has neither disabled nor requirement_name"),
        (
            Some(Specifier::Disabled(false)),
            ".disabled: is false; only true is allowed",
        ),
        (
            Some(Specifier::RequirementName(String::new())),
            ".requirement_name: is empty",
        ),
    ];
    for (requirement_specifier, expected) in rows {
        let config = any(&jwt::PerRouteConfig {
            requirement_specifier,
        });
        route_refused(
            |r| r.typed_per_filter_config = [("tokens".to_owned(), config)].into(),
            &format!("typed_per_filter_config[\"tokens\"]{expected}"),
        );
    }
}
