//! Tokens that requests bear (Istio's `RequestAuthentication`, Envoy's `jwt_authn`).
//!
//! A request without a token passes, unless one is required (`jwt_authn`): in Istio that is for the policies to say. A request
//! with a token that is good for none of the rules is answered with 401. What a token says is
//! believed only after its signature was verified with a key of the rule that found it, and its issuer, audience and times
//! are right.
//!
//! Where several tokens stand in the places of one rule, all of them must be good: which of them a
//! handler will read is not known here. Headers that a rule writes for the handler (claims, payload)
//! are removed from every request first, with or without a token, so that nobody can write them himself.

mod claims;
mod fetch;
mod keys;
mod locate;
mod remote;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderValue, Method, Request};

use super::prepared::{Entry, Kept};
use crate::layer::authz::{Claim, Token};
use crate::model::Inbound;
use crate::model::token::{Keys, TokenRule};
use crate::outbound::Core;
use keys::KeySource;
use verify::Verified;

pub(super) use verify::Invalid;

/// Who examines tokens, with the keys at hand.
pub(super) struct Witness {
    core: Arc<Core>,
    kept: Kept<Vec<KeySource>>,
}

impl Witness {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            kept: Kept::new(),
        }
    }

    /// Verifies the token of a request, removes it if the handler should not see it, and writes the
    /// headers that are made of it.
    ///
    /// # Errors
    /// If there are tokens and no rule for which they are all good, or none where one is required.
    pub(super) async fn examine(
        &self,
        policies: &Arc<Inbound>,
        head: &mut Request<()>,
    ) -> Result<Option<Arc<Token>>, Invalid> {
        for rule in &policies.tokens {
            let written = rule.claim_headers.iter().map(|(name, _)| name);
            for name in written.chain(&rule.payload_header) {
                head.headers_mut().remove(name);
            }
        }
        if is_preflight(head) && !policies.token_required {
            return Ok(None);
        }
        let prepared = self.prepare(policies);
        let now = self.core.clock.now();
        let mut worst = None;
        for (rule, keys) in policies.tokens.iter().zip(&prepared.made) {
            let tokens = locate::find(rule, head)?;
            let mut good: Option<Verified> = None;
            for token in &tokens {
                match verify::verify(token, rule, keys, now).await {
                    Ok(verified) => good = good.or(Some(verified)),
                    Err(invalid) => {
                        worst = Some(invalid.over(worst));
                        good = None;
                        break;
                    }
                }
            }
            if let Some(verified) = good {
                finish(rule, &verified, head);
                return Ok(Some(Arc::new(verified.token)));
            }
        }
        match worst {
            Some(invalid) => Err(invalid),
            None if policies.token_required => Err(Invalid::Missing),
            None => Ok(None),
        }
    }

    /// The keys of the rules, made once for each edit of them.
    fn prepare(&self, policies: &Arc<Inbound>) -> Arc<Entry<Vec<KeySource>>> {
        self.kept.of(policies, |others| {
            let pairs = |entry: &Entry<Vec<KeySource>>| {
                let rules = entry.policies.tokens.iter().map(|rule| rule.keys.clone());
                rules.zip(entry.made.clone()).collect::<Vec<_>>()
            };
            let before: Vec<(Keys, KeySource)> = others.flat_map(pairs).collect();
            let keys = policies.tokens.iter().map(|rule| {
                let same = before.iter().find(|(keys, _)| *keys == rule.keys);
                same.map_or_else(
                    || KeySource::new(&rule.keys, &self.core),
                    |(_, source)| source.clone(),
                )
            });
            keys.collect()
        })
    }
}

/// Browsers ask without credentials first (Envoy's `bypass_cors_preflight`, which istiod sets). Where a
/// token is required they are no exception: anybody can write such a request.
fn is_preflight(head: &Request<()>) -> bool {
    head.method() == Method::OPTIONS
        && head.headers().contains_key(ORIGIN)
        && head.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// What the handler sees of a good token.
fn finish(rule: &TokenRule, verified: &Verified, head: &mut Request<()>) {
    if !rule.forward {
        locate::remove(rule, head);
    }
    if let Some(name) = &rule.payload_header {
        let text = URL_SAFE_NO_PAD.encode(&verified.payload);
        if let Ok(value) = HeaderValue::try_from(text) {
            head.headers_mut().insert(name, value);
        }
    }
    for (name, path) in &rule.claim_headers {
        // Only texts, numbers and booleans, as in Envoy: objects have the payload's header.
        let text = verified.scalar(path);
        if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
            head.headers_mut().insert(name, value);
        }
    }
}

/// Splits the claims that are lists with spaces.
fn split_spaced(claims: &mut [(Box<str>, Claim)], spaced: &[Box<str>]) {
    for (name, claim) in claims {
        if let Claim::Text(text) = claim
            && spaced.contains(name)
        {
            let items: Vec<Box<str>> = text
                .split(' ')
                .filter(|s| !s.is_empty())
                .map(Into::into)
                .collect();
            if items.len() > 1 {
                *claim = Claim::List(items);
            }
        }
    }
}
