//! Tokens and limits that a control plane asks for at a server's port.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3 as jwt;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3 as local_rate;
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
        let payload = r#"{"iss":"https://me","sub":"alice","exp":4102444800}"#;
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","kid":"one"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature = self.0.sign(signed.as_bytes()).unwrap();
        let signature = URL_SAFE_NO_PAD.encode(signature);
        format!("authorization: Bearer {signed}.{signature}\r\n")
    }
}

fn requires(kind: jwt::jwt_requirement::RequiresType) -> jwt::JwtRequirement {
    jwt::JwtRequirement {
        requires_type: Some(kind),
    }
}

#[tokio::test]
async fn tokens_are_asked_for_as_the_filter_and_its_routes_say() {
    use jwt::jwt_requirement::RequiresType as Type;
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let keys = core::data_source::Specifier::InlineString(issuer.set());
    let provider = jwt::JwtProvider {
        issuer: "https://me".into(),
        forward: true,
        jwks_source_specifier: Some(jwt::jwt_provider::JwksSourceSpecifier::LocalJwks(
            core::DataSource {
                specifier: Some(keys),
                ..core::DataSource::default()
            },
        )),
        ..jwt::JwtProvider::default()
    };
    let needed = || requires(Type::ProviderName("me".into()));
    let optional = requires(Type::RequiresAny(jwt::JwtRequirementOrList {
        requirements: vec![needed(), requires(Type::AllowMissing(Default::default()))],
    }));
    let everything = route::RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".into())),
        ..route::RouteMatch::default()
    };
    let config = jwt::JwtAuthentication {
        providers: HashMap::from([("me".to_owned(), provider)]),
        rules: vec![jwt::RequirementRule {
            r#match: Some(everything),
            requirement_type: Some(jwt::requirement_rule::RequirementType::Requires(needed())),
        }],
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
