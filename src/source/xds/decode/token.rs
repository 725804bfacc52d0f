//! Tokens: the filter `jwt_authn`.
//!
//! The door knows two questions about tokens: whose are believed, and whether a request needs one. A
//! requirement that is more than these (all of several, or a token that may be wrong) is refused, and
//! so are rules that choose a requirement by conditions: a route chooses one by its name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::header::AUTHORIZATION;

use super::place::{Place, Quoted};
use super::{Scope, value};
use crate::model::token::{Keys, Location, TokenRule};
use crate::source::xds::filters::{Demand, Jwt};
use crate::source::xds::proto::{core, jwt as wire, route};

/// The query parameter that is looked at where no place is given.
const PARAMETER: &str = "access_token";
/// Envoy's default, which is what the door takes.
const SKEW: u32 = 60;

type Providers = BTreeMap<String, TokenRule>;

pub(super) fn filter(
    scope: Scope<'_>,
    place: &Place<'_>,
    message: &wire::JwtAuthentication,
) -> Option<Jwt> {
    if !cfg!(feature = "jwt") {
        return place.fault("asks for tokens, which needs the feature \"jwt\" of this library");
    }
    let mut fine = Some(());
    if message.filter_state_rules.is_some() {
        fine = place
            .field("filter_state_rules")
            .fault("is not supported; requirement_map and routes are");
    }
    let list = place.field("providers");
    let ordered: BTreeMap<&String, &wire::JwtProvider> = message.providers.iter().collect();
    let mut providers = Providers::new();
    for (name, provider) in ordered {
        match self::provider(scope, &list.key(name), name, provider) {
            Some(rule) => drop(providers.insert(name.clone(), rule)),
            None => fine = None,
        }
    }
    fine?;
    let list = place.field("requirement_map");
    let ordered: BTreeMap<&String, &wire::JwtRequirement> =
        message.requirement_map.iter().collect();
    let mut named = BTreeMap::new();
    for (name, requirement) in ordered {
        match demand(&list.key(name), requirement, &providers) {
            Some(demand) => drop(named.insert(name.as_str().into(), demand)),
            None => fine = None,
        }
    }
    let whole = rules(&place.field("rules"), &message.rules, &providers, &named);
    fine?;
    Some(Jwt {
        whole: whole?,
        named,
    })
}

/// The first rule that takes a request counts, and only one that takes all of them is known here.
fn rules(
    list: &Place<'_>,
    rules: &[wire::RequirementRule],
    providers: &Providers,
    named: &BTreeMap<Box<str>, Demand>,
) -> Option<Demand> {
    use wire::requirement_rule::RequirementType as Type;
    let Some(first) = rules.first() else {
        return Some(Demand::default());
    };
    let place = list.index(0);
    let matched = place.field("match");
    let message = matched.required(first.r#match.as_ref())?;
    if !takes_all(message) {
        return matched.fault(
            "has conditions, which are not supported here; prefix \"/\" alone is, and \
             requirement_map with typed_per_filter_config",
        );
    }
    match &first.requirement_type {
        None => Some(Demand::default()),
        Some(Type::Requires(requirement)) => {
            demand(&place.field("requires"), requirement, providers)
        }
        Some(Type::RequirementName(name)) => match named.get(&**name) {
            Some(demand) => Some(demand.clone()),
            None => place.field("requirement_name").fault(format_args!(
                "{} is not in the requirement_map",
                Quoted(name)
            )),
        },
    }
}

fn takes_all(message: &route::RouteMatch) -> bool {
    let everything = route::RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".to_owned())),
        ..route::RouteMatch::default()
    };
    *message == everything
}

fn demand(
    place: &Place<'_>,
    message: &wire::JwtRequirement,
    providers: &Providers,
) -> Option<Demand> {
    let mut demand = Demand {
        rules: Vec::new(),
        required: true,
    };
    add(place, message, providers, &mut demand)?;
    Some(demand)
}

fn add(
    place: &Place<'_>,
    message: &wire::JwtRequirement,
    providers: &Providers,
    demand: &mut Demand,
) -> Option<()> {
    use wire::jwt_requirement::RequiresType as Type;
    let provider = |place: &Place<'_>, name: &String| match providers.get(name) {
        Some(rule) => Some(rule.clone()),
        None => place.fault(format_args!("{} is none of the providers", Quoted(name))),
    };
    match &message.requires_type {
        // Envoy: nothing is required.
        None => demand.required = false,
        Some(Type::ProviderName(name)) => {
            let rule = provider(&place.field("provider_name"), name)?;
            demand.rules.push(rule);
        }
        Some(Type::ProviderAndAudiences(both)) => {
            let place = place.field("provider_and_audiences");
            let rule = provider(&place.field("provider_name"), &both.provider_name)?;
            let audiences = both.audiences.iter();
            demand.rules.push(TokenRule {
                audiences: audiences.map(|one| one.as_str().into()).collect(),
                ..rule
            });
        }
        Some(Type::AllowMissing(_)) => demand.required = false,
        Some(Type::RequiresAny(any)) => {
            let place = place.field("requires_any");
            let list = place.field("requirements");
            for (index, one) in any.requirements.iter().enumerate() {
                let place = list.index(index);
                if matches!(one.requires_type, Some(Type::RequiresAny(_))) {
                    return place
                        .field("requires_any")
                        .fault("stands in another, which is not supported; write one list");
                }
                add(&place, one, providers, demand)?;
            }
        }
        Some(Type::RequiresAll(_)) => {
            return place
                .field("requires_all")
                .fault("is not supported; requires_any is");
        }
        Some(Type::AllowMissingOrFailed(_)) => {
            return place.field("allow_missing_or_failed").fault(
                "lets tokens pass that are wrong, which is not supported; allow_missing is",
            );
        }
        Some(Type::ExtractOnlyWithoutValidation(_)) => {
            return place
                .field("extract_only_without_validation")
                .fault("believes tokens that nobody verified, which is not supported");
        }
    }
    Some(())
}

fn provider(
    scope: Scope<'_>,
    place: &Place<'_>,
    name: &str,
    message: &wire::JwtProvider,
) -> Option<TokenRule> {
    let refused = [
        ("subjects", message.subjects.is_some()),
        ("require_expiration", message.require_expiration),
        ("max_lifetime", message.max_lifetime.is_some()),
        (
            "clock_skew_seconds",
            !matches!(message.clock_skew_seconds, 0 | SKEW),
        ),
        ("clear_route_cache", message.clear_route_cache),
        // Policies could ask for what they leave behind; see the filter RBAC.
        ("header_in_metadata", !message.header_in_metadata.is_empty()),
        (
            "failed_status_in_metadata",
            !message.failed_status_in_metadata.is_empty(),
        ),
        (
            "pad_forward_payload_header",
            message.pad_forward_payload_header,
        ),
    ];
    let mut fine = Some(());
    for (field, set) in refused {
        if set {
            fine = place.field(field).fault("is not supported; leave it out");
        }
    }
    let keys = keys(place, message.jwks_source_specifier.as_ref());
    let locations = locations(place, message);
    let payload_header = match message.forward_payload_header.as_str() {
        "" => Some(None),
        text => value::header_name(&place.field("forward_payload_header"), text).map(Some),
    };
    let list = place.field("claim_to_headers");
    let mut claim_headers = Vec::new();
    for (index, claim) in message.claim_to_headers.iter().enumerate() {
        let place = list.index(index);
        match value::header_name(&place.field("header_name"), &claim.header_name) {
            Some(name) => claim_headers.push((name, path(claim))),
            None => fine = None,
        }
    }
    fine?;
    let normalized = message.normalize_payload_in_metadata.as_ref();
    Some(TokenRule {
        issuer: (!message.issuer.is_empty()).then(|| message.issuer.as_str().into()),
        audiences: message
            .audiences
            .iter()
            .map(|one| one.as_str().into())
            .collect(),
        keys: keys?,
        locations: locations?,
        forward: message.forward,
        payload_header: payload_header?,
        claim_headers,
        spaced: normalized
            .iter()
            .flat_map(|payload| &payload.space_delimited_claims)
            .map(|one| one.as_str().into())
            .collect(),
        metadata: (!message.payload_in_metadata.is_empty())
            .then(|| message.payload_in_metadata.as_str().into()),
        origin: scope.origin(name),
    })
}

fn path(claim: &wire::JwtClaimToHeader) -> Vec<Box<str>> {
    match claim.claim_path.is_empty() {
        true => claim.claim_name.split('.').map(Into::into).collect(),
        false => claim
            .claim_path
            .iter()
            .map(|one| one.key.as_str().into())
            .collect(),
    }
}

fn keys(
    place: &Place<'_>,
    message: Option<&wire::jwt_provider::JwksSourceSpecifier>,
) -> Option<Keys> {
    use wire::jwt_provider::JwksSourceSpecifier as Source;
    match message {
        None => place.fault("has no keys; remote_jwks and local_jwks are allowed"),
        Some(Source::LocalJwks(source)) => {
            use core::data_source::Specifier;
            let place = place.field("local_jwks");
            let text = match &source.specifier {
                Some(Specifier::InlineString(text)) => text.as_str(),
                Some(Specifier::InlineBytes(bytes)) => {
                    std::str::from_utf8(bytes).unwrap_or_default()
                }
                _ => {
                    return place
                        .fault("is not inline; inline_string and inline_bytes are allowed");
                }
            };
            let set: Option<serde_json::Value> = serde_json::from_str(text).ok();
            match set.and_then(|set| set.get("keys").map(serde_json::Value::is_array)) {
                Some(true) => Some(Keys::Inline(text.into())),
                _ => place.fault("is no JSON Web Key Set, an object with a list \"keys\""),
            }
        }
        Some(Source::RemoteJwks(remote)) => remote_keys(&place.field("remote_jwks"), remote),
    }
}

fn remote_keys(place: &Place<'_>, message: &wire::RemoteJwks) -> Option<Keys> {
    let place = place.field("http_uri");
    let http = place.required(message.http_uri.as_ref())?;
    let timeout = value::positive_or(
        &place.field("timeout"),
        http.timeout,
        Duration::from_secs(5),
    );
    let uri = http.uri.parse::<Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()
    });
    let Some(uri) = uri else {
        return place.field("uri").fault(format_args!(
            "{} is no address of http or https",
            Quoted(&http.uri)
        ));
    };
    Some(Keys::Remote {
        uri,
        timeout: timeout?,
    })
}

fn locations(place: &Place<'_>, message: &wire::JwtProvider) -> Option<Vec<Location>> {
    let list = place.field("from_headers");
    let mut all = Vec::new();
    let mut fine = Some(());
    for (index, header) in message.from_headers.iter().enumerate() {
        let place = list.index(index);
        match value::header_name(&place.field("name"), &header.name) {
            Some(name) => all.push(Location::Header {
                name,
                prefix: header.value_prefix.as_str().into(),
            }),
            None => fine = None,
        }
    }
    fine?;
    let parameters = message.from_params.iter();
    all.extend(parameters.map(|name| Location::Parameter(name.as_str().into())));
    let cookies = message.from_cookies.iter();
    all.extend(cookies.map(|name| Location::Cookie(name.as_str().into())));
    if all.is_empty() {
        all.push(Location::Header {
            name: AUTHORIZATION,
            prefix: "Bearer ".into(),
        });
        all.push(Location::Parameter(PARAMETER.into()));
    }
    Some(all)
}

/// Which requirement of the filter a route has: `None` if it has none.
pub(super) fn per_route(
    place: &Place<'_>,
    message: &wire::PerRouteConfig,
) -> Option<Option<Arc<str>>> {
    use wire::per_route_config::RequirementSpecifier as Specifier;
    match &message.requirement_specifier {
        Some(Specifier::Disabled(true)) => Some(None),
        Some(Specifier::Disabled(false)) => place
            .field("disabled")
            .fault("is false; only true is allowed"),
        Some(Specifier::RequirementName(name)) => {
            let name = value::filled(&place.field("requirement_name"), name)?;
            Some(Some(name.into()))
        }
        None => place.fault("has neither disabled nor requirement_name"),
    }
}
