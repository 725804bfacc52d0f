//! Who asks for a certificate.

use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use thiserror::Error;
use zeroize::Zeroizing;

use super::join::{JoinTokens, NotFound};
use super::kubernetes::{Kubernetes, Unbelieved};
use crate::model::identity::{InvalidSpiffeId, SpiffeId, TrustDomain};

/// What counts as a proof.
#[derive(Debug)]
pub(super) struct Proofs {
    pub(super) tokens: Option<JoinTokens>,
    pub(super) kubernetes: Option<Kubernetes>,
}

/// By what somebody has proven who it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::control) enum By {
    Identity,
    JoinToken,
    ServiceAccount,
}

impl By {
    pub(in crate::control) const ALL: [Self; 3] =
        [Self::Identity, Self::JoinToken, Self::ServiceAccount];

    pub(in crate::control) fn word(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::JoinToken => "join_token",
            Self::ServiceAccount => "service_account",
        }
    }
}

/// Why nobody is known. For the log: the caller learns none of it.
#[derive(Debug, Error)]
pub(super) enum Unproven {
    #[error("neither a token nor a certificate was shown")]
    Nothing,
    #[error("the authorization header is no single `Bearer` token")]
    Header,
    #[error("the join token is not believed: {0}")]
    Join(#[from] NotFound),
    #[error("the service-account token is not believed: {0}")]
    ServiceAccount(#[from] Unbelieved),
    #[error("tokens are not believed here")]
    NoTokens,
    #[error("the token is for something that is no identity: {0}")]
    Identity(#[from] InvalidSpiffeId),
    #[error("it could not be looked at: {0}")]
    Broken(tokio::task::JoinError),
}

impl Proofs {
    /// Who asks. A token counts alone: a wrong one is not made good by a certificate.
    pub(super) async fn examine(
        self: &Arc<Self>,
        headers: &HeaderMap,
        certificate: Option<&SpiffeId>,
        domain: &TrustDomain,
        now: Duration,
    ) -> Result<(SpiffeId, By), Unproven> {
        let Some(token) = bearer(headers)? else {
            let id = certificate.ok_or(Unproven::Nothing)?;
            return Ok((id.clone(), By::Identity));
        };
        let proofs = self.clone();
        let looking = tokio::task::spawn_blocking(move || proofs.redeem(&token, now));
        let ((namespace, account), by) = looking.await.map_err(Unproven::Broken)??;
        let id = SpiffeId::of_service_account(domain, &namespace, &account)?;
        Ok((id, by))
    }

    fn redeem(&self, token: &str, now: Duration) -> Result<((String, String), By), Unproven> {
        // A JSON web token has three parts, a join token has none: neither is tried as the other.
        let is_jwt = token.split('.').count() == 3;
        match (&self.kubernetes, &self.tokens) {
            (Some(cluster), _) if is_jwt => Ok((cluster.verify(token, now)?, By::ServiceAccount)),
            (_, Some(tokens)) if !is_jwt => Ok((tokens.redeem(token)?, By::JoinToken)),
            _ => Err(Unproven::NoTokens),
        }
    }
}

/// The token of the request, if it has one.
fn bearer(headers: &HeaderMap) -> Result<Option<Zeroizing<String>>, Unproven> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let token = |value: &HeaderValue| {
        let text = value.to_str().ok()?;
        let (scheme, token) = text.split_once(' ')?;
        let good = scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty();
        good.then(|| Zeroizing::new(token.trim().to_owned()))
    };
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => token(value).map(Some).ok_or(Unproven::Header),
        (Some(_), Some(_)) => Err(Unproven::Header),
    }
}
