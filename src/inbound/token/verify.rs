//! Whether one token is good for one rule.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use thiserror::Error;

use super::claims::Json;
use super::keys::KeySource;
use super::split_spaced;
use crate::layer::authz::{Claim, Token};
use crate::model::token::TokenRule;

/// The longest token that is looked at, in bytes. Servers bound their headers at about this size.
const LONGEST: usize = 16 * 1_024;

/// How far the clock of an issuer may be ahead for `nbf` (Envoy's default clock skew). `exp` has no such
/// margin: who issues a token for an hour can issue it for an hour and a minute.
const AHEAD: f64 = 60.0;

/// Why a token is refused, from the least to the most telling.
#[derive(Clone, Copy, Debug, Eq, Error, Ord, PartialEq, PartialOrd)]
pub(in crate::inbound) enum Invalid {
    #[error("there is none")]
    Missing,
    #[error("no rule is for its issuer")]
    Issuer,
    #[error("it is not three parts of base64url")]
    Form,
    #[error("it is longer than {LONGEST} bytes")]
    TooLong,
    #[error("there are more tokens than anybody has")]
    TooMany,
    #[error("its header is no JSON object with names that stand once")]
    Header,
    #[error("it has extensions that must be understood (crit)")]
    Critical,
    #[error("its algorithm is none that is verified with a public key")]
    Algorithm,
    #[error("its payload is no JSON object with names that stand once")]
    Payload,
    #[error("it is for another audience")]
    Audience,
    #[error("it is not valid yet (nbf)")]
    Early,
    #[error("it is not valid any more (exp)")]
    Expired,
    #[error("the keys of its issuer are not at hand")]
    NoKeys,
    #[error("no key of its issuer fits its kid and algorithm")]
    NoKey,
    #[error("its signature is wrong")]
    Signature,
}

impl Invalid {
    /// The more telling of two.
    pub(super) fn over(self, other: Option<Self>) -> Self {
        other.map_or(self, |other| other.max(self))
    }

    /// What the caller is told, in Envoy's words.
    pub(in crate::inbound) fn words(self) -> &'static str {
        match self {
            Self::Missing => "Jwt is missing",
            Self::Issuer => "Jwt issuer is not configured",
            Self::Form | Self::TooLong | Self::TooMany => {
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
            }
            Self::Header | Self::Critical => "Jwt header is an invalid JSON",
            Self::Algorithm => "Jwt header [alg] field value is invalid",
            Self::Payload => "Jwt payload is an invalid JSON",
            Self::Audience => "Audiences in Jwt are not allowed",
            Self::Early => "Jwt not yet valid",
            Self::Expired => "Jwt is expired",
            Self::NoKeys => "Jwks remote fetch is failed",
            Self::NoKey => "Jwks doesn't have key to match kid or alg from Jwt",
            Self::Signature => "Jwt verification fails",
        }
    }
}

/// A good token.
pub(super) struct Verified {
    pub(super) token: Token,
    /// Its JSON, byte by byte.
    pub(super) payload: Vec<u8>,
    claims: Json,
}

impl Verified {
    /// A claim that is a text, a number or a boolean.
    pub(super) fn scalar(&self, path: &[Box<str>]) -> Option<String> {
        let mut claim = &self.claims;
        for name in path {
            claim = claim.get(name)?;
        }
        match claim {
            Json::Bool(value) => Some(value.to_string()),
            Json::Number(_, text) | Json::Text(text) => Some(text.to_string()),
            Json::List(_) | Json::Null | Json::Object(_) => None,
        }
    }
}

/// Verifies a token: what it says first, since that needs no key, and its signature last. Nothing of it is believed
/// before.
pub(super) async fn verify(
    token: &str,
    rule: &TokenRule,
    keys: &KeySource,
    now: Duration,
) -> Result<Verified, Invalid> {
    if token.len() > LONGEST {
        return Err(Invalid::TooLong);
    }
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Invalid::Form);
    };
    let signed = &token[..header.len() + 1 + payload.len()];
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Invalid::Form);
    let (algorithm, kid) = read_header(&decode(header)?)?;
    let payload = decode(payload)?;
    let claims = object(&payload).ok_or(Invalid::Payload)?;
    let token = read_claims(&claims, rule, now.as_secs_f64())?;
    keys.verify(signed, signature, algorithm, kid.as_deref())
        .await?;
    Ok(Verified {
        token,
        payload,
        claims,
    })
}

fn object(bytes: &[u8]) -> Option<Json> {
    let json: Json = serde_json::from_slice(bytes).ok()?;
    matches!(json, Json::Object(_)).then_some(json)
}

/// Its algorithm and the name of its key. Keys that a token brings along (`jwk`, `jku`, `x5u`) are not looked
/// at.
fn read_header(bytes: &[u8]) -> Result<(Algorithm, Option<Box<str>>), Invalid> {
    let header = object(bytes).ok_or(Invalid::Header)?;
    if header.get("crit").is_some() {
        return Err(Invalid::Critical);
    }
    let algorithm = match header.get("alg").and_then(Json::text) {
        Some("RS256") => Algorithm::RS256,
        Some("RS384") => Algorithm::RS384,
        Some("RS512") => Algorithm::RS512,
        Some("PS256") => Algorithm::PS256,
        Some("PS384") => Algorithm::PS384,
        Some("PS512") => Algorithm::PS512,
        Some("ES256") => Algorithm::ES256,
        Some("ES384") => Algorithm::ES384,
        Some("EdDSA") => Algorithm::EdDSA,
        // `none`, and secrets that are shared: with HS256 a public key would be the secret.
        Some(_) | None => return Err(Invalid::Algorithm),
    };
    let kid = match header.get("kid") {
        None => None,
        Some(Json::Text(kid)) => Some(kid.clone()),
        Some(_) => return Err(Invalid::Header),
    };
    Ok((algorithm, kid))
}

fn read_claims(claims: &Json, rule: &TokenRule, now: f64) -> Result<Token, Invalid> {
    let text = |name: &str| claims.get(name).and_then(Json::text);
    let issuer = text("iss");
    if rule.issuer.is_some() && issuer != rule.issuer.as_deref() {
        return Err(Invalid::Issuer);
    }
    let audiences: Vec<Box<str>> = match claims.get("aud") {
        None => Vec::new(),
        Some(Json::Text(one)) => vec![one.clone()],
        Some(Json::List(many)) => {
            let texts = many.iter().map(|one| one.text().map(Into::into));
            texts.collect::<Option<_>>().ok_or(Invalid::Payload)?
        }
        Some(_) => return Err(Invalid::Payload),
    };
    let wanted = &rule.audiences;
    if !wanted.is_empty() && !wanted.iter().any(|one| audiences.contains(one)) {
        return Err(Invalid::Audience);
    }
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(Json::Number(seconds, _)) if seconds.is_finite() => Ok(Some(*seconds)),
        Some(_) => Err(Invalid::Payload),
    };
    if time("nbf")?.is_some_and(|from| now + AHEAD < from) {
        return Err(Invalid::Early);
    }
    if time("exp")?.is_some_and(|until| until <= now) {
        return Err(Invalid::Expired);
    }
    let principal = match (issuer, text("sub")) {
        (Some(issuer), Some(subject)) => Some(format!("{issuer}/{subject}").into()),
        _unnamed => None,
    };
    let mut kept = fields(claims);
    split_spaced(&mut kept, &rule.spaced);
    Ok(Token {
        principal,
        audiences,
        presenter: text("azp").map(Into::into),
        metadata: rule.metadata.clone(),
        claims: kept,
    })
}

fn fields(json: &Json) -> Vec<(Box<str>, Claim)> {
    let Json::Object(fields) = json else {
        return Vec::new();
    };
    let claims = fields
        .iter()
        .map(|(name, value)| (name.clone(), claim(value)));
    claims.collect()
}

fn claim(json: &Json) -> Claim {
    match json {
        Json::Bool(value) => Claim::Bool(*value),
        Json::Null | Json::Number(..) => Claim::Other,
        Json::List(items) => {
            let texts = items.iter().filter_map(|item| item.text().map(Into::into));
            Claim::List(texts.collect())
        }
        Json::Object(_) => Claim::Object(fields(json)),
        Json::Text(text) => Claim::Text(text.clone()),
    }
}
