//! From `RequestAuthentication` to whose tokens are believed.

use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderName, Uri};

use super::Scope;
use crate::model::token::{Keys, Location, TokenRule};
use crate::source::istio::kinds::{JwtRule, Kind, Object};
use crate::source::istio::yaml::Located;

/// How long fetching keys may take where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Claims that are lists with spaces between, whatever the rule says.
const SPACED: &[&str] = &["scope", "permission"];
/// The query parameter that is looked at where no location is given.
const PARAMETER: &str = "access_token";

/// All rules that concern the workload, by issuer.
pub(super) fn rules(objects: &[&Object], scope: &Scope<'_>) -> Vec<TokenRule> {
    let mut rules: Vec<TokenRule> = Vec::new();
    for object in objects {
        let Kind::RequestAuthentication(policy) = &object.kind else {
            continue;
        };
        let attached = (policy.target_ref.as_ref(), &policy.target_refs[..]);
        if scope.concerns(object, policy.selector.as_ref(), attached) {
            rules.extend(
                policy
                    .jwt_rules
                    .iter()
                    .filter_map(|rule| token_rule(object, rule)),
            );
        }
    }
    // Istio sorts so, and equal sets of objects give equal rules.
    rules.sort_by(|one, other| one.issuer.cmp(&other.issuer));
    rules
}

fn token_rule(object: &Object, rule: &Located<JwtRule>) -> Option<TokenRule> {
    let issuer = rule.issuer.as_ref().filter(|issuer| !issuer.is_empty());
    let spaced = rule.space_delimited_claims.iter().map(|name| name.as_str());
    let claims = rule.output_claim_to_headers.iter();
    Some(TokenRule {
        issuer: issuer.map(|issuer| issuer.as_str().into()),
        audiences: rule
            .audiences
            .iter()
            .map(|one| one.as_str().into())
            .collect(),
        keys: keys(rule, issuer.map(|issuer| issuer.as_str()))?,
        locations: locations(rule),
        forward: rule.forward_original_token,
        payload_header: rule
            .output_payload_to_header
            .as_ref()
            .and_then(|name| named(name)),
        claim_headers: claims
            .filter_map(|one| {
                let path = one.claim.split('.').map(Into::into).collect();
                Some((named(&one.header)?, path))
            })
            .collect(),
        // Policies of these kinds ask for claims by their own words.
        metadata: None,
        spaced: spaced
            .chain(SPACED.iter().copied())
            .map(Into::into)
            .collect(),
        origin: super::at(object, rule.line),
    })
}

fn named(name: &str) -> Option<HeaderName> {
    HeaderName::from_bytes(name.as_bytes()).ok()
}

/// Inline, at an address, or where the issuer says; a set that reading has passed has one of them.
fn keys(rule: &JwtRule, issuer: Option<&str>) -> Option<Keys> {
    let timeout = rule.timeout.map(Duration::from).unwrap_or(TIMEOUT);
    if let Some(text) = &rule.jwks {
        return Some(Keys::Inline(Arc::from(text.as_str())));
    }
    if let Some(uri) = &rule.jwks_uri {
        let uri = uri.parse::<Uri>().ok()?;
        return Some(Keys::Remote { uri, timeout });
    }
    let issuer = issuer?.trim_end_matches('/');
    let uri = format!("{issuer}/.well-known/openid-configuration");
    Some(Keys::Discovered {
        uri: uri.parse().ok()?,
        timeout,
    })
}

fn locations(rule: &JwtRule) -> Vec<Location> {
    let headers = rule.from_headers.iter().filter_map(|header| {
        Some(Location::Header {
            name: named(&header.name)?,
            prefix: header.prefix.as_deref().unwrap_or_default().into(),
        })
    });
    let parameters = rule.from_params.iter();
    let cookies = rule.from_cookies.iter();
    let given: Vec<Location> = headers
        .chain(parameters.map(|name| Location::Parameter(name.as_str().into())))
        .chain(cookies.map(|name| Location::Cookie(name.as_str().into())))
        .collect();
    if !given.is_empty() {
        return given;
    }
    let bearer = Location::Header {
        name: AUTHORIZATION,
        prefix: "Bearer ".into(),
    };
    vec![bearer, Location::Parameter(PARAMETER.into())]
}
