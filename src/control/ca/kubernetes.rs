//! Service-account tokens of Kubernetes, verified with the cluster's public keys.
//!
//! The keys are those that the cluster's API server serves at `/openid/v1/jwks`, in a file. Asking the API
//! server itself (`TokenReview`) was left out: it would take a client of Kubernetes with rights of its own,
//! and tokens that are bound to a pod live for an hour at most in any case.

use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use thiserror::Error;

/// The longest token that is looked at, in bytes.
const LONGEST: usize = 16 << 10;
/// The largest file of keys that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// What the subject of a service account begins with.
const SUBJECT: &str = "system:serviceaccount:";

/// A cluster whose service-account tokens are believed.
///
/// Its file of keys is read for each token, so that keys may be replaced while the server runs.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    keys: PathBuf,
    issuer: String,
    audience: String,
}

/// Why a token is not believed.
#[derive(Debug, Error)]
pub(super) enum Unbelieved {
    #[error("the file of keys cannot be used: {0}")]
    Keys(String),
    #[error("it is no token, or its signature, issuer or audience is wrong: {0}")]
    Token(#[from] jsonwebtoken::errors::Error),
    #[error("it is longer than {LONGEST} bytes")]
    TooLong,
    #[error("its algorithm is none that is verified with a public key")]
    Algorithm,
    #[error("no key of the cluster fits its kid")]
    NoKey,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    Early,
    #[error("it is not of a service account")]
    Subject,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(rename = "kubernetes.io", default)]
    kubernetes: Option<Bound>,
}

/// What a token is bound to.
#[derive(Deserialize)]
struct Bound {
    namespace: String,
    serviceaccount: Account,
}

#[derive(Deserialize)]
struct Account {
    name: String,
}

impl Kubernetes {
    /// Believes tokens of `issuer` for `audience`, by the public keys (a JSON Web Key Set) in the file
    /// `keys`.
    #[must_use]
    pub fn new(
        keys: impl Into<PathBuf>,
        issuer: impl Into<String>,
        audience: impl Into<String>,
    ) -> Self {
        Self {
            keys: keys.into(),
            issuer: issuer.into(),
            audience: audience.into(),
        }
    }

    /// Namespace and service account that a token is of. Blocks.
    pub(super) fn verify(
        &self,
        token: &str,
        now: Duration,
    ) -> Result<(String, String), Unbelieved> {
        if token.len() > LONGEST {
            return Err(Unbelieved::TooLong);
        }
        let header = decode_header(token)?;
        if matches!(
            header.alg,
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512
        ) {
            return Err(Unbelieved::Algorithm);
        }
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["aud", "exp", "iss", "sub"]);
        // Times are compared with our own clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let named = |key: &&Jwk| match (&header.kid, &key.common.key_id) {
            (Some(wanted), Some(own)) => wanted == own,
            (None, _) | (_, None) => true,
        };
        let keys = self.read()?;
        let mut outcome = Err(Unbelieved::NoKey);
        for key in keys.keys.iter().filter(named) {
            let key = DecodingKey::from_jwk(key)?;
            match decode::<Claims>(token, &key, &validation) {
                Ok(good) => return self.judge(good.claims, now),
                Err(error) => outcome = Err(error.into()),
            }
        }
        outcome
    }

    fn judge(&self, claims: Claims, now: Duration) -> Result<(String, String), Unbelieved> {
        let now = now.as_secs_f64();
        if claims.exp.is_nan() || claims.exp <= now {
            return Err(Unbelieved::Expired);
        }
        if claims.nbf.is_some_and(|nbf| nbf.is_nan() || nbf > now) {
            return Err(Unbelieved::Early);
        }
        let subject = claims.sub.strip_prefix(SUBJECT);
        let (namespace, account) = subject
            .and_then(|subject| subject.split_once(':'))
            .ok_or(Unbelieved::Subject)?;
        // Two claims say the same; if they do not, one of them was not written by Kubernetes.
        if claims.kubernetes.is_some_and(|bound| {
            bound.namespace != namespace || bound.serviceaccount.name != account
        }) {
            return Err(Unbelieved::Subject);
        }
        Ok((namespace.to_owned(), account.to_owned()))
    }

    fn read(&self) -> Result<JwkSet, Unbelieved> {
        let fault = |error: &dyn std::fmt::Display| {
            Unbelieved::Keys(format!("{}: {error}", self.keys.display()))
        };
        let length = std::fs::metadata(&self.keys)
            .map_err(|error| fault(&error))?
            .len();
        if length > MAX_FILE {
            return Err(fault(&format_args!("it has more than {MAX_FILE} bytes")));
        }
        let text = std::fs::read(&self.keys).map_err(|error| fault(&error))?;
        serde_json::from_slice(&text).map_err(|error| fault(&error))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::EncodingKey;
    use rcgen::{KeyPair, PublicKeyData};

    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    struct Cluster {
        folder: tempfile::TempDir,
        pair: KeyPair,
    }

    impl Cluster {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            let cluster = Self { folder, pair };
            cluster.publish(&[("one", &cluster.pair)]);
            cluster
        }

        fn publish(&self, keys: &[(&str, &KeyPair)]) {
            let keys = keys.iter().map(|(kid, pair)| {
                let point = pair.der_bytes();
                let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
                let (x, y) = (encode(&point[1..33]), encode(&point[33..65]));
                format!(r#"{{"kty":"EC","crv":"P-256","kid":"{kid}","x":"{x}","y":"{y}"}}"#)
            });
            let keys: Vec<String> = keys.collect();
            let text = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
            std::fs::write(self.folder.path().join("keys.json"), text).unwrap();
        }

        fn verify(&self, token: &str) -> Result<(String, String), String> {
            let keys = self.folder.path().join("keys.json");
            let cluster = Kubernetes::new(keys, "https://kubernetes.default.svc", "istio-ca");
            let verified = cluster.verify(token, NOW);
            verified.map_err(|error| error.to_string())
        }
    }

    fn sign(pair: &KeyPair, header: &str, payload: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", encode(header), encode(payload));
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::ES256);
        format!("{signed}.{}", signature.unwrap())
    }

    const HEADER: &str = r#"{"alg":"ES256","kid":"one"}"#;
    const GOOD: &str = r#"{"iss":"https://kubernetes.default.svc","aud":["istio-ca"],
        "sub":"system:serviceaccount:my-app:order","exp":1800000001,"nbf":1800000000,
        "kubernetes.io":{"namespace":"my-app","serviceaccount":{"name":"order","uid":"1"}}}"#;

    #[test]
    fn a_token_says_whose_it_is() {
        let cluster = Cluster::new();
        let order = ("my-app".to_owned(), "order".to_owned());
        let token = sign(&cluster.pair, HEADER, GOOD);
        assert_eq!(cluster.verify(&token), Ok(order.clone()));
        let unnamed = sign(&cluster.pair, r#"{"alg":"ES256"}"#, GOOD);
        assert_eq!(cluster.verify(&unnamed), Ok(order.clone()));
        // The cluster replaces its keys while the server runs.
        let next = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let late = sign(&next, r#"{"alg":"ES256","kid":"two"}"#, GOOD);
        assert!(
            cluster
                .verify(&late)
                .unwrap_err()
                .contains("no key of the cluster")
        );
        cluster.publish(&[("one", &cluster.pair), ("two", &next)]);
        assert_eq!(cluster.verify(&late), Ok(order));
        cluster.publish(&[("two", &next)]);
        assert!(cluster.verify(&token).is_err());
    }

    #[test]
    fn k3_a_token_that_is_not_for_this_is_refused() {
        let cluster = Cluster::new();
        let stranger = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let with = |from: &str, to: &str| sign(&cluster.pair, HEADER, &GOOD.replace(from, to));
        let good = sign(&cluster.pair, HEADER, GOOD);
        let (signed, _) = good.rsplit_once('.').unwrap();
        for (row, token) in [
            ("another audience", with("istio-ca", "vault")),
            ("no audience", with(r#""aud":["istio-ca"],"#, "")),
            ("another issuer", with("kubernetes.default", "evil")),
            ("expired this second", with("1800000001", "1800000000")),
            ("no expiry", with(r#""exp":1800000001,"#, "")),
            (
                "not yet",
                with(r#""nbf":1800000000"#, r#""nbf":1800000001"#),
            ),
            (
                "no service account",
                with("system:serviceaccount:my-app:order", "admin"),
            ),
            (
                "no subject",
                with(r#""sub":"system:serviceaccount:my-app:order","#, ""),
            ),
            (
                "another namespace",
                with(r#""namespace":"my-app""#, r#""namespace":"bank""#),
            ),
            (
                "another account",
                with(r#""name":"order""#, r#""name":"admin""#),
            ),
            ("another key", sign(&stranger, HEADER, GOOD)),
            ("no signature", format!("{signed}.")),
            ("alg none", sign(&cluster.pair, r#"{"alg":"none"}"#, GOOD)),
            (
                "a shared secret",
                sign(&cluster.pair, r#"{"alg":"HS256","kid":"one"}"#, GOOD),
            ),
            (
                "another algorithm",
                sign(&cluster.pair, r#"{"alg":"RS256","kid":"one"}"#, GOOD),
            ),
            ("no token", "a.b.c".to_owned()),
            ("long", format!("{good}{}", "x".repeat(LONGEST))),
        ] {
            let refused = cluster.verify(&token);
            assert!(refused.is_err(), "{row}: {refused:?}");
        }
        std::fs::write(cluster.folder.path().join("keys.json"), "{").unwrap();
        let refused = cluster.verify(&good).unwrap_err();
        assert!(
            refused.starts_with("the file of keys cannot be used"),
            "{refused}"
        );
        let other = KeyPair::generate().unwrap();
        cluster.publish(&[("one", &other)]);
        assert!(cluster.verify(&good).is_err(), "a key of the same name");
    }
}
