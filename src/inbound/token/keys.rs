//! The keys of issuers.

use std::sync::Arc;

use bytes::Bytes;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::fetch::{self, Fetcher, Unfetched};
use super::remote::{Fetch, Remote};
use super::verify::Invalid;
use crate::model::security::Material;
use crate::model::token::Keys;
use crate::outbound::Core;

/// What stands behind an issuer where its configuration is (OpenID Connect Discovery 4).
const CONFIGURATION: &str = "/.well-known/openid-configuration";
/// Keys of one set; issuers have two or three.
const KEYS: usize = 128;

/// Where the keys of one rule are.
#[derive(Clone)]
pub(super) struct KeySource {
    kind: Arc<Kind>,
}

enum Kind {
    Inline(KeySet),
    Remote(Remote),
}

impl KeySource {
    pub(super) fn new(keys: &Keys, core: &Arc<Core>) -> Self {
        let kind = match keys {
            Keys::Inline(text) => Kind::Inline(KeySet::parse(text.as_bytes()).unwrap_or_default()),
            Keys::Remote { uri, timeout } => {
                let (name, uri, timeout) = (uri.to_string().into(), uri.clone(), *timeout);
                let fetch = fetching(core, move |fetcher| {
                    let uri = uri.clone();
                    async move { fetcher.get(&uri, timeout).await }
                });
                Kind::Remote(Remote::new(name, fetch))
            }
            Keys::Discovered { uri, timeout } => {
                let (name, uri, timeout) = (uri.to_string().into(), uri.clone(), *timeout);
                let fetch = fetching(core, move |fetcher| {
                    let uri = uri.clone();
                    async move {
                        let text = uri.to_string();
                        let issuer = text.strip_suffix(CONFIGURATION).unwrap_or_default();
                        let document = fetcher.get(&uri, timeout).await?;
                        let keys = fetch::discovered(&document, issuer)?;
                        fetcher.get(&keys, timeout).await
                    }
                });
                Kind::Remote(Remote::new(name, fetch))
            }
        };
        Self {
            kind: Arc::new(kind),
        }
    }

    #[cfg(test)]
    pub(super) fn inline(text: &str) -> Self {
        Self {
            kind: Arc::new(Kind::Inline(
                KeySet::parse(text.as_bytes()).unwrap_or_default(),
            )),
        }
    }

    /// Verifies a signature with the keys that fit.
    pub(super) async fn verify(
        &self,
        signed: &str,
        signature: &str,
        algorithm: Algorithm,
        kid: Option<&str>,
    ) -> Result<(), Invalid> {
        match &*self.kind {
            Kind::Inline(set) => set.verify(signed, signature, algorithm, kid),
            Kind::Remote(remote) => remote.verify(signed, signature, algorithm, kid).await,
        }
    }
}

/// Fetches by what the mesh has at hand.
fn fetching<F, A>(core: &Arc<Core>, fetch: F) -> Fetch
where
    F: Fn(Fetcher) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Bytes, Unfetched>> + Send,
{
    let materials = core.environment.materials.clone();
    let let_in = core.key_networks.clone();
    Box::new(move || {
        let (materials, let_in, fetch) = (materials.clone(), let_in.clone(), fetch.clone());
        Box::pin(async move {
            // The system's roots are read once, from hundreds of files.
            let ready = tokio::task::spawn_blocking(move || {
                let trust = materials.get(&Material::System);
                Fetcher::new(trust, materials.clock(), let_in)
            });
            let fetcher = ready
                .await
                .map_err(|error| Unfetched::Broken(error.into()))?;
            fetch(fetcher).await
        })
    })
}

/// A set of public keys.
#[derive(Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    kid: Option<Box<str>>,
    /// What it may be used with.
    algorithms: &'static [Algorithm],
    key: DecodingKey,
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys that are no public keys for signatures are left out; a set
    /// without any is as good as none.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Raw {
            keys: Vec<serde_json::Value>,
        }
        let raw: Raw = serde_json::from_slice(bytes).ok()?;
        let parsed = raw.keys.into_iter().take(KEYS).filter_map(|value| {
            // One key of a kind that is not known must not hide the others.
            let key: Jwk = serde_json::from_value(value).ok()?;
            Key::new(&key)
        });
        let keys: Vec<Key> = parsed.collect();
        (!keys.is_empty()).then_some(Self { keys })
    }

    /// With a `kid` only keys of that name, or without a name, count; without one all do.
    pub(super) fn verify(
        &self,
        signed: &str,
        signature: &str,
        algorithm: Algorithm,
        kid: Option<&str>,
    ) -> Result<(), Invalid> {
        if self.keys.is_empty() {
            return Err(Invalid::NoKeys);
        }
        let named = |key: &&Key| match (kid, &key.kid) {
            (Some(wanted), Some(own)) => wanted == &**own,
            (None, _) | (_, None) => true,
        };
        let fitting = self.keys.iter().filter(named);
        let mut fitting = fitting
            .filter(|key| key.algorithms.contains(&algorithm))
            .peekable();
        if fitting.peek().is_none() {
            return Err(Invalid::NoKey);
        }
        let verifies = |key: &Key| {
            jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key.key, algorithm)
        };
        if fitting.any(|key| verifies(key).unwrap_or(false)) {
            Ok(())
        } else {
            Err(Invalid::Signature)
        }
    }
}

impl Key {
    fn new(key: &Jwk) -> Option<Self> {
        if matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption)) {
            return None;
        }
        let family: &'static [Algorithm] = match &key.algorithm {
            AlgorithmParameters::RSA(_) => &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            AlgorithmParameters::EllipticCurve(curve) => match &curve.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                _other_curves => return None,
            },
            AlgorithmParameters::OctetKeyPair(_) => &[Algorithm::EdDSA],
            // A shared secret is no key of an issuer.
            _others => return None,
        };
        // A key that says what it is for is for nothing else.
        let algorithms = match key.common.key_algorithm {
            None => family,
            Some(said) => {
                let at = family
                    .iter()
                    .position(|one| said.to_string() == format!("{one:?}"))?;
                &family[at..=at]
            }
        };
        Some(Self {
            kid: key.common.key_id.as_deref().map(Into::into),
            algorithms,
            key: DecodingKey::from_jwk(key).ok()?,
        })
    }
}
