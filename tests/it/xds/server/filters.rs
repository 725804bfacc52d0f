//! Tokens and limits that a control plane asks for at a server's port.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3 as jwt;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3 as local_rate;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as rbac_filter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::envoy::r#type::v3 as kinds;
use envoy_types::pb::google::protobuf::{Duration, UInt32Value};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};

use super::start;
use crate::xds::messages::{chain, filter, packed, served};

/// Signs tokens, with a key that JSON web keys call `OKP`.
struct Issuer(KeyPair);

impl Issuer {
    fn new() -> Self {
        Self(KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    fn set(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.0.der_bytes());
        format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"one","x":"{x}"}}]}}"#)
    }

    /// A header line with a token until the year 2100.
    fn bearer(&self) -> String {
        self.bearer_of("")
    }

    /// The same with further claims, each behind a comma.
    fn bearer_of(&self, claims: &str) -> String {
        let payload = format!(r#"{{"iss":"https://me","sub":"alice","exp":4102444800{claims}}}"#);
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","kid":"one"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature = self.0.sign(signed.as_bytes()).unwrap();
        let signature = URL_SAFE_NO_PAD.encode(signature);
        format!("authorization: Bearer {signed}.{signature}\r\n")
    }
}

impl Issuer {
    fn provider(&self) -> jwt::JwtProvider {
        let keys = core::data_source::Specifier::InlineString(self.set());
        jwt::JwtProvider {
            issuer: "https://me".into(),
            forward: true,
            jwks_source_specifier: Some(jwt::jwt_provider::JwksSourceSpecifier::LocalJwks(
                core::DataSource {
                    specifier: Some(keys),
                    ..core::DataSource::default()
                },
            )),
            ..jwt::JwtProvider::default()
        }
    }
}

fn requires(kind: jwt::jwt_requirement::RequiresType) -> jwt::JwtRequirement {
    jwt::JwtRequirement {
        requires_type: Some(kind),
    }
}

/// A requirement of every request.
fn of_all(requirement: jwt::JwtRequirement) -> jwt::RequirementRule {
    jwt::RequirementRule {
        r#match: Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".into())),
            ..route::RouteMatch::default()
        }),
        requirement_type: Some(jwt::requirement_rule::RequirementType::Requires(
            requirement,
        )),
    }
}

#[tokio::test]
async fn tokens_are_asked_for_as_the_filter_and_its_routes_say() {
    use jwt::jwt_requirement::RequiresType as Type;
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let provider = issuer.provider();
    let needed = || requires(Type::ProviderName("me".into()));
    let optional = requires(Type::RequiresAny(jwt::JwtRequirementOrList {
        requirements: vec![needed(), requires(Type::AllowMissing(Default::default()))],
    }));
    let config = jwt::JwtAuthentication {
        providers: HashMap::from([("me".to_owned(), provider)]),
        rules: vec![of_all(needed())],
        requirement_map: HashMap::from([("optional".to_owned(), optional)]),
        ..jwt::JwtAuthentication::default()
    };
    let serving = start().await;
    serving.plane.put([serving.listener(|message| {
        message.filter_chains = vec![chain(vec![filter("tokens", &config)], Some("served"))];
    })]);
    let own = |specifier: jwt::per_route_config::RequirementSpecifier| {
        let config = jwt::PerRouteConfig {
            requirement_specifier: Some(specifier),
        };
        HashMap::from([("tokens".to_owned(), packed(&config))])
    };
    serving
        .plane
        .put([served(&["/free", "/optional", "/wrong", "/"], |message| {
            use jwt::per_route_config::RequirementSpecifier as Specifier;
            let routes = &mut message.virtual_hosts[0].routes;
            let named = |name: &str| own(Specifier::RequirementName(name.into()));
            routes[0].typed_per_filter_config = own(Specifier::Disabled(true));
            routes[1].typed_per_filter_config = named("optional");
            routes[2].typed_per_filter_config = named("nothing");
        })]);
    serving.until("/free", Some(200)).await;
    let (good, bad) = (issuer.bearer(), stranger.bearer());
    for (path, token, expected) in [
        ("/", "", 401),
        ("/", &*good, 200),
        ("/", &*bad, 401),
        ("/optional", "", 200),
        ("/optional", &*good, 200),
        ("/optional", &*bad, 401),
        ("/free", &*bad, 200),
        // What its requirement is nobody knows.
        ("/wrong", &*good, 403),
    ] {
        let found = serving.get(path, token).await;
        assert_eq!(found, Some(expected), "{path} {token}");
    }
}

/// Whoever has a token whose claim `group` is a list with `admin`.
#[allow(deprecated, reason = "control planes still write Envoy's older fields")]
fn admins(filter: &str) -> rbac_filter::Rbac {
    use matcher::metadata_matcher::{PathSegment, path_segment::Segment};
    use matcher::value_matcher::MatchPattern as Pattern;
    let value = |pattern| matcher::ValueMatcher {
        match_pattern: Some(pattern),
    };
    let admin = value(Pattern::StringMatch(matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::Exact("admin".into())),
        ignore_case: false,
    }));
    let path = ["payload", "group"].map(|key| PathSegment {
        segment: Some(Segment::Key(key.into())),
    });
    let metadata = matcher::MetadataMatcher {
        filter: filter.into(),
        path: path.into(),
        value: Some(value(Pattern::ListMatch(Box::new(matcher::ListMatcher {
            match_pattern: Some(matcher::list_matcher::MatchPattern::OneOf(Box::new(admin))),
        })))),
        invert: false,
    };
    let policy = rbac::Policy {
        permissions: vec![rbac::Permission {
            rule: Some(rbac::permission::Rule::Any(true)),
        }],
        principals: vec![rbac::Principal {
            identifier: Some(rbac::principal::Identifier::Metadata(metadata)),
        }],
        ..rbac::Policy::default()
    };
    rbac_filter::Rbac {
        rules: Some(rbac::Rbac {
            policies: HashMap::from([("admins".to_owned(), policy)]),
            ..rbac::Rbac::default()
        }),
        ..rbac_filter::Rbac::default()
    }
}

/// What the filter of tokens leaves in the metadata of a request is what policies behind it ask for; those
/// before it, and those that ask for another filter's, find nothing.
#[tokio::test]
async fn policies_ask_for_the_metadata_of_tokens() {
    use jwt::jwt_requirement::RequiresType as Type;
    let issuer = Issuer::new();
    let provider = jwt::JwtProvider {
        payload_in_metadata: "payload".into(),
        ..issuer.provider()
    };
    let optional = requires(Type::RequiresAny(jwt::JwtRequirementOrList {
        requirements: vec![
            requires(Type::ProviderName("me".into())),
            requires(Type::AllowMissing(Default::default())),
        ],
    }));
    let tokens = jwt::JwtAuthentication {
        providers: HashMap::from([("me".to_owned(), provider)]),
        rules: vec![of_all(optional)],
        ..jwt::JwtAuthentication::default()
    };
    let serving = start().await;
    let put = |filters: Vec<hcm::HttpFilter>| {
        serving.plane.put([serving.listener(|message| {
            message.filter_chains = vec![chain(filters, Some("served"))];
        })]);
    };
    let policies = || admins("envoy.filters.http.jwt_authn");
    put(vec![filter("tokens", &tokens), filter("rbac", &policies())]);
    serving.plane.put([served(&["/"], |_| {})]);
    serving.until("/", Some(403)).await;
    let admin = issuer.bearer_of(r#","group":["user","admin"]"#);
    for (token, expected) in [
        (&*admin, 200),
        ("", 403),
        (&issuer.bearer(), 403),
        (&issuer.bearer_of(r#","group":["user"]"#), 403),
        (&issuer.bearer_of(r#","group":"admin""#), 403),
        (&issuer.bearer_of(r#","other":["admin"]"#), 403),
        (&Issuer::new().bearer_of(r#","group":["admin"]"#), 401),
    ] {
        assert_eq!(serving.get("/", token).await, Some(expected), "{token}");
    }
    for filters in [
        vec![filter("rbac", &policies()), filter("tokens", &tokens)],
        vec![
            filter("tokens", &tokens),
            filter("rbac", &admins("envoy.filters.http.ext_authz")),
        ],
        vec![filter("rbac", &policies())],
    ] {
        // In force once more before each, so that what comes next is seen.
        put(vec![filter("tokens", &tokens), filter("rbac", &policies())]);
        serving.until_with("/", &admin, Some(200)).await;
        put(filters);
        serving.until_with("/", &admin, Some(403)).await;
    }
}

/// A bucket of so many tokens that gets none while a test runs.
fn limit(name: &str, tokens: u32) -> local_rate::LocalRateLimit {
    let all = core::RuntimeFractionalPercent {
        default_value: Some(kinds::FractionalPercent {
            numerator: 100,
            denominator: 0,
        }),
        runtime_key: String::new(),
    };
    local_rate::LocalRateLimit {
        stat_prefix: name.into(),
        token_bucket: Some(kinds::TokenBucket {
            max_tokens: tokens,
            tokens_per_fill: Some(UInt32Value { value: 1 }),
            fill_interval: Some(Duration {
                seconds: 86_400,
                nanos: 0,
            }),
        }),
        filter_enabled: Some(all.clone()),
        filter_enforced: Some(all),
        ..local_rate::LocalRateLimit::default()
    }
}

#[tokio::test]
async fn requests_above_a_limit_are_429_and_an_edit_of_something_else_fills_no_bucket() {
    let serving = start().await;
    let listener = |prefixes: Option<&str>| {
        serving.listener(|message| {
            message.filter_chains = vec![chain(vec![filter("limit", &limit("all", 3))], prefixes)];
        })
    };
    serving.plane.put([listener(Some("served"))]);
    let routes = |paths: &[&str]| {
        served(paths, |message| {
            let own = packed(&limit("own", 2));
            message.virtual_hosts[0].routes[0].typed_per_filter_config =
                HashMap::from([("limit".to_owned(), own)]);
        })
    };
    serving.plane.put([routes(&["/own", "/ok"])]);
    // Of a path that no route takes no token is taken.
    serving.until("/other", Some(503)).await;
    let statuses = async |path: &str, count: usize| {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(serving.get(path, "").await.unwrap());
        }
        all
    };
    assert_eq!(statuses("/ok", 5).await, [200, 200, 200, 429, 429]);
    assert_eq!(statuses("/own", 4).await, [200, 200, 429, 429]);
    assert_eq!(serving.mesh.stats().inbound.limited, 4);
    // Another route: the buckets are those from before.
    serving.plane.put([routes(&["/own", "/ok", "/other"])]);
    serving.until("/other", Some(429)).await;
    assert_eq!(statuses("/own", 1).await, [429]);
}
